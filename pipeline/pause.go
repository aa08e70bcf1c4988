package pipeline

import (
	"context"
	"sync/atomic"
)

// A paused run stands still where something would begin: before a batch that was
// taken, an input, an item of an earlier phase, one that is looked at again, a
// flush. What has begun ends, and what waits keeps its leases; its pictures are
// parked under pressure, as always. Neither a run that drains nor one that is
// cancelled stands still.

// standby is whether a run is paused. The zero value is that it is not.
type standby struct {
	resumed atomic.Pointer[chan struct{}] // closed when the run goes on; nil: it is not paused
}

// Pause has the run begin nothing new: no batch, no input, no phase. What is inside
// a stage ends, and is recorded; Progress tells by StageSummary.Active when that
// is so. Nothing is lost: Resume goes on where the run stands, Drain and the end of
// its context end it as ever, and after a crash the next run goes on, unpaused.
// Pause returns at once and may be called several times. It does nothing to a run
// that drains or has ended.
func (r *Run) Pause() {
	select {
	case <-r.done:
		return
	default:
	}
	if r.r.draining() {
		return
	}
	resumed := make(chan struct{})
	if r.r.standby.resumed.CompareAndSwap(nil, &resumed) {
		r.r.event(EventPaused, "", "", "nothing new begins; what is inside a stage ends")
	}
}

// Resume has a paused run go on. It may be called several times, and does nothing
// to a run that is not paused.
func (r *Run) Resume() {
	if resumed := r.r.standby.resumed.Swap(nil); resumed != nil {
		close(*resumed)
		r.r.event(EventResumed, "", "", "the run goes on")
	}
}

// standsStill tells whether the run is paused.
func (r *run) standsStill() bool { return r.standby.resumed.Load() != nil && !r.draining() }

// mayBegin waits while the run is paused. The error is that of ctx.
func (r *run) mayBegin(ctx context.Context) error {
	for {
		resumed := r.standby.resumed.Load()
		if resumed == nil || r.draining() {
			return nil
		}
		select {
		case <-*resumed:
		case <-r.drain:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// mayPass is mayBegin for an item that a goroutine which counts as working goes on
// with. With an error the item is released.
func (r *run) mayPass(ctx context.Context, it *Item) (err error) {
	r.rest(func() { err = r.mayBegin(ctx) })
	if err != nil {
		it.release()
	}
	return err
}

// mayBegin is that of the run, for a batch that was taken. Meanwhile its pictures
// can be parked.
func (w *worker) mayBegin(ctx context.Context, batch []*Item) error {
	if !w.run.standsStill() {
		return nil
	}
	var pictures []*buffer
	for _, it := range batch {
		pictures = it.appendBuffers(pictures)
	}
	defer w.run.idle.add(w.priority, pictures)()
	return w.run.mayBegin(ctx)
}
