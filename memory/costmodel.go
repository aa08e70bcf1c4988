package memory

import (
	"math"
	"slices"
	"sort"
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
	batch   int
	bytes   [costRing]int64 // the last ones
	n       int             // that there ever were
	run     int64           // when the last one was
	learned bool            // an earlier process saw it
	most    int64           // the largest of bytes
	// No smaller batch took more than low, and no larger one less than high; they
	// count this one.
	low, high int64
}

// costFailure is a run for which there was no room, though there should have been.
type costFailure struct {
	batch  int
	budget int64 // bytes that it had
	until  int64 // run from which it is forgotten
}

// costLine is a + s·b, in bytes, and how far what was seen lies from it.
type costLine struct{ a, s, sigma float64 }

const (
	// costRing is how many observations of one batch size count: the largest of them.
	costRing = 4
	// costSizes bounds how many batch sizes are remembered, every two of which have a say
	// in the line, and mostBatch what is one.
	costSizes = 12
	mostBatch = 1 << 30
	// costSigmas are added to what the line says, and costShare of what it says beyond
	// the next smaller batch that was seen.
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
	// than oddShare of what the others say, if there are at least oddOthers.
	oddFor    = 200
	oddShare  = 0.25
	oddOthers = 3
)

// Seen takes the bytes that a run of so many items took, from an arena that was empty
// before. Nonsense is not taken.
func (m *CostModel) Seen(batch int, bytes int64) {
	if batch <= 0 || batch > mostBatch || bytes <= 0 {
		return
	}
	if said := float64(m.Bytes(batch)); math.Abs(float64(bytes)-said) > oddShare*said {
		m.unlearn() // what an earlier process saw was something else
	}
	if m.add(batch, bytes, false) {
		m.fit()
	}
}

// learn takes what an earlier process has seen. It counts until it is seen how it is
// now. The line has to be laid afterwards.
func (m *CostModel) learn(batch int, bytes int64) {
	if batch > 0 && batch <= mostBatch && bytes > 0 {
		m.add(batch, bytes, true)
	}
}

// hearsay tells whether so many items are said to take more than budget bytes, and only
// by what earlier processes have seen.
func (m *CostModel) hearsay(batch int, budget int64) bool {
	return m.Bytes(batch) > budget && !slices.ContainsFunc(m.seen, func(s costSample) bool { return !s.learned })
}

// unlearn forgets what earlier processes have seen.
func (m *CostModel) unlearn() {
	m.seen = slices.DeleteFunc(m.seen, func(s costSample) bool { return s.learned })
	m.fit()
}

// find is where a batch size has been seen, or would be.
func (m *CostModel) find(batch int) (int, bool) {
	i := sort.Search(len(m.seen), func(i int) bool { return m.seen[i].batch >= batch })
	return i, i < len(m.seen) && m.seen[i].batch == batch
}

// add takes what was seen, and tells whether the line has to be laid anew: a runtime
// takes the same for each run of a size, as a rule.
func (m *CostModel) add(batch int, bytes int64, learned bool) (news bool) {
	i, found := m.find(batch)
	if !found {
		m.seen, i = beginSize(m.seen, i, costSizes, func(s *costSample) int64 { return s.run }, costSample{batch: batch})
	}
	s := &m.seen[i]
	if s.learned {
		*s = costSample{batch: batch}
	}
	before := s.most
	s.bytes[s.n%costRing] = bytes
	s.n++
	s.run, s.learned = m.runs, learned
	s.most = slices.Max(s.bytes[:])
	return s.most != before
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
	i, found := m.find(batch)
	low, high := int64(0), int64(math.MaxInt64)
	if i < len(m.seen) {
		high = m.seen[i].high
	}
	switch {
	case found:
		low = m.seen[i].low
	case i > 0:
		low = m.seen[i-1].low
	}
	between := batch // the items that the line tells of, beyond those that were seen
	if low > high {
		// A larger batch took less than a smaller one. Either may be the one that is
		// wrong: what the line says between them is taken.
		low, high = high, low
	} else if j := i - 1; j >= 0 {
		between -= m.seen[j].batch
	}
	v := m.line.a + m.line.s*float64(batch)
	v += costSigmas*m.line.sigma + costShare*m.line.s*float64(between)
	if v >= float64(high) {
		return high
	}
	return max(int64(math.Ceil(v)), low)
}

// Fits is the largest batch, of most items at most, that so many bytes have room for;
// 0 if not even one item has. If nothing is known, that is one item in any room. One
// item is tried again as soon as there is room for it: nothing smaller is left to try.
func (m *CostModel) Fits(bytes int64, most int) int {
	if bytes <= 0 {
		return 0
	}
	if !m.Known() {
		return min(1, most)
	}
	most = min(most, m.Largest()*mostExtrapolated)
	for _, f := range m.fails {
		if float64(bytes) <= failedMore*float64(f.budget) {
			most = min(most, max(f.batch-1, 1))
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
	low, high := int64(0), int64(math.MaxInt64)
	for i := range m.seen {
		low = max(low, m.seen[i].most)
		m.seen[i].low = low
	}
	for i := range slices.Backward(m.seen) {
		high = min(high, m.seen[i].most)
		m.seen[i].high = high
	}
	m.line = costLine{}
	switch len(m.seen) {
	case 0:
		return
	case 1: // all of it may be for the items
		m.line.s = float64(m.seen[0].most) / float64(m.seen[0].batch)
		return
	}
	slopes := make([]float64, 0, costSizes*(costSizes-1)/2)
	rests := make([]float64, 0, costSizes)
	for i := range m.seen {
		for j := range i {
			slopes = append(slopes, float64(m.seen[i].most-m.seen[j].most)/float64(m.seen[i].batch-m.seen[j].batch))
		}
	}
	m.line.s = max(median(slopes), 0)
	for i := range m.seen {
		rests = append(rests, float64(m.seen[i].most)-m.line.s*float64(m.seen[i].batch))
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

// forgetOdd drops what all else says is wrong, and has not been seen again: it would
// keep the batch small for ever, or let it be too large.
func (m *CostModel) forgetOdd() {
	for i := range m.seen {
		if m.runs-m.seen[i].run < oddFor {
			continue
		}
		others := CostModel{seen: slices.Delete(slices.Clone(m.seen), i, i+1)}
		others.fit()
		if others.agree() && others.odd(m.seen[i]) {
			m.seen = others.seen
			m.fit()
			return
		}
	}
}

// agree tells whether there are enough batch sizes to lay a line, and none lies off it.
func (m *CostModel) agree() bool {
	return len(m.seen) >= oddOthers && !slices.ContainsFunc(m.seen, m.odd)
}

func (m *CostModel) odd(s costSample) bool {
	line := m.line.a + m.line.s*float64(s.batch)
	return math.Abs(float64(s.most)-line) > oddShare*line
}
