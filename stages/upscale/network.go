package upscale

import (
	"context"
	"errors"
	"fmt"
	"image"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/disintegration/imaging"

	"github.com/forgepipe/forgepipe/internal/resample"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/network"
)

// Network makes items larger with a neural network. What runs it is a network.Stage.
type Network struct {
	*network.Stage
	refusal
	env    pipeline.Env
	file   *model.File
	spec   model.Spec // of tiles
	scale  int        // of the network
	to     int        // of the result
	filter imaging.ResampleFilter
	alpha  string
	depth  string
	plan   plan
	across tiling // of rows
	down   tiling // of columns
	wide   *wider // nil: it computes in float32

	// What all items came to, in pixels that the network got, and that were not mirrored
	// and had not been seen before.
	got, own atomic.Int64
}

var (
	_ pipeline.Stage      = (*Network)(nil)
	_ pipeline.Coster     = (*Network)(nil)
	_ pipeline.Batcher    = (*Network)(nil)
	_ pipeline.Identifier = (*Network)(nil)
	_ pipeline.Noter      = (*Network)(nil)
)

func newNetwork(c pipeline.Config, e pipeline.Env) (*Network, error) {
	m, err := network.FindUnresized(c)
	if err != nil {
		return nil, err
	}
	var outputs []string
	if name := c.String("output"); name != "" {
		outputs = []string{name}
	}
	f, err := m.Open(outputs...)
	if err != nil {
		return nil, err
	}
	if e := c.String("precision"); e != precisionFile {
		f = f.As(model.Element(e))
	}
	s := &Network{
		refusal: refusal{both: c.String("apply") == applyBoth, maxPixels: e.Limits.MaxPixels},
		env:     e, file: f, spec: f.Spec.Unresized(),
		filter: resample.Named(c.String("filter")), alpha: c.String("alpha"), depth: c.String("depth"),
	}
	if err := s.look(c); err != nil {
		return nil, err
	}
	o := network.Options{
		Doing: "upscaling", Scale: s.scale, Fit: s.fit,
		Batch: int(c.Int("infer_batch")), Threads: int(c.Int("threads")), Library: c.String("library"),
	}
	if s.Stage, err = network.NewParts(e, f, o, s.begin); err != nil {
		return nil, c.Errorf("library", 0, "%w", err)
	}
	if f.Spec.Element == model.Float16 {
		if s.wide, err = newWider(s, o); err != nil {
			return nil, c.Errorf("library", 0, "%w", err)
		}
	}
	return s, nil
}

// look finds out what the network does to a picture, and what tiles it can take.
func (s *Network) look(c pipeline.Config) error {
	p := plan{tile: int(c.Int("tile")), overlap: -1, multiple: 1, reach: -1, step: pictureStep}
	if c.IsSet("overlap") {
		p.overlap = int(c.Int("overlap"))
	}
	p.fixed = sizeOf(s.file.Input, s.file.Spec.Layout)
	asked := int(c.Int("scale"))
	g, err := s.file.Geometry(s.file.Outputs[0].Name)
	switch {
	case err == nil && (g.Down != 1 || g.Up < 1):
		return c.Errorf("model", 0, "%s makes pictures %d/%d times as large: a whole factor of 1 or more is wanted", s.file.Path, g.Up, g.Down)
	case err == nil && g.Up > mostScale:
		return c.Errorf("model", 0, "%s makes pictures %d times as large: %d times is the most", s.file.Path, g.Up, mostScale)
	case err == nil:
		s.scale, p.multiple, p.bytes = g.Up, lcm(g.Multiple, g.Grid), network.Arena*g.Peak
		if g.Unbounded == "" {
			p.reach = g.Reach
		}
	case isVector(s.file.Outputs[0]):
		return c.Errorf("model", 0, "%s makes no pictures of pictures: %w", s.file.Path, err)
	case asked == 0:
		return c.Errorf("model", 0, "how many times %s enlarges cannot be told from its graph: set scale: %w", s.file.Path, err)
	default: // it is looked at when something comes out
		s.scale, p.bytes = asked, unknownPeak
	}
	if s.to = asked; s.to == 0 {
		s.to = s.scale
	}
	if c.IsSet("multiple") {
		p.multiple = lcm(int(c.Int("multiple")), g.Grid)
	}
	if p.tile > 0 && p.fixed != (image.Point{}) {
		return c.Errorf("tile", 0, "%s takes pictures of %d x %d pixels, which tiles are: leave tile out", s.file.Path, p.fixed.X, p.fixed.Y)
	}
	for _, tile := range []int{up(p.tile, p.multiple), p.fixed.X, p.fixed.Y} {
		if tile == 0 || tile-2*p.overlapOf(tile) >= p.multiple {
			continue
		}
		field, use := "overlap", "use less"
		switch {
		case c.IsSet("overlap"):
		case p.tile > 0:
			field, use = "tile", fmt.Sprintf("use a tile of %d or more", 2*p.multiple)
		case c.IsSet("multiple"):
			field, use = "multiple", "use a smaller one"
		case tile >= p.multiple:
			use = fmt.Sprintf("set overlap, to %d at most", (tile-p.multiple)/2)
		}
		return c.Errorf(field, 0, "with an overlap of %d pixels on each side nothing of a tile of %d would be its own, where sides are multiples of %d: %s", p.overlapOf(tile), tile, p.multiple, use)
	}
	s.plan = p
	return nil
}

// lcm is the least common multiple; b may be 0, if it is not known.
func lcm(a, b int) int {
	b = max(b, 1)
	x, y := a, b
	for y != 0 {
		x, y = y, x%y
	}
	return a / x * b
}

// unknownPeak is what a run takes for each pixel of a network that cannot be followed:
// that of 64 channels, three times, at twice the size of the picture.
const unknownPeak = 3 * 64 * 4 * 4

// sizeOf is the size that an input takes; zero: any.
func sizeOf(p onnx.Port, l model.Layout) image.Point {
	h, w := p.Shape[2], p.Shape[3]
	if l == model.NHWC {
		h, w = p.Shape[1], p.Shape[2]
	}
	return image.Pt(max(int(w), 0), max(int(h), 0))
}

// isVector tells whether an output is known to be no picture.
func isVector(p onnx.Port) bool { return p.Shape != nil && len(p.Shape) != 4 }

// fit chooses tiles for runs that may take so many bytes.
func (s *Network) fit(room int64) (part image.Point, bytes int64) {
	s.across, s.down = s.plan.tilings(room)
	part = image.Pt(s.across.tile, s.down.tile)
	return part, int64(part.X) * int64(part.Y) * s.plan.bytes
}

// Identity is the network and how pictures are cut for it.
func (s *Network) Identity() string {
	return fmt.Sprintf("%s tiles %+v %+v scale %d", s.Stage.Identity(), s.across, s.down, s.scale)
}

// Place takes the GPUs that the runtime can use, or the CPU. On a GPU all tiles are of one
// size: they share batches, and the runtime looks for the best kernels for each size anew.
func (s *Network) Place(want pipeline.Device, have []pipeline.Device) ([]pipeline.Device, error) {
	devices, err := s.Stage.Place(want, have)
	if err != nil {
		return nil, err
	}
	if s.plan.step = 0; devices[0] == pipeline.Host {
		s.plan.step = pictureStep
	}
	s.across.step, s.down.step = s.plan.step, s.plan.step
	if s.wide != nil {
		_, err = s.wide.Place(want, have)
	}
	return devices, err
}

// Open opens the network, and what it is in float32, of which nothing is loaded yet.
func (s *Network) Open(ctx context.Context, d pipeline.Device) error {
	if s.wide != nil {
		if err := s.wide.Open(ctx, d); err != nil {
			return err
		}
	}
	return s.Stage.Open(ctx, d)
}

// Close unloads both.
func (s *Network) Close() error {
	err := s.Stage.Close()
	if s.wide != nil {
		err = errors.Join(err, s.wide.Close())
	}
	return err
}

// mostTogether bounds how many small items a call gets.
const mostTogether = 12

// Batch is one item that is larger than a tile, or smaller ones of as many pixels.
func (s *Network) Batch() pipeline.BatchSpec {
	return pipeline.BatchSpec{Size: mostTogether, Bytes: 4 * int64(s.across.tile) * int64(s.down.tile)}
}

// Cost adds to that of the network what is kept of each item: what was copied of it, the
// ramps of its tiles, and its result.
func (s *Network) Cost(d pipeline.Device, batch []*pipeline.Item) pipeline.Cost {
	c := s.Stage.Cost(d, batch)
	if s.wide != nil {
		wide := s.wide.Cost(d, nil)
		if d != pipeline.Host { // it may be loaded at any call
			c.Work += wide.Resident + wide.Work
		} else {
			c.Resident += wide.Resident
		}
	}
	if d != pipeline.Host {
		return c
	}
	if len(batch) == 0 {
		s.add(&c, image.Pt(4000, 3000), 4)
	}
	for _, it := range batch {
		if s.refused(it, s.to) {
			continue
		}
		s.add(&c, it.Size(), it.PixelBytes())
		if scale, paired := it.Pair(); paired {
			s.add(&c, it.Size().Div(scale), 8) // it may be of another type, and is small
		}
	}
	return c
}

// add adds what a picture takes that has so many bytes a pixel.
func (s *Network) add(c *pipeline.Cost, size image.Point, pixel int64) {
	planes, sample := int64(4), int64(1)
	if pixel == 1 {
		planes = 1
	}
	if pixel == 8 {
		sample = 2
	}
	if pixel == 4 || pixel == 8 { // it may be transparent
		c.Work += s.env.ImageBytes(size, 8) + s.env.ImageBytes(size, 2) // of what is multiplied with 8 bits of alpha, 16 are copied
		if s.alpha != alphaDrop {
			c.Work += s.env.ImageBytes(size, sample)
		}
	}
	switch s.depth {
	case "8":
		sample = 1
	case "16":
		sample = 2
	}
	// Ramps are float32: the lower ones of a row of tiles, and the right ones of the last.
	c.Work += 4 * planes * int64(s.scale*s.scale) * (int64(s.down.ramp)*int64(size.X) + int64(s.across.ramp)*int64(min(s.down.tile, size.Y)))
	c.Output += s.env.ImageBytes(size.Mul(s.to), planes*sample)
	if s.to != s.scale {
		window := image.Pt(size.X, s.windowRows(size.Y, s.down.of(size.Y).pieces(size.Y)))
		c.Work += s.env.ImageBytes(window.Mul(s.scale), planes*sample)
	}
}

// Note says how pictures were cut, and where the network ran if that was to be found out.
func (s *Network) Note() string {
	var notes []string
	if got := s.got.Load(); got > 0 {
		tiles := fmt.Sprintf("tiles of up to %d x %d with an overlap of %d px", s.across.tile, s.down.tile, s.across.overlap)
		if s.across.ramp > 0 {
			tiles += ", in which they are blended"
		}
		notes = append(notes, fmt.Sprintf("%s: overlaps and borders took %.0f %% of the work", tiles, 100*(1-float64(s.own.Load())/float64(got))))
	}
	if s.wide != nil && s.wide.tiles.Load() > 0 {
		notes = append(notes, fmt.Sprintf("tiles for which float16 was too narrow, and that were computed again in float32: %d", s.wide.tiles.Load()))
	}
	if note := s.Stage.Note(); note != "" {
		notes = append(notes, note)
	}
	return strings.Join(notes, "; ")
}

// begin cuts an item into tiles.
func (s *Network) begin(ctx context.Context, it *pipeline.Item) (network.Job, error) {
	if err := s.check(it, s.to); err != nil {
		return network.Job{}, err
	}
	f, err := it.Frame(ctx)
	if err != nil {
		return network.Job{}, err
	}
	frames := []*pipeline.Frame{f}
	_, paired := it.Pair()
	if paired {
		lq, err := it.PairFrame(ctx)
		if err != nil {
			return network.Job{}, fmt.Errorf("the low-quality image: %w", err)
		}
		frames = append(frames, lq)
	}
	var works []*work
	for _, f := range frames {
		w, err := s.newWork(ctx, it, f.Image)
		if err != nil {
			return network.Job{}, err
		}
		works = append(works, w)
	}
	return network.Job{
		Parts: func(yield func(network.Part) bool) {
			for _, w := range works {
				if !w.parts(ctx, yield) {
					return
				}
			}
		},
		Done: func() error {
			var results []image.Image
			for _, w := range works {
				results = append(results, w.result())
			}
			if paired {
				it.SetImages(results[0], results[1])
			} else {
				it.SetImage(results[0])
			}
			return nil
		},
	}, nil
}

// errOdd is of what no picture can be made.
var errOdd = errors.New("the network gives numbers that are not finite: pictures may be prepared otherwise than it wants (see range, mean and std), or float16 is too narrow for it")

// mismatched is the error of an output that has another size than it should.
func (s *Network) mismatched(in, out image.Point) error {
	name := filepath.Base(s.file.Path)
	if in.X > 0 && out.X%in.X == 0 && out.Y == out.X/in.X*in.Y {
		return fmt.Errorf("%s makes pictures %d times as large, and not %d times: set scale: %d, and filter: for what comes after that", name, out.X/in.X, s.scale, out.X/in.X)
	}
	return fmt.Errorf("%s makes %d x %d pixels of %d x %d, which is not %d times as large: it is no upscaler, or its sides must be multiples of something (see multiple)", name, out.X, out.Y, in.X, in.Y, s.scale)
}
