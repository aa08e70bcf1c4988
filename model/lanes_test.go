package model_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/model"
)

// network is loaded into sessions that double as doubler does, but take any number of
// runs at once.
type network struct {
	// run, if not nil, is called in each run: for the nth of all, in that session.
	run func(s *netSession, n int, x *ort.Tensor) error

	mu     sync.Mutex
	runs   int
	loaded int             // sessions so far
	open   int             // of them, those that are not closed
	most   int             // that were open at once
	seen   map[float32]int // how often an item was computed
	wrong  []string        // what must not be
}

type netSession struct {
	*network
	nth      int
	running  atomic.Int32
	elements atomic.Int64 // in runs
	dead     atomic.Bool
	closed   atomic.Bool
}

func (n *network) load(context.Context) (model.Session, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loaded++
	n.open++
	n.most = max(n.most, n.open)
	return &netSession{network: n, nth: n.loaded}, nil
}

func (s *netSession) Stats() (ort.Stats, error) {
	return ort.Stats{InUse: 60, Allocated: 100, MaxInUse: 80, Limit: 200}, nil
}

func (s *netSession) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running.Load() > 0 || s.closed.Swap(true) {
		s.wrong = append(s.wrong, "a session was closed twice or while it ran")
	}
	s.open--
	return nil
}

func (s *netSession) Run(ctx context.Context, in []*ort.Tensor, _ ort.RunOptions) ([]*ort.Tensor, error) {
	s.running.Add(1)
	defer s.running.Add(-1)
	x := in[0]
	items := int(x.Shape[0])
	s.elements.Add(int64(len(x.Data) / 4))
	defer s.elements.Add(-int64(len(x.Data) / 4))
	s.mu.Lock()
	s.runs++
	n := s.runs
	if s.closed.Load() {
		s.wrong = append(s.wrong, "a closed session ran")
	}
	s.mu.Unlock()
	if s.run != nil {
		if err := s.run(s, n, x); err != nil {
			return nil, err
		}
	}
	runtime.Gosched() // other lanes
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	y := ort.NewTensor(ort.Float32, int64(items), 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range items {
		v := x.Float32s()[i*len(x.Data)/4/items]
		y.Float32s()[i] = 2 * v
		if s.seen == nil {
			s.seen = map[float32]int{}
		}
		s.seen[v]++
	}
	return []*ort.Tensor{y}, nil
}

// ended demands that all sessions are closed, and were when they were not in use.
func (n *network) ended(t interface{ Errorf(string, ...any) }) {
	for _, text := range n.wrong {
		t.Errorf("%s", text)
	}
	if n.open != 0 {
		t.Errorf("%d of %d sessions are still open", n.open, n.loaded)
	}
}

// As many batches are in flight as there are lanes: here each waits for the others.
func TestLanesRunAtOnce(t *testing.T) {
	const lanes = 3
	for name, shared := range map[string]bool{"sessions of their own": false, "one session": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var arrived sync.WaitGroup
				arrived.Add(lanes)
				n := &network{run: func(*netSession, int, *ort.Tensor) error {
					arrived.Done()
					arrived.Wait()
					return nil
				}}
				o, sessions := model.RunnerOptions{Batch: 2, Devices: []model.RunnerDevice{{Lanes: lanes, Open: n.load}}, Name: "net", Type: ort.Float32}, lanes
				if shared {
					o.Devices[0].Open, sessions = model.Shared(n.load), 1
				}
				r := model.NewRunner(o)
				check(t, r.Infer(t.Context(), items(2*lanes, 3)))
				if err := r.Close(); err != nil {
					t.Error(err)
				}
				if n.loaded != sessions {
					t.Errorf("%d sessions were loaded, want %d", n.loaded, sessions)
				}
				n.ended(t)
			})
		})
	}
}

// What one lane has of the arena does not make an item fail that has room alone.
func TestLanesLeaveRoomForAnItemAlone(t *testing.T) {
	n := &network{run: func(s *netSession, _ int, x *ort.Tensor) error {
		if x.Shape[1] == 6 && s.elements.Load() > 6 { // all of the room
			return &ort.OutOfMemoryError{Text: "no room"}
		}
		time.Sleep(time.Millisecond) // so that another lane is nearly always at work
		return nil
	}}
	r := model.NewRunner(model.RunnerOptions{Batch: 1, Devices: []model.RunnerDevice{{Lanes: 2, Open: model.Shared(n.load)}}, Name: "net", Type: ort.Float32})
	ctx, stop := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for range 3 {
		callers.Go(func() {
			for ctx.Err() == nil {
				for _, res := range r.Infer(t.Context(), items(8, 3)) {
					if res.Err != nil {
						t.Error(res.Err)
					}
				}
			}
		})
	}
	check(t, r.Infer(t.Context(), items(3, 6)))
	stop()
	callers.Wait()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if n.loaded != 1 {
		t.Errorf("%d sessions were loaded, want 1: it was tried alone at once", n.loaded)
	}
	n.ended(t)
}

// A session that is lost is lost for all lanes: one of them finds out, all go on in the
// next one, and there are never two.
func TestLanesLoseTheirSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{run: func(s *netSession, run int, _ *ort.Tensor) error {
			s.dead.CompareAndSwap(false, run == 5 || run == 60)
			return only(s.dead.Load(), errors.New("dead"))
		}}
		r := model.NewRunner(model.RunnerOptions{Batch: 4, Devices: []model.RunnerDevice{{Lanes: 3, Open: model.Shared(n.load)}}, Name: "net", Type: ort.Float32})
		for range 10 {
			check(t, r.Infer(t.Context(), items(40, 3)))
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if n.loaded != 3 || n.most != 1 {
			t.Errorf("%d sessions were loaded, and %d were open at once, want 3 and 1", n.loaded, n.most)
		}
		n.ended(t)
	})
}

// held are sessions whose runs of one item alone wait for something: before they begin,
// or before they end.
type held struct {
	model.Session
	before, after func(item float32)
}

func (s held) Run(ctx context.Context, in []*ort.Tensor, o ort.RunOptions) ([]*ort.Tensor, error) {
	alone := in[0].Shape[0] == 1
	if alone {
		s.before(in[0].Float32s()[0])
	}
	out, err := s.Session.Run(ctx, in, o)
	if alone {
		s.after(in[0].Float32s()[0])
	}
	return out, err
}

// What fails in a session that another lane gives up meanwhile is computed in the next
// one, whether the lane finds out while it tries the items one by one, or at the end.
func TestItemsOfASessionThatIsGivenUp(t *testing.T) {
	const device, host, noRoom = "device", "host", "no room on the device"
	for name, tt := range map[string]struct {
		where string
		batch int
		lost  []int // items that fail before any lane can know that it is the session
	}{
		"batches, on the device":                       {device, 4, nil},
		"batches, on the CPU":                          {host, 4, nil},
		"single items, on the device":                  {device, 1, []int{2, 3}},
		"single items, on the CPU":                     {host, 1, []int{2, 3}},
		"single items that have no room on the device": {noRoom, 1, []int{2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				failed, next := make(chan struct{}), make(chan struct{}) // item 3, and the session that comes next
				n := &network{run: func(s *netSession, _ int, x *ort.Tensor) error {
					s.dead.CompareAndSwap(false, s.nth == 1)
					return only(s.dead.Load(), errors.New("dead"))
				}}
				wait := map[float32]chan struct{}{4: next, 8: failed}
				after := map[float32]chan struct{}{}
				if tt.batch == 1 {
					wait, after = after, map[float32]chan struct{}{1: next}
				}
				shared := model.Shared(func(ctx context.Context) (model.Session, error) {
					s, err := n.load(ctx)
					if n.loaded == 2 {
						close(next)
					}
					return s, err
				})
				var once sync.Once
				open := func(ctx context.Context) (model.Session, error) {
					s, err := shared(ctx)
					return held{s, func(item float32) {
						if c := wait[item]; c != nil {
							<-c
						}
					}, func(item float32) {
						if item == 3 {
							once.Do(func() { close(failed) })
						}
						if c := after[item]; c != nil {
							<-c
						}
					}}, err
				}
				full := &network{run: func(*netSession, int, *ort.Tensor) error { return &ort.OutOfMemoryError{Text: "no room"} }}
				o := model.RunnerOptions{Batch: tt.batch, Devices: []model.RunnerDevice{{Lanes: 2, Open: open}}, Name: "net", Type: ort.Float32}
				switch tt.where {
				case host:
					o.Fallback = open
					o.Devices[0].Open = func(context.Context) (model.Session, error) { return nil, ort.ErrNoProvider }
				case noRoom:
					o.Fallback = open
					o.Devices[0].Open = full.load
				}
				r := model.NewRunner(o)
				for i, res := range r.Infer(t.Context(), items(8, 3)) {
					if lost := slices.Contains(tt.lost, i+1); (res.Err != nil) != lost {
						t.Errorf("item %d: %v", i+1, res.Err)
					}
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
				if n.loaded != 2 || n.most != 1 {
					t.Errorf("%d sessions were loaded, and %d were open at once, want 2 and 1", n.loaded, n.most)
				}
				n.ended(t)
				full.ended(t)
			})
		})
	}
}

// A lane that is still to load does not load what the others have closed at the end.
func TestSharedIsNotLoadedForNobody(t *testing.T) {
	n := &network{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := model.Shared(n.load)(ctx); !errors.Is(err, context.Canceled) || n.loaded > 0 {
		t.Errorf("%v, and it was loaded %d times", err, n.loaded)
	}
}

func TestShared(t *testing.T) {
	n := &network{}
	open := model.Shared(n.load)
	handle := func() model.Session {
		t.Helper()
		s, err := open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	runs := func(s model.Session) bool {
		x := ort.NewTensor(ort.Float32, 1, 1)
		_, err := s.Run(t.Context(), []*ort.Tensor{x}, ort.RunOptions{})
		return err == nil
	}
	one, two := handle(), handle()
	if n.loaded != 1 || !runs(one) || !runs(two) {
		t.Fatalf("%d sessions for two handles", n.loaded)
	}
	if st, err := two.Stats(); err != nil || st != (ort.Stats{InUse: 30, Allocated: 50, MaxInUse: 40, Limit: 100}) {
		t.Errorf("one of two handles has %+v, %v", st, err)
	}
	if err := one.Close(); err != nil || n.open != 0 {
		t.Errorf("a handle was given up: %v, %d sessions are open", err, n.open)
	}
	if _, err := two.Stats(); err == nil || runs(one) || runs(two) {
		t.Error("a handle still works on a session that was given up")
	}
	three := handle()
	if n.loaded != 2 || !runs(three) || runs(two) {
		t.Errorf("%d sessions, and a handle on the first works on the second: %t", n.loaded, runs(two))
	}
	if err := errors.Join(one.Close(), two.Close()); err != nil || !runs(three) {
		t.Errorf("closing what was given up: %v", err)
	}
	if err := three.Close(); err != nil {
		t.Error(err)
	}
	n.ended(t)
}

// Loading that fails, or whose caller has left, leaves it to the next.
func TestSharedLoadsAgain(t *testing.T) {
	n := &network{}
	open := model.Shared(func(ctx context.Context) (model.Session, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return n.load(ctx)
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("loading for nobody: %v", err)
	}
	s, err := open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	n.ended(t)
}

// Close waits for all lanes, and tells what none of them could close.
func TestClosingLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var arrived sync.WaitGroup
		arrived.Add(2)
		n := &network{run: func(*netSession, int, *ort.Tensor) error {
			arrived.Done()
			arrived.Wait()
			return nil
		}}
		r := model.NewRunner(model.RunnerOptions{Batch: 1, Name: "net", Type: ort.Float32, Devices: []model.RunnerDevice{{Lanes: 2, Open: func(ctx context.Context) (model.Session, error) {
			s, err := n.load(ctx)
			return unclosable{s}, err
		}}}})
		check(t, r.Infer(t.Context(), items(2, 1)))
		if err := r.Close(); err == nil || strings.Count(err.Error(), "stuck") != 2 {
			t.Errorf("closing: %v", err)
		}
		n.ended(t)
	})
}

// laneCase is what may happen in several lanes.
type laneCase struct {
	lanes, batch  int
	fixed, shared bool
	failing       []string     // what happens in the first runs
	lost          int          // the run in which a session is lost; 0: none is, and memory runs out instead
	callers       [][]laneCall // one after another of each
}

// laneCall is one call of Infer, for items of these sizes.
type laneCall struct {
	sizes  []int
	leaves bool // its context ends
}

func drawLaneCase(rt *rapid.T) laneCase {
	c := laneCase{
		lanes: rapid.IntRange(1, 4).Draw(rt, "lanes"), batch: rapid.IntRange(1, 6).Draw(rt, "batch"),
		fixed: rapid.Bool().Draw(rt, "fixed"), shared: rapid.Bool().Draw(rt, "shared"),
		failing: rapid.SliceOfN(rapid.SampledFrom([]string{"", "", "oom", "odd"}), 0, 40).Draw(rt, "failing"),
		lost:    rapid.IntRange(0, 40).Draw(rt, "lost"),
	}
	call := rapid.Custom(func(rt *rapid.T) laneCall {
		return laneCall{rapid.SliceOfN(rapid.IntRange(1, 4), 0, 12).Draw(rt, "sizes"), rapid.IntRange(0, 5).Draw(rt, "leaves") == 5}
	})
	c.callers = rapid.SliceOfN(rapid.SliceOfN(call, 0, 5), 1, 4).Draw(rt, "callers")
	return c
}

// fail does to a run what the case wants. Nothing happens to an item alone: that would
// be the item's fault.
func (c laneCase) fail(s *netSession, run int, x *ort.Tensor) error {
	alone := x.Shape[0] == 1 || c.fixed // which then may have one item
	what := ""
	if run <= len(c.failing) {
		what = c.failing[run-1]
	}
	switch {
	case run == c.lost && !alone:
		s.dead.Store(true)
	case what == "oom" && c.lost == 0:
		return &ort.OutOfMemoryError{Text: "no room"}
	case what == "odd" && !alone:
		return errors.New("odd")
	}
	return only(s.dead.Load(), errors.New("dead"))
}

// Whatever comes from whom in whatever shape, whatever fails in between and whoever
// leaves: in several lanes too, each item gets its own result, once.
func TestEachItemGetsItsOwnResultInLanes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := drawLaneCase(rt)
		synctest.Test(t, func(*testing.T) {
			n, cpu := &network{run: c.fail}, &network{}
			o := model.RunnerOptions{Batch: c.batch, Fixed: c.fixed, Devices: []model.RunnerDevice{{Lanes: c.lanes, Open: n.load}}, Fallback: cpu.load, Type: ort.Float32, Name: "net"}
			if c.shared {
				o.Devices[0].Open = model.Shared(n.load)
			}
			r := model.NewRunner(o)
			var mu sync.Mutex
			ends, leaves := map[int]error{}, map[int]bool{} // of items
			var callers sync.WaitGroup
			last := 0
			for _, calls := range c.callers {
				at := last
				for _, call := range calls {
					last += len(call.sizes)
				}
				leave := r.Enter()
				callers.Go(func() {
					defer leave()
					for _, call := range calls {
						ctx, cancel := context.WithCancel(context.Background())
						defer cancel()
						in := make([]model.Input, len(call.sizes))
						for i, size := range call.sizes {
							in[i] = item(float32(at+1+i), size)
						}
						if call.leaves {
							go cancel()
						}
						for _, res := range r.Infer(ctx, in) {
							at++
							if res.Err == nil && res.Outputs[0].Float32s()[0] != float32(2*at) {
								rt.Errorf("item %d has %v", at, res.Outputs[0].Float32s()[0])
							}
							mu.Lock()
							ends[at], leaves[at] = res.Err, call.leaves
							mu.Unlock()
						}
					}
				})
			}
			callers.Wait()
			if err := r.Close(); err != nil {
				rt.Error(err)
			}
			n.ended(rt)
			cpu.ended(rt)
			dead := 0
			for v := 1; v <= last; v++ {
				err, times := ends[v], n.seen[float32(v)]+cpu.seen[float32(v)]
				switch {
				case times > 1 || times == 0 && err == nil || times == 1 && err != nil && !leaves[v]:
					rt.Errorf("item %d was computed %d times, and ended with %v", v, times, err)
				case err == nil || leaves[v]:
				case strings.Contains(err.Error(), "dead"):
					dead++
				default:
					rt.Errorf("item %d: %v", v, err)
				}
			}
			// A lane gives a session up when three have failed alone, and repeats the last. Of
			// a batch of which some had gone well by then, the others have failed too.
			if dead > c.lanes*(2+c.batch) {
				rt.Errorf("%d items failed in a lost session", dead)
			}
		})
	})
}
