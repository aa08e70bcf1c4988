package memory

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// agePasses is how often a waiter may be overtaken by one that came later
// before it counts as one priority higher. Counting overtakings instead of
// seconds keeps the order independent of the speed of the machine.
const agePasses = 8

// Who waits for memory stands in line here: who is served next, and whom that lets by.

// waiter is a request that did not fit. ready is closed once grant or err is
// set, both under the ledger's lock.
type waiter struct {
	ask
	priority int
	holder   string
	arrival  uint64
	since    time.Time
	passed   int
	ready    chan struct{}
	granted  grant
	err      error
}

// inLine orders waiters as they are served.
func inLine(a, b *waiter) int {
	return cmp.Or(cmp.Compare(b.rank(), a.rank()), cmp.Compare(a.arrival, b.arrival))
}

func (w *waiter) rank() int { return w.priority + w.passed/agePasses }

// The methods below need the lock.

// most is what a kind could get of a limit.
func (l *Ledger) most(k Kind, limit int64) int64 {
	if k == Residency {
		return max(limit-l.reserve, 0)
	}
	return limit
}

// oversize refuses what could not be had if nothing else were held.
func (l *Ledger) oversize(a ask, holder string) error {
	over := func(need, have int64) error {
		return &OversizeError{Device: l.device, Need: need, Have: have, Holder: holder}
	}
	if have := l.most(Residency, l.ceiling); a.residency > 0 && (a.residency > have || a.beside > have-a.residency) {
		return over(add(a.residency, a.beside), have)
	}
	// Inputs do not count against work alone, which runs also where residency
	// has overshot.
	if a.work > l.ceiling || a.residency > 0 && add(a.residency, a.beside) > l.ceiling-a.work {
		return over(add(a.work, a.residency), l.ceiling)
	}
	return nil
}

// add is a + b for sizes, of which a sum could overflow.
func add(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// try grants what fits now, and whose turn it is.
func (l *Ledger) try(a ask, priority int, holder string) (grant, bool) {
	if l.oversize(a, holder) != nil || !l.fits(a) {
		return grant{}, false
	}
	if len(l.waiting) == 0 {
		return l.grant(a, holder), true
	}
	w := l.enqueue(a, priority, holder)
	if w.granted == (grant{}) {
		l.dequeue(w)
		return grant{}, false
	}
	return w.granted, true
}

// Differences, not sums, are compared: a sum could overflow.

func (l *Ledger) fits(a ask) bool {
	if a.work <= l.limit-l.residency-l.work-a.residency && a.residency <= l.limit &&
		(a.residency <= 0 || a.residency <= l.most(Residency, l.limit)-l.residency) {
		return true
	}
	return a.residency <= 0 && l.work == 0 && a.work <= min(l.reserve, l.limit)
}

// fitsIdle tells whether a would fit if all running calls had ended.
func (l *Ledger) fitsIdle(a ask) bool {
	if a.residency <= 0 {
		return a.work <= l.limit-l.residency || a.work <= min(l.reserve, l.limit)
	}
	return a.residency <= l.most(Residency, l.limit)-l.residency && a.work <= l.limit-l.residency-a.residency
}

// fitsEmpty tells whether a would fit if nothing else were held: the limit may
// have been lowered since it began to wait.
func (l *Ledger) fitsEmpty(a ask) bool {
	return a.work <= l.limit && (a.residency <= 0 ||
		a.residency <= l.most(Residency, l.limit)-a.beside && a.work <= l.limit-a.residency-a.beside)
}

func (l *Ledger) enqueue(a ask, priority int, holder string) *waiter {
	l.arrivals++
	w := &waiter{ask: a, priority: priority, holder: holder, arrival: l.arrivals, since: time.Now(), ready: make(chan struct{})}
	l.waiting = append(l.waiting, w)
	l.admit()
	return w
}

func (l *Ledger) dequeue(w *waiter) {
	if i := slices.Index(l.waiting, w); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
}

// admit serves the waiters that fit, in order. There are about as many as there
// are workers, so that sorting them each time costs nothing worth saving.
func (l *Ledger) admit() {
	if len(l.waiting) == 0 {
		return
	}
	for l.admitOne() {
	}
}

// admitOne serves one waiter and reports whether it did: serving one may raise
// those that it overtook, and so change the order.
func (l *Ledger) admitOne() bool {
	slices.SortFunc(l.waiting, inLine)
	residencyHeld := false
	for _, w := range l.waiting {
		if err := l.oversize(w.ask, w.holder); err != nil {
			w.err = err
			l.served(w)
			return true
		}
		if w.residency > 0 && residencyHeld {
			continue
		}
		// Looked at before fitsEmpty, which counts the inputs as held: they may have
		// been taken away since, and who finds that out asks anew.
		if l.fits(w.ask) {
			w.granted = l.grant(w.ask, w.holder)
			l.served(w)
			for _, other := range l.waiting {
				if other.arrival < w.arrival {
					other.passed++
				}
			}
			return true
		}
		if !l.fitsEmpty(w.ask) {
			continue
		}
		if l.fitsIdle(w.ask) {
			return false
		}
		residencyHeld = true
	}
	return false
}

func (l *Ledger) served(w *waiter) {
	l.dequeue(w)
	close(w.ready)
}

// abandon takes back a request whose context has ended. It may have been served
// in the same instant; a refusal is then the more useful answer.
func (l *Ledger) abandon(w *waiter) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-w.ready:
		if w.err != nil {
			return w.err
		}
		for _, x := range []*Lease{w.granted.work, w.granted.residency} {
			if x != nil {
				x.released = true
				l.adjust(x, 0)
			}
		}
	default:
		l.dequeue(w)
		l.admit() // it may have held others back
	}
	return nil
}
