package memory_test

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/sim"
)

func TestParseWhenBusy(t *testing.T) {
	for _, text := range []string{"share", "yield", "pause"} {
		if w, err := memory.ParseWhenBusy(text); string(w) != text || err != nil {
			t.Errorf("%s: %q, %v", text, w, err)
		}
	}
	for _, text := range []string{"", "Share", "stop"} {
		if w, err := memory.ParseWhenBusy(text); w != "" || err == nil || !strings.HasSuffix(err.Error(), " is none of share, yield and pause") {
			t.Errorf("%q: %q, %v", text, w, err)
		}
	}
}

// seen is a time in which each reading, ten a second, is the same.
type seen struct {
	lasts     time.Duration
	busy, own float64
}

func TestCourtesyWaits(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	unknown := float64(memory.Unknown)
	for name, tt := range map[string]struct {
		when   memory.WhenBusy
		seen   []seen
		ran    time.Duration
		idle   time.Duration
		want   time.Duration
		paused bool
	}{
		"share never waits":              {when: memory.ShareWhenBusy, seen: []seen{{9 * s, 1, 0}}, ran: s},
		"nothing said is share":          {seen: []seen{{9 * s, 1, 0}}, ran: s},
		"yield, nothing read":            {when: memory.YieldWhenBusy, ran: s},
		"yield, unknown":                 {when: memory.YieldWhenBusy, seen: []seen{{9 * s, unknown, 0.5}}, ran: s},
		"yield, unknown by now":          {when: memory.YieldWhenBusy, seen: []seen{{9 * s, 1, 0}, {100 * ms, unknown, 0}}, ran: s},
		"yield, alone":                   {when: memory.YieldWhenBusy, seen: []seen{{9 * s, 0.5, 0.5}}, ran: 190 * ms, want: 10 * ms},
		"yield, alone all the time":      {when: memory.YieldWhenBusy, seen: []seen{{9 * s, 1, 1}}, ran: 190 * ms, want: 10 * ms},
		"yield, others":                  {when: memory.YieldWhenBusy, seen: []seen{{9 * s, 0.5, 0}}, ran: 200 * ms, want: 200 * ms},
		"yield, others in what is left":  {when: memory.YieldWhenBusy, seen: []seen{{9 * s, 0.9, 0.8}}, ran: 200 * ms, want: 200 * ms},
		"yield, some time has passed":    {when: memory.YieldWhenBusy, seen: []seen{{9 * s, 0.5, 0}}, ran: 200 * ms, idle: 150 * ms, want: 50 * ms},
		"yield, enough has":              {when: memory.YieldWhenBusy, seen: []seen{{9 * s, 0.5, 0}}, ran: 200 * ms, idle: s},
		"yield, nothing ran":             {when: memory.YieldWhenBusy, seen: []seen{{9 * s, 1, 0}}},
		"yield, others all the time":     {when: memory.YieldWhenBusy, seen: []seen{{9 * s, 1, 0.2}}, ran: 10 * ms, want: 90 * ms},
		"yield looks again":              {when: memory.YieldWhenBusy, seen: []seen{{9 * s, 0.5, 0}}, ran: 20 * s, want: 500 * ms},
		"yield, less than our own":       {when: memory.YieldWhenBusy, seen: []seen{{9 * s, 0.3, 0.7}}, ran: 190 * ms, want: 10 * ms},
		"yield, seen before we took all": {when: memory.YieldWhenBusy, seen: []seen{{9 * s, 0.5, 0}, {60 * s, 1, 1}}, ran: 200 * ms, want: 200 * ms},
		"yield forgets what has passed":  {when: memory.YieldWhenBusy, seen: []seen{{9 * s, 1, 0}, {9 * s, 0.5, 0.5}}, ran: 190 * ms, want: 10 * ms},
		"yield, a moment's work of others": {
			when: memory.YieldWhenBusy, seen: []seen{{9 * s, 0, 0}, {100 * ms, 1, 0}, {900 * ms, 0, 0}}, ran: 190 * ms, want: 10 * ms,
		},
		"pause, others use little":           {when: memory.PauseWhenBusy, seen: []seen{{9 * s, 0.15, 0}}, ran: 850 * ms, want: 150 * ms},
		"pause, others have just come":       {when: memory.PauseWhenBusy, seen: []seen{{9 * s, 0, 0}, {2 * s, 1, 0}}, ran: 10 * ms, want: 500 * ms},
		"pause, others are there":            {when: memory.PauseWhenBusy, seen: []seen{{9 * s, 0, 0}, {3 * s, 1, 0}}, want: 500 * ms, paused: true},
		"pause, others were there only once": {when: memory.PauseWhenBusy, seen: []seen{{9 * s, 0, 0}, {s, 1, 0}, {4 * s, 0, 0}}, ran: 190 * ms, want: 10 * ms},
		"pause, others have just gone":       {when: memory.PauseWhenBusy, seen: []seen{{9 * s, 1, 0}, {6 * s, 0, 0}}, want: 500 * ms, paused: true},
		"pause, others are gone":             {when: memory.PauseWhenBusy, seen: []seen{{9 * s, 1, 0}, {8 * s, 0, 0}}, ran: 190 * ms, want: 10 * ms},
		"pause, others use less":             {when: memory.PauseWhenBusy, seen: []seen{{9 * s, 1, 0}, {60 * s, 0.15, 0}}, want: 500 * ms, paused: true},
		"pause, unknown by now":              {when: memory.PauseWhenBusy, seen: []seen{{9 * s, 1, 0}, {100 * ms, unknown, 0}}, ran: s},
	} {
		t.Run(name, func(t *testing.T) {
			c := memory.BusyPolicy{When: tt.when}
			at := time.Unix(1000, 0)
			for _, x := range tt.seen {
				for range x.lasts / (100 * time.Millisecond) {
					at = at.Add(100 * time.Millisecond)
					c.Observe(at, x.busy, x.own)
				}
			}
			if got := c.Wait(tt.ran, tt.idle); (got-tt.want).Abs() > 2*time.Millisecond || c.Paused() != tt.paused {
				t.Errorf("it waits %s, and is paused: %v; others use %v", got, c.Paused(), c.Others())
			}
		})
	}
}

// neighbourhood is a simulated device on which we compute as courtesy lets us.
type neighbourhood struct {
	courtesy memory.BusyPolicy
	device   *sim.Device
	now      time.Time
	runs     [][2]time.Time
	window   time.Duration // over which our own share is counted
}

func newNeighbourhood(t rapid.TB, when memory.WhenBusy, load sim.Load) *neighbourhood {
	n := &neighbourhood{courtesy: memory.BusyPolicy{When: when}, now: time.Unix(1000, 0), window: time.Second}
	var err error
	n.device, err = sim.New(sim.Config{Total: 1 << 30, Load: load, Clock: func() time.Time { return n.now }})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// own is our share of a time that ends now.
func (n *neighbourhood) own(window time.Duration) float64 {
	var sum time.Duration
	for _, r := range slices.Backward(n.runs) {
		begin, end := n.now.Sub(r[0]), n.now.Sub(r[1]) // ago
		if end >= window {
			break
		}
		sum += min(begin, window) - max(end, 0)
	}
	return sum.Seconds() / window.Seconds()
}

// pass lets time pass, with a reading each 100 ms.
func (n *neighbourhood) pass(t rapid.TB, d time.Duration) {
	const tick = 100 * time.Millisecond
	for end := n.now.Add(d); n.now.Before(end); {
		next := n.now.Truncate(tick).Add(tick)
		if next.After(end) {
			n.now = end
			return
		}
		n.now = next
		r, err := n.device.Read(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		n.courtesy.Observe(n.now, r.Busy, n.own(n.window))
	}
}

// work computes in runs of so long for so long, and returns our share of the time.
func (n *neighbourhood) work(t rapid.TB, run, lasts time.Duration) float64 {
	began := n.now
	for end := n.now.Add(lasts); n.now.Before(end); {
		ended := n.now
		for {
			ran := run
			if len(n.runs) == 0 {
				ran = 0
			}
			wait := n.courtesy.Wait(ran, n.now.Sub(ended))
			if wait == 0 || !n.now.Before(end) {
				break
			}
			n.pass(t, wait)
		}
		done := n.device.Compute()
		n.runs = append(n.runs, [2]time.Time{n.now, n.now.Add(run)})
		n.pass(t, run)
		done()
	}
	return n.own(n.now.Sub(began))
}

// Whatever share others use, however long our runs are, and in whatever window our
// own share is counted, we come to leave others their share, and no more than that.
func TestYieldingConverges(t *testing.T) {
	// A run that is as long as the windows, which differ, is seen clearly over several.
	converges(t, 0.22, 848*time.Millisecond, 500*time.Millisecond)
	rapid.Check(t, func(t *rapid.T) {
		converges(t,
			rapid.Float64Range(0, 1).Draw(t, "others"),
			time.Duration(rapid.IntRange(10, 2000).Draw(t, "run in ms"))*time.Millisecond,
			time.Duration(rapid.IntRange(500, 1500).Draw(t, "window in ms"))*time.Millisecond)
	})
}

func converges(t rapid.TB, others float64, run, window time.Duration) {
	n := newNeighbourhood(t, memory.YieldWhenBusy, sim.SteadyLoad(others))
	n.window = window
	n.work(t, run, 30*time.Second)
	want, give := min(max(1-others, 0.1), 0.95), 0.05
	if run > 500*time.Millisecond { // no longer short beside what is smoothed over
		give = 0.15
	}
	if got := n.work(t, run, 60*time.Second); math.Abs(got-want) > give {
		t.Fatalf("of what others leave, %.3f, we take %.3f", want, got)
	}
}

// A neighbour who comes and goes stops a run that pauses, in seconds, for as long as
// it is there; one who uses little never does.
func TestPausingStopsAndGoesOn(t *testing.T) {
	const s = time.Second
	for name, tt := range map[string]struct {
		others  float64
		run     time.Duration
		there   [2]float64 // our share of the time while they are there, least and most
		without float64    // least share before and after
	}{
		"who uses all":             {1, 50 * time.Millisecond, [2]float64{0, 0.01}, 0.93},
		"who uses a third":         {0.35, 50 * time.Millisecond, [2]float64{0, 0.01}, 0.93},
		"who uses little":          {0.12, 50 * time.Millisecond, [2]float64{0.8, 0.9}, 0.93},
		"with long runs":           {0.6, 4 * s, [2]float64{0, 0.1}, 0.85},
		"long runs and little use": {0.1, 4 * s, [2]float64{0.7, 0.95}, 0.85},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNeighbourhood(t, memory.PauseWhenBusy, sim.Load{Points: []sim.LoadPoint{{At: 60 * s, Share: tt.others}, {At: 120 * s}}})
			share := func(what string, until time.Duration, least, most float64) {
				t.Helper()
				n.work(t, tt.run, 12*s) // it takes a while to notice
				if got := n.work(t, tt.run, time.Unix(1000, 0).Add(until).Sub(n.now)); got < least || got > most {
					t.Errorf("%s: our share is %.3f, want %.2f to %.2f", what, got, least, most)
				}
			}
			share("before", 60*s, tt.without, 0.96)
			share("while they are there", 120*s, tt.there[0], tt.there[1])
			share("after", 180*s, tt.without, 0.96)
		})
	}
}
