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

// enlarge declares a stage that makes pictures four times as wide and as high.
var enlarge = pipeline.Info{
	Name: "enlarge", Short: "Enlarges pictures four times with a network.",
	Fields: []pipeline.Field{{Name: "model", Type: pipeline.FieldPath, Required: true, Doc: "The network, an ONNX file."}},
	Waits:  true,
	New: func(_ context.Context, c pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
		f, err := model.Open(c.String("model"), model.FileOptions{})
		if err != nil {
			return nil, c.Errorf("model", 0, "%w", err)
		}
		return network.New(e, f, network.Options{Scale: 4}, func(it *pipeline.Item, out *model.Tensor) error {
			img, err := f.Spec.Picture(out, it.Size().Mul(4))
			if err == nil {
				it.SetImage(img)
			}
			return err
		})
	},
}

// A network that makes pictures says so (Scale), as they take memory too.
func ExampleNew() {
	dir, err := os.MkdirTemp("", "example-*")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "x4.onnx")
	if err := testnet.Compact(4, 8, 1).WriteFile(file); err != nil { // with random weights
		fmt.Println(err)
		return
	}

	ctx := context.Background()
	p := pipeline.New("enlarged", pipeline.Options{})
	p.SetSource(pictures{{Name: "small.png", Image: image.NewGray(image.Rect(0, 0, 40, 30))}})
	if err := p.Use(ctx, pipeline.NewRegistry(enlarge), "enlarge", "enlarge", map[string]any{"model": file}); err != nil {
		fmt.Println(err)
		return
	}
	show := pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		fmt.Println(it.ID(), it.Size())
		return nil
	})
	if err := p.Add(pipeline.Step{ID: "show", Stage: show}); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := p.Run(ctx, pipeline.RunOptions{NoStore: true}); err != nil {
		fmt.Println(err)
	}
	// Output: small.png (160,120)
}
