package pipeline

import (
	"context"
	"errors"
	"fmt"
	"image"
	"runtime/debug"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/memory"
)

// call marks the items of one attempt, so that what a stage returns can be told
// from what it was not given.
type call struct{ stage string }

type outcome struct {
	out      []*Item
	err      error
	panicked any
	stack    []byte
}

// attempt calls the stage once. Nothing of what it said is taken over yet.
func (w *worker) attempt(ctx context.Context, batch []*Item) (o outcome) {
	c := &call{stage: w.ID}
	for _, it := range batch {
		it.call.Store(c)
		it.next = change{}
	}
	w.calling.Add(1)
	defer w.calling.Add(-1)
	defer func() {
		if p := recover(); p != nil {
			o = outcome{panicked: p, stack: debug.Stack()}
		}
	}()
	// The stage may write to the slice it gets: batch is needed to check its
	// answer.
	w.in = append(w.in[:0], batch...)
	o.out, o.err = w.Stage.Process(ctx, w.in)
	return o
}

func (n *node) bug(format string, args ...any) error {
	return fmt.Errorf("BUG: stage %s %s", n.ID, fmt.Sprintf(format, args...))
}

// settle checks that every item of the batch has exactly one end, takes over
// what the stage said, records what ended here, and adds what goes on to w.out.
func (w *worker) settle(ctx context.Context, batch, returned []*Item) error {
	if w.run.opts.Check {
		if err := w.checkPixels(batch); err != nil {
			return err
		}
	}
	if len(batch) == 0 {
		return nil
	}
	c := batch[0].call.Load()
	for _, it := range returned {
		switch {
		case it == nil:
			return w.bug("returned a nil item")
		case it.call.Load() != c:
			return w.bug("returned %s, which is not of this batch: items must not be kept between calls (see Item.Hold)", it.id)
		case it.next.returned:
			return w.bug("returned %s twice", it.id)
		}
		it.next.returned = true
	}
	for _, it := range batch {
		if err := w.account(ctx, it); err != nil {
			return err
		}
	}
	return nil
}

// account gives one item its end.
func (w *worker) account(ctx context.Context, it *Item) error {
	n := &it.next
	if errors.Is(n.err, errDryRun) {
		it.next = change{}
		it.maybe = true
		w.out = append(w.out, it)
		return nil
	}
	if n.img != nil && it.pair != nil && n.img.Bounds().Size() != it.pic.rect.Size() {
		n.err = errors.New("a pair's picture cannot get another size without its companion")
	}
	if n.err != nil && n.parent == nil {
		// A failed item takes what was derived from it along: half a result is
		// none.
		return w.run.finish(ctx, it, end{node: w.node, kind: endFailed})
	}
	derived := n.derived
	if err := w.accountDerived(ctx, it, derived); err != nil {
		return err
	}
	switch {
	case n.held:
		if w.held == nil {
			return w.bug("holds %s, but it is no barrier", it.id)
		}
		w.commit(it)
		return w.held.add(ctx, it)
	case n.err != nil:
		return w.run.finish(ctx, it, end{node: w.node, kind: endFailed})
	case n.rejected:
		w.remember(it)
		w.commit(it)
		return w.run.finish(ctx, it, end{node: w.node, kind: endRejected})
	case n.returned:
		w.remember(it)
		w.commit(it)
		w.out = append(w.out, it)
		return nil
	case len(derived) > 0:
		w.remember(it)
		w.consumed.Add(1)
		return w.run.finish(ctx, it, end{node: w.node, kind: endConsumed})
	}
	return w.bug("lost %s: it was neither returned nor derived from, rejected or failed", it.id)
}

func (w *worker) accountDerived(ctx context.Context, it *Item, derived []*Item) error {
	if len(derived) == 0 {
		return nil
	}
	w.derived.Add(int64(len(derived)))
	if err := w.checkKeys(it, derived); err != nil {
		return err
	}
	for _, d := range derived {
		d.retain()
		if !d.next.returned && !d.next.terminal() && len(d.next.derived) == 0 {
			return w.bug("derived %s and neither returned nor rejected nor failed it", d.id)
		}
		if err := w.account(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) checkKeys(it *Item, derived []*Item) error {
	if len(derived) < 2 {
		return nil
	}
	seen := make(map[string]bool, len(derived))
	for _, d := range derived {
		if seen[d.id] {
			return w.bug("derived %s twice from %s: keys must be unique", d.id, it.id)
		}
		seen[d.id] = true
	}
	return nil
}

// commit takes over what the attempt said about the item.
func (w *worker) commit(it *Item) {
	n := &it.next
	if n.img != nil {
		w.replacePixels(it)
	}
	if len(n.attrs) > 0 {
		it.attrs = mergeAttributes(it.attrs, n.attrs)
	}
	if len(n.vectors) > 0 {
		it.vectors = mergeVectors(it.vectors, n.vectors)
	}
	if len(n.outputs) > 0 {
		it.outputs = append(it.outputs, n.outputs...)
	}
}

// replacePixels gives the item a buffer of its own.
func (w *worker) replacePixels(it *Item) {
	img := it.next.img
	old := it.pic
	b := &buffer{img: img, bytes: imageio.Bytes(img)}
	if w.run.opts.Check {
		b.sum = pixelSum(img)
	}
	b.retain()
	// The bytes are there already: say so, also where that passes the limit.
	b.lease, _ = w.run.host.TryAcquire(memory.Request{Kind: memory.Residency, Holder: w.ID})
	b.lease.Resize(b.bytes)
	size := img.Bounds().Size()
	if old.rect.Size() != size || it.next.parent != nil {
		it.grid = Grid{}
	}
	from := it
	if p := it.next.parent; p != nil {
		from = p
	}
	key, ok := w.resultKey(from)
	it.origin = origin{}
	if ok {
		it.origin = sum([]byte("pixels"), key[:], []byte(it.Lineage()))
	}
	it.pic = picture{buf: b, rect: image.Rectangle{Max: size}}
	it.weight = b.bytes
	it.attrs, it.vectors = nil, nil
	if old.buf != nil {
		old.buf.release()
	}
}

func (w *worker) checkPixels(batch []*Item) error {
	var last *buffer
	for _, it := range batch {
		if b := it.pic.buf; b != last {
			last = b
			if !b.intact() {
				return w.bug("changed the pixels of %s in place: they are shared; copy them and call SetImage", it.id)
			}
		}
	}
	return nil
}

// flush lets a barrier emit what it held.
func (n *node) flush(ctx context.Context) error {
	if n.barrier == nil || n.run.draining() || n.run.dry != nil || !n.run.listed.Load() {
		return nil
	}
	w := worker{node: n}
	c := &call{stage: n.ID}
	var held, emitted int64
	items := func(yield func(*Item, error) bool) {
		for it, err := range n.held.items(ctx) {
			if err != nil {
				yield(nil, err)
				return
			}
			it.call.Store(c)
			it.next = change{}
			held++
			if !yield(it, nil) {
				return
			}
		}
	}
	emit := func(it *Item) error {
		switch {
		case it == nil || it.call.Load() != c || it.next.returned:
			return n.bug("emits an item that it did not hold, or emits it twice")
		case it.next.held || it.next.derived != nil:
			return n.bug("holds or derives from %s in Flush", it.id)
		}
		it.next.returned = true
		emitted++
		w.out = w.out[:0]
		if err := w.account(ctx, it); err != nil {
			return err
		}
		for _, it := range w.out {
			it.call.Store(nil)
		}
		return w.deliver(ctx)
	}
	if err := n.callFlush(ctx, items, emit); err != nil {
		return err
	}
	if want := n.held.len(); emitted != want {
		return n.bug("held %d items and emitted %d", want, emitted)
	}
	return nil
}

func (n *node) callFlush(ctx context.Context, items HeldItems, emit func(*Item) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &StageError{Stage: n.ID, Err: fmt.Errorf("panic in Flush: %v\n%s", p, debug.Stack())}
		}
	}()
	if err := n.barrier.Flush(ctx, items, emit); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return &StageError{Stage: n.ID, Err: err}
	}
	return nil
}
