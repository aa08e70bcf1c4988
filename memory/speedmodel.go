package memory

import (
	"math"
	"slices"
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
}

const (
	speedRing  = 9
	speedSizes = 32
	// speedTrust is how many runs of a size it takes until they count for more than
	// the line, where they are off it by more than speedOff of its time.
	speedTrust = 3
	speedOff   = 0.05
)

// Seen takes how long a run of so many items took. Nonsense is not taken.
func (m *SpeedModel) Seen(batch int, took time.Duration) {
	if batch <= 0 || took <= 0 {
		return
	}
	m.runs++
	s := m.sample(batch)
	s.run = m.runs
	if !s.warm {
		s.warm = true
		return
	}
	s.took[s.n%speedRing] = took.Seconds()
	s.n++
	m.fit()
}

// Cold has the first run of each batch size not count again: it is another session.
func (m *SpeedModel) Cold() {
	for i := range m.seen {
		m.seen[i].warm = false
	}
}

// sample finds what was seen of a batch size, or begins it.
func (m *SpeedModel) sample(batch int) *speedSample {
	i, found := slices.BinarySearchFunc(m.seen, batch, func(s speedSample, b int) int { return s.batch - b })
	if found {
		return &m.seen[i]
	}
	if len(m.seen) == speedSizes {
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
	m.seen = slices.Insert(m.seen, i, speedSample{batch: batch})
	return &m.seen[i]
}

// typical is the lower tercile of the last runs of the size.
func (s *speedSample) typical() float64 {
	took := slices.Clone(s.took[:min(s.n, speedRing)])
	slices.Sort(took)
	return took[(len(took)-1)/3]
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
		b, t := float64(s.batch), s.typical()
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
	for i := range m.seen {
		if m.seen[i].batch == batch {
			return m.seen[i].n
		}
	}
	return 0
}

// Took is how long a run of so many items takes; 0 if nothing is known.
func (m *SpeedModel) Took(batch int) time.Duration {
	if !m.fitted || batch <= 0 {
		return 0
	}
	return time.Duration(m.took(batch) * float64(time.Second))
}

// took is what the line says, unless it has been seen to be wrong there.
func (m *SpeedModel) took(batch int) float64 {
	line := m.t0 + m.t1*float64(batch)
	i, found := slices.BinarySearchFunc(m.seen, batch, func(s speedSample, b int) int { return s.batch - b })
	if !found || m.seen[i].n < speedTrust {
		return line
	}
	if t := m.seen[i].typical(); math.Abs(t-line) > speedOff*line {
		return t
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
	sizes := []int{most}
	// Along the line the rate rises with the batch: t0/b + t1 <= (t0/most + t1) / share.
	if room := (m.t0/float64(most)+m.t1)/share - m.t1; room > 0 {
		sizes = append(sizes, min(max(int(math.Ceil(m.t0/room)), 1), most))
	}
	for i := range m.seen { // it need not be a line
		if s := &m.seen[i]; s.batch <= most && s.n >= speedTrust {
			sizes = append(sizes, s.batch)
		}
	}
	best := 0.0
	for _, b := range sizes {
		best = max(best, m.Rate(b))
	}
	enough := most
	for _, b := range sizes {
		if b < enough && m.Rate(b) >= share*best*(1-1e-9) {
			enough = b
		}
	}
	return enough
}
