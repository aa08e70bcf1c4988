package standard_test

import (
	"context"
	"fmt"
	"os"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// A pipeline file is run with the standard stages, as the command does it.
func Example() {
	out, err := os.MkdirTemp("", "example-*")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(out)

	ctx := context.Background()
	file := "../../pipelines/tiles.yaml"
	data, err := os.ReadFile(file)
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := pipeline.Load(ctx, file, data, pipeline.Options{
		Registry: standard.Registry(),
		Vars:     pipeline.Vars{Set: map[string]string{"INPUT": "../../testdata/photos", "OUT": out}, Env: os.LookupEnv},
	})
	if err != nil { // a *pipeline.SpecError has each fault with its line and column
		fmt.Println(err)
		return
	}
	for range 2 { // the second run finds everything done
		s, err := p.Run(ctx, pipeline.RunOptions{})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(s.In, "photographs,", s.Out, "tiles,", s.Written, "files written,", s.Reused, "right already")
	}
	// Output:
	// 18 photographs, 67 tiles, 72 files written, 0 right already
	// 18 photographs, 67 tiles, 0 files written, 72 right already
}
