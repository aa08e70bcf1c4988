package nearest_test

import (
	"math"
	"slices"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/model/nearest"
)

// After Reset only what was added since is found, with and without a file of what does not
// fit into memory.
func TestReset(t *testing.T) {
	dir, err := fsys.OS.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	x, err := nearest.New(nearest.Options{Dim: 3, Within: 0.9, Dir: dir, Prefix: "x-", Memory: 1, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	const n = 3000
	for i := range n {
		s, c := math.Sincos(2 * math.Pi * float64(i) / n)
		if err := x.Append([]float32{float32(s), float32(c), 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	found := func(added ...uint32) []nearest.Match {
		for _, i := range added {
			x.Add(i)
		}
		if err := x.Begin(t.Context(), []uint32{0}); err != nil {
			t.Fatal(err)
		}
		m, err := x.Matches(0, nil)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	var all []uint32
	for i := range uint32(n) {
		all = append(all, i)
	}
	first := found(all...)
	if len(first) < 100 {
		t.Fatalf("%d are near", len(first))
	}
	for range 2 {
		if err := x.Reset(); err != nil {
			t.Fatal(err)
		}
		if got := found(5, 1500); len(got) != 1 || got[0].Item != 5 {
			t.Errorf("after Reset: %v", got)
		}
		if err := x.Reset(); err != nil {
			t.Fatal(err)
		}
		if got := found(all...); !slices.Equal(got, first) {
			t.Errorf("once more: %d, and %d before", len(got), len(first))
		}
	}
}
