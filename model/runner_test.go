package model_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/model"
)

// doubler is a network whose output is the first element of each item, doubled.
// It keeps account of its runs.
type doubler struct {
	mu sync.Mutex
	// room is how many elements a run may have; 0: any number. A run that has more
	// is out of memory.
	room int
	// bad is the value of an item that fails the run; 0: none.
	bad float32
	// fail, if not nil, decides about a run instead.
	fail   func(run, items int) error
	runs   []int // items of each
	shrunk []bool
	seen   map[float32]int // how often an item was computed
	opened int
	closed int
}

func (d *doubler) open(context.Context) (model.Session, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opened++
	return d, nil
}

func (d *doubler) Stats() (ort.Stats, error) { return ort.Stats{}, nil }

func (d *doubler) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed++
	return nil
}

func (d *doubler) Run(ctx context.Context, in []*ort.Tensor, o ort.RunOptions) ([]*ort.Tensor, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if o.ShrinkOnly {
		return nil, nil
	}
	x := in[0]
	items := int(x.Shape[0])
	d.runs, d.shrunk = append(d.runs, items), append(d.shrunk, o.ShrinkFirst)
	if d.fail != nil {
		if err := d.fail(len(d.runs), items); err != nil {
			return nil, err
		}
	}
	if n := len(x.Data) / 4; d.room > 0 && n > d.room {
		return nil, &ort.OutOfMemoryError{Requested: int64(4 * n), Available: int64(4 * d.room), Text: "no room"}
	}
	if d.bad != 0 && slices.Contains(x.Float32s(), d.bad) {
		return nil, errors.New("odd item")
	}
	y := ort.NewTensor(ort.Float32, int64(items), 1)
	each := len(x.Data) / 4 / items
	for i := range items {
		v := x.Float32s()[i*each]
		y.Float32s()[i] = 2 * v
		if d.seen == nil {
			d.seen = map[float32]int{}
		}
		d.seen[v]++
	}
	return []*ort.Tensor{y}, ctx.Err()
}

// item is an input of n elements that all have that value.
func item(value float32, n int) model.Input {
	return model.Input{Shape: []int64{int64(n)}, Fill: func(_ context.Context, dst []byte) error {
		t := ort.Tensor{Type: ort.Float32, Shape: []int64{int64(n)}, Data: dst}
		for i := range t.Float32s() {
			t.Float32s()[i] = value
		}
		return nil
	}}
}

func items(values int, n int) (in []model.Input) {
	for v := range values {
		in = append(in, item(float32(v+1), n))
	}
	return in
}

// check demands that items 1, 2, ... have their results.
func check(t interface{ Errorf(string, ...any) }, results []model.Result) {
	for i, r := range results {
		if r.Err != nil {
			t.Errorf("item %d: %v", i+1, r.Err)
		} else if got := r.Outputs[0].Float32s()[0]; got != float32(2*(i+1)) {
			t.Errorf("item %d has %v", i+1, got)
		}
	}
}

func runner(t *testing.T, d *doubler, o model.RunnerOptions) *model.Runner {
	t.Helper()
	o.Name, o.Type = "doubler.onnx", ort.Float32
	if len(o.Devices) == 0 {
		o.Devices = make([]model.RunnerDevice, 1)
	}
	o.Devices[0].Open = d.open
	r := model.NewRunner(o)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if d.closed != d.opened {
			t.Errorf("%d sessions opened, %d closed", d.opened, d.closed)
		}
	})
	return r
}

// at is one device, on which open opens sessions.
func at(open func(context.Context) (model.Session, error)) []model.RunnerDevice {
	return []model.RunnerDevice{{Open: open}}
}

func TestBatchesAreFilledFromAllCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &doubler{}
		r := runner(t, d, model.RunnerOptions{Batch: 4})
		var callers sync.WaitGroup
		for c := range 2 {
			leave := r.Enter()
			callers.Go(func() {
				defer leave()
				in := items(2, 3)
				check(t, r.Infer(t.Context(), in))
				_ = c
			})
		}
		callers.Wait()
		if !slices.Equal(d.runs, []int{4}) {
			t.Errorf("runs of %v items, want one of 4", d.runs)
		}
	})
}

// The network loads while the first batch is filled, and not before there is one.
func TestLoadsBesideTheFirstBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, loading := &doubler{}, make(chan struct{})
		r := model.NewRunner(model.RunnerOptions{Name: "doubler.onnx", Type: ort.Float32, Devices: at(func(ctx context.Context) (model.Session, error) {
			close(loading)
			return d.open(ctx)
		})})
		leave := r.Enter()
		synctest.Wait()
		if d.opened != 0 {
			t.Error("it was loaded for nobody")
		}
		in := item(1, 3)
		fill := in.Fill
		in.Fill = func(ctx context.Context, dst []byte) error {
			<-loading
			return fill(ctx, dst)
		}
		check(t, r.Infer(t.Context(), []model.Input{in}))
		leave()
		if err := r.Close(); err != nil || d.opened != 1 || d.closed != 1 {
			t.Errorf("%d sessions opened, %d closed: %v", d.opened, d.closed, err)
		}
	})
}

// A caller that could add may wait for memory that only the end of this batch
// brings back.
func TestBatchesDoNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &doubler{}
		r := runner(t, d, model.RunnerOptions{Batch: 4})
		leave := r.Enter()
		defer leave()
		check(t, r.Infer(t.Context(), items(3, 3)))
		other := r.Enter() // and never calls
		defer other()
		check(t, r.Infer(t.Context(), items(2, 3)))
		if !slices.Equal(d.runs, []int{3, 2}) {
			t.Errorf("runs of %v", d.runs)
		}
	})
}

// Filling may wait for what another's result brings back.
func TestFillingMayWaitForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &doubler{}
		r := runner(t, d, model.RunnerOptions{Batch: 4})
		done := make(chan struct{})
		var callers sync.WaitGroup
		one, two := r.Enter(), r.Enter()
		callers.Go(func() {
			defer one()
			defer close(done)
			check(t, r.Infer(t.Context(), items(1, 3)))
		})
		callers.Go(func() {
			defer two()
			in := item(1, 3)
			fill := in.Fill
			in.Fill = func(ctx context.Context, dst []byte) error {
				<-done
				return fill(ctx, dst)
			}
			check(t, r.Infer(t.Context(), []model.Input{in}))
		})
		callers.Wait()
	})
}

// A caller that is busy decoding must not keep a full batch waiting, and one that
// has left must not keep a partial one.
func TestBatchesDoNotWaitForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &doubler{}
		r := runner(t, d, model.RunnerOptions{Batch: 4})
		busy := r.Enter()
		check(t, r.Infer(t.Context(), items(4, 3)))
		done := make(chan struct{})
		go func() {
			defer close(done)
			check(t, r.Infer(t.Context(), items(3, 3)))
		}()
		synctest.Wait()
		busy()
		<-done
		check(t, r.Infer(t.Context(), items(1, 3)))
		if !slices.Equal(d.runs, []int{4, 3, 1}) {
			t.Errorf("runs of %v", d.runs)
		}
	})
}

func TestOutOfMemory(t *testing.T) {
	oom := &ort.OutOfMemoryError{Requested: 100, Text: "no room"}
	for name, tt := range map[string]struct {
		room     int
		fail     func(run, items int) error
		fixed    bool
		fallback *doubler
		runs     []int
		opened   int
		err      string // of every item
	}{
		"the batch is split":       {room: 6, runs: []int{8, 4, 2, 2, 2, 2}, opened: 1},
		"one item alone fits":      {room: 3, runs: []int{8, 4, 2, 1, 1, 1, 1, 1, 1, 1, 1}, opened: 1},
		"once":                     {fail: func(run, _ int) error { return only(run == 1, oom) }, runs: []int{8, 4, 4}, opened: 1},
		"one item, then it passes": {fail: func(run, _ int) error { return only(run <= 5, oom) }, runs: []int{8, 4, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, opened: 1},
		"a new session helps":      {fail: func(run, _ int) error { return only(run <= 9, oom) }, runs: []int{8, 4, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, opened: 2},
		"the CPU takes it":         {room: 2, fallback: &doubler{}, opened: 2},
		"nothing helps":            {room: 2, opened: 2, err: "doubler.onnx has no room for one item of shape [3]: it needs 12 B more and 8 B are left"},
		"nor the CPU":              {room: 2, opened: 2, fallback: &doubler{room: 1}, err: "it needs 12 B more and 4 B are left"},
		"a fixed batch":            {room: 6, fixed: true, opened: 2, err: "no room"},
		"it is another error":      {fail: func(_, items int) error { return only(items == 8, errors.New("odd")) }, runs: []int{8, 1, 1, 1, 1, 1, 1, 1, 1}, opened: 1},
		"the session is lost":      {fail: func(run, _ int) error { return only(run <= 9, errors.New("odd")) }, runs: []int{8, 1, 1, 1, 1, 1, 1, 1, 1, 8}, opened: 2},
		"nor does a new one work":  {fail: func(int, int) error { return errors.New("odd") }, runs: []int{8, 1, 1, 1, 1, 1, 1, 1, 1, 8, 1, 1, 1, 1, 1, 1, 1, 1}, opened: 2, err: "running doubler.onnx: odd"},
		"a fixed batch is lost":    {fixed: true, fail: func(run, _ int) error { return only(run <= 9, errors.New("odd")) }, opened: 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &doubler{room: tt.room, fail: tt.fail}
				o := model.RunnerOptions{Batch: 8, Fixed: tt.fixed}
				if tt.fallback != nil {
					o.Fallback = tt.fallback.open
				}
				r := runner(t, d, o)
				results := r.Infer(t.Context(), items(8, 3))
				if tt.err == "" {
					check(t, results)
					for v, n := range d.seen {
						if n != 1 {
							t.Errorf("item %v was computed %d times", v, n)
						}
					}
				}
				for i, res := range results {
					if tt.err != "" && (res.Err == nil || !strings.Contains(res.Err.Error(), tt.err)) {
						t.Errorf("item %d: %v, want %q", i+1, res.Err, tt.err)
					}
				}
				if tt.runs != nil && !slices.Equal(d.runs, tt.runs) {
					t.Errorf("runs of %v items, want %v", d.runs, tt.runs)
				}
				if d.opened != tt.opened {
					t.Errorf("%d sessions, want %d", d.opened, tt.opened)
				}
			})
		})
	}
}

// A network that works no more is opened again once, not for each batch, until
// something has worked again; and one item at a time must fail several times in a row:
// it may be the item.
func TestLostSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &doubler{}
		r := runner(t, d, model.RunnerOptions{Batch: 1})
		failing := false
		d.fail = func(int, int) error { return only(failing, errors.New("odd")) }
		infer := func(fails bool) {
			t.Helper()
			failing = fails
			if res := r.Infer(t.Context(), items(1, 3))[0]; (res.Err != nil) != fails {
				t.Errorf("an item that fails %t: %v", fails, res.Err)
			}
		}
		for range 10 {
			infer(false)
			infer(true)
			infer(true)
		}
		if d.opened != 1 {
			t.Errorf("%d sessions for items that fail now and then, want 1", d.opened)
		}
		for range 100 {
			infer(true)
		}
		if d.opened != 2 {
			t.Errorf("%d sessions of a network that fails always, want 2", d.opened)
		}
		infer(false)
		// The third item finds it lost, and gets a result of the new one.
		infer(true)
		infer(true)
		failing, d.fail = true, func(int, int) error { return only(d.opened == 2, errors.New("odd")) }
		check(t, r.Infer(t.Context(), items(1, 3)))
		if d.opened != 3 {
			t.Errorf("%d sessions, want 3", d.opened)
		}
	})
}

// A fallback that works no more is opened again too, once.
func TestLostFallback(t *testing.T) {
	for name, loads := range map[string]bool{"the device runs out of memory": true, "the device loads nothing": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cpu := &doubler{}
				cpu.fail = func(run, _ int) error { return only(run >= 3 && cpu.opened == 1, errors.New("dead")) }
				card := &doubler{room: 1}
				r := model.NewRunner(model.RunnerOptions{Batch: 1, Name: "net", Type: ort.Float32, Fallback: cpu.open, Devices: at(func(ctx context.Context) (model.Session, error) {
					if !loads {
						return nil, &ort.OutOfMemoryError{Text: "no room"}
					}
					return card.open(ctx)
				})})
				results := r.Infer(t.Context(), items(10, 3))
				for i, res := range results {
					// It takes three items in a row to tell that it is not them.
					if fails := i == 2 || i == 3; (res.Err != nil) != fails {
						t.Errorf("item %d: %v", i+1, res.Err)
					}
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
				if cpu.opened != 2 || cpu.closed != 2 {
					t.Errorf("%d sessions on the CPU, %d closed, want 2", cpu.opened, cpu.closed)
				}
			})
		})
	}
}

// Where a batch has one size, one item must not fail the others either.
func TestFixedBatchFailsForOneItem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &doubler{bad: 3}
		r := runner(t, d, model.RunnerOptions{Batch: 4, Fixed: true})
		res := r.Infer(t.Context(), items(6, 2))
		if res[2].Err == nil || !strings.Contains(res[2].Err.Error(), "running doubler.onnx: odd item") {
			t.Errorf("item 3: %v", res[2].Err)
		}
		res[2] = model.Result{Outputs: []*ort.Tensor{{Type: ort.Float32, Data: []byte{0, 0, 0xc0, 0x40}}}} // 6
		check(t, res)
		if slices.Min(d.runs) != 4 || d.opened != 1 {
			t.Errorf("runs of %v items in %d sessions", d.runs, d.opened)
		}
	})
}

// What cannot be closed is no reason to open no other.
func TestSessionCannotBeClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &doubler{fail: func(run, _ int) error { return only(run <= 9, errors.New("odd")) }}
		o := model.RunnerOptions{Batch: 8, Name: "x.onnx", Type: ort.Float32}
		o.Devices = at(func(ctx context.Context) (model.Session, error) {
			s, err := d.open(ctx)
			return unclosable{s}, err
		})
		r := model.NewRunner(o)
		check(t, r.Infer(t.Context(), items(8, 3)))
		if err := r.Close(); err == nil || !strings.Contains(err.Error(), "stuck") {
			t.Errorf("closing: %v", err)
		}
	})
}

type unclosable struct{ model.Session }

func (u unclosable) Close() error { return errors.Join(errors.New("stuck"), u.Session.Close()) }

func only(when bool, err error) error {
	if when {
		return err
	}
	return nil
}

// A shortage of some seconds fails nobody.
func TestShortShortage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		d := &doubler{fail: func(int, int) error {
			return only(time.Since(begun) < 2*time.Second, &ort.OutOfMemoryError{Text: "no room"})
		}}
		r := runner(t, d, model.RunnerOptions{Batch: 4})
		check(t, r.Infer(t.Context(), items(40, 3)))
	})
}

// The network itself has no room.
func TestLoadingRunsOutOfMemory(t *testing.T) {
	cpu := &doubler{}
	r := model.NewRunner(model.RunnerOptions{
		Name: "x.onnx", Type: ort.Float32, Fallback: cpu.open,
		Devices: at(func(context.Context) (model.Session, error) { return nil, &ort.OutOfMemoryError{Text: "no room"} }),
	})
	defer r.Close()
	check(t, r.Infer(t.Context(), items(9, 1)))
}

// A short shortage while the network is loaded fails nobody either.
func TestShortShortageWhileLoading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, d := time.Now(), &doubler{}
		r := model.NewRunner(model.RunnerOptions{
			Name: "x.onnx", Type: ort.Float32,
			Devices: at(func(ctx context.Context) (model.Session, error) {
				if time.Since(begun) < time.Second/2 {
					return nil, &ort.OutOfMemoryError{Text: "no room"}
				}
				return d.open(ctx)
			}),
		})
		defer r.Close()
		check(t, r.Infer(t.Context(), items(9, 1)))
	})
}

// Where the network has no room on the device, the CPU may have none for a whole
// batch; and the device is not asked again for each.
func TestCPUHasNoRoomForTheBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cpu, asked := &doubler{room: 9}, 0
		r := model.NewRunner(model.RunnerOptions{
			Batch: 8, Name: "x.onnx", Type: ort.Float32, Fallback: cpu.open,
			Devices: at(func(context.Context) (model.Session, error) {
				asked++
				return nil, &ort.OutOfMemoryError{Text: "no room"}
			}),
		})
		defer r.Close()
		check(t, r.Infer(t.Context(), items(40, 3)))
		if asked != 1 {
			t.Errorf("the device was asked %d times", asked)
		}
		time.Sleep(time.Minute)
		check(t, r.Infer(t.Context(), items(40, 3)))
		if asked != 2 {
			t.Errorf("a minute later the device has been asked %d times, want 2", asked)
		}
	})
}

// What can be loaded nowhere is tried once for a batch, and fails the next ones too.
func TestNothingCanBeLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, none := 0, func(context.Context) (model.Session, error) {
			return nil, &ort.OutOfMemoryError{Text: "no room"}
		}
		r := model.NewRunner(model.RunnerOptions{Batch: 8, Name: "x.onnx", Type: ort.Float32, Devices: []model.RunnerDevice{{Open: none}}, Fallback: func(ctx context.Context) (model.Session, error) {
			asked++
			return none(ctx)
		}})
		defer r.Close()
		for i, res := range r.Infer(t.Context(), items(8, 3)) {
			if !errors.As(res.Err, new(*model.NoRoomError)) {
				t.Errorf("item %d: %v", i+1, res.Err)
			}
		}
		if asked != 1 {
			t.Errorf("the CPU was asked %d times, want 1", asked)
		}
	})
}

// The card becomes another one while a batch fails for another reason: its items are
// tried one by one in a new session, and all are answered.
func TestTheCardChangesWhileABatchFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		size := int64(100)
		d := &doubler{}
		d.fail = func(run, _ int) error {
			if run == 1 {
				size = 50
				return errors.New("odd")
			}
			return nil
		}
		r := runner(t, d, model.RunnerOptions{Batch: 4, Devices: []model.RunnerDevice{{Cap: func() int64 { return size }}}})
		check(t, r.Infer(t.Context(), items(4, 3)))
		if d.opened != 2 {
			t.Errorf("%d sessions were opened, want 2", d.opened)
		}
	})
}

// Closing ends a load.
func TestCloseWhileLoading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := model.NewRunner(model.RunnerOptions{Name: "x.onnx", Type: ort.Float32, Devices: at(func(ctx context.Context) (model.Session, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		})})
		one := make(chan model.Result, 1)
		go func() { one <- r.Infer(t.Context(), items(1, 1))[0] }()
		synctest.Wait()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if res := <-one; res.Err == nil {
			t.Error("a result of a network that was closed")
		}
	})
}

// A run of a fixed batch leases what the whole takes.
func TestFixedRunsLeaseTheWholeBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, leased := memory.NewLedger("sim:0", 100), []int64{}
		d := &doubler{fail: func(int, int) error {
			leased = append(leased, l.Usage().Work)
			return nil
		}}
		r := runner(t, d, model.RunnerOptions{Batch: 4, Fixed: true, Devices: []model.RunnerDevice{{Ledger: l}}})
		check(t, r.Infer(t.Context(), items(5, 3)))
		if !slices.Equal(leased, []int64{48, 48}) {
			t.Errorf("%v bytes were leased, want 48 and 48", leased)
		}
	})
}

// The smaller batch is kept, and what was asked for is tried again by and by.
func TestBatchGrowsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &doubler{room: 9}
		r := runner(t, d, model.RunnerOptions{Batch: 4})
		for range 250 {
			check(t, r.Infer(t.Context(), items(4, 3)))
		}
		fours := 0
		for _, n := range d.runs {
			if n > 3 {
				fours++
			}
		}
		if fours != 3 {
			t.Errorf("%d runs of 4 items, which have no room, want the first and one after each 200 of 500", fours)
		}
		d.room = 0
		for range 500 {
			check(t, r.Infer(t.Context(), items(4, 3)))
		}
		if last := d.runs[len(d.runs)-1]; last != 4 {
			t.Errorf("runs of %d items in the end, want 4", last)
		}
	})
}

// Each run leases what it needs; what does not fit now runs in smaller batches,
// what never fits fails at once.
func TestRunsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.NewLedger("sim:0", 100)
		d := &doubler{}
		r := runner(t, d, model.RunnerOptions{Batch: 8, Devices: []model.RunnerDevice{{Ledger: l}}})
		check(t, r.Infer(t.Context(), items(8, 6))) // 192 bytes together
		if slices.Max(d.runs) != 4 {
			t.Errorf("runs of %v items in 100 bytes", d.runs)
		}
		res := r.Infer(t.Context(), items(1, 26))
		var none *model.NoRoomError
		if !errors.As(res[0].Err, &none) || none.Need != 104 || none.Have != 100 {
			t.Errorf("104 bytes of 100: %v", res[0].Err)
		}
		if u := l.Usage(); u.Work != 0 {
			t.Errorf("%d bytes are still leased", u.Work)
		}
	})
}

func TestItemsFailAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &doubler{}
		r := runner(t, d, model.RunnerOptions{Batch: 4})
		in := items(4, 3)
		in[1].Fill = func(context.Context, []byte) error { return errors.New("torn") }
		in[2].Shape = []int64{0}
		in[3].Shape = []int64{1 << 40, 1 << 40}
		got := r.Infer(t.Context(), in)
		check(t, got[:1])
		for i, want := range []string{"torn", "too large", "too large"} {
			if err := got[i+1].Err; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("item %d: %v, want %q", i+1, err, want)
			}
		}
		func() {
			defer func() { _ = recover() }()
			in[1].Fill = func(context.Context, []byte) error { panic("odd") }
			r.Infer(t.Context(), in[:2])
		}()
		check(t, r.Infer(t.Context(), items(4, 3))) // nobody waits for the slot
	})
}

// slow is a network that runs until its context ends.
type slow struct{ ended chan struct{} }

func (s slow) Run(ctx context.Context, _ []*ort.Tensor, _ ort.RunOptions) ([]*ort.Tensor, error) {
	<-ctx.Done()
	s.ended <- struct{}{}
	return nil, ctx.Err()
}
func (s slow) Stats() (ort.Stats, error) { return ort.Stats{}, nil }
func (s slow) Close() error              { return nil }

func TestCancelAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slow{make(chan struct{}, 10)}
		r := model.NewRunner(model.RunnerOptions{Batch: 2, Name: "slow", Type: ort.Float32, Devices: []model.RunnerDevice{{Open: func(context.Context) (model.Session, error) { return s, nil }}}})
		ctx, cancel := context.WithCancel(t.Context())
		one, two := make(chan model.Result, 1), make(chan model.Result, 1)
		go func() { one <- r.Infer(ctx, items(1, 1))[0] }()
		synctest.Wait()
		cancel()
		if res := <-one; !errors.Is(res.Err, context.Canceled) {
			t.Error(res.Err)
		}
		<-s.ended // the only one who waited has left
		go func() { two <- r.Infer(t.Context(), items(1, 1))[0] }()
		synctest.Wait()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if res := <-two; res.Err == nil {
			t.Error("a result of a network that was closed")
		}
		if res := r.Infer(t.Context(), items(1, 1))[0]; res.Err == nil || !strings.Contains(res.Err.Error(), "closed") {
			t.Error(res.Err)
		}
	})
}

// Whoever waits when it is closed is told so, and not that something was cancelled.
func TestClosingSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := model.NewRunner(model.RunnerOptions{Batch: 1, Name: "slow", Type: ort.Float32, Devices: []model.RunnerDevice{{Open: func(context.Context) (model.Session, error) { return endless{}, nil }}}})
		all := make(chan []model.Result)
		go func() { all <- r.Infer(t.Context(), items(5, 1)) }()
		synctest.Wait()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		for i, res := range <-all {
			if res.Err == nil || !strings.Contains(res.Err.Error(), "the network has been closed") {
				t.Errorf("item %d: %v", i+1, res.Err)
			}
		}
	})
}

// endless runs until its context ends.
type endless struct{ model.Session }

func (endless) Run(ctx context.Context, _ []*ort.Tensor, _ ort.RunOptions) ([]*ort.Tensor, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}
func (endless) Stats() (ort.Stats, error) { return ort.Stats{}, nil }
func (endless) Close() error              { return nil }

func TestLoadingFails(t *testing.T) {
	r := model.NewRunner(model.RunnerOptions{Name: "x.onnx", Type: ort.Float32, Devices: []model.RunnerDevice{{Open: func(context.Context) (model.Session, error) { return nil, errors.New("truncated") }}}})
	defer r.Close()
	if res := r.Infer(t.Context(), items(1, 1))[0]; res.Err == nil || res.Err.Error() != "loading x.onnx: truncated" {
		t.Error(res.Err)
	}
}

// Whatever comes from whom in whatever shape, and whatever fails in between: each
// item gets its own result, once.
func TestEachItemGetsItsOwnResult(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(*testing.T) {
			d := &doubler{}
			failing := rapid.SliceOfN(rapid.SampledFrom([]string{"", "", "oom", "odd"}), 0, 40).Draw(rt, "failing")
			d.fail = func(run, items int) error {
				if run > len(failing) || items == 1 && failing[run-1] == "odd" {
					return nil
				}
				switch failing[run-1] {
				case "oom":
					return &ort.OutOfMemoryError{Text: "no room"}
				case "odd":
					return errors.New("odd")
				}
				return nil
			}
			cpu := &doubler{}
			r := model.NewRunner(model.RunnerOptions{
				Batch: rapid.IntRange(1, 9).Draw(rt, "batch"), Devices: at(d.open), Fallback: cpu.open, Type: ort.Float32, Name: "doubler",
			})
			var callers sync.WaitGroup
			next := 0
			for range rapid.IntRange(1, 4).Draw(rt, "callers") {
				calls := make([][]model.Input, rapid.IntRange(0, 5).Draw(rt, "calls"))
				first := next
				for i := range calls {
					for range rapid.IntRange(0, 12).Draw(rt, "items") {
						next++
						calls[i] = append(calls[i], item(float32(next), rapid.IntRange(1, 6).Draw(rt, "size")))
					}
				}
				leave := r.Enter()
				callers.Go(func() {
					defer leave()
					at := first
					for _, in := range calls {
						for _, res := range r.Infer(context.Background(), in) {
							at++
							if res.Err != nil {
								rt.Errorf("item %d: %v", at, res.Err)
							} else if got := res.Outputs[0].Float32s()[0]; got != float32(2*at) {
								rt.Errorf("item %d has %v", at, got)
							}
						}
					}
				})
			}
			callers.Wait()
			if err := r.Close(); err != nil {
				rt.Error(err)
			}
			for v := 1; v <= next; v++ {
				if n := d.seen[float32(v)] + cpu.seen[float32(v)]; n != 1 {
					rt.Errorf("item %d was computed %d times", v, n)
				}
			}
		})
	})
}

func ExampleRunner() {
	d := &doubler{}
	r := model.NewRunner(model.RunnerOptions{Devices: []model.RunnerDevice{{Open: d.open}}, Name: "doubler.onnx", Type: ort.Float32})
	defer r.Close()
	for _, res := range r.Infer(context.Background(), items(3, 2)) {
		fmt.Println(res.Outputs[0].Float32s()[0])
	}
	// Output:
	// 2
	// 4
	// 6
}

// Items that are smaller than what a run is worth are run together, however few of the
// larger ones are.
func TestSmallItemsAreRunTogether(t *testing.T) {
	for name, tt := range map[string]struct {
		elements int
		o        model.RunnerOptions
		most     int // items of a run
	}{
		"small ones":            {4, model.RunnerOptions{Most: 1, Worth: 10 * 4 * 4}, 10},
		"tiny ones":             {1, model.RunnerOptions{Most: 1, Worth: 1 << 20}, 12},
		"large ones":            {64, model.RunnerOptions{Most: 1, Worth: 10 * 4 * 4}, 1},
		"nothing is said":       {4, model.RunnerOptions{Most: 1}, 1},
		"a batch was asked for": {4, model.RunnerOptions{Batch: 2, Worth: 10 * 4 * 4}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			d := &doubler{}
			r := runner(t, d, tt.o)
			if _, most := r.Wants([]int64{int64(tt.elements)}); most != tt.most {
				t.Errorf("calls may give %d at a time", most)
			}
			check(t, r.Infer(t.Context(), items(120, tt.elements)))
			if len(d.runs) != 120/tt.most || slices.Max(d.runs) != tt.most {
				t.Errorf("runs of %v items", d.runs)
			}
		})
	}
}
