package sim_test

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/sim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	gib = int64(1) << 30

	// item is what the small network needs for one item: 25.17 MB.
	item = 24 * mib
)

func device(t *testing.T, c sim.Config) *sim.Device {
	t.Helper()
	if c.Total == 0 {
		c.Total = 16 * gib
	}
	d, err := sim.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func session(t *testing.T, d *sim.Device, c sim.SessionConfig) *sim.Session {
	t.Helper()
	if c.PerItem == 0 {
		c.PerItem = item
	}
	s, err := d.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func read(t *testing.T, d *sim.Device) memory.Reading {
	t.Helper()
	r, err := d.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func run(t *testing.T, s *sim.Session, batches ...int) {
	t.Helper()
	for _, b := range batches {
		if err := s.Run(b, sim.RunOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func upTo(n int) (all []int) {
	for b := 1; b <= n; b++ {
		all = append(all, b)
	}
	return all
}

func down(n int) (all []int) {
	for b := n; b >= 1; b-- {
		all = append(all, b)
	}
	return all
}

// What was measured on the runtime: how much more an arena has after a series of
// batches than after a clean batch of 16.
func TestArenaKeepsWhatItHad(t *testing.T) {
	clean := session(t, device(t, sim.Config{}), sim.SessionConfig{})
	run(t, clean, 16)
	for name, tt := range map[string]struct {
		batches []int
		shrink  bool
		want    float64
	}{
		"one more each time":               {upTo(16), false, 8.5},
		"doubled each time":                {[]int{1, 2, 4, 8, 16}, false, 1.94},
		"descending":                       {down(16), false, 1},
		"one more, shrunk before each":     {upTo(16), true, 1},
		"doubled, shrunk before each":      {[]int{1, 2, 4, 8, 16}, true, 1},
		"the same size over and over":      {[]int{16, 16, 16, 16}, false, 1},
		"one more, round after round":      {append(upTo(16), upTo(16)...), false, 8.5},
		"a large one after one that fits ": {[]int{16, 3, 16}, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			d := device(t, sim.Config{})
			s := session(t, d, sim.SessionConfig{})
			for _, b := range tt.batches {
				if tt.shrink {
					s.Shrink()
				}
				run(t, s, b)
			}
			got := float64(s.Stats().Allocated) / float64(clean.Stats().Allocated)
			if math.Abs(got-tt.want) > 0.005 {
				t.Errorf("%.3f times a clean batch of 16, want %.2f", got, tt.want)
			}
			if own := read(t, d).Own; own != s.Stats().Allocated {
				t.Errorf("the device counts %d bytes, the arena %d", own, s.Stats().Allocated)
			}
			before := s.Stats().Allocated
			if freed := s.Shrink(); freed != before || read(t, d).Own != 0 {
				t.Errorf("shrinking freed %d of %d, %d are left", freed, before, read(t, d).Own)
			}
		})
	}
}

// Shrunk before each size, what is allocated is a constant times the batch.
func TestShrunkArenaIsLinear(t *testing.T) {
	s := session(t, device(t, sim.Config{}), sim.SessionConfig{})
	for b := 1; b <= 16; b++ {
		s.Shrink()
		run(t, s, b)
		if got := s.Stats().Allocated; got != int64(b)*item {
			t.Errorf("a batch of %d allocated %d, want %d", b, got, int64(b)*item)
		}
	}
}

func TestNextPowerOfTwoIsAStaircase(t *testing.T) {
	d := device(t, sim.Config{})
	c := sim.SessionConfig{PerItem: mib, Arena: sim.ArenaConfig{Strategy: sim.NextPowerOfTwo}}
	steps := map[int64]bool{}
	for b := 1; b <= 64; b++ {
		s := session(t, d, c)
		run(t, s, b)
		got := s.Stats().Allocated
		if got < int64(b)*mib || got&(got-1) != 0 || b > 1 && got >= 2*int64(b)*mib {
			t.Errorf("a clean batch of %d allocated %d", b, got)
		}
		steps[got] = true
		s.Close()
	}
	if len(steps) != 7 { // 1, 2, 4, ..., 64 MiB
		t.Errorf("the stairs are %v", steps)
	}

	s := session(t, d, c)
	run(t, s, 5, 40)
	if got := s.Stats().Allocated; got != 8*mib+64*mib {
		t.Errorf("after 5 and 40: %d", got)
	}
	if freed := s.Shrink(); freed != 64*mib || s.Stats().Allocated != 8*mib || read(t, d).Own != 8*mib {
		t.Errorf("the shrink freed %d, the first region must stay: %+v", freed, s.Stats())
	}
	if freed := s.Shrink(); freed != 0 {
		t.Errorf("a second shrink freed %d", freed)
	}
	run(t, s, 3, 9) // 3 fits the first region; then it doubles from 2 MiB on
	if got := s.Stats().Allocated; got != 8*mib+16*mib {
		t.Errorf("grown again: %d", got)
	}
}

// Regions double also where each request would fit the present size.
func TestNextPowerOfTwoDoublesEachTime(t *testing.T) {
	a, err := device(t, sim.Config{}).NewArena(sim.ArenaConfig{Strategy: sim.NextPowerOfTwo})
	if err != nil {
		t.Fatal(err)
	}
	var had []int64
	for range 7 {
		if _, err := a.Alloc(mib); err != nil {
			t.Fatal(err)
		}
		had = append(had, a.Stats().Allocated/mib)
	}
	for i, want := range []int64{1, 3, 3, 7, 7, 7, 7} {
		if had[i] != want {
			t.Fatalf("after each MiB the arena has %v MiB", had)
		}
	}
}

func TestLimitFillsWithWhatIsKept(t *testing.T) {
	d := device(t, sim.Config{})
	c := sim.SessionConfig{Arena: sim.ArenaConfig{Limit: 10 * item}}
	clean := session(t, d, c)
	run(t, clean, 8)
	clean.Close()

	s := session(t, d, c)
	run(t, s, 1, 2, 4)
	err := s.Run(8, sim.RunOptions{})
	if !errors.Is(err, memory.ErrOutOfMemory) {
		t.Fatalf("a batch of 8 after 1, 2 and 4: %v", err)
	}
	const want = "running a batch of 8: extending an arena on sim:0 with a limit of 251658240 bytes: " +
		"Available memory of 75497472 is smaller than requested bytes of 201326592: out of memory"
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	run(t, s, 4) // works on
	if got := s.Stats(); got.Allocated != 7*item || got.InUse != 0 || got.MaxInUse != 4*item || got.Limit != 10*item {
		t.Errorf("%+v", got)
	}
	if err := s.Run(8, sim.RunOptions{Shrink: true}); !errors.Is(err, memory.ErrOutOfMemory) || s.Stats().Allocated != 0 {
		t.Errorf("a failed run that shrinks: %v, %+v", err, s.Stats())
	}
	run(t, s, 8)
}

// An arena with a limit has room for what a device of that size would have room for:
// it can stand for a small one.
func TestLimitIsASmallDevice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, 64).Draw(t, "items") * item
		open := func(total, limit int64) *sim.Session {
			d, err := sim.New(sim.Config{Total: total})
			if err != nil {
				t.Fatal(err)
			}
			s, err := d.Open(sim.SessionConfig{PerItem: item, Arena: sim.ArenaConfig{Limit: limit}})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		small, limited := open(size, 0), open(16*gib, size)
		for _, b := range rapid.SliceOfN(rapid.IntRange(1, 70), 1, 30).Draw(t, "batches") {
			shrink := sim.RunOptions{Shrink: rapid.Bool().Draw(t, "shrink")}
			want, got := small.Run(b, shrink), limited.Run(b, shrink)
			if errors.Is(want, memory.ErrOutOfMemory) != errors.Is(got, memory.ErrOutOfMemory) {
				t.Fatalf("a batch of %d on %d bytes: %v, with a limit: %v", b, size, want, got)
			}
			if a, b := small.Stats(), limited.Stats(); a.Allocated != b.Allocated || a.InUse != b.InUse || a.MaxInUse != b.MaxInUse {
				t.Fatalf("%+v, with a limit %+v", a, b)
			}
			if int64(b)*item > size && got == nil {
				t.Fatalf("a batch of %d ran in %d bytes", b, size)
			}
		}
	})
}

func TestDeviceIsFull(t *testing.T) {
	for name, strategy := range map[string]sim.Strategy{"same": sim.SameAsRequested, "doubled": sim.NextPowerOfTwo} {
		t.Run(name, func(t *testing.T) {
			d := device(t, sim.Config{Name: "sim:3", Total: gib, Reserved: 24 * mib, Others: sim.Constant(400 * mib)})
			s := session(t, d, sim.SessionConfig{Fixed: 100 * mib, PerItem: mib, Arena: sim.ArenaConfig{Strategy: strategy}})
			err := s.Run(501, sim.RunOptions{})
			if !errors.Is(err, memory.ErrOutOfMemory) ||
				!strings.Contains(err.Error(), "sim:3: Failed to allocate memory for requested buffer of size 525336576: ") {
				t.Errorf("501 MiB where 500 are free: %v", err)
			}
			// The doubled one asks for 512 MiB, and then for a tenth less.
			run(t, s, 450)
			if r := read(t, d); r.Own < 550*mib || r.Own > 600*mib || r.Free < 0 {
				t.Errorf("%+v", r)
			}
			s.Close()
			s.Close()
			if r := read(t, d); r.Own != 0 || r.Used != 400*mib || r.Free != 600*mib {
				t.Errorf("after Close: %+v", r)
			}
			if _, err := d.Open(sim.SessionConfig{Fixed: 601 * mib, PerItem: 1}); !errors.Is(err, memory.ErrOutOfMemory) {
				t.Errorf("opening what does not fit: %v", err)
			}
			if r := read(t, d); r.Own != 0 {
				t.Errorf("after an Open that failed: %+v", r)
			}
		})
	}
}

func TestRunsAtOnceNeedTheSum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := device(t, sim.Config{})
		s := session(t, d, sim.SessionConfig{})
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if err := s.Run(4, sim.RunOptions{Shrink: true, During: func() { time.Sleep(time.Second) }}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if got := s.Stats(); got.InUse != 12*item || got.Allocated != 12*item {
			t.Errorf("during three runs: %+v", got)
		}
		if s.Shrink() != 0 {
			t.Error("a shrink freed what is in use")
		}
		all.Wait()
		if got := s.Stats(); got.InUse != 0 || got.Allocated != 0 || got.MaxInUse != 12*item {
			t.Errorf("afterwards: %+v", got)
		}
	})
}

func TestLeak(t *testing.T) {
	d := device(t, sim.Config{Total: gib})
	s := session(t, d, sim.SessionConfig{Leak: 5 * mib, PerItem: mib})
	for range 10 {
		if err := s.Run(1, sim.RunOptions{Shrink: true}); err != nil {
			t.Fatal(err)
		}
	}
	if r := read(t, d); r.Own != 50*mib || s.Stats().Allocated != 0 {
		t.Errorf("ten runs left %+v, the arena %+v", r, s.Stats())
	}
	runs := 10
	for ; ; runs++ {
		if err := s.Run(1, sim.RunOptions{Shrink: true}); err != nil {
			if !errors.Is(err, memory.ErrOutOfMemory) {
				t.Error(err)
			}
			break
		}
	}
	if runs != 204 { // 1024 MiB: 204 leaks of 5 and one run's own
		t.Errorf("the device was full after %d runs", runs)
	}
	s.Close()
	if r := read(t, d); r.Own != int64(runs)*5*mib {
		t.Errorf("after Close: %+v", r)
	}
}

func TestTraces(t *testing.T) {
	const s = time.Second
	for name, tt := range map[string]struct {
		trace sim.Trace
		want  map[time.Duration]int64
	}{
		"nothing":   {sim.Trace{}, map[time.Duration]int64{0: 0, time.Hour: 0}},
		"constant":  {sim.Constant(gib), map[time.Duration]int64{0: gib, time.Hour: gib}},
		"step":      {sim.Step(10*s, gib, 9*gib), map[time.Duration]int64{0: gib, 10*s - 1: gib, 10 * s: 9 * gib, time.Hour: 9 * gib}},
		"ramp up":   {sim.Ramp(5*s, gib, 10*gib, 3*gib), map[time.Duration]int64{0: gib, 5 * s: gib, 6 * s: 4 * gib, 7500 * time.Millisecond: 17 * gib / 2, 8 * s: 10 * gib, time.Hour: 10 * gib}},
		"ramp down": {sim.Ramp(0, 4*gib, gib, gib), map[time.Duration]int64{0: 4 * gib, 2 * s: 2 * gib, 3 * s: gib, 9 * s: gib}},
		"no speed":  {sim.Ramp(s, gib, 2*gib, 0), map[time.Duration]int64{0: gib, time.Hour: gib}},
		"flapping":  {sim.Flapping(gib, 3*gib, 4*s), map[time.Duration]int64{0: gib, 2 * s: 3 * gib, 4 * s: gib, 41 * s: gib, 43 * s: 3 * gib}},
		"own points": {
			sim.Trace{Points: []sim.Point{{At: 2 * s, Bytes: gib, Ramp: true}, {At: 3 * s, Bytes: mib}}},
			map[time.Duration]int64{0: 0, s: gib / 2, 2 * s: gib, 3 * s: mib},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := device(t, sim.Config{Others: tt.trace})
				start := time.Now()
				for at := range tt.want {
					if got := tt.trace.At(at); got != tt.want[at] {
						t.Errorf("At(%s) = %d, want %d", at, got, tt.want[at])
					}
				}
				if want, ok := tt.want[3*s]; ok {
					time.Sleep(time.Until(start.Add(3 * s)))
					if r := read(t, d); r.Used != want || r.Free != 16*gib-want || r.Own != 0 {
						t.Errorf("after 3 s: %+v", r)
					}
				}
			})
		})
	}
}

// A neighbour gets at most what is left, and takes its turn when it can.
func TestOthersAndOwnShareTheDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := device(t, sim.Config{Total: 10 * gib, Others: sim.Step(time.Second, gib, 9*gib)})
		b, err := d.Alloc(6 * gib)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if r := read(t, d); r.Used != 10*gib || r.Free != 0 || r.Own != 6*gib {
			t.Errorf("full: %+v", r)
		}
		if _, err := d.Alloc(1); !errors.Is(err, memory.ErrOutOfMemory) {
			t.Errorf("a byte of a full device: %v", err)
		}
		b.Free()
		b.Free()
		if r := read(t, d); r.Used != 9*gib || r.Own != 0 {
			t.Errorf("freed: %+v", r)
		}
		if _, err := d.Alloc(gib + 1); !errors.Is(err, memory.ErrOutOfMemory) {
			t.Errorf("more than the neighbour left: %v", err)
		}
		if _, err := d.Alloc(-1); err == nil || errors.Is(err, memory.ErrOutOfMemory) {
			t.Errorf("less than nothing: %v", err)
		}
	})
}

// Readings are late, allocations are not: that is how a neighbour wins a race.
func TestLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := device(t, sim.Config{Total: 10 * gib, Others: sim.Step(2*time.Second, 0, 8*gib), Lag: 500 * time.Millisecond})
		time.Sleep(time.Second)
		var blocks []*sim.Block
		for range 5 { // at 1.0, 1.1, ... 1.4 s
			b, err := d.Alloc(gib)
			if err != nil {
				t.Fatal(err)
			}
			blocks = append(blocks, b)
			time.Sleep(100 * time.Millisecond)
		}
		for i := range 5 { // at 1.5, 1.6, ... 1.9 s
			if r := read(t, d); r.Own != int64(i+1)*gib {
				t.Errorf("%d ms later: %+v", i*100, r)
			}
			time.Sleep(100 * time.Millisecond)
		}
		for _, b := range blocks {
			b.Free()
		}
		if r := read(t, d); r.Own != 5*gib || r.Free != 5*gib {
			t.Errorf("just freed: %+v", r)
		}
		if _, err := d.Alloc(5 * gib); !errors.Is(err, memory.ErrOutOfMemory) {
			t.Errorf("what the late reading calls free is gone: %v", err)
		}
		time.Sleep(500 * time.Millisecond)
		if r := read(t, d); r.Own != 0 || r.Used != 8*gib {
			t.Errorf("half a second later: %+v", r)
		}
	})
}

func TestFaults(t *testing.T) {
	unplugged := errors.New("unplugged")
	synctest.Test(t, func(t *testing.T) {
		d := device(t, sim.Config{Faults: []sim.Fault{
			{From: time.Second, Until: 2 * time.Second, Err: unplugged},
			{From: 2 * time.Second, Until: 3 * time.Second},
			{Kind: sim.Hangs, From: 3 * time.Second, Until: 4 * time.Second},
			{Kind: sim.Zeros, From: 10 * time.Second},
		}})
		read(t, d)
		time.Sleep(time.Second)
		if _, err := d.Read(t.Context()); !errors.Is(err, unplugged) {
			t.Errorf("at 1 s: %v", err)
		}
		time.Sleep(time.Second)
		if _, err := d.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "simulated") {
			t.Errorf("at 2 s: %v", err)
		}
		time.Sleep(time.Second)
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := d.Read(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 5*time.Second {
			t.Errorf("at 3 s: %v after %s", err, time.Since(began))
		}
		read(t, d)
		time.Sleep(2 * time.Second)
		if r, err := d.Read(t.Context()); err != nil || r != (memory.Reading{}) {
			t.Errorf("at 10 s: %+v, %v", r, err)
		}
	})
}

// The monitor on a device that fails, hangs and lies in turn.
func TestUnderAMonitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := device(t, sim.Config{Others: sim.Constant(gib), Faults: []sim.Fault{
			{From: 1 * time.Second, Until: 2 * time.Second},
			{Kind: sim.Zeros, From: 2 * time.Second, Until: 3 * time.Second},
			{Kind: sim.Hangs, From: 3 * time.Second, Until: 5 * time.Second},
		}})
		m := memory.NewMonitor(100*time.Millisecond, d)
		defer m.Close()
		for range 200 {
			time.Sleep(100*time.Millisecond - 1)
			s, _ := m.Sample("sim:0")
			if s.Used != gib || s.Total != 16*gib || s.Available(time.Now()) <= 0 {
				t.Fatalf("%+v", s)
			}
		}
		if s, _ := m.Sample("sim:0"); s.Err != nil || time.Since(s.At) > 200*time.Millisecond {
			t.Errorf("in the end: %+v", s)
		}
	})
}

// A device is busy while a run of this process computes, alone or with others of
// it, and for the neighbours' share of the rest of the time.
func TestBusy(t *testing.T) {
	load := sim.Load{Points: []sim.LoadPoint{{At: 3 * time.Second, Share: 0.5}, {At: 5 * time.Second}}}
	for name, tt := range map[string]struct {
		config sim.Config
		batch  time.Duration       // a run of so long is begun at 0.2, 0.7, 1.2, ... 6.2 s
		want   map[float64]float64 // by seconds
	}{
		"idle":       {want: map[float64]float64{0: 0, 2: 0}},
		"neighbours": {config: sim.Config{Load: load}, want: map[float64]float64{2.9: 0, 3: 0.5, 4.9: 0.5, 5: 0}},
		"neighbours, in turn": {
			config: sim.Config{Load: sim.Load{Points: []sim.LoadPoint{{Share: 0.25}, {At: time.Second, Share: 0.75}}, Every: 2 * time.Second}},
			want:   map[float64]float64{0: 0.25, 1: 0.75, 2.5: 0.25, 3.5: 0.75},
		},
		"own":                {batch: 200 * time.Millisecond, want: map[float64]float64{0.2: 0, 0.4: 0.2, 0.6: 0.2, 0.9: 0.4, 1.1: 0.4, 1.2: 0.4, 5.3: 0.4}},
		"own and neighbours": {config: sim.Config{Load: load}, batch: 200 * time.Millisecond, want: map[float64]float64{2.9: 0.4, 3.1: 0.7, 4.9: 0.7, 5.1: 0.4}},
		"own all the time":   {config: sim.Config{Load: load}, batch: 500 * time.Millisecond, want: map[float64]float64{0.7: 0.5, 1.3: 1, 3.7: 1, 5.7: 1}},
		"late":               {config: sim.Config{Lag: 900 * time.Millisecond}, batch: 200 * time.Millisecond, want: map[float64]float64{1.1: 0, 1.3: 0.2, 1.6: 0.2, 1.8: 0.4, 3.4: 0.4}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := device(t, tt.config)
				s := session(t, d, sim.SessionConfig{})
				if tt.batch > 0 {
					for i := range 13 {
						time.AfterFunc(time.Duration(i)*500*time.Millisecond+200*time.Millisecond, func() {
							for range 2 { // at once they count once
								go func() {
									if err := s.Run(1, sim.RunOptions{During: func() { time.Sleep(tt.batch) }}); err != nil {
										t.Error(err)
									}
								}()
							}
						})
					}
				}
				began := time.Now()
				for _, at := range slices.Sorted(maps.Keys(tt.want)) {
					time.Sleep(time.Duration(at*float64(time.Second)) - time.Since(began))
					synctest.Wait()
					if got := read(t, d).Busy; math.Abs(got-tt.want[at]) > 1e-6 {
						t.Errorf("at %v s it is busy for %v, want %v", at, got, tt.want[at])
					}
				}
				time.Sleep(10 * time.Second) // until all runs have ended
			})
		})
	}
}

func TestSpeed(t *testing.T) {
	if d := device(t, sim.Config{}); d.Speed() != 1 {
		t.Errorf("without one: %v", d.Speed())
	}
	d := device(t, sim.Config{Total: 8 * gib, Speed: 0.25})
	if d.Speed() != 0.25 || d.Description() != "simulated device of 8 GiB, at 0.25 of the CPU's speed" {
		t.Errorf("%v, %s", d.Speed(), d.Description())
	}
}

func TestClock(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	d := device(t, sim.Config{Others: sim.Ramp(0, 0, 8*gib, gib), Clock: func() time.Time { return now }})
	for i := range int64(9) {
		if r := read(t, d); r.Used != i*gib {
			t.Errorf("after %d s: %+v", i, r)
		}
		now = now.Add(time.Second)
	}
}

func TestNamesAndDescriptions(t *testing.T) {
	d := device(t, sim.Config{Total: 3 * gib / 2})
	if d.Name() != "sim:0" || d.Description() != "simulated device of 1.5 GiB" {
		t.Errorf("%s: %s", d.Name(), d.Description())
	}
}

func TestConfigErrors(t *testing.T) {
	good := func(change func(*sim.Config)) error {
		c := sim.Config{Total: gib}
		change(&c)
		_, err := sim.New(c)
		return err
	}
	open := func(c sim.SessionConfig) error {
		_, err := device(t, sim.Config{}).Open(c)
		return err
	}
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"no total":         {good(func(c *sim.Config) { c.Total = 0 }), "the total is 0 bytes"},
		"reserves more":    {good(func(c *sim.Config) { c.Reserved = gib + 1 }), "reserved are"},
		"negative lag":     {good(func(c *sim.Config) { c.Lag = -1 }), "the lag is -1ns"},
		"trace order":      {good(func(c *sim.Config) { c.Others.Points = []sim.Point{{At: 2}, {At: 1}} }), "point 1 of a trace is at 1ns"},
		"trace negative":   {good(func(c *sim.Config) { c.Others = sim.Constant(-1) }), "point 0 of a trace has -1 bytes"},
		"trace too long":   {good(func(c *sim.Config) { c.Others = sim.Trace{Points: []sim.Point{{At: 9}}, Every: 9} }), "begins again after 9ns"},
		"trace every":      {good(func(c *sim.Config) { c.Others.Every = -1 }), "begins again after -1ns"},
		"negative speed":   {good(func(c *sim.Config) { c.Speed = -1 }), "the speed is -1"},
		"speed NaN":        {good(func(c *sim.Config) { c.Speed = math.NaN() }), "the speed is NaN"},
		"load order":       {good(func(c *sim.Config) { c.Load.Points = []sim.LoadPoint{{At: 2}, {At: 1}} }), "point 1 of a load is at 1ns"},
		"load negative":    {good(func(c *sim.Config) { c.Load = sim.SteadyLoad(-0.1) }), "point 0 of a load is -0.1"},
		"load too high":    {good(func(c *sim.Config) { c.Load = sim.SteadyLoad(1.1) }), "a share of the time, from 0 to 1"},
		"load too long":    {good(func(c *sim.Config) { c.Load = sim.Load{Points: []sim.LoadPoint{{At: 9}}, Every: 9} }), "begins again after 9ns"},
		"load every":       {good(func(c *sim.Config) { c.Load.Every = -1 }), "a load begins again after -1ns"},
		"fault order":      {good(func(c *sim.Config) { c.Faults = []sim.Fault{{From: 2, Until: 1}} }), "a fault lasts from 2ns until 1ns"},
		"fault kind":       {good(func(c *sim.Config) { c.Faults = []sim.Fault{{Kind: 7}} }), "fault kind 7"},
		"no item":          {open(sim.SessionConfig{}), "0 bytes for each item"},
		"negative fixed":   {open(sim.SessionConfig{PerItem: 1, Fixed: -1}), "-1 fixed bytes"},
		"arena's strategy": {open(sim.SessionConfig{PerItem: 1, Arena: sim.ArenaConfig{Strategy: 5}}), "strategy 5"},
		"arena's limit":    {open(sim.SessionConfig{PerItem: 1, Arena: sim.ArenaConfig{Limit: -5}}), "-5 bytes"},
		"no batch":         {session(t, device(t, sim.Config{}), sim.SessionConfig{}).Run(0, sim.RunOptions{}), "a batch of 0"},
		"endless batch":    {session(t, device(t, sim.Config{}), sim.SessionConfig{}).Run(math.MaxInt64, sim.RunOptions{}), "no size of a batch"},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.err == nil || !strings.Contains(tt.err.Error(), tt.want) {
				t.Errorf("%v, want %q in it", tt.err, tt.want)
			}
		})
	}
	for _, n := range []int64{0, -1, math.MaxInt64} {
		a, err := device(t, sim.Config{}).NewArena(sim.ArenaConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Alloc(n); err == nil || errors.Is(err, memory.ErrOutOfMemory) {
			t.Errorf("Alloc(%d): %v", n, err)
		}
	}
}

// Whatever is allocated, freed and shrunk, the figures add up and limits hold.
func TestArenaProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, err := sim.New(sim.Config{Total: 64 * mib, Others: sim.Constant(8 * mib)})
		if err != nil {
			t.Fatal(err)
		}
		c := sim.ArenaConfig{
			Strategy: rapid.SampledFrom([]sim.Strategy{sim.SameAsRequested, sim.NextPowerOfTwo}).Draw(t, "strategy"),
			Limit:    rapid.SampledFrom([]int64{0, 40 * mib, 16*mib + 1, 300 * kib}).Draw(t, "limit"),
		}
		a, err := d.NewArena(c)
		if err != nil {
			t.Fatal(err)
		}
		chunks := map[*sim.Chunk]int64{}
		var order []*sim.Chunk
		t.Repeat(map[string]func(*rapid.T){
			"alloc": func(t *rapid.T) {
				bytes := rapid.Int64Range(1, 12*mib).Draw(t, "bytes")
				x, err := a.Alloc(bytes)
				if err != nil {
					if !errors.Is(err, memory.ErrOutOfMemory) {
						t.Fatal(err)
					}
					return
				}
				chunks[x] = bytes
				order = append(order, x)
			},
			"free": func(t *rapid.T) {
				if len(order) == 0 {
					t.Skip("there is nothing to free: another action is drawn")
				}
				x := rapid.SampledFrom(order).Draw(t, "chunk")
				x.Free()
				delete(chunks, x)
			},
			"shrink": func(t *rapid.T) {
				before := a.Stats().Allocated
				if freed := a.Shrink(); freed != before-a.Stats().Allocated || freed < 0 {
					t.Fatalf("freed %d, from %d to %+v", freed, before, a.Stats())
				}
			},
			"": func(t *rapid.T) {
				var asked int64
				for _, b := range chunks {
					asked += b
				}
				s := a.Stats()
				r, err := d.Read(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				if s.InUse < asked || s.InUse > s.Allocated || s.MaxInUse < s.InUse || r.Own != s.Allocated ||
					c.Limit > 0 && s.Allocated > c.Limit || r.Used+r.Free != 64*mib || r.Free < 0 {
					t.Fatalf("asked for %d: %+v, %+v", asked, s, r)
				}
				if len(chunks) == 0 && s.InUse != 0 {
					t.Fatalf("nothing is handed out, but %+v", s)
				}
			},
		})
		a.Close()
		if r, _ := d.Read(context.Background()); r.Own != 0 || a.Stats().Allocated != 0 {
			t.Fatalf("after Close: %+v", r)
		}
	})
}

// Of the free chunks the smallest that is large enough is used, and it is cut
// only where enough is left to be of use: as much again, or 128 MiB.
func TestArenaPicksAndCutsChunks(t *testing.T) {
	for name, tt := range map[string]struct {
		free, then []int64 // MiB, allocated at once each; those of free are given back in between
		want       int64
	}{
		"the smallest that fits": {[]int64{10, 2}, []int64{2, 10}, 12},
		"a half is cut off":      {[]int64{100}, []int64{50, 50}, 100},
		"less than a half stays": {[]int64{100}, []int64{51, 49}, 149},
		"100 of 300 stay":        {[]int64{300}, []int64{200, 100}, 400},
		"150 of 400 are cut off": {[]int64{400}, []int64{250, 150}, 400},
		"freed parts join":       {[]int64{100, 30}, []int64{50, 25, 30}, 130},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := device(t, sim.Config{}).NewArena(sim.ArenaConfig{})
			if err != nil {
				t.Fatal(err)
			}
			alloc := func(sizes []int64) (all []*sim.Chunk) {
				for _, n := range sizes {
					c, err := a.Alloc(n * mib)
					if err != nil {
						t.Fatal(err)
					}
					all = append(all, c)
				}
				return all
			}
			free := func(all []*sim.Chunk) {
				for _, c := range all {
					c.Free()
					c.Free()
				}
			}
			for range 2 { // the second time must find what the first one left
				free(alloc(tt.free))
				free(alloc(tt.then))
				if got := a.Stats(); got.Allocated != tt.want*mib || got.InUse != 0 {
					t.Errorf("%+v, want %d MiB", got, tt.want)
				}
			}
		})
	}
}
