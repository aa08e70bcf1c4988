package pipeline

import (
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

	workers   int
	batch     BatchSpec
	barrier   Barrier
	coster    Coster
	writer    bool
	stateful  bool
	serial    bool
	turn      sync.Mutex   // of the calls of a serial stage
	identity  []byte       // stage, version and configuration, when its results may be cached
	needs     []string     // attributes that its results depend on
	uses      []string     // likewise, where an item has them
	held      *parking     // of a barrier
	unsure    atomic.Bool  // in a dry run: some items' results are not known here
	parked    *parking     // where its output waits for the next phase; nil within a phase
	active    atomic.Int32 // workers that still run
	calling   atomic.Int32 // of them, those inside the stage
	priority  int          // position in the chain: downstream is served first
	onErrStop bool
	opened    bool
	first     bool // of its phase
}

func newNode(r *run, s *Step, position int) *node {
	n := &node{Step: s, run: r, priority: position, workers: s.Workers}
	n.barrier, _ = s.Stage.(Barrier)
	n.coster, _ = s.Stage.(Coster)
	_, n.writer = s.Stage.(Writer)
	_, n.stateful = s.Stage.(Stateful)
	n.stateful = n.stateful || n.barrier != nil
	if b, ok := s.Stage.(Batcher); ok {
		n.batch = b.Batch()
	}
	if s.Batch > 0 {
		n.batch.Size = s.Batch
	}
	if n.batch.Size <= 0 {
		n.batch.Size = defaultBatch
	}
	if n.workers <= 0 {
		n.workers = runtime.GOMAXPROCS(0)
	}
	if _, n.serial = s.Stage.(Serial); n.serial {
		n.workers = 1
	}
	// A stage that was made without a configuration cannot be told from another
	// one of its name.
	configured := s.Config.info.Name != "" || len(s.Info.Fields) == 0
	_, remembers := s.Stage.(Stateful)
	if s.Info.Pure && configured && !remembers && (s.Info.PureIf == nil || s.Info.PureIf(s.Config)) {
		n.needs, n.uses = s.Info.needs(s.Config), s.Info.uses(s.Config)
		n.identity = fmt.Appendf(nil, "%s\x00%d\x00%s", s.Info.Name, s.Info.Version, s.Config.key(func(f Field) bool { return !f.Cosmetic && !f.Flush }))
	}
	n.onErrStop = s.OnError == Stop || s.OnError == "" && r.pipe.OnError == Stop
	return n
}

// cost asks the stage what a call with this batch takes; nothing when it does
// not say.
func (n *node) cost(batch []*Item) Cost {
	if n.coster == nil {
		return Cost{}
	}
	d := n.Device
	if d == "" {
		d = Host
	}
	return n.coster.Cost(d, batch)
}

// start adds the node's workers to the pool. The last one to run out of input
// flushes a barrier and closes the next queue.
func (n *node) start(p *pool.ContextPool) {
	n.active.Store(int32(n.workers))
	for range n.workers {
		p.Go(func(ctx context.Context) error {
			if err := n.work(ctx); err != nil {
				return err
			}
			if n.active.Add(-1) > 0 {
				return nil
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
	w := worker{node: n}
	for {
		batch, err := n.in.take(ctx, w.batch[:0], n.batch.Size, n.batch.Bytes, n.batch.Linger)
		w.batch = batch
		if err != nil {
			w.abandon(batch)
			return err
		}
		if len(batch) == 0 {
			return nil
		}
		if n.first && n.run.draining() {
			w.abandon(batch) // waiting, but not begun
			continue
		}
		n.counters.in.Add(int64(len(batch)))
		if err := w.handle(ctx, batch); err != nil {
			return err
		}
	}
}

// worker is one goroutine of a node; it owns the buffers that its calls reuse.
type worker struct {
	*node
	batch []*Item       // taken from the queue
	todo  []*Item       // of it, those that the stage has to see
	in    []*Item       // the copy of todo that the stage gets
	out   []*Item       // passed on
	made  *memory.Lease // for the pictures that the call made

	flushing bool // of a barrier, whose decisions depend on all items
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
		if err := w.process(ctx, todo); err != nil {
			return err
		}
	}
	return w.deliver(ctx)
}

// deliver hands w.out to what comes next.
func (w *worker) deliver(ctx context.Context) error {
	w.counters.out.Add(int64(len(w.out)))
	return w.node.deliver(ctx, w.out)
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
	left, err := n.next.in.put(ctx, items)
	for _, it := range items[len(items)-left:] {
		it.release()
	}
	return err
}

// process calls the stage with a batch, under a lease, and again in parts where
// that may help: after running out of memory in two halves, after a panic item
// by item.
func (w *worker) process(ctx context.Context, batch []*Item) error {
	leases, err := w.lease(ctx, batch)
	if err != nil {
		return w.refused(ctx, batch, err)
	}
	began := time.Now()
	result := w.attempt(ctx, batch)
	w.busy.Add(int64(time.Since(began)))
	w.calls.Add(1)
	leases.work.Release()
	if result.err == nil && result.panicked == nil {
		// New pictures go on with the room that was waited for.
		w.made = leases.output
		defer func() {
			w.made = nil
			leases.output.Release()
		}()
		return w.settle(ctx, batch, result.out)
	}
	leases.output.Release()

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

// isolate repeats a batch that panicked item by item; who panics again fails.
func (w *worker) isolate(ctx context.Context, batch []*Item) error {
	w.run.event(EventRepeated, w.ID, "", fmt.Sprintf("a batch of %d panicked and is repeated item by item", len(batch)))
	for i := range batch {
		one := batch[i : i+1 : i+1]
		result := w.attempt(ctx, one)
		w.calls.Add(1)
		var err error
		switch {
		case result.panicked != nil:
			one[0].next.err = fmt.Errorf("stage %s panicked: %v", w.ID, result.panicked)
			one[0].next.stack = result.stack
			err = w.settle(ctx, one, nil)
		case result.err == nil:
			err = w.settle(ctx, one, result.out)
		case errors.Is(result.err, memory.ErrOutOfMemory):
			err = w.smaller(ctx, one, result.err)
		default:
			err = &StageError{Stage: w.ID, Err: result.err}
		}
		if err != nil {
			w.abandon(batch[i+1:])
			return err
		}
	}
	return nil
}

// smaller answers an out-of-memory: half the batch at a time, and a single item
// after a pause and a clean-up, three times before it fails.
func (w *worker) smaller(ctx context.Context, batch []*Item, cause error) error {
	if len(batch) > 1 {
		w.run.event(EventRepeated, w.ID, "", fmt.Sprintf("a batch of %d ran out of memory and is repeated in two halves: %v", len(batch), cause))
		half := len(batch) / 2
		first, second := batch[:half:half], batch[half:]
		if err := w.process(ctx, first); err != nil {
			w.abandon(second)
			return err
		}
		return w.process(ctx, second)
	}
	for pause := 50 * time.Millisecond; pause <= 200*time.Millisecond; pause *= 2 {
		runtime.GC()
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			w.abandon(batch)
			return ctx.Err()
		}
		result := w.attempt(ctx, batch)
		w.calls.Add(1)
		switch {
		case result.panicked != nil:
			return w.isolate(ctx, batch)
		case result.err == nil:
			return w.settle(ctx, batch, result.out)
		case !errors.Is(result.err, memory.ErrOutOfMemory):
			return &StageError{Stage: w.ID, Err: result.err}
		}
		cause = result.err
	}
	batch[0].next = change{err: fmt.Errorf("even alone, the item does not fit: %w", cause)}
	return w.settle(ctx, batch, nil)
}

// callLeases is what one call holds.
type callLeases struct{ work, output *memory.Lease }

// lease takes what the call needs beside its items' pixels.
func (w *worker) lease(ctx context.Context, batch []*Item) (l callLeases, err error) {
	if w.coster == nil {
		return l, nil
	}
	c := w.cost(batch)
	// New pixels stay, so they wait for others to leave first; work waits only
	// for calls to end, which they do.
	l.output, err = w.run.host.Acquire(ctx, memory.Request{Kind: memory.Residency, Bytes: c.Output, Priority: w.priority, Holder: w.ID})
	if err != nil {
		return callLeases{}, err
	}
	l.work, err = w.run.host.Acquire(ctx, memory.Request{Kind: memory.Work, Bytes: c.Work, Priority: w.priority, Holder: w.ID})
	if err != nil {
		l.output.Release()
		return callLeases{}, err
	}
	return l, nil
}

// refused answers a lease that cannot be had: a batch is halved, one item
// fails with what it needs and what there is.
func (w *worker) refused(ctx context.Context, batch []*Item, err error) error {
	var over *memory.OversizeError
	if !errors.As(err, &over) {
		w.abandon(batch)
		return err
	}
	if len(batch) > 1 && !w.stateful {
		half := len(batch) / 2
		if err := w.process(ctx, batch[:half:half]); err != nil {
			w.abandon(batch[half:])
			return err
		}
		return w.process(ctx, batch[half:])
	}
	for _, it := range batch {
		it.next = change{err: over}
	}
	return w.settle(ctx, batch, nil)
}

// StageError ends a run: the stage could not go on.
type StageError struct {
	Stage string
	Err   error
}

func (e *StageError) Error() string { return fmt.Sprintf("stage %s: %v", e.Stage, e.Err) }
func (e *StageError) Unwrap() error { return e.Err }
