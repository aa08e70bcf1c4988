package dedup_test

import (
	"cmp"
	"fmt"
	"image"
	"math"
	"math/bits"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/pipeline"
)

// thing is an item of a run, or an entry of an index, as the test knows it.
type thing struct {
	id      string
	index   string // the folder of the index that it is from; empty: an item of the run
	file    int    // which of the files it is
	hashes  map[string][]byte
	turned  map[string][][]byte // of the picture turned
	vectors map[string][]float32
	prefer  map[string]float64 // by attribute
	damaged bool               // it fails
	picture *image.NRGBA       // where pictures are measured
}

// measuring is an entry of by, as the test knows it.
type measuring struct {
	name    string
	kind    string // same, bits, cosine, perceived
	within  float64
	confirm bool
}

// verdict is what an oracle says of an item: that it goes, in favour of a keeper, or of none.
type verdict struct {
	keeper *thing
	text   string
}

// oracle compares everything with everything, in float64 and bit by bit, as the description
// of the stage has it. It shares no code with the stage.
type oracle struct {
	things    []*thing
	by        []measuring
	prefer    []string
	reference func(id string) bool
	keep      map[string]bool
	reject    map[string]bool
	different map[[2]string]bool
	indexes   []string // their order
}

// clauses are the steps that must agree.
func (o *oracle) clauses() (all [][]measuring) {
	for _, m := range o.by {
		if m.confirm {
			all[len(all)-1] = append(all[len(all)-1], m)
		} else {
			all = append(all, []measuring{m})
		}
	}
	return all
}

// measure measures what is asked about against another one, as it is and turned; also by what
// has no orientation.
func (m measuring) measure(asked, other *thing) (float64, bool) {
	if m.kind == "perceived" {
		return perceived(asked.picture, other.picture), true
	}
	if m.kind == "cosine" {
		var dot, aa, bb float64
		for i, x := range asked.vectors[m.name] {
			y := other.vectors[m.name][i]
			dot += float64(x) * float64(y)
			aa += float64(x) * float64(x)
			bb += float64(y) * float64(y)
		}
		return min(1, max(-1, dot/math.Sqrt(aa*bb))), true
	}
	all := m.orientations(asked, other)
	if len(all) == 0 {
		return 0, false
	}
	return m.said(slices.Min(all))
}

// orientations are how many bits differ in each orientation of what is asked about; none where
// there is no hash.
func (m measuring) orientations(asked, other *thing) (all []int) {
	b := other.hashes[m.name]
	if asked.hashes[m.name] == nil || b == nil {
		return nil
	}
	for _, a := range append([][]byte{asked.hashes[m.name]}, asked.turned[m.name]...) {
		n := 0
		for i := range a {
			n += bits.OnesCount8(a[i] ^ b[i])
		}
		all = append(all, n)
	}
	return all
}

// said is what is said of a number of bits.
func (m measuring) said(bits int) (float64, bool) {
	if m.kind == "same" {
		return 0, bits == 0
	}
	return float64(bits), true
}

// measureAll is what the steps of a clause measure, as they must agree: all that know of
// orientations of the one that is nearest to the first of them, the upright one before others.
func measureAll(clause []measuring, asked, other *thing) (values []float64, oks []bool) {
	settled := false
	nearest := 0
	for _, m := range clause {
		v, ok := m.measure(asked, other)
		if all := m.orientations(asked, other); len(all) > 1 {
			if !settled {
				settled, nearest = true, slices.Index(all, slices.Min(all))
			}
			v, ok = m.said(all[nearest])
		}
		values, oks = append(values, v), append(oks, ok)
	}
	return values, oks
}

// told is what is measured of two things that a clause calls duplicates, by a step that may be
// in the clause or not.
func (m measuring) told(clause []measuring, asked, other *thing) (float64, bool) {
	if i := slices.Index(clause, m); i >= 0 {
		values, oks := measureAll(clause, asked, other)
		return values[i], oks[i]
	}
	return m.measure(asked, other)
}

// perceived is what perceiver makes of two pictures, whose samples come to it as to LPIPS:
// from -1 to 1, and then in units of each colour's spread.
func perceived(a, b *image.NRGBA) (sum float64) {
	spread := [3]float64{0.458, 0.448, 0.450}
	for i := range a.Pix {
		if i%4 < 3 {
			d := (float64(a.Pix[i]) - float64(b.Pix[i])) * 2 / 255 / spread[i%4] / 32
			sum += d * d
		}
	}
	return sum
}

func (m measuring) near(v float64, ok bool) bool {
	if m.kind == "cosine" {
		return ok && v >= m.within
	}
	return ok && v <= m.within
}

// rank is how far in front a thing stands, whatever is preferred.
func (o *oracle) rank(t *thing) int {
	switch {
	case t.index != "":
		return 3
	case o.reference(t.id):
		return 2
	case o.keep[t.id]:
		return 1
	}
	return 0
}

// better compares two things by the rules of prefer, and says which one decided.
func (o *oracle) better(a, b *thing) (int, string) {
	for _, rule := range o.prefer {
		name, lower := strings.CutPrefix(rule, "-")
		x, xok := a.prefer[name]
		y, yok := b.prefer[name]
		switch {
		case xok != yok:
			return map[bool]int{true: -1, false: 1}[xok], rule
		case xok && x != y:
			return map[bool]int{true: -1, false: 1}[(x > y) != lower], rule
		}
	}
	return strings.Compare(a.id, b.id), "id"
}

// order is that in which things are looked at.
func (o *oracle) order() (all []*thing) {
	for _, t := range o.things {
		if !t.damaged && (t.index != "" || !o.reject[t.id]) {
			all = append(all, t)
		}
	}
	slices.SortStableFunc(all, func(a, b *thing) int {
		if c := cmp.Compare(o.rank(b), o.rank(a)); c != 0 {
			return c
		}
		if a.index != "" {
			return cmp.Or(cmp.Compare(slices.Index(o.indexes, a.index), slices.Index(o.indexes, b.index)), strings.Compare(a.id, b.id))
		}
		c, _ := o.better(a, b)
		return c
	})
	return all
}

// agreed tells whether a clause calls two things duplicates, and what its first step measured.
func (o *oracle) agreed(clause []measuring, asked, other *thing) (float64, bool) {
	if o.different[[2]string{min(asked.id, other.id), max(asked.id, other.id)}] {
		return 0, false
	}
	values, oks := measureAll(clause, asked, other)
	for i, m := range clause {
		if !m.near(values[i], oks[i]) {
			return 0, false
		}
	}
	return values[0], true
}

// decide gives the verdicts about the items that go, by their IDs.
func (o *oracle) decide() map[string]verdict {
	gone := map[string]verdict{}
	for _, t := range o.things {
		if t.index == "" && !t.damaged && o.reject[t.id] {
			gone[t.id] = verdict{nil, "decided by hand"}
		}
	}
	var keepers []*thing
next:
	for _, t := range o.order() {
		if o.rank(t) == 0 {
			for _, clause := range o.clauses() {
				var keeper *thing
				var value float64
				for _, k := range keepers {
					v, ok := o.agreed(clause, t, k)
					nearer := v < value
					if clause[0].kind == "cosine" {
						nearer = v > value
					}
					if ok && (keeper == nil || nearer) {
						keeper, value = k, v
					}
				}
				if keeper != nil {
					gone[t.id] = verdict{keeper, o.text(clause, value, t, keeper)}
					continue next
				}
			}
		}
		keepers = append(keepers, t)
	}
	return gone
}

// text is what is said of an item.
func (o *oracle) text(clause []measuring, value float64, t, keeper *thing) string {
	by := clause[0]
	text := "duplicate: keeper " + keeper.id
	if keeper.index != "" {
		text += ", keeper_index " + keeper.index
	}
	word := func(m measuring) string {
		if m.kind == "cosine" {
			return "similarity"
		}
		return "distance"
	}
	text += fmt.Sprintf(", by %s, %s %s", by.name, word(by), number(value))
	for _, m := range o.by {
		if v, ok := m.told(clause, t, keeper); ok && m.name != by.name && m.kind != "same" {
			text += fmt.Sprintf(", %s_%s %s", m.name, word(m), number(v))
		}
	}
	_, rule := o.better(t, keeper)
	if r := o.rank(keeper); r > 0 {
		return text + ", rule " + []string{"", "decisions", "reference", "against"}[r]
	}
	text += ", rule " + rule
	name, _ := strings.CutPrefix(rule, "-")
	if v, ok := t.prefer[name]; ok {
		text += ", value " + number(v)
	}
	if v, ok := keeper.prefer[name]; ok {
		text += ", keeper_value " + number(v)
	}
	return text
}

// pairs are all that a clause calls duplicates, each as a line of text, sorted.
func (o *oracle) pairs() (lines []string) {
	order := o.order()
	for i, t := range order {
		if o.rank(t) > 0 {
			continue
		}
		for k, other := range order[:i] {
			for n, clause := range o.clauses() {
				if _, ok := o.agreed(clause, t, other); !ok {
					continue
				}
				values := make([]float64, len(o.by))
				for s, m := range o.by {
					v, ok := m.told(clause, t, other)
					if values[s] = v; !ok {
						values[s] = math.NaN()
					}
				}
				lines = append(lines, pairLine(other.id, t.id, k, i, o.rank(other) > 0, false, n, values))
			}
		}
	}
	slices.Sort(lines)
	return lines
}

func pairLine(a, b string, rankA, rankB int, fixedA, fixedB bool, clause int, values []float64) string {
	return fmt.Sprintf("%s (%d, %t) and %s (%d, %t) by clause %d: %v", a, rankA, fixedA, b, rankB, fixedB, clause, values)
}

// attributes are those that say of an item what the test knows of it.
func (t *thing) attributes(suffix string) attrs {
	as := attrs{"pdq_quality": pipeline.Int(100)}
	for name, h := range t.hashes {
		if name == "sha256" {
			continue // that is of the file
		}
		if name == "pixels" {
			name = "pixels_sha256"
		}
		as[name] = pipeline.Hash(h)
		if suffix != "" {
			as[name+suffix] = pipeline.Hash(slices.Concat(t.turned[strings.TrimSuffix(name, "_sha256")]...))
		}
	}
	if t.hashes["pdq"] == nil {
		as["pdq"], as["pdq_quality"] = pipeline.Hash(make([]byte, 32)), pipeline.Int(49)
		if suffix != "" {
			as["pdq"+suffix] = pipeline.Hash(make([]byte, 32*len(t.turned["phash"])))
		}
	}
	for name, v := range t.prefer {
		as[name] = pipeline.Float(v)
	}
	return as
}
