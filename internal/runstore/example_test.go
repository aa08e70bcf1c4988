package runstore_test

import (
	"context"
	"fmt"
	"os"

	"github.com/forgepipe/forgepipe/internal/runstore"
)

// A run is killed between intending to write a file and saying that it has.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "state")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	first, err := runstore.Open(ctx, dir, runstore.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	src := runstore.Source{Path: "a.jpg", Size: 12}
	if err := first.PutSource(&src); err != nil {
		fmt.Println(err)
	}
	tiles := []runstore.Decision{
		{Source: src.ID, Lineage: "tile=512,0,0", Stage: "write", Kind: runstore.Written},
		{Source: src.ID, Lineage: "tile=512,512,0", Stage: "write", Kind: runstore.Written},
	}
	if err := first.Intend(ctx, tiles); err != nil {
		fmt.Println(err)
	}
	first.Settled(tiles[0].Seq) // the other rename never happens
	first.Close()

	second, err := runstore.Open(ctx, dir, runstore.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer second.Close()
	_, decisions, _, err := second.Source(ctx, "a.jpg")
	if err != nil {
		fmt.Println(err)
	}
	for _, d := range decisions {
		fmt.Println(d.Lineage, "in doubt:", second.Intended(d))
	}
	// Output:
	// tile=512,0,0 in doubt: false
	// tile=512,512,0 in doubt: true
}
