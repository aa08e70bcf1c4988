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
