package malloc_test

import (
	"fmt"

	"github.com/forgepipe/forgepipe/memory/malloc"
)

func Example() {
	before, ok := malloc.InUse()
	malloc.Trim() // gives back free memory only, so that what is in use stays
	after, _ := malloc.InUse()
	fmt.Println(!ok || after <= before+1<<20)
	// Output: true
}
