package memory

import (
	"fmt"
	"time"
)

// Lease is bytes of a device that belong to its holder until Release.
type Lease struct {
	ledger     *Ledger
	prev, next *Lease
	holder     string
	since      time.Time
	bytes      int64
	kind       Kind
	linked     bool
	released   bool
}

// grant is the leases of one request; a kind that was not asked for has none.
type grant struct{ work, residency *Lease }

// both adds an empty lease for what was not asked for.
func (l *Ledger) both(g grant, holder string) (work, stays *Lease) {
	if g.work == nil {
		g.work = l.empty(Work, holder)
	}
	if g.residency == nil {
		g.residency = l.empty(Residency, holder)
	}
	return g.work, g.residency
}

// Bytes tells how much the lease holds.
func (x *Lease) Bytes() int64 {
	x.ledger.mu.Lock()
	defer x.ledger.mu.Unlock()
	return x.bytes
}

// Resize corrects the lease to what is really used. It never waits, so that the
// ledger may hold more than its limit until others release. After Release it
// does nothing.
func (x *Lease) Resize(bytes int64) {
	l := x.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	if x.released {
		return
	}
	l.adjust(x, max(bytes, 0))
}

// Split makes a lease of its own of up to bytes of this one, for what was made
// within it and goes elsewhere. Nobody can get the bytes in between.
func (x *Lease) Split(bytes int64) *Lease {
	l := x.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	part := l.empty(x.kind, x.holder)
	bytes = min(max(bytes, 0), x.bytes)
	if bytes == 0 {
		return part
	}
	x.bytes -= bytes
	part.bytes, part.since = bytes, x.since
	l.link(part)
	if x.bytes == 0 {
		l.unlink(x)
	}
	return part
}

// Release gives the bytes back. It may be called more than once, and on nil, so
// that it can be deferred.
func (x *Lease) Release() {
	if x == nil {
		return
	}
	l := x.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	if x.released {
		return
	}
	x.released = true
	l.adjust(x, 0)
}

// The methods below need the ledger's lock, but for empty.

// empty makes a lease without the lock: nothing is listed until it is resized.
func (l *Ledger) empty(k Kind, holder string) *Lease {
	return &Lease{ledger: l, kind: k, holder: holder}
}

func (l *Ledger) grant(a ask, holder string) (g grant) {
	// One lease for what is asked for, as most requests are of one kind.
	if a.work > 0 || a.residency <= 0 {
		g.work = l.empty(Work, holder)
		l.adjust(g.work, a.work)
	}
	if a.residency > 0 {
		g.residency = l.empty(Residency, holder)
		l.adjust(g.residency, a.residency)
	}
	return g
}

// adjust sets what a lease holds, and serves waiters when that made room.
func (l *Ledger) adjust(x *Lease, bytes int64) {
	delta := bytes - x.bytes
	x.bytes = bytes
	switch x.kind {
	case Residency:
		l.residency += delta
	default:
		l.work += delta
	}
	if l.residency < 0 || l.work < 0 {
		panic(fmt.Sprintf("BUG: ledger of %s holds %d bytes of residency and %d of work", l.device, l.residency, l.work))
	}
	l.peak = max(l.peak, l.residency+l.work)
	if linked := bytes > 0; linked != x.linked {
		if linked {
			x.since = time.Now()
			l.link(x)
		} else {
			l.unlink(x)
		}
	}
	if delta < 0 {
		l.admit()
	}
}

func (l *Ledger) link(x *Lease) {
	x.linked = true
	x.next = l.head
	if l.head != nil {
		l.head.prev = x
	}
	l.head = x
}

func (l *Ledger) unlink(x *Lease) {
	x.linked = false
	if x.prev != nil {
		x.prev.next = x.next
	} else {
		l.head = x.next
	}
	if x.next != nil {
		x.next.prev = x.prev
	}
	x.prev, x.next = nil, nil
}
