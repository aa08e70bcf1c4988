package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// slow is a stage of calls that take a while.
func slow(d time.Duration) pipeline.Stage {
	return batchStage(func(ctx context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) {
		select {
		case <-time.After(d):
			return b, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
}

// slowly is a source that takes a while for each input.
func slowly(n int, d time.Duration) emitting {
	return func(ctx context.Context, emit func(pipeline.Input) error) error {
		for i := range n {
			time.Sleep(d)
			if err := emit(input(i)); err != nil {
				return err
			}
		}
		return nil
	}
}

// lingering waits for its batch to fill.
type lingering struct{ pipeline.Stage }

func (lingering) Batch() pipeline.BatchSpec {
	return pipeline.BatchSpec{Size: 7, Linger: 50 * time.Millisecond}
}

// reluctant wants to see each item later.
func reluctant() pipeline.Stage {
	var seen sync.Map
	return batchStage(func(_ context.Context, b []*pipeline.Item) (out []*pipeline.Item, _ error) {
		time.Sleep(5 * time.Millisecond)
		for _, it := range b {
			if _, again := seen.LoadOrStore(it.ID(), true); again {
				out = append(out, it)
			} else {
				it.Later(errors.New("not now"))
			}
		}
		return out, nil
	})
}

// slowHolder is a barrier that takes its time to emit.
type slowHolder struct{ holder }

func (h *slowHolder) Flush(ctx context.Context, held pipeline.HeldItems, emit func(*pipeline.Item) error) error {
	return h.holder.Flush(ctx, held, func(it *pipeline.Item) error {
		time.Sleep(5 * time.Millisecond)
		return emit(it)
	})
}

// pausedChains are runs in which something can begin everywhere.
func pausedChains() map[string]func(t *testing.T) *pipeline.Pipeline {
	const ms = time.Millisecond
	plain := func(src pipeline.Source, stages ...pipeline.Stage) func(t *testing.T) *pipeline.Pipeline {
		return func(t *testing.T) *pipeline.Pipeline { return chain(t, src, stages...) }
	}
	return map[string]func(t *testing.T) *pipeline.Pipeline{
		"plain":                 plain(inputs(300), slow(7*ms), slow(3*ms), slow(11*ms)),
		"a source that is slow": plain(slowly(100, 5*ms), slow(3*ms)),
		"batches that linger":   plain(slowly(100, 5*ms), lingering{slow(3 * ms)}),
		"a barrier":             plain(inputs(60), slow(3*ms), &slowHolder{}, slow(2*ms)),
		"items that come again": plain(inputs(60), reluctant(), slow(3*ms)),
		"calls that wait for room": func(t *testing.T) *pipeline.Pipeline {
			p := pipeline.New("room", pipeline.Options{})
			p.HostLimit = pipeline.Amount{Bytes: tight}
			p.SetSource(inputs(60))
			add(t, p, pipeline.Step{ID: "a", Stage: costly{slow(7 * ms), pipeline.Cost{Work: 20 << 20}}, Workers: 4, Batch: 1})
			return p
		},
		"phases": func(t *testing.T) *pipeline.Pipeline {
			p := pipeline.New("phases", pipeline.Options{})
			p.HostLimit = pipeline.Amount{Bytes: 200 << 20}
			p.SetSource(inputs(100))
			add(t, p, pipeline.Step{ID: "a", Stage: resident{slow(7 * ms), 100 << 20}, Workers: 2, Batch: 4})
			add(t, p, pipeline.Step{ID: "b", Stage: resident{slow(7 * ms), 100 << 20}, Workers: 2, Batch: 4})
			return p
		},
	}
}

// progressed is what a run has begun and ended.
func progressed(s *pipeline.Summary) (n []int64) {
	n = []int64{s.In, s.Out, s.RejectedTotal(), s.Quarantined}
	for _, st := range s.Stages {
		n = append(n, st.In, st.Calls, int64(st.Active))
	}
	return n
}

func active(s *pipeline.Summary) (n int) {
	for _, st := range s.Stages {
		n += st.Active
	}
	return n
}

// Whenever a run is paused, what is inside a stage ends, and then nothing moves for
// however long. When it goes on, it ends as if nothing had been.
func TestPausedNothingBegins(t *testing.T) {
	for name, build := range pausedChains() {
		t.Run(name, func(t *testing.T) {
			var want *pipeline.Summary
			synctest.Test(t, func(t *testing.T) {
				var err error
				if want, err = build(t).Run(t.Context(), pipeline.RunOptions{NoStore: true}); err != nil {
					t.Fatal(err)
				}
			})
			synctest.Test(t, func(t *testing.T) {
				var paused, resumed atomic.Int32
				run, err := build(t).Start(t.Context(), pipeline.RunOptions{NoStore: true, Check: true, OnEvent: func(e pipeline.Event) {
					switch e.Kind {
					case pipeline.EventPaused:
						paused.Add(1)
					case pipeline.EventResumed:
						resumed.Add(1)
					case pipeline.EventRefused, pipeline.EventParked:
						t.Errorf("a pause is taken for a stall: %s %s", e.Kind, e.Message)
					}
				}})
				if err != nil {
					t.Fatal(err)
				}
				times := int32(0)
				for running := true; running; {
					select {
					case <-run.Done():
						running = false
						continue
					case <-time.After(13 * time.Millisecond):
					}
					run.Pause()
					run.Pause()
					times++
					synctest.Wait()
					select {
					case <-run.Done(): // there was nothing left to begin
						continue
					default:
					}
					if s := run.Progress(); s.State != "paused" {
						t.Fatalf("the state is %q", s.State)
					}
					time.Sleep(20 * time.Millisecond)
					before := run.Progress()
					if active(before) > 0 {
						t.Fatalf("%d calls do not end", active(before))
					}
					time.Sleep(8 * time.Second) // longer than a stall may last
					if now := progressed(run.Progress()); !slices.Equal(now, progressed(before)) {
						t.Fatalf("from %v it came to %v", progressed(before), now)
					}
					run.Resume()
					run.Resume()
					if s := run.Progress(); s.State != "running" {
						t.Fatalf("it goes on, and its state is %q", s.State)
					}
				}
				got, err := run.Wait()
				if err != nil || got.State != "done" {
					t.Fatalf("%s, %v", got.State, err)
				}
				if err := got.Check(); err != nil {
					t.Error(err)
				}
				if got.In != want.In || got.Out != want.Out || got.Consumed != want.Consumed || got.RejectedTotal() != want.RejectedTotal() || got.Quarantined != want.Quarantined {
					t.Errorf("paused %d times: %+v, want %+v", times, got, want)
				}
				run.Pause()
				if n := paused.Load(); times < 3 || n != times || resumed.Load() < n-1 {
					t.Errorf("paused %d times, told of %d and of %d ends", times, n, resumed.Load())
				}
			})
		})
	}
}

// A paused run is drained and cancelled as one that is not.
func TestPausedRunEnds(t *testing.T) {
	for name, build := range pausedChains() {
		for how, end := range map[string]func(run *pipeline.Run, cancel func()){
			"drained":   func(run *pipeline.Run, _ func()) { run.Drain() },
			"cancelled": func(_ *pipeline.Run, cancel func()) { cancel() },
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				for _, at := range []time.Duration{0, 20 * time.Millisecond, 90 * time.Millisecond, 400 * time.Millisecond} {
					synctest.Test(t, func(t *testing.T) {
						ctx, cancel := context.WithCancel(t.Context())
						defer cancel()
						run, err := build(t).Start(ctx, pipeline.RunOptions{NoStore: true, Check: true})
						if err != nil {
							t.Fatal(err)
						}
						time.Sleep(at)
						run.Pause()
						time.Sleep(20 * time.Second)
						select {
						case <-run.Done():
							return // it was through
						default:
						}
						asked := time.Now()
						end(run, cancel)
						s, err := run.Wait()
						if s.State != "interrupted" || err != nil && !errors.Is(err, context.Canceled) {
							t.Errorf("after %s: %s, %v", at, s.State, err)
						}
						if cerr := s.Check(); cerr != nil {
							t.Error(cerr)
						}
						if took := time.Since(asked); took > 4*time.Second {
							t.Errorf("after %s: it takes %s to end", at, took)
						}
						run.Resume()
					})
				}
			})
		}
	}
}

// A stage that fails while the run is paused ends it.
func TestPausedRunFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		run, err := chain(t, inputs(100), slow(time.Millisecond), batchStage(func(context.Context, []*pipeline.Item) ([]*pipeline.Item, error) {
			time.Sleep(time.Minute)
			return nil, broken
		})).Start(t.Context(), pipeline.RunOptions{NoStore: true})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		run.Pause()
		if s, err := run.Wait(); !errors.Is(err, broken) || s.State != "failed" {
			t.Errorf("%s, %v", s.State, err)
		}
	})
}

// The governor of workers does not take a pause for a bottleneck, whether it comes
// before, in the midst of or after a trial of one worker more.
func TestPauseLeavesWorkersAlone(t *testing.T) {
	for _, at := range []time.Duration{time.Second, 2500 * time.Millisecond, 4 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			p := pipeline.New("workers", pipeline.Options{})
			p.SetSource(inputs(100_000))
			add(t, p, pipeline.Step{ID: "a", Stage: slow(time.Millisecond), Batch: 1})
			add(t, p, pipeline.Step{ID: "b", Stage: slow(10 * time.Millisecond), Batch: 1})
			run, err := p.Start(t.Context(), pipeline.RunOptions{NoStore: true})
			if err != nil {
				t.Fatal(err)
			}
			workers := func() int { return run.Progress().Stages[1].Workers }
			time.Sleep(at)
			run.Pause()
			before := workers()
			for range 60 {
				time.Sleep(time.Second)
				if now := workers(); now != before {
					t.Fatalf("paused after %s, %d workers become %d", at, before, now)
				}
			}
			run.Resume()
			for range 50 { // each more is of use here
				time.Sleep(100 * time.Millisecond)
				if now := workers(); now < before {
					t.Fatalf("paused after %s, %d workers become %d when it goes on", at, before, now)
				}
			}
			run.Drain()
			if _, err := run.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// opening is a stage that tells when it is opened.
type opening struct {
	pipeline.Stage
	open func()
}

func (o opening) Open(context.Context, pipeline.Device) error {
	o.open()
	return nil
}

// No phase begins while the run is paused, and when it is paused while one begins,
// nothing of the phase before comes into it.
func TestPausedBetweenPhases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var started atomic.Pointer[pipeline.Run]
		var opened atomic.Bool
		p := pipeline.New("phases", pipeline.Options{})
		p.HostLimit = pipeline.Amount{Bytes: 200 << 20}
		p.SetSource(inputs(4))
		add(t, p, pipeline.Step{ID: "a", Stage: resident{slow(time.Second), 100 << 20}, Workers: 1, Batch: 4})
		add(t, p, pipeline.Step{ID: "b", Workers: 1, Batch: 4, Stage: struct {
			opening
			pipeline.Coster
		}{opening{slow(time.Second), func() {
			opened.Store(true)
			started.Load().Pause()
		}}, resident{bytes: 100 << 20}}})
		run, err := p.Start(t.Context(), pipeline.RunOptions{NoStore: true})
		if err != nil {
			t.Fatal(err)
		}
		started.Store(run)
		time.Sleep(500 * time.Millisecond)
		run.Pause() // the first phase ends meanwhile
		time.Sleep(time.Minute)
		if opened.Load() {
			t.Error("a phase has begun")
		}
		run.Resume()
		time.Sleep(time.Minute)
		if s := run.Progress(); !opened.Load() || s.State != "paused" || s.Stages[1].Queued != 0 || s.Stages[1].In != 0 || s.Phase != 2 || s.Stages[1].Phase != 2 {
			t.Errorf("opened: %v, and then %+v", opened.Load(), s)
		}
		run.Resume()
		if s, err := run.Wait(); err != nil || s.Out != 4 {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

// takesTime is a barrier whose batches take a while.
type takesTime struct{ barred }

func (b *takesTime) Process(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	time.Sleep(time.Second)
	return b.barred.Process(ctx, batch)
}

func TestPausedBeforeAFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &takesTime{}
		run, err := chain(t, inputs(4), b).Start(t.Context(), pipeline.RunOptions{NoStore: true})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
		run.Pause()
		time.Sleep(time.Minute)
		if b.flushed.Load() {
			t.Error("a flush has begun")
		}
		run.Resume()
		if s, err := run.Wait(); err != nil || s.Out != 2 || !b.flushed.Load() {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

// What is to come again when all others are through does not come in a pause.
func TestPausedBeforeItemsComeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run, err := chain(t, inputs(4), reluctant()).Start(t.Context(), pipeline.RunOptions{NoStore: true})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // they come again after 3 s
		run.Pause()
		calls := run.Progress().Stages[0].Calls
		time.Sleep(time.Minute)
		if n := run.Progress().Stages[0].Calls; n != calls {
			t.Errorf("%d calls become %d", calls, n)
		}
		run.Resume()
		if s, err := run.Wait(); err != nil || s.Out != 4 || s.Stages[0].Calls != calls+4 {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

// An input that waits for room in memory is not taken for a stall: nothing is parked
// for it or refused as long as the run is paused.
func TestPausedWithoutRoom(t *testing.T) {
	dir := t.TempDir()
	const n = 12
	picture := gray(t, 1024, 1024, 9) // of 4 MiB, of which there is room for six
	for i := range n {
		put(t, filepath.Join(dir, fmt.Sprintf("%02d.png", i)), picture)
	}
	looking := func(name string, d time.Duration) pipeline.Info {
		look := pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
			_, err := it.Frame(ctx)
			time.Sleep(d)
			return err
		})
		return pipeline.Info{Name: name, Short: "Looks.", New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) { return look, nil }}
	}
	registry := standard.Registry().With(looking("glance", time.Millisecond), looking("stare", time.Second))
	yaml := fmt.Sprintf("memory: {host: {limit: 100MiB}}\nsource: {images: {path: %s}}\nstages:\n"+ // each queue takes two
		strings.Repeat("  - glance: {}\n    batch: 1\n    workers: 1\n", 4)+"  - stare: {}\n    batch: 1\n    workers: 1\n", dir)
	// A host on which nothing but the pictures counts.
	host := memory.Host{Root: t.TempDir()}
	put(t, filepath.Join(host.Root, "proc/meminfo"), []byte("MemTotal: 8388608 kB\nMemAvailable: 8388608 kB\n"))
	put(t, filepath.Join(host.Root, "proc/self/statm"), []byte("1000 250 100 1 0 50 0\n"))
	synctest.Test(t, func(t *testing.T) {
		p, err := pipeline.Load(t.Context(), "p.yaml", []byte(yaml), pipeline.Options{Registry: registry})
		if err != nil {
			t.Fatal(err)
		}
		m := memory.NewManager(memory.Options{Host: host})
		defer m.Close()
		run, err := p.Start(t.Context(), pipeline.RunOptions{NoStore: true, Host: host, Memory: m, OnEvent: func(e pipeline.Event) {
			if e.Kind == pipeline.EventRefused || e.Kind == pipeline.EventParked {
				t.Errorf("%s: %s", e.Kind, e.Message)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
		run.Pause()
		time.Sleep(time.Minute)
		if waiting := m.State()[0].Usage.Waiting; waiting == 0 {
			t.Error("nothing waits for room: the test is blind")
		}
		run.Resume()
		if s, err := run.Wait(); err != nil || s.Out != n {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

// A run may be paused while it stands still to look for leaks, and looks for none
// while it is paused.
func TestPausedInTheMidstOfALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var started atomic.Pointer[pipeline.Run]
		var looks atomic.Int32
		m := memory.NewManager(memory.Options{})
		m.Register(memory.Reclaimer{Name: "pause", Reclaim: func(context.Context) (int64, error) {
			if looks.Add(1) == 2 {
				started.Load().Pause()
			}
			return 0, nil
		}})
		run, err := chain(t, inputs(40_000), slow(10*time.Millisecond)).Start(t.Context(), pipeline.RunOptions{NoStore: true, Memory: m})
		if err != nil {
			t.Fatal(err)
		}
		started.Store(run)
		time.Sleep(30 * time.Second) // looks come after 5, 15, 35 s
		before := run.Progress()
		if before.State != "paused" || looks.Load() != 2 || active(before) != 0 {
			t.Fatalf("it is %s after %d looks, %d calls run", before.State, looks.Load(), active(before))
		}
		time.Sleep(3 * time.Minute)
		if now := progressed(run.Progress()); !slices.Equal(now, progressed(before)) || looks.Load() != 2 {
			t.Errorf("from %v it came to %v, after %d looks", progressed(before), now, looks.Load())
		}
		run.Resume()
		s, err := run.Wait()
		if err != nil || s.Out != 40_000 || looks.Load() < 3 {
			t.Errorf("%d came out, after %d looks: %v", s.Out, looks.Load(), err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
}
