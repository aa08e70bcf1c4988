package hamming_test

import (
	"fmt"

	"github.com/forgepipe/forgepipe/internal/hamming"
)

// Each hash finds the one before it that it is a copy of, or becomes one that
// others are compared with.
func Example() {
	ix := hamming.New(8, 6)
	for _, h := range [][]byte{{0: 0xff, 7: 0}, {0: 0xfe, 7: 1}, {0: 0x0f, 7: 0xf0}} {
		if i, d, ok := ix.Nearest(h); ok {
			fmt.Printf("%x is %d bits from keeper %d\n", h, d, i)
			continue
		}
		ix.Add(h)
	}
	fmt.Println(ix.Len(), "keepers")
	// Output:
	// fe00000000000001 is 2 bits from keeper 0
	// 2 keepers
}
