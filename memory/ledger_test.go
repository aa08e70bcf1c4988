package memory_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/forgepipe/forgepipe/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func work(n int64) memory.Request      { return memory.Request{Kind: memory.Work, Bytes: n} }
func residency(n int64) memory.Request { return memory.Request{Kind: memory.Residency, Bytes: n} }

func mustTry(t *testing.T, l *memory.Ledger, r memory.Request) *memory.Lease {
	t.Helper()
	x, ok := l.TryAcquire(r)
	if !ok {
		t.Fatalf("TryAcquire(%+v) refused with %+v", r, l.Usage())
	}
	return x
}

// acquire starts Acquire and returns once it waits or is served; it runs in a
// synctest bubble.
func acquire(l *memory.Ledger, r memory.Request) *result {
	res := &result{}
	go func() {
		res.lease, res.err = l.Acquire(context.Background(), r)
		res.done = true
	}()
	synctest.Wait()
	return res
}

type result struct {
	lease *memory.Lease
	err   error
	done  bool
}

func TestLeaseLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.NewLedger("host", 100)
		start := time.Now()
		a, err := l.Acquire(t.Context(), memory.Request{Kind: memory.Residency, Bytes: 40, Holder: "frame"})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		b := mustTry(t, l, memory.Request{Kind: memory.Work, Bytes: 60, Holder: "stage score"})
		if _, ok := l.TryAcquire(work(1)); ok {
			t.Error("a full ledger gave a lease")
		}
		want := []memory.Holding{
			{Holder: "frame", Kind: memory.Residency, Bytes: 40, Since: start},
			{Holder: "stage score", Kind: memory.Work, Bytes: 60, Since: start.Add(time.Second)},
		}
		if got := l.Holders(); len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
			t.Errorf("Holders() = %v, want %v", got, want)
		}
		a.Resize(70) // the truth may overshoot
		if got, want := l.Usage(), (memory.Usage{Limit: 100, Ceiling: 100, Residency: 70, Work: 60, Peak: 130}); got != want {
			t.Errorf("Usage() = %+v, want %+v", got, want)
		}
		b.Release()
		b.Release()
		b.Resize(10)
		a.Resize(-5)
		if a.Bytes() != 0 {
			t.Errorf("Bytes() = %d after Resize(-5)", a.Bytes())
		}
		a.Resize(7)
		if got := l.Usage(); got.Residency != 7 || got.Work != 0 || len(l.Holders()) != 1 {
			t.Errorf("Usage() = %+v, Holders() = %v", got, l.Holders())
		}
		a.Release()
		if len(l.Holders()) != 0 {
			t.Errorf("Holders() = %v", l.Holders())
		}
		(*memory.Lease)(nil).Release()
	})
}

func TestEmptyLease(t *testing.T) {
	l := memory.NewLedger("host", 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, n := range []int64{0, -1} {
		x, err := l.Acquire(ctx, work(n))
		if err != nil || x.Bytes() != 0 {
			t.Fatalf("Acquire(%d): %v", n, err)
		}
		x.Resize(5)
		if got := l.Usage().Work; got != 5 {
			t.Errorf("an empty lease resized to 5 holds %d", got)
		}
		x.Release()
		y := mustTry(t, l, residency(n))
		y.Release()
	}
}

func TestOversize(t *testing.T) {
	l := memory.NewLedger("gpu:0", 100<<20)
	l.SetReserve(30 << 20)
	full := mustTry(t, l, work(100<<20))
	defer full.Release()
	_, err := l.Acquire(t.Context(), memory.Request{Kind: memory.Residency, Bytes: 71 << 20, Holder: "decoding a.jpg"})
	var over *memory.OversizeError
	if !errors.As(err, &over) || over.Need != 71<<20 || over.Have != 70<<20 || over.Device != "gpu:0" || over.Holder != "decoding a.jpg" {
		t.Fatalf("got %v, want an OversizeError", err)
	}
	want := "decoding a.jpg needs 71 MiB on gpu:0, but at most 70 MiB can ever be had: raise"
	if !strings.HasPrefix(err.Error(), want) {
		t.Errorf("message %q, want it to begin with %q", err, want)
	}
	if _, err := l.Acquire(t.Context(), work(101<<20)); !errors.As(err, &over) || over.Have != 100<<20 {
		t.Errorf("work over the limit: %v", err)
	}
	if _, ok := l.TryAcquire(work(101 << 20)); ok {
		t.Error("TryAcquire gave more than the limit")
	}
}

// A limit that was lowered may rise again: who fitted before waits for that, and
// lets others by in the meantime.
func TestLowerLimitLetsOthersBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.NewLedger("host", 100)
		held := mustTry(t, l, work(50))
		big := acquire(l, work(80))
		l.SetLimit(70)
		small := acquire(l, work(20))
		if big.done || !small.done || small.err != nil {
			t.Fatalf("under the lower limit, big: %+v, small: %+v", big, small)
		}
		var over *memory.OversizeError
		if _, err := l.Acquire(t.Context(), work(101)); !errors.As(err, &over) || over.Have != 100 || over.Now {
			t.Errorf("more than there ever was: %v", err)
		}
		held.Release()
		small.lease.Release()
		l.SetLimit(110)
		synctest.Wait()
		if !big.done || big.err != nil {
			t.Errorf("big after raising the limit: %+v", big)
		}
		big.lease.Release()
	})
}

// The inputs of a call that waits may be taken away. What it asked for beside them
// then fits where the two together never would, and waiting would not end: it lacks
// nothing, so that nobody gives anything back for it.
func TestCallWhoseInputsWereTakenAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.NewLedger("host", 100)
		inputs := mustTry(t, l, residency(60))
		done := false
		go func() {
			_, stays, err := l.AcquireCall(context.Background(), memory.CallRequest{Stays: 30, Beside: 60})
			if err != nil {
				t.Error(err)
			}
			done = true
			stays.Release()
		}()
		l.SetLimit(70)
		synctest.Wait()
		if _, lacks, ok := l.First(); done || !ok || lacks != 20 {
			t.Fatalf("beside its inputs: served %v, lacks %d", done, lacks)
		}
		inputs.Release()
		synctest.Wait()
		if _, lacks, ok := l.First(); !done || ok {
			t.Errorf("without its inputs: served %v, lacks %d", done, lacks)
			l.Refuse()
		}
	})
}

// Who waits for what nobody can give back is refused when asked for, and those
// behind go on.
func TestRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.NewLedger("host", 100)
		l.SetReserve(10)
		if holder, ok := l.Refuse(); ok {
			t.Errorf("refused %q, and nobody waited", holder)
		}
		held := mustTry(t, l, residency(50))
		first := acquire(l, memory.Request{Kind: memory.Residency, Bytes: 60, Holder: "dedup"})
		second := acquire(l, memory.Request{Kind: memory.Residency, Bytes: 40, Holder: "source"})
		if holder, lacks, ok := l.First(); holder != "dedup" || lacks != 20 || !ok {
			t.Errorf("First() = %q, %d, %v", holder, lacks, ok)
		}
		if holder, ok := l.Refuse(); !ok || holder != "dedup" {
			t.Errorf("Refuse() = %q, %v", holder, ok)
		}
		synctest.Wait()
		var over *memory.OversizeError
		if !first.done || !errors.As(first.err, &over) || !over.Now || over.Need != 60 || over.Have != 40 {
			t.Errorf("first: %+v", first)
		}
		if !second.done || second.err != nil {
			t.Errorf("second: %+v", second)
		}
		if _, _, ok := l.First(); ok {
			t.Error("somebody still waits")
		}
		held.Release()
		second.lease.Release()
	})
}

// What one call needs is granted in one piece, beside what its inputs have.
func TestAcquireCall(t *testing.T) {
	tests := []struct {
		name            string
		request         memory.CallRequest
		resident, calls int64  // held by others
		want            string // granted, waits, refused
	}{
		{"all free", memory.CallRequest{Work: 30, Stays: 50}, 0, 0, "granted"},
		{"to the last byte", memory.CallRequest{Work: 40, Stays: 60}, 0, 0, "granted"},
		{"nothing", memory.CallRequest{}, 60, 40, "granted"},
		{"less than nothing", memory.CallRequest{Work: -1, Stays: -1}, 60, 40, "granted"},
		{"only work", memory.CallRequest{Work: 40}, 60, 0, "granted"},
		{"only residency", memory.CallRequest{Stays: 60}, 0, 40, "granted"},
		{"the work has room, what stays has not", memory.CallRequest{Work: 10, Stays: 20}, 50, 0, "waits"},
		{"what stays has room, the work has not", memory.CallRequest{Work: 40, Stays: 10}, 0, 60, "waits"},
		{"beside its inputs", memory.CallRequest{Work: 10, Stays: 30, Beside: 30}, 30, 0, "granted"},
		{"never beside its inputs", memory.CallRequest{Stays: 31, Beside: 30}, 30, 0, "refused"},
		{"never, although each part would", memory.CallRequest{Work: 60, Stays: 50}, 0, 0, "refused"},
		{"more than the reserve leaves", memory.CallRequest{Stays: 61}, 0, 0, "refused"},
		{"so much that sums overflow", memory.CallRequest{Work: math.MaxInt64, Stays: math.MaxInt64, Beside: math.MaxInt64}, 0, 0, "refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := memory.NewLedger("host", 100)
				l.SetReserve(40)
				a, b := mustTry(t, l, residency(tt.resident)), mustTry(t, l, work(tt.calls))
				var w, s *memory.Lease
				var err error
				done := false
				go func() {
					w, s, err = l.AcquireCall(context.Background(), tt.request)
					done = true
				}()
				synctest.Wait()
				var over *memory.OversizeError
				got := "waits"
				switch {
				case done && errors.As(err, &over):
					got = "refused"
				case done && err == nil:
					got = "granted"
				}
				if got != tt.want {
					t.Errorf("%s: %v; want it %s", got, err, tt.want)
				}
				a.Release()
				b.Release()
				synctest.Wait()
				if tt.want != "refused" {
					if err != nil || w.Bytes() != max(tt.request.Work, 0) || s.Bytes() != max(tt.request.Stays, 0) {
						t.Errorf("leased %v and %v, %v", w, s, err)
					}
					w.Release()
					s.Split(5).Release()
					s.Release()
				}
				if u := l.Usage(); u.Residency+u.Work != 0 || u.Waiting != 0 {
					t.Errorf("left: %+v", u)
				}
			})
		})
	}
}

// A call that is given up while it waits, or in the instant it is served, leaves
// nothing behind.
func TestCancelCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.NewLedger("host", 100)
		held := mustTry(t, l, work(50))
		ctx, cancel := context.WithCancel(t.Context())
		var err error
		go func() { _, _, err = l.AcquireCall(ctx, memory.CallRequest{Work: 30, Stays: 30, Holder: "upscale"}) }()
		synctest.Wait()
		cancel()
		held.Release()
		synctest.Wait()
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "waiting for 60 B on host for upscale") {
			t.Errorf("cancelled: %v", err)
		}
		if u := l.Usage(); u.Residency+u.Work != 0 || u.Waiting != 0 {
			t.Errorf("left: %+v", u)
		}
	})
}

func TestReserve(t *testing.T) {
	l := memory.NewLedger("host", 100)
	l.SetReserve(40)
	a := mustTry(t, l, residency(60)) // nothing else resident: all of limit - reserve
	if _, ok := l.TryAcquire(residency(1)); ok {
		t.Error("residency took the reserve")
	}
	w := mustTry(t, l, work(40))
	w.Release()

	// Residency that overshoots must not lock work out, or nothing would ever
	// leave again.
	a.Resize(100)
	w = mustTry(t, l, work(40))
	if _, ok := l.TryAcquire(work(1)); ok {
		t.Error("a second call ran beyond the limit")
	}
	w.Release()
	if _, ok := l.TryAcquire(work(41)); ok {
		t.Error("work over the reserve ran beyond the limit")
	}
	a.Release()
}

func TestOrder(t *testing.T) {
	tests := []struct {
		name     string
		requests []memory.Request // arrive in this order while all is held
		want     string           // order of service, when each is released at once
	}{
		{"first come first served", []memory.Request{work(60), work(90), work(60)}, "0 1 2"},
		{"downstream first", []memory.Request{
			{Kind: memory.Work, Bytes: 90, Priority: 1}, {Kind: memory.Work, Bytes: 90, Priority: 3},
			{Kind: memory.Work, Bytes: 90, Priority: 2}, {Kind: memory.Work, Bytes: 90, Priority: 3},
		}, "1 3 2 0"},
		{"a small one does not slip past", []memory.Request{work(100), work(1)}, "0 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := memory.NewLedger("host", 100)
				held := mustTry(t, l, work(100))
				var mu sync.Mutex
				var order []string
				for i, r := range tt.requests {
					go func() {
						x, err := l.Acquire(context.Background(), r)
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						order = append(order, fmt.Sprint(i))
						mu.Unlock()
						time.Sleep(time.Second)
						x.Release()
					}()
					synctest.Wait()
				}
				if u := l.Usage(); u.Waiting != len(tt.requests) || u.WaitingSince.IsZero() {
					t.Errorf("Usage() = %+v", u)
				}
				held.Release()
				time.Sleep(time.Minute)
				synctest.Wait()
				if got := strings.Join(order, " "); got != tt.want {
					t.Errorf("served %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// However many more important requests come, a waiter gets its turn.
func TestAgeing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.NewLedger("host", 100)
		held := mustTry(t, l, work(100))
		low := acquire(l, memory.Request{Kind: memory.Work, Bytes: 100, Priority: 0})
		rounds := 0
		for ; !low.done && rounds < 1000; rounds++ {
			next := acquire(l, memory.Request{Kind: memory.Work, Bytes: 100, Priority: 5})
			held.Release()
			synctest.Wait()
			if low.done {
				low.lease.Release()
				synctest.Wait()
			}
			held = next.lease
		}
		held.Release()
		if rounds < 10 || rounds > 100 {
			t.Errorf("served after %d rounds, want it overtaken some times and not for ever", rounds)
		}
	})
}

// Work passes residency that waits for residency to leave, because only work
// makes it leave.
func TestWorkPassesBlockedResidency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.NewLedger("host", 100)
		l.SetReserve(20)
		frame := mustTry(t, l, residency(70))
		next := acquire(l, memory.Request{Kind: memory.Residency, Bytes: 20, Priority: 9})
		later := acquire(l, residency(5))
		if next.done || later.done {
			t.Fatal("residency took the reserve, or slipped past an earlier one")
		}
		w := mustTry(t, l, work(20))
		frame.Release()
		synctest.Wait()
		if !next.done || !later.done {
			t.Errorf("residency still waits: %+v %+v", next, later)
		}
		w.Release()
		next.lease.Release()
		later.lease.Release()
	})
}

// Large work that waits for residency to leave keeps new residency out, and
// lets smaller work by.
func TestBlockedWorkHoldsBackResidency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.NewLedger("host", 100)
		frame := mustTry(t, l, residency(50))
		big := acquire(l, memory.Request{Kind: memory.Work, Bytes: 80, Priority: 1})
		if _, ok := l.TryAcquire(residency(10)); ok {
			t.Error("new residency got in before waiting work")
		}
		mustTry(t, l, work(30)).Release()
		frame.Release()
		synctest.Wait()
		if !big.done {
			t.Error("the large work still waits")
		}
		big.lease.Release()
	})
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.NewLedger("host", 100)
		done, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := l.Acquire(done, work(1)); !errors.Is(err, context.Canceled) {
			t.Errorf("an ended context: %v", err)
		}

		held := mustTry(t, l, work(50))
		ctx, cancel := context.WithCancel(t.Context())
		var err error
		go func() { _, err = l.Acquire(ctx, work(100)) }()
		synctest.Wait()
		behind := acquire(l, work(10))
		if behind.done {
			t.Fatal("a later request slipped past")
		}
		cancel()
		synctest.Wait()
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "waiting for 100 B on host") {
			t.Errorf("cancelled: %v", err)
		}
		if !behind.done {
			t.Error("the one behind still waits for a request that has gone")
		}
		held.Release()
		behind.lease.Release()
		if u := l.Usage(); u.Work != 0 || u.Waiting != 0 || !u.WaitingSince.IsZero() {
			t.Errorf("Usage() = %+v", u)
		}
	})
}

// Many goroutines, cancelled at random: nothing is lost, nothing exceeds the
// limit, everybody ends.
func TestConcurrent(t *testing.T) {
	l := memory.NewLedger("host", 1000)
	l.SetReserve(200)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				ctx, cancel := context.WithCancel(context.Background())
				if (g+i)%5 == 0 {
					go cancel()
				}
				r := memory.Request{Kind: memory.Kind(i % 2), Bytes: int64(1 + (g*i)%700), Priority: g % 3}
				x, err := l.Acquire(ctx, r)
				if err == nil {
					if u := l.Usage(); u.Residency+u.Work > u.Limit {
						t.Errorf("over the limit: %+v", u)
					}
					x.Release()
				} else if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if u := l.Usage(); u.Residency != 0 || u.Work != 0 || u.Waiting != 0 || u.Peak > 1000 {
		t.Errorf("left: %+v", u)
	}
}

// The ledger's sums are those of its leases, whatever is done to it.
func TestSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := memory.NewLedger("host", 100)
		var leases []*memory.Lease
		t.Repeat(map[string]func(*rapid.T){
			"try": func(t *rapid.T) {
				r := memory.Request{Kind: memory.Kind(rapid.IntRange(0, 1).Draw(t, "kind")), Bytes: rapid.Int64Range(-1, 120).Draw(t, "bytes")}
				before := l.Usage()
				if x, ok := l.TryAcquire(r); ok {
					leases = append(leases, x)
					after := l.Usage()
					if sum := after.Residency + after.Work; sum > after.Limit && sum > before.Residency+before.Work &&
						(r.Kind == memory.Residency || before.Work > 0 || r.Bytes > before.Reserve) {
						t.Fatalf("admitted %+v: %+v -> %+v", r, before, after)
					}
				}
			},
			"resize": func(t *rapid.T) {
				if len(leases) == 0 {
					t.Skip("there is no lease yet: another action is drawn")
				}
				rapid.SampledFrom(leases).Draw(t, "lease").Resize(rapid.Int64Range(-5, 150).Draw(t, "to"))
			},
			"release": func(t *rapid.T) {
				if len(leases) == 0 {
					t.Skip("there is no lease yet: another action is drawn")
				}
				rapid.SampledFrom(leases).Draw(t, "lease").Release()
			},
			"reserve": func(t *rapid.T) { l.SetReserve(rapid.Int64Range(-1, 120).Draw(t, "reserve")) },
			"limit":   func(t *rapid.T) { l.SetLimit(rapid.Int64Range(-1, 150).Draw(t, "limit")) },
			"": func(t *rapid.T) {
				var sum, listed int64
				for _, x := range leases {
					sum += x.Bytes()
				}
				for _, h := range l.Holders() {
					listed += h.Bytes
				}
				if u := l.Usage(); u.Residency+u.Work != sum || listed != sum || u.Peak < sum {
					t.Fatalf("leases hold %d, listed %d, usage %+v", sum, listed, u)
				}
			},
		})
	})
}

func TestAllocations(t *testing.T) {
	l := memory.NewLedger("host", 100)
	ctx := context.Background()
	r := memory.Request{Kind: memory.Work, Bytes: 10, Holder: "stage"}
	n := testing.AllocsPerRun(100, func() {
		x, err := l.Acquire(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		x.Release()
	})
	if n > 1 {
		t.Errorf("%v allocations per lease, want only the lease", n)
	}
}

func BenchmarkAcquireRelease(b *testing.B) {
	l := memory.NewLedger("host", 100)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	r := memory.Request{Kind: memory.Work, Bytes: 10, Holder: "stage"}
	b.ReportAllocs()
	for b.Loop() {
		x, err := l.Acquire(ctx, r)
		if err != nil {
			b.Fatal(err)
		}
		x.Release()
	}
}

// What is split off stays leased all the while, and a waiter gets nothing of it.
func TestSplit(t *testing.T) {
	for name, tt := range map[string]struct{ take, part, rest int64 }{
		"some":      {30, 30, 70},
		"all":       {100, 100, 0},
		"more":      {130, 100, 0},
		"nothing":   {0, 0, 100},
		"less even": {-5, 0, 100},
	} {
		t.Run(name, func(t *testing.T) {
			l := memory.NewLedger("host", 100)
			x, _ := l.TryAcquire(memory.Request{Kind: memory.Residency, Bytes: 100, Holder: "a"})
			part := x.Split(tt.take)
			if part.Bytes() != tt.part || x.Bytes() != tt.rest {
				t.Errorf("%d and %d, want %d and %d", part.Bytes(), x.Bytes(), tt.part, tt.rest)
			}
			if u := l.Usage(); u.Residency != 100 || u.Peak != 100 {
				t.Errorf("%+v", u)
			}
			sum := int64(0)
			for _, h := range l.Holders() {
				if h.Holder != "a" || h.Kind != memory.Residency || h.Since.IsZero() {
					t.Errorf("%+v", h)
				}
				sum += h.Bytes
			}
			if sum != 100 {
				t.Errorf("the holders have %d", sum)
			}
			x.Release()
			part.Resize(tt.part + 1)
			part.Release()
			if u := l.Usage(); u.Residency != 0 || len(l.Holders()) != 0 {
				t.Errorf("afterwards %+v, %v", u, l.Holders())
			}
		})
	}
}
