//go:build !cuda

package cuda_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/forgepipe/forgepipe/memory/cuda"
)

func TestNotBuilt(t *testing.T) {
	if n, err := cuda.Count(); n != 0 || !errors.Is(err, cuda.ErrNotBuilt) {
		t.Errorf("Count() = %d, %v", n, err)
	}
	if _, err := cuda.Open(0, cuda.Options{}); !errors.Is(err, cuda.ErrNotBuilt) {
		t.Errorf("Open: %v", err)
	}
}

// Without the tag the package says so, and a program goes on without it.
func Example() {
	card, err := cuda.Open(0, cuda.Options{})
	if errors.Is(err, cuda.ErrNotBuilt) {
		fmt.Println("no CUDA in this program")
		return
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	defer card.Close()
	// Output: no CUDA in this program
}
