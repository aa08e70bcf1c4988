package model

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

// begins waits for the first item.
func (r *Runner) begins() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !r.begun && !r.closed {
		r.idle.Wait()
	}
	return !r.closed
}

// idleAfter is for how long nothing comes until a session gives its memory back.
const idleAfter = time.Second

// next waits for a batch for lane i; nil, when it may not run any more, or when nothing
// has come for a while and it has not rested yet. It ends with the Runner.
func (r *Runner) next(s *seat, i int, rested bool) (b *batch, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	tired := false
	if !rested {
		t := time.AfterFunc(idleAfter, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			tired = true
			r.idle.Broadcast()
		})
		defer t.Stop()
	}
	if i < s.open {
		s.idle++
		defer func() { s.idle-- }()
	}
	for len(s.ready) == 0 && i < s.open && !s.lost && !r.closed && !tired {
		r.flushIdle()
		if len(s.ready) == 0 {
			r.idle.Wait()
		}
	}
	if r.closed || i >= s.open || s.lost || len(s.ready) == 0 {
		return nil, !r.closed
	}
	b = s.ready[0]
	s.ready = slices.Delete(s.ready, 0, 1) // which lets go of its tensor
	return b, true
}

// mayRun waits until lane i may.
func (r *Runner) mayRun(s *seat, i int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for (i >= s.open || s.lost) && !r.closed {
		r.idle.Wait()
	}
	return !r.closed
}

// run runs batches in all lanes until the Runner is closed.
func (r *Runner) run(ctx context.Context) {
	defer close(r.stopped)
	var lanes sync.WaitGroup
	var mu sync.Mutex
	for _, s := range r.seats {
		if len(s.lanes) > s.open {
			lanes.Go(func() { r.tryLanes(ctx, s) })
		}
		for i, l := range s.lanes {
			lanes.Go(func() {
				err := r.lane(ctx, s, i, l)
				mu.Lock()
				defer mu.Unlock()
				r.closeErr = errors.Join(r.closeErr, err)
			})
		}
	}
	lanes.Wait()
}

// lane is the goroutine that the runs of one session are on.
func (r *Runner) lane(ctx context.Context, s *seat, i int, l *ladder) error {
	if !l.trial && r.begins() {
		_ = l.reopen(ctx) // the first batch meets the error too, and has somebody to tell
	}
	rested := false
	for {
		if i >= r.lanes(s) {
			l.discard() // its memory is for the others
		}
		if !r.mayRun(s, i) {
			return l.close()
		}
		if l.trial && l.session == nil && l.reopen(ctx) != nil {
			r.setLanes(s, max(s.Lanes, 1)) // there is no room for one more
			continue
		}
		b, more := r.next(s, i, rested)
		rested = b == nil
		switch {
		case b != nil:
			l.computed = 0
			began := time.Now()
			l.batch(ctx, b)
			s.work.Queue(-b.queued)
			r.ran(s, l.computed, time.Since(began))
		case more && i < r.lanes(s):
			l.rest(ctx)
		}
	}
}

func (r *Runner) ran(s *seat, items int, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.done += int64(items)
	s.busy += took
}

// lanes is how many of a device may run.
func (r *Runner) lanes(s *seat) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.lost {
		return 0
	}
	return s.open
}

func (r *Runner) setLanes(s *seat, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.open = n
	r.idle.Broadcast()
}

// tryEvery is how often it is looked whether another lane is worth trying.
const tryEvery = 250 * time.Millisecond

// tryLanes has as many lanes as make the device faster.
func (r *Runner) tryLanes(ctx context.Context, s *seat) {
	workers := memory.NewWorkers([]memory.StageWorkers{{Least: s.open, Start: s.open, Most: len(s.lanes)}})
	tick := time.NewTicker(tryEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			r.mu.Lock()
			load := memory.StageLoad{Done: s.done, Busy: s.busy, Queued: len(s.ready)}
			r.mu.Unlock()
			if !workers.Tick(now, false, []memory.StageLoad{load}) {
				continue
			}
			n := workers.Counts()[0]
			r.o.Log.Info("how many batches run at once is changed", "network", r.o.Name, "device", s.Device, "lanes", n)
			r.setLanes(s, n)
		}
	}
}
