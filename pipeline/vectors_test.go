package pipeline_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
)

// embedder sets a vector, as a stage that holds a model does.
type embedder struct {
	model string
	half  bool
	calls *atomic.Int64
}

func (e embedder) Identity() string { return e.model }

func (e embedder) Process(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		e.calls.Add(1)
		it.SetVector(pipeline.Vector{Name: "v", Model: e.model, Half: e.half, Data: []float32{1.0 / 3, -2, 6e-8}})
		return nil
	}).Process(ctx, batch)
}

// embedRun runs an embedder over five items with the cached results in state, and
// returns for how many it was called, and the vector that the stage after it saw.
func embedRun(t *testing.T, state string, e embedder) (calls int64, v pipeline.Vector) {
	t.Helper()
	e.calls = &atomic.Int64{}
	r := pipeline.NewRegistry(pipeline.Info{
		Name: "embed", Short: "Embeds.", Pure: true, Version: 1,
		New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) { return e, nil },
	})
	p := pipeline.New("vectors", pipeline.Options{})
	p.SetSource(inputs(5))
	if err := p.Use(t.Context(), r, "embed", "embed", nil); err != nil {
		t.Fatal(err)
	}
	add(t, p, pipeline.Step{ID: "look", Workers: 1, Stage: pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		v, _ = it.Vector("v")
		return nil
	})})
	if s := mustRun(t, p, pipeline.RunOptions{StateDir: state}); s.Out != 5 {
		t.Fatalf("%+v", s.Failed)
	}
	return e.calls.Load(), v
}

// The results of a model are those of its file, whatever it is called.
func TestAnotherModelFileIsAnotherResult(t *testing.T) {
	state := t.TempDir()
	for _, tt := range []struct {
		model string
		calls int64
	}{{"a", 5}, {"a", 0}, {"b", 5}, {"a", 0}} {
		if calls, v := embedRun(t, state, embedder{model: tt.model}); calls != tt.calls || v.Model != tt.model {
			t.Errorf("model %s: called for %d items, want %d; the vector is of model %q", tt.model, calls, tt.calls, v.Model)
		}
	}
}

// What a stage sees does not depend on whether the vector was computed or stored.
func TestHalfVectors(t *testing.T) {
	for half, want := range map[bool][]float32{
		false: {1.0 / 3, -2, 6e-8},
		true:  {0.33325195, -2, 5.9604645e-8}, // 0x3555, 0xc000, the least denormal
	} {
		state := t.TempDir()
		for _, stored := range []bool{false, true} {
			_, v := embedRun(t, state, embedder{half: half})
			if v.Half != half || v.Dim() != 3 {
				t.Fatalf("%+v", v)
			}
			for i, f := range v.Data {
				if f != want[i] {
					t.Errorf("half %v, stored %v: component %d is %v, want %v", half, stored, i, f, want[i])
				}
			}
		}
	}
}
