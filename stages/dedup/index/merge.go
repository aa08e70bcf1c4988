package index

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"strings"
)

// compare is the order of entries.
func compare(a, b *Entry) int {
	return cmp.Or(strings.Compare(a.ID, b.ID), bytes.Compare(a.SHA256[:], b.SHA256[:]))
}

// A merger gives the entries of several segments in order.
type merger struct {
	dir     string
	waiting []*cursor // segments that were not begun
	heads   heads
	current *cursor // whose entry was given last
	entry   Entry   // that one's ID and SHA256

	to      [][]byte // the fingerprints of the entry that prints was asked for last
	records [][]byte // those of them that are in large columns
}

// merger reads all segments of the index.
func (x *Index) merger(columns []string) (*merger, error) {
	wanted := make([]int, len(columns))
	for i, name := range columns {
		if wanted[i] = x.manifest.column(name); wanted[i] < 0 && x.Len() > 0 {
			return nil, fmt.Errorf("it has no column %s (it has: %s)", name, names(x.manifest.Columns))
		}
	}
	return newMerger(x.dir, x.segments, wanted), nil
}

func newMerger(dir string, segments []*segment, wanted []int) *merger {
	m := &merger{dir: dir, to: make([][]byte, len(wanted)), records: make([][]byte, len(wanted))}
	for i, s := range segments {
		m.waiting = append(m.waiting, s.cursor(i, wanted))
	}
	return m
}

// whole is next and prints.
func (m *merger) whole(ctx context.Context) (e Entry, ok bool, err error) {
	if e, ok, err = m.next(ctx); ok {
		e.Prints, err = m.prints()
	}
	return e, ok && err == nil, err
}

// next gives the next entry, without its fingerprints; ok is false at the end.
func (m *merger) next(ctx context.Context) (e Entry, ok bool, err error) {
	if err := ctx.Err(); err != nil {
		return Entry{}, false, context.Cause(ctx)
	}
	for _, c := range m.waiting {
		if ok, err := m.advance(c); err != nil {
			return Entry{}, false, err
		} else if ok {
			m.heads = append(m.heads, c)
		}
	}
	if m.waiting != nil {
		m.waiting = nil
		heap.Init(&m.heads)
	}
	if m.current != nil {
		// It is the first of the heads.
		m.entry.ID, m.entry.SHA256 = m.current.entry.ID, m.current.entry.SHA256
		if ok, err := m.advance(m.current); err != nil {
			return Entry{}, false, err
		} else if ok {
			heap.Fix(&m.heads, 0)
		} else {
			heap.Pop(&m.heads)
		}
	}
	if len(m.heads) == 0 {
		m.current = nil
		return Entry{}, false, nil
	}
	first := m.current == nil
	m.current = m.heads[0]
	e = m.current.entry
	if !first && compare(&m.entry, &e) == 0 {
		return Entry{}, false, inFile(m.dir, m.current.Name, badf("%q is in another segment, too", e.ID))
	}
	return e, true, nil
}

// prints are the fingerprints of the entry that next gave, and hold until the call after.
func (m *merger) prints() ([][]byte, error) {
	err := m.current.prints(m.to, m.records)
	return m.to, inFile(m.dir, m.current.Name, err)
}

func (m *merger) advance(c *cursor) (bool, error) {
	ok, err := c.next()
	return ok, inFile(m.dir, c.Name, err)
}

// heads are the segments that have an entry left, by their entries.
type heads []*cursor

func (h heads) Len() int { return len(h) }
func (h heads) Less(a, b int) bool {
	return cmp.Or(compare(&h[a].entry, &h[b].entry), cmp.Compare(h[a].index, h[b].index)) < 0
}
func (h heads) Swap(a, b int) { h[a], h[b] = h[b], h[a] }
func (h *heads) Push(x any)   { *h = append(*h, x.(*cursor)) }
func (h *heads) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
