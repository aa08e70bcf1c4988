package network_test

import (
	"context"
	"fmt"
	"image"
	"os"
	"path/filepath"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/network"
)

// rate declares a stage that measures pictures with a network.
var rate = pipeline.Info{
	Name: "rate", Short: "Measures pictures with a network.",
	Fields: []pipeline.Field{{Name: "model", Type: pipeline.FieldPath, Required: true, Doc: "The network, an ONNX file."}},
	Makes: func(pipeline.Config) []pipeline.Made {
		return []pipeline.Made{{Name: "rating", Type: pipeline.TypeFloat, Doc: "what the network says"}}
	},
	Pure: true, Waits: true, Version: 1,
	New: func(_ context.Context, c pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
		f, err := model.Open(c.String("model"), model.FileOptions{})
		if err != nil {
			return nil, c.Errorf("model", 0, "%w", err)
		}
		return network.New(e, f, network.Options{}, func(it *pipeline.Item, out *model.Tensor) error {
			it.SetAttr("rating", pipeline.Float(float64(out.Numbers()[0])))
			return nil
		})
	},
}

// A stage of one's own measures pictures with a network. It runs on what devices there
// are, within their memory, in batches that the governor decides.
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

	ctx := context.Background()
	p := pipeline.New("rated", pipeline.Options{})
	white := image.NewGray(image.Rect(0, 0, 32, 32))
	for i := range white.Pix {
		white.Pix[i] = 255
	}
	p.SetSource(pictures{
		{Name: "black.png", Image: image.NewGray(image.Rect(0, 0, 32, 32))},
		{Name: "white.png", Image: white},
	})
	if err := p.Use(ctx, pipeline.NewRegistry(rate), "rate", "rate", map[string]any{"model": file}); err != nil {
		fmt.Println(err)
		return
	}
	show := pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		v, _ := it.Attr("rating")
		fmt.Printf("%s %.2f\n", it.ID(), v.Float())
		return nil
	})
	if err := p.Add(pipeline.Step{ID: "show", Stage: show}); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := p.Run(ctx, pipeline.RunOptions{NoStore: true}); err != nil {
		fmt.Println(err)
	}
	// Unordered output:
	// black.png 0.00
	// white.png 1.00
}

// pictures is a source of pictures that are made in Go.
type pictures []pipeline.Input

func (p pictures) Emit(_ context.Context, emit func(pipeline.Input) error) error {
	for _, in := range p {
		if err := emit(in); err != nil {
			return err
		}
	}
	return nil
}
