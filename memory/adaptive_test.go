package memory_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/forgepipe/forgepipe/memory"
)

// spy sees what a strategy is told and what it answers.
type spy struct {
	memory.Strategy
	next func(memory.Situation, memory.Choice)
}

func (s spy) Next(now memory.Situation) memory.Choice {
	c := s.Strategy.Next(now)
	s.next(now, c)
	return c
}

func newGovernor(t interface {
	Helper()
	Fatal(...any)
}, o memory.GovernorOptions) *memory.Governor {
	t.Helper()
	g, err := memory.NewGovernor(o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// Whatever happens, the adaptive strategy takes nothing that its model says is more
// than there is room for.
func TestAdaptiveStaysWithinTheBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(0, 0)
		o := memory.GovernorOptions{Clock: func() time.Time { return now }, Strategies: memory.StandardStrategies()}
		adaptive := o.Strategies[memory.Adaptive]
		o.Strategies[memory.Adaptive] = func(batch int) memory.Strategy {
			return spy{adaptive(batch), func(s memory.Situation, c memory.Choice) {
				if c.Batch > 0 && (s.Budget <= 0 || s.Cost.Bytes(c.Batch) > s.Budget) {
					t.Fatalf("%d items take %d bytes of %d", c.Batch, s.Cost.Bytes(c.Batch), s.Budget)
				}
				if c.Batch < 0 || c.Batch > s.Most {
					t.Fatalf("%d items of %d at most", c.Batch, s.Most)
				}
				if s.Allocated > s.Budget && c.Batch > 0 && !c.Shrink {
					t.Fatalf("it has %d of %d bytes and keeps them", s.Allocated, s.Budget)
				}
			}}
		}
		g := newGovernor(t, o)
		var all []*memory.Workload
		for range rapid.IntRange(1, 3).Draw(t, "workloads") {
			all = append(all, g.Workload(memory.WorkloadOptions{
				Key:    rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key"),
				Device: rapid.SampledFrom([]string{"gpu:0", "gpu:1"}).Draw(t, "device"),
				Most:   rapid.SampledFrom([]int{0, 1, 7, 100}).Draw(t, "most"),
			}))
		}
		workload, shape := rapid.SampledFrom(all), rapid.SampledFrom([]string{"64x64", "512x512"})
		bytes := rapid.OneOf(rapid.Int64Range(-1<<34, 1<<34), rapid.Int64())
		room := rapid.Custom(func(t *rapid.T) memory.Room {
			return memory.Room{
				Budget: bytes.Draw(t, "budget"), Allocated: max(bytes.Draw(t, "allocated"), 0),
				Items: rapid.IntRange(0, 200).Draw(t, "items"), Scarce: rapid.Bool().Draw(t, "scarce"),
			}
		})
		t.Repeat(map[string]func(*rapid.T){
			"next": func(t *rapid.T) { workload.Draw(t, "w").Next(shape.Draw(t, "shape"), room.Draw(t, "room")) },
			"run": func(t *rapid.T) {
				w, s, r := workload.Draw(t, "w"), shape.Draw(t, "shape"), room.Draw(t, "room")
				c := w.Next(s, r)
				w.Ran(s, memory.Ran{
					Batch: c.Batch, Seconds: rapid.Float64().Draw(t, "seconds"), Bytes: bytes.Draw(t, "bytes"),
					OutOfMemory: rapid.Bool().Draw(t, "failed"), Need: bytes.Draw(t, "need"),
				}, room.Draw(t, "then"))
			},
			"any run": func(t *rapid.T) {
				workload.Draw(t, "w").Ran(shape.Draw(t, "shape"), memory.Ran{
					Batch:   rapid.IntRange(-1, 2000).Draw(t, "batch"),
					Seconds: rapid.SampledFrom([]float64{0, -1, 0.1, math.NaN(), math.Inf(1), math.Inf(-1), 1e300}).Draw(t, "seconds"),
				}, room.Draw(t, "then"))
			},
			"opened": func(t *rapid.T) { workload.Draw(t, "w").Opened() },
			"closed": func(t *rapid.T) { workload.Draw(t, "w").Close() },
			"time": func(*rapid.T) {
				now = now.Add(time.Duration(rapid.Int64Range(-20, 20).Draw(t, "seconds")) * time.Second)
			},
			"": func(t *rapid.T) {
				for _, a := range g.Accounts() {
					if a.Seconds < 0 || math.IsNaN(a.Seconds) || math.IsInf(a.Seconds, 0) {
						t.Fatalf("%+v", a)
					}
				}
			},
		})
	})
}

// network is one at work: what it takes, and how long.
type network struct {
	start, each int64   // bytes
	t0, t1      float64 // seconds
	held        int64   // what its arena has
}

func (w *network) bytes(b int) int64  { return w.start + w.each*int64(b) }
func (w *network) rate(b int) float64 { return float64(b) / (w.t0 + w.t1*float64(b)) }

// run does what the Governor says with so much memory, slower by a factor, and tells
// how many items it took; 0: none.
func (w *network) run(g *memory.Workload, budget int64, slow float64) int {
	c := g.Next("", memory.Room{Budget: budget, Allocated: w.held})
	if c.Shrink || c.Look {
		w.held = 0
	}
	if c.Batch == 0 {
		return 0
	}
	r := memory.Ran{Batch: c.Batch, Seconds: slow * (w.t0 + w.t1*float64(c.Batch)), OutOfMemory: w.bytes(c.Batch) > budget}
	switch {
	case r.OutOfMemory:
		r.Seconds, w.held = 0.01, 0
	case w.held == 0:
		w.held = w.bytes(c.Batch)
		r.Bytes = w.held
	case w.bytes(c.Batch) > w.held:
		w.held += w.bytes(c.Batch) // beside what was too small
	}
	g.Ran("", r, memory.Room{Budget: budget, Allocated: w.held})
	return c.Batch
}

// Whatever others did, and however long runs took for a while: when there is peace, it
// soon takes as many as are fast.
func TestAdaptiveNeverSticks(t *testing.T) {
	const card = 16 << 30
	random := rand.New(rand.NewPCG(3, 3))
	log := func(from, to float64) float64 { return from * math.Pow(to/from, random.Float64()) }
	for trace := range 1000 {
		w := &network{start: int64(log(1<<20, 1<<30)), each: int64(log(1<<20, 1<<30)), t0: log(0.002, 0.2), t1: log(0.0005, 0.1)}
		now := time.Unix(0, 0)
		g := newGovernor(t, memory.GovernorOptions{Clock: func() time.Time { return now }}).Workload(memory.WorkloadOptions{})
		for range random.IntN(8) {
			budget, slow := int64(random.Float64()*card), 1.0
			if random.IntN(3) == 0 {
				slow = log(1, 10)
			}
			for range random.IntN(100) {
				w.run(g, budget, slow*(1+0.03*math.Abs(random.NormFloat64())))
				now = now.Add(100 * time.Millisecond)
			}
		}
		budget := int64(log(4<<30, card))
		most := min(int((budget-w.start)/w.each), 1024)
		best, rate := w.rate(most), 0.0
		for calm := 0; calm < 1600 && !(rate > 0.9*best); calm += 200 {
			items, took := 0.0, 0.0
			for range 200 {
				b := w.run(g, budget, 1+0.03*math.Abs(random.NormFloat64()))
				items += float64(b)
				took += w.t0 + w.t1*float64(b)
			}
			rate = items / took
		}
		if !(rate > 0.9*best) {
			t.Errorf("trace %d: %.1f items/s, %.1f with %d at once: %+v", trace, rate, best, most, *w)
		}
	}
}
