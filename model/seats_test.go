package model_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/model"
)

// timed is a doubler whose runs take a while.
type timed struct {
	*doubler
	run, item time.Duration
}

func (s timed) open(ctx context.Context) (model.Session, error) {
	_, err := s.doubler.open(ctx)
	return s, err
}

func (s timed) Run(ctx context.Context, in []*ort.Tensor, o ort.RunOptions) ([]*ort.Tensor, error) {
	if !o.ShrinkOnly {
		time.Sleep(s.run + time.Duration(in[0].Shape[0])*s.item)
	}
	return s.doubler.Run(ctx, in, o)
}

// calls has several callers infer so many items each, a few at a time.
func calls(t *testing.T, r *model.Runner, callers, each int) {
	t.Helper()
	var all sync.WaitGroup
	for range callers {
		leave := r.Enter()
		all.Go(func() {
			defer leave()
			for range each / 5 {
				check(t, r.Infer(t.Context(), items(5, 3)))
			}
		})
	}
	all.Wait()
}

// Items go to the device that is done with them first: one that is four times as fast
// gets about four times as many.
func TestDevicesGetWhatTheyAreDoneWithFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fast := timed{&doubler{}, 2 * time.Millisecond, 2 * time.Millisecond}
		slow := timed{&doubler{}, 8 * time.Millisecond, 8 * time.Millisecond}
		r := model.NewRunner(model.RunnerOptions{Name: "net", Type: ort.Float32, Batch: 4, Devices: []model.RunnerDevice{
			{Device: "sim:0", Key: "slow", Open: slow.open}, {Device: "sim:1", Key: "fast", Open: fast.open},
		}})
		began := time.Now()
		calls(t, r, 16, 250)
		took := time.Since(began)
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		sum := func(d *doubler) (n int) {
			for _, items := range d.runs {
				n += items
			}
			return n
		}
		f, s := sum(fast.doubler), sum(slow.doubler)
		if f+s != 4000 {
			t.Errorf("%d and %d items were computed, want 4000 in all", f, s)
		}
		if share := float64(f) / float64(s); share < 3.5 || share > 4.5 {
			t.Errorf("the fast one had %d items and the slow one %d: %.2f times as many", f, s, share)
		}
		// Batches of 4 take 10 and 40 ms: 500 items a second together.
		if rate := 4000 / took.Seconds(); rate < 0.95*500 {
			t.Errorf("%.0f items a second, want 500", rate)
		}
	})
}

// A device on which nothing can be loaded any more is taken out, and its items go to
// the others: those that it was running, and those that waited for it.
func TestLostDevice(t *testing.T) {
	for name, lose := range map[string]func(d *doubler, run int) error{
		"from the beginning": func(*doubler, int) error { return errors.New("no such device") },
		"while it runs":      func(_ *doubler, run int) error { return only(run > 20, errors.New("CUDA error 700")) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				well := timed{&doubler{}, time.Millisecond, time.Millisecond}
				dying := timed{&doubler{}, time.Millisecond, time.Millisecond}
				var lost atomic.Bool
				dying.fail = func(run, _ int) error {
					err := lose(dying.doubler, run)
					lost.Store(err != nil)
					return err
				}
				r := model.NewRunner(model.RunnerOptions{Name: "net", Type: ort.Float32, Batch: 4, Log: logTo(&log), Devices: []model.RunnerDevice{
					{Device: "gpu:0", Open: func(ctx context.Context) (model.Session, error) {
						if lost.Load() {
							return nil, errors.New("CUDA error 700: the context is lost")
						}
						return dying.open(ctx)
					}},
					{Device: "gpu:1", Open: well.open},
				}})
				calls(t, r, 6, 100)
				before := len(dying.runs)
				calls(t, r, 6, 100)
				if len(dying.runs) != before {
					t.Errorf("%d more runs on a device that is lost", len(dying.runs)-before)
				}
				if n := strings.Count(log.String(), "a device is lost"); n != 1 {
					t.Errorf("told %d times that a device is lost: %s", n, log.String())
				}
				if err := r.Close(); err != nil || dying.opened != dying.closed || well.opened != well.closed {
					t.Errorf("%v; %d and %d opened, %d and %d closed", err, dying.opened, well.opened, dying.closed, well.closed)
				}
			})
		})
	}
}

// When the last device is lost, that is an error for all.
func TestAllDevicesLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		none := func(context.Context) (model.Session, error) { return nil, errors.New("no driver") }
		r := model.NewRunner(model.RunnerOptions{Name: "net", Type: ort.Float32, Batch: 2, Devices: []model.RunnerDevice{
			{Device: "gpu:0", Open: none}, {Device: "gpu:1", Open: none},
		}})
		defer r.Close()
		for _, res := range r.Infer(t.Context(), items(9, 1)) {
			if !errors.Is(res.Err, model.ErrLoading) || !strings.Contains(res.Err.Error(), "no driver") {
				t.Errorf("%v", res.Err)
			}
		}
	})
}

// Without a batch that somebody asks for, the governor finds one: large enough to be
// fast, and never more than the device has room for.
func TestGovernorDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, err := memory.NewGovernor(memory.GovernorOptions{})
		if err != nil {
			t.Fatal(err)
		}
		// 20 ms beside 1 ms an item: 128 items are within 14 % of the best rate.
		d := timed{&doubler{}, 20 * time.Millisecond, time.Millisecond}
		r := model.NewRunner(model.RunnerOptions{Name: "net", Type: ort.Float32, Governor: g, Most: 128, Devices: []model.RunnerDevice{{Device: "sim:0", Open: d.open}}})
		defer r.Close()
		var callers sync.WaitGroup
		for range 8 {
			leave := r.Enter()
			callers.Go(func() {
				defer leave()
				for range 60 {
					check(t, r.Infer(t.Context(), items(64, 1)))
				}
			})
		}
		callers.Wait()
		var largest int
		for _, n := range d.runs {
			largest = max(largest, n)
		}
		if d.runs[0] != 1 || largest < 110 || largest > 128 {
			t.Errorf("at first %d items, and up to %d: want 1 first and then up to about 128", d.runs[0], largest)
		}
		if a := g.Accounts(); len(a) != 1 || a[0].Items != 8*60*64 || a[0].Name != "net" {
			t.Errorf("the account is %+v", a)
		}
	})
}

// logTo writes what is logged, as text.
func logTo(w *strings.Builder) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, nil))
}

// A second session is kept where it makes the device faster, and given up where the
// runs only wait for each other, where there is no room for it, and where it has no
// room for an item. No item is the worse for it.
func TestSecondSession(t *testing.T) {
	for name, tt := range map[string]struct {
		serial bool // one run at a time, as on a device that is busy with one
		refuse bool // the second session
		poor   bool // the second one runs out of memory
		kept   bool // it is
	}{
		"beside the first":  {kept: true},
		"after the first":   {serial: true},
		"no room for it":    {refuse: true},
		"no room for items": {poor: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &doubler{}
				device := make(chan struct{}, 1)
				var open, opened, second atomic.Int64
				r := model.NewRunner(model.RunnerOptions{Name: "net", Type: ort.Float32, Batch: 4, Devices: []model.RunnerDevice{{Device: "gpu:0", MostLanes: 2, Open: func(ctx context.Context) (model.Session, error) {
					first := opened.Add(1) == 1
					if !first && tt.refuse {
						return nil, &ort.OutOfMemoryError{Text: "no room"}
					}
					open.Add(1)
					s := secondSession{doubler: d, open: &open, poor: !first && tt.poor}
					if !first {
						s.runs = &second
					}
					if tt.serial {
						s.device = device
					}
					return s, nil
				}}}})
				calls(t, r, 8, 6000)
				share := float64(second.Load()) / float64(len(d.runs))
				if opened.Load() < 2 || tt.kept && share < 0.4 || !tt.kept && share > 0.15 {
					t.Errorf("%d sessions were opened, and the second ones had %.0f %% of the runs", opened.Load(), 100*share)
				}
				if err := r.Close(); err != nil || open.Load() != 0 {
					t.Errorf("%v; %d sessions are left open", err, open.Load())
				}
			})
		})
	}
}

// secondSession takes 5 ms beside 1 ms an item, on a device of its own or not.
type secondSession struct {
	*doubler
	device chan struct{} // holds a token while it is busy; nil: it never is
	open   *atomic.Int64
	runs   *atomic.Int64 // of all that are not the first; nil: it is
	poor   bool
}

func (s secondSession) Run(ctx context.Context, in []*ort.Tensor, o ort.RunOptions) ([]*ort.Tensor, error) {
	if s.poor {
		return nil, &ort.OutOfMemoryError{Text: "no room"}
	}
	if s.device != nil {
		s.device <- struct{}{}
		defer func() { <-s.device }()
	}
	if s.runs != nil {
		s.runs.Add(1)
	}
	time.Sleep(5*time.Millisecond + time.Duration(in[0].Shape[0])*time.Millisecond)
	return s.doubler.Run(ctx, in, o)
}

func (s secondSession) Close() error {
	s.open.Add(-1)
	return nil
}

// keeping is a session whose arena keeps what a run needed: its input.
type keeping struct {
	*doubler
	has *atomic.Int64 // bytes
}

func (s keeping) Run(ctx context.Context, in []*ort.Tensor, o ort.RunOptions) ([]*ort.Tensor, error) {
	if o.ShrinkFirst || o.ShrinkOnly {
		s.has.Store(0)
	}
	if !o.ShrinkOnly {
		s.has.Store(max(s.has.Load(), int64(len(in[0].Data))))
	}
	return s.doubler.Run(ctx, in, o)
}

func (s keeping) Stats() (ort.Stats, error) {
	n := s.has.Load()
	return ort.Stats{Allocated: n, MaxInUse: n}, nil
}

// A session to which nothing comes gives its memory back: another may wait for it.
func TestIdleSessionsGiveBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := memory.NewLedger("gpu:0", 100)
		g, err := memory.NewGovernor(memory.GovernorOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var has [2]atomic.Int64
		var runners [2]*model.Runner
		for i := range runners {
			d := &doubler{}
			runners[i] = model.NewRunner(model.RunnerOptions{Name: "net", Type: ort.Float32, Batch: 1, Governor: g, Devices: []model.RunnerDevice{{
				Device: "gpu:0", Ledger: ledger,
				Open: func(context.Context) (model.Session, error) { return keeping{d, &has[i]}, nil },
			}}})
			defer runners[i].Close()
		}
		for range 3 { // 80 of 100 bytes each
			for i, r := range runners {
				check(t, r.Infer(t.Context(), items(1, 20)))
				if other := has[1-i].Load(); has[i].Load() != 80 || other != 0 {
					t.Errorf("the one that ran has %d bytes, the other %d", has[i].Load(), other)
				}
			}
		}
		time.Sleep(2 * time.Second)
		if u := ledger.Usage(); u.Residency+u.Work != 0 || has[1].Load() != 0 {
			t.Errorf("%d bytes are leased while nothing comes, and %d are held", u.Residency+u.Work, has[1].Load())
		}
	})
}

// standing is courtesy that stands still while others are there.
type standing struct{ others *atomic.Bool }

func (s standing) Wait(ctx context.Context, pause func()) error {
	if s.others.Load() {
		pause()
	}
	for s.others.Load() && ctx.Err() == nil {
		time.Sleep(100 * time.Millisecond)
	}
	return ctx.Err()
}

func (standing) Begin() (end func()) { return func() {} }

// A device that stands still for others has nothing of theirs, and its items go to
// those that do not. Where all stand still, each keeps the batch that it has in hand.
func TestOthersTakeWhatStandsStill(t *testing.T) {
	const batch, all = 4, 600
	for name, tt := range map[string]struct {
		first, then []bool // which seats stand still, for an hour each
		done        [2]int // items after each hour, but those in hand
		held        int    // items that may be in hand after the second
	}{
		"one":                 {[]bool{true, false}, []bool{true, false}, [2]int{all, all}, 0},
		"both":                {[]bool{true, true}, []bool{true, true}, [2]int{0, 0}, 0},
		"both, and then one":  {[]bool{true, true}, []bool{true, false}, [2]int{0, all}, batch},
		"both, and then none": {[]bool{true, true}, []bool{false, false}, [2]int{0, all}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var still [2]atomic.Bool
				var has [2]atomic.Int64
				var seats []model.RunnerDevice
				for i := range 2 {
					seats = append(seats, model.RunnerDevice{
						Device: "gpu:" + string(rune('0'+i)), Ledger: memory.NewLedger("gpu", 1<<20),
						Courtesy: func() memory.Courtesy { return standing{&still[i]} },
						Open:     func(context.Context) (model.Session, error) { return keeping{&doubler{}, &has[i]}, nil },
					})
				}
				r := model.NewRunner(model.RunnerOptions{Name: "net", Type: ort.Float32, Batch: batch, Devices: seats})
				defer r.Close()
				calls(t, r, 6, 100)
				if has[0].Load() == 0 || has[1].Load() == 0 {
					t.Fatal("one of them has nothing to give back")
				}
				stand := func(which []bool) {
					for i := range which {
						still[i].Store(which[i])
					}
				}
				stand(tt.first)
				var done atomic.Int64
				var callers sync.WaitGroup
				for range all {
					callers.Go(func() {
						check(t, r.Infer(t.Context(), items(1, 3)))
						done.Add(1)
					})
				}
				time.Sleep(time.Hour)
				if n := int(done.Load()); n != tt.done[0] {
					t.Errorf("%d items are done in an hour, want %d", n, tt.done[0])
				}
				for i, still := range tt.first {
					if u := seats[i].Ledger.Usage(); still && (has[i].Load() > 0 || u.Residency+u.Work > 0) {
						t.Errorf("seat %d stands still with %d bytes, and %+v", i, has[i].Load(), u)
					}
				}
				stand(tt.then)
				time.Sleep(time.Hour)
				if n := int(done.Load()); n > tt.done[1] || n < tt.done[1]-tt.held {
					t.Errorf("%d items are done in two hours, want %d", n, tt.done[1])
				}
				stand([]bool{false, false})
				callers.Wait()
			})
		})
	}
}

// A strategy is told of a batch for which there was no lease, and the account does not
// call that out of memory.
func TestRefusedBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, err := memory.NewGovernor(memory.GovernorOptions{Strategy: memory.Halving})
		if err != nil {
			t.Fatal(err)
		}
		d := &doubler{}
		r := model.NewRunner(model.RunnerOptions{Name: "net", Type: ort.Float32, Batch: 64, Governor: g, Devices: []model.RunnerDevice{{
			Device: "gpu:0", Ledger: memory.NewLedger("gpu:0", 1000), Open: d.open,
		}}})
		defer r.Close()
		for range 20 { // 64 items of 5 numbers take 1280 bytes
			check(t, r.Infer(t.Context(), items(64, 5)))
		}
		if n := len(d.runs); n > 42 {
			t.Errorf("%d runs for 20 times 64 items of which 32 have room", n)
		}
		if a := g.Accounts()[0]; a.OutOfMemory != 0 || a.Typical != 32 {
			t.Errorf("the account is %+v", a)
		}
	})
}
