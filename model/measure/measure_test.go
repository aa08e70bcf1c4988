package measure_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/measure"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
)

func opened(t *testing.T, g *onnx.Graph) *model.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "net.onnx")
	if err := g.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	f, err := model.Open(path, model.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Not enough memory for one shape is an answer, and the others are measured.
func TestOutOfMemoryIsAnAnswer(t *testing.T) {
	const item = 4 << 20 // what each picture takes in a run, whatever its size
	f := opened(t, testnet.Hog(item))
	var told int
	points, err := measure.Run(t.Context(), f, measure.Options{
		Session: model.SessionOptions{ArenaLimit: 5 * item}, Batches: []int{64, 1, 2}, Sides: []int{24, 16},
		Each: func(measure.Point) { told++ },
	})
	if err != nil || len(points) != 6 || told != 6 {
		t.Fatal(points, told, err)
	}
	for i, p := range points {
		side, batch := []int{16, 24}[i/3], []int{1, 2, 64}[i%3]
		switch {
		case p.Width != side || p.Height != side || p.Batch != batch:
			t.Errorf("point %d is of %d pictures of %d x %d", i, p.Batch, p.Width, p.Height)
		case batch == 64:
			if !p.OutOfMemory || p.Fault == "" || p.Peak != 0 {
				t.Errorf("%+v", p)
			}
		case p.Fault != "" || p.Seconds <= 0 || p.Peak < int64(batch*item) || p.Peak > int64(batch*item+item):
			t.Errorf("%+v", p)
		}
	}
}

func TestShapes(t *testing.T) {
	for name, tt := range map[string]struct {
		net   *onnx.Graph
		o     measure.Options
		want  measure.Point
		fault string
	}{
		"any size":        {testnet.Hog(64), measure.Options{}, measure.Point{Batch: 1, Width: 256, Height: 256}, ""},
		"its own size":    {testnet.Embedder(testnet.EmbedderOptions{Size: 32}), measure.Options{}, measure.Point{Batch: 1, Width: 32, Height: 32}, ""},
		"its own batch":   {testnet.Embedder(testnet.EmbedderOptions{Size: 32, Batch: 3}), measure.Options{}, measure.Point{Batch: 3, Width: 32, Height: 32}, ""},
		"another size":    {testnet.Embedder(testnet.EmbedderOptions{Size: 32}), measure.Options{Sides: []int{33}}, measure.Point{Batch: 1, Width: 33, Height: 33}, "does not take that"},
		"another batch":   {testnet.Embedder(testnet.EmbedderOptions{Size: 32, Batch: 3}), measure.Options{Batches: []int{2}}, measure.Point{Batch: 2, Width: 32, Height: 32}, "does not take that"},
		"what no one has": {testnet.Hog(64), measure.Options{Batches: []int{4096}, Sides: []int{1 << 16}}, measure.Point{Batch: 4096, Width: 1 << 16, Height: 1 << 16}, "its input alone"},
	} {
		t.Run(name, func(t *testing.T) {
			points, err := measure.Run(t.Context(), opened(t, tt.net), tt.o)
			if err != nil || len(points) != 1 {
				t.Fatal(points, err)
			}
			p := points[0]
			if p.Batch != tt.want.Batch || p.Width != tt.want.Width || p.Height != tt.want.Height {
				t.Errorf("%+v, want %+v", p, tt.want)
			}
			if tt.fault == "" && p.Fault != "" || !strings.Contains(p.Fault, tt.fault) {
				t.Errorf("fault %q, want %q", p.Fault, tt.fault)
			}
		})
	}
}

func TestMeasuringCanBeInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("enough")
	points, err := measure.Run(ctx, opened(t, testnet.Hog(64)), measure.Options{
		Batches: []int{1, 2, 3}, Sides: []int{8}, Each: func(measure.Point) { cancel(stop) },
	})
	if !errors.Is(err, stop) || len(points) != 1 {
		t.Error(points, err)
	}
}
