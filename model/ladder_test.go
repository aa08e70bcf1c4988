package model_test

import (
	"context"
	"errors"
	"math"
	"testing"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
)

// hogItem is what a picture of the hog needs, in bytes.
const hogItem = 16 << 20

// counted counts the runs that are out of memory.
type counted struct {
	model.Session
	failed *int
}

func (c counted) Run(ctx context.Context, in []*ort.Tensor, o ort.RunOptions) ([]*ort.Tensor, error) {
	out, err := c.Session.Run(ctx, in, o)
	if errors.Is(err, ort.ErrOutOfMemory) {
		*c.failed++
	}
	return out, err
}

// hogRun runs the hog on pictures in an arena of at most limit bytes, eight at once.
// It demands that memory runs out where there is a limit.
func hogRun(t *testing.T, limit int64, fallback bool, pictures int) []model.Result {
	t.Helper()
	failed := 0
	defer func() {
		if (failed > 0) != (limit > 0) {
			t.Errorf("%d runs were out of memory, in %d bytes", failed, limit)
		}
	}()
	f, err := model.Open(saved(t, testnet.Hog(hogItem)), model.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o := model.RunnerOptions{Batch: 8, Type: f.ElementType(), Name: "hog.onnx"}
	o.Devices = at(func(ctx context.Context) (model.Session, error) {
		s, err := f.Load(ctx, model.SessionOptions{ArenaLimit: limit})
		return counted{s, &failed}, err
	})
	if fallback {
		o.Fallback = func(ctx context.Context) (model.Session, error) { return f.Load(ctx, model.SessionOptions{}) }
	}
	r := model.NewRunner(o)
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	shape := f.Input.Shape[1:]
	for i, n := range shape {
		if n < 0 {
			shape[i] = 16
		}
	}
	in := make([]model.Input, pictures)
	for i := range in {
		in[i] = model.Input{Shape: shape, Fill: func(_ context.Context, dst []byte) error {
			x := ort.Tensor{Type: ort.Float32, Shape: shape, Data: dst}
			for k := range x.Float32s() {
				x.Float32s()[k] = float32((k*7+i*13)%255) / 255
			}
			return nil
		}}
	}
	return r.Infer(t.Context(), in)
}

// A runtime whose memory ends is made to do all that was asked, by the real errors
// of the real arena.
func TestRealArenaIsTooSmall(t *testing.T) {
	const pictures = 20
	want := hogRun(t, 0, false, pictures)
	for name, tt := range map[string]struct {
		limit    int64
		fallback bool
	}{
		"for eight":       {5 * hogItem, false},
		"for two":         {3 * hogItem / 2, false},
		"for any, so CPU": {hogItem / 2, true},
	} {
		t.Run(name, func(t *testing.T) {
			for i, r := range hogRun(t, tt.limit, tt.fallback, pictures) {
				if r.Err != nil || want[i].Err != nil {
					t.Fatalf("picture %d: %v, %v", i, r.Err, want[i].Err)
				}
				for k, x := range r.Outputs[0].Float32s() {
					if w := want[i].Outputs[0].Float32s()[k]; math.Abs(float64(x-w)) > 1e-5 {
						t.Fatalf("picture %d, component %d: %v, want %v", i, k, x, w)
					}
				}
			}
		})
	}
	t.Run("for any", func(t *testing.T) {
		for i, r := range hogRun(t, hogItem/2, false, 3) {
			none := (*model.NoRoomError)(nil)
			if !errors.As(r.Err, &none) || none.Need <= 0 {
				t.Errorf("picture %d: %v", i, r.Err)
			}
		}
	})
}

// watched keeps the most that the arena has had after a run, and counts the runs
// that gave regions back first.
type watched struct {
	model.Session
	most   *int64
	shrunk *int
}

func (w watched) Run(ctx context.Context, in []*ort.Tensor, o ort.RunOptions) ([]*ort.Tensor, error) {
	out, err := w.Session.Run(ctx, in, o)
	if s, e := w.Stats(); e == nil {
		*w.most = max(*w.most, s.Allocated)
	}
	if o.ShrinkFirst {
		*w.shrunk++
	}
	return out, err
}

// arena runs batches of black pictures, and returns the most bytes that the arena had,
// and how often it was shrunk.
func arena(t *testing.T, batches func(infer func(n int, w, h int64))) (most int64, shrunk int) {
	t.Helper()
	f, err := model.Open(saved(t, testnet.Embedder(testnet.EmbedderOptions{})), model.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r := model.NewRunner(model.RunnerOptions{
		Batch: 8, Type: f.ElementType(), Name: "net.onnx",
		Devices: at(func(ctx context.Context) (model.Session, error) {
			s, err := f.Load(ctx, model.SessionOptions{})
			return watched{s, &most, &shrunk}, err
		}),
	})
	batches(func(n int, w, h int64) {
		in := make([]model.Input, n)
		for i := range in {
			in[i] = model.Input{Shape: []int64{3, h, w}, Fill: func(context.Context, []byte) error { return nil }}
		}
		for _, res := range r.Infer(t.Context(), in) {
			if res.Err != nil {
				t.Fatal(res.Err)
			}
		}
	})
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	return most, shrunk
}

// Pictures of all sizes in batches of all sizes, the smaller ones first, take no
// more memory than the largest batch alone; and giving memory back stays an
// exception: it costs time.
func TestArenaStaysThatOfTheLargestBatch(t *testing.T) {
	clean, _ := arena(t, func(infer func(int, int64, int64)) { infer(8, 64, 64) })
	const batches = 2000
	most, shrunk := arena(t, func(infer func(int, int64, int64)) {
		for n := range 8 {
			infer(n+1, 64, 64)
		}
		for i := range batches {
			infer(1+i*5%8, []int64{32, 64, 48, 40}[i*3%4], []int64{64, 40, 56}[i%3])
		}
	})
	if float64(most) > 1.1*float64(clean) {
		t.Errorf("%d bytes, and the largest batch alone takes %d", most, clean)
	}
	if shrunk > batches/100 {
		t.Errorf("memory was given back %d times in %d batches", shrunk, batches)
	}
	t.Logf("most %d bytes, the largest batch alone %d, given back %d times", most, clean, shrunk)
}
