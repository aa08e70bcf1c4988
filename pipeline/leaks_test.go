package pipeline_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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
		time.Sleep(5 * time.Millisecond)
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
		time.Sleep(5 * time.Millisecond)
		return b, nil
	})
}

// watchRun runs a chain of stages a, b, c until it reports a leak, or has done so
// many batches, and returns the report and the clean-ups that it took.
func watchRun(t *testing.T, batches int, stages ...pipeline.Stage) (leaks []string, cleanups int64) {
	t.Helper()
	p := pipeline.New("leak", pipeline.Options{})
	p.SetSource(inputs(batches))
	for i, s := range stages {
		add(t, p, pipeline.Step{ID: string(rune('a' + i)), Stage: s, Workers: 1, Batch: 1})
	}
	var looks atomic.Int64
	found := make(chan struct{}, 1)
	run, err := p.Start(t.Context(), pipeline.RunOptions{NoStore: true, OnEvent: func(e pipeline.Event) {
		switch {
		case e.Kind == pipeline.EventCleaned && strings.Contains(e.Message, "looking for leaks"):
			looks.Add(1)
		case e.Kind == pipeline.EventLeak:
			found <- struct{}{}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-found:
		run.Drain()
	case <-run.Done():
	}
	s, err := run.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return s.Leaks, looks.Load()
}

func TestLeakIsFoundAndTheStageNamed(t *testing.T) {
	k := &kept{}
	leaks, cleanups := watchRun(t, 1e6, sound(5<<20), k.leaking(5<<20), sound(1<<20))
	t.Logf("%d clean-ups freed something, %d batches: %q", cleanups, len(k.blocks), leaks)
	if len(leaks) != 1 || !strings.HasPrefix(leaks[0], "b leaks about ") {
		t.Errorf("reported %q, want stage b", leaks)
	}
}

func TestSoundChainIsNotReported(t *testing.T) {
	leaks, _ := watchRun(t, 10_000, sound(5<<20), sound(3<<20))
	if len(leaks) > 0 {
		t.Errorf("reported %q", leaks)
	}
}
