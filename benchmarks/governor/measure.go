package main

import (
	"math"
	"time"

	"github.com/forgepipe/forgepipe/memory/sim"
)

// figures are what is reported of a drive.
type figures struct {
	share       float64 // of the oracle's rate, in the steady time
	reached     int     // number of the first run nearly as fast as the oracle's; 0: there was none
	back        int     // number of the first run, after the neighbour has left, as fast as before it came; 0: there was none
	outOfMemory int
	had         float64 // share of what the neighbour wanted that it could have; NaN: it wanted nothing
	lost        int64   // items that were begun, and are neither done nor on their way; less than 0: doubled ones
	waited      int     // times that a session had no room for one item in the steady time
}

// near is the share of the oracle's rate that is near enough to have reached it, and
// same the share of a rate that is no less.
const (
	near = 0.95
	same = 0.98
)

// rate is the items a second that pass a network in a time. Those of a run that is
// only in part in it count in part.
func rate(turns []sim.Turn, network int, from, until time.Duration) float64 {
	var items float64
	for _, t := range turns {
		inside := min(t.At+t.Took, until) - max(t.At, from)
		if t.Network == network && !t.OutOfMemory && inside > 0 {
			items += float64(t.Batch) * float64(inside) / float64(t.Took)
		}
	}
	return items / (until - from).Seconds()
}

// first is the number of the first run on a card, from a moment on, whose batch is
// good; 0 if there is none.
func first(turns []sim.Turn, card int, from time.Duration, good func(batch int) bool) int {
	runs := 0
	for _, t := range turns {
		if t.Device != card || t.At < from || t.Batch == 0 {
			continue
		}
		runs++
		if !t.OutOfMemory && good(t.Batch) {
			return runs
		}
	}
	return 0
}

// batchAt is the batch of the last run that began before a moment.
func batchAt(turns []sim.Turn, at time.Duration) (batch int) {
	for _, t := range turns {
		if t.At < at && t.Batch > 0 && !t.OutOfMemory {
			batch = t.Batch
		}
	}
	return batch
}

// had is the share of the bytes that a neighbour wanted of a card, over all the time,
// that were not in the sessions' hands.
func had(turns []sim.Turn, total int64, wants sim.Trace, lasts time.Duration) float64 {
	const step = 20 * time.Millisecond
	var wanted, got float64
	own, next := int64(0), 0
	for at := time.Duration(0); at < lasts; at += step {
		for ; next < len(turns) && turns[next].At <= at; next++ {
			own = turns[next].Own
		}
		w := wants.At(at)
		wanted += float64(w)
		got += float64(min(w, total-own))
	}
	if wanted == 0 {
		return math.NaN()
	}
	return got / wanted
}

// spread is a figure over several drives.
type spread struct{ mean, least, most float64 }

func spreadOf(all []figures, f func(figures) float64) spread {
	s := spread{least: math.Inf(1), most: math.Inf(-1)}
	for _, x := range all {
		v := f(x)
		s.mean += v / float64(len(all))
		s.least, s.most = min(s.least, v), max(s.most, v)
	}
	return s
}

// worst is the largest of numbers of runs, of which 0 is never: then it is so.
func worst(all []figures, f func(figures) int) (runs int, ever bool) {
	for _, x := range all {
		n := f(x)
		if n == 0 {
			return 0, false
		}
		runs = max(runs, n)
	}
	return runs, len(all) > 0
}
