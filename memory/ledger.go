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
	Residency int64 // bytes leased now for what stays after a call
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

// ask is what is wanted of the ledger, by kind.
type ask struct{ work, residency, beside int64 }

func (r CallRequest) ask() ask { return ask{max(r.Work, 0), max(r.Stays, 0), max(r.Beside, 0)} }

func (r Request) ask() ask {
	if r.Kind == Residency {
		return ask{residency: r.Bytes}
	}
	return ask{work: r.Bytes}
}

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

func (l *Ledger) gaveUp(a ask, holder string, err error) error {
	return fmt.Errorf("waiting for %s on %s for %s: %w", FormatBytes(a.work+a.residency), l.device, cmp.Or(holder, "request"), err)
}
