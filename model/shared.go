package model

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/forgepipe/forgepipe/internal/ort"
)

// errGivenUp is the end of a run in a session that was closed through another handle.
var errGivenUp = errors.New("the session was given up by another lane: open it again")

// Shared makes an Open for the lanes of a Runner that gives handles on one session, so
// that they have one set of weights and one arena. load gives a session that takes as
// many runs at once as there are lanes.
//
// The first to open loads it, unless its context ends, and the others wait. Who closes
// a handle gives the session up for all, as it is lost or its arena is to be anew: it is
// closed when no run is in flight, runs through the other handles fail from then on, and
// whoever opens next loads another. So there are never two at once. A handle's Stats are
// its part of the session's, divided by the handles that there are.
func Shared(load func(ctx context.Context) (Session, error)) (open func(ctx context.Context) (Session, error)) {
	s := &shared{load: load}
	return s.open
}

type shared struct {
	load func(ctx context.Context) (Session, error)

	mu      sync.RWMutex // held for reading by runs, for writing by loading and closing
	session Session      // nil: to be loaded
	loads   int          // so far, which tells a session from the one before
	handles atomic.Int64 // on this session
}

// handle is a lane's, on the session that was loaded as the nth.
type handle struct {
	*shared
	nth int
}

func (s *shared) open(ctx context.Context) (Session, error) {
	if h, ok := s.join(); ok {
		return h, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session == nil {
		if ctx.Err() != nil { // while it waited
			return nil, context.Cause(ctx)
		}
		session, err := s.load(ctx)
		if err != nil {
			return nil, err
		}
		s.session = session
		s.loads++
		s.handles.Store(0)
	}
	s.handles.Add(1)
	return handle{s, s.loads}, nil
}

// join gives a handle on the session if it is loaded, without waiting for its runs.
func (s *shared) join() (h handle, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.session == nil {
		return handle{}, false
	}
	s.handles.Add(1)
	return handle{s, s.loads}, true
}

// current is the handle's session while it is open; s.mu is held.
func (h handle) current() (Session, error) {
	if h.session == nil || h.nth != h.loads {
		return nil, errGivenUp
	}
	return h.session, nil
}

// Run runs the session beside the other handles' runs.
func (h handle) Run(ctx context.Context, in []*ort.Tensor, o ort.RunOptions) ([]*ort.Tensor, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	s, err := h.current()
	if err != nil {
		return nil, err
	}
	return s.Run(ctx, in, o)
}

// Stats are the handle's part.
func (h handle) Stats() (ort.Stats, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	s, err := h.current()
	if err != nil {
		return ort.Stats{}, err
	}
	st, err := s.Stats()
	n := h.handles.Load()
	return ort.Stats{InUse: st.InUse / n, Allocated: st.Allocated / n, MaxInUse: st.MaxInUse / n, Limit: st.Limit / n}, err
}

// givenUp tells whether a session that is open was closed through another handle.
func givenUp(s Session) bool {
	if s == nil {
		return false
	}
	_, err := s.Stats()
	return errors.Is(err, errGivenUp)
}

// Close waits for the runs in flight and closes the session, unless another handle has.
func (h handle) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, err := h.current()
	if err != nil {
		return nil
	}
	h.session = nil
	return s.Close()
}
