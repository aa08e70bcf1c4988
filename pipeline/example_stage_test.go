package pipeline_test

import (
	"context"
	"fmt"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// aspect declares a stage. All else it gets from the engine.
var aspect = pipeline.Info{
	Name: "aspect", Short: "Rejects pictures that are long and narrow.",
	Fields: []pipeline.Field{{Name: "max", Type: pipeline.FieldFloat, Default: "2", Min: 1, Max: 100,
		Doc: "The longer side divided by the shorter one, at most."}},
	Makes: func(pipeline.Config) []pipeline.Made {
		return []pipeline.Made{{Name: "aspect", Type: pipeline.TypeFloat, Doc: "the longer side divided by the shorter one"}}
	},
	Pure: true, Blind: true, Version: 1,
	New: func(_ context.Context, c pipeline.Config, _ pipeline.Env) (pipeline.Stage, error) {
		return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
			w, h := float64(it.Size().X), float64(it.Size().Y)
			it.SetAttr("aspect", pipeline.Float(max(w/h, h/w)))
			if max(w/h, h/w) > c.Float("max") {
				it.Reject("too narrow")
			}
			return nil
		}), nil
	},
}

// A stage that is declared can be named in a pipeline file beside the standard ones.
// What is declared of it is checked before anything runs: its fields, and the attributes
// that later stages ask for.
func ExampleInfo() {
	ctx := context.Background()
	o := pipeline.Options{Registry: standard.Registry().With(aspect)}
	for _, stages := range []string{
		"[{aspect: {max: 0.5}}]",
		"[aspect: {}, filter: {keep: aspct < 1.4}]",
		"[aspect: {max: 1.4}, filter: {keep: aspect > 1.1}]",
	} {
		file := "source: {images: {path: ../testdata/photos}}\nstages: " + stages + "\n"
		p, err := pipeline.Load(ctx, "p.yaml", []byte(file), o)
		if err != nil {
			fmt.Println(err)
			continue
		}
		s, err := p.Run(ctx, pipeline.RunOptions{NoStore: true})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(s.In, "in", s.Out, "out", s.Rejected)
	}
	// Output:
	// p.yaml:2:25: aspect.max: 0.5 is below the minimum, 1
	// p.yaml:2:37: stage filter: keep: no stage before this one makes the attribute "aspct"; did you mean "aspect"? (there are aspect, height, pixels, source.bytes, source.format, source.height, source.path, source.width, width)
	// 18 in 6 out map[aspect:map[too narrow:12]]
}
