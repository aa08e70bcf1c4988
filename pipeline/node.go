package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sourcegraph/conc/pool"

	"github.com/forgepipe/forgepipe/memory"
)

const (
	defaultBatch = 16
	queueItems   = 256 // between two stages; the bytes bound what matters
)

// node is a stage at work: its queue, its workers, its counts.
type node struct {
	*Step
	counters
	run  *run
	in   *queue
	next *node // nil for the last of the chain

	workers   int     // to begin with
	most      int     // that there may be
	gate      *gate   // how many work now
	batcher   Batcher // nil: batch is the same for all calls
	batch     BatchSpec
	barrier   Barrier
	coster    Coster
	writer    bool
	stateful  bool
	serial    bool
	turn      sync.Mutex // of the calls of a serial stage
	identity  []byte     // stage, version and configuration, when its results may be cached
	needs     []string   // attributes that its results depend on
	uses      []string   // likewise, where an item has them
	held      *parking   // of a barrier
	latersMu  sync.Mutex
	laters    *parking     // items that it wants to see when all others are through
	unsure    atomic.Bool  // in a dry run: some items' results are not known here
	parked    *parking     // where its output waits for the next phase; nil within a phase
	active    atomic.Int32 // workers that still run
	calling   atomic.Int32 // of them, those inside the stage
	priority  int          // position in the chain: downstream is served first
	onErrStop bool
	opened    bool
	first     bool // of its phase
	last      bool // that looks at pictures
}

func newNode(r *run, s *Step, position int) *node {
	n := &node{Step: s, run: r, priority: position, workers: s.Workers}
	n.barrier, _ = s.Stage.(Barrier)
	n.coster, _ = s.Stage.(Coster)
	_, n.writer = s.Stage.(Writer)
	_, n.stateful = s.Stage.(Stateful)
	n.stateful = n.stateful || n.barrier != nil
	if b, ok := s.Stage.(Batcher); ok {
		n.batcher, n.batch = b, b.Batch()
	}
	if n.batch.Size <= 0 {
		n.batch.Size = defaultBatch
	}
	if s.Batch > 0 {
		n.batcher, n.batch.Size = nil, s.Batch
	}
	n.most = n.workers
	if n.workers <= 0 {
		// One for each core; more help only a stage that waits for something.
		n.workers = runtime.GOMAXPROCS(0)
		n.most = 2 * n.workers
		if s.Info.Waits && (s.Info.WaitsIf == nil || s.Info.WaitsIf(s.Config)) {
			n.workers++
		}
	}
	if _, n.serial = s.Stage.(Serial); n.serial {
		n.workers, n.most = 1, 1
	}
	n.gate = newGate(n.workers)
	// A stage that was made without a configuration cannot be told from another
	// one of its name.
	configured := s.Config.info.Name != "" || len(s.Info.Fields) == 0
	_, remembers := s.Stage.(Stateful)
	if s.Info.Pure && configured && !remembers && (s.Info.PureIf == nil || s.Info.PureIf(s.Config)) {
		n.needs, n.uses = s.Info.needs(s.Config), s.Info.uses(s.Config)
		n.identity = fmt.Appendf(nil, "%s\x00%d\x00%s\x00%s", s.Info.Name, s.Info.Version, s.files(), s.Config.key(func(f Field) bool { return !f.Cosmetic && !f.Flush }))
	}
	// One whose results are cached writes in Flush alone: until then it is like any other.
	n.writer = n.writer && n.identity == nil
	n.onErrStop = s.OnError == Stop || s.OnError == "" && r.pipe.OnError == Stop
	return n
}

// cost asks the stage what a call with this batch takes of the host; nothing when
// it does not say.
func (n *node) cost(batch []*Item) Cost {
	if n.coster == nil {
		return Cost{}
	}
	return n.coster.Cost(Host, batch)
}

// start adds the node's workers to the pool. The last one to run out of input
// flushes a barrier and closes the next queue.
func (n *node) start(p *pool.ContextPool) {
	n.active.Store(int32(n.most))
	for range n.most {
		p.Go(func(ctx context.Context) error {
			if err := n.work(ctx); err != nil {
				return err
			}
			if n.active.Add(-1) > 0 {
				return nil
			}
			if err := n.run.mayBegin(ctx); err != nil {
				return err
			}
			if err := n.finishLaters(ctx); err != nil {
				return err
			}
			if err := n.flush(ctx); err != nil {
				return err
			}
			if n.parked == nil && n.next != nil {
				n.next.in.close()
			}
			return nil
		})
	}
}

func (n *node) work(ctx context.Context) error {
	// A writer looks at a promised picture only where its file is not there yet,
	// which it finds out itself. It then has the picture beyond the limit, rather
	// than wait for what it mostly does not want.
	w := worker{node: n, claim: claim{lazy: n.writer}}
	for {
		more, err := w.step(ctx)
		if err != nil || !more {
			return err
		}
	}
}

// step handles one batch; false when there will be no more.
func (w *worker) step(ctx context.Context) (more bool, err error) {
	n := w.node
	if err := n.gate.enter(ctx); err != nil {
		return false, err
	}
	defer n.gate.leave()
	batch, err := n.in.take(ctx, w.batch[:0], n.batchSize(), n.batch.Bytes, n.batch.Linger)
	w.batch = batch
	if err != nil {
		w.abandon(batch)
		return false, err
	}
	if len(batch) == 0 {
		return false, nil
	}
	if err := w.mayBegin(ctx, batch); err != nil {
		w.abandon(batch)
		return false, err
	}
	if n.first && n.run.draining() {
		w.abandon(batch) // waiting, but not begun
		return true, nil
	}
	n.counters.in.Add(int64(len(batch)))
	n.run.working.Add(1)
	defer n.run.working.Add(-1)
	return true, w.handle(ctx, batch)
}

// batchSize is how many items the next call may have.
func (n *node) batchSize() int {
	if n.batcher == nil {
		return n.batch.Size
	}
	b := n.batcher.Batch()
	size := cmp.Or(max(b.Size, 0), defaultBatch)
	if b.Together > 0 {
		workers := n.gate.count()
		size = min(size, (b.Together+workers-1)/workers)
	}
	return size
}

// worker is one goroutine of a node; it owns the buffers that its calls reuse.
type worker struct {
	*node
	batch []*Item       // taken from the queue
	todo  []*Item       // of it, those that the stage has to see
	in    []*Item       // the copy of todo that the stage gets
	out   []*Item       // passed on
	made  *memory.Lease // for the pictures that the call made

	claim  claim // to the pictures that the call may look at
	leased int64 // bytes that the call has beside them

	flushing bool // of a barrier, whose decisions depend on all items
	second   bool // its items have been put aside once
}

// abandon lets go of items that the run will not finish.
func (w *worker) abandon(items []*Item) {
	for _, it := range items {
		it.release()
	}
}

// handle brings one batch to its ends: what is cached is replayed, the rest is
// leased for and processed, and what comes of both is passed on.
func (w *worker) handle(ctx context.Context, batch []*Item) error {
	w.out = w.out[:0]
	todo := batch
	if w.identity != nil && w.run.outcomes != nil {
		todo = w.todo[:0]
		for _, it := range batch {
			hit, err := w.replay(ctx, it)
			if err != nil {
				return err
			}
			if !hit {
				todo = append(todo, it)
			}
		}
		w.todo = todo
	}
	if w.run.dry != nil {
		todo = w.run.dry.skip(w, todo)
	}
	if len(todo) > 0 {
		if err := w.deliver(ctx); err != nil { // what was replayed must not wait for a lease
			w.abandon(todo)
			return err
		}
		if err := w.process(ctx, todo); err != nil {
			return err
		}
	}
	return w.deliver(ctx)
}

// deliver hands w.out to what comes next. It comes before every further wait for
// memory: what lies in w.out cannot be parked.
func (w *worker) deliver(ctx context.Context) error {
	out := w.out
	w.out = w.out[:0]
	w.counters.out.Add(int64(len(out)))
	return w.node.deliver(ctx, out)
}

func (n *node) deliver(ctx context.Context, items []*Item) error {
	switch {
	case n.parked != nil:
		for i, it := range items {
			if err := n.parked.add(ctx, it); err != nil {
				for _, it := range items[i:] {
					it.release()
				}
				return err
			}
		}
		return nil
	case n.next == nil:
		for _, it := range items {
			if err := n.run.finish(ctx, it, end{node: n, kind: endOut}); err != nil {
				return err
			}
		}
		return nil
	}
	var left int
	var err error
	n.run.rest(func() { left, err = n.next.in.put(ctx, items) })
	for _, it := range items[len(items)-left:] {
		it.release()
	}
	return err
}

// process calls the stage with a batch, under a lease, and again in parts where
// that may help: after running out of memory in two halves, after a panic item
// by item.
func (w *worker) process(ctx context.Context, batch []*Item) error {
	work, stays, err := w.lease(ctx, batch)
	if err != nil {
		return w.refused(ctx, batch, err)
	}
	began := time.Now()
	callCtx, call := w.run.large.begin(ctx, w, w.leased)
	result := w.attempt(callCtx, batch)
	preempted := call != nil && ctx.Err() == nil && result.preempted(callCtx, batch)
	w.run.large.end(call)
	w.busy.Add(int64(time.Since(began)))
	w.calls.Add(1)
	w.claim.drop()
	work.Release()
	if preempted {
		forget(batch)
		stays.Release()
		return w.process(ctx, batch)
	}
	if result.err == nil && result.panicked == nil {
		// New pictures go on with the room that was waited for.
		w.made = stays
		defer func() {
			w.made = nil
			stays.Release()
		}()
		return w.settle(ctx, batch, result.out)
	}
	forget(batch)
	stays.Release()

	switch {
	case ctx.Err() != nil:
		w.abandon(batch)
		return ctx.Err()
	case result.panicked != nil && w.stateful:
		return &StageError{Stage: w.ID, Err: fmt.Errorf("panic: %v\n%s", result.panicked, result.stack)}
	case result.panicked != nil:
		return w.isolate(ctx, batch)
	case errors.Is(result.err, memory.ErrOutOfMemory) && !w.stateful:
		return w.smaller(ctx, batch, result.err)
	}
	return &StageError{Stage: w.ID, Err: result.err}
}

// lease takes what the call needs, in one piece, and pins the pictures that it
// may look at. A call that waits for it holds nothing that cannot be taken away,
// so that calls never wait for each other. Once the call has ended, the work is
// released, and the claim dropped.
func (w *worker) lease(ctx context.Context, batch []*Item) (work, stays *memory.Lease, err error) {
	cost := w.cost(batch)
	had := int64(0) // bytes of the lease for parked pictures
	for {
		if !w.Info.Blind { // it looks at none, and they need no room
			w.claim.items(batch)
		}
		if w.run.dry != nil { // nobody looks
			w.claim.lacks, w.claim.work = 0, 0
		}
		if work != nil && w.claim.lacks <= had {
			break
		}
		// Some were parked while it waited: it needs more than it asked for.
		work.Release()
		stays.Release()
		work, stays = nil, nil

		had = w.claim.lacks
		r := memory.CallRequest{
			Work: cost.Work + w.claim.work, Stays: cost.Output + had, Beside: w.claim.has, Priority: w.priority, Holder: w.ID,
		}
		w.leased = r.Work + r.Stays
		if r.Work <= 0 && r.Stays <= 0 {
			return nil, nil, nil
		}
		var ok bool
		if work, stays, ok = w.run.host.TryAcquireCall(r); ok {
			break
		}
		waiting := w.claim.pictures
		w.claim.drop()
		done := w.run.idle.add(w.priority, waiting)
		w.run.rest(func() { work, stays, err = w.awaitRoom(ctx, r) })
		done()
		if err != nil {
			return nil, nil, err
		}
	}
	w.claim.unpark(stays)
	return work, stays, nil
}

// awaitRoom waits for a call's lease. One that comes while the run is paused goes
// back until the run goes on: its call has not begun.
func (w *worker) awaitRoom(ctx context.Context, r memory.CallRequest) (work, stays *memory.Lease, err error) {
	for {
		work, stays, err = w.run.host.AcquireCall(ctx, r)
		if err != nil || !w.run.standsStill() {
			return work, stays, err
		}
		work.Release()
		stays.Release()
		if err := w.run.mayBegin(ctx); err != nil {
			return nil, nil, err
		}
	}
}

// StageError ends a run: the stage could not go on.
type StageError struct {
	Stage string // its ID
	Err   error  // why
}

func (e *StageError) Error() string { return fmt.Sprintf("stage %s: %v", e.Stage, e.Err) }
func (e *StageError) Unwrap() error { return e.Err }
