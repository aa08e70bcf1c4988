package memory_test

import (
	"fmt"

	"github.com/forgepipe/forgepipe/memory"
)

// careful takes half of what has room.
type careful struct{}

func (careful) Next(s memory.Situation) memory.Choice {
	return memory.Choice{Batch: max(s.Cost.Fits(s.Budget, s.Most)/2, 1), Rule: "half of what has room"}
}

func (careful) Ran(memory.Situation, memory.Ran) {}

// A strategy of one's own has a name beside those of forgepipe. A pipeline names it
// (memory: {strategy: careful}) if the program gives the same Strategies to
// pipeline.Options; here a governor is asked directly.
func ExampleStrategy() {
	all := memory.StandardStrategies()
	all["careful"] = func(int) memory.Strategy { return careful{} }
	g, err := memory.NewGovernor(memory.GovernorOptions{
		Strategy: "careful", Strategies: all,
		Decided: func(d memory.Decision) { fmt.Println(d) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	w := g.Workload(memory.WorkloadOptions{Name: "clip", Device: "gpu:0", Key: "clip on an H200"})
	defer w.Close()

	const shape, each = "[3 224 224]", 10 << 20 // bytes that an item takes
	room := memory.Room{Budget: 400 << 20}
	for range 3 {
		next := w.Next(shape, room)
		ran := memory.Ran{Batch: next.Batch, Seconds: 0.01, Bytes: int64(next.Batch) * each}
		w.Ran(shape, ran, room)
	}
	// Output:
	// clip on gpu:0 begins with 1 item at once: half of what has room
	// clip on gpu:0 takes 2 items at once now, 1 before: half of what has room (about 20.3 MiB of 400 MiB)
	// clip on gpu:0 takes 4 items at once now, 2 before: half of what has room (about 40.6 MiB of 400 MiB)
}
