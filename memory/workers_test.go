package memory_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

// chain is a simulated chain in which one stage is the bottleneck: rate tells
// its items a second for a count of workers.
type chain struct {
	workers    *memory.Workers
	bottleneck int
	rate       func(workers int) float64
	noise      *rand.Rand // of up to 1 %

	now   time.Time
	loads []memory.StageLoad
	items float64
	seen  []int // worker counts of the bottleneck, tick by tick
}

func newChain(stages []memory.StageWorkers, bottleneck int, rate func(int) float64) *chain {
	return &chain{
		workers: memory.NewWorkers(stages), bottleneck: bottleneck, rate: rate, noise: rand.New(rand.NewPCG(1, 2)),
		now: time.Unix(1e9, 0), loads: make([]memory.StageLoad, len(stages)),
	}
}

func (c *chain) run(d time.Duration, pressed bool) {
	const tick = 250 * time.Millisecond
	for end := c.now.Add(d); c.now.Before(end); {
		c.now = c.now.Add(tick)
		n := c.workers.Counts()[c.bottleneck]
		c.items += c.rate(n) * tick.Seconds() * (0.99 + 0.02*c.noise.Float64())
		for i := range c.loads {
			c.loads[i].Done = int64(c.items)
			c.loads[i].Busy += tick / 20
			c.loads[i].Queued = 0
			if i <= c.bottleneck { // what is upstream of it has full queues too, and waits to deliver
				c.loads[i].Queued = 100
			}
		}
		c.loads[c.bottleneck].Busy += time.Duration(n)*tick - tick/20
		c.workers.Tick(c.now, pressed, c.loads)
		c.seen = append(c.seen, c.workers.Counts()[c.bottleneck])
	}
}

// share is how much of the time the bottleneck had so many workers.
func (c *chain) share(workers int) float64 {
	n := 0
	for _, w := range c.seen {
		if w == workers {
			n++
		}
	}
	return float64(n) / float64(len(c.seen))
}

func TestWorkersClimbWhereItHelps(t *testing.T) {
	free := memory.StageWorkers{Least: 1, Start: 2, Most: 16}
	tests := []struct {
		name string
		rate func(int) float64
		want int
	}{
		{"waits for the disk: five calls fill it", func(n int) float64 { return min(float64(n)*100, 500) }, 5},
		{"two cores, two workers", func(n int) float64 { return min(float64(n), 2) * 100 }, 2},
		{"each worker more gains less than 3 %", func(n int) float64 { return 100 + 2*float64(n) }, 2},
		{"more workers are in each other's way", func(n int) float64 { return 200 / float64(n) }, 2},
		{"slow pictures", func(n int) float64 { return min(float64(n), 4) * 1.5 }, 4},
		{"as far as it may", func(n int) float64 { return float64(n) * 10 }, 16},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newChain([]memory.StageWorkers{free, free, free}, 1, tt.rate)
			c.run(10*time.Minute, false)
			c.seen = nil
			c.run(time.Hour, false)
			if got := c.share(tt.want); got < 0.97 {
				t.Errorf("%d workers %.0f %% of the time, %v", tt.want, 100*got, c.workers.Counts())
			}
			if n := c.workers.Counts(); n[0] != 2 || n[2] != 2 {
				t.Errorf("stages that are no bottleneck have %v", n)
			}
		})
	}
}

func TestWorkersUnderPressure(t *testing.T) {
	stages := []memory.StageWorkers{{Least: 1, Start: 8, Most: 16}, {Least: 3, Start: 3, Most: 3}, {Least: 1, Start: 8, Most: 16}}
	c := newChain(stages, 0, func(n int) float64 { return min(float64(n), 8) * 100 })
	c.run(time.Minute, false)
	c.run(10*time.Second, true)
	if got := c.workers.Counts(); !slices.Equal(got, []int{1, 3, 1}) {
		t.Fatalf("under pressure: %v", got)
	}
	c.run(2*time.Second, false)
	if got := c.workers.Counts()[0]; got != 1 {
		t.Errorf("right after pressure: %d", got)
	}
	c.run(time.Minute, false)
	if got := c.workers.Counts(); got[0] < 8 || got[2] != 1 {
		t.Errorf("a minute later: %v; want the bottleneck to have its workers again", got)
	}
}

func TestWorkersThatAreGivenStay(t *testing.T) {
	given := memory.StageWorkers{Least: 2, Start: 2, Most: 2}
	c := newChain([]memory.StageWorkers{given, given}, 1, func(n int) float64 { return float64(n) * 100 })
	c.run(time.Minute, false)
	c.run(time.Minute, true)
	if c.share(2) != 1 {
		t.Errorf("%v", c.workers.Counts())
	}
}

// A chain that has nothing to do changes nothing, and neither does time that
// stands still or runs backwards.
func TestWorkersIdle(t *testing.T) {
	w := memory.NewWorkers([]memory.StageWorkers{{Least: 1, Start: 4, Most: 8}})
	now := time.Unix(1e9, 0)
	for i := range 100 {
		at := now.Add(time.Duration(i%7-i%3) * time.Second)
		if w.Tick(at, false, []memory.StageLoad{{}}) {
			t.Fatal("changed")
		}
	}
	if got := w.Counts(); got[0] != 4 {
		t.Errorf("%v", got)
	}
}
