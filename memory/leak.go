package memory

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

const (
	// leastCleanups is how many clean-ups it takes to suspect something, and
	// leastStrong how many where the growth is even and much.
	leastCleanups = 5
	leastStrong   = 4
	// mostCleanups bounds how far back the watch looks: what a run did long ago
	// hides what it does now.
	mostCleanups = 20
	// leastTrend is what the Mann-Kendall statistic must reach, in its own
	// standard deviations: of five clean-ups all pairs but one must have risen.
	leastTrend = 1.9
	// leastGrowth in bytes is what is worth a word; so is a hundredth of the
	// floor, where that is more.
	leastGrowth = 32 << 20
	// floorNoise is how far, in bytes, the floors of a sound chain lie from their
	// mean: garbage that one more collection would have freed, free blocks between
	// used ones.
	floorNoise = 20 << 20
	// trendSigmas is how far growth must stand out of the noise. Suspicions may be
	// wrong now and then: what decides are the stages run alone.
	trendSigmas = 3
	// priorWeight is for how many residuals the expected noise counts.
	priorWeight = 10
	// A chain that grows evenly, not in steps, has this share of its variance from
	// the line (two steps reach 0.89), strongGrowth times the growth that would
	// raise a suspicion, and a rate that is known to a tenth. It is asked for where
	// stages alone cannot settle it; then the next rate must be the sameRate, but
	// for a fifth, which caches that fill do not keep up.
	strongFit    = 0.93
	strongGrowth = 2
	strongSigmas = 10
	strongNoise  = 1.25
	sameRate     = 0.2
	// flattened is the share of the mean growth that is left at the end where a
	// cache has nearly filled.
	flattened = 0.7
	// aloneSigmas is the same for one stage alone. With uniform noise it is more
	// than noise can do: two readings of +-20 MiB differ by 40.
	aloneSigmas = 3.4
	// leastShare of the whole chain's growth makes a stage one of those that leak.
	leastShare = 0.3
	// sameGrowth is the share of the rate that a stage grew with before which must
	// stand out of the noise in its next trial.
	sameGrowth = 0.35
	// A stage must grow so often when run alone until it is blamed: sometimes it
	// is a cache or a heap that takes its next step. Where the chain's own growth
	// might be nothing else it takes more, and more again where the trials are so
	// long that a step falls into many of them.
	trialsStrong, trialsWeak, trialsLong = 3, 4, 5
	longTrial                            = 150 // batches
	// mostAlone is how many batches a stage is run alone for, at most, in a trial.
	mostAlone = 256
	// forgetAfter is after how many clean-ups without a new suspicion the last one
	// was nothing.
	forgetAfter = 12
)

// LeakOptions for NewLeakWatch.
type LeakOptions struct {
	// Device is for the text of a verdict.
	Device string
	// Stages are those that may leak, in the order of the chain.
	Stages []string
	// Noise is how many bytes the floor of a sound chain lies above or below its
	// mean; 0 is 20 MiB. Where more is observed, that counts.
	Noise int64
	// MostAlone is for how many batches, at most, Next asks for a stage alone in
	// one trial; 0 is 256. Less costs a suspected chain less time, and finds only
	// larger leaks: 256 batches show 0.5 MiB a batch.
	MostAlone int64
}

// LeakWatch finds memory that grows with the batches and never comes back, and
// the stage that keeps it. It has no clock and reads nothing: its owner tells it
// the floor after each clean-up, and when that raises a suspicion runs the
// stages alone, as Next says. It is not safe for use by several goroutines.
//
// The floor may jump (an index is loaded), rise and flatten (caches warm up), and
// scatter, without a verdict. What rises evenly over five clean-ups or more, and
// in one stage again and again when that runs alone, is called a leak, though it
// could be a cache that takes ten clean-ups and more to fill. From 2 MiB a batch on,
// at 8 batches a clean-up or more and noise of 20 MiB, a leaking stage is named
// within ten clean-ups; less takes longer to be told from noise. Where stages
// cannot be run alone, or it takes several to leak, even growth must show twice.
type LeakWatch struct {
	options LeakOptions

	seen      []observation // oldest first, at most mostCleanups
	suspicion Suspicion
	sigma     float64 // noise that the suspicion was raised in
	strong    bool    // it is even growth
	trials    []solo  // by index in options.Stages, while there is a suspicion
	// earlier is the rate of a suspicion that no stage alone explained; 0: none.
	earlier float64
	leak    Leak
	found   bool
}

// observation is the floor after a clean-up, in bytes.
type observation struct{ batches, floor float64 }

// solo is what one stage did when it ran alone.
type solo struct {
	refused bool // it cannot run alone
	grew    int  // trials in which it grew like a leak
	sound   bool // there was a trial in which it did not, though it would have shown
	done    int  // trials that are over
	batches int64
	growth  int64
	runs    int   // of the trial that is under way
	trial   int64 // its batches
	rise    int64 // and its growth
}

// Suspicion is growth that looks like a leak. The zero value is none.
type Suspicion struct {
	BytesPerBatch int64 // more than 0, or there is no suspicion
	Growth        int64 // bytes over the clean-ups that it was seen in
	Cleanups      int   // that it was seen in
}

// Leak is what a LeakWatch has found.
type Leak struct {
	Stages        []string // that leak, or of which one at least does
	BytesPerBatch int64    // by which the device's floor grows
	// Certain says that all of Stages leak when they run alone. Otherwise they are
	// candidates: the chain grows, and running them alone did not tell, or not all
	// could be run alone.
	Certain bool
	Text    string // for people, a sentence
}

// NewLeakWatch makes the watch of one device.
func NewLeakWatch(o LeakOptions) *LeakWatch {
	if o.Noise <= 0 {
		o.Noise = floorNoise
	}
	if o.MostAlone <= 0 {
		o.MostAlone = mostAlone
	}
	o.Stages = slices.Clone(o.Stages)
	return &LeakWatch{options: o}
}

// Observe takes the floor after a clean-up: the own bytes of the device less
// what the ledgers explain. batches is how many have gone through the chain so
// far; fewer than before is a new chain, of which nothing is known yet. It
// returns the suspicion that there is now; once a leak is found, none.
func (w *LeakWatch) Observe(batches, floor int64) Suspicion {
	if w.found {
		return Suspicion{}
	}
	o := observation{float64(batches), float64(floor)}
	if n := len(w.seen); n > 0 {
		switch last := &w.seen[n-1]; {
		case o.batches < last.batches:
			*w = LeakWatch{options: w.options}
		case o.batches == last.batches: // nothing was done in between
			last.floor = min(last.floor, o.floor)
			return w.suspicion
		}
	}
	w.seen = append(w.seen, o)
	if len(w.seen) > mostCleanups {
		w.seen = w.seen[1:]
	}
	if w.suspicion.BytesPerBatch > 0 {
		return w.suspicion // until it is decided
	}
	if len(w.seen) > forgetAfter {
		w.earlier = 0
	}
	// A leak may begin late, behind a long time without.
	for _, n := range []int{len(w.seen), 14, 10, 7, leastCleanups} {
		if n < leastStrong || n > len(w.seen) {
			continue
		}
		s, sigma, strong := suspect(w.seen[len(w.seen)-n:], float64(w.options.Noise))
		if n < leastCleanups && (!strong || w.earlier > 0) {
			continue
		}
		if s.BytesPerBatch <= 0 || !strong && (w.earlier > 0 || alone(s, sigma) > float64(w.options.MostAlone)) {
			continue
		}
		w.suspicion, w.sigma, w.strong = s, sigma, strong
		w.trials = make([]solo, len(w.options.Stages))
		break
	}
	return w.suspicion
}

// Next says which stage to run alone, all others being idle, and for how many
// batches, so that a leak of its own would stand out of the noise; then clean up
// and tell Solo. It is false when there is no suspicion, or all that can be found
// out is known: see Verdict.
func (w *LeakWatch) Next() (stage string, batches int64, ok bool) {
	if w.found || w.suspicion.BytesPerBatch <= 0 {
		return "", 0, false
	}
	for _, confirm := range []bool{false, true} {
		for i, t := range w.trials {
			open := t.done == 0
			if confirm {
				open = t.grew > 0 && t.grew == t.done && t.done < w.enough()
			}
			if open && !t.refused {
				return w.options.Stages[i], max(w.wants(t)-t.trial, 1), true
			}
		}
	}
	return "", 0, false
}

// enough is how many trials blame a stage.
func (w *LeakWatch) enough() int {
	switch {
	case w.need() >= longTrial:
		return trialsLong
	case w.strong:
		return trialsStrong
	default:
		return trialsWeak
	}
}

// need is how many batches of a stage with leastShare of the growth stand out.
func (w *LeakWatch) need() int64 {
	return int64(min(alone(w.suspicion, w.sigma), float64(w.options.MostAlone)))
}

// wants is how many batches this stage's trial takes. Where growth stands far out
// of the noise, a stage that has grown once shows in fewer whether it does so again.
func (w *LeakWatch) wants(t solo) int64 {
	if t.grew == 0 || !w.strong {
		return w.need()
	}
	again := math.Ceil(aloneSigmas * w.sigma * float64(t.batches-t.trial) / (sameGrowth * float64(t.growth-t.rise)))
	return min(w.need(), int64(again))
}

func alone(s Suspicion, sigma float64) float64 {
	return math.Ceil(aloneSigmas * sigma / (leastShare * float64(s.BytesPerBatch)))
}

// Solo takes what a stage alone did: by how many bytes the floor after a clean-up
// was higher than the one before, with so many batches in between. Fewer batches
// than Next asked for count, and Next asks for the rest. Zero batches say that
// the stage cannot be run alone, or not now.
func (w *LeakWatch) Solo(stage string, batches, growth int64) {
	i := slices.Index(w.options.Stages, stage)
	if w.found || w.suspicion.BytesPerBatch <= 0 || i < 0 {
		return
	}
	t := &w.trials[i]
	if batches <= 0 {
		t.refused = true
	} else {
		wanted, expected := w.wants(*t), leastShare*float64(w.suspicion.BytesPerBatch)
		if t.grew > 0 {
			expected = max(expected, sameGrowth*float64(t.growth-t.rise)/float64(t.batches-t.trial))
		}
		t.batches += batches
		t.growth += growth
		t.runs++
		t.trial += batches
		t.rise += growth
		if t.trial >= wanted {
			t.judge(expected, w.sigma)
		}
	}
	if _, _, more := w.Next(); !more {
		w.settle()
	}
}

// judge ends a trial of a stage that, if it leaks, keeps at least so much a batch.
func (t *solo) judge(expected, sigma float64) {
	share := expected * float64(t.trial)
	noise := aloneSigmas * sigma * math.Sqrt(float64(t.runs))
	switch {
	case float64(t.rise) >= max(share, noise):
		t.grew++
	case share >= noise*(1-1e-9): // a leak would have shown
		t.sound = true
	}
	t.done++
	t.runs, t.trial, t.rise = 0, 0, 0
}

// settle draws the conclusion once Next has nothing more to ask.
func (w *LeakWatch) settle() {
	var leaking, open []string
	var perBatch float64
	var evidence []string
	for i, t := range w.trials {
		stage := w.options.Stages[i]
		switch {
		case t.grew >= w.enough() && t.grew == t.done:
			leaking = append(leaking, stage)
			rate := float64(t.growth) / float64(t.batches)
			perBatch += rate
			evidence = append(evidence, fmt.Sprintf("%s grew by %s in %d batches run alone", stage, FormatBytes(t.growth), t.batches))
		case !t.sound:
			open = append(open, stage)
		}
	}
	rate := float64(w.suspicion.BytesPerBatch)
	chain := fmt.Sprintf("the chain grew by %s over %d clean-ups", FormatBytes(w.suspicion.Growth), w.suspicion.Cleanups)
	on := w.options.Device
	if on != "" {
		on = " on " + on
	}
	switch {
	case len(leaking) > 0:
		w.leak = Leak{Stages: leaking, BytesPerBatch: int64(perBatch), Certain: true,
			Text: fmt.Sprintf("%s leaks about %s a batch%s: %s, and %s",
				strings.Join(leaking, " and "), FormatBytes(int64(perBatch)), on, strings.Join(evidence, "; "), chain)}
	case w.earlier > 0 && math.Abs(rate-w.earlier) <= sameRate*w.earlier:
		why := "running them alone could not tell"
		if len(open) == 0 {
			open, why = slices.Clone(w.options.Stages), "no stage grows when it runs alone"
		}
		w.leak = Leak{Stages: open, BytesPerBatch: w.suspicion.BytesPerBatch,
			Text: fmt.Sprintf("%s may leak about %s a batch%s, perhaps only together with another: %s, twice, and %s",
				strings.Join(open, " or "), FormatBytes(w.suspicion.BytesPerBatch), on, chain, why)}
	default:
		// Once is not enough to accuse on. If it goes on, five more clean-ups show it.
		last := w.seen[len(w.seen)-1]
		ran := slices.ContainsFunc(w.trials, func(t solo) bool { return t.batches > 0 })
		*w = LeakWatch{options: w.options, earlier: rate}
		if !ran { // otherwise the floor is another by now
			w.seen = append(w.seen, last)
		}
		return
	}
	w.found = true
	w.suspicion, w.trials, w.seen = Suspicion{}, nil, nil
}

// Verdict is what was found; false: nothing, or nothing yet. It is found once, and
// then stays.
func (w *LeakWatch) Verdict() (Leak, bool) { return w.leak, w.found }
