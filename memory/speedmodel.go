package memory

import (
	"math"
	"slices"
	"sort"
	"time"
)

// SpeedModel predicts how long runs of a network take: t0 + t1·b for a batch of b
// items. It learns from the runs' durations. The first run of each batch size is not
// counted, as it finds its kernels then; of the others the faster third counts, as
// what else happens on a machine only makes runs slower.
//
// The zero value knows nothing. Its methods must not be called by several goroutines
// at once.
type SpeedModel struct {
	seen   []speedSample // by batch, ascending
	runs   int64
	t0, t1 float64 // seconds
	fitted bool
}

// speedSample is what was seen of one batch size.
type speedSample struct {
	batch int
	took  [speedRing]float64 // the last ones, in seconds
	n     int                // that there ever were, the first not counted
	run   int64              // when the last one was
	warm  bool               // the first one has been
	// typical is the lower tercile of took, in seconds.
	typical float64
	said    float64 // what was expected of it, in seconds; 0: nothing
	learned bool    // an earlier process saw it
}

const (
	speedRing  = 9
	speedSizes = 32
	// speedTrust is how many runs of a size it takes until they count for more than
	// the line, where they are off it by more than speedOff of its time.
	speedTrust = 3
	speedOff   = 0.05
	// speedStale is after how many runs of other sizes those of a size do not count
	// beside the next one.
	speedStale = 64
	// speedMoved is by what share of its time a size may take something else than was
	// expected. Where it is more, the device is faster or slower than it was, and what
	// is stale is dropped.
	speedMoved = 0.25
)

// Seen takes how long a run of so many items took. Nonsense is not taken.
func (m *SpeedModel) Seen(batch int, took time.Duration) {
	if batch <= 0 || batch > mostBatch || took <= 0 {
		return
	}
	m.runs++
	said := m.Took(batch).Seconds()
	s := m.sample(batch)
	stale := s.learned || m.runs-s.run > speedStale
	s.run = m.runs
	if !s.warm {
		s.warm = true
		return
	}
	if s.n == 0 || stale {
		*s = speedSample{batch: batch, run: m.runs, warm: true, said: said}
	}
	s.add(took.Seconds())
	if s.n == speedTrust && s.said > 0 && math.Abs(s.typical-s.said) > speedMoved*s.said {
		m.seen = slices.DeleteFunc(m.seen, func(s speedSample) bool { return s.learned || m.runs-s.run > speedStale })
	}
	m.fit()
}

// learn takes how long a run took in an earlier process. It counts until it is seen
// how long it takes now. The line has to be laid afterwards.
func (m *SpeedModel) learn(batch int, seconds float64) {
	if batch > 0 && batch <= mostBatch && seconds > 0 && seconds < math.MaxInt32 {
		s := m.sample(batch)
		*s = speedSample{batch: batch, learned: true}
		s.add(seconds)
	}
}

// unlearn forgets what earlier processes have timed.
func (m *SpeedModel) unlearn() {
	m.seen = slices.DeleteFunc(m.seen, func(s speedSample) bool { return s.learned })
	m.fit()
}

// Cold has the first run of each batch size not count again: it is another session.
func (m *SpeedModel) Cold() {
	for i := range m.seen {
		m.seen[i].warm = false
	}
}

// find is where a batch size has been seen, or would be.
func (m *SpeedModel) find(batch int) (int, bool) {
	i := sort.Search(len(m.seen), func(i int) bool { return m.seen[i].batch >= batch })
	return i, i < len(m.seen) && m.seen[i].batch == batch
}

// sample finds what was seen of a batch size, or begins it.
func (m *SpeedModel) sample(batch int) *speedSample {
	i, found := m.find(batch)
	if found {
		return &m.seen[i]
	}
	m.seen, i = beginSize(m.seen, i, speedSizes, func(s *speedSample) int64 { return s.run }, speedSample{batch: batch})
	return &m.seen[i]
}

func (s *speedSample) add(seconds float64) {
	s.took[s.n%speedRing] = seconds
	s.n++
	sorted := s.took
	took := sorted[:min(s.n, speedRing)]
	slices.Sort(took)
	s.typical = took[(len(took)-1)/3]
}

// fit lays the line through what is typical, each size as heavy as it has runs.
func (m *SpeedModel) fit() {
	var w, x, y, xx, xy float64
	sizes := 0
	for i := range m.seen {
		s := &m.seen[i]
		if s.n == 0 {
			continue
		}
		sizes++
		// Noise is a share of the time, so that a long run is as sure as a short one only
		// in proportion.
		b, t := float64(s.batch), s.typical
		g := float64(min(s.n, speedRing)) / (t * t)
		w, x, y, xx, xy = w+g, x+g*b, y+g*t, xx+g*b*b, xy+g*b*t
	}
	m.fitted = sizes > 0
	if !m.fitted {
		return
	}
	d := w*xx - x*x
	if sizes > 1 && d > 0 {
		m.t1 = (w*xy - x*y) / d
		m.t0 = (y - m.t1*x) / w
	}
	switch {
	case sizes == 1 || m.t0 < 0: // as though a run were nothing but its items
		m.t0, m.t1 = 0, xy/xx
	case m.t1 < 0: // as though it were nothing but itself
		m.t0, m.t1 = y/w, 0
	}
}

// Sizes is how many batch sizes have been timed.
func (m *SpeedModel) Sizes() (n int) {
	for i := range m.seen {
		if m.seen[i].n > 0 {
			n++
		}
	}
	return n
}

// Timed is how many runs of that size have been timed.
func (m *SpeedModel) Timed(batch int) int {
	if i, found := m.find(batch); found {
		return m.seen[i].n
	}
	return 0
}

// Largest is the largest batch that has been timed, 0 if none has.
func (m *SpeedModel) Largest() int {
	for i := range slices.Backward(m.seen) {
		if m.seen[i].n > 0 {
			return m.seen[i].batch
		}
	}
	return 0
}

// Took is how long a run of so many items takes; 0 if nothing is known.
func (m *SpeedModel) Took(batch int) time.Duration {
	if !m.fitted || batch <= 0 {
		return 0
	}
	ns := m.took(batch) * float64(time.Second)
	if ns >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(ns)
}

func (m *SpeedModel) line(batch int) float64 { return m.t0 + m.t1*float64(batch) }

// took is what the line says, unless it has been seen to be wrong there.
func (m *SpeedModel) took(batch int) float64 {
	if i, found := m.find(batch); found {
		return m.tookAt(&m.seen[i])
	}
	return m.line(batch)
}

// tookAt is what took says for a size that was seen.
func (m *SpeedModel) tookAt(s *speedSample) float64 {
	line := m.line(s.batch)
	if s.n >= speedTrust && math.Abs(s.typical-line) > speedOff*line {
		return s.typical
	}
	return line
}

// Rate is how many items a second come of runs of so many items; 0 if nothing is
// known.
func (m *SpeedModel) Rate(batch int) float64 {
	if !m.fitted || batch <= 0 {
		return 0
	}
	return float64(batch) / m.took(batch)
}

// Enough is a small batch whose rate is at least share of the best that batches of
// most items or fewer reach; most, if nothing is known.
func (m *SpeedModel) Enough(share float64, most int) int {
	if !m.fitted || most <= 1 {
		return most
	}
	line := most
	// Along the line the rate rises with the batch: t0/b + t1 <= (t0/most + t1) / share.
	if room := (m.t0/float64(most)+m.t1)/share - m.t1; room > 0 {
		line = int(min(max(math.Ceil(m.t0/room), 1), float64(most)))
	}
	best := max(m.Rate(most), m.Rate(line))
	for i := range m.seen { // it need not be a line
		if s := &m.seen[i]; s.batch <= most && s.n >= speedTrust {
			best = max(best, float64(s.batch)/m.tookAt(s))
		}
	}
	enough, rate := most, share*best*(1-1e-9)
	if line < enough && m.Rate(line) >= rate {
		enough = line
	}
	for i := range m.seen {
		if s := &m.seen[i]; s.batch < enough && s.n >= speedTrust && float64(s.batch)/m.tookAt(s) >= rate {
			return s.batch
		}
	}
	return enough
}
