package score_test

import (
	"context"
	"fmt"
	"image"
	"image/color"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/score"
)

// one is a source of one picture that is made in Go.
type one struct{ img image.Image }

func (s one) Emit(_ context.Context, emit func(pipeline.Input) error) error {
	return emit(pipeline.Input{Name: "dot.png", Image: s.img})
}

// A picture is measured, and the next stage reads what came out.
func Example() {
	img := image.NewGray(image.Rect(0, 0, 16, 16))
	img.SetGray(8, 8, color.Gray{Y: 128})

	ctx := context.Background()
	p := pipeline.New("example", pipeline.Options{})
	p.SetSource(one{img})
	if err := p.Use(ctx, pipeline.NewRegistry(score.Info()), "score", "score", map[string]any{"metrics": []string{"laplacian"}}); err != nil {
		fmt.Println(err)
		return
	}
	show := pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		v, _ := it.Attr("laplacian")
		fmt.Println(it.ID(), v)
		return nil
	})
	if err := p.Add(pipeline.Step{ID: "show", Stage: show}); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := p.Run(ctx, pipeline.RunOptions{NoStore: true}); err != nil {
		fmt.Println(err)
	}
	// Output: dot.png 4
}
