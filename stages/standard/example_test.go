package standard_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// A program that embeds forgepipe adds a stage of its own to the standard ones
// and uses it in a pipeline file.
func Example() {
	square := pipeline.Info{
		Name: "square", Short: "Rejects pictures that are not square.", Version: 1,
		New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
			return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
				if size := it.Size(); size.X != size.Y {
					it.Reject("not square")
				}
				return nil
			}), nil
		},
	}
	registry := standard.Registry().With(square)

	file := strings.Join([]string{
		`source: {images: {path: .}}`,
		`stages:`,
		`  - square: {}`,
		`  - filter: {keep: "laplacian > 4"}`,
	}, "\n")
	_, err := pipeline.Load(context.Background(), "p.yaml", []byte(file), pipeline.Options{Registry: registry})
	fmt.Println(err)
	// Output: p.yaml:4:20: stage filter: keep: no stage before this one makes the attribute "laplacian" (there are height, pixels, source.bytes, source.format, source.height, source.path, source.width, width)
}
