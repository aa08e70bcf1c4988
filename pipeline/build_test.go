package pipeline_test

import (
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// What is said of a step in Go reaches the plan, as what YAML says does.
func TestUseStep(t *testing.T) {
	p := pipeline.New("test", pipeline.Options{})
	if err := p.UseSource(t.Context(), standard.Registry(), "images", map[string]any{"path": t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	step := pipeline.Step{ID: "cut", Workers: 3, Batch: 5, OnError: pipeline.Stop}
	if err := p.UseStep(t.Context(), standard.Registry(), "tile", step, map[string]any{"size": 64}); err != nil {
		t.Fatal(err)
	}
	plan, err := p.Plan(pipeline.RunOptions{NoStore: true})
	if err != nil {
		t.Fatal(err)
	}
	if s := plan.Phases[0][0]; s.ID != "cut" || s.Stage != "tile" || s.Workers != 3 || s.Batch != 5 {
		t.Errorf("the plan has %+v", s)
	}
}

func TestBuildingInGoIsRefused(t *testing.T) {
	r := standard.Registry()
	for name, tt := range map[string]struct {
		build func(p *pipeline.Pipeline) error
		want  string
	}{
		"no such source": {func(p *pipeline.Pipeline) error { return p.UseSource(t.Context(), r, "image", nil) }, `did you mean "images"?`},
		"no such stage":  {func(p *pipeline.Pipeline) error { return p.Use(t.Context(), r, "tiles", "t", nil) }, `did you mean "tile"?`},
		"a source's field": {func(p *pipeline.Pipeline) error {
			return p.UseSource(t.Context(), r, "images", map[string]any{"pth": "."})
		}, `source images: images has no field "pth"`},
		"a stage's field": {func(p *pipeline.Pipeline) error {
			return p.Use(t.Context(), r, "tile", "t", map[string]any{"size": -1})
		}, "stage tile: size: -1 is below"},
		"a missing attribute": {func(p *pipeline.Pipeline) error {
			return p.Use(t.Context(), r, "filter", "f", map[string]any{"keep": "laplacian > 4"})
		}, `no stage before this one makes the attribute "laplacian"`},
		"a device": {func(p *pipeline.Pipeline) error {
			return p.UseStep(t.Context(), r, "tile", pipeline.Step{ID: "t", Device: "gpu:0"}, map[string]any{"size": 64})
		}, "it computes on the host only"},
		"no ID": {func(p *pipeline.Pipeline) error { return p.Use(t.Context(), r, "tile", "", map[string]any{"size": 64}) }, "a step needs an ID"},
	} {
		if err := tt.build(pipeline.New("test", pipeline.Options{})); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// A limit that is not given is the default, also beside one that is.
func TestLimitsThatAreNotGiven(t *testing.T) {
	for name, tt := range map[string]struct {
		limits      pipeline.Limits
		quarantined int64
	}{
		"none":   {pipeline.Limits{}, 0},
		"pixels": {pipeline.Limits{MaxPixels: 1e8}, 0},
		"bytes":  {pipeline.Limits{MaxFileBytes: 1 << 30}, 0},
		"few":    {pipeline.Limits{MaxPixels: 100}, 18},
	} {
		p := pipeline.New("test", pipeline.Options{})
		p.Limits = tt.limits
		if err := p.UseSource(t.Context(), standard.Registry(), "images", map[string]any{"path": "../testdata/photos"}); err != nil {
			t.Fatal(err)
		}
		if err := p.Use(t.Context(), pipeline.NewRegistry(aspect), "aspect", "aspect", nil); err != nil {
			t.Fatal(err)
		}
		s, err := p.Run(t.Context(), pipeline.RunOptions{NoStore: true})
		if err != nil || s.In != 18 || s.Quarantined != tt.quarantined {
			t.Errorf("%s: of %d pictures %d failed, want %d: %v", name, s.In, s.Quarantined, tt.quarantined, err)
		}
	}
}
