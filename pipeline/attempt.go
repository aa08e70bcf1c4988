package pipeline

import (
	"context"
	"errors"
	"fmt"
	"image"
	"runtime/debug"
	"sync"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

// call marks the items of one attempt, so that what a stage returns can be told
// from what it was not given.
type call struct {
	stage string
	last  bool // no later stage looks at pictures

	mu       sync.Mutex
	canvases []*canvas // that it made: see Item.NewImage
	inside   *call     // it decodes a picture for that one, which has its own meanwhile; nil: for nobody
	ended    bool
}

type outcome struct {
	out      []*Item
	err      error
	panicked any
	stack    []byte
}

// attempt calls the stage once. Nothing of what it said is taken over yet.
func (w *worker) attempt(ctx context.Context, batch []*Item) (o outcome) {
	c := &call{stage: w.ID, last: w.last}
	for _, it := range batch {
		it.call.Store(c)
		it.next = change{}
	}
	w.calling.Add(1)
	defer w.calling.Add(-1)
	defer func() {
		if p := recover(); p != nil {
			o = outcome{panicked: w.run.canvases.explainFault(p), stack: debug.Stack()}
		}
		// Nothing can be made any more, whatever the stage made of the error.
		if err := w.run.noDisk.Load(); err != nil {
			o = outcome{err: *err}
		}
	}()
	// A disk that fails under a picture that lies in a file is a panic as well, and does
	// not end the program: but for what C code does there, and for goroutines of the
	// stage's own, which have to ask for it themselves.
	defer faultsPanic()()
	// The stage may write to the slice it gets: batch is needed to check its
	// answer.
	w.in = append(w.in[:0], batch...)
	if w.serial {
		w.turn.Lock()
		defer w.turn.Unlock()
	}
	o.out, o.err = w.Stage.Process(ctx, w.in)
	return o
}

func (n *node) bug(format string, args ...any) error {
	return fmt.Errorf("BUG: stage %s %s", n.ID, fmt.Sprintf(format, args...))
}

// settle checks that every item of the batch has exactly one end, takes over
// what the stage said, records what ended here, and adds what goes on to w.out.
func (w *worker) settle(ctx context.Context, batch, returned []*Item) error {
	if len(batch) > 0 {
		if c := batch[0].call.Load(); c != nil { // nil: it was not called
			defer c.end()
		}
	}
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
	if n.err == nil {
		n.err = it.checkPictures()
	}
	if n.later != nil && n.err == nil {
		if n.parent == nil {
			return w.postpone(ctx, it)
		}
		n.err = n.later // only what came in can come in again
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
		w.remember(it)
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

// postpone puts an item aside until all others are through. One that comes back, and
// those of a stage that is never called twice with an item, fail.
func (w *worker) postpone(ctx context.Context, it *Item) error {
	n := &it.next
	if w.second || w.stateful {
		it.next = change{err: n.later}
		return w.run.finish(ctx, it, end{node: w.node, kind: endFailed})
	}
	w.run.event(EventPostponed, w.ID, it.id, n.later.Error())
	it.next = change{}
	w.latersMu.Lock()
	defer w.latersMu.Unlock()
	if w.laters == nil {
		var err error
		if w.laters, err = w.run.newParking("later-" + w.ID); err != nil {
			return err
		}
		w.laters.stagesStay = true
	}
	return w.laters.add(ctx, it)
}

// laterPause is how long items that are seen again wait after all others.
const laterPause = 3 * time.Second

// finishLaters gives the stage the items once more that it wanted to see later.
func (n *node) finishLaters(ctx context.Context) error {
	if n.laters == nil {
		return nil
	}
	// Those who have the memory get a moment more.
	select {
	case <-time.After(laterPause):
	case <-n.run.drain:
	case <-ctx.Done():
		return ctx.Err()
	}
	n.run.working.Add(1)
	defer n.run.working.Add(-1)
	w := worker{node: n, second: true}
	for it, err := range n.laters.items(ctx) {
		if err == nil {
			err = n.run.mayPass(ctx, it)
		}
		if err != nil {
			return err
		}
		if n.run.draining() {
			it.release()
			return nil
		}
		// One by one: there may be room for one picture only.
		if err := w.handle(ctx, append(w.batch[:0], it)); err != nil {
			return err
		}
	}
	return nil
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
	if n.hq != nil || n.lq != nil {
		w.replacePictures(it)
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
	if len(n.taken) > 0 {
		it.taken = append(it.taken, n.taken...)
	}
}

// checkPictures says what is wrong with the pictures that the attempt set.
func (it *Item) checkPictures() error {
	n := &it.next
	scale := n.scale
	switch {
	case n.lq == nil && it.pair != nil && n.hq != nil && n.hq.size != it.pic.rect.Size():
		return errors.New("a pair's picture cannot get another size without its companion")
	case n.lq == nil:
		return nil
	case scale == 0 && it.pair == nil:
		return errors.New("the item has no low-quality companion that could be replaced")
	case scale == 0:
		scale = it.pair.scale
	case it.pair != nil:
		return errors.New("the item has a low-quality companion already")
	}
	if hq, lq := it.Size(), n.lq.size; scale < 1 || lq.Mul(scale) != hq {
		return fmt.Errorf("the pair does not fit: %d x %d is not %d times %d x %d", hq.X, hq.Y, scale, lq.X, lq.Y)
	}
	return nil
}

// replacePictures gives the item buffers of its own for what is new.
func (w *worker) replacePictures(it *Item) {
	n := &it.next
	from := it
	if n.parent != nil {
		from = n.parent
	}
	// What the pictures are is known by what they were made from.
	key, known := w.resultKey(from)
	known = known && !w.flushing
	if from.next.known && from.next.redo == nil {
		from.next.redo = newRedo(w.node, from)
	}
	redo := from.next.redo
	old := it.pic.buf
	var icc []byte
	if from.pic.buf != nil {
		icc = from.pic.buf.profile()
	}
	if n.hq != nil {
		if it.pic.rect.Size() != n.hq.size || n.parent != nil {
			it.grid = Grid{}
		}
		it.pic = w.newPicture(n.hq, icc, redo, product{key: derivation(from, it)})
		it.attrs, it.vectors = nil, nil
		if old != nil {
			defer old.release()
		}
	}
	if n.lq != nil {
		scale := n.scale
		if it.pair != nil {
			scale = it.pair.scale
			defer it.pair.pic.buf.release()
		}
		it.pair = &pairing{pic: w.newPicture(n.lq, icc, redo, product{key: derivation(from, it), lq: true}), scale: scale}
	}
	it.origin = origin{}
	if known {
		it.origin = sum([]byte("pixels"), key[:], []byte(it.Lineage()))
	}
	it.weight = it.pic.weight()
	if it.pair != nil {
		it.weight += it.pair.pic.weight()
	}
}

// newPicture puts a picture that a stage made, or is going to make again, into
// a buffer that the caller uses.
func (w *worker) newPicture(m *made, icc []byte, redo *redo, what product) picture {
	b := &buffer{icc: icc, bytes: m.bytes, area: int64(m.size.X) * int64(m.size.Y), room: w.run.residentBytes(m.bytes)}
	if m.img == nil {
		w.run.reserve(b, w.ID)
		redo.promise(b, what, m)
	} else {
		b.canvas = w.run.canvases.share(m.img)
		b.show(m.img)
		if w.made != nil {
			b.lease = w.made.Split(b.occupies(m.img))
		} else {
			b.lease, _ = w.run.host.TryAcquire(memory.Request{Kind: memory.Residency, Holder: w.ID})
		}
		// The bytes are there already: say so, also where that passes the limit.
		b.resize(b.occupies(m.img))
		if w.run.opts.Check {
			b.sum = pixelSum(m.img)
		}
	}
	b.retain()
	return picture{buf: b, rect: image.Rectangle{Max: m.size}}
}

// reserve takes room for a picture that somebody may want to see, if there is
// some now. Often nobody will, so it is not waited for: a picture without room
// counts as parked.
func (r *run) reserve(b *buffer, holder string) {
	req := memory.Request{Kind: memory.Residency, Bytes: b.room, Holder: holder}
	var ok bool
	if b.lease, ok = r.host.TryAcquire(req); ok {
		b.hold(b.room)
		return
	}
	req.Bytes = 0
	b.lease, _ = r.host.TryAcquire(req)
	b.parked = true
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
	if n.barrier == nil || n.run.draining() || !n.run.listed.Load() {
		return nil
	}
	w := worker{node: n, flushing: true}
	switch d := n.run.dry; {
	case d == nil:
	case n.writer || n.identity == nil: // has held nothing
		return nil
	case n.unsure.Load():
		return d.pass(ctx, &w)
	}
	var c, emitting *call // the pass that is going on, and the one that emits
	var last *Item        // emitted
	var emitted int64
	drained := false // what is left stays for the next run
	items := func(yield func(*Item, error) bool) {
		pass := &call{stage: n.ID}
		defer pass.end()
		for it, err := range n.held.items(ctx) {
			if err == nil {
				err = n.run.mayPass(ctx, it)
			}
			if err == nil && n.run.draining() {
				it.release()
				drained = true
				err = errDraining
			}
			if err != nil {
				yield(nil, err)
				return
			}
			c = pass
			it.call.Store(c)
			it.next = change{}
			more := yield(it, nil)
			if it != last { // which is somebody else's by now
				it.call.Store(nil)
				it.release()
			}
			pass.letGo()
			if !more {
				return
			}
		}
	}
	emit := func(it *Item) error {
		switch {
		case it == nil || it == last || c == nil || it.call.Load() != c || emitting != nil && emitting != c:
			return n.bug("emits an item that it does not hold, twice, or in a second pass")
		case it.next.held || it.next.derived != nil:
			return n.bug("holds or derives from %s in Flush", it.id)
		}
		emitting, last = c, it
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
	err := n.callFlush(ctx, items, emit)
	switch d := n.run.dry; {
	case drained:
		return nil
	case d != nil && emitted == 0 && errors.Is(err, ErrUndecided):
		return d.pass(ctx, &w)
	case err != nil:
		return err
	}
	if want := n.held.len(); emitted != want {
		return n.bug("held %d items and emitted %d", want, emitted)
	}
	return nil
}

func (n *node) callFlush(ctx context.Context, items HeldItems, emit func(*Item) error) (err error) {
	n.run.working.Add(1)
	defer n.run.working.Add(-1)
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
