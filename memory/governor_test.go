package memory_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/forgepipe/forgepipe/memory"
)

// learned is what an earlier run has seen of a network that takes so many bytes for
// each item, and t0 and t1 seconds for a run and each item of it.
func learned(key string, perItem int64, t0, t1 float64) memory.Learned {
	l := memory.Learned{Key: key}
	for _, b := range []int{1, 2, 8, 32, 128, 512} {
		l.Sizes = append(l.Sizes, memory.SizeTook{Batch: b, Bytes: perItem * int64(b), Seconds: t0 + t1*float64(b)})
	}
	return l
}

// divided is one of several networks on a device of which others have nothing.
type divided struct {
	*memory.Workload
	held, budget int64 // of its arena; what it was told it may have
}

// share has each of the networks asked three times what it may have of so many bytes, and
// take as much as it may; then of the next total. It says what each may have in the end.
func share(t interface {
	Helper()
	Fatal(...any)
}, totals []int64, known []memory.Learned, keys ...string) []*divided {
	t.Helper()
	var all []*divided
	var asked *divided
	o := memory.GovernorOptions{Learned: known, Clock: func() time.Time { return time.Unix(0, 0) }, Strategies: memory.StandardStrategies()}
	adaptive := o.Strategies[memory.Adaptive]
	o.Strategies[memory.Adaptive] = func(batch int) memory.Strategy {
		return spy{adaptive(batch), func(s memory.Situation, _ memory.Choice) { asked.budget = s.Budget }}
	}
	g := newGovernor(t, o)
	for _, k := range keys {
		all = append(all, &divided{Workload: g.Workload(memory.WorkloadOptions{Name: k, Key: k, Device: "gpu:0"})})
	}
	for _, total := range totals {
		for round := range 3 {
			for _, d := range all {
				free := total
				for _, o := range all {
					if o != d {
						free -= o.held
					}
				}
				asked = d
				d.Next("", memory.Room{Budget: free, Allocated: d.held})
				if d.budget > free {
					t.Fatal(d.budget, "bytes are more than the free", free)
				}
				d.held = max(d.budget, 0)
				d.Ran("", memory.Ran{Batch: 1}, memory.Room{Budget: free, Allocated: d.held})
				var sum int64
				for _, o := range all {
					sum += o.held
				}
				if round > 0 && sum > max(total, 0) { // before, some hold what there was
					t.Fatal(sum, "bytes of", total, "are given away")
				}
			}
		}
	}
	return all
}

func TestDivision(t *testing.T) {
	const gib = 1 << 30
	known := []memory.Learned{
		learned("small", gib/64, 0.02, 0.001),
		learned("slow start", gib/64, 0.18, 0.001), // nine times small's: three times its memory
		learned("huge", 4*gib, 0.1, 0.3),
		learned("no start", gib/64, 0, 0.001),
		learned("half", 6*gib, 0.1, 0.1),
	}
	for name, tt := range map[string]struct {
		total int64
		keys  []string
		want  []float64 // GiB
		off   float64
	}{
		"one has all":              {16 * gib, []string{"small"}, []float64{16}, 0},
		"equal ones":               {8 * gib, []string{"small", "small"}, []float64{4, 4}, 0.1},
		"by the root of the start": {8 * gib, []string{"small", "slow start"}, []float64{2, 6}, 0.1},
		"each has one item":        {5 * gib, []string{"small", "huge"}, []float64{1, 4}, 0.1},
		"three":                    {12 * gib, []string{"small", "huge", "slow start"}, []float64{1, 8, 3}, 0.1},
		"more is of no use to one": {16 * gib, []string{"no start", "slow start"}, []float64{0.6, 15.4}, 0.6},
		"an unknown one":           {8 * gib, []string{"small", "unknown"}, []float64{4, 4}, 0.1},
		"whole items only":         {17 * gib, []string{"half", "half"}, []float64{8.5, 8.5}, 0.1},
		"the rest to one of them":  {18.5 * gib, []string{"half", "half"}, []float64{12.25, 6.25}, 0.1},
		"no room for both":         {5 * gib, []string{"huge", "huge"}, []float64{4, 1}, 0.1},
		"nothing":                  {0, []string{"small", "huge"}, []float64{0, 0}, 0},
		"less than nothing":        {-gib, []string{"small", "huge"}, []float64{-1, -1}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			for i, d := range share(t, []int64{tt.total}, known, tt.keys...) {
				if got := float64(d.budget) / gib; math.Abs(got-tt.want[i]) > tt.off {
					t.Errorf("%s may have %.2f GiB, want %.2f", tt.keys[i], got, tt.want[i])
				}
			}
		})
	}
}

// Whatever the networks are, and however the memory that there is changes, no more is
// given away than there is, and where there is room for an item of each, each has it.
func TestDivisionProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var known []memory.Learned
		var keys []string
		var least []int64
		var sum int64
		for i := range rapid.IntRange(2, 6).Draw(t, "networks") {
			k := fmt.Sprint(i)
			bytes := rapid.Int64Range(1<<16, 1<<33).Draw(t, "bytes")
			if rapid.IntRange(0, 4).Draw(t, "known") > 0 {
				known = append(known, learned(k, bytes, rapid.Float64Range(0, 1).Draw(t, "t0"), rapid.Float64Range(0, 1).Draw(t, "t1")))
			} else {
				bytes = 0
			}
			keys, least = append(keys, k), append(least, bytes)
			sum += bytes
		}
		most := slices.Max(least) // what takes more than there is at all is doubted
		total := rapid.Int64Range(most, 1<<36).Draw(t, "total")
		totals := []int64{total}
		for range rapid.IntRange(0, 4).Draw(t, "changes") { // of which some hardly matter
			total = max(int64(float64(total)*rapid.Float64Range(0.95, 1.05).Draw(t, "change")), most)
			totals = append(totals, total)
		}
		for i, d := range share(t, totals, known, keys...) {
			if sum <= total && d.budget < least[i] {
				t.Fatalf("%d of %d bytes, of which all need %d, are too few for an item of %d", d.budget, total, sum, least[i])
			}
		}
	})
}

// A part is held as long as it hardly moves, but not if there is no item in it.
func TestDivisionWhenAnItemTakesMore(t *testing.T) {
	const mib = 1 << 20
	two := memory.Learned{Key: "two", Sizes: []memory.SizeTook{{Batch: 1, Bytes: 4000 * mib, Seconds: 1}, {Batch: 2, Bytes: 8000 * mib, Seconds: 1.5}}}
	other := two
	other.Key = "other"
	both := share(t, []int64{8300 * mib}, []memory.Learned{two, other}, "two", "other")
	first := both[0]
	room := memory.Room{Budget: 8300*mib - both[1].held}
	first.Ran("", memory.Ran{Batch: 1, Seconds: 1, Bytes: 4200 * mib}, room)
	both[1].Ran("", memory.Ran{Batch: 1, Seconds: 1}, memory.Room{Allocated: 4000 * mib})
	room.Budget = 4300 * mib
	if c := first.Next("", room); c.Batch != 1 {
		t.Errorf("an item takes 4200 MiB of 4300, and %d may run: %s", c.Batch, c.Rule)
	}
}

// What does not run has no part, and what is asked for the first time has one.
func TestIdleWorkloadsLeaveTheirPart(t *testing.T) {
	const gib = 1 << 30
	now := time.Unix(0, 0)
	g := newGovernor(t, memory.GovernorOptions{
		Clock: func() time.Time { return now }, Learned: []memory.Learned{learned("a", gib/64, 0.1, 0.001)},
	})
	a := g.Workload(memory.WorkloadOptions{Key: "a", Device: "gpu:0"})
	b := g.Workload(memory.WorkloadOptions{Key: "a", Device: "gpu:0"})
	elsewhere := g.Workload(memory.WorkloadOptions{Key: "a", Device: "gpu:1"})
	elsewhere.Next("", memory.Room{Budget: 8 * gib})
	runs := func(w *memory.Workload) int {
		batch := 0
		for range 40 {
			c := w.Next("", memory.Room{Budget: 8 * gib})
			if c.Batch == 0 {
				t.Fatal("no room")
			}
			batch = c.Batch
			w.Ran("", memory.Ran{Batch: batch, Seconds: 0.1 + 0.001*float64(batch)}, memory.Room{Budget: 8 * gib})
		}
		return batch
	}
	if got := runs(a); got < 450 {
		t.Errorf("alone it runs %d at once, want about 500", got)
	}
	b.Next("", memory.Room{Budget: 8 * gib}) // it has not run yet
	if got := runs(a); got < 200 || got > 256 {
		t.Errorf("beside another it runs %d at once", got)
	}
	now = now.Add(11 * time.Second)
	if got := runs(a); got < 450 {
		t.Errorf("beside an idle one it runs %d at once", got)
	}
	b.Next("", memory.Room{Budget: 8 * gib})
	b.Close()
	b.Close()
	if got := runs(a); got < 450 {
		t.Errorf("beside a closed one it runs %d at once", got)
	}
}

// Images of two sizes pass one session in turn. What has room for the larger has room
// for the smaller: the arena is given back to grow, not at each change.
func TestShapesShareAnArena(t *testing.T) {
	const mib = 1 << 20
	g := newGovernor(t, memory.GovernorOptions{})
	w := g.Workload(memory.WorkloadOptions{Key: "k"})
	perItem := map[string]int64{"large": 40 * mib, "small": 10 * mib}
	held, shrinks := int64(0), 0
	for run := range 400 {
		for shape, each := range perItem {
			room := memory.Room{Budget: 4096 * mib, Allocated: held}
			c := w.Next(shape, room)
			if c.Shrink {
				held = 0
				if run >= 200 {
					shrinks++
				}
			}
			need := each * int64(c.Batch)
			r := memory.Ran{Batch: c.Batch, Seconds: 0.02 + 0.001*float64(c.Batch)}
			if held == 0 {
				held, r.Bytes = need, need
			}
			if held < need {
				t.Fatalf("run %d of %d bytes has to grow an arena of %d", run, need, held)
			}
			room.Allocated = held
			w.Ran(shape, r, room)
		}
	}
	if shrinks > 20 {
		t.Errorf("in 400 runs the arena was given back %d times", shrinks)
	}
	// Only small ones come: what they do not need is for others.
	for range 20 {
		c := w.Next("small", memory.Room{Budget: 4096 * mib, Allocated: held, Items: 3})
		if c.Shrink {
			held = 30 * mib
		}
		w.Ran("small", memory.Ran{Batch: 3, Seconds: 0.023}, memory.Room{Budget: 4096 * mib, Allocated: held})
	}
	if held != 30*mib {
		t.Errorf("it keeps %d bytes and needs 30 MiB", held)
	}
}

// Where others have taken what there was, what is known of a network is not to blame
// that it had no room.
func TestOthersAreToBlame(t *testing.T) {
	const gib = 1 << 30
	for name, tt := range map[string]struct {
		after memory.Room
		need  int64
		keeps bool
	}{
		"others have taken all":       {memory.Room{Budget: 8 * gib, Scarce: true}, 0, true},
		"less is left than it takes":  {memory.Room{Budget: gib}, 0, true},
		"there is room":               {memory.Room{Budget: 8 * gib}, 0, false},
		"it needs more than was said": {memory.Room{Budget: gib}, 9 * gib, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGovernor(t, memory.GovernorOptions{Learned: []memory.Learned{learned("k", gib/64, 0.1, 0.001)}})
			w := g.Workload(memory.WorkloadOptions{Key: "k"})
			w.Next("", memory.Room{Budget: 8 * gib})
			w.Ran("", memory.Ran{Batch: 512, OutOfMemory: true, Need: tt.need}, tt.after)
			kept := false
			for _, s := range g.Learned()[0].Sizes {
				kept = kept || s.Batch == 512 && s.Bytes == 8*gib
			}
			if kept != tt.keeps {
				t.Errorf("what 512 items take is kept: %t", kept)
			}
		})
	}
}

func TestManyShapesComeAndGo(t *testing.T) {
	g := newGovernor(t, memory.GovernorOptions{})
	w := g.Workload(memory.WorkloadOptions{Key: "k"})
	for i := range 5000 {
		shape := fmt.Sprint(i)
		if got := w.Target(shape, 0); got != 1 {
			t.Fatalf("of a new shape %d items are worth collecting", got)
		}
		c := w.Next(shape, memory.Room{Budget: 1 << 30})
		w.Ran(shape, memory.Ran{Batch: c.Batch, Seconds: 0.1, Bytes: 1 << 20}, memory.Room{Budget: 1 << 30})
	}
	if got := len(g.Learned()); got > 1024 {
		t.Errorf("%d shapes are remembered", got)
	}
}

func TestUnknownStrategy(t *testing.T) {
	_, err := memory.NewGovernor(memory.GovernorOptions{Strategy: "clever"})
	if err == nil || err.Error() != `there is no strategy "clever": use one of adaptive, fixed, halving` {
		t.Error(err)
	}
}

// Who has tried nothing is tried first; then the one that would be done first.
func TestSoonest(t *testing.T) {
	g := newGovernor(t, memory.GovernorOptions{})
	slow, fast := g.Workload(memory.WorkloadOptions{Key: "slow"}), g.Workload(memory.WorkloadOptions{Key: "fast"})
	both := []*memory.Workload{slow, fast}
	for _, w := range both {
		if got := g.Soonest(both, ""); got != w {
			t.Fatal("the one that has not run is not tried")
		}
		w.Queue(1)
		w.Next("", memory.Room{Budget: 1 << 30})
		for range 3 {
			w.Ran("", memory.Ran{Batch: 1, Seconds: map[*memory.Workload]float64{slow: 3, fast: 1}[w]}, memory.Room{Budget: 1 << 30})
		}
		w.Queue(-5) // more than there was
	}
	counts := map[*memory.Workload]int{}
	for range 40 {
		w := g.Soonest(both, "")
		w.Queue(1)
		counts[w]++
	}
	if counts[slow] != 10 || counts[fast] != 30 {
		t.Errorf("%d for the slow one, %d for the one three times as fast", counts[slow], counts[fast])
	}
}

// Several goroutines use one Governor; the race detector looks on.
func TestGovernorAtOnce(t *testing.T) {
	var mu sync.Mutex
	decisions := 0
	g := newGovernor(t, memory.GovernorOptions{Decided: func(memory.Decision) { mu.Lock(); decisions++; mu.Unlock() }})
	var all sync.WaitGroup
	const each = 500
	var workloads []*memory.Workload
	for i := range 4 {
		workloads = append(workloads, g.Workload(memory.WorkloadOptions{Name: "n", Key: "k", Device: fmt.Sprint("gpu:", i%2)}))
	}
	for _, w := range workloads {
		all.Go(func() {
			defer w.Close()
			for run := range each {
				shape := fmt.Sprint(run % 3)
				w.Queue(1)
				r := memory.Room{Budget: int64(run) << 20, Allocated: int64(run) << 19, Scarce: run%7 == 0}
				c := w.Next(shape, r)
				w.Ran(shape, memory.Ran{Batch: max(c.Batch, 1), Seconds: 0.1, Bytes: int64(c.Batch) << 18, OutOfMemory: run%50 == 49}, r)
				w.Queue(-1)
				w.Target(shape, 0)
				if run%100 == 0 {
					g.Soonest(workloads, shape)
					g.Accounts()
					g.Learned()
					w.Opened()
				}
			}
		})
	}
	all.Wait()
	var runs int64
	for _, a := range g.Accounts() {
		runs += a.Runs + int64(a.OutOfMemory)
	}
	if runs != 4*each || decisions == 0 {
		t.Errorf("%d runs are counted, %d decisions", runs, decisions)
	}
}

// Who is told of a decision may ask the Governor for anything, also for another one.
func TestWhoIsToldMayCall(t *testing.T) {
	var g *memory.Governor
	var other *memory.Workload
	room := memory.Room{Budget: 1 << 30}
	var told []string
	g = newGovernor(t, memory.GovernorOptions{Decided: func(d memory.Decision) {
		told = append(told, d.Name)
		g.Accounts()
		g.Learned()
		other.Target("", 0)
		other.Next("", room)
	}})
	w := g.Workload(memory.WorkloadOptions{Name: "w", Key: "w"})
	other = g.Workload(memory.WorkloadOptions{Name: "other", Key: "other"})
	w.Next("", room)
	if got := strings.Join(told, ", "); got != "w, other" {
		t.Errorf("told was of %s", got)
	}
}

// turns is a strategy that wants one item and two in turn.
type turns struct{ next int }

func (s *turns) Next(memory.Situation) memory.Choice {
	s.next = s.next%2 + 1
	return memory.Choice{Batch: s.next, Rule: memory.RuleProbe}
}
func (*turns) Ran(memory.Situation, memory.Ran) {}

// Each decision is told once, and in the order in which they were made.
func TestDecisionsAreToldOnce(t *testing.T) {
	const workloads, goroutines, each = 4, 3, 200
	var mu sync.Mutex
	told := map[string][]memory.Decision{}
	g := newGovernor(t, memory.GovernorOptions{
		Strategy: "turns", Strategies: memory.Strategies{"turns": func(int) memory.Strategy { return &turns{} }},
		Decided: func(d memory.Decision) {
			mu.Lock()
			defer mu.Unlock()
			told[d.Name] = append(told[d.Name], d)
		},
	})
	var all sync.WaitGroup
	for i := range workloads {
		w := g.Workload(memory.WorkloadOptions{Name: fmt.Sprint(i), Device: "gpu:0"})
		for range goroutines {
			all.Go(func() {
				for range each {
					w.Next("", memory.Room{Budget: math.MaxInt64})
				}
			})
		}
	}
	all.Wait()
	for i := range workloads {
		decisions := told[fmt.Sprint(i)]
		if len(decisions) != goroutines*each {
			t.Fatalf("%d of %d decisions are told", len(decisions), goroutines*each)
		}
		before := 0
		for _, d := range decisions {
			if d.From != before {
				t.Fatalf("after %d items comes %q", before, d)
			}
			before = d.To
		}
	}
}

func TestDecisionsInWords(t *testing.T) {
	const gib = 1 << 30
	d := memory.Decision{Name: "clip", Device: "gpu:0", From: 2, To: 8}
	with := func(change func(*memory.Decision)) memory.Decision {
		d := d
		change(&d)
		return d
	}
	for _, tt := range []struct {
		d    memory.Decision
		want string
	}{
		{
			with(func(d *memory.Decision) { d.Rule, d.Need, d.Budget, d.Rate = memory.RuleSpeed, 3*gib, 8*gib, 123.456 }),
			"clip on gpu:0 takes 8 items at once now, 2 before: more would hardly be faster (about 3 GiB of 8 GiB; 123.5 items/s)",
		}, {
			with(func(d *memory.Decision) { d.Rule, d.From, d.To, d.Budget = memory.RuleProbe, 0, 1, 8*gib }),
			"clip on gpu:0 begins with 1 item at once: to learn what a run takes",
		}, {
			with(func(d *memory.Decision) { d.Rule, d.To, d.Need, d.Budget = memory.RulePressure, 1, gib, 2*gib }),
			"clip on gpu:0 takes 1 item at once now, 2 before: others have taken memory (about 1 GiB of 2 GiB)",
		}, {
			with(func(d *memory.Decision) { d.Rule, d.Need, d.Budget = memory.RulePinned, gib, math.MaxInt64 }),
			"clip on gpu:0 takes 8 items at once now, 2 before: pinned by the pipeline, or by the network (about 1 GiB)",
		}, {
			with(func(d *memory.Decision) { d.Rule, d.To, d.Need, d.Budget = memory.RuleNoRoom, 0, gib, -5*gib }),
			"clip on gpu:0 waits for room for an item: it takes about 1 GiB, and nothing is left for it",
		}, {
			with(func(d *memory.Decision) { d.Rule, d.To, d.Need, d.Budget = memory.RuleNoRoom, 0, gib, gib/2 }),
			"clip on gpu:0 waits for room for an item: it takes about 1 GiB, and 512 MiB are left for it",
		}, {
			with(func(d *memory.Decision) { d.Rule, d.To = memory.RuleNoRoom, 0 }),
			"clip on gpu:0 waits for room for an item: nothing is left for it",
		}, {
			with(func(d *memory.Decision) { d.Look, d.Rule, d.Allocated = true, memory.RulePressure, 3*gib }),
			"clip on gpu:0 gives back 3 GiB, to see what others leave of it",
		}, {
			with(func(d *memory.Decision) { d.Rule = "my own" }),
			"clip on gpu:0 takes 8 items at once now, 2 before: my own",
		},
	} {
		if got := tt.d.String(); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

// What a network did on a device, in two lines that a person understands.
func TestAccountsInWords(t *testing.T) {
	g := newGovernor(t, memory.GovernorOptions{Strategy: memory.Fixed})
	room := memory.Room{Budget: 1 << 30}
	run := func(w *memory.Workload, batch int, failed bool) {
		w.Next("", room)
		w.Ran("", memory.Ran{Batch: batch, Seconds: 0.5, OutOfMemory: failed}, room)
	}
	w := g.Workload(memory.WorkloadOptions{Name: "clip", Device: "gpu:0"})
	unused := g.Workload(memory.WorkloadOptions{Name: "other", Device: "gpu:0"})
	unused.Close()
	for range 9 {
		run(w, 8, false)
	}
	w.Close()
	w = g.Workload(memory.WorkloadOptions{Name: "clip", Device: "gpu:0"})
	run(w, 8, true)
	run(w, 4, false)
	run(w, 3, false)
	one := g.Workload(memory.WorkloadOptions{Name: "one", Device: "gpu:1"})
	run(one, 1, false)
	failed := g.Workload(memory.WorkloadOptions{Name: "failed", Device: "gpu:1"})
	run(failed, 8, true)
	run(failed, 4, true)

	var got []string
	for _, a := range g.Accounts() {
		got = append(got, a.Did(), a.Limit())
	}
	want := []string{
		"clip on gpu:0: 79 parts in 11 runs, most of them 8 at once; ran out of memory once, and repeated that in smaller batches",
		"limited by the batch, which is pinned by the pipeline, or by the network (91 % of the parts)",
		"one on gpu:1: 1 part in 1 run",
		"limited by what comes before: it did not get more parts at once (100 % of the parts)",
		"failed on gpu:1: no part done; ran out of memory 2 times, and repeated that in smaller batches",
		"nothing was done, so that nothing limited it",
	}
	if a, b := strings.Join(got, "\n"), strings.Join(want, "\n"); a != b {
		t.Errorf("got\n%s\nwant\n%s", a, b)
	}
	accounts := g.Accounts()
	accounts[0].Limited[memory.RulePinned] = 0
	if g.Accounts()[0].Limited[memory.RulePinned] == 0 {
		t.Error("who got an account can change it")
	}
}

// What limited a network most is said of any strategy's rules.
func TestLimitsInWords(t *testing.T) {
	for name, tt := range map[string]struct {
		limited map[memory.Rule]int64
		want    string
	}{
		"most were to learn":    {map[memory.Rule]int64{memory.RuleProbe: 60, memory.RuleSpeed: 40}, "it was over before the best batch had been found out (60 % of the parts)"},
		"what tells more":       {map[memory.Rule]int64{memory.RuleProbe: 50, memory.RuleMemory: 50}, "limited by the device's memory: with more of it, larger batches would be faster (50 % of the parts)"},
		"no room":               {map[memory.Rule]int64{memory.RuleNoRoom: 100}, "limited by the device's memory: there was hardly room for a part (100 % of the parts)"},
		"a rule of one's own":   {map[memory.Rule]int64{memory.RuleProbe: 20, "the moon": 80}, "limited by the moon (80 % of the parts)"},
		"two of one's own":      {map[memory.Rule]int64{"the sun": 50, "the moon": 50}, "limited by the moon (50 % of the parts)"},
		"a strategy is silent":  {map[memory.Rule]int64{"": 100}, "nobody said what limited it"},
		"nobody said what next": {nil, "nobody said what limited it"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (memory.Account{Runs: 10, Items: 100, Limited: tt.limited}).Limit(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// A network that takes a batch of one size gets it whatever the strategy says, or
// nothing, and its cost is that of the whole batch.
func TestFixedBatch(t *testing.T) {
	const mib = 1 << 20
	g := newGovernor(t, memory.GovernorOptions{Strategies: memory.Strategies{memory.Adaptive: func(int) memory.Strategy {
		return spy{&turns{}, func(s memory.Situation, _ memory.Choice) { t.Errorf("the strategy is asked about %+v", s) }}
	}}})
	w := g.Workload(memory.WorkloadOptions{Key: "k", Batch: 4, Fixed: true, Most: 2})
	room := memory.Room{Budget: 1000 * mib, Items: 1}
	next := func(want memory.Choice) {
		t.Helper()
		if got := w.Next("", room); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if got := w.Target("", 0); got != 4 {
			t.Errorf("%d items are worth collecting", got)
		}
	}
	next(memory.Choice{Batch: 4, Rule: memory.RulePinned})
	w.Ran("", memory.Ran{Batch: 1, Seconds: 0.1, Bytes: 400 * mib}, room)
	w.Ran("", memory.Ran{Batch: 1, Seconds: 0.1}, room)
	want := memory.SizeTook{Batch: 4, Bytes: 400 * mib, Seconds: 0.1}
	if got := g.Learned()[0].Sizes; len(got) != 1 || got[0] != want {
		t.Errorf("learned is %+v, want %+v", got, want)
	}
	if got := w.Bytes("", 1); got != 400*mib {
		t.Errorf("one item takes %d bytes, want 400 MiB", got)
	}
	if a := g.Accounts()[0]; a.Items != 2 || a.Limited[memory.RuleInput] != 2 {
		t.Errorf("2 items in 2 runs: %+v", a)
	}
	room.Budget, room.Allocated = 399*mib, 400*mib
	next(memory.Choice{Rule: memory.RuleNoRoom})
	room.Budget = 400 * mib
	next(memory.Choice{Batch: 4, Rule: memory.RulePinned})
	room.Allocated = 500 * mib
	next(memory.Choice{Batch: 4, Shrink: true, Rule: memory.RulePinned})
	w.Ran("", memory.Ran{Batch: 1, OutOfMemory: true, Need: 450 * mib}, room)
	next(memory.Choice{Rule: memory.RuleNoRoom})
}

// What a fixed batch takes is its part of a device, no less and hardly more.
func TestDivisionBesideAFixedBatch(t *testing.T) {
	const gib = 1 << 30
	g := newGovernor(t, memory.GovernorOptions{Learned: []memory.Learned{
		learned("a", gib/64, 0.1, 0.001), {Key: "fixed", Sizes: []memory.SizeTook{{Batch: 4, Bytes: 3 * gib, Seconds: 0.1}}},
	}})
	a := g.Workload(memory.WorkloadOptions{Key: "a", Device: "gpu:0"})
	fixed := g.Workload(memory.WorkloadOptions{Key: "fixed", Device: "gpu:0", Batch: 4, Fixed: true})
	room := memory.Room{Budget: 8 * gib}
	a.Next("", room)
	if c := fixed.Next("", room); c.Batch != 4 {
		t.Errorf("of 8 GiB it does not get 3: %+v", c)
	}
	fixed.Ran("", memory.Ran{Batch: 4, Seconds: 0.1, Bytes: 3 * gib}, memory.Room{Budget: 8 * gib, Allocated: 3 * gib})
	most := 0
	for range 40 {
		c := a.Next("", memory.Room{Budget: 5 * gib})
		most = c.Batch
		a.Ran("", memory.Ran{Batch: c.Batch, Seconds: 0.1 + 0.001*float64(c.Batch)}, memory.Room{Budget: 5 * gib})
	}
	if most < 280 || most > 320 {
		t.Errorf("beside it there is room for 320 items, and %d run", most)
	}
}

// A decision about a run, with what it took told afterwards. It shall take 5 us at most,
// whatever there is to know.
func BenchmarkDecide(b *testing.B) {
	const mib = 1 << 20
	for _, tt := range []struct {
		name              string
		networks, devices int
		sizes             int  // of batches that have been seen of each network
		shapes            int  // that come in turn; 0: always new ones
		noisy             bool // so are the bytes that there are and those that a run takes
	}{
		{name: "2 networks on each of 4 devices", networks: 8, devices: 4, sizes: 1, shapes: 1},
		{name: "3 networks on a device", networks: 3, devices: 1, sizes: 32, shapes: 1},
		{name: "6 networks on a device", networks: 6, devices: 1, sizes: 32, shapes: 1},
		{name: "12 networks on a device", networks: 12, devices: 1, sizes: 32, shapes: 1},
		{name: "12 networks on a device, others on it", networks: 12, devices: 1, sizes: 32, shapes: 1, noisy: true},
		{name: "two shapes in turn", networks: 3, devices: 1, sizes: 32, shapes: 2},
		{name: "new shapes", networks: 1, devices: 1, sizes: 1},
		{name: "runs after a shrink", networks: 1, devices: 1, sizes: 32, shapes: 1},
	} {
		b.Run(tt.name, func(b *testing.B) {
			g := newGovernor(b, memory.GovernorOptions{})
			var all []*memory.Workload
			for i := range tt.networks {
				all = append(all, g.Workload(memory.WorkloadOptions{Key: fmt.Sprint(i), Device: fmt.Sprint("gpu:", i%tt.devices)}))
			}
			room := memory.Room{Budget: 8 << 30}
			ran := func(i, shape, batch int) {
				r := memory.Ran{Batch: batch, Seconds: 0.02 + float64(batch)*float64(1000+i%30)*1e-6, Bytes: int64(batch) * 20 * mib}
				if tt.noisy {
					r.Bytes += int64(i*7919%200) << 10
				}
				all[i%len(all)].Ran(fmt.Sprint(shape), r, room)
			}
			shape := func(i int) int {
				if tt.shapes > 0 {
					return i / len(all) % tt.shapes
				}
				return i
			}
			decide := func(i int) {
				if tt.noisy {
					room.Budget = 8<<30 + int64(i*7919%200)*mib
				}
				c := all[i%len(all)].Next(fmt.Sprint(shape(i)), room)
				ran(i, shape(i), max(c.Batch, 1))
			}
			for i := range 10000 { // so that there is something to remember
				if i < 200*tt.sizes {
					ran(i, shape(i), 1+i%tt.sizes*7)
				}
				decide(i)
			}
			b.ReportAllocs()
			i := 10000
			for b.Loop() {
				decide(i)
				i++
			}
		})
	}
}
