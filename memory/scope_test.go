package memory_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

func TestScope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		gpu := newPool("gpu:0", gib, 2*gib)
		m := manager(t, memory.Options{Devices: []memory.Device{gpu}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		var order []string
		s := m.Scope("thumbnails")
		s.Register(frees(gpu, "first", 100*mib, &order))
		s.Register(frees(gpu, "second", 50*mib, &order))
		s.Register(frees(gpu, "third", 0, &order))()

		gpu.own.Add(900 * mib) // a peak that the polls see
		time.Sleep(time.Second)
		gpu.own.Add(-700 * mib)
		time.Sleep(time.Second)
		r := s.End(t.Context())

		want := memory.ScopeDevice{Device: "gpu:0", Own: true, Before: gib, Peak: gib + 900*mib, End: gib + 200*mib, After: gib + 50*mib, Freed: 150 * mib}
		if r.Name != "thumbnails" || r.Took != 2*time.Second || len(r.Devices) != 2 || r.Devices[1] != want {
			t.Errorf("%+v\nwant %+v", r, want)
		}
		if left, ok := r.Devices[1].Left(); !ok || left != 50*mib {
			t.Errorf("Left() = %d, %v", left, ok)
		}
		if got := fmt.Sprint(order); got != "[second first]" {
			t.Errorf("order %s", got)
		}
		if again := s.End(t.Context()); again.Took != r.Took || len(order) != 2 {
			t.Errorf("ended again: %+v", again)
		}
		if m.Clean(t.Context(), "test"); len(order) != 2 {
			t.Errorf("a scope that has ended still frees: %v", order)
		}
		if !strings.Contains(log.String(), "scope=thumbnails") || !strings.Contains(log.String(), "gpu:0.freed=157286400") {
			t.Errorf("log %q", log.String())
		}
	})
}

// A scope takes part in clean-ups while it lasts, and knows nothing of others.
func TestScopesAreIndependent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gpu := newPool("gpu:0", gib, gib)
		m := manager(t, memory.Options{Devices: []memory.Device{gpu}})
		var order []string
		m.Register(frees(gpu, "manager", 1, &order))
		outer := m.Scope("outer")
		outer.Register(frees(gpu, "outer", 1, &order))
		inner := m.Scope("inner")
		inner.Register(frees(gpu, "inner", 1, &order))

		inner.End(t.Context())
		if got := fmt.Sprint(order); got != "[inner]" {
			t.Errorf("the inner one freed %s", got)
		}
		order = nil
		m.Clean(t.Context(), "pressure")
		if got := fmt.Sprint(order); got != "[outer manager]" {
			t.Errorf("pressure freed %s", got)
		}
		order = nil
		outer.End(t.Context())
		if got := fmt.Sprint(order); got != "[outer]" {
			t.Errorf("the outer one freed %s", got)
		}
	})
}

// Neither a panic nor a context that has ended keeps End from freeing.
func TestScopeAfterPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gpu := newPool("gpu:0", gib, gib)
		m := manager(t, memory.Options{Devices: []memory.Device{gpu}})
		ctx, cancel := context.WithCancel(t.Context())
		var order []string
		var report memory.ScopeReport
		func() {
			defer func() { _ = recover() }()
			s := m.Scope("work")
			defer func() { report = s.End(ctx) }()
			s.Register(frees(gpu, "pool", mib, &order))
			cancel()
			panic("no")
		}()
		if len(order) != 1 || report.Devices[1].Freed != mib {
			t.Errorf("%v %+v", order, report)
		}
		for _, s := range report.Steps {
			if s.Err != nil {
				t.Errorf("%+v", s)
			}
		}
	})
}

func TestScopeWithoutReadings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gpu := newPool("gpu:0", memory.Unknown, 2*gib)
		gpu.broken.Store(true)
		m := manager(t, memory.Options{Devices: []memory.Device{gpu}})
		s := m.Scope("work")
		gpu.broken.Store(false)
		d := s.End(t.Context()).Devices[1]
		if want := (memory.ScopeDevice{Device: "gpu:0", Before: memory.Unknown, Peak: 2 * gib, End: 2 * gib, After: 2 * gib}); d != want {
			t.Errorf("%+v\nwant %+v", d, want)
		}
		if _, ok := d.Left(); ok {
			t.Error("what is left is known")
		}
	})
}
