package memory_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

// fakeDevice answers with read, or with good when there is none, and counts.
type fakeDevice struct {
	name    string
	read    func(ctx context.Context, n int64) (memory.Reading, error)
	reads   atomic.Int64
	running atomic.Int64
	most    atomic.Int64 // reads at once
}

func (d *fakeDevice) Name() string { return d.name }

func (d *fakeDevice) Read(ctx context.Context) (memory.Reading, error) {
	n := d.reads.Add(1)
	d.most.Store(max(d.most.Load(), d.running.Add(1)))
	defer d.running.Add(-1)
	if d.read == nil {
		return good(n), nil
	}
	return d.read(ctx, n)
}

// good tells readings apart by what they use.
func good(n int64) memory.Reading {
	return memory.Reading{Physical: gib, Total: gib, Used: n, Free: gib - n, Own: memory.Unknown, Busy: memory.Unknown}
}

func sample(t *testing.T, m *memory.Monitor, device string) memory.Sample {
	t.Helper()
	s, ok := m.Sample(device)
	if !ok {
		t.Fatalf("the monitor does not know %s", device)
	}
	return s
}

func TestMonitorReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		a, b := &fakeDevice{name: "gpu:0"}, &fakeDevice{name: "gpu:1"}
		m := memory.NewMonitor(0, a, b, &fakeDevice{name: "gpu:0", read: func(context.Context, int64) (memory.Reading, error) {
			return memory.Reading{}, errors.New("the second of that name")
		}})
		defer m.Close()
		synctest.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		for _, d := range []*fakeDevice{a, b} {
			s := sample(t, m, d.name)
			if !s.Known() || s.Err != nil || s.Device != d.name || s.Used != 11 || !s.At.Equal(start.Add(time.Second)) {
				t.Errorf("after 1 s at 100 ms: %+v", s)
			}
			if d.reads.Load() != 11 {
				t.Errorf("%d readings of %s in a second, want 11", d.reads.Load(), d.name)
			}
		}
		if s, ok := m.Sample("gpu:2"); ok || s.Known() || s.Device != "gpu:2" {
			t.Errorf("a device that nobody has: %+v, %v", s, ok)
		}
		_, err := m.Refresh(t.Context(), "gpu:2")
		if err == nil || !strings.Contains(err.Error(), "only gpu:0, gpu:1") {
			t.Errorf("Refresh of a device that nobody has: %v", err)
		}
	})
}

// What fails keeps the last good reading, and never reads as zero.
func TestMonitorKeepsTheLastGoodReading(t *testing.T) {
	broken := errors.New("unplugged")
	nonsense := func(change func(*memory.Reading)) func() (memory.Reading, error) {
		return func() (memory.Reading, error) {
			r := good(99)
			change(&r)
			return r, nil
		}
	}
	for name, tt := range map[string]struct {
		then func() (memory.Reading, error)
		want string
	}{
		"an error":        {func() (memory.Reading, error) { return good(99), broken }, "reading gpu:0: unplugged"},
		"a panic":         {func() (memory.Reading, error) { panic("no such symbol") }, "no such symbol"},
		"zeros":           {func() (memory.Reading, error) { return memory.Reading{}, nil }, "the total is 0 bytes"},
		"negative total":  {nonsense(func(r *memory.Reading) { r.Total = -5 }), "the total is -5"},
		"unknown total":   {nonsense(func(r *memory.Reading) { r.Total = memory.Unknown }), "the total is -1"},
		"negative used":   {nonsense(func(r *memory.Reading) { r.Used = -2 }), "used memory is -2"},
		"negative free":   {nonsense(func(r *memory.Reading) { r.Free = -7 }), "free memory is -7"},
		"negative own":    {nonsense(func(r *memory.Reading) { r.Own = math.MinInt64 }), "own memory"},
		"too much free":   {nonsense(func(r *memory.Reading) { r.Free = gib + 1 }), "are free of 1 GiB"},
		"too much used":   {nonsense(func(r *memory.Reading) { r.Used = 3 * gib; r.Reserved = gib }), "3 GiB are used of 1 GiB"},
		"stalled for two": {nonsense(func(r *memory.Reading) { r.Stalled = 2 }), "stalled"},
		"stalled NaN":     {nonsense(func(r *memory.Reading) { r.Stalled = math.NaN() }), "stalled"},
		"busy for two":    {nonsense(func(r *memory.Reading) { r.Busy = 2 }), "the share of busy time is 2"},
		"busy NaN":        {nonsense(func(r *memory.Reading) { r.Busy = math.NaN() }), "busy"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &fakeDevice{name: "gpu:0", read: func(_ context.Context, n int64) (memory.Reading, error) {
					if n == 1 || n > 4 {
						return good(n), nil
					}
					return tt.then()
				}}
				m := memory.NewMonitor(time.Second, d)
				defer m.Close()
				synctest.Wait()
				first := sample(t, m, "gpu:0")
				if !first.Known() || first.Err != nil {
					t.Fatalf("the first reading: %+v", first)
				}
				time.Sleep(2500 * time.Millisecond)
				s := sample(t, m, "gpu:0")
				if s.Reading != first.Reading || s.At != first.At {
					t.Errorf("a failed reading changed %+v to %+v", first, s)
				}
				if s.Err == nil || !strings.Contains(s.Err.Error(), tt.want) {
					t.Errorf("the error is %v, want %q in it", s.Err, tt.want)
				}
				got, err := m.Refresh(t.Context(), "gpu:0")
				if err == nil || err.Error() != got.Err.Error() || got.Reading != first.Reading {
					t.Errorf("Refresh while it fails: %+v, %v", got, err)
				}
				time.Sleep(1500 * time.Millisecond)
				if s := sample(t, m, "gpu:0"); s.Err != nil || s.Used != 5 || !s.At.After(first.At) {
					t.Errorf("after it works again: %+v", s)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		m := memory.NewMonitor(0, &fakeDevice{name: "gpu:0", read: func(context.Context, int64) (memory.Reading, error) {
			return memory.Reading{}, broken
		}})
		defer m.Close()
		synctest.Wait()
		if s := sample(t, m, "gpu:0"); s.Known() || !errors.Is(s.Err, broken) || s.Available(time.Now()) != memory.Unknown {
			t.Errorf("a device that was never read: %+v, available %d", s, s.Available(time.Now()))
		}
	})
}

// Odd figures that devices do have: limits lowered under what is used, what is
// reserved counted as used (NVML before version 2 of its call), nothing known.
func TestMonitorAcceptsOddReadings(t *testing.T) {
	for name, r := range map[string]memory.Reading{
		"only the total":         {Physical: -1, Total: gib, Used: -1, Free: -1, Reserved: -1, Own: -1, Stalled: -1, Busy: -1},
		"over a lowered limit":   {Physical: gib, Total: mib, Used: 700 * mib, Free: 0},
		"reserved counts twice":  {Physical: gib, Total: gib, Used: gib + 100*mib, Reserved: 100 * mib},
		"more resident than own": {Physical: gib, Total: gib, Used: mib, Own: 2 * mib, Stalled: 1, Busy: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := memory.NewMonitor(0, &fakeDevice{name: "gpu:0", read: func(context.Context, int64) (memory.Reading, error) { return r, nil }})
				defer m.Close()
				if s, err := m.Refresh(t.Context(), "gpu:0"); err != nil || s.Reading != r {
					t.Errorf("%+v, %v", s, err)
				}
			})
		})
	}
}

func TestSampleAvailable(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := memory.Sample{Reading: memory.Reading{Total: 16 * gib, Free: 8 * gib}, Device: "gpu:0", At: at}
	for name, tt := range map[string]struct {
		age  time.Duration
		want int64
	}{
		"new":                  {0, 8 * gib},
		"from a clock ahead":   {-time.Hour, 8 * gib},
		"a second old":         {time.Second, 8 * gib},
		"a half-life older":    {3 * time.Second, 4 * gib},
		"two half-lives older": {5 * time.Second, 2 * gib},
		"hours old":            {6 * time.Hour, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := s.Available(at.Add(tt.age)); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
	last := s.Free
	for age := time.Duration(0); age < time.Minute; age += 10 * time.Millisecond {
		got := s.Available(at.Add(age))
		if got > last || last-got > 8*gib/200 {
			t.Fatalf("from %d to %d at %s: it must fall, and without a step", last, got, age)
		}
		last = got
	}
	s.Free = memory.Unknown
	if got := s.Available(at); got != memory.Unknown {
		t.Errorf("Available of unknown is %d", got)
	}
	if got := (memory.Sample{Reading: memory.Reading{Free: gib}}).Available(at); got != memory.Unknown {
		t.Errorf("Available of what was never read is %d", got)
	}
}

// A monitor that reads seldom must not distrust every reading before the next.
func TestSampleAvailableLongPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memory.NewMonitor(20*time.Second, &fakeDevice{name: "gpu:0"})
		defer m.Close()
		synctest.Wait()
		s := sample(t, m, "gpu:0")
		if got := s.Available(s.At.Add(time.Minute)); got != s.Free {
			t.Errorf("after three periods %d of %d can be counted on", got, s.Free)
		}
		if got := s.Available(s.At.Add(62 * time.Second)); got >= s.Free*51/100 || got < s.Free*49/100 {
			t.Errorf("a half-life later %d of %d can be counted on", got, s.Free)
		}
	})
}

// A device whose Read never returns is read once, says so, holds up nobody
// else, and is read again when it comes back.
func TestMonitorHangingDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		hung := &fakeDevice{name: "gpu:0"}
		hung.read = func(_ context.Context, n int64) (memory.Reading, error) {
			if n == 2 {
				<-release // deaf to its context, as a driver is
			}
			return good(n), nil
		}
		well := &fakeDevice{name: "gpu:1"}
		m := memory.NewMonitor(100*time.Millisecond, hung, well)
		defer m.Close()
		time.Sleep(500 * time.Millisecond)
		if s := sample(t, m, "gpu:0"); s.Err != nil || s.Used != 1 {
			t.Errorf("half a second is not yet a hang: %+v", s)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		s := sample(t, m, "gpu:0")
		if s.Used != 1 || s.Err == nil || !strings.Contains(s.Err.Error(), "reading gpu:0: no answer for 1m0s") {
			t.Errorf("after a minute: %+v", s)
		}
		if got := s.Available(time.Now()); got > mib {
			t.Errorf("after a minute %d bytes are counted on", got)
		}
		if s := sample(t, m, "gpu:1"); s.Err != nil || time.Since(s.At) > 100*time.Millisecond {
			t.Errorf("its neighbour: %+v", s)
		}

		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				s, err := m.Refresh(ctx, "gpu:0")
				if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "gpu:0") || s.Used != 1 {
					t.Errorf("Refresh of a hanging device: %+v, %v", s, err)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took != 300*time.Millisecond {
			t.Errorf("Refresh waited %s", took)
		}
		if hung.reads.Load() != 2 || hung.most.Load() != 1 {
			t.Errorf("%d readings, %d at once: none may begin beside one that hangs", hung.reads.Load(), hung.most.Load())
		}
		close(release)
		if s, err := m.Refresh(t.Context(), "gpu:0"); err != nil || s.Used < 3 || s.Err != nil {
			t.Errorf("after it came back: %+v, %v", s, err)
		}
	})
}

// A Read that listens to its context is ended after 10 s and tried again.
func TestMonitorEndsSlowRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDevice{name: "gpu:0", read: func(ctx context.Context, n int64) (memory.Reading, error) {
			if n == 1 {
				<-ctx.Done()
				return memory.Reading{}, ctx.Err()
			}
			return good(n), nil
		}}
		m := memory.NewMonitor(time.Second, d)
		defer m.Close()
		time.Sleep(10500 * time.Millisecond)
		if s := sample(t, m, "gpu:0"); s.Known() || !errors.Is(s.Err, context.DeadlineExceeded) {
			t.Errorf("after 10 s: %+v", s)
		}
		time.Sleep(time.Second)
		if s := sample(t, m, "gpu:0"); s.Err != nil || s.Used != 2 {
			t.Errorf("after another: %+v", s)
		}
	})
}

// Refresh is of a reading that begins after it: one that is under way may be of
// before what the caller did.
func TestRefreshIsFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDevice{name: "gpu:0", read: func(_ context.Context, n int64) (memory.Reading, error) {
			time.Sleep(300 * time.Millisecond)
			return good(n), nil
		}}
		m := memory.NewMonitor(time.Hour, d)
		defer m.Close()
		time.Sleep(100 * time.Millisecond)
		called := time.Now()
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				s, err := m.Refresh(t.Context(), "gpu:0")
				if err != nil || s.Used != 2 || s.At.Before(called) || time.Since(called) != 500*time.Millisecond {
					t.Errorf("%+v, %v after %s", s, err, time.Since(called))
				}
			})
		}
		all.Wait()
		time.Sleep(time.Minute)
		if s, err := m.Refresh(t.Context(), "gpu:0"); err != nil || s.Used != 3 || time.Since(s.At) != 300*time.Millisecond {
			t.Errorf("in the middle of the pause: %+v, %v", s, err)
		}
	})
}

func TestSetEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDevice{name: "gpu:0"}
		m := memory.NewMonitor(time.Second, d)
		defer m.Close()
		count := func(d *fakeDevice, span time.Duration) int64 {
			synctest.Wait()
			before := d.reads.Load()
			time.Sleep(span)
			synctest.Wait()
			return d.reads.Load() - before
		}
		time.Sleep(500 * time.Millisecond) // in the middle of a pause
		m.SetEvery("gpu:0", 20*time.Millisecond)
		synctest.Wait()
		if d.reads.Load() != 2 {
			t.Errorf("%d readings: the first is older than the new period, and another was due at once", d.reads.Load())
		}
		for _, tt := range []struct {
			every time.Duration
			want  int64
		}{
			{20 * time.Millisecond, 50},
			{50 * time.Millisecond, 20},
			{time.Nanosecond, 1000}, // a millisecond is the least
			{0, 1},                  // what NewMonitor was told
		} {
			if !m.SetEvery("gpu:0", tt.every) {
				t.Error("the monitor does not know gpu:0")
			}
			if got := count(d, time.Second); got != tt.want {
				t.Errorf("at %s there are %d readings in a second, want %d", tt.every, got, tt.want)
			}
		}
		if m.SetEvery("gpu:7", time.Second) {
			t.Error("SetEvery knows a device that nobody has")
		}
	})
}

func TestMonitorClose(t *testing.T) {
	for name, tt := range map[string]struct {
		read func(ctx context.Context, release <-chan struct{})
		took time.Duration
	}{
		"idle":                     {func(context.Context, <-chan struct{}) {}, 0},
		"reading that listens":     {func(ctx context.Context, _ <-chan struct{}) { <-ctx.Done() }, 0},
		"reading that comes late":  {func(context.Context, <-chan struct{}) { time.Sleep(400 * time.Millisecond) }, 300 * time.Millisecond},
		"reading that never comes": {func(_ context.Context, release <-chan struct{}) { <-release }, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				defer close(release)
				d := &fakeDevice{name: "gpu:0", read: func(ctx context.Context, n int64) (memory.Reading, error) {
					if n == 2 {
						tt.read(ctx, release)
					}
					return good(n), ctx.Err()
				}}
				m := memory.NewMonitor(time.Second, d, &fakeDevice{name: "gpu:1"})
				time.Sleep(1100 * time.Millisecond)
				waiting := make(chan error, 1)
				if name == "reading that never comes" {
					go func() {
						_, err := m.Refresh(context.Background(), "gpu:0")
						waiting <- err
					}()
					synctest.Wait()
				}
				began := time.Now()
				m.Close()
				if took := time.Since(began); took != tt.took {
					t.Errorf("Close took %s, want %s", took, tt.took)
				}
				if name == "reading that never comes" {
					if err := <-waiting; err == nil || !strings.Contains(err.Error(), "closed") {
						t.Errorf("Refresh that waited: %v", err)
					}
				}
				reads := d.reads.Load()
				time.Sleep(time.Minute)
				m.Close()
				if d.reads.Load() != reads {
					t.Error("it reads after Close")
				}
				if s := sample(t, m, "gpu:1"); s.Used < 1 {
					t.Errorf("what was known is lost: %+v", s)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := m.Refresh(ctx, "gpu:1"); err == nil || !strings.Contains(err.Error(), "closed") {
					t.Errorf("Refresh after Close: %v", err)
				}
			})
		})
	}
}
