package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inputs is a source of n small pictures that are not files.
type inputs int

func (n inputs) Emit(ctx context.Context, emit func(pipeline.Input) error) error {
	for i := range int(n) {
		if err := emit(input(i)); err != nil {
			return err
		}
	}
	return nil
}

func input(i int) pipeline.Input {
	img := image.NewGray(image.Rect(0, 0, 16, 16))
	img.SetGray(i%16, i/16%16, color.Gray{Y: uint8(i)})
	name := fmt.Sprintf("dir/%04d.png", i)
	return pipeline.Input{Name: name, Image: img, Content: []byte(name)}
}

// chain builds a pipeline of undeclared stages.
func chain(t testing.TB, src pipeline.Source, stages ...pipeline.Stage) *pipeline.Pipeline {
	t.Helper()
	p := pipeline.New("test", pipeline.Options{})
	p.SetSource(src)
	for i, s := range stages {
		if err := p.Add(pipeline.Step{ID: fmt.Sprintf("s%d", i), Stage: s, Batch: 4}); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func runIt(t testing.TB, p *pipeline.Pipeline) (*pipeline.Summary, error) {
	t.Helper()
	s, err := p.Run(t.Context(), pipeline.RunOptions{Check: true, StateDir: t.TempDir()})
	if s != nil {
		if cerr := s.Check(); cerr != nil {
			t.Error(cerr)
		}
	}
	return s, err
}

// batchStage is a stage made of a function over batches.
type batchStage func(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error)

func (f batchStage) Process(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	return f(ctx, batch)
}

var pass = pipeline.Func(func(context.Context, *pipeline.Item) error { return nil })

func cut(keys ...string) pipeline.Stage {
	return batchStage(func(_ context.Context, batch []*pipeline.Item) (out []*pipeline.Item, _ error) {
		for _, it := range batch {
			for i, k := range keys {
				out = append(out, it.Derive(k, pipeline.Crop(image.Rect(i, 0, i+8, 8))))
			}
		}
		return out, nil
	})
}

func TestEveryEndIsCounted(t *testing.T) {
	p := chain(t, inputs(100), pass, cut("a", "b"), pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		switch {
		case strings.HasSuffix(it.ID(), "0.png@a"):
			it.Reject("ends in 0", pipeline.Attribute{Name: "n", Value: pipeline.Int(0)})
		case strings.HasSuffix(it.ID(), "1.png@b"):
			it.Fail(errors.New("cannot"))
		}
		return nil
	}))
	s, err := runIt(t, p)
	if err != nil {
		t.Fatal(err)
	}
	if s.In != 100 || s.Derived != 200 || s.Consumed != 100 || s.Rejected["s2"]["ends in 0"] != 10 || s.Quarantined != 10 || s.Out != 180 {
		t.Errorf("summary %+v", s)
	}
	if len(s.Failed) != 10 || s.Failed[0].Stage != "s2" || s.Failed[0].Cause != "cannot" {
		t.Errorf("failed items %+v", s.Failed)
	}
}

func TestStageBugsAreNamed(t *testing.T) {
	var kept atomic.Pointer[pipeline.Item]
	tests := map[string]struct {
		stage batchStage
		want  string
	}{
		"drops an item in silence": {
			func(_ context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) { return b[1:], nil },
			"lost dir/",
		},
		"returns an item twice": {
			func(_ context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) { return append(b, b[0]), nil },
			"twice",
		},
		"returns nil": {
			func(_ context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) { return append(b, nil), nil },
			"nil item",
		},
		"drops what it derived": {
			func(_ context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) {
				b[0].Derive("x", pipeline.Crop(image.Rect(0, 0, 1, 1)))
				return b, nil
			},
			"derived dir/",
		},
		"derives a key twice": {
			func(_ context.Context, b []*pipeline.Item) (out []*pipeline.Item, _ error) {
				for _, it := range b {
					out = append(out, it.Derive("x", pipeline.Crop(image.Rect(0, 0, 1, 1))), it.Derive("x", pipeline.Crop(image.Rect(1, 0, 2, 1))))
				}
				return out, nil
			},
			"keys must be unique",
		},
		"keeps an item for a later batch": {
			func(_ context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) {
				if old := kept.Swap(b[0]); old != nil {
					return append(b, old), nil
				}
				return b, nil
			},
			"not of this batch",
		},
		"holds without being a barrier": {
			func(_ context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) {
				b[0].Hold()
				return b[1:], nil
			},
			"no barrier",
		},
		"changes shared pixels": {
			func(ctx context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) {
				f, err := b[0].Frame(ctx)
				if err != nil {
					return nil, err
				}
				f.Image.(*image.Gray).Pix[5] ^= 0xff
				return b, nil
			},
			"in place",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := runIt(t, chain(t, inputs(20), pass, tt.stage, pass))
			if err == nil || !strings.HasPrefix(err.Error(), "BUG: stage s1 ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want BUG: stage s1 ... %s", err, tt.want)
			}
		})
	}
}

func TestPanicIsTheItems(t *testing.T) {
	var once atomic.Bool
	p := chain(t, inputs(40), pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		if it.ID() == "dir/0007.png" {
			panic("cannot stand 7")
		}
		if it.ID() == "dir/0023.png" && once.CompareAndSwap(false, true) {
			panic("only once")
		}
		it.SetAttr("seen", pipeline.Bool(true))
		return nil
	}))
	s, err := runIt(t, p)
	if err != nil {
		t.Fatal(err)
	}
	if s.Out != 39 || s.Quarantined != 1 || s.Failed[0].ID != "dir/0007.png" || !strings.Contains(s.Failed[0].Cause, "cannot stand 7") {
		t.Errorf("summary %+v", s)
	}
}

type statefulStage struct{ batchStage }

func (statefulStage) Stateful() {}

func TestPanicInStateEndsTheRun(t *testing.T) {
	_, err := runIt(t, chain(t, inputs(8), statefulStage{func(context.Context, []*pipeline.Item) ([]*pipeline.Item, error) { panic("lost my state") }}))
	var se *pipeline.StageError
	if !errors.As(err, &se) || se.Stage != "s0" || !strings.Contains(err.Error(), "lost my state") {
		t.Errorf("got %v", err)
	}
}

func TestOutOfMemoryIsRepeatedSmaller(t *testing.T) {
	var largest atomic.Int64
	p := pipeline.New("test", pipeline.Options{})
	p.SetSource(inputs(64))
	err := p.Add(pipeline.Step{ID: "tight", Batch: 16, Workers: 1, Stage: batchStage(func(_ context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) {
		for _, it := range b {
			it.SetAttr("tried", pipeline.Int(int64(len(b))))
		}
		if len(b) > 3 {
			return nil, fmt.Errorf("batch of %d: %w", len(b), memory.ErrOutOfMemory)
		}
		largest.Store(max(largest.Load(), int64(len(b))))
		for _, it := range b {
			if it.ID() == "dir/0042.png" {
				return nil, memory.ErrOutOfMemory
			}
		}
		return b, nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	err = p.Add(pipeline.Step{ID: "look", Stage: pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		if v, _ := it.Attr("tried"); v.Int() < 1 || v.Int() > 3 {
			it.Fail(fmt.Errorf("an attempt that failed left its attribute %d", v.Int()))
		}
		return nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	s, err := runIt(t, p)
	if err != nil {
		t.Fatal(err)
	}
	if s.Out != 63 || s.Quarantined != 1 || s.Failed[0].ID != "dir/0042.png" || s.Failed[0].Stage != "tight" {
		t.Errorf("summary %+v", s)
	}
	if largest.Load() < 2 {
		t.Errorf("the largest batch that passed had %d items", largest.Load())
	}
}

func TestReturnedErrorEndsTheRun(t *testing.T) {
	broken := errors.New("the disk is full")
	_, err := runIt(t, chain(t, inputs(1000), pass, batchStage(func(context.Context, []*pipeline.Item) ([]*pipeline.Item, error) { return nil, broken })))
	var se *pipeline.StageError
	if !errors.As(err, &se) || se.Stage != "s1" || !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// holder holds everything and, at the end, rejects odd numbers.
type holder struct{ order []string }

func (h *holder) Process(_ context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) {
	for _, it := range b {
		it.SetAttr("held", pipeline.String(it.ID()))
		it.Hold()
	}
	return nil, nil
}

func (h *holder) Flush(_ context.Context, held pipeline.HeldItems, emit func(*pipeline.Item) error) error {
	for it, err := range held {
		if err != nil {
			return err
		}
		h.order = append(h.order, it.ID())
		if v, _ := it.Attr("held"); v.String() != it.ID() {
			it.Fail(fmt.Errorf("came back with %q", v.String()))
		}
		if len(h.order)%2 == 0 {
			it.Reject("even place")
		}
		if err := emit(it); err != nil {
			return err
		}
	}
	return nil
}

func TestBarrierGetsItemsBackInOrder(t *testing.T) {
	h := &holder{}
	p := chain(t, inputs(500), cut("b", "a"), h, pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		f, err := it.Frame(ctx)
		if err != nil {
			it.Fail(err)
			return nil
		}
		// Every input has one bright pixel; crop a begins at column 1, b at 0.
		var i int
		var key string
		if _, err := fmt.Sscanf(strings.TrimPrefix(it.ID(), "dir/"), "%d.png@%1s", &i, &key); err != nil {
			return err
		}
		x, y := i%16, i/16%16
		if key == "a" {
			x--
		}
		b := f.Image.Bounds()
		if b.Size() != image.Pt(8, 8) || it.Size() != b.Size() {
			it.Fail(fmt.Errorf("came back with size %v", b))
		}
		if x >= 0 && x < 8 && y < 8 {
			if g := color.GrayModel.Convert(f.Image.At(b.Min.X+x, b.Min.Y+y)).(color.Gray); g.Y != uint8(i) {
				it.Fail(fmt.Errorf("pixel %d, %d came back as %d", x, y, g.Y))
			}
		}
		return nil
	}))
	s, err := runIt(t, p)
	if err != nil {
		t.Fatal(err)
	}
	if s.Out != 500 || s.Rejected["s1"]["even place"] != 500 || s.Quarantined != 0 {
		t.Errorf("summary %+v", s)
	}
	for i := 1; i < len(h.order); i++ {
		if h.order[i-1] >= h.order[i] {
			t.Fatalf("%s came before %s", h.order[i-1], h.order[i])
		}
	}
}

func BenchmarkNullStages(b *testing.B) {
	for _, batch := range []int{1, 64} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			b.ReportAllocs()
			const stages = 4
			p := pipeline.New("bench", pipeline.Options{})
			p.SetSource(nullSource(b.N))
			null := batchStage(func(_ context.Context, items []*pipeline.Item) ([]*pipeline.Item, error) { return items, nil })
			for i := range stages {
				if err := p.Add(pipeline.Step{ID: fmt.Sprint("n", i), Stage: null, Batch: batch, Workers: 2}); err != nil {
					b.Fatal(err)
				}
			}
			b.ResetTimer()
			if _, err := p.Run(context.Background(), pipeline.RunOptions{NoStore: true}); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*stages), "ns/item-stage")
		})
	}
}

type nullSource int

func (n nullSource) Emit(_ context.Context, emit func(pipeline.Input) error) error {
	img := image.NewGray(image.Rect(0, 0, 1, 1))
	for i := range int(n) {
		if err := emit(pipeline.Input{Name: fmt.Sprint(i), Image: img}); err != nil {
			return err
		}
	}
	return nil
}

func TestFuncSettlesItemsOneByOne(t *testing.T) {
	s, err := runIt(t, chain(t, inputs(30), batchStage(func(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
		return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
			switch {
			case strings.HasSuffix(it.ID(), "0.png"):
				it.Reject("ends in 0")
			case strings.HasSuffix(it.ID(), "1.png"):
				return errors.New("ends in 1")
			}
			return nil
		}).Process(ctx, batch)
	})))
	if err != nil || s.Out != 24 || s.Rejected["s0"]["ends in 0"] != 3 || s.Quarantined != 3 || s.Failed[0].Cause != "ends in 1" {
		t.Errorf("%v, %+v", err, s)
	}
}

// An item for which there is not enough memory is tried again, alone, and fails by itself.
func TestFuncOutOfMemory(t *testing.T) {
	var tries sync.Map
	s, err := runIt(t, chain(t, inputs(30), pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		n, _ := tries.LoadOrStore(it.ID(), new(atomic.Int64))
		switch n := n.(*atomic.Int64).Add(1); {
		case strings.HasSuffix(it.ID(), "0.png"):
			return fmt.Errorf("computing: %w", memory.ErrOutOfMemory)
		case strings.HasSuffix(it.ID(), "1.png") && n == 1:
			return memory.ErrOutOfMemory
		}
		return nil
	})))
	if err != nil || s.Out != 27 || s.Quarantined != 3 || !strings.HasSuffix(s.Failed[0].Cause, "computing: out of memory") {
		t.Errorf("%v, %+v", err, s)
	}
}

// What cannot be done because the run ends is no item's fault.
func TestFuncDoesNotBlameAnItemForTheEndOfTheRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := chain(t, inputs(30), batchStage(func(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
		return pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
			cancel()
			<-ctx.Done()
			return fmt.Errorf("looking: %w", ctx.Err())
		}).Process(ctx, batch)
	}))
	s, err := p.Run(ctx, pipeline.RunOptions{StateDir: t.TempDir()})
	if !errors.Is(err, context.Canceled) || s.Quarantined != 0 || s.Unfinished != s.In {
		t.Errorf("%v, %+v", err, s)
	}
}
