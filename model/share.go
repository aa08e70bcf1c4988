package model

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/memory"
)

// share is what a session has of its device, kept as leases. It belongs to the
// ladder's goroutine.
type share struct {
	seat *RunnerDevice
	name string // of the network

	held *memory.Lease // weights and arena; nil without a ledger or a session
	cap  int64         // that the session was opened with
	used bool          // a run has been tried in it
	base int64         // bytes of the arena without any run
	peak int64         // bytes of the arena that were ever in use
	// ratio is how many bytes of the arena a run took for one of its input, the
	// largest of rated bytes: for shapes of which nothing else is known.
	ratio float64
	rated int
}

// changed tells whether the device has become another than the session was opened
// for.
func (s *share) changed() bool {
	if s.seat.Cap == nil || !s.used { // or it would only be opened again and again
		return false
	}
	d := s.seat.Cap() - s.cap
	return max(d, -d) > s.cap/16
}

// open leases what the weights take, before a session is opened; at once or not at all,
// if it must not wait.
func (s *share) open(ctx context.Context, wait bool) (err error) {
	s.close()
	s.used = false
	if s.seat.Cap != nil {
		s.cap = s.seat.Cap()
	}
	switch {
	case s.seat.Ledger == nil:
	case wait:
		s.held, err = s.acquire(ctx, memory.Residency, s.seat.Weights)
	default:
		var ok bool
		if s.held, ok = s.seat.Ledger.TryAcquire(memory.Request{Kind: memory.Residency, Bytes: s.seat.Weights, Holder: s.name}); !ok {
			err = &leasedError{need: s.seat.Weights, have: s.free()}
		}
	}
	return err
}

// opened looks at the new session.
func (s *share) opened(session Session) {
	s.base, s.peak = 0, 0
	if st, err := session.Stats(); err == nil {
		s.base, s.peak = st.Allocated, st.MaxInUse
	}
}

// close gives the leases back.
func (s *share) close() {
	if s.held != nil {
		s.held.Release()
		s.held = nil
	}
}

// allocated is what the arena has beside the weights, in bytes.
func (s *share) allocated(session Session) int64 {
	if st, err := session.Stats(); err == nil {
		return max(st.Allocated-s.base, 0)
	}
	return 0
}

// room is what the arena may have, and has, beside the weights.
func (s *share) room(session Session) memory.Room {
	r := memory.Room{Budget: math.MaxInt64, Allocated: s.allocated(session)}
	switch {
	case s.seat.Ledger != nil:
		r.Budget = s.free() - s.seat.Weights
	case s.seat.Budget > 0:
		r.Budget = s.seat.Budget / int64(max(s.seat.Lanes, 1))
	}
	r.Scarce = s.seat.Scarce != nil && s.seat.Scarce()
	return r
}

// run leases what a run adds to what the session has: to the bytes that it is known to
// take, or where nothing is known (0) to what its input lets expect. Before the first
// run that is its input alone.
func (s *share) run(ctx context.Context, session Session, input int, known int64, wait bool) (*memory.Lease, error) {
	s.used = true
	if s.seat.Ledger == nil {
		return nil, nil
	}
	need := known
	if need == 0 {
		need = int64(max(s.ratio, 1) * float64(input))
	}
	need -= s.allocated(session)
	if !wait {
		lease, ok := s.seat.Ledger.TryAcquire(memory.Request{Kind: memory.Work, Bytes: need, Holder: s.name})
		if !ok {
			return nil, memory.ErrOutOfMemory
		}
		return lease, nil
	}
	return s.acquire(ctx, memory.Work, need)
}

// ran corrects the leases to what the session has after a run that went well, or not,
// and tells what the run took of the arena; 0: that is not known. The run's options are
// o, and clean says that the arena was empty before.
func (s *share) ran(session Session, input int, well, clean bool, o ort.RunOptions) (took int64) {
	st, err := session.Stats()
	if err != nil {
		return 0 // the leases stay as they were
	}
	if well && input >= s.rated {
		s.ratio = float64(max(st.Allocated, st.MaxInUse)-s.base) / float64(input)
		s.rated = input
	}
	if s.held != nil {
		s.held.Resize(s.seat.Weights + max(st.Allocated-s.base, 0))
	}
	switch {
	case !well:
	case o.Shrink: // it has gone again
		if st.MaxInUse > s.peak {
			took = st.MaxInUse - s.base
		}
	case clean:
		took = max(st.Allocated-s.base, int64(input)) // also of a session that tells nothing
	}
	s.peak = max(s.peak, st.MaxInUse)
	return took
}

// free is how many bytes of the device this session could have, with what it has.
func (s *share) free() int64 {
	if s.seat.Ledger == nil {
		return 0
	}
	u := s.seat.Ledger.Usage()
	free := u.Limit - u.Residency - u.Work
	if s.held != nil {
		free += s.held.Bytes()
	}
	return free
}

// mayGrow tells whether there may be more room for it at another time.
func (s *share) mayGrow() bool {
	return s.seat.Ledger != nil && s.free() < s.seat.Ledger.Usage().Ceiling
}

// leasePatience is how long a lease is waited for. Who has the memory may keep it,
// and the ladder waits longer and longer between its tries.
const leasePatience = 250 * time.Millisecond

// acquire waits its turn, but not for ever.
func (s *share) acquire(ctx context.Context, kind memory.Kind, bytes int64) (*memory.Lease, error) {
	patient, cancel := context.WithTimeout(ctx, leasePatience)
	defer cancel()
	lease, err := s.seat.Ledger.Acquire(patient, memory.Request{Kind: kind, Bytes: bytes, Holder: s.name})
	if err != nil && errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		u := s.seat.Ledger.Usage()
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
	free int64 // bytes of the device that there were
	err  error
}

func (s *share) inVain(err error) attempted { return attempted{time.Now(), s.free(), err} }

// recently tells that trying again now would be in vain too, as there is no more
// room. Without a ledger nobody knows of more, so that it takes longer.
func (s *share) recently(a attempted) bool {
	pause := nextTime
	if s.seat.Ledger != nil {
		pause = longestWait
	}
	return !a.when.IsZero() && time.Since(a.when) < pause && s.free() <= a.free
}

// needed is how many bytes the arena would have had to have for a run that began with
// an empty one, as far as its error tells; 0: it does not.
func (s *share) needed(session Session, err error) int64 {
	var oom *ort.OutOfMemoryError
	if !errors.As(err, &oom) {
		return 0
	}
	need := oom.Requested
	if st, err := session.Stats(); err == nil && st.Limit > 0 && oom.Available > 0 {
		need += max(st.Limit-oom.Available-s.base, 0)
	}
	return need
}
