package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/model/store"
)

func Example() {
	dir, err := os.MkdirTemp("", "example-*")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(filepath.Join(dir, "models"))
	if err != nil {
		fmt.Println(err)
		return
	}
	// Known, and not there: s.Fetch would bring it.
	_, err = s.Find("clip-vit-b32")
	fmt.Println(errors.Is(err, store.ErrMissing), err)

	file := filepath.Join(dir, "net.onnx")
	if err := testnet.Embedder(testnet.EmbedderOptions{Size: 64}).WriteFile(file); err != nil {
		fmt.Println(err)
		return
	}
	if _, _, err := s.Add(context.Background(), file, "mine"); err != nil {
		fmt.Println(err)
		return
	}
	f, err := s.Find("mine")
	if err != nil {
		fmt.Println(err)
		return
	}
	rel, _ := filepath.Rel(dir, f.Path)
	fmt.Println(f.Name, rel)
	// Output:
	// true the model clip-vit-b32 is not in the store: it has not been fetched: forgepipe models fetch clip-vit-b32
	// mine models/mine/net.onnx
}
