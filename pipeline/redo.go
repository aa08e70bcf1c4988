package pipeline

import (
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"runtime/debug"
	"slices"
	"sync"
)

// The cache remembers of a new picture only that there was one, and its size.
// An item whose result is replayed gets a promise in its place, and goes on:
// often nobody looks, because its file is there already. Who does look makes
// the stage run again on what it saw the first time.

// A redo is a stage's call that can be repeated to make its pictures again.
type redo struct {
	node *node
	item *Item // as the stage saw it; it keeps the pictures it shares
	work int64 // bytes that the call takes beside them

	mu       sync.Mutex
	promised int // pictures that were neither fetched nor given up
	made     map[product]*made
	again    *call // that made them
}

// product tells the pictures of one call apart.
type product struct {
	key string // of the derivation; empty for the item itself
	lq  bool   // the companion
}

// derivation is the key under which d was derived from it; empty when d is it.
func derivation(it, d *Item) string {
	if d == it {
		return ""
	}
	return d.id[len(it.id)+1:]
}

func newRedo(n *node, it *Item) *redo {
	seen := &Item{
		id: it.id, fam: it.fam, origin: it.origin, pic: it.pic, grid: it.grid, pair: it.pair,
		attrs: slices.Clone(it.attrs), vectors: slices.Clone(it.vectors),
	}
	seen.retain()
	return &redo{node: n, item: seen, work: n.cost([]*Item{seen}).Work, promised: 1} // until settled
}

// remaking is one picture that a redo promised.
type remaking struct {
	redo *redo
	what product
	want *made
}

// promise makes b a buffer whose picture is made when it is wanted.
func (r *redo) promise(b *buffer, what product, m *made) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.promised++
	again := &remaking{redo: r, what: what, want: m}
	b.redo = again
	b.load = func(ctx context.Context) (image.Image, []byte, error) {
		img, icc, canvas, err := again.fetch(ctx)
		b.canvas = canvas
		return img, icc, err
	}
}

// fetch returns the picture, and its canvas if it lies in one, of which the caller is a
// user from then on.
func (m *remaking) fetch(ctx context.Context) (image.Image, []byte, *canvas, error) {
	r := m.redo
	if r.node.run.dry != nil {
		return nil, nil, nil, errDryRun
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.made == nil {
		if err := r.call(ctx); err != nil {
			return nil, nil, nil, fmt.Errorf("making the picture of stage %s again: %w", r.node.ID, err)
		}
	}
	got := r.made[m.what]
	if got == nil && r.again != nil { // another has fetched it: only a new call tells
		r.again.end()
		r.made, r.again = nil, nil
		if err := r.call(ctx); err != nil {
			return nil, nil, nil, fmt.Errorf("making the picture of stage %s again: %w", r.node.ID, err)
		}
		got = r.made[m.what]
	}
	if got == nil || got.size != m.want.size {
		return nil, nil, nil, fmt.Errorf("making the picture of stage %s again: it came out otherwise than the first time: start over with --fresh", r.node.ID)
	}
	delete(r.made, m.what)
	icc := r.item.pic.buf.profile()
	canvas := r.node.run.canvases.share(got.img)
	r.forget()
	return got.img, icc, canvas, nil
}

// drop gives up a picture that nobody wanted.
func (m *remaking) drop() {
	m.redo.mu.Lock()
	defer m.redo.mu.Unlock()
	delete(m.redo.made, m.what)
	m.redo.forget()
}

// settled says that all promises were made.
func (r *redo) settled() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget()
}

func (r *redo) forget() {
	if r.promised--; r.promised == 0 {
		r.item.release()
		r.made = nil
		if r.again != nil {
			r.again.end()
		}
	}
}

// call repeats the stage's call. It does not lease what that takes: who wants
// the picture is inside of a call of its own, whose lease covers it.
func (r *redo) call(ctx context.Context) (err error) {
	n, it := r.node, r.item
	c := &call{stage: n.ID}
	it.call.Store(c)
	it.next = change{}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		if err != nil {
			c.end()
		}
	}()
	if n.serial {
		n.turn.Lock()
		defer n.turn.Unlock()
	}
	if _, err := n.Stage.Process(ctx, []*Item{it}); err != nil {
		return err
	}
	if it.next.err != nil {
		return it.next.err
	}
	r.made, r.again = map[product]*made{}, c
	for _, d := range append([]*Item{it}, it.next.derived...) {
		if d.next.hq != nil {
			r.made[product{key: derivation(it, d)}] = d.next.hq
		}
		if d.next.lq != nil {
			r.made[product{key: derivation(it, d), lq: true}] = d.next.lq
		}
	}
	it.next = change{} // which would keep what nobody fetches
	return nil
}

// encode writes down how the picture is had again within this phase: the
// stage's place in the chain, and what it saw.
func (m *remaking) encode(ctx context.Context, p *parking, b []byte) ([]byte, error) {
	it := m.redo.item
	b = binary.AppendUvarint(b, uint64(m.redo.node.priority-1))
	b = appendString(b, m.what.key)
	b = append(b, boolByte(m.what.lq))
	for _, v := range [3]int64{int64(m.want.size.X), int64(m.want.size.Y), m.want.bytes} {
		b = binary.AppendUvarint(b, uint64(v))
	}
	b = appendString(b, it.id)
	return p.addState(ctx, b, it)
}

// redoKey is a call: the stage's place in the chain and the item's ID.
type redoKey struct {
	place int
	item  string
}

// forgetShared says that all items of a source were restored.
func (p *parking) forgetShared() {
	for _, b := range p.shared {
		b.busy()
		b.release()
	}
	clear(p.shared)
	for _, r := range p.redos {
		r.settled()
	}
	clear(p.redos)
}

// fromStage is the buffer of a picture that a stage makes again when somebody looks. All
// items that are parts of it share it, or each would make it for itself.
func (p *parking) fromStage(ctx context.Context, r *reader, fam *family, part image.Rectangle) *buffer {
	m := p.remaking(ctx, r, fam)
	size := m.want.size
	key := sharedKey{redo: m.redo, what: m.what}
	if b := p.shared[key].buffer; b != nil {
		return b
	}
	b := &buffer{bytes: m.want.bytes, room: p.run.residentBytes(m.want.bytes), area: int64(size.X) * int64(size.Y)}
	if r.err != nil {
		return b
	}
	p.run.reserve(b, "parked pixels")
	m.redo.promise(b, m.what, m.want)
	// One item alone has the whole picture, and lets go of it when it is through.
	if p.within > 0 || part.Size() != size {
		p.share(key, b)
	}
	return b
}

func (p *parking) remaking(ctx context.Context, r *reader, fam *family) *remaking {
	m := &remaking{want: &made{}}
	place := r.count()
	m.what = product{key: r.string(), lq: r.byte() == 1}
	m.want.size = image.Pt(int(r.uvarint()), int(r.uvarint()))
	m.want.bytes = int64(r.uvarint())
	it := &Item{id: r.string(), fam: fam}
	p.within++
	p.restoreState(ctx, r, it)
	p.within--
	if r.err != nil {
		return m
	}
	key := redoKey{place, it.id}
	if m.redo = p.redos[key]; m.redo != nil {
		it.retain() // what was restored for nothing
		it.release()
		return m
	}
	m.redo = newRedo(p.run.nodes[place], it)
	if p.redos == nil {
		p.redos = map[redoKey]*redo{}
	}
	p.redos[key] = m.redo
	return m
}
