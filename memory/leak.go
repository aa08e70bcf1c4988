package memory

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

const (
	// leastCleanups is how many clean-ups it takes to suspect something.
	leastCleanups = 5
	// mostCleanups bounds how far back the watch looks: what a run did long ago
	// hides what it does now.
	mostCleanups = 20
	// leastGrowth in bytes is what is worth a word; so is a hundredth of the
	// floor, where that is more.
	leastGrowth = 32 << 20
	// floorNoise is how far, in bytes, the floors of a sound chain lie from their
	// mean: garbage that one more collection would have freed, free blocks between
	// used ones.
	floorNoise = 20 << 20
	// leastTrend is what the Mann-Kendall statistic must reach, in its own
	// standard deviations: with five clean-ups all but one pair must have risen.
	leastTrend = 1.9
	// trendSigmas is how far growth must stand out of the noise. Suspicions may be
	// wrong now and then: what decides are the stages run alone.
	trendSigmas = 3
	// aloneSigmas is the same for one stage alone. With uniform noise it is more
	// than noise can do: two readings of +-20 MiB differ by 40.
	aloneSigmas = 3.4
	// leastShare of the whole chain's growth makes a stage one of those that leak.
	leastShare = 0.3
	// leastUnseparated, times the noise, is by how much the floor must have risen
	// since the first suspicion for a verdict that no stage alone confirms: noise
	// looks like growth now and then, and never comes so far.
	leastUnseparated = 6
	// trials is how often a stage must grow when run alone until it is blamed. One
	// of them can be a cache or a heap that takes its next step.
	trials = 2
	// mostAlone is how many batches a stage is run alone for, at most, in a trial.
	mostAlone = 192
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
	// one trial; 0 is 192. Less costs a suspected chain less time, and finds only
	// larger leaks: 192 batches show 0.7 MiB a batch.
	MostAlone int64
}

// LeakWatch finds memory that grows with the batches and never comes back, and
// the stage that keeps it. It has no clock and reads nothing: its owner tells it
// the floor after each clean-up, and when that raises a suspicion runs the
// stages alone, as Next says. It is not safe for use by several goroutines.
//
// The floor may jump (an index is loaded), rise and flatten (caches warm up), and
// scatter, without a verdict. What rises evenly for more than five clean-ups, and
// in one stage again and again when that runs alone, is called a leak, though it
// could be a cache that takes longer than that to fill.
type LeakWatch struct {
	options LeakOptions

	seen      []observation // oldest first, at most mostCleanups
	suspicion Suspicion
	sigma     float64 // noise that the suspicion was raised in
	trials    []solo  // by index in options.Stages, while there is a suspicion
	// earlier is the rate of a suspicion that no stage alone explained, and since
	// the floor at its end; 0: none.
	earlier, since float64
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
	BytesPerBatch int64 // 0: no suspicion
	Growth        int64 // bytes over the clean-ups that it was seen in
	Cleanups      int
}

// Leak is what a LeakWatch has found.
type Leak struct {
	Stages        []string // that leak, or of which one at least does
	BytesPerBatch int64
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
		if n < leastCleanups || n > len(w.seen) {
			continue
		}
		s, sigma := suspect(w.seen[len(w.seen)-n:], float64(w.options.Noise))
		if s.BytesPerBatch > 0 {
			w.suspicion, w.sigma = s, sigma
			w.trials = make([]solo, len(w.options.Stages))
			break
		}
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
				open = t.grew > 0 && t.grew == t.done && t.done < trials
			}
			if open && !t.refused {
				return w.options.Stages[i], max(w.need()-t.trial, 1), true
			}
		}
	}
	return "", 0, false
}

// need is how many batches of a stage with leastShare of the growth stand out.
func (w *LeakWatch) need() int64 {
	n := math.Ceil(aloneSigmas * w.sigma / (leastShare * float64(w.suspicion.BytesPerBatch)))
	return int64(min(n, float64(w.options.MostAlone)))
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
		t.batches += batches
		t.growth += growth
		t.runs++
		t.trial += batches
		t.rise += growth
		if t.trial >= w.need() {
			t.judge(float64(w.suspicion.BytesPerBatch), w.sigma)
		}
	}
	if _, _, more := w.Next(); !more {
		w.settle()
	}
}

// judge ends a trial.
func (t *solo) judge(rate, sigma float64) {
	share := leastShare * rate * float64(t.trial)
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
		case t.grew >= trials && t.grew == t.done:
			leaking = append(leaking, stage)
			rate := float64(t.growth) / float64(t.batches)
			perBatch += rate
			evidence = append(evidence, fmt.Sprintf("%s grew by %s in %d batches run alone", stage, FormatBytes(t.growth), t.batches))
		case !t.sound:
			open = append(open, stage)
		}
	}
	rate, last := float64(w.suspicion.BytesPerBatch), w.seen[len(w.seen)-1].floor
	chain := fmt.Sprintf("the chain grew by %s a batch over %d clean-ups", FormatBytes(w.suspicion.BytesPerBatch), w.suspicion.Cleanups)
	on := w.options.Device
	if on != "" {
		on = " on " + on
	}
	switch {
	case len(leaking) > 0:
		w.leak = Leak{Stages: leaking, BytesPerBatch: int64(perBatch), Certain: true,
			Text: fmt.Sprintf("%s leaks about %s a batch%s: %s, and %s",
				strings.Join(leaking, " and "), FormatBytes(int64(perBatch)), on, strings.Join(evidence, "; "), chain)}
	case w.earlier > 0 && rate >= w.earlier/2 && last-w.since >= leastUnseparated*float64(w.options.Noise):
		why := "none of these could be run alone long enough to tell"
		if len(open) == 0 {
			open, why = slices.Clone(w.options.Stages), "no stage grows when it runs alone"
		}
		w.leak = Leak{Stages: open, BytesPerBatch: w.suspicion.BytesPerBatch,
			Text: fmt.Sprintf("one of %s leaks about %s a batch%s, perhaps only together with another: %s, twice, and %s",
				strings.Join(open, ", "), FormatBytes(w.suspicion.BytesPerBatch), on, chain, why)}
	default:
		// Once is not enough to accuse on. If it goes on, five more clean-ups show it.
		*w = LeakWatch{options: w.options, earlier: rate, since: last}
		return
	}
	w.found = true
	w.suspicion, w.trials, w.seen = Suspicion{}, nil, nil
}

// Verdict is what was found; false: nothing, or nothing yet. It is found once, and
// then stays.
func (w *LeakWatch) Verdict() (Leak, bool) { return w.leak, w.found }

// suspect looks for even growth, and tells the noise that it stands out of.
func suspect(seen []observation, noise float64) (s Suspicion, sigma float64) {
	n := float64(len(seen))
	slope, rises := trend(seen)
	if slope <= 0 || rises < leastTrend*math.Sqrt(n*(n-1)*(2*n+5)/18) {
		return Suspicion{}, 0
	}
	residuals, floors := make([]float64, len(seen)), make([]float64, len(seen))
	for i, o := range seen {
		residuals[i], floors[i] = o.floor-slope*o.batches, o.floor
	}
	middle := median(residuals)
	for i := range residuals {
		residuals[i] = math.Abs(residuals[i] - middle)
	}
	// The deviation of uniform noise is 0.58 of its bound. 1.48 makes the median
	// deviation that of a normal distribution; two degrees of freedom are spent.
	sigma = max(0.6*noise, 1.4826*median(residuals)*math.Sqrt(n/(n-2)))

	span := seen[len(seen)-1].batches - seen[0].batches
	growth := slope * span
	if growth < max(leastGrowth, 0.01*median(floors), trendSigmas*sigma*span/spread(seen)) {
		return Suspicion{}, 0
	}
	if isStep(seen) || flattens(seen, slope, sigma) {
		return Suspicion{}, 0
	}
	return Suspicion{BytesPerBatch: max(int64(slope), 1), Growth: int64(growth), Cleanups: len(seen)}, sigma
}

// trend is Theil and Sen's slope, the median over all pairs, which a third of the
// points may lie about; and Mann and Kendall's S, the rising pairs less the
// falling.
func trend(seen []observation) (slope, rises float64) {
	var slopes []float64
	for i, a := range seen {
		for _, b := range seen[i+1:] {
			slopes = append(slopes, (b.floor-a.floor)/(b.batches-a.batches))
			switch {
			case b.floor > a.floor:
				rises++
			case b.floor < a.floor:
				rises--
			}
		}
	}
	return median(slopes), rises
}

// spread is the root of the summed squares of the distances of the batches from
// their mean: noise over it is the error of a slope.
func spread(seen []observation) float64 {
	var mean, sum float64
	for _, o := range seen {
		mean += o.batches / float64(len(seen))
	}
	for _, o := range seen {
		sum += (o.batches - mean) * (o.batches - mean)
	}
	return math.Sqrt(sum)
}

// isStep tells whether two levels describe the floor clearly better than a line.
func isStep(seen []observation) bool {
	floors := make([]float64, len(seen))
	for i, o := range seen {
		floors[i] = o.floor
	}
	step := math.Inf(1)
	for i := 1; i < len(seen); i++ {
		step = min(step, squares(floors[:i])+squares(floors[i:]))
	}
	// The least squares line leaves the squares less what the slope explains.
	var xy, x float64
	for i, o := range seen {
		xy += o.batches * floors[i]
		x += o.batches
	}
	var y float64
	for _, f := range floors {
		y += f
	}
	covered := xy - x*y/float64(len(seen))
	line := squares(floors) - covered*covered/(spread(seen)*spread(seen))
	return 2*step < line
}

// squares sums the squared distances from the mean.
func squares(v []float64) float64 {
	var mean, sum float64
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		sum += (x - mean) * (x - mean)
	}
	return sum
}

// flattens tells whether the later half grows clearly less than the whole: it
// does where caches warm up.
func flattens(seen []observation, slope, sigma float64) bool {
	late := seen[len(seen)/2:]
	after, _ := trend(late)
	return after+sigma/spread(late) < slope*0.7
}

func median(v []float64) float64 {
	sorted := slices.Sorted(slices.Values(v))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
