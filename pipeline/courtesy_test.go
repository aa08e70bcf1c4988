package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/sim"
	"github.com/forgepipe/forgepipe/pipeline"
)

// computing is a stage that computes on a simulated device as its neighbours there
// let it.
type computing struct {
	card     *sim.Device
	takes    time.Duration // for one item
	env      pipeline.Env
	courtesy memory.Courtesy

	mu     sync.Mutex
	runs   []time.Time // when each began
	pauses []time.Time // when it was told to stand still
}

const short = 50 * time.Millisecond // of runs

func (*computing) Serial() {}

func (*computing) Batch() pipeline.BatchSpec { return pipeline.BatchSpec{Size: 1} }

func (*computing) Place(_ pipeline.Device, have []pipeline.Device) ([]pipeline.Device, error) {
	return have[:1], nil
}

var _ pipeline.Placer = (*computing)(nil)

func (c *computing) Open(_ context.Context, d pipeline.Device) error {
	c.courtesy = c.env.Courtesy(d)
	return nil
}

func (c *computing) Process(ctx context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) {
	if err := c.courtesy.Wait(ctx, func() { c.pauses = append(c.pauses, time.Now()) }); err != nil {
		return nil, err
	}
	began := time.Now()
	c.mu.Lock()
	c.runs = append(c.runs, began)
	c.mu.Unlock()
	end, done := c.courtesy.Begin(), c.card.Compute()
	time.Sleep(c.takes)
	done()
	end()
	time.Sleep(5 * time.Millisecond) // with what it does on the host
	return b, nil
}

// between counts the runs that began in a time since the first.
func (c *computing) between(from, to time.Duration) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, at := range c.runs {
		if after := at.Sub(c.runs[0]); after >= from && after < to {
			n++
		}
	}
	return n
}

// neighbourly starts a run beside neighbours who compute as the configuration says.
func neighbourly(ctx context.Context, t *testing.T, when memory.WhenBusy, items int, config sim.Config, takes time.Duration) (*pipeline.Run, *computing, *told) {
	t.Helper()
	return besides(ctx, t, when, items, func(d *sim.Device) memory.Device { return d }, config, takes)
}

// besides is neighbourly with the device as the run sees it.
func besides(ctx context.Context, t *testing.T, when memory.WhenBusy, items int, see func(*sim.Device) memory.Device, config sim.Config, takes time.Duration) (*pipeline.Run, *computing, *told) {
	t.Helper()
	config.Total = 1 << 30
	c := &computing{takes: takes}
	var err error
	if c.card, err = sim.New(config); err != nil {
		t.Fatal(err)
	}
	registry := pipeline.NewRegistry(pipeline.Info{
		Name: "compute", Short: "Computes.", Version: 1,
		New: func(_ context.Context, _ pipeline.Config, env pipeline.Env) (pipeline.Stage, error) {
			c.env = env
			return c, nil
		},
	})
	p := pipeline.New("neighbourly", pipeline.Options{Devices: []memory.Device{see(c.card)}})
	p.WhenBusy = when
	p.SetSource(inputs(items))
	if err := p.Use(ctx, registry, "compute", "compute", nil); err != nil {
		t.Fatal(err)
	}
	news := &told{began: time.Now()}
	run, err := p.Start(ctx, pipeline.RunOptions{NoStore: true, OnEvent: news.on})
	if err != nil {
		t.Fatal(err)
	}
	return run, c, news
}

// told is what a run tells of neighbours, and when.
type told struct {
	began time.Time
	mu    sync.Mutex
	texts []string
	at    []time.Duration
}

func (n *told) on(e pipeline.Event) {
	if e.Kind != pipeline.EventYielded {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.texts, n.at = append(n.texts, e.Stage+": "+e.Message), append(n.at, e.Time.Sub(n.began))
}

// want checks what was told and when, within a second.
func (n *told) want(t *testing.T, at []time.Duration, texts ...string) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.texts) != len(texts) {
		t.Fatalf("told %q at %v", n.texts, n.at)
	}
	for i, text := range texts {
		before, after, _ := strings.Cut(text, "*")
		if !strings.HasPrefix(n.texts[i], before) || !strings.HasSuffix(n.texts[i], after) || (n.at[i]-at[i]).Abs() > time.Second {
			t.Errorf("told %q at %v; want %q at %v", n.texts[i], n.at[i], text, at[i])
		}
	}
}

func ended(t *testing.T, run *pipeline.Run, state string) {
	t.Helper()
	s, err := run.Wait()
	if err != nil && !errors.Is(err, context.Canceled) || s.State != state {
		t.Errorf("%s, %v", s.State, err)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

func TestYieldsToNeighbours(t *testing.T) {
	const s = time.Second
	synctest.Test(t, func(t *testing.T) {
		load := sim.Load{Points: []sim.LoadPoint{{At: 20 * s, Share: 0.6}, {At: 60 * s}}}
		run, c, news := neighbourly(t.Context(), t, memory.YieldWhenBusy, 1500, sim.Config{Load: load}, short)
		ended(t, run, "done")
		// A run and what is done on the host take 55 ms; beside a neighbour, 125 ms.
		for _, tt := range []struct{ from, to, least, most int }{{0, 20, 355, 365}, {25, 60, 265, 300}, {65, 75, 175, 185}} {
			if n := c.between(time.Duration(tt.from)*s, time.Duration(tt.to)*s); n < tt.least || n > tt.most {
				t.Errorf("%d runs from %d to %d s, want %d to %d", n, tt.from, tt.to, tt.least, tt.most)
			}
		}
		news.want(t, []time.Duration{21 * s}, "compute: sim:0: others use *% of it: the run leaves it to them for so long")
	})
}

func TestWaitsUntilNeighboursAreThrough(t *testing.T) {
	const s = time.Second
	synctest.Test(t, func(t *testing.T) {
		load := sim.Load{Points: []sim.LoadPoint{{At: 20 * s, Share: 0.6}, {At: 60 * s}}}
		run, c, news := neighbourly(t.Context(), t, memory.PauseWhenBusy, 1000, sim.Config{Load: load}, short)
		ended(t, run, "done")
		if n := c.between(23*s, 65*s); n != 0 {
			t.Errorf("%d runs while others are there", n)
		}
		if n := c.between(68*s, 78*s); n < 175 {
			t.Errorf("%d runs when others have gone", n)
		}
		if len(c.pauses) != 1 || (c.pauses[0].Sub(news.began)-news.at[0]).Abs() > 0 {
			t.Errorf("the stage was told to stand still at %v, and the news came at %v", c.pauses, news.at)
		}
		news.want(t, []time.Duration{22500 * time.Millisecond, 67 * s},
			"compute: sim:0: others use *% of it: the run waits until they are through",
			"compute: sim:0: others use 0% of it: the run goes on, after 45s")
	})
}

// Also long runs are fitted in: what was read while they ran counts.
func TestYieldsWithLongRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run, c, _ := neighbourly(t.Context(), t, memory.YieldWhenBusy, 60, sim.Config{Load: sim.SteadyLoad(0.6)}, 700*time.Millisecond)
		ended(t, run, "done")
		if n := c.between(20*time.Second, 90*time.Second); n < 37 || n > 43 { // 40 for 40% of the time
			t.Errorf("%d runs of 0.7 s in 70 s", n)
		}
	})
}

// Sessions that compute on one device at once, of one stage or of several, leave it to
// others together: what counts is the time in which any of them computes.
func TestSessionsHoldBackTogether(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	load := sim.Load{Points: []sim.LoadPoint{{At: 20 * s, Share: 0.6}, {At: 60 * s}}}
	for name, stages := range map[string][][]time.Duration{
		"one session":                     {{80 * ms}},
		"two sessions":                    {{80 * ms, 80 * ms}},
		"two sessions out of step":        {{70 * ms, 90 * ms}},
		"two stages":                      {{80 * ms}, {80 * ms}},
		"a stage with short runs":         {{15 * ms}, {190 * ms}},
		"two stages with two sessions":    {{30 * ms, 30 * ms}, {100 * ms, 100 * ms}},
		"a session with much longer runs": {{20 * ms, 900 * ms}},
	} {
		for when, beside := range map[memory.WhenBusy]struct{ least, most float64 }{
			memory.YieldWhenBusy: {0.35, 0.46},
			memory.PauseWhenBusy: {0, 0},
		} {
			t.Run(name+", "+string(when), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					all, each := together(t, when, load, 90*s, stages)
					// Who makes long runs notices others later.
					for _, tt := range []struct {
						from, to    time.Duration
						least, most float64
					}{{5 * s, 20 * s, 0.9, 0.96}, {32 * s, 60 * s, beside.least, beside.most}, {70 * s, 90 * s, 0.9, 0.96}} {
						share := all.share(tt.from, tt.to)
						if share < tt.least || share > tt.most {
							t.Errorf("they compute %.0f%% of the time from %s to %s, want %.0f to %.0f%%", 100*share, tt.from, tt.to, 100*tt.least, 100*tt.most)
						}
						for i, one := range each {
							if one := one.share(tt.from, tt.to); one < share/2 {
								t.Errorf("session %d computes %.0f%% of the time from %s to %s, and all %.0f%%", i, 100*one, tt.from, tt.to, 100*share)
							}
						}
					}
				})
			})
		}
	}
}

// together has sessions compute for so long: for each stage of a run those with runs
// that take as long as it says. It returns when any of them computed, and when each.
func together(t *testing.T, when memory.WhenBusy, load sim.Load, lasts time.Duration, stages [][]time.Duration) (all *computed, each []*computed) {
	t.Helper()
	card, err := sim.New(sim.Config{Total: 1 << 30, Load: load})
	if err != nil {
		t.Fatal(err)
	}
	p := pipeline.New("together", pipeline.Options{Devices: []memory.Device{card}})
	p.WhenBusy = when
	p.SetSource(inputs(1))
	held, seats := make(chan struct{}), []*seated{}
	registry := pipeline.NewRegistry(pipeline.Info{
		Name: "seated", Short: "Computes.", Version: 1,
		New: func(_ context.Context, _ pipeline.Config, env pipeline.Env) (pipeline.Stage, error) {
			seats = append(seats, &seated{env: env, held: held})
			return seats[len(seats)-1], nil
		},
	})
	for i := range stages {
		if err := p.Use(t.Context(), registry, "seated", fmt.Sprint("seated", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	run, err := p.Start(t.Context(), pipeline.RunOptions{NoStore: true})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	all = &computed{began: began}
	var sessions sync.WaitGroup
	for i, takes := range stages {
		for _, takes := range takes {
			courtesy, own := seats[i].env.Courtesy("sim:0"), &computed{began: began}
			each = append(each, own)
			sessions.Go(func() {
				for time.Since(began) < lasts {
					if err := courtesy.Wait(t.Context(), nil); err != nil {
						t.Error(err)
					}
					end, done := courtesy.Begin(), card.Compute()
					all.change(1)
					own.change(1)
					time.Sleep(takes)
					own.change(-1)
					all.change(-1)
					done()
					end()
				}
			})
		}
	}
	sessions.Wait()
	close(held)
	ended(t, run, "done")
	return all, each
}

// seated is a stage on a device, on which others compute for it.
type seated struct {
	env  pipeline.Env
	held chan struct{} // closed when they are through
}

func (*seated) Place(_ pipeline.Device, have []pipeline.Device) ([]pipeline.Device, error) {
	return have[:1], nil
}

func (s *seated) Process(_ context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) {
	<-s.held
	return b, nil
}

// computed is when something computed.
type computed struct {
	began time.Time

	mu    sync.Mutex
	now   int // that compute
	since time.Duration
	spans [][2]time.Duration
}

// change says that one more computes, or one less.
func (c *computed) change(by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == 0 {
		c.since = time.Since(c.began)
	}
	if c.now += by; c.now == 0 {
		c.spans = append(c.spans, [2]time.Duration{c.since, time.Since(c.began)})
	}
}

// share is the part of a time in which at least one computed.
func (c *computed) share(from, to time.Duration) float64 {
	var sum time.Duration
	for _, s := range c.spans {
		sum += max(min(s[1], to)-max(s[0], from), 0)
	}
	return float64(sum) / float64(to-from)
}

// A run that waits for others ends when it is asked to, in either way.
func TestWaitingForNeighboursEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		end   func(run *pipeline.Run, cancel func())
		runs  int // of the calls that were waiting
		state string
	}{
		"drained":   {func(run *pipeline.Run, _ func()) { run.Drain() }, 1, "interrupted"},
		"cancelled": {func(_ *pipeline.Run, cancel func()) { cancel() }, 0, "interrupted"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				run, c, news := neighbourly(ctx, t, memory.PauseWhenBusy, 100, sim.Config{Load: sim.SteadyLoad(1)}, short)
				time.Sleep(time.Minute + 123*time.Millisecond) // in the midst of a wait
				before := len(c.runs)
				asked := time.Now()
				tt.end(run, cancel)
				ended(t, run, tt.state)
				if took := time.Since(asked); took > 2*short {
					t.Errorf("it takes %s to end", took)
				}
				if n := len(c.runs) - before; n != tt.runs {
					t.Errorf("%d runs after that, want %d", n, tt.runs)
				}
				news.want(t, []time.Duration{2500 * time.Millisecond, time.Minute},
					"compute: sim:0: others use 100% of it: the run waits until they are through",
					"compute: sim:0: the run ends, and no longer waits for others")
			})
		})
	}
}

// Nobody is waited for where it is not known how busy the device is: not from the
// beginning on, and no longer when readings fail.
func TestNobodyIsWaitedForBlindly(t *testing.T) {
	const s = time.Second
	for name, tt := range map[string]struct {
		blind bool          // the device never tells
		ends  time.Duration // of 100 runs
		at    []time.Duration
		news  []string
	}{
		"never told": {true, 6 * s, nil, nil},
		"no longer told": {false, 39 * s, []time.Duration{2500 * time.Millisecond, 33 * s}, []string{
			"compute: sim:0: others use 100% of it: the run waits until they are through",
			"compute: sim:0: how busy it is, is not known: the run goes on, after 31s",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				see := func(d *sim.Device) memory.Device { return d }
				if tt.blind {
					see = func(d *sim.Device) memory.Device { return blind{d} }
				}
				run, _, news := besides(t.Context(), t, memory.PauseWhenBusy, 100, see, sim.Config{Load: sim.SteadyLoad(1), Faults: []sim.Fault{{From: 30 * s}}}, short)
				ended(t, run, "done")
				if took := time.Since(news.began); (took - tt.ends).Abs() > s {
					t.Errorf("it takes %s, want %s", took, tt.ends)
				}
				news.want(t, tt.at, tt.news...)
			})
		})
	}
}

// blind is a device that does not tell how busy it is.
type blind struct{ *sim.Device }

func (b blind) Read(ctx context.Context) (memory.Reading, error) {
	r, err := b.Device.Read(ctx)
	r.Busy = memory.Unknown
	return r, err
}

func TestWhenBusyOfAFile(t *testing.T) {
	const yaml = "memory: {gpu: {headroom: 1GiB, when_busy: %s}}\nsource: {none: {}}\nstages:\n  - none: {}\n"
	r := pipeline.NewRegistry(
		pipeline.Info{Name: "none", Short: "A stage.", New: newNothing},
		pipeline.Info{Name: "none", Short: "A source.", NewSource: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Source, error) { return noItems{}, nil }},
	)
	for text, want := range map[string]memory.WhenBusy{"share": memory.ShareWhenBusy, "yield": memory.YieldWhenBusy, "pause": memory.PauseWhenBusy} {
		p, err := pipeline.Load(t.Context(), "p.yaml", fmt.Appendf(nil, yaml, text), pipeline.Options{Registry: r})
		if err != nil || p.WhenBusy != want || p.GPUHeadroom != 1<<30 {
			t.Errorf("%s: %+v, %v", text, p, err)
		}
	}
}

func TestSharingWaitsForNobody(t *testing.T) {
	for _, when := range []memory.WhenBusy{"", memory.ShareWhenBusy} {
		synctest.Test(t, func(t *testing.T) {
			run, c, news := neighbourly(t.Context(), t, when, 100, sim.Config{Load: sim.SteadyLoad(1)}, short)
			ended(t, run, "done")
			if n := c.between(0, 6*time.Second); n != 100 {
				t.Errorf("%d runs in 6 s", n)
			}
			news.want(t, nil)
			host := c.env.Courtesy(pipeline.Host)
			if err := host.Wait(t.Context(), func() { t.Error("it stands still on the host") }); err != nil {
				t.Error(err)
			}
			host.Begin()()
		})
	}
}
