package pipeline

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/forgepipe/forgepipe/internal/extsort"
	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/memory"
)

// A parking keeps items on disk: between two phases, and while a barrier holds
// them. It gives them back in ID order, so that the tiles of one image come
// together and its frame is decoded once. Pixels that can be cut from the source
// again are not kept; others are spilled without loss.
type parking struct {
	run    *run
	dir    fsys.Root
	prefix string
	sorter *extsort.Sorter
	n      atomic.Int64
	spills atomic.Int64
	// redos are those of the source whose items are being restored, so that the
	// pictures of one call come from one call again, and shared the pictures that
	// several of its items may be parts of: what one of them made is there for the next.
	redos  map[redoKey]*redo
	shared map[sharedKey]sharedPicture
	within int // calls whose item is being restored: what they saw is shared as well
	// stagesStay says that the items come back within the same phase, when the
	// stages before are still open and can make a picture again.
	stagesStay bool

	canvasMu sync.Mutex
	canvases []parkedCanvas // of the items, by number
}

// parkedCanvas is one that items lie in, in a file that is kept for them.
type parkedCanvas struct {
	*canvas     // nil: all have come back
	items   int // that have not
}

// sharedKey is a picture of the source's: one that a call makes again, or one that lies in
// a file.
type sharedKey struct {
	redo   *redo
	what   product
	canvas uint64 // its number, where there is no redo
	icc    string
}

type sharedPicture struct {
	*buffer        // the parking is a user of it
	busy    func() // takes it off the idle pictures
}

// share keeps the picture until the items of its source have come back.
func (p *parking) share(key sharedKey, b *buffer) {
	b.retain()
	if p.shared == nil {
		p.shared = map[sharedKey]sharedPicture{}
	}
	p.shared[key] = sharedPicture{b, p.run.idle.add(0, []*buffer{b})}
}

// parkingMemory is what one parking sorts in memory before it writes a run.
const parkingMemory = 8 << 20

func (r *run) newParking(name string) (*parking, error) {
	dir, err := r.scratch()
	if err != nil {
		return nil, err
	}
	return &parking{
		run: r, dir: dir, prefix: "parked-" + name,
		sorter: extsort.New(dir, "parked-"+name, parkingMemory),
	}, nil
}

func (p *parking) len() int64 { return p.n.Load() }

// add writes the item down and lets go of its pixels.
func (p *parking) add(ctx context.Context, it *Item) error {
	b := it.fam.encode(nil)
	b = append(b, boolByte(it.maybe))
	b, err := p.addState(ctx, b, it)
	if err != nil {
		return fmt.Errorf("parking %s: %w", it.id, err)
	}
	if err := p.sorter.Add(it.id, b); err != nil {
		return fmt.Errorf("parking %s: %w", it.id, err)
	}
	p.n.Add(1)
	it.release()
	return nil
}

// addState writes down what an item is beside its name and source.
func (p *parking) addState(ctx context.Context, b []byte, it *Item) ([]byte, error) {
	b = append(b, it.origin[:]...)
	b = appendAttributes(b, it.attrs)
	b = appendVectors(b, it.vectors)
	b = binary.AppendUvarint(b, uint64(len(it.outputs)))
	for _, o := range it.outputs {
		b = appendString(b, o)
	}
	b = appendSidecars(b, it.taken)
	g := it.grid
	b = append(b, byte(g.X), byte(g.Y), boolByte(g.Known))
	b, err := p.addPicture(ctx, b, it.pic, it.fam.file())
	if err != nil || it.pair == nil {
		return append(b, 0), err
	}
	b = binary.AppendUvarint(append(b, 1), uint64(it.pair.scale))
	return p.addPicture(ctx, b, it.pair.pic, it.fam.pair.file())
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// How a parked picture is had again.
const (
	fromSource byte = iota // it is a part of the source's
	fromSpill              // its samples are in a file
	fromStage              // a stage makes it again
	fromCanvas             // it is a part of one that lies in a file
)

// addPicture writes down how the pixels are had again, and spills those that
// cannot be had otherwise.
func (p *parking) addPicture(ctx context.Context, b []byte, pic picture, source *buffer) ([]byte, error) {
	place := func(how byte, r image.Rectangle) {
		b = append(b, how)
		for _, v := range [4]int{r.Min.X, r.Min.Y, r.Max.X, r.Max.Y} {
			b = binary.AppendVarint(b, int64(v))
		}
	}
	if pic.buf == source {
		place(fromSource, pic.rect)
		return b, nil
	}
	// In a dry run nobody ever looks.
	if m := pic.buf.promised(); m != nil && (p.stagesStay || p.run.dry != nil) {
		place(fromStage, pic.rect)
		return m.encode(ctx, p, b)
	}
	// A small part of one is written down like others, so that the large file can go.
	if c, at, icc := pic.buf.inFile(); c != nil && p.run.inFile(pixelBytes(c.model)*int64(pic.rect.Dx())*int64(pic.rect.Dy())) {
		place(fromCanvas, pic.rect.Add(at))
		b = binary.AppendUvarint(b, p.keep(c))
		return appendString(b, string(icc)), nil
	}
	f, err := pic.frame(ctx, false)
	if err != nil {
		return nil, err
	}
	file := &spill{p.dir, fmt.Sprintf("%s-%d.pixels", p.prefix, p.spills.Add(1))}
	if err := p.run.canvases.catching(func() error { return file.write(f.Image) }); err != nil {
		return nil, err
	}
	place(fromSpill, image.Rectangle{Max: pic.rect.Size()})
	b = binary.AppendUvarint(appendString(b, file.name), uint64(imageio.RawBytes(f.Image)))
	return appendString(b, string(f.ICC)), nil
}

// keep keeps the file of a picture until the parking is closed, or the items have come
// back for good. The number is the picture's.
func (p *parking) keep(c *canvas) uint64 {
	p.canvasMu.Lock()
	defer p.canvasMu.Unlock()
	n := slices.IndexFunc(p.canvases, func(o parkedCanvas) bool { return o.canvas == c })
	if n < 0 {
		c.keep()
		n = len(p.canvases)
		p.canvases = append(p.canvases, parkedCanvas{canvas: c})
	}
	p.canvases[n].items++
	return uint64(n)
}

// fromCanvas is the buffer of a picture that lies in a file, the same for all of its
// parts. From a parking between phases an item comes back once, so that the file goes with
// the last.
func (p *parking) fromCanvas(ctx context.Context, r *reader, beside []*buffer) *buffer {
	n, icc := r.uvarint(), []byte(r.string())
	if len(icc) == 0 {
		icc = nil
	}
	key := sharedKey{canvas: n, icc: string(icc)}
	b := p.shared[key].buffer
	c := p.parkedCanvas(n, r.err == nil, b == nil)
	if b != nil {
		return b
	}
	b = &buffer{bytes: c.bytes, area: int64(c.size.X) * int64(c.size.Y), room: c.resident, canvas: c, icc: icc}
	b.load = func(context.Context) (image.Image, []byte, error) {
		img, err := c.open()
		if err == nil {
			b.load = nil // it stays there
		}
		return img, icc, err
	}
	p.wait(ctx, b, beside)
	p.share(key, b)
	return b
}

// parkedCanvas is the canvas that one of its items comes back for, with a user more if
// use is set.
func (p *parking) parkedCanvas(n uint64, ok, use bool) *canvas {
	p.canvasMu.Lock()
	defer p.canvasMu.Unlock()
	if !ok || n >= uint64(len(p.canvases)) || p.canvases[n].canvas == nil {
		panic("BUG: a parked picture is not there any more")
	}
	at := &p.canvases[n]
	c := at.canvas
	if use {
		c.retain()
	}
	if at.items--; at.items == 0 && !p.stagesStay {
		c.unkeep()
		at.canvas = nil
	}
	return c
}

// items yields what was parked, in ID order, each with its pixels to be had and
// counted as its user. Sources are shared by neighbours.
func (p *parking) items(ctx context.Context) iter.Seq2[*Item, error] {
	return func(yield func(*Item, error) bool) {
		var last *family // keeps the frame while its items pass
		var idle func()
		leave := func() {
			if last != nil {
				idle()
				p.forgetShared()
				last.let()
				last = nil
			}
		}
		defer leave()
		for rec, err := range p.sorter.All() {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(nil, fmt.Errorf("reading parked items: %w", err))
				return
			}
			r := &reader{b: rec.Value}
			fam := decodeFamily(r, p.run)
			if last == nil || last.name != fam.name {
				leave() // first: there may be room for one only
				err := fam.admit(ctx)
				var over *memory.OversizeError
				if errors.As(err, &over) { // it fitted before: who looks asks again, and fails for one item
					fam.admitParked()
				} else if err != nil {
					yield(nil, err)
					return
				}
				last = fam
				last.keep()
				idle = p.run.idle.add(0, last.buffers()) // as often only its items' own pictures are looked at
			}
			it, err := p.restore(ctx, r, rec.Key, last)
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(it, nil) {
				return
			}
		}
	}
}

func (p *parking) restore(ctx context.Context, r *reader, id string, fam *family) (*Item, error) {
	it := &Item{id: id, fam: fam}
	it.maybe = r.byte() == 1
	p.restoreState(ctx, r, it)
	if r.err != nil {
		return nil, fmt.Errorf("BUG: a parked item cannot be read: %w", r.err)
	}
	it.retain()
	return it, nil
}

func (p *parking) restoreState(ctx context.Context, r *reader, it *Item) {
	copy(it.origin[:], r.take(16))
	it.attrs = r.attributes()
	it.vectors = r.vectors()
	for range r.count() {
		it.outputs = append(it.outputs, r.string())
	}
	it.taken = r.sidecars()
	it.grid = Grid{X: int(r.byte()), Y: int(r.byte()), Known: r.byte() == 1}
	it.pic = p.picture(ctx, r, it.fam, it.fam.buf, nil)
	it.weight = it.pic.weight()
	if r.byte() == 1 {
		it.pair = &pairing{scale: int(r.uvarint())}
		it.pair.pic = p.picture(ctx, r, it.fam, it.fam.pairBuffer(), it.appendBuffers(nil))
		it.weight += it.pair.pic.weight()
	}
}

func (p *parking) picture(ctx context.Context, r *reader, fam *family, source *buffer, beside []*buffer) picture {
	how := r.byte()
	var v [4]int
	for i := range v {
		v[i] = int(r.varint())
	}
	pic := picture{rect: image.Rect(v[0], v[1], v[2], v[3])}
	switch how {
	case fromSource:
		pic.buf = source
	case fromSpill:
		pic.buf = p.spilled(r)
		p.wait(ctx, pic.buf, beside)
	case fromCanvas:
		pic.buf = p.fromCanvas(ctx, r, beside)
	case fromStage:
		pic.buf = p.fromStage(ctx, r, fam, pic.rect)
	}
	if b := pic.buf; b != nil && b.area == 0 {
		b.area = int64(pic.rect.Dx()) * int64(pic.rect.Dy())
	}
	return pic
}

func (p *parking) spilled(r *reader) *buffer {
	name, bytes, icc := r.string(), int64(r.uvarint()), []byte(r.string())
	if len(icc) == 0 {
		icc = nil
	}
	file := &spill{p.dir, name}
	return &buffer{bytes: bytes, room: bytes, load: func(context.Context) (image.Image, []byte, error) {
		img, err := file.read()
		return img, icc, err
	}}
}

// wait waits until the picture has room, beside the item's other one.
func (p *parking) wait(ctx context.Context, b *buffer, beside []*buffer) {
	req := memory.Request{Kind: memory.Residency, Bytes: b.room, Holder: "parked pixels"}
	done := p.run.idle.add(0, beside)
	defer done()
	var err error
	if b.lease, err = p.run.acquire(ctx, req); err != nil {
		// It stays parked, and whoever looks at it asks again. An ended context is
		// seen by who asked.
		b.lease, _ = p.run.host.TryAcquire(memory.Request{Kind: memory.Residency, Holder: req.Holder})
		b.parked = true
		return
	}
	b.hold(b.room)
}

func (p *parking) close() {
	for _, c := range p.canvases {
		if c.canvas != nil {
			c.unkeep()
		}
	}
	_ = p.sorter.Close()
	for i := range p.spills.Load() {
		_ = p.dir.Remove(fmt.Sprintf("%s-%d.pixels", p.prefix, i+1))
	}
}
