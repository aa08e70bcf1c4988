package measure_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/measure"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
)

func ExampleRun() {
	dir, err := os.MkdirTemp("", "example-*")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "net.onnx")
	if err := testnet.Embedder(testnet.EmbedderOptions{Size: 64}).WriteFile(path); err != nil {
		fmt.Println(err)
		return
	}
	f, err := model.Open(path, model.FileOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	points, err := measure.Run(context.Background(), f, measure.Options{Batches: []int{1, 8}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, p := range points {
		fmt.Println(p.Batch, "of", p.Width, "x", p.Height, "took memory:", p.Peak > 0)
	}
	// Output:
	// 1 of 64 x 64 took memory: true
	// 8 of 64 x 64 took memory: true
}
