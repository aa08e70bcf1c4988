package memory_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

// pool is a device whose figures a test sets.
type pool struct {
	name      string
	own, used atomic.Int64
	broken    atomic.Bool
	closed    func() error // nil: nothing to do
}

func newPool(name string, own, used int64) *pool {
	p := &pool{name: name}
	p.own.Store(own)
	p.used.Store(used)
	return p
}

func (p *pool) Name() string        { return p.name }
func (p *pool) Description() string { return "a pool of bytes" }

func (p *pool) Read(context.Context) (memory.Reading, error) {
	if p.broken.Load() {
		return memory.Reading{}, errors.New("fallen off the bus")
	}
	return memory.Reading{Physical: 100 * gib, Total: 100 * gib, Used: p.used.Load(), Free: memory.Unknown, Own: p.own.Load(), Stalled: memory.Unknown, Busy: memory.Unknown}, nil
}

func (p *pool) Close() error {
	if p.closed == nil {
		return nil
	}
	return p.closed()
}

// fakeHost is a machine of 16 GiB on which this process has rss bytes resident.
func fakeHost(t *testing.T, rss int64) (h memory.Host, set func(rss int64)) {
	t.Helper()
	root := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		// Readings are taken all the while, so that no half of a file may be seen.
		if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	set = func(rss int64) {
		write("proc/self/statm", fmt.Sprintf("0 %d 0 0 0 0 0\n", rss/int64(os.Getpagesize())))
	}
	write("proc/meminfo", meminfo)
	set(rss)
	return memory.Host{Root: root}, set
}

// manager is one that is closed when the test ends.
func manager(t *testing.T, o memory.Options) *memory.Manager {
	t.Helper()
	if o.Host.Root == "" {
		o.Host, _ = fakeHost(t, gib)
	}
	m := memory.NewManager(o)
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := manager(t, memory.Options{Devices: []memory.Device{newPool("gpu:0", 3*gib, 5*gib)}})
		host, second, sim := memory.NewLedger("host", gib), memory.NewLedger("host", gib), memory.NewLedger("sim:0", gib)
		held := mustTry(t, host, memory.Request{Kind: memory.Residency, Bytes: 100, Holder: "late"})
		mustTry(t, second, memory.Request{Kind: memory.Work, Bytes: 20, Holder: "work"})
		time.Sleep(time.Minute)
		held.Release()
		mustTry(t, host, memory.Request{Kind: memory.Residency, Bytes: 100, Holder: "late"})
		mustTry(t, sim, memory.Request{Kind: memory.Work, Bytes: 7, Holder: "elsewhere"})
		detach := m.Attach(host)
		m.Attach(second)
		m.Attach(sim)

		all := m.State()
		var names []string
		for _, s := range all {
			names = append(names, s.Device)
		}
		if got := strings.Join(names, " "); got != "host gpu:0 sim:0" {
			t.Fatalf("devices %s", got)
		}
		h, gpu, elsewhere := all[0], all[1], all[2]
		if u := h.Usage; u.Residency != 100 || u.Work != 20 || u.Limit != 2*gib || u.Peak != 120 {
			t.Errorf("the ledgers of the host: %+v", u)
		}
		if len(h.Holders) != 2 || h.Holders[0].Holder != "work" || h.Holders[1].Holder != "late" {
			t.Errorf("holders %+v, want the oldest first", h.Holders)
		}
		if bytes, ok := h.Unexplained(); !ok || bytes != gib-120 {
			t.Errorf("Unexplained() = %d, %v", bytes, ok)
		}
		if !gpu.Known() || gpu.Own != 3*gib || gpu.Description != "a pool of bytes" || gpu.Leased {
			t.Errorf("gpu:0 %+v", gpu)
		}
		if _, ok := gpu.Unexplained(); ok {
			t.Error("bytes are unexplained where nothing is leased")
		}
		if elsewhere.Known() || !elsewhere.Leased || elsewhere.Usage.Work != 7 {
			t.Errorf("sim:0 %+v", elsewhere)
		}
		if _, ok := elsewhere.Unexplained(); ok {
			t.Error("bytes are unexplained where none are known")
		}
		detach()
		detach()
		if u := m.State()[0].Usage; u.Residency != 0 || u.Work != 20 {
			t.Errorf("after detach %+v", u)
		}
	})
}

func TestManagerClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		defer close(hold)
		good, bad, hanging := newPool("gpu:0", 0, 0), newPool("gpu:1", 0, 0), newPool("gpu:2", 0, 0)
		closed := 0
		good.closed = func() error { closed++; return nil }
		bad.closed = func() error { return errors.New("device lost") }
		hanging.closed = func() error { <-hold; return nil }
		h, _ := fakeHost(t, gib)
		m := memory.NewManager(memory.Options{Host: h, Devices: []memory.Device{good, bad, hanging}})
		var cleaned memory.Cleaned
		m.Register(memory.Reclaimer{Name: "slow", Reclaim: func(ctx context.Context) (int64, error) {
			<-ctx.Done()
			return 0, context.Cause(ctx)
		}})
		go func() { cleaned = m.Clean(context.Background(), "test") }()
		synctest.Wait()

		start := time.Now()
		err := m.Close()
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("Close took %v", took)
		}
		for _, want := range []string{"closing gpu:1: device lost", "closing gpu:2: it has not closed"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Close() = %v, want %q in it", err, want)
			}
		}
		if again := m.Close(); again == nil || again.Error() != err.Error() || closed != 1 {
			t.Errorf("closed again: %v, and gpu:0 %d times", again, closed)
		}
		synctest.Wait()
		if err := cleaned.Err(); err == nil || !strings.Contains(err.Error(), "slow on host") || !strings.Contains(err.Error(), "closed") {
			t.Errorf("the clean-up that ran: %v", err)
		}
		if err := m.Clean(t.Context(), "late").Err(); err == nil || !strings.Contains(err.Error(), "closed") {
			t.Errorf("a clean-up after Close: %v", err)
		}
		m.SetHostLimit(gib)
	})
}
