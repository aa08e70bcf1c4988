package memory_test

import (
	"context"
	"fmt"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/sim"
)

// Memory is of use without pipelines. Here a program reads a device, on which others
// have 6 of 8 GiB, leases of the rest before it allocates, and asks a governor how much
// to do at once. A GPU (package nvml) and the host ([memory.Host]) are devices too.
func Example_alone() {
	ctx := context.Background()
	card, err := sim.New(sim.Config{Name: "sim:0", Total: 8 << 30, Others: sim.Constant(6 << 30)})
	if err != nil {
		fmt.Println(err)
		return
	}
	manager := memory.NewManager(memory.Options{Devices: []memory.Device{card}})
	defer manager.Close()

	reading, err := card.Read(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	ledger := memory.NewLedger("sim:0", reading.Free-memory.DeviceHeadroom(reading.Total))
	defer manager.Attach(ledger)() // so that manager.State tells who has what
	fmt.Println(memory.FormatBytes(reading.Free), "are free, and", memory.FormatBytes(ledger.Usage().Limit), "can be leased")

	governor, err := memory.NewGovernor(memory.GovernorOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	work := governor.Workload(memory.WorkloadOptions{Name: "segment", Device: "sim:0", Key: "segment on a card of 8 GiB"})
	const shape, each = "[3 512 512]", 100 << 20 // bytes that an item takes
	for items := 100; items > 0; {
		u := ledger.Usage()
		room := memory.Room{Budget: u.Limit - u.Residency - u.Work, Items: items}
		next := work.Next(shape, room)
		lease, err := ledger.Acquire(ctx, memory.Request{Kind: memory.Work, Bytes: int64(next.Batch) * each, Holder: "segment"})
		if err != nil {
			fmt.Println(err)
			return
		}
		// Here the program computes. 10 ms a run and 1 ms an item is what it might take.
		took := 0.010 + 0.001*float64(next.Batch)
		work.Ran(shape, memory.Ran{Batch: next.Batch, Seconds: took, Bytes: int64(next.Batch) * each}, room)
		lease.Release()
		items -= next.Batch
	}
	work.Close()
	account := governor.Accounts()[0]
	fmt.Println(account.Did())
	fmt.Println(account.Limit())
	// Output:
	// 2 GiB are free, and 1.5 GiB can be leased
	// segment on sim:0: 100 parts in 13 runs, most of them 15 at once
	// limited by the device's memory: with more of it, larger batches would be faster (75 % of the parts)
}
