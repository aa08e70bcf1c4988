package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

// What a stage takes and never gives back is in no ledger, and ends a long run in
// its last night. So the run stands still for an instant now and then, cleans up
// and looks at what is left; memory.LeakWatch judges it. When that suspects
// something, stages run alone for a few batches, to tell which one it is.

const (
	// firstLook is how long after the beginning the first look is; each that shows
	// nothing doubles the time to the next, up to lastLook.
	firstLook = 5 * time.Second
	lastLook  = time.Minute
	// seldomLook is for chains whose calls are longer than standstill.
	seldomLook = 30 * time.Minute
	// suddenGrowth is the growth that nobody explains from which on the next look is
	// now, though not before leastLook has passed.
	suddenGrowth = 48 << 20
	leastLook    = time.Second
	// lookShare times its cost is the least time between two looks, unless one is due.
	lookShare = 20
	// standstill is how long running calls are waited for. A call that takes longer
	// makes that look fail.
	standstill = 5 * time.Second
)

// leakWatcher looks after the stages of one phase.
type leakWatcher struct {
	run   *run
	nodes []*node
	stop  <-chan struct{}
	watch *memory.LeakWatch
	floor int64 // bytes that nobody explained at the last look
}

// watchLeaks runs until stop is closed.
func (r *run) watchLeaks(ctx context.Context, nodes []*node, stop <-chan struct{}) {
	if r.dry != nil {
		return
	}
	w := &leakWatcher{run: r, nodes: nodes, stop: stop}
	ids := make([]string, len(nodes))
	for i, n := range nodes {
		ids[i] = n.ID
	}
	w.watch = memory.NewLeakWatch(memory.LeakOptions{Device: string(Host), Stages: ids})
	tick := time.NewTicker(governTick)
	defer tick.Stop()
	when := lookTimes{every: firstLook, last: time.Now()}
	for {
		select {
		case <-stop:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if r.standsStill() {
			continue
		}
		if !when.due(time.Now(), w.floor != 0 && w.unexplained() > w.floor+suddenGrowth) {
			continue
		}
		before := w.floor
		cost, ok := w.look(ctx)
		when.looked(time.Now(), cost, ok, w.floor > before+suddenGrowth/4)
		if leak, ok := w.watch.Verdict(); ok {
			r.leaked(leak)
			return
		}
	}
}

// lookTimes decides when to look, so that looks cost a sound run little.
type lookTimes struct {
	every   time.Duration // from one look to the next
	last    time.Time     // end of the last look, or the beginning
	cost    time.Duration // of the last look
	regular bool          // the last look was due, not for sudden growth
	calm    bool          // sudden growth is no reason to look
}

// due tells whether to look now; sudden, whether memory has grown suddenly.
func (l *lookTimes) due(now time.Time, sudden bool) bool {
	since := now.Sub(l.last)
	l.regular = since >= l.every
	return l.regular || sudden && !l.calm && since >= max(leastLook, lookShare*l.cost)
}

// looked takes what the look has shown that due asked for: whether it could be
// taken, and whether the floor grew by much.
func (l *lookTimes) looked(now time.Time, cost time.Duration, ok, grew bool) {
	l.last, l.cost = now, cost
	// What only looked like growth in the midst of calls does so again.
	l.calm = !ok || !l.regular && !grew
	switch {
	case !ok: // calls take too long for it: waiting for them costs more than it brings
		l.every = min(4*l.every, seldomLook)
	case grew:
		l.every = firstLook
	default:
		l.every = min(2*l.every, lastLook)
	}
}

// leaked tells of a leak.
func (r *run) leaked(l memory.Leak) {
	r.mu.Lock()
	r.leaks = append(r.leaks, l.Text)
	r.mu.Unlock()
	stage := ""
	if l.Certain && len(l.Stages) == 1 {
		stage = l.Stages[0]
	}
	r.event(EventLeak, stage, "", l.Text)
	r.pipe.log.Warn("memory is taken and never given back: " + l.Text)
}

// unexplained is what the process has beyond the pictures in memory and what
// else is leased to stay.
func (w *leakWatcher) unexplained() int64 {
	s, ok := w.run.reading()
	if !ok || s.Own == memory.Unknown {
		return 0
	}
	return s.Own - w.explained() - w.run.host.Usage().Work
}

func (w *leakWatcher) explained() int64 {
	return w.run.host.Usage().Residency - pictures.held.Load() + pictures.shown.Load()
}

// look takes one observation, and where that raises a suspicion runs stages alone.
// cost is what the observation took.
func (w *leakWatcher) look(ctx context.Context) (cost time.Duration, ok bool) {
	defer w.pause(nil)()
	begun := time.Now()
	floor, ok := w.measure(ctx)
	cost = time.Since(begun)
	if !ok {
		return cost, false
	}
	w.floor = floor
	if s := w.watch.Observe(w.calls(w.nodes), floor); s.BytesPerBatch > 0 {
		w.separate(ctx, floor)
	}
	return cost, true
}

// measure waits until no call runs, cleans up, and reads what is left.
func (w *leakWatcher) measure(ctx context.Context) (floor int64, ok bool) {
	if !w.until(ctx, standstill, func() bool { return w.calling() == 0 }) {
		return 0, false
	}
	w.run.canvases.leave()
	w.run.clean(ctx, "looking for leaks")
	s, err := w.run.memory.Monitor().Refresh(ctx, string(Host))
	if err != nil || s.Own == memory.Unknown {
		return 0, false
	}
	return s.Own - w.explained(), true
}

// separate runs stages alone, as the watch wants it. All are paused, and before is
// the floor.
func (w *leakWatcher) separate(ctx context.Context, before int64) {
	ok := true // nothing has run since before was measured
	for ctx.Err() == nil && !w.run.draining() {
		w.until(ctx, time.Minute, func() bool { return !w.run.standsStill() })
		stage, batches, more := w.watch.Next()
		if !more {
			return
		}
		i := 0
		for w.nodes[i].ID != stage {
			i++
		}
		moved := w.drain(ctx, i, batches)
		if w.fill(ctx, i, batches) || moved || !ok {
			before, ok = w.measure(ctx)
		}
		began := w.nodes[i].calls.Load()
		if ok {
			w.alone(ctx, i, batches)
		}
		done := w.nodes[i].calls.Load() - began
		after, okAfter := w.measure(ctx)
		if !ok || !okAfter {
			done = 0
		}
		w.watch.Solo(stage, done, after-before)
		before, ok = after, okAfter
	}
}

// fill lets the stages before i work until i has its batches to do, and reports
// whether they had to.
func (w *leakWatcher) fill(ctx context.Context, i int, batches int64) bool {
	n := w.nodes[i]
	want := min(int(batches)*n.batchSize(), queueItems)
	if queued, _ := n.in.len(); queued >= want || i == 0 {
		return false
	}
	defer w.pause(w.nodes[:i])()
	w.progress(ctx, w.nodes[:i], func() bool {
		queued, _ := n.in.len()
		return queued >= want
	})
	return true
}

// drain lets the stages after i work until there is room for what i returns, and
// reports whether they had to. They make room for what each of them returns too,
// so that their own turns need none.
func (w *leakWatcher) drain(ctx context.Context, i int, batches int64) bool {
	room := func(i int) bool {
		queued, _ := w.nodes[i+1].in.len()
		return queued <= max(queueItems-int(batches)*w.nodes[i].batchSize(), 0)
	}
	if i+1 == len(w.nodes) || room(i) {
		return false
	}
	defer w.pause(w.nodes[i+1:])()
	w.progress(ctx, w.nodes[i+1:], func() bool {
		for ; i+1 < len(w.nodes) && room(i); i++ {
		}
		return i+1 == len(w.nodes)
	})
	return true
}

// alone lets only stage i work.
func (w *leakWatcher) alone(ctx context.Context, i int, batches int64) {
	n := w.nodes[i]
	began := n.calls.Load()
	defer w.pause(w.nodes[i : i+1])()
	w.progress(ctx, w.nodes[i:i+1], func() bool { return n.calls.Load()-began >= batches })
}

// progress waits until enough, or until these stages have had nothing to do for
// a while.
func (w *leakWatcher) progress(ctx context.Context, nodes []*node, enough func() bool) {
	last, since := int64(-1), time.Now()
	w.until(ctx, time.Minute, func() bool {
		if now := w.calls(nodes) + w.run.src.out.Load(); now != last || w.calling() > 0 || w.run.standsStill() {
			last, since = now, time.Now()
		}
		return enough() || time.Since(since) > 300*time.Millisecond
	})
}

// until polls, and reports whether ok held before the time was over. That in which
// the run is paused does not count.
func (w *leakWatcher) until(ctx context.Context, most time.Duration, ok func() bool) bool {
	deadline := time.Now().Add(most)
	for !ok() {
		every := 2 * time.Millisecond
		if w.run.standsStill() {
			every, deadline = governTick, time.Now().Add(most)
		}
		select {
		case <-ctx.Done():
			return false
		case <-w.stop:
			return false
		case <-w.run.drain:
			return false
		case <-time.After(every):
		}
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// pause stops all stages but these, and returns what puts back how it was.
func (w *leakWatcher) pause(but []*node) (resume func()) {
	free := map[*node]bool{}
	for _, n := range but {
		free[n] = true
	}
	was := make([]bool, len(w.nodes))
	for i, n := range w.nodes {
		was[i] = n.in.isPaused()
		n.in.pause(!free[n])
	}
	w.run.paused.Add(1)
	return func() {
		w.run.paused.Add(-1)
		for i, n := range w.nodes {
			n.in.pause(was[i])
		}
	}
}

func (w *leakWatcher) calling() (n int32) {
	for _, node := range w.nodes {
		n += node.calling.Load()
	}
	return n
}

func (w *leakWatcher) calls(nodes []*node) (n int64) {
	for _, node := range nodes {
		n += node.calls.Load()
	}
	return n
}

// heldBy says what holds memory after a phase has ended, in words.
func (r *run) heldBy() string {
	p := r.opts.Host.Process()
	text := fmt.Sprintf("Go has %s (%s of it on the heap), libraries and code %s", memory.FormatBytes(p.Go), memory.FormatBytes(p.GoHeap), memory.FormatBytes(max(p.Other, 0)))
	for _, h := range r.host.Holders() {
		text += fmt.Sprintf("; %s has %s leased", h.Holder, memory.FormatBytes(h.Bytes))
	}
	return text
}
