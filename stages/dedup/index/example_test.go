package index_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/forgepipe/forgepipe/stages/dedup/index"
)

// A finished set is put into an index, and later more of it.
func Example() {
	ctx := context.Background()
	tmp, err := os.MkdirTemp("", "index")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(tmp)
	dir := filepath.Join(tmp, "photos.index")

	columns := []index.Column{{Name: "phash", Size: 8, Version: "1"}}
	picture := func(id string, hash ...byte) index.Entry {
		return index.Entry{ID: id, Width: 640, Height: 480, Prints: [][]byte{hash}}
	}
	for _, set := range [][]index.Entry{
		{picture("a.jpg", 1, 2, 3, 4, 5, 6, 7, 8), picture("flat.jpg")},
		{picture("a.jpg", 1, 2, 3, 4, 5, 6, 7, 8), picture("b.jpg", 8, 7, 6, 5, 4, 3, 2, 1)},
	} {
		added, err := index.Add(ctx, nil, dir, columns, func(yield func(index.Entry, error) bool) {
			for _, e := range set {
				if !yield(e, nil) {
					return
				}
			}
		})
		fmt.Println(added, "added", err)
	}

	x, err := index.Open(nil, dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer x.Close()
	for e, err := range x.All(ctx, []string{"phash"}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s %d x %d %x\n", e.ID, e.Width, e.Height, e.Prints[0])
	}
	// Output:
	// 2 added <nil>
	// 1 added <nil>
	// a.jpg 640 x 480 0102030405060708
	// b.jpg 640 x 480 0807060504030201
	// flat.jpg 640 x 480
}
