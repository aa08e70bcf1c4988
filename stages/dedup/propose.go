package dedup

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/forgepipe/forgepipe/internal/hamming"
	"github.com/forgepipe/forgepipe/model/lpips"
	"github.com/forgepipe/forgepipe/model/nearest"
)

// A match is an item that another one is near enough to, the value of the step, and how the
// other one is turned where it is nearest.
type match struct {
	item  uint32
	value float64
	turn  turn
}

// turn is an orientation of an item's picture: 0 as it is, or 1 more than the number of its
// turned fingerprint.
type turn uint8

// anyTurn is what steps say and are told where none is settled.
const anyTurn turn = math.MaxUint8

// A proposer finds the items that a step calls near enough to another one, among those
// that were added to it. Items are asked about in blocks, in the order in which they may
// be added.
type proposer interface {
	// begin prepares for the items that are asked about next.
	begin(ctx context.Context, block []uint32) error
	// matches yields those near enough to an item of the block, nearest first, of
	// equally near ones the one added first.
	matches(ctx context.Context, i uint32, yield func(match) (more bool)) error
	add(i uint32)
}

// proposer finds what the column's step proposes; all tells that all of it is wanted, and
// not the first that is confirmed.
func (c *column) proposer(all bool) proposer {
	switch c.measure {
	case equality:
		return &equals{c: c, first: map[[32]byte]uint32{}, more: map[uint32][]uint32{}}
	case differing:
		return &neighbours{c: c, index: hamming.New(c.size, c.distance), all: all}
	case cosine:
		return &vectors{c: c}
	}
	p := &measured{c: c}
	if c.vectors != nil {
		p.bounded = &vectors{c: c}
	}
	return p
}

// equals finds those with the same fingerprint, of 32 bytes.
type equals struct {
	c     *column
	first map[[32]byte]uint32
	more  map[uint32][]uint32 // with the fingerprint of one that was added before
}

func (e *equals) begin(context.Context, []uint32) error { return nil }

func (e *equals) add(i uint32) {
	if !e.c.has[i] {
		return
	}
	p := [32]byte(e.c.at(int(i)))
	if first, ok := e.first[p]; ok {
		e.more[first] = append(e.more[first], i)
		return
	}
	e.first[p] = i
}

func (e *equals) matches(_ context.Context, i uint32, yield func(match) bool) error {
	if !e.c.has[i] {
		return nil
	}
	turned := e.c.turnedAt(int(i))
	if len(turned) == 0 {
		for _, m := range e.equal(nil, e.c.at(int(i)), anyTurn) {
			if !yield(m) {
				return nil
			}
		}
		return nil
	}
	found := e.equal(nil, e.c.at(int(i)), 0)
	for at := turn(1); len(turned) > 0; at, turned = at+1, turned[e.c.size:] {
		found = e.equal(found, turned[:e.c.size], at)
	}
	slices.SortStableFunc(found, func(a, b match) int { return cmp.Compare(e.c.ranks[a.item], e.c.ranks[b.item]) })
	// A symmetric picture is the same in several orientations, of which the first counts.
	found = slices.CompactFunc(found, func(a, b match) bool { return a.item == b.item })
	for _, m := range found {
		if !yield(m) {
			return nil
		}
	}
	return nil
}

// equal appends those with that fingerprint, in the order in which they were added.
func (e *equals) equal(found []match, print []byte, turn turn) []match {
	if first, ok := e.first[[32]byte(print)]; ok {
		found = append(found, match{item: first, turn: turn})
		for _, i := range e.more[first] {
			found = append(found, match{item: i, turn: turn})
		}
	}
	return found
}

// neighbours finds those whose hashes differ in few bits.
type neighbours struct {
	c     *column
	index *hamming.Index
	all   bool     // are wanted
	items []uint32 // of the index's hashes
	found []match
}

func (n *neighbours) begin(context.Context, []uint32) error { return nil }

func (n *neighbours) add(i uint32) {
	if n.c.has[i] {
		n.index.Add(n.c.at(int(i)))
		n.items = append(n.items, i)
	}
}

func (n *neighbours) matches(_ context.Context, i uint32, yield func(match) bool) error {
	if !n.c.has[i] {
		return nil
	}
	hash, turned := n.c.at(int(i)), n.c.turnedAt(int(i))
	first := 0
	if len(turned) == 0 && !n.all {
		// Mostly the nearest is the answer, which is found quicker than all are.
		at, distance, ok := n.index.Nearest(hash)
		if !ok || !yield(match{n.items[at], float64(distance), anyTurn}) {
			return nil
		}
		first = 1
	}
	for _, m := range n.within(hash, turned)[first:] {
		if !yield(match{n.items[m.item], m.value, m.turn}) {
			return nil
		}
	}
	return nil
}

// within are the numbers in the index of those near enough, in the order of matches.
func (n *neighbours) within(hash, turned []byte) []match {
	n.found = n.found[:0]
	find := func(hash []byte, turn turn) {
		n.index.Within(hash, func(i, distance int) { n.found = append(n.found, match{uint32(i), float64(distance), turn}) })
	}
	if len(turned) == 0 { // they come in the order of matches
		find(hash, anyTurn)
		return n.found
	}
	find(hash, 0)
	for at := turn(1); len(turned) > 0; at, turned = at+1, turned[n.c.size:] {
		find(turned[:n.c.size], at)
	}
	byNumber := func(a, b match) int { return cmp.Compare(a.item, b.item) }
	slices.SortFunc(n.found, func(a, b match) int {
		return cmp.Or(byNumber(a, b), cmp.Compare(a.value, b.value), cmp.Compare(a.turn, b.turn))
	})
	n.found = slices.CompactFunc(n.found, func(a, b match) bool { return a.item == b.item })
	slices.SortFunc(n.found, func(a, b match) int { return cmp.Or(cmp.Compare(a.value, b.value), byNumber(a, b)) })
	return n.found
}

// vectors finds those whose vectors are near enough.
type vectors struct {
	c     *column
	found []nearest.Match
}

func (v *vectors) begin(ctx context.Context, block []uint32) error {
	return v.c.vectors.Begin(ctx, block)
}

func (v *vectors) add(i uint32) { v.c.vectors.Add(i) }

func (v *vectors) matches(_ context.Context, i uint32, yield func(match) bool) error {
	found, err := v.c.vectors.Matches(i, v.found[:0])
	v.found = found
	if err != nil {
		return err
	}
	for _, m := range found {
		if !yield(match{m.Item, m.Value, anyTurn}) {
			return nil
		}
	}
	return nil
}

// measured finds those that look the same: it measures what a bound of the measure
// leaves, or where there is none, all.
type measured struct {
	c       *column
	bounded *vectors // whose values are never more than the measure
	added   []uint32 // where that is nil
}

func (p *measured) begin(ctx context.Context, block []uint32) error {
	if p.bounded == nil {
		return nil
	}
	return p.bounded.begin(ctx, block)
}

func (p *measured) add(i uint32) {
	if p.bounded == nil {
		p.added = append(p.added, i)
		return
	}
	p.bounded.add(i)
}

// candidates yields those that may be near enough, with the least that their value can
// be, the least first.
func (p *measured) candidates(ctx context.Context, i uint32, yield func(match) bool) error {
	if p.bounded != nil {
		return p.bounded.matches(ctx, i, yield)
	}
	for _, k := range p.added {
		if !yield(match{item: k, turn: anyTurn}) {
			break
		}
	}
	return nil
}

// loosened is the least that a distance can be where that is its bound, with what
// rounding may have added.
func loosened(bound float64) float64 {
	root := max(0, math.Sqrt(bound)-lpips.PooledSlack)
	return root * root
}

func (p *measured) matches(ctx context.Context, i uint32, yield func(match) bool) error {
	var found []match // measured, and not yielded as a nearer one may come
	var err error
	done := false
	// release yields those that nothing that comes can precede.
	release := func(least float64) {
		for len(found) > 0 && found[0].value < least && !done {
			done = !yield(found[0])
			found = found[1:]
		}
	}
	order := func(a, b match) int {
		return cmp.Or(cmp.Compare(a.value, b.value), cmp.Compare(p.c.ranks[a.item], p.c.ranks[b.item]))
	}
	cerr := p.candidates(ctx, i, func(m match) bool {
		release(loosened(m.value))
		if done {
			return false
		}
		v, _, ok, verr := p.c.value(ctx, i, m.item, anyTurn)
		if verr != nil {
			err = verr
			return false
		}
		if ok && p.c.accepts(v) {
			m.value = v
			at, _ := slices.BinarySearchFunc(found, m, order)
			found = slices.Insert(found, at, m)
		}
		return true
	})
	if err = cmp.Or(err, cerr); err != nil {
		return err
	}
	release(math.Inf(1))
	return nil
}
