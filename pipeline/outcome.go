package pipeline

import (
	"context"
	"encoding/binary"
	"errors"
	"image"
	"math"
	"slices"
	"strconv"
)

// What a pure stage made of an item is a function of the item's pixels, the
// attributes it needs and its configuration. It is remembered under a key made
// of those, and an item whose key is known gets its result without the stage
// being called and without being decoded.

// outcomeVersion is raised when the layout below changes: old records are then
// not found.
const outcomeVersion = 4

const (
	outcomePassed byte = 1 << iota
	outcomeRejected
	outcomeHeld
	outcomePicture   // the picture was replaced, or made by FromImage
	outcomeCompanion // so was the companion
)

// resultKey identifies what the stage makes of an item; false when that cannot
// be known in advance.
func (n *node) resultKey(it *Item) (key [16]byte, ok bool) {
	if n.identity == nil || !it.origin.known() {
		return key, false
	}
	var b []byte
	for _, name := range n.needs {
		if v, ok := it.settled(name, it.pic.rect.Size()); ok {
			b = appendValue(b, v)
			continue
		}
		i := slices.IndexFunc(it.vectors, func(v Vector) bool { return v.Name == name })
		if i < 0 {
			return key, false
		}
		b = appendVectors(b, it.vectors[i:i+1])
	}
	for _, name := range n.uses {
		v, _ := it.settled(name, it.pic.rect.Size())
		b = appendValue(b, v)
	}
	return sum([]byte("outcome"+strconv.Itoa(outcomeVersion)), n.identity, it.origin[:], b), true
}

// replay gives the item the result that is remembered for it, and reports
// whether there was one.
func (w *worker) replay(ctx context.Context, it *Item) (bool, error) {
	if it.maybe {
		return false, nil
	}
	key, ok := w.resultKey(it)
	if !ok {
		return false, nil
	}
	record, ok, err := w.run.outcomes.Get(key)
	if err != nil {
		w.run.warnOnce("attributes", "cached results are not used: %v", err)
	}
	if err != nil || !ok {
		return false, nil
	}
	it.call.Store(&call{stage: w.ID})
	it.next = change{}
	if !decodeOutcome(it, record) {
		it.next = change{} // a damaged record: compute it again
		return false, nil
	}
	if !it.next.within(w.run.pipe.Limits.MaxPixels) {
		it.next = change{} // the limit was lowered: processing says so
		return false, nil
	}
	it.next.known = true
	w.cached.Add(1)
	err = w.account(ctx, it)
	if r := it.next.redo; r != nil {
		r.settled()
	}
	return true, err
}

// within reports whether the pictures of a replayed result keep the limit.
func (c *change) within(pixels int64) bool {
	for _, m := range [2]*made{c.hq, c.lq} {
		if m != nil && int64(m.size.X)*int64(m.size.Y) > pixels {
			return false
		}
	}
	for _, d := range c.derived {
		if !d.next.within(pixels) {
			return false
		}
	}
	return true
}

// remember stores what the stage made of the item, unless that is a failure. Of
// new pictures it stores that they were made.
func (w *worker) remember(it *Item) {
	if w.stateful && (it.next.hq != nil || it.next.lq != nil) {
		return // its call cannot be repeated to make them again
	}
	if it.next.known || w.flushing || w.identity == nil || w.run.outcomes == nil || it.next.parent != nil {
		return
	}
	key, ok := w.resultKey(it)
	if !ok {
		return
	}
	record, ok := encodeOutcome(it)
	if !ok {
		return
	}
	if err := w.run.outcomes.Put(key, record); err != nil {
		w.run.warnOnce("attributes", "results are not cached: %v", err)
	}
}

func encodeOutcome(it *Item) ([]byte, bool) {
	b, ok := appendOutcome(nil, it)
	if !ok {
		return nil, false
	}
	b = binary.AppendUvarint(b, uint64(len(it.next.derived)))
	for _, d := range it.next.derived {
		if len(d.next.derived) > 0 {
			return nil, false
		}
		key, err := UnescapeID(d.id[len(it.id)+1:])
		if err != nil {
			return nil, false
		}
		b = appendString(b, key)
		// A picture of its own has no place in the parent.
		b = append(b, boolByte(d.next.crop != nil))
		if c := d.next.crop; c != nil {
			for _, v := range [4]int{c.Min.X, c.Min.Y, c.Dx(), c.Dy()} {
				b = binary.AppendUvarint(b, uint64(v))
			}
		}
		if b, ok = appendOutcome(b, d); !ok {
			return nil, false
		}
	}
	return b, true
}

func appendOutcome(b []byte, it *Item) ([]byte, bool) {
	n := &it.next
	if n.err != nil || len(n.outputs)+len(n.taken) > 0 {
		return nil, false
	}
	var flags byte
	for _, f := range []struct {
		set  bool
		flag byte
	}{{n.returned, outcomePassed}, {n.rejected, outcomeRejected}, {n.held, outcomeHeld}, {n.hq != nil, outcomePicture}, {n.lq != nil, outcomeCompanion}} {
		if f.set {
			flags |= f.flag
		}
	}
	b = append(b, flags)
	for _, m := range [2]*made{n.hq, n.lq} {
		if m != nil {
			for _, v := range [3]int64{int64(m.size.X), int64(m.size.Y), m.bytes} {
				b = binary.AppendUvarint(b, uint64(v))
			}
		}
	}
	b = binary.AppendUvarint(b, uint64(n.scale))
	b = appendAttributes(b, n.attrs)
	b = appendVectors(b, n.vectors)
	b = appendString(b, n.reason)
	return appendAttributes(b, n.values), true
}

// decodeOutcome fills it.next from a record.
func decodeOutcome(it *Item, record []byte) bool {
	r := reader{b: record}
	readOutcome(&r, it)
	for range r.count() {
		if d := replayDerive(it, &r); r.err != nil || d.next.err != nil {
			return false
		}
	}
	return r.err == nil && len(r.b) == 0
}

// replayDerive makes again what Derive made, as a crop or from a picture.
func replayDerive(it *Item, r *reader) *Item {
	key := r.string()
	if r.byte() == 0 {
		d := it.derive(key)
		readOutcome(r, d)
		if d.next.hq == nil {
			d.next.err = errors.New("a derived item has no picture")
			return d
		}
		d.pic = picture{rect: image.Rectangle{Max: d.next.hq.size}}
		return d
	}
	var v [4]int
	for i := range v {
		v[i] = int(min(r.uvarint(), math.MaxInt32))
	}
	d := it.Derive(key, Crop(image.Rect(v[0], v[1], v[0]+v[2], v[1]+v[3])))
	if d.next.err == nil {
		readOutcome(r, d)
	}
	return d
}

func readOutcome(r *reader, it *Item) {
	flags := r.byte()
	it.next.returned = flags&outcomePassed != 0
	it.next.rejected = flags&outcomeRejected != 0
	it.next.held = flags&outcomeHeld != 0
	for _, m := range []struct {
		flag byte
		made **made
	}{{outcomePicture, &it.next.hq}, {outcomeCompanion, &it.next.lq}} {
		if flags&m.flag != 0 {
			*m.made = &made{size: image.Pt(int(r.uvarint()), int(r.uvarint())), bytes: int64(r.uvarint())}
		}
	}
	it.next.scale = int(r.uvarint())
	it.next.attrs = r.attributes()
	it.next.vectors = r.vectors()
	it.next.reason = r.string()
	it.next.values = r.attributes()
}
