package pipeline_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// The cases of a pipeline file can run among the tests of a Go program, whose own
// stages are then in the registry. A failure says what was expected and what was.
func ExampleLoadCases() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	cases, err := pipeline.LoadCases(ctx, "../pipelines/tiles.test.yaml", pipeline.Options{Registry: standard.Registry()})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range cases {
		r, err := c.Run(ctx, filepath.Join(dir, fmt.Sprint(c.Line)))
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(r.OK, r.Name)
		for _, f := range r.Failures {
			fmt.Println(f)
		}
	}
	// Output:
	// true a grid is whole tiles from the corner
	// true what is smaller than a tile is rejected
}
