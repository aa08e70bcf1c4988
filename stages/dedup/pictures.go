package dedup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"slices"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/lpips"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/network"
)

// pictures measure LPIPS of the pictures that a step may be asked about. They are
// squashed, and lie on disk.
type pictures struct {
	step
	log     *slog.Logger
	lease   *memory.Lease
	card    *network.Stage // that runs the network on a GPU; nil: net does, on the CPU
	net     *lpips.Distance
	set     *lpips.Set
	numbers map[uint32]uint32     // of items, in the set
	values  map[[2]uint32]float64 // what was measured lately; NaN: more than is near enough
	unseen  map[uint32]bool       // items whose pictures could not be decoded again
}

// lpipsFiles are those of a network for LPIPS.
func lpipsFiles(name string) ([]string, error) {
	files, err := lpips.Find(name)
	return files, lacking(err)
}

// hasPooled tells whether a network for LPIPS bounds it from below. Where the network
// cannot be looked at, the stage that runs it says why.
func hasPooled(name string) bool {
	files, err := lpips.Find(name)
	if err != nil {
		return true
	}
	h, err := model.ReadHeader(files[0], model.FileOptions{Preset: "lpips", Beside: files[1:]})
	return err != nil || slices.ContainsFunc(h.Outputs, func(p onnx.Port) bool { return p.Name == lpips.PooledOutput })
}

// checkBound refuses vectors that are not what the network that measures has for them:
// nothing says that others bound its distances.
func checkBound(c *column, held pipeline.HeldItems) error {
	if c.vectors == nil {
		return nil
	}
	files, err := lpipsFiles(c.model)
	if err != nil {
		return fmt.Errorf("comparing by %s: %w", c.name, err)
	}
	spec, _ := model.Preset("lpips")
	spec.Width, spec.Height = c.side, c.side
	f, err := model.Open(files[0], model.FileOptions{Spec: spec, Outputs: []string{lpips.PooledOutput}, Preset: "lpips", Beside: files[1:]})
	if err != nil {
		return fmt.Errorf("comparing by %s: %w", c.name, err)
	}
	for it, err := range held { // one stands for all: they are of one kind
		if err != nil {
			return err
		}
		if v, _ := it.Vector(c.vector); v.Model != f.Kind(0) {
			return fmt.Errorf("the vector %s of %s does not bound what %s measures, as the output %s of the network %s does for pictures squashed to %d x %d: make it with infer: {model: %s, preset: lpips, width: %d, height: %d, vectors: [%s = %s]}, or leave vector out",
				c.vector, it.ID(), c.name, lpips.PooledOutput, c.model, c.side, c.side, c.model, c.side, c.side, c.vector, lpips.PooledOutput)
		}
		return nil
	}
	return nil
}

// picture decodes the pictures that steps will measure: those of the items that a clause
// could call duplicates, as far as its other steps tell.
func (s *Stage) picture(ctx context.Context, held pipeline.HeldItems, d *decider, order []uint32, fixed int, open []*opened) error {
	for n := range d.columns {
		c := &d.columns[n]
		if c.measure != perceived {
			continue
		}
		if err := checkBound(c, held); err != nil {
			return err
		}
		wanted := make([]bool, d.len())
		pairs, seen := int64(0), int64(0)
		unbounded := c.vectors == nil && !c.confirms
		want := func(i uint32) {
			if !wanted[i] {
				wanted[i] = true
				seen++
			}
		}
		of := func(clause clause) bool { return slices.Contains(clause, n) }
		err := d.survey(ctx, order, fixed, of, func(step int) bool { return step != n }, func(_ int, i uint32, m match) error {
			want(i)
			want(m.item)
			pairs++
			if unbounded && pairs > mostUnbounded {
				return s.tooManyPairs(c)
			}
			return nil
		})
		if err != nil {
			return err
		}
		c.pictures = &pictures{step: c.step, log: s.env.Log, numbers: map[uint32]uint32{}, values: map[[2]uint32]float64{}, unseen: map[uint32]bool{}}
		if seen == 0 {
			continue
		}
		if err := s.openPictures(ctx, c.pictures, seen, pairs); err != nil {
			return err
		}
		if err := s.takePictures(ctx, held, c.pictures, wanted); err != nil {
			return err
		}
		if err := s.takeIndexed(ctx, d.table, open, c.pictures, wanted); err != nil {
			return err
		}
	}
	return nil
}

// What is held of vectors of pictures, and what is taken by a pair that was measured and by
// the network, in bytes.
const (
	mostPictureMemory = 512 << 20
	measuredPair      = 96
	mostMeasured      = 1 << 20 // pairs of which the distance is kept, beside those of one item
	pixelVector       = 488     // of VGG-16, the longer one
	mostGrid          = 1 << 20 // likewise
	pixelBytes        = 1600    // of a pixel of a picture that goes through the network, with its vector
)

// pictureMemory is what vectors and grids of n pictures of that side may take: at least two
// of each, which are compared.
func pictureMemory(limit, n int64, side int) int64 {
	vector := int64(side)*int64(side)*pixelVector + mostGrid
	return max(min(limit/8, mostPictureMemory, n*vector*8/7), 2*vector) // an eighth is for grids
}

// mostUnbounded is of how many pairs a network is asked at most where no other step has
// proposed them and no vector bounds them. It is a variable for tests.
var mostUnbounded int64 = 5_000_000

func (s *Stage) tooManyPairs(c *column) error {
	return fmt.Errorf("%s would measure more than %d pairs, as the network %s has no output %q, which tells of most of them that they are too far apart: convert the network so that it has one (forgepipe models convert), or put a step that proposes before %s, with confirm: true",
		c.name, mostUnbounded, c.model, lpips.PooledOutput, c.name)
}

// pictureRoom is what so many pairs of n pictures take in memory while they are measured.
// Without pairs there is no network, and pictures are only squashed.
func (s *Stage) pictureRoom(st step, files []string, n, pairs int64) int64 {
	side := int64(st.side)
	if pairs == 0 {
		return 8*side*side + n*measuredPair
	}
	room := pictureMemory(s.env.HostLimit(), n, st.side) + side*side*pixelBytes + (min(pairs, mostMeasured+n)+n)*measuredPair
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			room += info.Size()
		}
	}
	return room
}

// errNoPairs is what a network would say that was not loaded.
var errNoPairs = errors.New("BUG: a picture is measured, and there were no pairs")

// openPictures makes room for n pictures, and loads the network where there are pairs.
func (s *Stage) openPictures(ctx context.Context, p *pictures, n, pairs int64) error {
	files, err := lpipsFiles(p.model)
	if err != nil {
		return err
	}
	if p.lease, err = s.env.Lease(ctx, s.pictureRoom(p.step, files, n, pairs)); err != nil {
		return fmt.Errorf("measuring %d pairs by %s (raise memory.host.limit, or let another step propose fewer): %w", pairs, p.name, err)
	}
	scratch, err := s.env.Scratch()
	if err != nil {
		return err
	}
	o := lpips.Options{Size: p.side, Library: s.library, Log: s.env.Log}
	card := s.runsOn.card
	switch {
	case pairs == 0:
		o.Infer = func(_ context.Context, inputs []model.Input) []model.Result {
			return slices.Repeat([]model.Result{{Err: errNoPairs}}, len(inputs))
		}
	case card != nil:
		if err := card.Open(ctx, s.runsOn.device); err != nil {
			return fmt.Errorf("comparing by %s: %w", p.name, err)
		}
		p.card, o.Infer = card, card.Infer
	}
	if p.net, err = lpips.Open(ctx, o, files...); err != nil {
		return fmt.Errorf("comparing by %s: %w", p.name, err)
	}
	if pairs > 0 {
		s.env.Log.Info(fmt.Sprintf("%s measures at most %d pairs of %d pictures", p.name, pairs, n), "device", s.runsOn.device)
		what := fmt.Sprintf("the pictures of %d items, squashed to %d x %d for %s, with what tells most of them apart,", n, p.side, p.side, p.name)
		if err := s.checkFree(n*(p.net.PreparedBytes()+p.net.GridBytes()), what); err != nil {
			return err
		}
	}
	if p.set, err = p.net.NewSet(scratch, "dedup-"+s.env.StageID+"-pictures", pictureMemory(s.env.HostLimit(), n, p.side)); err != nil {
		return fmt.Errorf("comparing by %s: %w", p.name, err)
	}
	return nil
}

// takePictures squashes the wanted pictures. One that cannot be decoded again has no
// distance to any other: its item stays.
func (s *Stage) takePictures(ctx context.Context, held pipeline.HeldItems, p *pictures, wanted []bool) error {
	var i uint32
	for it, err := range held {
		if err != nil {
			return err
		}
		at := i
		i++
		if !wanted[at] {
			continue
		}
		if _, err := p.append(ctx, it, at, "so that it is no duplicate"); err != nil {
			return err
		}
	}
	return nil
}

// append squashes the picture of item i and adds it; false: it cannot be decoded, which is
// told with what comes of it.
func (p *pictures) append(ctx context.Context, it *pipeline.Item, i uint32, told string) (bool, error) {
	defer it.Done()
	if p.unseen[i] {
		return false, nil
	}
	f, err := it.Frame(ctx)
	var prepared []byte
	if err == nil {
		prepared, err = p.net.Prepare(ctx, f.Image)
	}
	switch {
	case err == nil:
		if p.numbers[i], err = p.set.Append(prepared); err != nil {
			return false, fmt.Errorf("comparing by %s: %w", p.name, err)
		}
		return true, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	case ofTheRun(it, err):
		return false, fmt.Errorf("comparing %s by %s: %w", it.ID(), p.name, err)
	}
	p.unseen[i] = true
	if len(p.unseen) <= mostUnseenTold {
		p.log.Warn("a picture cannot be squashed for "+p.name+", "+told, "item", it.ID(), "cause", err)
	}
	return false, nil
}

// mostUnseenTold is of how many pictures the log says that they cannot be measured.
const mostUnseenTold = 10

// ofTheRun tells whether it is not an item's own fault that its picture cannot be had, but
// that of memory or of a disk: of such nothing is concluded about the item.
func ofTheRun(it *pipeline.Item, err error) bool {
	var over *memory.OversizeError
	var path *fs.PathError
	return errors.As(err, &over) || fsys.IsFatal(err) || errors.As(err, &path) && path.Path != it.Source().Path
}

// next forgets what was measured, when that is much: of the item that comes next nothing
// was.
func (p *pictures) next() {
	if p != nil && len(p.values) > mostMeasured {
		clear(p.values)
	}
}

func pairOf(i, k uint32) [2]uint32 { return [2]uint32{min(i, k), max(i, k)} }

// known tells whether a distance was computed.
func (p *pictures) known(i, k uint32) bool {
	if p == nil {
		return false
	}
	_, ok := p.values[pairOf(i, k)]
	return ok
}

// distance is that of the pictures of two items; false where it is more than the step
// allows, or one of them cannot be measured, as in a dry run none can.
func (p *pictures) distance(ctx context.Context, i, k uint32) (float64, bool, error) {
	if p == nil {
		return 0, false, nil
	}
	a, aok := p.numbers[i]
	b, bok := p.numbers[k]
	if !aok || !bok {
		return 0, false, nil
	}
	pair := pairOf(i, k)
	v, ok := p.values[pair]
	if !ok {
		var near bool
		var err error
		v, near, err = p.set.Within(ctx, a, b, p.within)
		switch {
		case err != nil && !errors.Is(err, lpips.ErrNotFinite):
			return 0, false, err
		case !near: // it may be a bound, and no distance
			v = math.NaN()
		}
		p.values[pair] = v
	}
	return v, !math.IsNaN(v), nil
}

func (p *pictures) close() error {
	var errs []error
	if p.set != nil {
		did := p.set.Stats()
		p.log.Info("done with "+p.name, "pairs", did.Pairs, "computed", did.Exact, "vectors", did.Vectors)
		errs = append(errs, p.set.Close())
	}
	if p.net != nil {
		errs = append(errs, p.net.Close())
	}
	if p.card != nil {
		errs = append(errs, p.card.Close())
	}
	p.set, p.net, p.card = nil, nil, nil
	p.lease.Release()
	return errors.Join(errs...)
}

// remarks are what there is to say of the step, where all compared with all are that many
// pairs.
func (p *pictures) remarks(all int64) string {
	var did lpips.SetStats
	if p.set != nil {
		did = p.set.Stats()
	}
	text := fmt.Sprintf("; %s was computed of %d of %d pairs", p.name, did.Exact, all)
	if all > 0 {
		text += fmt.Sprintf(" (%.3g%%)", 100*float64(did.Exact)/float64(all))
	}
	if told := did.Pairs - did.Exact; told > 0 {
		text += fmt.Sprintf(", a bound told that %d more are too far apart", told)
	}
	if n := len(p.unseen); n > 0 {
		text += fmt.Sprintf(" (%d pictures could not be decoded for it: they are no duplicates by it)", n)
	}
	return text
}
