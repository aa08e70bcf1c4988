package pipeline

import (
	"context"
	"encoding/binary"
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
const outcomeVersion = 1

const (
	outcomePassed byte = 1 << iota
	outcomeRejected
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
	w.cached.Add(1)
	it.next.known = true
	return true, w.account(ctx, it)
}

// remember stores what the stage made of the item, unless that includes new
// pixels or a failure, which are not kept.
func (w *worker) remember(it *Item) {
	if it.next.known || w.identity == nil || w.run.outcomes == nil || it.next.parent != nil {
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
		r := d.pic.rect.Sub(it.pic.rect.Min)
		for _, v := range [4]int{r.Min.X, r.Min.Y, r.Dx(), r.Dy()} {
			b = binary.AppendUvarint(b, uint64(v))
		}
		if b, ok = appendOutcome(b, d); !ok {
			return nil, false
		}
	}
	return b, true
}

func appendOutcome(b []byte, it *Item) ([]byte, bool) {
	n := &it.next
	if n.img != nil || n.err != nil || n.held || len(n.outputs) > 0 {
		return nil, false
	}
	var flags byte
	if n.returned {
		flags |= outcomePassed
	}
	if n.rejected {
		flags |= outcomeRejected
	}
	b = append(b, flags)
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
		key := r.string()
		var v [4]int
		for i := range v {
			v[i] = int(min(r.uvarint(), math.MaxInt32))
		}
		if r.err != nil {
			return false
		}
		d := it.Derive(key, Crop(image.Rect(v[0], v[1], v[0]+v[2], v[1]+v[3])))
		if d.next.err != nil {
			return false
		}
		readOutcome(&r, d)
	}
	return r.err == nil && len(r.b) == 0
}

func readOutcome(r *reader, it *Item) {
	flags := r.byte()
	it.next.returned = flags&outcomePassed != 0
	it.next.rejected = flags&outcomeRejected != 0
	it.next.attrs = r.attributes()
	it.next.vectors = r.vectors()
	it.next.reason = r.string()
	it.next.values = r.attributes()
}
