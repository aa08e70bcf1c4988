package nearest

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sourcegraph/conc/pool"

	"github.com/forgepipe/forgepipe/internal/ort"
)

// Matches appends to dst the vectors near to i, which is of the block that was begun, among
// those that were added so far, and without i itself: the nearest first, and of equally
// near ones the one that was added first.
func (x *Index) Matches(i uint32, dst []Match) ([]Match, error) {
	if x.err != nil {
		return dst, x.err
	}
	at, ok := x.block.place[i]
	if !ok {
		return dst, fmt.Errorf("searching for the vector %d: it is not of the block that was begun", i)
	}
	found, err := x.findings(at)
	if err != nil {
		return dst, x.fail(fmt.Errorf("searching for the vector %d: %w", i, err))
	}
	slices.SortFunc(found, func(a, b finding) int {
		nearer := cmp.Compare(b.value, a.value)
		if x.o.Measure == SquaredEuclidean {
			nearer = -nearer
		}
		return cmp.Or(nearer, cmp.Compare(a.at, b.at))
	})
	for _, f := range found {
		dst = append(dst, Match{Item: x.added.items[f.at], Value: f.value})
	}
	return dst, nil
}

// findings are all of the vector at a place of the block.
func (x *Index) findings(at int) ([]finding, error) {
	b := &x.block
	x.stats.Pairs += int64(len(x.added.items))
	found := b.found[b.starts[at]:b.starts[at+1]]
	m := len(b.items)
	chunks := len(b.hits)/m - 1
	if b.more[at] {
		more, err := x.findMore(at, chunks)
		if err != nil {
			return nil, err
		}
		found = slices.Concat(found, more)
	}
	near := b.hits[chunks*m+at]
	if near == 0 || len(b.since) == 0 {
		return found, nil
	}
	l := x.newLook(0)
	l.ask(at)
	for i, j := range b.since {
		if near>>(j/group)&1 != 0 {
			if err := l.compare(b.before+i, b.row(j)); err != nil {
				return nil, err
			}
		}
	}
	x.stats.Exact += l.exact
	return slices.Concat(found, l.found), nil
}

// findMore looks at the groups that Begin had no room for.
func (x *Index) findMore(at, chunks int) ([]finding, error) {
	b := &x.block
	var hit []int
	for c := range chunks {
		for set, g := b.hits[c*len(b.items)+at], c*groups; set != 0; set, g = set>>1, g+1 {
			if set&1 != 0 {
				hit = append(hit, g)
			}
		}
	}
	looks := make([]*look, min(x.workers, len(hit)))
	p := pool.New().WithErrors().WithFirstError()
	for w := range looks {
		l := x.newLook(group)
		l.ask(at)
		looks[w] = l
		mine := hit[len(hit)*w/len(looks) : len(hit)*(w+1)/len(looks)]
		p.Go(func() error {
			for _, g := range mine {
				first := g * group
				n := min(group, b.before-first)
				rows, err := x.added.rows(first/chunk, first%chunk, n, l.rows)
				if err != nil {
					return err
				}
				if err := l.group(first, n, rows.Float32s()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := p.Wait(); err != nil {
		return nil, err
	}
	var found []finding
	for _, l := range looks {
		x.stats.Exact += l.exact
		found = append(found, l.found...)
	}
	return found, nil
}

// look is one goroutine's comparing of vectors of the block with added ones.
type look struct {
	x      *Index
	at     int       // place of the one that is asked for
	asked  []float32 // its reduced vector
	bound  float32
	vector []float32

	other []float32
	raw   []byte
	rows  *ort.Tensor // room for reduced vectors that are read
	found []finding
	room  int    // how many there may be that Begin finds
	more  []bool // there was no room for those of a vector
	exact int64
}

func (x *Index) newLook(rows int) *look {
	l := &look{x: x, other: make([]float32, x.o.Dim), raw: make([]byte, x.file.row)}
	if x.added.spilled > 0 {
		l.rows = ort.NewTensor(ort.Float32, int64(rows), int64(x.reduced.width))
	}
	return l
}

func (l *look) ask(at int) {
	b, width := &l.x.block, l.x.reduced.width
	l.at, l.asked, l.bound, l.vector = at, b.asked.Float32s()[at*width:][:width], b.bounds[at], b.vector(at, l.x.o.Dim)
}

// chunk looks at the groups of a chunk that may have a match, as far as there is room for
// what it finds. hits are those of each vector of the block. Those of the block itself are
// looked at when they are asked for.
func (l *look) chunk(c int, hits []uint32, rows *ort.Tensor) error {
	b := &l.x.block
	n := b.size(c)
	there := uint32(1)<<(whole(n)/group) - 1
	for i := range hits {
		hits[i] &= there
		set := hits[i]
		if set == 0 || c == b.chunks() {
			continue
		}
		l.ask(i)
		for g := 0; set>>g != 0; g++ {
			switch first := g * group; {
			case set>>g&1 == 0:
			case len(l.found)+group > l.room:
				l.more[i] = true
			default:
				hits[i] &^= 1 << g
				if err := l.group(c*chunk+first, min(group, n-first), rows.Float32s()[first*l.x.reduced.width:]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// group compares with n added ones from the first one on.
func (l *look) group(first, n int, reduced []float32) error {
	width := len(l.asked)
	for j := range n {
		if err := l.compare(first+j, reduced[j*width:][:width]); err != nil {
			return err
		}
	}
	return nil
}

// compare compares with the one that was added so many before.
func (l *look) compare(at int, reduced []float32) error {
	if inner(l.asked, reduced) < l.bound {
		return nil
	}
	item := l.x.added.items[at]
	if item == l.x.block.items[l.at] {
		return nil
	}
	if err := l.x.file.read(item, l.other, l.raw); err != nil {
		return err
	}
	l.exact++
	if v := l.x.value(l.vector, l.other); l.x.near(v) {
		l.found = append(l.found, finding{asked: uint32(l.at), at: uint32(at), value: v})
	}
	return nil
}
