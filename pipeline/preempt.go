package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/forgepipe/forgepipe/memory"
)

// A call takes its memory bit by bit, and what it was promised may be gone before
// it has it: somebody lowers the control group's limit, or another program grows.
// Large calls can then be taken back: their context ends, what they have is freed,
// and their batch waits for its lease anew.

// errPreempted is the cause of a context that ended because the call's memory was
// taken back.
var errPreempted = errors.New("the call's memory was taken back")

// preemptible is the size from which on calls are worth it.
const preemptible = 16 << 20

// largeCalls are those that can be taken back, in the order in which they began.
type largeCalls struct {
	mu  sync.Mutex
	all []*largeCall
}

type largeCall struct {
	bytes  int64
	ended  bool // its context
	cancel context.CancelCauseFunc
}

// begin lists a call if it is one that can be taken back.
func (c *largeCalls) begin(ctx context.Context, w *worker, leased int64) (context.Context, *largeCall) {
	if leased < preemptible || w.stateful || w.writer {
		return ctx, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	l := &largeCall{bytes: leased, cancel: cancel}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, l)
	return ctx, l
}

// end takes the call off the list.
func (c *largeCalls) end(l *largeCall) {
	if l == nil {
		return
	}
	l.cancel(nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.all, l); i >= 0 {
		c.all = slices.Delete(c.all, i, i+1)
	}
}

// preempt ends the contexts of the latest calls, which lose least, until so many
// bytes come back, and reports how many calls that were.
func (c *largeCalls) preempt(bytes int64) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range slices.Backward(c.all) {
		if bytes <= 0 {
			break
		}
		bytes -= l.bytes
		if !l.ended {
			l.ended = true
			l.cancel(errPreempted)
			n++
		}
	}
	return n
}

// preempted tells whether the attempt came to nothing because its memory was
// taken back.
func (o outcome) preempted(ctx context.Context, batch []*Item) bool {
	if !errors.Is(context.Cause(ctx), errPreempted) || o.panicked != nil {
		return false
	}
	ended := func(err error) bool { return errors.Is(err, context.Canceled) || errors.Is(err, errPreempted) }
	return ended(o.err) || o.err == nil && slices.ContainsFunc(batch, func(it *Item) bool {
		return ended(it.next.err) || slices.ContainsFunc(it.next.derived, func(d *Item) bool { return ended(d.next.err) })
	})
}

// rescue is for when the process is about to get more than there is: what waits
// is parked, and if that is not enough, calls are taken back.
func (g *hostGovernor) rescue(s memory.Reading) (acted bool) {
	r := g.run
	if !g.follows || s.Own == memory.Unknown || s.Free == memory.Unknown {
		return false
	}
	u := r.host.Usage()
	// What is leased will be touched, if it was not yet.
	will := max(s.Own, u.Residency+u.Work+programBytes/2)
	over := will - (s.Own + s.Free - rescueMargin)
	if over <= 0 {
		return false
	}
	before := u.Residency + u.Work
	r.park(g.nodes, over)
	u = r.host.Usage()
	if over -= before - (u.Residency + u.Work); over <= 0 {
		return true
	}
	if n := r.large.preempt(over); n > 0 {
		r.event(EventPreempted, "", "", fmt.Sprintf("the host has less memory than running calls were promised: %d of them will be repeated", n))
	}
	return true
}

// rescueMargin is what is kept free for what can happen until the next look.
const rescueMargin = 32 << 20
