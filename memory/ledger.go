package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

// ErrOutOfMemory says that an allocation failed, or would fail, for want of
// memory. A stage returns it wrapped, and its batch is split and repeated.
var ErrOutOfMemory = errors.New("out of memory")

// OversizeError refuses a request that no amount of waiting could satisfy.
type OversizeError struct {
	Device string // its name
	Need   int64  // bytes asked for
	Have   int64  // most bytes that a request of its kind could ever get
	Holder string // who asked
	Now    bool   // Have is what there is now, and nothing more can be released
}

func (e *OversizeError) Error() string {
	who := e.Holder
	if who == "" {
		who = "request"
	}
	what := "at most %s can ever be had"
	if e.Now {
		what = "only %s are free and nothing that is held can be given back"
	}
	return fmt.Sprintf("%s needs %s on %s, but "+what+": "+
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

// String is the kind's name, for messages.
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
	Kind     Kind   // how long it is for
	Bytes    int64  // 0 or less is a lease of nothing
	Priority int    // higher is served first: stages further downstream
	Holder   string // who asks, for messages and Holders ("stage upscale")
}

// CallRequest asks for all that one call needs, at once: two calls that each
// had a part of theirs would wait for each other.
type CallRequest struct {
	Work     int64  // bytes that the call takes and gives back
	Stays    int64  // bytes of residency that it leaves behind, or brings back
	Beside   int64  // bytes of residency that its inputs have, and keep during the call
	Priority int    // as in Request
	Holder   string // as in Request
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
	ceiling   int64 // the highest limit there was
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
	Limit     int64 // bytes that may be leased now
	Ceiling   int64 // the highest limit so far: what needs more is refused
	Reserve   int64 // bytes of the limit that residency leaves free
	Residency int64 // bytes leased now, by kind
	Work      int64 // bytes leased now for calls
	Peak      int64 // most bytes leased at once so far
	Waiting   int   // requests that wait
	// WaitingSince is when the one that has waited longest came, zero if none.
	WaitingSince time.Time
}

// Holding is one lease as Holders lists it.
type Holding struct {
	Holder string    // who asked for it
	Kind   Kind      // how long it is for
	Bytes  int64     // that it has now
	Since  time.Time // when it was given
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

// ask is what is wanted of the ledger, by kind.
type ask struct{ work, residency, beside int64 }

func (r CallRequest) ask() ask { return ask{max(r.Work, 0), max(r.Stays, 0), max(r.Beside, 0)} }

func (r Request) ask() ask {
	if r.Kind == Residency {
		return ask{residency: r.Bytes}
	}
	return ask{work: r.Bytes}
}

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

// grant is the leases of one request; a kind that was not asked for has none.
type grant struct{ work, residency *Lease }

// inLine orders waiters as they are served.
func inLine(a, b *waiter) int {
	return cmp.Or(cmp.Compare(b.rank(), a.rank()), cmp.Compare(a.arrival, b.arrival))
}

func (w *waiter) rank() int { return w.priority + w.passed/agePasses }

// NewLedger makes the ledger of a device of which limit bytes may be leased.
// The name is for messages.
func NewLedger(device string, limit int64) *Ledger {
	return &Ledger{device: device, limit: max(limit, 0), ceiling: max(limit, 0)}
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
// limit. What would have fitted under the highest limit so far waits until the
// limit is high enough again, and lets others by; see Refuse for when it will
// not be.
func (l *Ledger) SetLimit(bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit = max(bytes, 0)
	l.ceiling = max(l.ceiling, l.limit)
	l.admit()
}

// Acquire leases bytes, and waits until there is room. Waiters are served by
// priority, within one priority in order of arrival, and one that later
// arrivals keep overtaking rises. Who waits only for calls to end holds back
// everyone behind; who waits for residency to leave holds back residency alone,
// because it takes work to make residency leave. For the same reason work of at
// most the reserve runs, if no other does, even where residency has overshot.
//
// A request larger than could ever be had (the highest limit so far, for
// residency less the reserve) gets an *OversizeError at once. When ctx ends
// first, the error wraps ctx's and nothing is leased. Asking for nothing, or
// less, gives an empty lease.
func (l *Ledger) Acquire(ctx context.Context, r Request) (*Lease, error) {
	g, err := l.acquire(ctx, r.ask(), r.Priority, r.Holder)
	if err != nil {
		return nil, err
	}
	if r.Kind == Residency {
		return g.residency, nil
	}
	return g.work, nil
}

// AcquireCall leases all that a call needs, as Acquire does: the work, which
// ends with the call, and the residency, which its holder splits among what
// stays. What cannot be had beside the inputs that the call keeps is refused.
func (l *Ledger) AcquireCall(ctx context.Context, r CallRequest) (work, stays *Lease, err error) {
	g, err := l.acquire(ctx, r.ask(), r.Priority, r.Holder)
	if err != nil {
		return nil, nil, err
	}
	work, stays = l.both(g, r.Holder)
	return work, stays, nil
}

// TryAcquireCall is AcquireCall for those who have to let go of something before
// they wait.
func (l *Ledger) TryAcquireCall(r CallRequest) (work, stays *Lease, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g, ok := l.try(r.ask(), r.Priority, r.Holder)
	if !ok {
		return nil, nil, false
	}
	work, stays = l.both(g, r.Holder)
	return work, stays, true
}

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

func (l *Ledger) acquire(ctx context.Context, a ask, priority int, holder string) (grant, error) {
	if a.work <= 0 && a.residency <= 0 {
		return grant{work: l.empty(Work, holder), residency: l.empty(Residency, holder)}, nil
	}
	if err := ctx.Err(); err != nil {
		return grant{}, l.gaveUp(a, holder, err)
	}
	l.mu.Lock()
	if err := l.oversize(a, holder); err != nil {
		l.mu.Unlock()
		return grant{}, err
	}
	if len(l.waiting) == 0 && l.fits(a) {
		g := l.grant(a, holder)
		l.mu.Unlock()
		return g, nil
	}
	w := l.enqueue(a, priority, holder)
	l.mu.Unlock()

	select {
	case <-w.ready:
	case <-ctx.Done():
		if err := l.abandon(w); err != nil {
			return grant{}, err
		}
		return grant{}, l.gaveUp(a, holder, ctx.Err())
	}
	return w.granted, w.err
}

// First is what the request that is first in line lacks: the bytes that must be
// released before it is served. False when nobody waits. Who can give memory
// back reads it to know how much would help.
func (l *Ledger) First() (holder string, lacks int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		return "", 0, false
	}
	w := slices.MinFunc(l.waiting, inLine)
	lacks = w.work + w.residency - (l.limit - l.residency - l.work)
	if w.residency > 0 {
		lacks = max(lacks, w.residency-(l.most(Residency, l.limit)-l.residency))
	}
	return w.holder, max(lacks, 0), true
}

// Refuse gives the request that is first in line an *OversizeError with what is
// free of the limit now. It is for who knows that nothing more can be released,
// so that it would wait for ever. False when nobody waits.
func (l *Ledger) Refuse() (holder string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		return "", false
	}
	w := slices.MinFunc(l.waiting, inLine)
	w.err = &OversizeError{
		Device: l.device, Holder: w.holder, Need: w.work + w.residency,
		Have: max(min(l.limit, l.most(Residency, l.limit)+w.work)-l.residency-l.work, 0), Now: true,
	}
	l.served(w)
	l.admit()
	return w.holder, true
}

// TryAcquire is Acquire for those who would rather do something else than wait:
// false means that it does not fit now, or that it is not its turn.
func (l *Ledger) TryAcquire(r Request) (*Lease, bool) {
	if r.Bytes <= 0 {
		return l.empty(r.Kind, r.Holder), true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	g, ok := l.try(r.ask(), r.Priority, r.Holder)
	if !ok {
		return nil, false
	}
	if r.Kind == Residency {
		return g.residency, true
	}
	return g.work, true
}

// Usage reads the ledger.
func (l *Ledger) Usage() Usage {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := Usage{
		Limit: l.limit, Ceiling: l.ceiling, Reserve: l.reserve,
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

// empty makes a lease without the lock: nothing is listed until it is resized.
func (l *Ledger) empty(k Kind, holder string) *Lease {
	return &Lease{ledger: l, kind: k, holder: holder}
}

func (l *Ledger) gaveUp(a ask, holder string, err error) error {
	return fmt.Errorf("waiting for %s on %s for %s: %w", FormatBytes(a.work+a.residency), l.device, cmp.Or(holder, "request"), err)
}

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
