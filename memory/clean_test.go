package memory_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

// frees is a reclaimer that takes bytes out of a pool.
func frees(p *pool, name string, bytes int64, order *[]string) memory.Reclaimer {
	return memory.Reclaimer{Name: name, Device: p.name, Reclaim: func(context.Context) (int64, error) {
		*order = append(*order, name)
		p.own.Add(-bytes)
		p.used.Add(-bytes)
		return bytes, nil
	}}
}

func TestCleanMeasures(t *testing.T) {
	for name, tt := range map[string]struct {
		own, used     int64
		freed         int64 // by the reclaimer; negative takes
		breaks        bool
		wantOwn       bool
		before, after int64
		want          int64
	}{
		"own bytes":          {own: 3 * gib, used: 9 * gib, freed: gib, wantOwn: true, before: 3 * gib, after: 2 * gib, want: gib},
		"everybody's":        {own: memory.Unknown, used: 9 * gib, freed: gib, before: 9 * gib, after: 8 * gib, want: gib},
		"more than before":   {own: 3 * gib, used: 9 * gib, freed: -gib, wantOwn: true, before: 3 * gib, after: 4 * gib},
		"the reading breaks": {own: 3 * gib, used: 9 * gib, freed: gib, breaks: true, wantOwn: true, before: 3 * gib, after: memory.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				gpu := newPool("gpu:0", tt.own, tt.used)
				m := manager(t, memory.Options{Devices: []memory.Device{gpu}})
				m.Register(memory.Reclaimer{Name: "arena", Device: "gpu:0", Reclaim: func(context.Context) (int64, error) {
					if tt.own != memory.Unknown {
						gpu.own.Add(-tt.freed)
					}
					gpu.used.Add(-tt.freed)
					gpu.broken.Store(tt.breaks)
					return memory.Unknown, nil
				}})
				c := m.Clean(t.Context(), "test")
				if len(c.Devices) != 2 || c.Devices[0].Device != "host" {
					t.Fatalf("devices %+v", c.Devices)
				}
				want := memory.CleanedDevice{Device: "gpu:0", Own: tt.wantOwn, Before: tt.before, After: tt.after, Freed: tt.want}
				if c.Devices[1] != want {
					t.Errorf("%+v\nwant %+v", c.Devices[1], want)
				}
				if c.Why != "test" || c.Err() != nil || c.Steps[0].Freed != memory.Unknown {
					t.Errorf("%+v", c)
				}
			})
		})
	}
}

func TestCleanOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gpu := newPool("gpu:0", gib, gib)
		m := manager(t, memory.Options{Devices: []memory.Device{gpu}})
		var order []string
		m.Register(frees(gpu, "first", 1, &order))
		unregister := m.Register(frees(gpu, "second", 1, &order))
		m.Register(memory.Reclaimer{Name: "third", Reclaim: func(context.Context) (int64, error) {
			order = append(order, "third")
			return -5, errors.New("no paper")
		}})
		c := m.Clean(t.Context(), "test")
		if got := fmt.Sprint(order); got != "[third second first]" {
			t.Errorf("order %s", got)
		}
		// Not process-wide: malloc is left alone.
		var steps []string
		for _, s := range c.Steps {
			steps = append(steps, s.Name+"@"+s.Device)
		}
		if got := fmt.Sprint(steps); got != "[third@host second@gpu:0 first@gpu:0 go@host]" {
			t.Errorf("steps %s", got)
		}
		if s := c.Steps[0]; s.Freed != memory.Unknown {
			t.Errorf("it freed %d", s.Freed)
		}
		if err := c.Err(); err == nil || err.Error() != "cleaning up third on host: no paper" {
			t.Errorf("Err() = %v", err)
		}
		unregister()
		unregister()
		order = nil
		m.Clean(t.Context(), "test")
		if got := fmt.Sprint(order); got != "[third first]" {
			t.Errorf("order without the second %s", got)
		}
	})
}

// One reclaimer that panics or hangs is a step with an error, and the others run.
func TestCleanSurvivesReclaimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		gpu := newPool("gpu:0", gib, gib)
		m := manager(t, memory.Options{Devices: []memory.Device{gpu}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		var order []string
		hold := make(chan struct{})
		m.Register(frees(gpu, "good", mib, &order))
		m.Register(memory.Reclaimer{Name: "panics", Reclaim: func(context.Context) (int64, error) { panic("no such arena") }})
		m.Register(memory.Reclaimer{Name: "hangs", Reclaim: func(context.Context) (int64, error) { <-hold; return 0, nil }})

		start := time.Now()
		c := m.Clean(t.Context(), "test")
		if took := time.Since(start); took != 10*time.Second || c.Took != took || !c.At.Equal(start) {
			t.Errorf("took %v (%v)", took, c.Took)
		}
		for i, want := range []string{"not ended within 10s", "it panicked: no such arena"} {
			if err := c.Steps[i].Err; err == nil || !strings.Contains(err.Error(), want) || c.Steps[i].Freed != memory.Unknown {
				t.Errorf("step %d: %+v, want %q", i, c.Steps[i], want)
			}
		}
		if c.Steps[1].Err != nil && !strings.Contains(c.Steps[1].Err.Error(), "clean_test.go") {
			t.Errorf("the panic has no stack: %v", c.Steps[1].Err)
		}
		if len(order) != 1 || c.Devices[1].Freed != mib {
			t.Errorf("the good one: %v, %+v", order, c.Devices[1])
		}
		if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "hangs") {
			t.Errorf("log %q", log.String())
		}

		c = m.Clean(t.Context(), "again")
		if err := c.Steps[0].Err; err == nil || !strings.Contains(err.Error(), "still busy") || c.Took != 0 {
			t.Errorf("the one that still hangs: %v after %v", err, c.Took)
		}
		close(hold)
		synctest.Wait()
		if err := m.Clean(t.Context(), "later").Steps[0].Err; err != nil {
			t.Errorf("the one that has come back: %v", err)
		}
	})
}

func TestCleanEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := manager(t, memory.Options{})
		called := false
		m.Register(memory.Reclaimer{Name: "never", Reclaim: func(context.Context) (int64, error) { called = true; return 0, nil }})
		m.Register(memory.Reclaimer{Name: "heeds", Reclaim: func(ctx context.Context) (int64, error) { <-ctx.Done(); return 5, ctx.Err() }})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		c := m.Clean(ctx, "test")
		if took := time.Since(start); took != time.Second || called {
			t.Errorf("took %v, called %v", took, called)
		}
		if len(c.Steps) != 3 {
			t.Fatalf("%+v", c.Steps)
		}
		for _, s := range c.Steps {
			if !errors.Is(s.Err, context.DeadlineExceeded) {
				t.Errorf("%+v", s)
			}
		}
	})
}

func TestCleanOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := manager(t, memory.Options{})
		running, calls := 0, 0
		m.Register(memory.Reclaimer{Name: "pool", Reclaim: func(context.Context) (int64, error) {
			running++
			calls++
			if running > 1 {
				t.Error("two at once")
			}
			time.Sleep(time.Second)
			running--
			return 0, nil
		}})
		var second memory.Cleaned
		go m.Clean(t.Context(), "first")
		synctest.Wait()
		go func() { second = m.Clean(t.Context(), "second") }()
		ctx, cancel := context.WithCancel(t.Context())
		var gaveUp memory.Cleaned
		go func() { gaveUp = m.Clean(ctx, "third") }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		if err := gaveUp.Err(); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "waiting for another clean-up") {
			t.Errorf("one that gave up waiting: %v", err)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if calls != 2 || second.Err() != nil || second.Took != time.Second {
			t.Errorf("%d calls, the second %+v", calls, second)
		}
	})
}

// A device whose driver hangs costs a second, and its figures are unknown.
func TestCleanWithHangingDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		hanging := &fakeDevice{name: "gpu:0", read: func(context.Context, int64) (memory.Reading, error) {
			<-hold
			return memory.Reading{}, errors.New("reset")
		}}
		m := manager(t, memory.Options{Devices: []memory.Device{hanging}})
		defer close(hold)
		start := time.Now()
		c := m.Clean(t.Context(), "test")
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("took %v, want a second before and after", took)
		}
		if d := c.Devices[1]; d.Before != memory.Unknown || d.After != memory.Unknown || d.Freed != 0 {
			t.Errorf("%+v", d)
		}
		if d := c.Devices[0]; d.Before != gib || d.After != gib {
			t.Errorf("the host %+v", d)
		}
	})
}

// What lies in memory is given back, Go's and C's.
func TestCleanThisHost(t *testing.T) {
	m := memory.NewManager(memory.Options{ProcessWide: true})
	defer m.Close()
	garbage := make([]byte, 200*mib)
	for i := 0; i < len(garbage); i += 4096 {
		garbage[i] = 1
	}
	garbage = nil
	c := m.Clean(t.Context(), "test")
	if d := c.Devices[0]; !d.Own || d.Freed < 150*mib {
		t.Errorf("of 200 MiB of garbage: %+v", d)
	}
	if s := c.Steps; len(s) != 2 || s[0].Name != "go" || s[0].Freed < 150*mib || s[1].Name != "malloc" || s[1].Freed < 0 || c.Err() != nil {
		t.Errorf("%+v", s)
	}
	_ = garbage
}
