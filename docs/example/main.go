// The program that README shows: a stage of its own in a pipeline file.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

var aspect = pipeline.Info{
	Name: "aspect", Short: "Rejects pictures that are long and narrow.", Pure: true, Version: 1,
	Fields: []pipeline.Field{{Name: "max", Type: pipeline.FieldFloat, Default: "2", Doc: "The longer side by the shorter, at most."}},
	New: func(_ context.Context, c pipeline.Config, _ pipeline.Env) (pipeline.Stage, error) {
		return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
			if w, h := float64(it.Size().X), float64(it.Size().Y); max(w/h, h/w) > c.Float("max") {
				it.Reject("too narrow")
			}
			return nil // an error would fail this item, and it alone
		}), nil
	},
}

func main() {
	ctx, file := context.Background(), "wide.yaml"
	text := must(os.ReadFile(file))
	p := must(pipeline.Load(ctx, file, text, pipeline.Options{Registry: standard.Registry().With(aspect)}))
	s := must(p.Run(ctx, pipeline.RunOptions{}))
	fmt.Println(s.In, "in", s.Out, "out", s.Rejected)
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
