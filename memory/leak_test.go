package memory_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/forgepipe/forgepipe/memory"
)

// simulated is a process whose floor is made up.
type simulated struct {
	random   *rand.Rand
	stages   []string
	leaks    map[string]float64            // bytes a batch, by stage
	together float64                       // bytes a batch, only when all run
	sound    func(batches float64) float64 // what is kept after so many, and is no leak; nil: nothing
	noise    float64
	bound    []string // stages that cannot be run alone

	batches int64   // of the chain
	worked  float64 // also of stages alone: it warms caches up too
	leaked  float64
	alone   int64 // batches of stages alone
}

func newSimulated(seed uint64) *simulated {
	return &simulated{random: rand.New(rand.NewPCG(seed, 4)), stages: []string{"tile", "score", "hash", "dedup", "write"}, noise: 20 * float64(mib)}
}

func (p *simulated) floor() int64 {
	f := 300*float64(mib) + p.leaked + p.noise*(2*p.random.Float64()-1)
	if p.sound != nil {
		f += p.sound(p.worked)
	}
	return int64(f)
}

// investigate does what an engine does on suspicion.
func (p *simulated) investigate(w *memory.LeakWatch) {
	for {
		stage, batches, ok := w.Next()
		switch {
		case !ok:
			return
		case slices.Contains(p.bound, stage):
			w.Solo(stage, 0, 0)
			continue
		}
		before := p.floor()
		p.leaked += p.leaks[stage] * float64(batches)
		p.worked += float64(batches)
		p.alone += batches
		w.Solo(stage, batches, p.floor()-before)
	}
}

// slowCache is one that takes six clean-ups of 16 batches to fill by two thirds.
func slowCache(n float64) float64 { return 2 * float64(gib) * (1 - math.Exp(-n/96)) }

// run runs the chain and cleans up after each so many batches, until there is a
// verdict.
func (p *simulated) run(each int64, most int) (l memory.Leak, cleanups int, found bool) {
	w := memory.NewLeakWatch(memory.LeakOptions{Device: "host", Stages: p.stages})
	for cleanups = 1; cleanups <= most; cleanups++ {
		p.batches += each
		p.worked += float64(each)
		for _, l := range p.leaks {
			p.leaked += l * float64(each)
		}
		p.leaked += p.together * float64(each)
		if w.Observe(p.batches, p.floor()).BytesPerBatch > 0 {
			p.investigate(w)
		}
		if l, found = w.Verdict(); found {
			return l, cleanups, true
		}
	}
	return l, most, false
}

// What leaks is named within ten clean-ups, from 2 MiB a batch on whatever the
// noise. With 1 MiB at 8 batches a clean-up ten bring 72 MiB, under noise of 40
// from top to bottom, and some are found later.
func TestLeakIsNamedWithinTenCleanups(t *testing.T) {
	for name, tt := range map[string]struct {
		rate   float64 // MiB a batch
		each   int64
		misses int // of 500
	}{
		"1 MiB, 8 batches":   {1, 8, 12},
		"1 MiB, 16 batches":  {1, 16, 0},
		"1 MiB, 64 batches":  {1, 64, 0},
		"2 MiB, 8 batches":   {2, 8, 0},
		"5 MiB, 8 batches":   {5, 8, 0},
		"5 MiB, 64 batches":  {5, 64, 0},
		"20 MiB, 8 batches":  {20, 8, 0},
		"20 MiB, 64 batches": {20, 64, 0},
	} {
		t.Run(name, func(t *testing.T) {
			missed := 0
			for seed := range uint64(500) {
				p := newSimulated(seed)
				p.leaks = map[string]float64{"hash": tt.rate * float64(mib)}
				l, _, found := p.run(tt.each, 10)
				if !found {
					missed++
					continue
				}
				if !l.Certain || !slices.Equal(l.Stages, []string{"hash"}) {
					t.Fatalf("seed %d: %+v", seed, l)
				}
				if got := float64(l.BytesPerBatch) / float64(mib); got < tt.rate/2 || got > tt.rate*1.6 {
					t.Errorf("seed %d: %.1f MiB a batch", seed, got)
				}
			}
			if missed > tt.misses {
				t.Errorf("%d of 500 not found within ten clean-ups, want at most %d", missed, tt.misses)
			}
		})
	}
}

func TestAnyLeakIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newSimulated(rapid.Uint64().Draw(t, "seed"))
		stage := rapid.SampledFrom(p.stages).Draw(t, "stage")
		rate := rapid.Float64Range(1, 20).Draw(t, "MiB a batch")
		each := rapid.Int64Range(8, 64).Draw(t, "batches")
		p.noise = min(20, rate*float64(each)) * float64(mib)
		p.leaks = map[string]float64{stage: rate * float64(mib)}
		l, n, found := p.run(each, 30)
		if !found || !l.Certain || !slices.Equal(l.Stages, []string{stage}) {
			t.Fatalf("%v after %d clean-ups: %+v", found, n, l)
		}
		if rate*float64(each) >= 16 && n > 10 {
			t.Fatalf("only after %d clean-ups", n)
		}
	})
}

func TestSoundChainIsNeverReported(t *testing.T) {
	m := float64(mib)
	for name, sound := range map[string]func(*rand.Rand) func(float64) float64{
		"garbage": func(*rand.Rand) func(float64) float64 { return nil },
		"caches that warm up": func(r *rand.Rand) func(float64) float64 {
			bytes, batches := (50+450*r.Float64())*m, 8+60*r.Float64()
			return func(n float64) float64 { return bytes * (1 - math.Exp(-n/batches)) }
		},
		"an index is loaded": func(r *rand.Rand) func(float64) float64 {
			return steps(map[float64]float64{2000 * r.Float64(): 600 * m})
		},
		"a heap that grows ever more rarely": func(r *rand.Rand) func(float64) float64 {
			at := map[float64]float64{}
			for b := 20.0; b < 20000; b *= 1.3 + r.Float64() {
				at[b] += (4 + 60*r.Float64()) * m
			}
			return steps(at)
		},
		"a heap that grows at any time": func(r *rand.Rand) func(float64) float64 {
			at := map[float64]float64{}
			for range 12 {
				at[10000*r.Float64()] += 64 * m
			}
			return steps(at)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var alone, all int64
			for _, each := range []int64{8, 16, 64} {
				for seed := range uint64(40) {
					p := newSimulated(seed)
					p.sound = sound(p.random)
					if seed%4 == 0 {
						p.bound = p.stages
					}
					if l, n, found := p.run(each, int(10000/each)); found {
						t.Errorf("seed %d, %d batches, clean-up %d: %s", seed, each, n, l.Text)
					}
					alone, all = alone+p.alone, all+p.batches
				}
			}
			t.Logf("for suspicions stages ran alone for %.1f batches in 1000", 1000*float64(alone)/float64(all))
		})
	}
}

// Where no stage can be run alone only the evenness tells a leak from a cache.
func TestSlowCacheIsNoLeak(t *testing.T) {
	for seed := range uint64(200) {
		p := newSimulated(seed)
		p.sound, p.bound = slowCache, p.stages
		if l, n, found := p.run(16, 100); found {
			t.Errorf("seed %d, clean-up %d: %s", seed, n, l.Text)
		}
	}
}

// A leak that begins late does not hide behind the time before.
func TestLateLeakIsFound(t *testing.T) {
	for seed := range uint64(200) {
		p := newSimulated(seed)
		p.leaks = map[string]float64{"score": 0}
		w := memory.NewLeakWatch(memory.LeakOptions{Stages: p.stages})
		for n := 1; ; n++ {
			if n > 30 {
				p.leaks["score"] = 5 * float64(mib)
			}
			p.batches += 8
			p.leaked += 8 * p.leaks["score"]
			if w.Observe(p.batches, p.floor()).BytesPerBatch > 0 {
				p.investigate(w)
			}
			if l, found := w.Verdict(); found {
				if n <= 30 || !slices.Equal(l.Stages, []string{"score"}) {
					t.Errorf("seed %d, clean-up %d: %+v", seed, n, l)
				}
				break
			}
			if n >= 40 {
				t.Errorf("seed %d: not found in ten clean-ups", seed)
				break
			}
		}
	}
}

// steps is growth at given batches.
func steps(at map[float64]float64) func(float64) float64 {
	return func(n float64) (sum float64) {
		for batch, bytes := range at {
			if n >= batch {
				sum += bytes
			}
		}
		return sum
	}
}

func TestLeakVerdicts(t *testing.T) {
	five := 5 * float64(mib)
	for name, tt := range map[string]struct {
		leaks    map[string]float64
		together float64
		bound    []string
		stages   []string // nil: all
		certain  bool
		text     string
	}{
		"one stage": {
			leaks: map[string]float64{"score": five}, stages: []string{"score"}, certain: true, text: "score leaks about ",
		},
		"two stages": {
			leaks: map[string]float64{"tile": five, "write": five}, stages: []string{"tile", "write"}, certain: true, text: "tile and write leaks about ",
		},
		"only together":            {together: five, text: "no stage grows when it runs alone"},
		"none can run alone":       {leaks: map[string]float64{"score": five}, bound: newSimulated(0).stages, text: "running them alone could not tell"},
		"the one cannot run alone": {leaks: map[string]float64{"dedup": five}, bound: []string{"dedup"}, stages: []string{"dedup"}, text: "dedup may leak about "},
	} {
		t.Run(name, func(t *testing.T) {
			p := newSimulated(1)
			p.leaks, p.together, p.bound = tt.leaks, tt.together, tt.bound
			l, n, found := p.run(16, 10)
			if tt.stages == nil {
				tt.stages = p.stages
			}
			if !found || l.Certain != tt.certain || !slices.Equal(l.Stages, tt.stages) || !strings.Contains(l.Text, tt.text) || !strings.Contains(l.Text, "on host") {
				t.Errorf("%v after %d clean-ups: %+v", found, n, l)
			}
		})
	}
}

func TestObserve(t *testing.T) {
	leaking := func(w *memory.LeakWatch, from, to int64) (s memory.Suspicion) {
		for n := from; n <= to; n++ {
			s = w.Observe(n*10, n*50*mib)
		}
		return s
	}
	t.Run("four clean-ups are too few", func(t *testing.T) {
		w := memory.NewLeakWatch(memory.LeakOptions{Stages: []string{"a"}})
		if s := leaking(w, 1, 4); s != (memory.Suspicion{}) {
			t.Errorf("%+v", s)
		}
		if s := leaking(w, 5, 5); s.BytesPerBatch != 5*mib || s.Growth != 200*mib || s.Cleanups != 5 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("a clean-up without work in between counts once", func(t *testing.T) {
		w := memory.NewLeakWatch(memory.LeakOptions{Stages: []string{"a"}})
		leaking(w, 1, 4)
		if s := w.Observe(40, 300*mib); s.BytesPerBatch != 0 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("fewer batches are a new chain", func(t *testing.T) {
		w := memory.NewLeakWatch(memory.LeakOptions{Stages: []string{"a"}})
		leaking(w, 1, 5)
		if s := w.Observe(10, 300*mib); s.BytesPerBatch != 0 {
			t.Errorf("%+v", s)
		}
		if _, _, ok := w.Next(); ok {
			t.Error("the suspicion is still there")
		}
	})
	t.Run("growth that flattens is none", func(t *testing.T) {
		w := memory.NewLeakWatch(memory.LeakOptions{Stages: []string{"a"}})
		for n := range int64(10) {
			floor := 3 * float64(gib) * (1 - math.Exp(-float64(n)/2))
			if s := w.Observe(n*10, int64(floor)); s.BytesPerBatch != 0 {
				t.Errorf("clean-up %d: %+v", n, s)
			}
		}
	})
	t.Run("neither is a jump", func(t *testing.T) {
		w := memory.NewLeakWatch(memory.LeakOptions{Stages: []string{"a"}})
		for n := range int64(30) {
			if s := w.Observe(n*10, n%3*mib+n/15*gib); s.BytesPerBatch != 0 {
				t.Errorf("clean-up %d: %+v", n, s)
			}
		}
	})
	t.Run("a large floor wants more growth", func(t *testing.T) {
		w := memory.NewLeakWatch(memory.LeakOptions{Stages: []string{"a"}})
		for n := range int64(6) {
			if s := w.Observe(n*10, 80*gib+n*100*mib); s.BytesPerBatch != 0 {
				t.Errorf("%+v", s)
			}
		}
	})
	t.Run("without suspicion nothing is asked", func(t *testing.T) {
		w := memory.NewLeakWatch(memory.LeakOptions{Stages: []string{"a"}})
		w.Solo("a", 10, gib)
		if _, _, ok := w.Next(); ok {
			t.Error("Next asks")
		}
		if l, found := w.Verdict(); found {
			t.Errorf("%+v", l)
		}
	})
}

// An engine may have fewer batches at hand than Next asks for.
func TestSoloInPieces(t *testing.T) {
	w := memory.NewLeakWatch(memory.LeakOptions{Stages: []string{"a", "b"}})
	for n := int64(1); n <= 5; n++ {
		w.Observe(n*10, n*50*mib)
	}
	_, whole, _ := w.Next()
	asked := map[string]int{}
	for stage, n, ok := w.Next(); ok; stage, n, ok = w.Next() {
		if n < 1 || n > whole {
			t.Fatalf("asks for %d batches, at first for %d", n, whole)
		}
		asked[stage]++
		growth := int64(0)
		piece := min(n, whole/2+1)
		if stage == "b" {
			growth = piece * 5 * mib
		}
		w.Solo("elsewhere", piece, gib) // is no suspect
		w.Solo(stage, piece, growth)
	}
	l, found := w.Verdict()
	if !found || !l.Certain || !slices.Equal(l.Stages, []string{"b"}) || l.BytesPerBatch != 5*mib {
		t.Errorf("%v %+v", found, l)
	}
	if asked["a"] != 2 || asked["b"] < 4 {
		t.Errorf("asked %v times", asked)
	}
	if s := w.Observe(60, 500*mib); s.BytesPerBatch != 0 {
		t.Errorf("suspects again after the verdict: %+v", s)
	}
}
