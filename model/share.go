package model

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

// share is what a Runner's session has of its device, kept as leases. The zero
// value is of none. It belongs to the ladder's goroutine.
type share struct {
	held *memory.Lease // weights and arena; nil without a ledger or a session
	cap  int64         // that the session was opened with
	used bool          // a run has been tried in it
	base int64         // bytes of the arena without any run
	// ratio is how many bytes of the arena a run took for one of its input, the
	// largest of rated bytes.
	ratio float64
	rated int
}

// changed tells whether the device has become another than the session was opened
// for.
func (s *share) changed(o RunnerOptions) bool {
	if o.Cap == nil || !s.used { // or it would only be opened again and again
		return false
	}
	d := o.Cap() - s.cap
	return max(d, -d) > s.cap/16
}

// open leases what the weights take, before a session is opened.
func (s *share) open(ctx context.Context, o RunnerOptions) (err error) {
	s.close()
	s.used = false
	if o.Cap != nil {
		s.cap = o.Cap()
	}
	if o.Ledger != nil {
		s.held, err = acquire(ctx, o, memory.Residency, o.Weights)
	}
	return err
}

// opened looks at the new session.
func (s *share) opened(session Session) {
	if st, err := session.Stats(); err == nil {
		s.base = st.Allocated
	}
}

// close gives the leases back.
func (s *share) close() {
	if s.held != nil {
		s.held.Release()
		s.held = nil
	}
}

// run leases what a run on so many bytes of input adds to what the session has.
// Nothing is known before the first run: that is taken for its input alone.
func (s *share) run(ctx context.Context, o RunnerOptions, session Session, bytes int, wait bool) (*memory.Lease, error) {
	s.used = true
	if o.Ledger == nil {
		return nil, nil
	}
	need := int64(max(s.ratio, 1) * float64(bytes))
	if st, err := session.Stats(); err == nil {
		need = s.base + need - st.Allocated
	}
	if !wait {
		lease, ok := o.Ledger.TryAcquire(memory.Request{Kind: memory.Work, Bytes: need, Holder: o.Name})
		if !ok {
			return nil, memory.ErrOutOfMemory
		}
		return lease, nil
	}
	return acquire(ctx, o, memory.Work, need)
}

// ran corrects the leases to what the session has after a run.
func (s *share) ran(o RunnerOptions, session Session, bytes int, well bool) {
	st, err := session.Stats()
	if err != nil {
		return // the leases stay as they were
	}
	if well && bytes >= s.rated {
		s.ratio = float64(max(st.Allocated, st.MaxInUse)-s.base) / float64(bytes)
		s.rated = bytes
	}
	if s.held != nil {
		s.held.Resize(o.Weights + max(st.Allocated-s.base, 0))
	}
}

// room is how many bytes of the device this session could have, with what it has.
func (s *share) room(o RunnerOptions) int64 {
	if o.Ledger == nil {
		return 0
	}
	u := o.Ledger.Usage()
	room := u.Limit - u.Residency - u.Work
	if s.held != nil {
		room += s.held.Bytes()
	}
	return room
}

// mayGrow tells whether there may be more room for it at another time.
func (s *share) mayGrow(o RunnerOptions) bool {
	return o.Ledger != nil && s.room(o) < o.Ledger.Usage().Ceiling
}

// leasePatience is how long a lease is waited for. Who has the memory may keep it,
// and the ladder waits longer and longer between its tries.
const leasePatience = 250 * time.Millisecond

// acquire waits its turn, but not for ever.
func acquire(ctx context.Context, o RunnerOptions, kind memory.Kind, bytes int64) (*memory.Lease, error) {
	patient, cancel := context.WithTimeout(ctx, leasePatience)
	defer cancel()
	lease, err := o.Ledger.Acquire(patient, memory.Request{Kind: kind, Bytes: bytes, Holder: o.Name})
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		u := o.Ledger.Usage()
		return nil, &leasedError{need: bytes, have: max(u.Limit-u.Residency-u.Work, 0)}
	}
	return lease, err
}

// leasedError says that others have the memory now.
type leasedError struct{ need, have int64 }

func (e *leasedError) Error() string {
	return fmt.Sprintf("out of memory: %s are wanted and %s are left by others", memory.FormatBytes(e.need), memory.FormatBytes(e.have))
}

// Is makes it out of memory.
func (e *leasedError) Is(target error) bool { return target == memory.ErrOutOfMemory }

// attempted is when something was tried in vain for want of memory.
type attempted struct {
	when time.Time
	room int64 // bytes of the device that there were
	err  error
}

// recently tells that trying again now would be in vain too, as there is no more
// room. Without a ledger nobody knows of more, so that it takes longer.
func (a attempted) recently(o RunnerOptions, room int64) bool {
	pause := nextTime
	if o.Ledger != nil {
		pause = longestWait
	}
	return !a.when.IsZero() && time.Since(a.when) < pause && room <= a.room
}
