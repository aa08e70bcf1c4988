package memory

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Neighbours expects what others will have of a device by the time that the next run
// has its memory: readings are late, a run takes time, and some come back. Its methods
// must not be called by several goroutines at once.
type Neighbours struct {
	began time.Time         // the first reading
	seen  []neighbourSample // of the last neighbourSpan, oldest first
	last  int64             // level, before it rose or fell
	rises []neighbourRise
}

type neighbourSample struct {
	at    time.Duration // since the first
	bytes int64
}

// neighbourRise is when others took much more within a moment.
type neighbourRise struct {
	at time.Duration
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
	// driftSpan is in what time a drift shows at least: there are a few readings in it.
	driftSpan = 300 * time.Millisecond
	// noiseChanges is about how many changes are looked at, and leastChanges how few of
	// them tell something.
	noiseChanges = 32
	leastChanges = 8
)

// Observe takes what others had of the device, of total bytes, at a moment. A reading
// that is older than the last is not taken, unless the clock was set back.
func (n *Neighbours) Observe(now time.Time, others, total int64) {
	others = min(max(others, 0), max(total, 0))
	if k := len(n.seen); k > 0 {
		switch late := n.seen[k-1].at - now.Sub(n.began); {
		case late > neighbourSpan:
			*n = Neighbours{}
		case late >= 0:
			return
		}
	}
	if len(n.seen) == 0 {
		n.began = now
	}
	at := now.Sub(n.began)
	for len(n.seen) > 0 && (at-n.seen[0].at > neighbourSpan || len(n.seen) == neighbourMost) {
		n.seen = n.seen[1:]
	}
	n.rises = slices.DeleteFunc(n.rises, func(r neighbourRise) bool { return at-r.at > returnSpan })
	if len(n.seen) == 0 {
		n.last = others
	}
	// A rise is one step, or many that follow each other: its end is what counts.
	step := total / 32
	k := len(n.rises)
	switch {
	case others > n.last+step:
		if k > 0 && at-n.rises[k-1].at < time.Second && n.rises[k-1].to >= n.last {
			n.rises[k-1] = neighbourRise{at, others}
		} else {
			if k == neighbourRises {
				n.rises = slices.Delete(n.rises, 0, 1)
			}
			n.rises = append(n.rises, neighbourRise{at, others})
		}
		n.last = others
	case others < n.last-step:
		n.last = others
	}
	n.seen = append(n.seen, neighbourSample{at, others})
}

// Expect is how many bytes others may have so long after the last reading, with a
// headroom that is left to them in any case. It is never less than what they have.
func (n *Neighbours) Expect(after time.Duration, headroom int64) int64 {
	k := len(n.seen)
	headroom = max(headroom, 0)
	if k == 0 {
		return headroom
	}
	expected := n.Soon(after, headroom)
	for i, r := range n.rises {
		again := slices.ContainsFunc(n.rises[:i], func(o neighbourRise) bool { return math.Abs(float64(o.to-r.to)) <= float64(r.to)/8 })
		if again {
			expected = max(expected, r.to+headroom)
		}
	}
	return expected
}

// Soon is Expect without those who have gone and are expected to come again.
func (n *Neighbours) Soon(after time.Duration, headroom int64) int64 {
	k := len(n.seen)
	headroom = max(headroom, 0)
	if k == 0 {
		return headroom
	}
	return n.seen[k-1].bytes + max(headroom, n.drift(after), n.noise(after))
}

// at is what others had at that time, as far as is known.
func (n *Neighbours) at(t time.Duration) int64 {
	i, found := slices.BinarySearchFunc(n.seen, t, func(s neighbourSample, t time.Duration) int { return cmp.Compare(s.at, t) })
	if !found {
		i--
	}
	return n.seen[max(i, 0)].bytes
}

// drift is how much more others will have after that time if they go on as in the
// same time before. One step is no drift, nor are two: each third must have risen.
func (n *Neighbours) drift(after time.Duration) int64 {
	if after <= 0 {
		return 0
	}
	now := n.seen[len(n.seen)-1]
	span := max(after, driftSpan)
	third, second, first := n.at(now.at-span/3), n.at(now.at-2*span/3), n.at(now.at-span)
	rise := min(now.bytes-third, third-second, second-first)
	return int64(3 * float64(max(rise, 0)) * (float64(after) / float64(span)))
}

// noise is three standard deviations of the change within that time, or in a quarter
// of what is known, if that is less. Rare steps are no noise.
func (n *Neighbours) noise(after time.Duration) int64 {
	now, first := n.seen[len(n.seen)-1], n.seen[0]
	after = min(after, (now.at-first.at)/4)
	if after <= 0 {
		return 0
	}
	var room [2 * noiseChanges]float64
	changes := room[:0]
	every := max(len(n.seen)/noiseChanges, 1)
	for i := len(n.seen) - 1; i > 0; i -= every {
		before := n.seen[i].at - after
		if before < first.at {
			break
		}
		changes = append(changes, float64(n.seen[i].bytes-n.at(before)))
	}
	if len(changes) < leastChanges {
		return 0
	}
	m := median(changes)
	for i := range changes {
		changes[i] = math.Abs(changes[i] - m)
	}
	return int64(3 * robustSigma * median(changes))
}
