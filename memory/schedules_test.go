package memory_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/forgepipe/forgepipe/memory"
)

// scheduleFrame is a picture on its way through a simulated chain.
type scheduleFrame struct {
	mu     sync.Mutex
	size   int64
	lease  *memory.Lease
	held   int64
	parked bool
	pinned bool
}

// schedule is one chain with its workers, sizes, cancellations and panics, all
// drawn at random. It leases as the engine does: what a call needs in one piece,
// nothing that waits keeps memory for itself.
type schedule struct {
	t      testing.TB
	ledger *memory.Ledger
	limit  int64

	mu     sync.Mutex
	random *rand.Rand
	frames []*scheduleFrame
	ends   map[string]int // how items ended
}

func (s *schedule) draw(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random.IntN(n)
}

func (s *schedule) end(how string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ends[how]++
}

func (s *schedule) check() {
	if u := s.ledger.Usage(); u.Residency+u.Work > s.limit || u.Residency < 0 || u.Work < 0 {
		s.t.Errorf("leases exceed the budget: %+v", u)
	}
}

// admit waits for room for a new frame.
func (s *schedule) admit(ctx context.Context, size int64) (*scheduleFrame, error) {
	l, err := s.ledger.Acquire(ctx, memory.Request{Kind: memory.Residency, Bytes: size, Holder: "source"})
	if err != nil {
		return nil, err
	}
	f := &scheduleFrame{size: size, lease: l, held: size}
	s.mu.Lock()
	s.frames = append(s.frames, f)
	s.mu.Unlock()
	return f, nil
}

func (s *schedule) drop(f *scheduleFrame) {
	f.mu.Lock()
	f.lease.Release()
	f.held = 0
	f.mu.Unlock()
	s.mu.Lock()
	s.frames = slices.DeleteFunc(s.frames, func(o *scheduleFrame) bool { return o == f })
	s.mu.Unlock()
}

// call is one call of a stage with a frame. It returns the frame that goes on.
func (s *schedule) call(ctx context.Context, f *scheduleFrame, priority int, work int64, grow int64) (out *scheduleFrame, err error) {
	var granted int64
	var w, stays *memory.Lease
	for {
		f.mu.Lock()
		lacks, has := int64(0), f.held
		if f.parked {
			lacks = f.size
		}
		if stays != nil && lacks <= granted {
			f.pinned = true
			if f.parked {
				f.lease.Release()
				f.lease, f.held, f.parked = stays.Split(f.size), f.size, false
			}
			f.mu.Unlock()
			break
		}
		f.mu.Unlock()
		w.Release()
		stays.Release()
		granted = lacks
		w, stays, err = s.ledger.AcquireCall(ctx, memory.CallRequest{
			Work: work, Stays: lacks + f.size*grow, Beside: has, Priority: priority, Holder: "stage",
		})
		if err != nil {
			return nil, err
		}
		s.check()
	}
	defer w.Release()
	defer stays.Release()
	defer func() {
		f.mu.Lock()
		f.pinned = false
		f.mu.Unlock()
	}()
	if s.draw(20) == 0 {
		panic("a stage panics")
	}
	if grow == 0 {
		return f, nil
	}
	out = &scheduleFrame{size: f.size * grow, lease: stays.Split(f.size * grow), held: f.size * grow}
	s.mu.Lock()
	s.frames = append(s.frames, out)
	s.mu.Unlock()
	s.drop(f)
	return out, nil
}

// step is call with its panics and refusals; nil means that the item ended.
func (s *schedule) step(ctx context.Context, f *scheduleFrame, priority int, work, grow int64) (out *scheduleFrame) {
	defer func() {
		if recover() != nil {
			s.end("panicked")
			s.drop(f)
			out = nil
		}
	}()
	if s.draw(15) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		if s.draw(2) == 0 {
			cancel()
		} else {
			go cancel()
		}
		defer cancel()
	}
	out, err := s.call(ctx, f, priority, work, grow)
	var over *memory.OversizeError
	switch {
	case errors.As(err, &over):
		s.end("refused")
	case errors.Is(err, context.Canceled):
		s.end("cancelled")
	case err != nil:
		s.t.Error(err)
	default:
		return out
	}
	s.drop(f)
	return nil
}

// park takes one frame that nobody looks at out of memory, or else refuses.
func (s *schedule) park() {
	s.mu.Lock()
	frames := slices.Clone(s.frames)
	s.mu.Unlock()
	for _, f := range frames {
		f.mu.Lock()
		idle := !f.pinned && !f.parked && f.held > 0
		if idle {
			f.parked, f.held = true, 0
			f.lease.Resize(0)
		}
		f.mu.Unlock()
		if idle {
			return
		}
	}
	if _, ok := s.ledger.Refuse(); !ok {
		s.t.Error("nobody waits for memory, and nothing moves")
	}
}

func (s *schedule) run() {
	ctx := s.t.Context()
	items, depth := 1+s.draw(6), 1+s.draw(4)
	var all sync.WaitGroup
	source := make(chan *scheduleFrame, 1+s.draw(3))
	all.Go(func() {
		defer close(source)
		for range items {
			f, err := s.admit(ctx, int64(1+s.draw(60)))
			if err != nil {
				s.end("refused")
				continue
			}
			source <- f
		}
	})
	queue := source
	for stage := range depth {
		in, out := queue, make(chan *scheduleFrame, 1+s.draw(3))
		queue = out
		work := int64(s.draw(40))
		grow := int64(0)
		if s.draw(3) == 0 {
			grow = int64(1 + s.draw(4))
		}
		if s.draw(4) == 0 { // a barrier: items wait parked until all are there
			all.Go(func() {
				defer close(out)
				var held []*scheduleFrame
				for f := range in {
					f.mu.Lock()
					if !f.parked {
						f.parked, f.held = true, 0
						f.lease.Resize(0)
					}
					f.mu.Unlock()
					held = append(held, f)
				}
				for _, f := range held {
					if f = s.step(ctx, f, stage+1, work, grow); f != nil {
						out <- f
					}
				}
			})
			continue
		}
		var workers sync.WaitGroup
		for range 1 + s.draw(3) {
			workers.Go(func() {
				for f := range in {
					if f = s.step(ctx, f, stage+1, work, grow); f != nil {
						out <- f
					}
				}
			})
		}
		all.Go(func() {
			workers.Wait()
			close(out)
		})
	}
	done := false
	last := queue
	all.Go(func() {
		for f := range last {
			s.end("out")
			s.drop(f)
		}
	})
	go func() {
		all.Wait()
		s.mu.Lock()
		done = true
		s.mu.Unlock()
	}()
	for {
		synctest.Wait()
		s.mu.Lock()
		over := done
		s.mu.Unlock()
		if over || s.t.Failed() {
			break
		}
		s.park()
	}
	sum := 0
	for _, n := range s.ends {
		sum += n
	}
	if u := s.ledger.Usage(); sum != items || u.Residency+u.Work != 0 || u.Waiting != 0 || len(s.ledger.Holders()) != 0 {
		s.t.Errorf("%d items ended as %v, and the ledger has %+v", items, s.ends, u)
	}
}

// Leases never exceed the budget, every waiter is served, cancelled or refused,
// every lease is released once, and nothing stands still, in chains with
// barriers and enlarging stages, whatever is cancelled and whoever panics.
func TestSchedules(t *testing.T) {
	const schedules = 100_000
	ends := map[string]int{}
	for seed := range uint64(schedules) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			limit := int64(40 + r.IntN(160))
			s := &schedule{t: t, ledger: memory.NewLedger("host", limit), limit: limit, random: r, ends: map[string]int{}}
			s.ledger.SetReserve(int64(r.IntN(40)))
			s.run()
			for how, n := range s.ends {
				ends[how] += n
			}
		})
		if t.Failed() {
			t.Fatalf("schedule %d", seed)
		}
	}
	t.Logf("%d schedules: %v", schedules, ends)
	for _, how := range []string{"out", "panicked", "cancelled", "refused"} {
		if ends[how] < schedules/100 {
			t.Errorf("only %d items were %s: the schedules do not show it", ends[how], how)
		}
	}
}
