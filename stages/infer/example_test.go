package infer_test

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"os"
	"path/filepath"

	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/infer"
)

// one is a source of one picture that is made in Go.
type one struct{ img image.Image }

func (s one) Emit(_ context.Context, emit func(pipeline.Input) error) error {
	return emit(pipeline.Input{Name: "orange.png", Image: s.img})
}

// Numbers of a network become attributes, which the next stage reads.
func Example() {
	dir, err := os.MkdirTemp("", "example-*")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	// A stand-in for a real network: it gives the mean of red, green and blue.
	file := filepath.Join(dir, "means.onnx")
	if err := testnet.Hog(12).WriteFile(file); err != nil {
		fmt.Println(err)
		return
	}
	img := image.NewRGBA(image.Rect(0, 0, 32, 32))
	for i := range 32 * 32 {
		img.Set(i%32, i/32, color.RGBA{R: 255, G: 153, A: 255})
	}

	ctx := context.Background()
	p := pipeline.New("example", pipeline.Options{})
	p.SetSource(one{img})
	if err := p.Use(ctx, pipeline.NewRegistry(infer.Info()), "infer", "infer", map[string]any{
		"model":      file,
		"attributes": []string{"green = output[1]", "colour = argmax(output)"},
	}); err != nil {
		fmt.Println(err)
		return
	}
	show := pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		green, _ := it.Attr("green")
		colour, _ := it.Attr("colour")
		fmt.Printf("%s %.1f %v\n", it.ID(), green.Float(), colour)
		return nil
	})
	if err := p.Add(pipeline.Step{ID: "show", Stage: show}); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := p.Run(ctx, pipeline.RunOptions{NoStore: true}); err != nil {
		fmt.Println(err)
	}
	// Output: orange.png 0.6 0
}
