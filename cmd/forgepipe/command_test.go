package main

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forgepipe/forgepipe/internal/runstore"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
)

func TestExitCodes(t *testing.T) {
	oversize := &memory.OversizeError{Device: "host", Need: 2, Have: 1, Holder: "stage x"}
	for _, tt := range []struct {
		name string
		err  error
		want int
	}{
		{"no error", nil, 0},
		{"any error", errors.New("x"), 1},
		{"a stage", &pipeline.StageError{Stage: "x", Err: errors.New("x")}, 1},
		{"the pipeline", fmt.Errorf("x: %w", &pipeline.SpecError{}), 2},
		{"the arguments", usagef("", "x"), 2},
		{"the store is in use", errors.Join(&runstore.LockedError{Dir: "x"}, nil), 2},
		{"the plan does not fit", oversize, 2},
		{"a stage runs out of memory", &pipeline.StageError{Stage: "x", Err: oversize}, 1},
		{"no store", &noStoreError{"x"}, 2},
		{"the environment", &environmentError{Err: errors.New("x")}, 3},
		{"quarantined", errQuarantined, 4},
		{"verify", &faultsError{1, 2}, 1},
		{"what is not there", &absentError{Err: errors.New("x")}, 1},
		{"files stay in the trash", &stayedError{1, 0}, 1},
		{"interrupted", &signalError{syscall.SIGINT}, 130},
		{"terminated", &signalError{syscall.SIGTERM}, 143},
		{"hung up", &signalError{syscall.SIGHUP}, 129},
	} {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("%s: exit code %d, want %d", tt.name, got, tt.want)
		}
	}
}

// The first signal asks for an orderly end, the second cancels, and what then
// does not end within five seconds is ended.
func TestSignalsEscalate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var drained, cancelled, told atomic.Int32
		exited := make(chan *signalError, 1)
		i := newInterrupts(func() { cancelled.Add(1) }, func(string) { told.Add(1) }, func(e *signalError) { exited <- e })
		i.begun(func() { drained.Add(1) })
		go i.answer()
		state := func(what string, d, c int32) {
			t.Helper()
			synctest.Wait()
			if drained.Load() != d || cancelled.Load() != c || told.Load() != d {
				t.Errorf("after %s: drained %d, told %d, cancelled %d", what, drained.Load(), told.Load(), cancelled.Load())
			}
		}
		i.c <- syscall.SIGTERM
		state("one signal", 1, 0)
		time.Sleep(time.Minute)
		i.c <- syscall.SIGINT
		state("two", 1, 1)
		time.Sleep(patience - time.Millisecond)
		select {
		case <-exited:
			t.Error("it ends too early")
		default:
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		select {
		case e := <-exited:
			if e.Signal != syscall.SIGTERM {
				t.Errorf("it ends for %v, not for the first signal", e.Signal)
			}
		default:
			t.Error("it does not end")
		}
		<-i.done
	})
}

// Before a run has begun there is nothing to finish.
func TestSignalBeforeTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var drained, cancelled atomic.Int32
		i := newInterrupts(func() { cancelled.Add(1) }, func(string) {}, func(*signalError) {})
		go i.answer()
		i.c <- syscall.SIGINT
		synctest.Wait()
		if cancelled.Load() != 1 {
			t.Error("it does not stop")
		}
		i.begun(func() { drained.Add(1) })
		if drained.Load() != 1 || i.signal() != syscall.SIGINT {
			t.Error("the run that begins nevertheless is not told")
		}
		close(i.stop)
		<-i.done
	})
}

func TestWantsJSON(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want bool
	}{
		{[]string{"run", "x.yaml", "--json"}, true},
		{[]string{"--json=true", "run"}, true},
		{[]string{"run", "--", "--json"}, false},
		{[]string{"run", "--json=false"}, false},
		{nil, false},
	} {
		if got := wantsJSON(tt.args); got != tt.want {
			t.Errorf("%q: %v", tt.args, got)
		}
	}
}

func TestEstimate(t *testing.T) {
	last := &pipeline.Summary{
		In: 10, Written: 90, Reused: 10, Seconds: 20,
		Stages: []pipeline.StageSummary{{ID: "t", Stage: "tile", In: 10}, {ID: "s", Stage: "score", In: 50, Cached: 10}},
	}
	pure := func(stage string) bool { return stage == "score" }
	for _, tt := range []struct {
		name    string
		f       pipeline.Forecast
		fresh   int64 // items that the pure stage does not know
		bytes   int64
		seconds float64
	}{
		{"nothing to do", pipeline.Forecast{Reuse: 100}, 0, 0, 0},
		{"files only", pipeline.Forecast{Write: 9}, 0, 90, 2},
		{"new items", pipeline.Forecast{Compute: 8, Maybe: 8}, 8, 160, 4},
		{"items that a later stage computes", pipeline.Forecast{Compute: 9, Maybe: 9}, 0, 90, 2},
	} {
		dry := &pipeline.Summary{Stages: []pipeline.StageSummary{{ID: "t", Stage: "tile", In: 10}, {ID: "s", Stage: "score", In: 50, Cached: 50 - tt.fresh}}}
		w := workOf(&tt.f, dry, pure)
		b, s := w.bytes(last, 10), w.seconds(last)
		if b == nil || *b != tt.bytes || s == nil || *s != tt.seconds {
			t.Errorf("%s: %v bytes, %v s", tt.name, *b, *s)
		}
	}
	if w := (work{first: "s", fresh: 1}); w.seconds(&pipeline.Summary{}) != nil || w.bytes(&pipeline.Summary{}, 1) != nil {
		t.Error("a run that did nothing tells something")
	}
}
