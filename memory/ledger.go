package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// ErrOutOfMemory says that an allocation failed, or would fail, for want of
// memory. A stage returns it wrapped, and its batch is split and repeated.
var ErrOutOfMemory = errors.New("out of memory")

// OversizeError refuses a request that no amount of waiting could satisfy.
type OversizeError struct {
	Device string
	Need   int64 // bytes asked for
	Have   int64 // most bytes that a request of its kind could ever get
	Holder string
}

func (e *OversizeError) Error() string {
	who := e.Holder
	if who == "" {
		who = "request"
	}
	return fmt.Sprintf("%s needs %s on %s, but at most %s can ever be had: "+
		"raise the memory limit of %s, or use smaller images, tiles or batches",
		who, FormatBytes(e.Need), e.Device, FormatBytes(e.Have), e.Device)
}

// Kind tells how long leased bytes stay.
type Kind int

const (
	// Residency is for what travels: decoded frames, parked pixels, loaded
	// models. It ends when its last user has left, which may need work to be
	// done first.
	Residency Kind = iota
	// Work is for one call, and ends with it. Its holder must not wait for
	// another lease of the same device, or it could wait for itself.
	Work
)

func (k Kind) String() string {
	switch k {
	case Residency:
		return "residency"
	case Work:
		return "work"
	}
	return fmt.Sprintf("Kind(%d)", int(k))
}

// Request asks for a lease.
type Request struct {
	Kind     Kind
	Bytes    int64
	Priority int    // higher is served first: stages further downstream
	Holder   string // who asks, for messages and Holders ("stage upscale")
}

// agePasses is how often a waiter may be overtaken by one that came later
// before it counts as one priority higher. Counting overtakings instead of
// seconds keeps the order independent of the speed of the machine.
const agePasses = 8

// Ledger keeps the leases of one device. Its methods may be called from several
// goroutines. The sum of the leases stays within the limit, except where Resize
// corrects one to the truth, where SetLimit lowers the limit under what is
// held, and where residency that has overshot would keep all work from running
// (see Acquire).
type Ledger struct {
	device string

	mu        sync.Mutex
	limit     int64
	reserve   int64
	residency int64
	work      int64
	peak      int64
	head      *Lease // leases that hold something, newest first
	waiting   []*waiter
	arrivals  uint64
}

// Usage is what a ledger holds at one instant.
type Usage struct {
	Limit     int64 // bytes that may be leased
	Reserve   int64 // bytes of the limit that residency leaves free
	Residency int64 // bytes leased now, by kind
	Work      int64
	Peak      int64 // most bytes leased at once so far
	Waiting   int   // requests that wait
	// WaitingSince is when the one that has waited longest came, zero if none.
	WaitingSince time.Time
}

// Holding is one lease as Holders lists it.
type Holding struct {
	Holder string
	Kind   Kind
	Bytes  int64
	Since  time.Time
}

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

// waiter is a request that did not fit. ready is closed once lease or err is
// set, both under the ledger's lock.
type waiter struct {
	Request
	arrival uint64
	since   time.Time
	passed  int
	ready   chan struct{}
	lease   *Lease
	err     error
}

// inLine orders waiters as they are served.
func inLine(a, b *waiter) int {
	return cmp.Or(cmp.Compare(b.rank(), a.rank()), cmp.Compare(a.arrival, b.arrival))
}

func (w *waiter) rank() int { return w.Priority + w.passed/agePasses }

// NewLedger makes the ledger of a device of which limit bytes may be leased.
// The name is for messages.
func NewLedger(device string, limit int64) *Ledger {
	return &Ledger{device: device, limit: max(limit, 0)}
}

// SetReserve keeps bytes free of residency, so that the neediest single call
// can always run: residency may take at most limit - reserve. Waiters that can
// no longer be served get their *OversizeError.
func (l *Ledger) SetReserve(bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reserve = max(bytes, 0)
	l.admit()
}

// SetLimit changes the limit. What is held stays held, also above a lower
// limit; waiters that can no longer be served get their *OversizeError.
func (l *Ledger) SetLimit(bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit = max(bytes, 0)
	l.admit()
}

// Acquire leases bytes, and waits until there is room. Waiters are served by
// priority, within one priority in order of arrival, and one that later
// arrivals keep overtaking rises. Who waits only for calls to end holds back
// everyone behind; who waits for residency to leave holds back residency alone,
// because it takes work to make residency leave. For the same reason work of at
// most the reserve runs, if no other does, even where residency has overshot.
//
// A request larger than could ever be had (the limit, for residency the limit
// less the reserve) gets an *OversizeError at once. When ctx ends first, the
// error wraps ctx's and nothing is leased. Asking for nothing, or less, gives
// an empty lease.
func (l *Ledger) Acquire(ctx context.Context, r Request) (*Lease, error) {
	if r.Bytes <= 0 {
		return l.empty(r), nil
	}
	if err := ctx.Err(); err != nil {
		return nil, l.gaveUp(r, err)
	}
	l.mu.Lock()
	if have := l.most(r.Kind); r.Bytes > have {
		l.mu.Unlock()
		return nil, l.oversize(r, have)
	}
	if len(l.waiting) == 0 && l.fits(r) {
		x := l.grant(r)
		l.mu.Unlock()
		return x, nil
	}
	w := l.enqueue(r)
	l.mu.Unlock()

	select {
	case <-w.ready:
	case <-ctx.Done():
		if err := l.abandon(w); err != nil {
			return nil, err
		}
		return nil, l.gaveUp(r, ctx.Err())
	}
	return w.lease, w.err
}

// Force grants the request that is first in line, whether it fits or not, and
// returns it; false when nobody waits. It is for who knows that nothing will be
// released before somebody gets something.
func (l *Ledger) Force() (Request, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		return Request{}, false
	}
	w := slices.MinFunc(l.waiting, inLine)
	w.lease = l.grant(w.Request)
	l.served(w)
	return w.Request, true
}

// TryAcquire is Acquire for those who would rather do something else than wait:
// false means that it does not fit now, or that it is not its turn.
func (l *Ledger) TryAcquire(r Request) (*Lease, bool) {
	if r.Bytes <= 0 {
		return l.empty(r), true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Bytes > l.most(r.Kind) || !l.fits(r) {
		return nil, false
	}
	if len(l.waiting) == 0 {
		return l.grant(r), true
	}
	w := l.enqueue(r)
	if w.lease == nil {
		l.dequeue(w)
		return nil, false
	}
	return w.lease, true
}

// Usage reads the ledger.
func (l *Ledger) Usage() Usage {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := Usage{
		Limit: l.limit, Reserve: l.reserve,
		Residency: l.residency, Work: l.work, Peak: l.peak,
		Waiting: len(l.waiting),
	}
	for _, w := range l.waiting {
		if u.WaitingSince.IsZero() || w.since.Before(u.WaitingSince) {
			u.WaitingSince = w.since
		}
	}
	return u
}

// Holders lists the leases that hold something, oldest first.
func (l *Ledger) Holders() []Holding {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []Holding
	for x := l.head; x != nil; x = x.next {
		all = append(all, Holding{Holder: x.holder, Kind: x.kind, Bytes: x.bytes, Since: x.since})
	}
	slices.Reverse(all)
	return all
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
	part := l.empty(Request{Kind: x.kind, Holder: x.holder})
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

// empty makes a lease without the lock: nothing is listed until it is resized.
func (l *Ledger) empty(r Request) *Lease {
	return &Lease{ledger: l, kind: r.Kind, holder: r.Holder}
}

func (l *Ledger) oversize(r Request, have int64) *OversizeError {
	return &OversizeError{Device: l.device, Need: r.Bytes, Have: have, Holder: r.Holder}
}

func (l *Ledger) gaveUp(r Request, err error) error {
	return fmt.Errorf("waiting for %s on %s for %s: %w", FormatBytes(r.Bytes), l.device, cmp.Or(r.Holder, "request"), err)
}

// The methods below need the lock.

// most is what a request of a kind could ever get.
func (l *Ledger) most(k Kind) int64 {
	if k == Residency {
		return max(l.limit-l.reserve, 0)
	}
	return l.limit
}

// Differences, not sums, are compared: a sum could overflow.

func (l *Ledger) fits(r Request) bool {
	if r.Bytes <= l.limit-l.residency-l.work && (r.Kind == Work || r.Bytes <= l.most(Residency)-l.residency) {
		return true
	}
	return r.Kind == Work && l.work == 0 && r.Bytes <= min(l.reserve, l.limit)
}

// fitsIdle tells whether r would fit if all running calls had ended.
func (l *Ledger) fitsIdle(r Request) bool {
	return r.Bytes <= l.most(r.Kind)-l.residency || r.Kind == Work && r.Bytes <= l.reserve
}

func (l *Ledger) grant(r Request) *Lease {
	x := l.empty(r)
	l.adjust(x, r.Bytes)
	return x
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

func (l *Ledger) enqueue(r Request) *waiter {
	l.arrivals++
	w := &waiter{Request: r, arrival: l.arrivals, since: time.Now(), ready: make(chan struct{})}
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
		if have := l.most(w.Kind); w.Bytes > have {
			w.err = l.oversize(w.Request, have)
			l.served(w)
			return true
		}
		if w.Kind == Residency && residencyHeld {
			continue
		}
		if l.fits(w.Request) {
			w.lease = l.grant(w.Request)
			l.served(w)
			for _, other := range l.waiting {
				if other.arrival < w.arrival {
					other.passed++
				}
			}
			return true
		}
		if l.fitsIdle(w.Request) {
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
		w.lease.released = true
		l.adjust(w.lease, 0)
	default:
		l.dequeue(w)
		l.admit() // it may have held others back
	}
	return nil
}
