package memory

import (
	"math"
	"runtime/debug"
	"time"
)

const (
	// leastGoLimit is the lowest Go memory limit that is set. Below what is alive
	// the collector would run all the time, for up to half of the processor (Go
	// caps it there, see runtime/debug.SetMemoryLimit and the garbage collector
	// guide), and free nothing: a program that does something has some MiB alive,
	// and as much garbage again is what collecting now and then needs.
	leastGoLimit = 32 << 20

	// leastOther is what is set aside for memory that is not Go's even where less
	// is measured: code that is not yet paged in, stacks of threads to come.
	leastOther = 16 << 20
	// guessedOther stands in where the system does not tell what is resident: the
	// program's code and data, an embedded data base, C image libraries.
	guessedOther = 64 << 20

	// otherHalves is how fast a peak of the other memory is forgotten. C libraries
	// take and free memory for every image; their next peak is as high as the last.
	otherHalves = 5 * time.Second
	// limitStep is the least change that is passed on to the runtime, as each
	// one makes it compute its goal anew.
	limitStep = 4 << 20
)

// SetHostLimit says how many bytes this process may have resident, C memory
// included; 0 or less is no limit. A Manager that is ProcessWide then keeps Go's
// memory limit (runtime/debug.SetMemoryLimit) at the bytes less what is not
// Go's, measured at every poll, but never below 32 MiB; one that is not does
// nothing. A lower limit that somebody else sets, by GOMEMLIMIT or in the
// program, stays. Without a limit, and after Close, the one before is back.
func (m *Manager) SetHostLimit(bytes int64) {
	if !m.processWide {
		return
	}
	select {
	case <-m.closed:
		return
	default:
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limit.budget = max(bytes, 0)
	if m.limit.budget == 0 {
		m.limit.restore()
		return
	}
	m.limit.follow(time.Now(), m.host.Process())
}

// goLimit keeps the runtime's memory limit. The Manager's lock guards it.
type goLimit struct {
	budget int64
	other  int64 // memory that is not Go's: its recent peak
	at     time.Time
	active bool
	// set is what was last passed to the runtime, and before is what it had by
	// somebody else's will.
	set, before int64
}

// follow sets the limit that leaves room for the memory that is not Go's.
func (g *goLimit) follow(now time.Time, p ProcessMemory) {
	g.observe(now, p)
	current := debug.SetMemoryLimit(-1)
	if !g.active || current != g.set { // somebody else has set it
		g.active, g.before, g.set = true, current, current
	}
	want := min(g.before, max(g.budget-g.other, leastGoLimit))
	if d := want - g.set; d > -limitStep && d < limitStep && want != g.before {
		return
	}
	if want != g.set {
		debug.SetMemoryLimit(want)
		g.set = want
	}
}

// observe follows a rise at once, and a fall slowly.
func (g *goLimit) observe(now time.Time, p ProcessMemory) {
	measured := int64(guessedOther)
	if p.Other != Unknown {
		measured = max(p.Other, leastOther)
	}
	if over := g.other - measured; over > 0 {
		left := math.Exp2(-float64(now.Sub(g.at)) / float64(otherHalves))
		measured += int64(float64(over) * min(left, 1))
	}
	g.other, g.at = measured, now
}

// restore puts back what was before, unless somebody else has set it since.
func (g *goLimit) restore() {
	if g.active && debug.SetMemoryLimit(-1) == g.set {
		debug.SetMemoryLimit(g.before)
	}
	*g = goLimit{}
}
