package groups

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Point is what a threshold would reject.
type Point struct {
	Threshold  float64 `json:"threshold"`  // a greatest distance, or a least similarity
	Duplicates int64   `json:"duplicates"` // items that are rejected
	Groups     int64   `json:"groups"`     // kept items with duplicates
	Largest    int64   `json:"largest"`    // items of the largest group, with the one that is kept
}

// OptionError says that a sweep was asked for that the pairs cannot tell.
type OptionError struct{ text string }

func (e *OptionError) Error() string { return e.text }

func optionf(format string, args ...any) error { return &OptionError{fmt.Sprintf(format, args...)} }

const (
	// DefaultMemory is what a sweep may take in memory, in bytes: 89 million pairs.
	DefaultMemory = 2 << 30
	pairMemory    = 24 // of an edge
	itemMemory    = 5  // of Pairs.Sweep's columns about items
	// MaxThresholds is how many a sweep can have.
	MaxThresholds = 1000
)

// Sweep tells for each threshold of a step what a run with it would reject, in the order of
// thresholds. It takes the decisions again as the run takes them: items are looked at in
// their order of preference, and one that is within the thresholds of an item that is kept
// already is rejected, any other is kept. The other steps have the thresholds that the
// pairs were found with. Looser thresholds than those are an *OptionError, as is a step that
// there is not: pairs that only they find are not in the file. Memory is in bytes, 0 is
// DefaultMemory: a sweep takes 24 bytes for each pair and 5 for each item.
func (p *Pairs) Sweep(ctx context.Context, step string, thresholds []float64, memory int64) ([]Point, error) {
	s, err := p.Header.step(step)
	if err != nil {
		return nil, err
	}
	if len(thresholds) == 0 || len(thresholds) > MaxThresholds {
		return nil, optionf("%d thresholds cannot be looked at: give 1 to %d", len(thresholds), MaxThresholds)
	}
	st := p.Header.Steps[s]
	if i := slices.IndexFunc(thresholds, func(t float64) bool { return !finite(t) }); i >= 0 {
		return nil, optionf("%v is no threshold", thresholds[i])
	}
	// From the strictest to the loosest.
	sorted := slices.SortedFunc(slices.Values(thresholds), func(a, b float64) int {
		if st.Similarity {
			return cmp.Compare(b, a)
		}
		return cmp.Compare(a, b)
	})
	if t := sorted[len(sorted)-1]; !st.within(t, st.Threshold) {
		return nil, optionf("%s = %s is looser than the %s that the pairs of %s were found with, and what it would find besides is not there: run the pipeline with %s to see it", st.Field(), number(t), number(st.Threshold), p.path, number(t))
	}
	r := replay{Header: p.Header, step: s, thresholds: slices.Compact(sorted), memory: cmp.Or(memory, DefaultMemory)}
	if err := r.read(ctx, p); err != nil {
		return nil, err
	}
	found := map[float64]Point{}
	for k, t := range r.thresholds {
		if found[t], err = r.decide(ctx, k); err != nil {
			return nil, err
		}
	}
	points := make([]Point, len(thresholds))
	for i, t := range thresholds {
		points[i] = found[t]
	}
	return points, nil
}

func (h Header) step(name string) (int, error) {
	var names []string
	for i, s := range h.Steps {
		if s.Step == name {
			return i, nil
		}
		names = append(names, s.Step)
	}
	return 0, optionf("the pairs have no step %q: they have %s", name, strings.Join(names, ", "))
}

// Field is the option of a step that is the threshold: max_distance or min_similarity.
func (s Step) Field() string {
	if s.Similarity {
		return "min_similarity"
	}
	return "max_distance"
}

func number(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// Sweepable says whether there are stricter thresholds than the step's own. Of a step that
// compares for equality, as sha256, there are none.
func (s Step) Sweepable() bool { return s.strictest() != s.Threshold }

func (s Step) strictest() float64 {
	if s.Similarity {
		return 1
	}
	return 0
}

// mostWhole is how many thresholds in bits are looked at one by one.
const mostWhole = 40

// Thresholds are n thresholds from from to to, both included, at equal distances; of a
// step whose values are whole numbers each is one, and none comes twice. NaN for from and
// to is the range of the step: from 0 to its threshold, or from its threshold to 1. 0 for n
// is every whole number, where these are few, or 11.
func (s Step) Thresholds(from, to float64, n int) ([]float64, error) {
	low, high := s.strictest(), s.Threshold
	if s.Similarity {
		low, high = high, low
	}
	if math.IsNaN(from) {
		from = low
	}
	if math.IsNaN(to) {
		to = high
	}
	switch {
	case n < 0 || n > MaxThresholds:
		return nil, optionf("%d thresholds cannot be looked at: give 1 to %d", n, MaxThresholds)
	case n == 1 && from != to:
		return nil, optionf("one threshold cannot be both %s and %s", number(from), number(to))
	case !finite(from) || !finite(to):
		return nil, optionf("%v to %v is no range", from, to)
	case n == 0 && from == to:
		n = 1
	case n == 0 && s.Whole && math.Abs(to-from) < mostWhole:
		n = int(math.Abs(to-from)) + 1
	case n == 0:
		n = 11
	}
	all := make([]float64, 0, n)
	for i := range n {
		t := from
		if n > 1 {
			t += (to - from) * float64(i) / float64(n-1)
		}
		if s.Whole {
			t = math.Round(t)
		} else {
			t = math.Round(t*1e12) / 1e12 // 0.9 + 0.01 is 0.91
		}
		switch i { // both exactly
		case n - 1:
			t = to
		case 0:
			t = from
		}
		if len(all) == 0 || all[len(all)-1] != t {
			all = append(all, t)
		}
	}
	return all, nil
}

// Thresholds are those of a step that are looked at.
type Thresholds struct {
	Step       Step      // of which they are
	Thresholds []float64 // in the order in which they are told
}

// Sweeps are the thresholds of the step with a name, or, when it is empty, of each that has
// several: see [Step.Thresholds]. A range, from and to, is that of one step.
func (h Header) Sweeps(step string, from, to float64, n int) ([]Thresholds, error) {
	var steps []Step
	for _, s := range h.Steps {
		if step == "" && s.Sweepable() {
			steps = append(steps, s)
		}
	}
	switch {
	case step != "":
		i, err := h.step(step)
		if err != nil {
			return nil, err
		}
		if steps = h.Steps[i : i+1]; !steps[0].Sweepable() {
			return nil, optionf("%s has no other threshold than %s", step, number(steps[0].Threshold))
		}
	case len(steps) == 0:
		return nil, optionf("no step of the pairs has a threshold that could be stricter")
	case len(steps) > 1 && !(math.IsNaN(from) && math.IsNaN(to)):
		var names []string
		for _, s := range steps {
			names = append(names, s.Step)
		}
		return nil, optionf("a range of thresholds is that of one step: say which of %s", strings.Join(names, ", "))
	}
	var all []Thresholds
	for _, s := range steps {
		t, err := s.Thresholds(from, to, n)
		if err != nil {
			return nil, err
		}
		all = append(all, Thresholds{s, t})
	}
	return all, nil
}

// edge says that an item is a duplicate of a more preferred one, by a clause, from a
// threshold on.
type edge struct {
	item, keeper uint32  // ranks
	far          float64 // by the step that proposes; the lower, the nearer
	from         uint16  // number of the strictest threshold at which it is one
	clause       uint16
}

// inOrder is the order in which an item's keepers are looked for: clause by clause, the
// nearest first, of equally near ones the most preferred.
func inOrder(a, b edge) int {
	return cmp.Or(cmp.Compare(a.item, b.item), cmp.Compare(a.clause, b.clause), cmp.Compare(a.far, b.far), cmp.Compare(a.keeper, b.keeper))
}

// replay takes the decisions again.
type replay struct {
	Header
	step       int
	thresholds []float64 // from the strictest on
	memory     int64

	edges []edge
	state []byte   // of items by their ranks
	group []uint32 // members of each keeper, by its rank
}

// The state of an item.
const (
	fixed = 1 << iota
	free  // not fixed
	rejected
)

// read takes the edges from the pairs.
func (r *replay) read(ctx context.Context, p *Pairs) error {
	room := (r.memory - itemMemory*r.all()) / pairMemory
	if room < 0 || p.parquet != nil && p.parquet.NumRows() > room {
		return r.tooMany(p, room)
	}
	r.state, r.group = make([]byte, r.all()), make([]uint32, r.all())
	r.edges = make([]edge, 0, min(room, p.most()))
	for pair, err := range p.pairs(ctx, false) {
		if err != nil {
			return err
		}
		if err := cmp.Or(r.mark(pair.RankA, pair.FixedA), r.mark(pair.RankB, pair.FixedB)); err != nil {
			return fmt.Errorf("reading pairs from %s: %w", p.path, err)
		}
		for c := range r.Clauses {
			e, ok := r.edge(pair, c)
			if !ok {
				continue
			}
			if int64(len(r.edges)) >= room {
				return r.tooMany(p, room)
			}
			r.edges = append(r.edges, e)
		}
	}
	if !slices.IsSortedFunc(r.edges, inOrder) {
		slices.SortFunc(r.edges, inOrder)
	}
	return ctx.Err()
}

// most is more than how many pairs there can be.
func (p *Pairs) most() int64 {
	if p.parquet != nil {
		return p.parquet.NumRows()
	}
	return p.size/80 + 1 // names of members alone are longer
}

func (r *replay) tooMany(p *Pairs, room int64) error {
	return fmt.Errorf("sweeping %s: its pairs of %d items take more than %d MiB, which are %d pairs: write pairs with stricter thresholds, or of a part of the set", p.path, r.all(), r.memory>>20, max(room, 0))
}

// mark notes whether an item is fixed, of which all pairs say the same.
func (r *replay) mark(rank uint32, isFixed bool) error {
	as := byte(free)
	if isFixed {
		as = fixed
	}
	r.state[rank] |= as
	if r.state[rank] == fixed|free {
		return fmt.Errorf("the item of rank %d is fixed in one pair and not in another: the file was changed, write it again", rank)
	}
	return nil
}

// edge is what a pair says by a clause, when that says something at one of the thresholds.
func (r *replay) edge(p Pair, clause int) (edge, bool) {
	e := edge{item: max(p.RankA, p.RankB), keeper: min(p.RankA, p.RankB), clause: uint16(clause)}
	if r.state[e.item] == fixed {
		return edge{}, false
	}
	for i, s := range r.Clauses[clause] {
		st, v := r.Steps[s], p.Values[s]
		if i == 0 {
			if e.far = v; st.Similarity {
				e.far = -v
			}
		}
		if s == r.step {
			from := sort.Search(len(r.thresholds), func(k int) bool { return st.within(v, r.thresholds[k]) })
			if from == len(r.thresholds) {
				return edge{}, false
			}
			e.from = uint16(from)
		}
		if !st.within(v, st.Threshold) {
			return edge{}, false
		}
	}
	return e, true
}

// decide takes all decisions at a threshold.
func (r *replay) decide(ctx context.Context, k int) (Point, error) {
	out := Point{Threshold: r.thresholds[k]}
	for i := range r.state {
		r.state[i] &^= rejected
	}
	clear(r.group)
	for i, e := range r.edges {
		if i%(1<<20) == 0 && ctx.Err() != nil {
			return out, ctx.Err()
		}
		if int(e.from) > k || r.state[e.item]&rejected != 0 || r.state[e.keeper]&rejected != 0 {
			continue
		}
		r.state[e.item] |= rejected
		out.Duplicates++
		if r.group[e.keeper]++; r.group[e.keeper] == 1 {
			out.Groups++
		}
		out.Largest = max(out.Largest, int64(r.group[e.keeper])+1)
	}
	return out, nil
}
