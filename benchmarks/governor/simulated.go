package main

import (
	"fmt"
	"math"
	"time"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/sim"
)

// table is what the policies did under a workload.
type table struct {
	w       workload
	oracles []oracle // of each chain, with the first seed
	rows    []row
}

type row struct {
	policy policy
	cells  [][]figures // of each chain, of each seed
	shown  []sim.Turn  // of the drive that the picture shows
}

// shown is the number of the chain that the pictures show, with the first seed: the
// middle one.
func (w *workload) shown() int { return len(w.chains) / 2 }

// lag is by how much the readings of simulated cards are late.
const lag = 100 * time.Millisecond

func measureSimulated(seeds int) ([]table, error) {
	var tables []table
	for _, w := range simulated() {
		t := table{w: w}
		for _, c := range w.chains {
			t.oracles = append(t.oracles, w.oracle(c, 0))
		}
		for _, p := range []policy{adaptivePolicy, calibratedPolicy, noShrinkPolicy, bestPolicy, safePolicy, halvingPolicy, aimdPolicy} {
			if p.best && len(w.cards) > 1 {
				continue // a batch is told to all cards, and each has another best
			}
			r := row{policy: p}
			for i, c := range w.chains {
				var cell []figures
				for seed := range uint64(seeds) {
					f, turns, err := w.drive(p, c, seed)
					if err != nil {
						return nil, fmt.Errorf("%s, %s, %s: %w", w.name, p.name, c.name, err)
					}
					cell = append(cell, f)
					if i == w.shown() && seed == 0 {
						r.shown = turns
					}
				}
				r.cells = append(r.cells, cell)
			}
			t.rows = append(t.rows, r)
		}
		tables = append(tables, t)
	}
	return tables, nil
}

// options are those of a drive, but for the neighbours and the policy's.
func (w *workload) options(c chain, seed uint64) sim.DriveOptions {
	o := sim.DriveOptions{Chain: c.networks, Lasts: w.lasts, Seed: seed, Lose: w.lost}
	for _, card := range w.cards {
		o.Devices = append(o.Devices, sim.Config{Total: card.total, Speed: card.speed, Lag: lag})
	}
	return o
}

// drive is one drive.
func (w *workload) drive(p policy, c chain, seed uint64) (figures, []sim.Turn, error) {
	best, wants := w.oracle(c, seed), w.trace(seed)
	o := w.options(c, seed)
	for i := range o.Devices {
		o.Devices[i].Others = wants
	}
	o.Governor = memory.GovernorOptions{Strategy: p.strategy, Strategies: strategies()}
	for i := range c.networks {
		b := p.batch
		if p.best {
			b = best.splits[0].batches[i]
		}
		o.Batch = append(o.Batch, b)
	}
	if p.calibrated {
		before := w.options(c, seed+calibrationSeeds)
		before.Lose, before.Lasts = nil, calibrationTime
		driven, err := sim.Drive(before)
		if err != nil {
			return figures{}, nil, fmt.Errorf("calibrating: %w", err)
		}
		o.Governor.Learned = driven.Learned
	}
	var turns []sim.Turn
	o.Watch = func(t sim.Turn) { turns = append(turns, t) }
	driven, err := sim.Drive(o)
	if err != nil {
		return figures{}, nil, err
	}
	f := figures{
		share:       rate(turns, len(c.networks)-1, w.steady, w.lasts) / best.rate,
		outOfMemory: driven.OutOfMemory,
		had:         math.NaN(),
		lost:        driven.Begun - driven.Done - driven.OnTheWay,
	}
	for _, t := range turns {
		if t.Batch == 0 && t.At >= w.steady {
			f.waited++
		}
	}
	if len(w.cards) == 1 {
		f.had = had(turns, w.cards[0].total, wants, w.lasts)
	}
	if len(c.networks) == 1 {
		f.runs(w, c.networks[0], best, turns)
	}
	return f, turns, nil
}

// The drive from which a calibrated one has what it knows.
const (
	calibrationTime  = 30 * time.Second
	calibrationSeeds = 1000
)

// runs counts runs until something was reached, on the card where that took most.
func (f *figures) runs(w *workload, n sim.Network, best oracle, turns []sim.Turn) {
	perSecond := func(b int) float64 { return float64(b) / n.Seconds(b) }
	for i, s := range best.splits {
		r := first(turns, i, 0, func(b int) bool { return perSecond(b) >= near*perSecond(s.batches[0]) })
		if r == 0 {
			f.reached = 0
			break
		}
		f.reached = max(f.reached, r)
	}
	if w.leaves > 0 {
		before := batchAt(turns, w.comes)
		f.back = first(turns, 0, w.leaves, func(b int) bool { return perSecond(b) >= same*perSecond(before) })
	}
}
