package memory_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/forgepipe/forgepipe/memory"
)

// process is a chain whose floor is simulated.
type process struct {
	random   *rand.Rand
	stages   []string
	leaks    map[string]float64            // bytes a batch, by stage
	together float64                       // bytes a batch, only when all run
	clean    func(batches float64) float64 // what a sound chain keeps after so many
	noise    float64
	alone    bool // stages can be run alone

	batches float64 // of the whole chain
	worked  float64 // batches by any stage: what warms caches up
	leaked  float64
}

func (p *process) run(batches int64) {
	p.batches += float64(batches)
	p.worked += float64(batches)
	for _, l := range p.leaks {
		p.leaked += l * float64(batches)
	}
	p.leaked += p.together * float64(batches)
}

func (p *process) floor() int64 {
	return int64(300*float64(mib) + p.leaked + p.clean(p.worked) + p.noise*(2*p.random.Float64()-1))
}

// investigate does what an engine does on suspicion.
func (p *process) investigate(w *memory.LeakWatch) (solos int) {
	for {
		stage, batches, ok := w.Next()
		if !ok {
			return solos
		}
		if !p.alone {
			w.Solo(stage, 0, 0)
			continue
		}
		before := p.floor()
		p.leaked += p.leaks[stage] * float64(batches)
		p.worked += float64(batches)
		w.Solo(stage, batches, p.floor()-before)
		solos++
	}
}

// watch runs the chain until a verdict, and counts clean-ups and suspicions.
func (p *process) watch(each int64, most int) (l memory.Leak, found bool, cleanups, suspicions int) {
	w := memory.NewLeakWatch(memory.LeakOptions{Device: "host", Stages: p.stages})
	for cleanups = 1; cleanups <= most; cleanups++ {
		p.run(each)
		if w.Observe(int64(p.batches), p.floor()).BytesPerBatch > 0 {
			suspicions++
			p.investigate(w)
		}
		if l, found = w.Verdict(); found {
			return l, found, cleanups, suspicions
		}
	}
	return l, false, most, suspicions
}

var chain = []string{"tile", "score", "hash", "dedup", "write"}

func flat(float64) float64 { return 0 }

// warmUp is caches that fill, with the batches after which 63% are full.
func warmUp(bytes, batches float64) func(float64) float64 {
	return func(n float64) float64 { return bytes * (1 - math.Exp(-n/batches)) }
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

func TestSimLeak(t *testing.T) {
	for _, each := range []int64{8, 16, 64} {
		for _, rate := range []float64{1, 2, 5, 20} {
			missed, wrong, late := 0, 0, 0
			for seed := range uint64(2000) {
				p := &process{random: rand.New(rand.NewPCG(seed, 1)), stages: chain, clean: flat, noise: 20 * float64(mib), alone: true,
					leaks: map[string]float64{"hash": rate * float64(mib)}}
				l, ok, n, _ := p.watch(each, 10)
				if !ok {
					missed++
				} else if !l.Certain || !slices.Equal(l.Stages, []string{"hash"}) {
					wrong++
				}
				late = max(late, n)
			}
			t.Logf("each %d rate %v: missed %d wrong %d last %d", each, rate, missed, wrong, late)
		}
	}
}

func TestSimClean(t *testing.T) {
	m := float64(mib)
	for name, c := range map[string]func(r *rand.Rand) func(float64) float64{
		"flat": func(*rand.Rand) func(float64) float64 { return flat },
		"warm": func(r *rand.Rand) func(float64) float64 { return warmUp((50+450*r.Float64())*m, 8+100*r.Float64()) },
		"index": func(r *rand.Rand) func(float64) float64 {
			return steps(map[float64]float64{float64(r.IntN(2000)): 600 * m})
		},
		"heap": func(r *rand.Rand) func(float64) float64 {
			at := map[float64]float64{}
			for b := 20.0; b < 20000; b *= 1.3 + r.Float64() {
				at[b] += (4 + 60*r.Float64()) * m
			}
			return steps(at)
		},
		"steps": func(r *rand.Rand) func(float64) float64 {
			at := map[float64]float64{}
			for range 12 {
				at[r.Float64()*10000] += 64 * m
			}
			return steps(at)
		},
	} {
		for _, each := range []int64{8, 16, 64} {
			found, susp := 0, 0
			for seed := range uint64(150) {
				r := rand.New(rand.NewPCG(seed, 2))
				p := &process{random: r, stages: chain, clean: c(r), noise: 20 * m, alone: seed%3 != 0}
				l, ok, n, s := p.watch(each, int(10000/each))
				if ok {
					found++
					if found < 3 {
						t.Log(n, l.Text)
					}
				}
				susp += s
			}
			t.Logf("%s each %d: found %d suspicions %.2f a trace", name, each, found, float64(susp)/150)
		}
	}
}

var _ = fmt.Sprint
var _ = strings.Join
var _ = rapid.Check
