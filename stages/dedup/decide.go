package dedup

import (
	"context"
	"math"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/model/nearest"
	"github.com/forgepipe/forgepipe/pipeline"
)

// verdicts are what was decided about the items of a table.
type verdicts struct {
	keeper    []uint32                      // itself for an item that is kept, or that a person rejected
	by        []uint8                       // of a rejected item: which clause
	values    []float64                     // likewise, of each step: what it measures of the item and its keeper; NaN: nothing
	steps     int                           // of values
	takenOver map[uint32][]pipeline.Sidecar // by keepers
	clashes   int                           // sidecars that were not, as the keeper has one of that kind
}

func (v *verdicts) of(i int) []float64 { return v.values[i*v.steps:][:v.steps] }

// decider goes through the items of a table from the most preferred to the least. One
// that matches a keeper is rejected, any other becomes one.
type decider struct {
	*table
	clauses   []clause
	different func(i, k uint32) bool // what no clause can call duplicates
	proposers []proposer             // of each clause
}

// block is how many items are prepared at a time. It is a variable for tests.
var block = nearest.Block

func (s *Stage) decider(t *table, d deciding) *decider {
	return &decider{table: t, clauses: s.clauses, different: t.different(d.hand)}
}

// start gives the clauses new proposers, to which those that come first were added. Only
// those of which is true take part. all tells that all matches are wanted.
func (d *decider) start(fixed []uint32, which func(clause) bool, all bool) error {
	d.proposers = make([]proposer, len(d.clauses))
	for n, c := range d.clauses {
		if !which(c) {
			continue
		}
		first := &d.columns[c[0]]
		if first.vectors != nil {
			if err := first.vectors.Reset(); err != nil {
				return err
			}
		}
		d.proposers[n] = first.proposer(all)
	}
	d.add(fixed...)
	return nil
}

func every(clause) bool { return true }

func (d *decider) add(items ...uint32) {
	for _, p := range d.proposers {
		if p == nil {
			continue
		}
		for _, i := range items {
			p.add(i)
		}
	}
}

// blocks calls one with each of the items, in their order.
func (d *decider) blocks(ctx context.Context, items []uint32, one func(i uint32) error) error {
	for block := range slices.Chunk(items, block) {
		for _, p := range d.proposers {
			if p == nil {
				continue
			}
			if err := p.begin(ctx, block); err != nil {
				return err
			}
		}
		for _, i := range block {
			if err := ctx.Err(); err != nil {
				return err
			}
			for s := range d.columns {
				d.columns[s].pictures.next()
			}
			if err := one(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// decide decides about all items.
func (d *decider) decide(ctx context.Context, order []uint32, fixed int) (*verdicts, error) {
	v := &verdicts{
		keeper: make([]uint32, d.items), by: make([]uint8, d.items),
		values: make([]float64, d.items*len(d.columns)), steps: len(d.columns),
		takenOver: map[uint32][]pipeline.Sidecar{},
	}
	for i := range v.keeper {
		v.keeper[i] = uint32(i)
	}
	if err := d.start(order[:fixed], every, false); err != nil {
		return nil, err
	}
	err := d.blocks(ctx, order[fixed:], func(i uint32) error {
		m, c, ok, err := d.match(ctx, i)
		switch {
		case err != nil:
			return err
		case !ok:
			d.add(i)
			return nil
		}
		v.keeper[i], v.by[i] = m.item, uint8(c)
		v.takeOver(m.item, i, d.table)
		return d.measureAll(ctx, d.clauses[c], i, m, v.of(int(i)))
	})
	return v, err
}

// match finds the keeper that item i is a duplicate of: by the first clause that has
// one, the nearest that is confirmed.
func (d *decider) match(ctx context.Context, i uint32) (keeper match, by int, ok bool, err error) {
	for n, c := range d.clauses {
		merr := d.proposers[n].matches(ctx, i, func(m match) bool {
			if d.different(i, m.item) {
				return true
			}
			if ok, err = d.confirmed(ctx, c[1:], i, m); ok {
				keeper, by = m, n
			}
			return err == nil && !ok
		})
		if err == nil {
			err = merr
		}
		if ok || err != nil {
			return keeper, by, ok, err
		}
	}
	return match{}, 0, false, nil
}

// measureAll is what each step has to say of an item and the one that it matches by a
// clause: the steps of that of the orientation in which it does, others of any. What would
// take the work of a network is left out, unless it was done.
func (d *decider) measureAll(ctx context.Context, by clause, i uint32, m match, values []float64) error {
	measure := func(s int, in turn) (turn, error) {
		c := &d.columns[s]
		values[s] = math.NaN()
		if c.measure == perceived && !c.pictures.known(i, m.item) {
			return in, nil
		}
		v, at, ok, err := c.value(ctx, i, m.item, in)
		if ok {
			values[s] = v
		}
		return at, err
	}
	values[by[0]] = m.value
	in, err := m.turn, error(nil)
	for _, s := range by[1:] {
		if in, err = measure(s, in); err != nil {
			return err
		}
	}
	for s := range d.columns {
		if slices.Contains(by, s) {
			continue
		}
		if _, err := measure(s, anyTurn); err != nil {
			return err
		}
	}
	return nil
}

// survey yields all pairs that one of those clauses proposes and confirms, asking of its
// steps only those that come before the first of which before is false; whichever of the
// two is kept: i is the one that is asked about. Of two that are fixed it says nothing.
func (d *decider) survey(ctx context.Context, order []uint32, fixed int, which func(clause) bool, before func(step int) bool, pair func(clause int, i uint32, m match) error) error {
	if err := d.start(order[:fixed], which, true); err != nil {
		return err
	}
	return d.blocks(ctx, order[fixed:], func(i uint32) error {
		for n, c := range d.clauses {
			if d.proposers[n] == nil {
				continue
			}
			steps := c[1:]
			if at := slices.IndexFunc(steps, func(s int) bool { return !before(s) }); at >= 0 {
				steps = steps[:at]
			}
			var err error
			merr := d.proposed(n, before)(ctx, i, func(m match) bool {
				if d.different(i, m.item) {
					return true
				}
				var ok bool
				if ok, err = d.confirmed(ctx, steps, i, m); ok {
					err = pair(n, i, m)
				}
				return err == nil
			})
			if err == nil {
				err = merr
			}
			if err != nil {
				return err
			}
		}
		d.add(i)
		return nil
	})
}

// proposed is what a clause's first step proposes, or where that is not to be asked, all
// that it would have to measure.
func (d *decider) proposed(clause int, before func(step int) bool) func(context.Context, uint32, func(match) bool) error {
	p := d.proposers[clause]
	if m, ok := p.(*measured); ok && !before(d.clauses[clause][0]) {
		return m.candidates
	}
	return p.matches
}

// takeOver gives keeper k the sidecars of item i that it lacks. An entry of an index
// takes none.
func (v *verdicts) takeOver(k, i uint32, t *table) {
	if t.class(k) == indexed {
		return
	}
	for _, f := range t.sidecars[i] {
		has := func(is func(pipeline.Sidecar) bool) bool {
			return slices.ContainsFunc(t.sidecars[k], is) || slices.ContainsFunc(v.takenOver[k], is)
		}
		switch {
		case has(func(o pipeline.Sidecar) bool { return o.Path == f.Path }): // two tiles of one image
		case has(func(o pipeline.Sidecar) bool { return strings.EqualFold(o.Ext, f.Ext) }):
			v.clashes++
		default:
			v.takenOver[k] = append(v.takenOver[k], f)
		}
	}
}
