package sim_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/sim"
)

// A model on a card of 16 GiB, of which a neighbour has 10: a batch that fits a
// fresh arena does not fit one that has grown by small steps.
func Example() {
	card, err := sim.New(sim.Config{Total: 16 << 30, Others: sim.Constant(10 << 30)})
	if err != nil {
		fmt.Println(err)
		return
	}
	model, err := card.Open(sim.SessionConfig{Fixed: 1 << 30, PerItem: 512 << 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer model.Close()

	for _, batch := range []int{1, 2, 4, 8} {
		err = model.Run(batch, sim.RunOptions{})
		fmt.Println(batch, memory.FormatBytes(model.Stats().Allocated), errors.Is(err, memory.ErrOutOfMemory))
	}
	model.Shrink()
	fmt.Println("shrunk:", model.Run(8, sim.RunOptions{}))
	r, err := card.Read(context.Background())
	fmt.Println("free", memory.FormatBytes(r.Free), "own", memory.FormatBytes(r.Own), err)
	// Output:
	// 1 512 MiB false
	// 2 1.5 GiB false
	// 4 3.5 GiB false
	// 8 3.5 GiB true
	// shrunk: <nil>
	// free 1 GiB own 5 GiB <nil>
}
