package dedup

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sort"
	"strings"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/model/nearest"
	"github.com/forgepipe/forgepipe/pipeline"
)

// table is what decides about the items, in columns. Items are numbered in the
// order of their IDs, and behind them come the entries of indexes.
type table struct {
	ids      []byte
	ends     []uint64 // of each item's ID in ids
	items    int      // of this run; what comes behind are entries
	columns  []column // of each step
	keys     []float64
	rules    int           // keys per item
	card     *memory.Lease // of the GPU on which vectors are compared; nil: on the CPU
	classes  []class       // of the items, then of the entries
	sidecars map[uint32][]pipeline.Sidecar
	entries
}

// class says which items come first, whatever is preferred.
type class uint8

const (
	ordinary class = iota
	kept           // by hand: it is never rejected
	reference
	known    // its picture is in an index, and stays as its entry would
	indexed  // an entry of an index
	gone     // rejected by hand: it takes no part
	replaced // an entry in whose place an item stands: it takes no part
)

// fixed are kept whatever they match, and come first, the highest first.
func (c class) fixed() bool { return kept <= c && c <= indexed }

// column is what a step compares by.
type column struct {
	step
	// Fingerprints, zeros where the step has no verdict; turned are those of the
	// items' pictures turned.
	has    []bool
	prints []byte
	turned []byte
	turns  int
	// vectors are those of all items, by their numbers.
	vectors *nearest.Index
	// pictures measure what the step perceives.
	pictures *pictures
	ranks    []uint32 // of all items: their places in the order of preference
}

func (t *table) len() int { return len(t.ends) }

func (t *table) id(i int) string {
	from := uint64(0)
	if i > 0 {
		from = t.ends[i-1]
	}
	return string(t.ids[from:t.ends[i]])
}

// find is the number of the run's item with this ID, -1 where there is none.
func (t *table) find(id string) int {
	i, found := sort.Find(t.items, func(i int) int { return strings.Compare(id, t.id(i)) })
	if !found {
		return -1
	}
	return i
}

func (t *table) addID(id string) {
	t.ids = append(t.ids, id...)
	t.ends = append(t.ends, uint64(len(t.ids)))
}

func (t *table) itemKeys(i int) []float64 { return t.keys[i*t.rules:][:t.rules] }

func (t *table) class(i uint32) class { return t.classes[i] }

func (t *table) close() (err error) {
	for i := range t.columns {
		if x := t.columns[i].vectors; x != nil {
			if cerr := x.Close(); err == nil {
				err = cerr
			}
		}
		if p := t.columns[i].pictures; p != nil {
			if cerr := p.close(); err == nil {
				err = cerr
			}
		}
	}
	t.card.Release()
	return err
}

func (c *column) at(i int) []byte { return c.prints[i*c.size:][:c.size] }

// turnedAt are the fingerprints of item i turned; an entry has none.
func (c *column) turnedAt(i int) []byte {
	if n := c.turns * c.size; (i+1)*n <= len(c.turned) {
		return c.turned[i*n:][:n]
	}
	return nil
}

// value measures item i, turned in a way or in any, against item k, and tells how it was
// turned where it is nearest; a step that turns nothing tells what it was told. false: there
// is nothing to say of them, and they are no duplicates by this step.
func (c *column) value(ctx context.Context, i, k uint32, in turn) (value float64, at turn, ok bool, err error) {
	switch c.measure {
	case cosine:
		v, err := c.vectors.Value(i, k)
		return v, in, err == nil, err
	case perceived:
		v, ok, err := c.pictures.distance(ctx, i, k)
		return v, in, ok, err
	}
	if !c.has[i] || !c.has[k] {
		return 0, in, false, nil
	}
	to, turned := c.at(int(k)), c.turnedAt(int(i))
	least := math.MaxInt
	if in == 0 || in == anyTurn || len(turned) == 0 {
		least, at = c.differ(c.at(int(i)), to), 0
	}
	if len(turned) == 0 {
		at = in
	}
	for t := turn(1); len(turned) > 0; t, turned = t+1, turned[c.size:] {
		if in != anyTurn && in != t {
			continue
		}
		if n := c.differ(turned[:c.size], to); n < least {
			least, at = n, t
		}
	}
	return float64(least), at, c.measure == differing || least == 0, nil
}

// differ is how many bits of two fingerprints differ, and for equality whether any do.
func (c *column) differ(a, b []byte) int {
	if c.measure == equality {
		if bytes.Equal(a, b) {
			return 0
		}
		return 1
	}
	n := 0
	for i := range a {
		n += bits.OnesCount8(a[i] ^ b[i])
	}
	return n
}

// confirmed asks those steps whether item i, which is asked about, is near enough to
// the one that it matches. All must say so, of the same orientation.
func (t *table) confirmed(ctx context.Context, steps clause, i uint32, m match) (bool, error) {
	in := m.turn
	for _, s := range steps {
		v, at, ok, err := t.columns[s].value(ctx, i, m.item, in)
		in = at
		if err != nil || !ok || !t.columns[s].accepts(v) {
			return false, err
		}
	}
	return true, nil
}

// totals are what memory and disk for a table depend on.
type totals struct {
	items, ids, sidecars int64 // number; bytes; bytes
	paths                int64 // bytes of those that do not end in the source's name
	entries              int64 // of indexes, and their IDs are in ids
	vectors              []vectorKind
	referred             referred
}

// vectorKind is what all vectors of a step are.
type vectorKind struct {
	dim   int
	model string // that of the vector
	of    string // whose vector that is
}

func (k vectorKind) String() string {
	return fmt.Sprintf("%d numbers by the model %.12s", k.dim, k.model)
}

// same refuses vectors of two kinds, which cannot be compared.
func (k *vectorKind) same(step string, o vectorKind) error {
	switch {
	case k.of == "":
		*k = o
	case k.dim != o.dim || k.model != o.model:
		return fmt.Errorf("the vectors of %s are of two kinds: that of %s has %v, that of %s %v: make all of them with one network, of one of its outputs and with pictures prepared in one way", step, k.of, k, o.of, o)
	}
	return nil
}

func (s *Stage) count(held pipeline.HeldItems) (all totals, err error) {
	all.vectors = make([]vectorKind, len(s.by))
	for it, err := range held {
		if err != nil {
			return totals{}, err
		}
		// What is moved is the file, and so must be what was compared and preferred.
		if s.act.Action != "" && it.Source().Path != "" && !it.Unchanged() {
			return totals{}, fmt.Errorf("a stage before changed the picture of %s, and action: %s is for source files as they are: put dedup before that stage", it.ID(), s.act.Action)
		}
		all.items++
		all.ids += int64(len(it.ID()))
		s.refer(&all.referred, it.Source().Name)
		if src := it.Source(); len(s.indexes.against) > 0 && rootOf(src) == "" {
			all.paths += int64(len(src.Path))
		}
		if s.merge {
			for _, f := range it.Source().Sidecars {
				all.sidecars += sidecarBytes + int64(len(f.Ext)+len(f.Path))
			}
		}
		for n := range s.by {
			st := &s.by[n]
			if st.vector == "" {
				continue
			}
			if err := st.checkVector(it); err != nil {
				return totals{}, fmt.Errorf("comparing %s by %s: %w", it.ID(), st.name, err)
			}
			v, _ := it.Vector(st.vector)
			if err := all.vectors[n].same(st.name, vectorKind{len(v.Data), v.Model, it.ID()}); err != nil {
				return totals{}, err
			}
		}
	}
	return all, nil
}

// check refuses more than there are numbers for.
func (a totals) check() error {
	if n := a.items + a.entries; n > math.MaxUint32 {
		return fmt.Errorf("%d items are more than can be compared in one run: split the set", n)
	}
	return nil
}

// table takes what decides about the items.
func (s *Stage) table(ctx context.Context, held pipeline.HeldItems, all totals, d deciding) (t *table, err error) {
	n := int(all.items + all.entries)
	t = &table{
		ids: make([]byte, 0, all.ids), ends: make([]uint64, 0, n), items: int(all.items),
		keys: make([]float64, 0, int(all.items)*len(s.rules)), rules: len(s.rules),
		classes:  make([]class, 0, n),
		sidecars: map[uint32][]pipeline.Sidecar{},
	}
	defer func() {
		if err != nil {
			_ = t.close()
			t = nil
		}
	}()
	if t.card, err = s.leaseSearch(ctx, all); err != nil {
		return t, err
	}
	for i, st := range s.by {
		c := column{step: st}
		if st.take != nil {
			c.has, c.prints = make([]bool, n), make([]byte, n*st.size)
			if st.turned != nil {
				c.turns = s.orientations.turns()
				c.turned = make([]byte, 0, int(all.items)*c.turns*st.size)
			}
		}
		if st.vector != "" && n > 0 {
			if c.vectors, err = s.openVectors(st, all.vectors[i].dim, int64(n), t.card != nil && st.searches()); err != nil {
				return t, err
			}
		}
		t.columns = append(t.columns, c)
	}
	for it, err := range held {
		if err != nil {
			return t, err
		}
		if err := s.enter(t, it, d); err != nil {
			return t, err
		}
	}
	if err := s.enterIndexes(ctx, held, t, d.indexes); err != nil {
		return t, err
	}
	for i := range t.columns {
		c := &t.columns[i]
		if c.vectors == nil {
			continue
		}
		if err := c.vectors.Ready(ctx); err != nil {
			return t, fmt.Errorf("preparing to compare by %s: %w", c.name, err)
		}
	}
	return t, nil
}

// enter adds an item of the run to the table.
func (s *Stage) enter(t *table, it *pipeline.Item, d deciding) error {
	i := t.len()
	t.addID(it.ID())
	for m := range t.columns {
		c := &t.columns[m]
		if c.vectors != nil {
			v, _ := it.Vector(c.vector)
			if err := c.vectors.Append(v.Data); err != nil {
				return fmt.Errorf("comparing %s by %s: %w", it.ID(), c.name, err)
			}
		}
		if c.take == nil {
			continue
		}
		p := c.take(it)
		if p != nil {
			c.has[i] = true
			copy(c.at(i), p)
		}
		if c.turns > 0 {
			v, _ := it.Attr(s.orientations.attribute(c.makes[0].Name))
			turned := v.Hash()
			if len(turned) != c.turns*c.size {
				return fmt.Errorf("BUG: %s has turned fingerprints of %d bytes", it.ID(), len(turned))
			}
			c.turned = append(c.turned, turned...)
		}
	}
	for _, r := range s.rules {
		t.keys = append(t.keys, r.key(it))
	}
	t.classes = append(t.classes, s.classOf(it, d))
	if f := it.Source().Sidecars; s.merge && len(f) > 0 {
		t.sidecars[uint32(i)] = f
	}
	return nil
}

// classOf is the class of an item of the run.
func (s *Stage) classOf(it *pipeline.Item, d deciding) class {
	switch id := it.ID(); {
	case d.hand.Reject(id):
		return gone
	case s.isReference(it.Source().Name):
		return reference
	case d.hand.Keep(id):
		return kept
	}
	return ordinary
}

// rank gives the numbers of all that take part, from the one that is kept first to the
// last, and how many of them are fixed.
func (t *table) rank() (order []uint32, fixed int) {
	order = make([]uint32, 0, t.len())
	for i := range uint32(t.len()) {
		if c := t.class(i); c != gone && c != replaced {
			order = append(order, i)
			if c.fixed() {
				fixed++
			}
		}
	}
	slices.SortFunc(order, func(a, b uint32) int {
		ca, cb := t.class(a), t.class(b)
		if ca != cb {
			return int(cb) - int(ca)
		}
		if ca != indexed {
			if o, _ := byPreference(t.itemKeys(int(a)), t.itemKeys(int(b))); o != 0 {
				return o
			}
		}
		return int(int64(a) - int64(b))
	})
	ranks := make([]uint32, t.len())
	for at, i := range order {
		ranks[i] = uint32(at)
	}
	for i := range t.columns {
		t.columns[i].ranks = ranks
	}
	return order, fixed
}
