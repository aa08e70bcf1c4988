package pipeline_test

import (
	"context"
	"fmt"
	"image"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
)

// Two pipelines run in one process, each within a limit of its own. The manager of memory
// is one for both, so that whoever looks sees all that the process has leased.
func Example_twoPipelines() {
	ctx := context.Background()
	m := memory.NewManager(memory.Options{})
	defer m.Close()

	var runs []*pipeline.Run
	for i, name := range []string{"left", "right"} {
		p := pipeline.New(name, pipeline.Options{})
		p.HostLimit = pipeline.Amount{Bytes: 256 << 20}
		p.SetSource(pictures{{Name: name + ".png", Image: image.NewGray(image.Rect(0, 0, 64, 64))}})
		pass := pipeline.Func(func(context.Context, *pipeline.Item) error { return nil })
		if err := p.Add(pipeline.Step{ID: "pass", Stage: pass, Workers: i + 1}); err != nil {
			fmt.Println(err)
			return
		}
		run, err := p.Start(ctx, pipeline.RunOptions{NoStore: true, Memory: m})
		if err != nil {
			fmt.Println(err)
			return
		}
		runs = append(runs, run)
	}
	for _, run := range runs {
		s, err := run.Wait()
		fmt.Println(s.In, "in", s.Out, "out", memory.FormatBytes(run.Plan().HostLimit), err)
	}
	// Output:
	// 1 in 1 out 256 MiB <nil>
	// 1 in 1 out 256 MiB <nil>
}
