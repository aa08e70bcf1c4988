package tile

import (
	"context"
	"errors"
	"fmt"
	"image"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/arch"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/icnet"
	"github.com/forgepipe/forgepipe/stages/network"
)

const (
	ic9600 = "ic9600"
	// mapAttribute is what a tile has of the map.
	mapAttribute = "ic9600_map"

	mapCell = 8 // px of the picture along a side of one of the map's
)

// mapFields are those of the network that draws the map.
func mapFields() []pipeline.Field {
	file := network.ModelField("ic9600", "./ic9600.pth")
	file.Required, file.Default = false, ic9600
	file.Doc += " Only for by: ic9600."
	run := slices.DeleteFunc(network.RunFields(), func(f pipeline.Field) bool { return f.Name != "threads" && f.Name != "library" })
	return append([]pipeline.Field{
		file,
		{
			Name: "map_pixels", Type: pipeline.FieldInt, Unit: "px", Default: "4194304", Min: 1 << 12, Max: 1 << 26,
			Doc:      "An image with more pixels is scaled down to so many for the map, so that the network has room: it takes about 200 bytes and, on two cores, 1.5 microseconds a pixel. Only for by: ic9600.",
			Examples: []string{"1048576"},
		},
	}, run...)
}

// mapped tells whether a network places the tiles. A stage that is added without a
// configuration has none of the fields.
func mapped(c pipeline.Config) bool {
	return c.IsSet("by") && c.String("by") == ic9600 && c.String("pick") == pickBest
}

// scored tells whether the configuration's network has a head that scores tiles: an ONNX
// file has none.
func scored(c pipeline.Config) bool {
	path := c.String("model")
	if found, err := network.Locate(c); err == nil { // else it is that of a checkpoint, once it is there
		path = found.Path
	}
	return !strings.EqualFold(filepath.Ext(path), ".onnx")
}

// Mapped cuts items into the tiles over which a network's map of complexity has the
// largest mean. What runs the network, once for each item, is a network.Stage, and another
// one scores tiles from its features.
type Mapped struct {
	*network.Stage
	head   *network.Stage // nil: the file is an ONNX file, whose parts cannot be had
	tiles  *Stage
	spec   model.Spec // of what goes into the network
	pixels int        // of the largest picture that does, without its margin
	found  sync.Map   // []chosen by the *pipeline.Item that they are to be cut of
}

var (
	_ pipeline.Stage  = (*Mapped)(nil)
	_ pipeline.Coster = (*Mapped)(nil)
)

func newMapped(c pipeline.Config, e pipeline.Env, tiles *Stage) (*Mapped, error) {
	if c.IsSet("threshold") && tiles.best.threshold > 1 {
		return nil, c.Errorf("threshold", 0, "the map of ic9600 is in 0..1: set a threshold in that range")
	}
	found, err := network.Locate(c)
	if err != nil {
		return nil, err
	}
	f, err := model.Open(found.Path, model.FileOptions{Spec: icnet.Spec, Part: arch.Body, Outputs: []string{"map", "features"}})
	whole := errors.Is(err, model.ErrNoParts)
	if whole {
		f, err = model.Open(found.Path, model.FileOptions{Spec: icnet.Spec, Outputs: []string{"map"}})
	}
	if err != nil {
		return nil, c.Errorf("model", 0, "%w", err)
	}
	s := &Mapped{tiles: tiles, spec: f.Spec, pixels: int(c.Int("map_pixels"))}
	o := network.Options{Doing: "mapping complexity", Threads: int(c.Int("threads")), Library: c.String("library")}
	if s.Stage, err = network.NewParts(e, f, o, s.begin); err != nil {
		return nil, c.Errorf("library", 0, "%w", err)
	}
	if whole {
		return s, nil
	}
	if s.head, err = newHead(e, found.Path, o, tiles.size); err != nil {
		return nil, c.Errorf("model", 0, "%w", err)
	}
	return s, nil
}

// Process returns the tiles in place of the items.
func (s *Mapped) Process(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	defer func() {
		for _, it := range batch {
			s.found.Delete(it)
		}
	}()
	done, err := s.Stage.Process(ctx, batch)
	if err != nil {
		return nil, err
	}
	var out []*pipeline.Item
	for _, it := range done {
		found, ok := s.found.LoadAndDelete(it)
		if !ok {
			continue
		}
		tiles, err := s.end(ctx, it, found.([]chosen))
		if err != nil {
			return nil, err
		}
		out = append(out, tiles...)
	}
	return out, nil
}

// grid is how the cells of the map lie in a picture of that size.
func (s *Mapped) grid(size image.Point) grid {
	return grid{picture: size, scaled: icnet.Scaled(size, s.pixels)}
}

// begin sends the whole picture through the network. What the map says is in Take, and
// which tiles come of it.
func (s *Mapped) begin(ctx context.Context, it *pipeline.Item) (network.Job, error) {
	none := network.Job{Parts: func(func(network.Part) bool) {}}
	step, small, err := s.tiles.check(it)
	if err != nil || small {
		return none, err
	}
	f, err := it.Frame(ctx)
	if err != nil {
		return none, err
	}
	g := s.grid(it.Size())
	part := network.Part{
		Input: model.Input{
			Shape: s.spec.Shape(1, icnet.WithMargin(g.scaled))[1:],
			Fill: func(ctx context.Context, dst []byte) error {
				return icnet.Fill(ctx, s.spec, dst, f.Image, g.scaled)
			},
		},
	}
	part.Take = func(out []*model.Tensor) error {
		shape := out[0].Shape // [1 height width]
		if len(shape) != 3 || shape[0] != 1 {
			return fmt.Errorf("its map has the shape %v, where one channel with rows and columns is wanted", shape)
		}
		origin := image.Pt(icnet.Margin/mapCell, icnet.Margin/mapCell)
		places, err := newPlaces(g, s.tiles.size, step, out[0].Numbers(), int(shape[2]), origin)
		if err != nil {
			return err
		}
		var found []chosen
		for range s.tiles.best.number(it.Size(), s.tiles.size) {
			var t chosen
			var ok bool
			if t.corner, t.mean, ok = places.next(); !ok {
				break
			}
			good := t.mean >= s.tiles.best.threshold
			if good && s.head != nil {
				if t.Input, err = cut(out[1], places.features(t.corner, origin)); err != nil {
					return err
				}
			}
			if found = append(found, t); !good { // it is the reason for a rejection
				break
			}
		}
		s.found.Store(it, found)
		return nil
	}
	return network.Job{Parts: func(yield func(network.Part) bool) { yield(part) }}, nil
}

// mapBytes is what a run takes at its peak for each pixel of the picture with its margin:
// measured 184 at 512 x 512 and 142 at 1024 x 1024.
const mapBytes = 200

// Cost is that of the network's weights, and of one picture after the other: its tensor
// with and without a margin, what the network makes of it, the sums, and the features; and
// that of the head.
func (s *Mapped) Cost(d pipeline.Device, batch []*pipeline.Item) pipeline.Cost {
	c := pipeline.Cost{Resident: s.Stage.Cost(d, nil).Resident}
	add := func(size image.Point, step int) {
		if size.X < s.tiles.size || size.Y < s.tiles.size {
			return
		}
		g := s.grid(size)
		var work int64
		if c.Resident > 0 { // it computes here
			padded := s.spec.OutputSize(icnet.WithMargin(g.scaled))
			work += mapBytes * int64(padded.X) * int64(padded.Y)
		}
		if d == pipeline.Host {
			work += icnet.Bytes(s.spec, size, g.scaled) + placesBytes(g, s.tiles.size, step)
			if s.head != nil {
				work += s.featureBytes(g)
			}
		}
		c.Work = max(c.Work, work)
	}
	if len(batch) == 0 {
		add(image.Pt(4000, 3000), mapCell)
	}
	for _, it := range batch {
		if step, err := s.tiles.best.step(it); err == nil {
			add(it.Size(), step)
		}
	}
	if s.head != nil {
		head := s.head.Cost(d, nil)
		c.Resident, c.Work = c.Resident+head.Resident, c.Work+head.Work
	}
	return c
}
