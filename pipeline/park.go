package pipeline

import (
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"io"
	"iter"
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
	b = append(b, it.origin[:]...)
	b = appendAttributes(b, it.attrs)
	b = appendVectors(b, it.vectors)
	b = binary.AppendUvarint(b, uint64(len(it.outputs)))
	for _, o := range it.outputs {
		b = appendString(b, o)
	}
	g := it.grid
	b = append(b, byte(g.X), byte(g.Y), boolByte(g.Known))
	b, err := p.addPicture(ctx, b, it.pic, it.fam.buf)
	if err != nil {
		return fmt.Errorf("parking %s: %w", it.id, err)
	}
	if it.pair == nil {
		b = append(b, 0)
	} else {
		b = append(b, 1)
		b = binary.AppendUvarint(b, uint64(it.pair.scale))
		if b, err = p.addPicture(ctx, b, it.pair.pic, it.fam.pairBuffer()); err != nil {
			return fmt.Errorf("parking %s: %w", it.id, err)
		}
	}
	if err := p.sorter.Add(it.id, b); err != nil {
		return fmt.Errorf("parking %s: %w", it.id, err)
	}
	p.n.Add(1)
	it.release()
	return nil
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// addPicture writes where the pixels can be had: from the source's buffer, or
// from a file that holds them.
func (p *parking) addPicture(ctx context.Context, b []byte, pic picture, source *buffer) ([]byte, error) {
	place := func(r image.Rectangle, file string, bytes int64) []byte {
		for _, v := range [4]int{r.Min.X, r.Min.Y, r.Max.X, r.Max.Y} {
			b = binary.AppendVarint(b, int64(v))
		}
		return binary.AppendUvarint(appendString(b, file), uint64(bytes))
	}
	if pic.buf == source && source.load != nil {
		return place(pic.rect, "", 0), nil
	}
	f, err := pic.frame(ctx, false)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%s-%d.pixels", p.prefix, p.spills.Add(1))
	file, err := p.dir.Create(name)
	if err != nil {
		return nil, err
	}
	err = imageio.WriteRaw(file, f.Image)
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	return place(image.Rectangle{Max: pic.rect.Size()}, name, imageio.Bytes(f.Image)), nil
}

// items yields what was parked, in ID order, each with its pixels to be had and
// counted as its user. Sources are shared by neighbours.
func (p *parking) items(ctx context.Context) iter.Seq2[*Item, error] {
	return func(yield func(*Item, error) bool) {
		var last *family // keeps the frame while its items pass
		defer func() {
			if last != nil {
				last.let()
			}
		}()
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
				if last != nil {
					last.let() // first: there may be room for one only
					last = nil
				}
				if err := fam.admit(ctx); err != nil {
					yield(nil, err)
					return
				}
				last = fam
				last.keep()
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
	copy(it.origin[:], r.take(16))
	it.attrs = r.attributes()
	it.vectors = r.vectors()
	for range r.count() {
		it.outputs = append(it.outputs, r.string())
	}
	it.grid = Grid{X: int(r.byte()), Y: int(r.byte()), Known: r.byte() == 1}
	it.pic = p.picture(ctx, r, fam.buf)
	if r.byte() == 1 {
		it.pair = &pairing{scale: int(r.uvarint())}
		it.pair.pic = p.picture(ctx, r, fam.pairBuffer())
	}
	if r.err != nil {
		return nil, fmt.Errorf("BUG: a parked item cannot be read: %w", r.err)
	}
	it.weight = it.pic.weight()
	it.retain()
	return it, nil
}

func (p *parking) picture(ctx context.Context, r *reader, source *buffer) picture {
	var v [4]int
	for i := range v {
		v[i] = int(r.varint())
	}
	pic := picture{rect: image.Rect(v[0], v[1], v[2], v[3]), buf: source}
	name, bytes := r.string(), int64(r.uvarint())
	if name == "" {
		return pic
	}
	b := &buffer{bytes: bytes, area: int64(pic.rect.Dx()) * int64(pic.rect.Dy()), room: bytes}
	b.load = func(context.Context) (image.Image, error) {
		f, err := p.dir.Open(name)
		if err != nil {
			return nil, fmt.Errorf("reading spilled pixels: %w", err)
		}
		defer f.Close()
		img, err := imageio.ReadRaw(io.Reader(f))
		if err != nil {
			return nil, fmt.Errorf("reading spilled pixels: %w", err)
		}
		return img, nil
	}
	req := memory.Request{Kind: memory.Residency, Bytes: bytes, Holder: "spilled pixels"}
	var err error
	if b.lease, err = p.run.host.Acquire(ctx, req); err != nil {
		// It fitted when it was made; if it does not now, it is had beyond the
		// limit rather than not at all. An ended context is seen by who asked.
		b.lease, _ = p.run.host.TryAcquire(memory.Request{Kind: memory.Residency, Holder: req.Holder})
		b.parked = true
	}
	pic.buf = b
	return pic
}

func (p *parking) close() {
	_ = p.sorter.Close()
	for i := range p.spills.Load() {
		_ = p.dir.Remove(fmt.Sprintf("%s-%d.pixels", p.prefix, i+1))
	}
}
