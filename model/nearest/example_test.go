package nearest_test

import (
	"context"
	"fmt"
	"os"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/model/nearest"
)

// Each vector finds the nearest of those that were kept before, or is kept itself.
func Example() {
	if err := keepers(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// 0 is kept
	// 1 is kept
	// 2 is like 0: 0.9939
}

func keepers(ctx context.Context) error {
	folder, err := os.MkdirTemp("", "nearest")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	dir, err := fsys.OS.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer dir.Close()

	x, err := nearest.New(nearest.Options{Dim: 2, Measure: nearest.Cosine, Within: 0.95, Dir: dir})
	if err != nil {
		return err
	}
	defer x.Close()
	for _, v := range [][]float32{{1, 0}, {0, 1}, {0.9, 0.1}} {
		if err := x.Append(v); err != nil {
			return err
		}
	}
	if err := x.Ready(ctx); err != nil {
		return err
	}
	block := []uint32{0, 1, 2}
	if err := x.Begin(ctx, block); err != nil {
		return err
	}
	for _, i := range block {
		near, err := x.Matches(i, nil)
		if err != nil {
			return err
		}
		if len(near) > 0 {
			fmt.Printf("%d is like %d: %.4f\n", i, near[0].Item, near[0].Value)
			continue
		}
		fmt.Println(i, "is kept")
		x.Add(i)
	}
	return nil
}
