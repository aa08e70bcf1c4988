package dedup

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math"
	"strings"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup/index"
)

// grows tells whether the run adds to an index. A dry run and that of a sample do not.
func (s *Stage) grows() bool {
	return s.indexes.add != "" && s.open && !s.aside(s.indexes.add)
}

// addToIndex adds what the kept items are compared by.
func (s *Stage) addToIndex(ctx context.Context, held pipeline.HeldItems, t *table, v *verdicts, kinds []vectorKind) error {
	if !s.grows() || t.items == 0 {
		return nil
	}
	lacking, err := s.squashKept(ctx, held, t, v)
	if err != nil {
		return err
	}
	columns, parts := s.columns(kinds)
	entries := func(yield func(index.Entry, error) bool) {
		for k, err := range keptItems(held, t, v) {
			if err == nil && lacking[k.at] {
				continue
			}
			e := k.entry()
			e.Later = func() ([][]byte, error) { return t.prints(k, parts) }
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
	added, err := index.Add(ctx, s.env.FS, s.indexes.add, columns, entries)
	if err != nil {
		return err
	}
	s.said += fmt.Sprintf("; %s added to %s", were(added), s.indexes.add)
	if n := len(lacking); n > 0 {
		s.said += fmt.Sprintf(", %s not, as a picture could not be decoded", were(n))
	}
	return nil
}

// keptItem is an item that is kept; none where an error comes with it.
type keptItem struct {
	*pipeline.Item
	at uint32 // its number
}

// entry is the item's in an index, without what it is compared by.
func (k keptItem) entry() index.Entry {
	if k.Item == nil {
		return index.Entry{}
	}
	size, src := k.Size(), k.Source()
	return index.Entry{ID: k.ID(), SHA256: src.SHA256, Root: rootOf(src), Width: size.X, Height: size.Y}
}

// keptItems are the items that are kept, in the order of their IDs.
func keptItems(held pipeline.HeldItems, t *table, v *verdicts) iter.Seq2[keptItem, error] {
	return func(yield func(keptItem, error) bool) {
		at := uint32(0)
		for it, err := range held {
			if err != nil {
				yield(keptItem{}, err)
				return
			}
			if v.keeper[at] == at && t.class(at) != gone && !yield(keptItem{it, at}, nil) {
				return
			}
			at++
		}
	}
}

// prints are what an index keeps of an item; nil: no verdict.
func (t *table) prints(k keptItem, parts []part) (prints [][]byte, err error) {
	for _, part := range parts {
		c := &t.columns[part.step]
		p := []byte(nil)
		if part.picture {
			n, ok := c.pictures.numbers[k.at]
			if !ok {
				return nil, fmt.Errorf("the index had %s, and has it no more: run again", k.ID())
			}
			p, err = c.pictures.set.Prepared(n)
		} else {
			p = c.print(k.Item, int(k.at))
		}
		if err != nil {
			return nil, err
		}
		prints = append(prints, p)
	}
	return prints, nil
}

// print is the hash or vector of an item; nil: no verdict.
func (c *column) print(it *pipeline.Item, i int) []byte {
	if c.vector == "" {
		if !c.has[i] {
			return nil
		}
		return c.at(i)
	}
	v, _ := it.Vector(c.vector)
	p := make([]byte, 0, 4*len(v.Data))
	for _, x := range v.Data {
		p = binary.LittleEndian.AppendUint32(p, math.Float32bits(x))
	}
	return p
}

// squashKept squashes the pictures of the kept items that are not in the index yet, where it
// keeps pictures: before it is locked, as that takes long. It returns the items whose pictures
// cannot be decoded: they are not added, so that a later run can.
func (s *Stage) squashKept(ctx context.Context, held pipeline.HeldItems, t *table, v *verdicts) (lacking map[uint32]bool, err error) {
	lacking = map[uint32]bool{}
	n := s.measuring()
	if n < 0 {
		return lacking, nil
	}
	p := t.columns[n].pictures
	if p.set == nil {
		if err := s.openPictures(ctx, p, 0, 0); err != nil {
			return nil, err
		}
	}
	var some int64
	err = s.newItems(ctx, held, t, v, p, func(keptItem) error {
		some++
		return nil
	})
	if err != nil || some == 0 {
		return lacking, err
	}
	if err := s.checkFree(some*p.net.PreparedBytes(), fmt.Sprintf("the pictures of %d items, squashed to %d x %d for the index,", some, p.side, p.side)); err != nil {
		return nil, err
	}
	return lacking, s.newItems(ctx, held, t, v, p, func(k keptItem) error {
		taken, err := p.append(ctx, k.Item, k.at, "so that it is not added to the index")
		if err == nil && !taken {
			lacking[k.at] = true
		}
		return err
	})
}

// newItems calls do with the kept items that are not in the index that is added to, and of
// which no picture is squashed yet.
func (s *Stage) newItems(ctx context.Context, held pipeline.HeldItems, t *table, v *verdicts, p *pictures, do func(keptItem) error) error {
	keys, err := s.keys(ctx)
	if err != nil {
		return err
	}
	defer keys.close()
	for k, err := range keptItems(held, t, v) {
		if err != nil {
			return err
		}
		if _, ok := p.numbers[k.at]; ok {
			continue
		}
		there, err := keys.have(k.entry())
		if err == nil && !there {
			err = do(k)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// indexKeys are the keys of the index that is added to, which are asked for in their order.
type indexKeys struct {
	next  func() (index.Entry, error, bool)
	close func()
	entry index.Entry
	more  bool
}

// keys reads those of the index that is added to; there are none where it is not there yet.
func (s *Stage) keys(ctx context.Context) (*indexKeys, error) {
	x, err := index.Open(s.env.FS, s.indexes.add)
	if errors.Is(err, fs.ErrNotExist) {
		return &indexKeys{close: func() {}}, nil
	}
	if err != nil {
		return nil, err
	}
	next, stop := iter.Pull2(x.All(ctx, nil))
	k := &indexKeys{next: next, more: true, close: func() {
		stop()
		_ = x.Close() // it was only read
	}}
	if err := k.advance(); err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}

func (k *indexKeys) advance() (err error) {
	var ok bool
	k.entry, err, ok = k.next()
	k.more = ok && err == nil
	return err
}

// have tells whether an entry is among them.
func (k *indexKeys) have(e index.Entry) (bool, error) {
	for k.more {
		switch c := cmp.Or(strings.Compare(k.entry.ID, e.ID), bytes.Compare(k.entry.SHA256[:], e.SHA256[:])); {
		case c == 0:
			return true, nil
		case c > 0:
			return false, nil
		}
		if err := k.advance(); err != nil {
			return false, err
		}
	}
	return false, nil
}
