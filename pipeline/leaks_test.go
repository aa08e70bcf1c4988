//go:build !race

// The race detector keeps memory of its own for all that is touched, so that what a
// process has tells nothing under it: make test runs these tests without.

package pipeline_test

import (
	"context"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
)

// kept is what leaking stages never give back.
type kept struct{ blocks [][]byte }

// leaking keeps so many bytes of every batch.
func (k *kept) leaking(bytes int) pipeline.Stage {
	return batchStage(func(_ context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) {
		block := make([]byte, bytes)
		for i := 0; i < bytes; i += 4096 {
			block[i] = 1
		}
		k.blocks = append(k.blocks, block)
		time.Sleep(20 * time.Millisecond)
		return b, nil
	})
}

// leakingOutside keeps memory that is not Go's, as a C library would.
func leakingOutside(t *testing.T, bytes int) pipeline.Stage {
	return batchStage(func(_ context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) {
		block, err := syscall.Mmap(-1, 0, bytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = syscall.Munmap(block) })
		for i := 0; i < bytes; i += 4096 {
			block[i] = 1
		}
		time.Sleep(20 * time.Millisecond)
		return b, nil
	})
}

// sound takes as much, and gives it back.
func sound(bytes int) pipeline.Stage {
	return batchStage(func(_ context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) {
		block := make([]byte, bytes)
		for i := 0; i < bytes; i += 4096 {
			block[i] = 1
		}
		time.Sleep(time.Millisecond)
		return b, nil
	})
}

// watchRun runs a chain of stages a, b, c until it reports a leak, or has done so
// many batches, and returns the report and the looks that it took: clean-ups before which
// all stages have run. How many there are while stages run alone depends on how long
// the machine leaves them standing. If pauses says so, the run is paused during every
// other clean-up.
func watchRun(t *testing.T, batches int, pauses bool, stages ...pipeline.Stage) (leaks []string, looks int64) {
	t.Helper()
	p := pipeline.New("leak", pipeline.Options{})
	p.SetSource(inputs(batches))
	ran := make([]atomic.Bool, len(stages)) // since the last clean-up
	for i, s := range stages {
		run := s.(batchStage)
		add(t, p, pipeline.Step{ID: string(rune('a' + i)), Workers: 1, Batch: 1, Stage: batchStage(func(ctx context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) {
			ran[i].Store(true)
			return run(ctx, b)
		})})
	}
	m := memory.NewManager(memory.Options{})
	defer m.Close()
	var looked atomic.Int64
	var all atomic.Int64
	var started atomic.Pointer[pipeline.Run]
	m.Register(memory.Reclaimer{Name: "count", Reclaim: func(context.Context) (int64, error) {
		every := true
		for i := range ran {
			every = ran[i].Swap(false) && every
		}
		if every {
			looked.Add(1)
		}
		if run := started.Load(); all.Add(1)%2 == 0 && pauses {
			run.Pause() // for longer than stages with nothing to do are waited for
			time.AfterFunc(500*time.Millisecond, run.Resume)
		}
		return 0, nil
	}})
	found := make(chan struct{}, 1)
	run, err := p.Start(t.Context(), pipeline.RunOptions{NoStore: true, Memory: m, OnEvent: func(e pipeline.Event) {
		if e.Kind == pipeline.EventLeak {
			looks = looked.Load()
			found <- struct{}{}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	started.Store(run)
	select {
	case <-found:
		run.Drain()
	case <-run.Done():
	}
	s, err := run.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return s.Leaks, looks
}

func TestLeakIsFoundAndTheStageNamed(t *testing.T) {
	for name, stages := range map[string][]pipeline.Stage{
		"b":         {sound(5 << 20), (&kept{}).leaking(5 << 20), sound(1 << 20)},
		"b, paused": {sound(5 << 20), (&kept{}).leaking(5 << 20), sound(1 << 20)},
		"c":         {sound(1 << 20), sound(5 << 20), leakingOutside(t, 5<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			leaks, looks := watchRun(t, 1e6, strings.HasSuffix(name, "paused"), stages...)
			t.Logf("after %d looks: %q", looks, leaks)
			if looks == 0 || looks > 10 {
				t.Errorf("it took %d looks, want 1 to 10", looks)
			}
			if len(leaks) != 1 || !strings.HasPrefix(leaks[0], name[:1]+" leaks about ") {
				t.Errorf("reported %q, want stage %s", leaks, name)
			}
		})
	}
}

// Each phase says what it began with, what the clean-up freed and what is left,
// and what holds that where it is more than the run began with.
func TestPhasesSayWhatIsLeft(t *testing.T) {
	debug.FreeOSMemory() // what other tests left is no part of the floor
	p := pipeline.New("phases", pipeline.Options{})
	p.HostLimit = pipeline.Amount{Bytes: 200 << 20}
	p.SetSource(inputs(20))
	k := &kept{}
	add(t, p, pipeline.Step{ID: "a", Stage: resident{k.leaking(4 << 20), 100 << 20}, Workers: 1, Batch: 1})
	add(t, p, pipeline.Step{ID: "b", Stage: resident{sound(1 << 20), 100 << 20}, Workers: 1, Batch: 1})
	s := mustRun(t, p, pipeline.RunOptions{NoStore: true})
	if len(s.Phases) != 2 || s.Phases[0].Stages[0] != "a" || s.Phases[1].Stages[0] != "b" {
		t.Fatalf("%+v", s.Phases)
	}
	for i, m := range s.Phases {
		if m.Began <= 0 || m.Left <= 0 || m.Freed < 0 || m.Held == "" && float64(m.Left) > 1.05*float64(s.Phases[0].Began) {
			t.Errorf("phase %d: %+v", i, m)
		}
	}
	if held := s.Phases[0].Held; !strings.Contains(held, "Go has ") {
		t.Errorf("80 MiB are kept, and it says %q", held)
	}
	_ = k.blocks[0][0]
}

// 10,000 batches, half of them of each stage.
func TestSoundChainIsNotReported(t *testing.T) {
	leaks, _ := watchRun(t, 5_000, false, sound(1<<20), sound(1<<19))
	if len(leaks) > 0 {
		t.Errorf("reported %q", leaks)
	}
}
