package standard_test

import (
	"context"
	"fmt"
	"os"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// A pipeline is built in Go, without a file. Values are those that YAML would have.
func Example_pipelineInGo() {
	out, err := os.MkdirTemp("", "example-*")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(out)

	ctx := context.Background()
	r := standard.Registry()
	p := pipeline.New("thumbnails", pipeline.Options{})
	if err := p.UseSource(ctx, r, "images", map[string]any{"path": "../../testdata/photos"}); err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range []struct {
		stage  string
		step   pipeline.Step
		values map[string]any
	}{
		{"filter", pipeline.Step{ID: "wide"}, map[string]any{"keep": "width > height"}},
		{"resize", pipeline.Step{ID: "small", Workers: 2}, map[string]any{"width": 64, "filter": "box"}},
		{"write", pipeline.Step{ID: "out"}, map[string]any{"path": out, "format": "png"}},
	} {
		if err := p.UseStep(ctx, r, s.stage, s.step, s.values); err != nil {
			fmt.Println(err)
			return
		}
	}
	s, err := p.Run(ctx, pipeline.RunOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.In, "in", s.Out, "out", s.Rejected)
	// Output: 18 in 16 out map[wide:map[width > height:2]]
}
