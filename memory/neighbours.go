package memory

import (
	"math"
	"slices"
	"time"
)

// Neighbours expects what others will have of a device by the time that the next run
// has its memory: readings are late, a run takes time, and some come back. Its methods
// must not be called by several goroutines at once.
type Neighbours struct {
	seen  []neighbourSample // of the last neighbourSpan, oldest first
	last  int64             // level, before it rose or fell
	rises []neighbourRise
}

type neighbourSample struct {
	at    time.Time
	bytes int64
}

// neighbourRise is when others took much more within a moment.
type neighbourRise struct {
	at time.Time
	to int64
}

const (
	// neighbourSpan is how far back readings count.
	neighbourSpan = 10 * time.Second
	neighbourMost = 256
	// Others who have risen to a level twice within returnSpan come back to it.
	returnSpan = 60 * time.Second
	// neighbourRises bounds how many rises are remembered.
	neighbourRises = 32
)

// Observe takes what others had of the device, of total bytes, at a moment.
func (n *Neighbours) Observe(at time.Time, others, total int64) {
	if k := len(n.seen); k > 0 && !at.After(n.seen[k-1].at) {
		return
	}
	for len(n.seen) > 0 && (at.Sub(n.seen[0].at) > neighbourSpan || len(n.seen) == neighbourMost) {
		n.seen = n.seen[1:]
	}
	n.rises = slices.DeleteFunc(n.rises, func(r neighbourRise) bool { return at.Sub(r.at) > returnSpan })
	if len(n.seen) == 0 {
		n.last = others
	}
	// A rise is one step, or many that follow each other: its end is what counts.
	step := total / 32
	k := len(n.rises)
	switch {
	case others > n.last+step:
		if k > 0 && at.Sub(n.rises[k-1].at) < time.Second && n.rises[k-1].to >= n.last {
			n.rises[k-1] = neighbourRise{at, others}
		} else if k < neighbourRises {
			n.rises = append(n.rises, neighbourRise{at, others})
		}
		n.last = others
	case others < n.last-step:
		n.last = others
	}
	n.seen = append(n.seen, neighbourSample{at, others})
}

// Expect is how many bytes others may have so long after the last reading, with a
// headroom that is left to them in any case.
func (n *Neighbours) Expect(after time.Duration, headroom int64) int64 {
	k := len(n.seen)
	if k == 0 {
		return headroom
	}
	now := n.seen[k-1]
	expected := now.bytes + max(headroom, n.drift(after), n.noise(after))
	for i, r := range n.rises {
		again := slices.ContainsFunc(n.rises[:i], func(o neighbourRise) bool { return math.Abs(float64(o.to-r.to)) <= float64(r.to)/8 })
		if again {
			expected = max(expected, r.to+headroom)
		}
	}
	return expected
}

// at is what others had at that time, as far as is known.
func (n *Neighbours) at(t time.Time) int64 {
	for i := len(n.seen) - 1; i >= 0; i-- {
		if !n.seen[i].at.After(t) {
			return n.seen[i].bytes
		}
	}
	return n.seen[0].bytes
}

// drift is how much more others will have after that time if they go on as in the
// same time before. A single step is no drift: both halves must have risen.
func (n *Neighbours) drift(after time.Duration) int64 {
	now := n.seen[len(n.seen)-1]
	half, whole := n.at(now.at.Add(-after/2)), n.at(now.at.Add(-after))
	return max(2*min(now.bytes-half, half-whole), 0)
}

// noise is three standard deviations of the change within that time. Rare steps are
// no noise.
func (n *Neighbours) noise(after time.Duration) int64 {
	if after <= 0 {
		return 0
	}
	var changes []float64
	for i := len(n.seen) - 1; i > 0 && len(changes) < 32; i-- {
		if n.seen[i].at.Add(-after).Before(n.seen[0].at) {
			break
		}
		changes = append(changes, float64(n.seen[i].bytes-n.at(n.seen[i].at.Add(-after))))
	}
	if len(changes) < 8 {
		return 0
	}
	m := median(changes)
	for i := range changes {
		changes[i] = math.Abs(changes[i] - m)
	}
	return int64(3 * robustSigma * median(changes))
}
