package pipeline

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"iter"
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
	// pictures of one call come from one call again.
	redos map[redoKey]*redo
	// stagesStay says that the items come back within the same phase, when the
	// stages before are still open and can make a picture again.
	stagesStay bool

	canvasMu sync.Mutex
	canvases []*canvas // of the items, by number; nil: it has come back
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
	if err := file.write(f.Image); err != nil {
		return nil, err
	}
	place(fromSpill, image.Rectangle{Max: pic.rect.Size()})
	b = binary.AppendUvarint(appendString(b, file.name), uint64(imageio.RawBytes(f.Image)))
	return appendString(b, string(f.ICC)), nil
}

// keep keeps the file of a picture until the parking is closed, or the item has come back
// for good. The number is the picture's.
func (p *parking) keep(c *canvas) uint64 {
	c.keep()
	p.canvasMu.Lock()
	defer p.canvasMu.Unlock()
	p.canvases = append(p.canvases, c)
	return uint64(len(p.canvases) - 1)
}

// fromCanvas is the buffer of a picture that lies in a file. From a parking between phases
// an item comes back once, so that its file goes with it.
func (p *parking) fromCanvas(r *reader) *buffer {
	n, icc := r.uvarint(), []byte(r.string())
	if len(icc) == 0 {
		icc = nil
	}
	p.canvasMu.Lock()
	defer p.canvasMu.Unlock()
	if r.err != nil || n >= uint64(len(p.canvases)) || p.canvases[n] == nil {
		panic("BUG: a parked picture is not there any more")
	}
	c := p.canvases[n]
	c.retain()
	if !p.stagesStay {
		c.unkeep()
		p.canvases[n] = nil
	}
	b := &buffer{bytes: c.bytes, area: int64(c.size.X) * int64(c.size.Y), room: c.resident, canvas: c, icc: icc}
	b.load = func(context.Context) (image.Image, []byte, error) {
		img, err := c.open()
		if err == nil {
			b.load = nil // it stays there
		}
		return img, icc, err
	}
	return b
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
				p.forgetRedos()
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
		pic.buf = p.fromCanvas(r)
		p.wait(ctx, pic.buf, beside)
	case fromStage:
		m := p.remaking(ctx, r, fam)
		size := m.want.size
		pic.buf = &buffer{bytes: m.want.bytes, room: p.run.residentBytes(m.want.bytes), area: int64(size.X) * int64(size.Y)}
		if r.err == nil {
			p.run.reserve(pic.buf, "parked pixels")
			m.redo.promise(pic.buf, m.what, m.want)
		}
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
		if c != nil {
			c.unkeep()
		}
	}
	_ = p.sorter.Close()
	for i := range p.spills.Load() {
		_ = p.dir.Remove(fmt.Sprintf("%s-%d.pixels", p.prefix, i+1))
	}
}
