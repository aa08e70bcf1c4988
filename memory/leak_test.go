package memory_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/memory"
)

// leaky simulates a process whose floor is that of a sound one, with noise of up
// to 20 MiB, and what its stages have kept.
type leaky struct {
	random  *rand.Rand
	stages  []string
	leak    map[string]int64            // bytes that a stage keeps of each batch
	sound   func(batches float64) int64 // bytes that come and stay for other reasons
	batches int64
	kept    int64
}

func (p *leaky) floor() int64 {
	n := 100*mib + p.kept + p.random.Int64N(40*mib) - 20*mib
	if p.sound != nil {
		n += p.sound(float64(p.batches))
	}
	return n
}

// watch goes through batches of the whole chain, with a clean-up after each so
// many of them, until something is found. It returns the clean-ups of the chain.
func (p *leaky) watch(w *memory.LeakWatch, each, most int64) (l memory.Leak, found bool, cleanups int) {
	for p.batches < most {
		p.batches += each
		for _, s := range p.stages {
			p.kept += p.leak[s] * each
		}
		cleanups++
		w.Observe(p.batches, p.floor())
		for {
			stage, n, ok := w.Next()
			if !ok {
				break
			}
			before := p.floor()
			p.kept += p.leak[stage] * n
			w.Solo(stage, n, p.floor()-before)
		}
		if l, ok := w.Verdict(); ok {
			return l, true, cleanups
		}
	}
	return l, false, cleanups
}

var leakStages = []string{"tile", "score", "hash", "write"}

func TestLeakWatchNamesTheStage(t *testing.T) {
	for _, perBatch := range []int64{1, 2, 5, 20} {
		for _, each := range []int64{16, 64} {
			t.Run(fmt.Sprintf("%d MiB a batch, %d batches a clean-up", perBatch, each), func(t *testing.T) {
				if perBatch*each < 40 {
					t.Skip("so little in so few batches takes more than ten clean-ups to tell from the noise")
				}
				late, wrong := 0, 0
				const seeds = 200
				for seed := range uint64(seeds) {
					r := rand.New(rand.NewPCG(seed, 1))
					guilty := leakStages[r.IntN(len(leakStages))]
					p := &leaky{random: r, stages: leakStages, leak: map[string]int64{guilty: perBatch * mib}}
					l, found, n := p.watch(memory.NewLeakWatch(memory.LeakOptions{Device: "host", Stages: leakStages}), each, 10_000)
					if !found || n > 10 {
						late++
					}
					if found && (!slices.Contains(l.Stages, guilty) || l.Certain && len(l.Stages) != 1 || !strings.Contains(l.Text, guilty)) {
						wrong++
					}
				}
				if late > seeds/100 || wrong > seeds/100 {
					t.Errorf("of %d, %d were not found within 10 clean-ups, and %d blame somebody else", seeds, late, wrong)
				}
			})
		}
	}
}

func TestLeakWatchLeavesSoundChainsAlone(t *testing.T) {
	for name, sound := range map[string]func(float64) int64{
		"noise alone":           func(float64) int64 { return 0 },
		"an index is loaded":    func(b float64) int64 { return map[bool]int64{true: 300 * mib}[b > 3000] },
		"a cache fills":         func(b float64) int64 { return int64(100 * float64(mib) * min(b/300, 1)) },
		"it has large pieces":   func(b float64) int64 { return int64(int(b)/64%5) * 8 * mib },
		"it shrinks in the end": func(b float64) int64 { return -int64(b) * kib },
	} {
		t.Run(name, func(t *testing.T) {
			wrong := 0
			const seeds = 200
			for seed := range uint64(seeds) {
				p := &leaky{random: rand.New(rand.NewPCG(seed, 2)), stages: leakStages, sound: sound}
				if l, found, n := p.watch(memory.NewLeakWatch(memory.LeakOptions{Device: "host", Stages: leakStages}), 32, 10_000); found {
					wrong++
					t.Logf("after %d clean-ups: %s", n, l.Text)
				}
			}
			if wrong > 0 {
				t.Errorf("%d of %d sound chains were accused", wrong, seeds)
			}
		})
	}
}

// Where the growth belongs to no stage alone, those that can be are listed.
func TestLeakWatchListsCandidates(t *testing.T) {
	p := &leaky{random: rand.New(rand.NewPCG(1, 3)), stages: leakStages, sound: func(b float64) int64 { return int64(b) * 5 * mib }}
	l, found, _ := p.watch(memory.NewLeakWatch(memory.LeakOptions{Device: "host", Stages: leakStages}), 32, 10_000)
	if !found || l.Certain || !slices.Equal(l.Stages, leakStages) {
		t.Errorf("found %v: %+v", found, l)
	}
}
