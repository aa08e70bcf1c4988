package memory_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/forgepipe/forgepipe/memory"
)

// A frame is leased before it is decoded and corrected to what it turned out to
// be; what can never fit is refused at once.
func Example() {
	limit, err := memory.ParseBytes("512MiB")
	if err != nil {
		fmt.Println(err)
		return
	}
	host := memory.NewLedger("host", limit)
	host.SetReserve(limit / 4) // keeps one call of the neediest stage runnable

	ctx := context.Background()
	frame, err := host.Acquire(ctx, memory.Request{
		Kind: memory.Residency, Bytes: 48 << 20, Holder: "decoding a.jpg",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer frame.Release()
	frame.Resize(36 << 20)

	_, err = host.Acquire(ctx, memory.Request{
		Kind: memory.Residency, Bytes: 3 << 30, Holder: "decoding huge.tif",
	})
	var over *memory.OversizeError
	if errors.As(err, &over) {
		fmt.Println("needs", memory.FormatBytes(over.Need), "of", memory.FormatBytes(over.Have))
	}
	fmt.Println("resident", memory.FormatBytes(host.Usage().Residency))
	// Output:
	// needs 3 GiB of 384 MiB
	// resident 36 MiB
}

// A piece of work says what it can spare, and learns what it took and left.
func ExampleManager_Scope() {
	manager := memory.NewManager(memory.Options{})
	defer manager.Close()

	ctx := context.Background()
	cache := make([]byte, 64<<20)
	scope := manager.Scope("thumbnails")
	scope.Register(memory.Reclaimer{Name: "thumbnail cache", Reclaim: func(context.Context) (int64, error) {
		freed := int64(len(cache))
		cache = nil
		return freed, nil
	}})
	report := scope.End(ctx) // deferred where the work may fail

	for _, step := range report.Steps {
		if step.Err == nil && step.Name != "go" {
			fmt.Println(step.Name, "believes to have freed", memory.FormatBytes(step.Freed))
		}
	}
	fmt.Println("measured on", report.Devices[0].Device, report.Devices[0].Freed >= 0)
	// Output:
	// thumbnail cache believes to have freed 64 MiB
	// measured on host true
}

// An operation that runs out of memory is tried again after a while.
func ExampleRetry() {
	batch := 64
	err := memory.Retry(context.Background(), memory.RetryOptions{Name: "upscaling"}, func(context.Context) error {
		if batch > 20 {
			batch /= 2
			return fmt.Errorf("running a batch: %w", memory.ErrOutOfMemory)
		}
		return nil
	})
	fmt.Println(batch, err)
	// Output: 16 <nil>
}
