package sim_test

import (
	"context"
	"errors"
	"fmt"
	"time"

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

// A network is put to work on a card of 16 GiB, of which a neighbour takes 9 after half
// a minute. The Governor finds its batch size, and steps back.
func ExampleDrive() {
	driven, err := sim.Drive(sim.DriveOptions{
		Devices: []sim.Config{{Total: 16 << 30, Others: sim.Step(30*time.Second, 0, 9<<30), Lag: 100 * time.Millisecond}},
		Chain: []sim.Network{{
			Name:          "embed",
			SessionConfig: sim.SessionConfig{Fixed: 1 << 30, PerItem: 200 << 20},
			Start:         20 * time.Millisecond, Each: 5 * time.Millisecond,
		}},
		Governor: memory.GovernorOptions{Decided: func(d memory.Decision) {
			fmt.Println(d.Time.Sub(time.Unix(0, 0)).Round(100*time.Millisecond), d)
		}},
		Lasts: time.Minute,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, a := range driven.Accounts {
		fmt.Println(a.Did())
		fmt.Println(a.Limit())
	}
	// Output:
	// 0s embed on sim:0 begins with 1 item at once: to learn what a run takes
	// 100ms embed on sim:0 takes 2 items at once now, 1 before: to learn what a run takes (about 406 MiB of 14.5 GiB; 40 items/s)
	// 200ms embed on sim:0 takes 8 items at once now, 2 before: to learn what a run takes (about 1.6 GiB of 14.5 GiB; 133.3 items/s)
	// 300ms embed on sim:0 takes 32 items at once now, 8 before: to learn what a run takes (about 6.4 GiB of 14.5 GiB; 177.8 items/s)
	// 800ms embed on sim:0 takes 73 items at once now, 32 before: to learn what a run takes (about 14.5 GiB of 14.5 GiB; 189.6 items/s)
	// 1.9s embed on sim:0 takes 62 items at once now, 73 before: more would hardly be faster (about 12.3 GiB of 14.5 GiB; 187.9 items/s)
	// 30.3s embed on sim:0 gives back 12.1 GiB, to see what others leave of it
	// 30.4s embed on sim:0 takes 21 items at once now, 62 before: others have taken memory (about 4.1 GiB of 5.5 GiB; 168 items/s)
	// 31.4s embed on sim:0 takes 26 items at once now, 21 before: more would hardly be faster (about 5.1 GiB of 5.5 GiB; 173.3 items/s)
	// 34.3s embed on sim:0 takes 28 items at once now, 26 before: to learn what a run takes (about 5.5 GiB of 5.5 GiB; 175 items/s)
	// embed on sim:0: 10793 parts in 288 runs, most of them 62 at once (at most 73); stepped back once for others
	// limited by the device's speed: larger batches would hardly be faster (93 % of the parts)
}
