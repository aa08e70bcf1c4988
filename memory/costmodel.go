package memory

import (
	"math"
	"slices"
)

// CostModel predicts how many bytes of a device runs of a network take: a + s·b
// for a batch of b items. It learns from what the runtime's arena had after runs
// that began with an empty one; ONNX Runtime's is then exactly linear in the batch.
//
// What has been seen goes before the line that is laid through it: a smaller batch
// takes no more, and a larger one no less. The zero value knows nothing. Its methods
// must not be called by several goroutines at once.
type CostModel struct {
	seen  []costSample // by batch, ascending
	fails []costFailure
	runs  int64 // that it has heard of
	line  costLine
}

// costSample is what was seen of one batch size.
type costSample struct {
	batch int
	bytes [costRing]int64 // the last ones
	n     int             // that there ever were
	run   int64           // when the last one was
}

// costFailure is a run for which there was no room, though there should have been.
type costFailure struct {
	batch  int
	budget int64 // bytes that it had
	until  int64 // run from which it is forgotten
}

// costLine is a + s·b, in bytes, and how far what was seen lies from it.
type costLine struct {
	a, s, sigma float64
	from        int // batch sizes that it was laid through
}

const (
	// costRing is how many observations of one batch size count: the largest of them.
	costRing = 4
	// costSizes bounds how many batch sizes are remembered.
	costSizes = 32
	// costSigmas and costShare are added to what the line says.
	costSigmas = 3
	costShare  = 0.03
	// mostExtrapolated is how far beyond the largest batch that was seen the line is
	// believed.
	mostExtrapolated = 4
	// failedFor is for how many runs a batch is not tried again for which there was no
	// room, unless there is so much more than there was then.
	failedFor  = 200
	failedMore = 1.1
	// oddFor is for how many runs an observation is believed that stands out by more
	// than oddShare of what the others say.
	oddFor   = 200
	oddShare = 0.25
)

func (c *costSample) most() int64 { return slices.Max(c.bytes[:min(c.n, costRing)]) }

// Seen takes the bytes that a run of so many items took, from an arena that was empty
// before. Nonsense is not taken.
func (m *CostModel) Seen(batch int, bytes int64) {
	if batch <= 0 || bytes <= 0 {
		return
	}
	i, found := slices.BinarySearchFunc(m.seen, batch, func(s costSample, b int) int { return s.batch - b })
	if !found {
		if len(m.seen) == costSizes {
			oldest := 0
			for j, s := range m.seen {
				if s.run < m.seen[oldest].run {
					oldest = j
				}
			}
			m.seen = slices.Delete(m.seen, oldest, oldest+1)
			if oldest < i {
				i--
			}
		}
		m.seen = slices.Insert(m.seen, i, costSample{batch: batch})
	}
	s := &m.seen[i]
	s.bytes[s.n%costRing] = bytes
	s.n++
	s.run = m.runs
	m.fit()
}

// Ran counts a run of any kind: what is old is judged by it.
func (m *CostModel) Ran() {
	m.runs++
	m.fails = slices.DeleteFunc(m.fails, func(f costFailure) bool { return f.until <= m.runs })
	if m.runs%oddFor == 0 {
		m.forgetOdd()
	}
}

// Failed takes that there was no room for a run of so many items where there should
// have been budget bytes. need is what it needed at least, as far as the runtime said
// so; 0: not known. So large a batch is not tried again for 200 runs, or until there
// is a tenth more.
func (m *CostModel) Failed(batch int, budget, need int64) {
	if batch <= 0 {
		return
	}
	m.fails = slices.DeleteFunc(m.fails, func(f costFailure) bool { return f.batch >= batch && f.budget <= budget })
	m.fails = append(m.fails, costFailure{batch: batch, budget: budget, until: m.runs + failedFor})
	// What was seen of as large a batch was wrong, or another arena's.
	m.seen = slices.DeleteFunc(m.seen, func(s costSample) bool { return s.batch >= batch })
	m.fit()
	if need > 0 {
		m.Seen(batch, need)
	}
}

// Known tells whether anything has been seen.
func (m *CostModel) Known() bool { return len(m.seen) > 0 }

// Largest is the largest batch that has been seen, 0 if none has.
func (m *CostModel) Largest() int {
	if len(m.seen) == 0 {
		return 0
	}
	return m.seen[len(m.seen)-1].batch
}

// Bytes is what a batch of so many items takes at most; 0 if nothing is known.
func (m *CostModel) Bytes(batch int) int64 {
	if len(m.seen) == 0 || batch <= 0 {
		return 0
	}
	low, high := int64(0), int64(math.MaxInt64)
	for i := range m.seen {
		s := &m.seen[i]
		if s.batch <= batch {
			low = max(low, s.most())
		}
		if s.batch >= batch {
			high = min(high, s.most())
		}
	}
	if low >= high {
		return high // a larger batch has taken less: what stood above that was something else
	}
	v := m.line.a + m.line.s*float64(batch)
	v += costSigmas*m.line.sigma + costShare*v
	if v >= math.MaxInt64 {
		return high
	}
	return min(max(int64(math.Ceil(v)), low), high)
}

// Fits is the largest batch, of most items at most, that so many bytes have room for;
// 0 if not even one item has. If nothing is known, that is one item.
func (m *CostModel) Fits(bytes int64, most int) int {
	if !m.Known() {
		return min(1, most)
	}
	most = min(most, m.Largest()*mostExtrapolated)
	for _, f := range m.fails {
		if float64(bytes) <= failedMore*float64(f.budget) {
			most = min(most, f.batch-1)
		}
	}
	low, high := 0, max(most, 0) // low fits, what is above high does not
	for low < high {
		mid := (low + high + 1) / 2
		if m.Bytes(mid) <= bytes {
			low = mid
		} else {
			high = mid - 1
		}
	}
	return low
}

// fit lays the line: through the medians of what every two batch sizes say (Theil and
// Sen), which a wrong one among them does not move.
func (m *CostModel) fit() {
	m.line = costLine{from: len(m.seen)}
	switch len(m.seen) {
	case 0:
		return
	case 1: // all of it may be for the items
		m.line.s = float64(m.seen[0].most()) / float64(m.seen[0].batch)
		return
	}
	var slopes, rests []float64
	for i := range m.seen {
		for j := range i {
			slopes = append(slopes, float64(m.seen[i].most()-m.seen[j].most())/float64(m.seen[i].batch-m.seen[j].batch))
		}
	}
	m.line.s = max(median(slopes), 0)
	for i := range m.seen {
		rests = append(rests, float64(m.seen[i].most())-m.line.s*float64(m.seen[i].batch))
	}
	m.line.a = max(median(rests), 0)
	if len(m.seen) < 3 {
		return
	}
	for i := range rests {
		rests[i] = math.Abs(rests[i] - m.line.a)
	}
	m.line.sigma = robustSigma * median(rests)
}

// robustSigma times the median of what lies off is the standard deviation, where the
// noise is normal.
const robustSigma = 1.4826

// forgetOdd drops what stands above all else and has not been seen again: it would
// keep the batch small for ever.
func (m *CostModel) forgetOdd() {
	if len(m.seen) < 2 {
		return
	}
	for i := range m.seen {
		s := m.seen[i]
		if m.runs-s.run < oddFor {
			continue
		}
		others := CostModel{seen: slices.Delete(slices.Clone(m.seen), i, i+1)}
		others.fit()
		if float64(s.most()) > (1+oddShare)*float64(others.Bytes(s.batch)) {
			m.seen = others.seen
			m.fit()
			return
		}
	}
}
