package memory_test

import (
	"testing"

	"github.com/forgepipe/forgepipe/memory"
)

// Of items that are much smaller than others a run begins with as many as are worth one,
// also where more are not faster and more of the others have no room.
func TestRunsOfSmallItems(t *testing.T) {
	const item = 1 << 20
	for name, tt := range map[string]struct {
		most   int
		budget int64
		batch  func(int) float64 // seconds
		fails  int               // from so many items on there is no room; 0: never
		want   func(batch int) bool
	}{
		"no faster together":       {1, 1 << 30, func(n int) float64 { return 0.1 * float64(n) }, 0, func(n int) bool { return n == 16 }},
		"faster still":             {0, 1 << 30, func(n int) float64 { return 1 + 0.001*float64(n) }, 0, func(n int) bool { return n > 64 }},
		"there is less room":       {1, 1 << 30, func(n int) float64 { return 0.1 * float64(n) }, 9, func(n int) bool { return n >= 4 && n < 9 }},
		"and others take the rest": {1, 5 * item, func(n int) float64 { return 0.1 * float64(n) }, 0, func(n int) bool { return n >= 1 && n <= 5 }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newGovernor(t, memory.GovernorOptions{}).Workload(memory.WorkloadOptions{Key: "k", Most: tt.most})
			if got := w.Target("", 16); got != 16 {
				t.Errorf("%d items are worth collecting at first", got)
			}
			room := memory.Room{Budget: 1 << 30, Least: 16}
			var c memory.Choice
			for i := range 200 {
				c = w.Next("", room)
				if i == 0 && c.Batch != 16 {
					t.Errorf("it begins with %d items", c.Batch)
				}
				ran := memory.Ran{Batch: c.Batch, Seconds: tt.batch(c.Batch), Bytes: item * int64(c.Batch)}
				if tt.fails > 0 && c.Batch >= tt.fails {
					ran = memory.Ran{Batch: c.Batch, OutOfMemory: true}
				}
				w.Ran("", ran, room)
				room.Budget = tt.budget
			}
			if !tt.want(c.Batch) {
				t.Errorf("it ends with %d items: %s", c.Batch, c.Rule)
			}
		})
	}
}
