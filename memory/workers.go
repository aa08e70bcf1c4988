package memory

import (
	"slices"
	"time"
)

// Workers decides how many calls of each stage of a chain run at once on the
// host. It knows no clock and starts nothing: Tick tells it what happened and
// gets its answer.
//
// A chain is as fast as its bottleneck: the stage furthest downstream whose input
// waits while all its workers are busy. There, and only there, one worker more is
// tried, and kept if the stage's throughput rises by 3 % or more, so that a stage
// ends at the least count that reaches about 97 % of what it can. What does not
// help is taken back, and tried again later and later. Under pressure all counts
// are halved at once; they return one by one when it has gone.
type Workers struct {
	stages []StageWorkers
	now    []int
	last   []StageLoad
	lastAt time.Time

	busyFor  []int       // ticks in a row that a stage was the bottleneck
	rest     []time.Time // no trial of the stage before
	failures []int       // trials of the stage in a row that did not help
	before   *measure    // of the bottleneck as it is
	trial    *measure    // of it with one worker more
	rate     float64     // what before came to, items a second
	eased    time.Time   // when pressure was last acted on, or a worker came back
}

// StageWorkers bounds the workers of one stage: there are Start of them to begin
// with, never less than Least and never more than Most. Where Least equals Most,
// the count is fixed.
type StageWorkers struct {
	Least, Start, Most int
}

// StageLoad is what one stage has done and has to do.
type StageLoad struct {
	Done   int64         // items, since the beginning
	Busy   time.Duration // of all its calls, since the beginning
	Queued int           // items that wait for it now
}

// measure is how much a stage gets done from a time on.
type measure struct {
	stage int
	began time.Time
	done  int64
}

const (
	workerGain = 1.03
	// A rate is measured over at least so many items and so much time: single
	// pictures differ by more than 3 %.
	rateItems = 64
	rateTime  = 2 * time.Second
	// rateLimit ends a measurement that gets no items: slow stages are rated by what
	// there is.
	rateLimit = 15 * time.Second

	trialRest = 10 * time.Second // after a trial that did not help, doubled each time
	maxRest   = 10 * time.Minute
	calm      = 3 * time.Second // without pressure before workers come back
	halfRest  = time.Second     // between two reactions to pressure
	saturated = 0.85            // share of its workers' time that a bottleneck is busy
)

// NewWorkers begins with every stage's Start.
func NewWorkers(stages []StageWorkers) *Workers {
	w := &Workers{
		stages: stages, now: make([]int, len(stages)), last: make([]StageLoad, len(stages)),
		busyFor: make([]int, len(stages)), rest: make([]time.Time, len(stages)), failures: make([]int, len(stages)),
	}
	for i, s := range stages {
		w.now[i] = min(max(s.Start, s.Least, 1), max(s.Most, 1))
	}
	return w
}

// Counts are the workers that each stage may have now.
func (w *Workers) Counts() []int { return slices.Clone(w.now) }

// Tick takes the loads at one instant, a fraction of a second to a few seconds
// after the last, and whether the host is under pressure, and reports whether
// Counts changed.
func (w *Workers) Tick(now time.Time, pressed bool, loads []StageLoad) (changed bool) {
	first := w.lastAt.IsZero()
	elapsed := now.Sub(w.lastAt)
	defer func() {
		copy(w.last, loads)
		w.lastAt = now
	}()
	if first || elapsed <= 0 {
		return false
	}
	if pressed {
		return w.halve(now)
	}
	b := w.bottleneck(elapsed, loads)
	if w.trial != nil {
		return w.judge(now, loads)
	}
	if b < 0 {
		w.before = nil
		return false
	}
	if w.now[b] < w.stages[b].Start {
		// It had them before pressure took them: that they help is known.
		if now.Sub(w.eased) < calm {
			return false
		}
		w.now[b]++
		w.eased = now.Add(halfRest - calm)
		return true
	}
	if w.now[b] >= w.stages[b].Most || now.Before(w.rest[b]) {
		return false
	}
	return w.begin(now, b, loads)
}

// halve answers pressure.
func (w *Workers) halve(now time.Time) (changed bool) {
	w.before, w.trial = nil, nil
	if now.Sub(w.eased) < halfRest {
		return false
	}
	w.eased = now
	for i, s := range w.stages {
		if n := max(w.now[i]/2, s.Least, 1); n < w.now[i] {
			w.now[i] = n
			changed = true
		}
	}
	return changed
}

// bottleneck is the stage furthest downstream that has more to do than it gets
// done, for two ticks in a row; -1 if there is none.
func (w *Workers) bottleneck(elapsed time.Duration, loads []StageLoad) int {
	found := -1
	for i, l := range loads {
		busy := float64(l.Busy-w.last[i].Busy) / float64(elapsed) / float64(w.now[i])
		// A call that is longer than a tick shows in Busy only when it ends.
		if l.Queued > 0 && (busy >= saturated || l.Busy == w.last[i].Busy && l.Done == w.last[i].Done) {
			w.busyFor[i]++
		} else {
			w.busyFor[i] = 0
		}
		if w.busyFor[i] >= 2 {
			found = i
		}
	}
	return found
}

// begin measures the rate of the stage as it is, and then tries one worker more.
func (w *Workers) begin(now time.Time, b int, loads []StageLoad) bool {
	if w.before == nil || w.before.stage != b {
		w.before = &measure{b, now, loads[b].Done}
		return false
	}
	// An item that was nearly done when the measure ended counts as done, and
	// below in judge not: what lies between is no gain.
	rate, ok := w.before.rate(now, loads, +1)
	if !ok {
		return false
	}
	w.now[b]++
	w.before, w.rate = nil, rate
	w.trial = &measure{b, now, loads[b].Done}
	return true
}

// judge keeps or takes back the worker that is on trial.
func (w *Workers) judge(now time.Time, loads []StageLoad) bool {
	rate, ok := w.trial.rate(now, loads, -1)
	if !ok {
		return false
	}
	b := w.trial.stage
	w.trial = nil
	if rate >= w.rate*workerGain {
		w.failures[b] = 0
		return false
	}
	w.now[b]--
	w.rest[b] = now.Add(min(trialRest<<min(w.failures[b], 10), maxRest))
	w.failures[b]++
	return true
}

// rate is items a second, give or take some items, once enough of them have
// passed.
func (m *measure) rate(now time.Time, loads []StageLoad, give int64) (float64, bool) {
	took, items := now.Sub(m.began), loads[m.stage].Done-m.done+give
	if took < rateTime || items < rateItems && took < rateLimit {
		return 0, false
	}
	return float64(items) / took.Seconds(), true
}
