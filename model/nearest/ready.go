package nearest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/forgepipe/forgepipe/internal/ort"
)

// Ready ends the appending: it takes a sample of the vectors, decides how many numbers the
// reduced ones have, and loads what compares them. What Options.Open gives is tried.
func (x *Index) Ready(ctx context.Context) error {
	if x.err != nil || x.ready {
		return x.err
	}
	if err := x.prepare(ctx); err != nil {
		return x.fail(fmt.Errorf("preparing the search among vectors: %w", err))
	}
	x.ready = true
	return nil
}

func (x *Index) prepare(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := x.file.finish(); err != nil {
		return err
	}
	if err := x.load(ctx); err != nil {
		return err
	}
	x.reduced = newReducer(x.o, x.longest, x.product)
	if x.Len() > 0 {
		if err := x.centre(sampleOf(x.Len(), min(x.Len(), centred))); err != nil {
			return err
		}
	}
	if err := x.choose(ctx); err != nil {
		return err
	}
	early := x.added.items
	x.added = newAdded(x.o, x.reduced.width)
	x.added.items = early // see addEarly
	x.stats.Components = x.reduced.head
	if err := x.openDevice(ctx); err != nil {
		return err
	}
	if x.o.Log != nil {
		x.o.Log.Debug("searching among vectors", "vectors", x.Len(), "numbers", x.o.Dim, "reduced", x.reduced.head, "threads", x.workers, "device", x.device != nil)
	}
	return nil
}

// What things take, in nanoseconds of one thread, measured where the runtime uses AVX-512.
// Elsewhere they are in about the same relation. They decide what is fast, never what is
// found.
const (
	productNs = 0.023 // a number of a reduced vector, for a pair
	pairNs    = 0.2   // the greatest of a group, for a pair
	groupNs   = 30    // looking at a group, and for each of its pairs:
	boundNs   = 5
	boundOfNs = 0.35 // for each number
	exactNs   = 1000 // reading a vector, and for each number:
	exactOfNs = 3.5
	rotateNs  = 0.1 // a number, for each of the vector's
	lengthNs  = 0.6 // making rows orthonormal: a number, for each row before
)

const (
	centred      = 1024     // vectors that the centre is the mean of
	sampled      = 4096     // vectors of the sample
	sampledBytes = 64 << 20 // of their numbers, at most
	iterations   = 3
)

// sampleSize is how many of n vectors are looked at, how many of these the axes are found
// on, and how many axes that are at most.
func sampleSize(dim, n int) (all, train, axes int) {
	all = min(sampled, sampledBytes/(8*dim), n/4)
	train = all / 2
	return all, train, min(train/2, dim*3/4, 510)
}

// sampleBytes is what choosing takes in memory, at most.
func sampleBytes(dim int) int64 {
	all, train, axes := sampleSize(dim, math.MaxInt32)
	return 8 * (int64(train)*int64(dim) + 6*int64(axes)*int64(dim) + 4*int64(all)*int64(axes))
}

// choose decides on the axes and on how many of them are taken: on one half of a sample
// the axes are found, on the other half what each number of them would cost.
func (x *Index) choose(ctx context.Context) error {
	n, d := x.Len(), x.o.Dim
	s, train, most := sampleSize(d, n)
	pairs := float64(n) / 2 * float64(n)
	whole := pairs * (pairNs + productNs*float64(d))
	test := float64(s - train)
	cost := iterations*float64(most)*float64(d)*(2*float64(train)*rotateNs+float64(most)*lengthNs) +
		test*test*3/16*6*float64(most)*productNs // about so many numbers in all heads together
	if most < minHead || whole < 2*cost {
		return nil
	}
	items := sampleOf(n, s)
	rows, off, err := x.axes(ctx, items[:train], most)
	if err != nil || rows == nil {
		return err
	}
	return x.cheapest(ctx, items[train:], rows, most, off)
}

// sampleOf takes s of n numbers, one of each stretch of them, in no order.
func sampleOf(n, s int) []uint32 {
	r := rand.New(rand.NewPCG(1, 2))
	items := make([]uint32, s)
	for i := range items {
		items[i] = uint32(i*(n/s) + r.IntN(n/s))
	}
	r.Shuffle(s, func(i, j int) { items[i], items[j] = items[j], items[i] })
	return items
}

// centre puts the reducer's centre at the mean of the items.
func (x *Index) centre(items []uint32) error {
	v, to := make([]float32, x.o.Dim), make([]float64, x.o.Dim)
	mean, raw := make([]float64, x.o.Dim), make([]byte, x.file.row)
	for _, item := range items {
		if err := x.file.read(item, v, raw); err != nil {
			return err
		}
		x.reduced.place(v, to)
		for i, a := range to {
			mean[i] += a / float64(len(items))
		}
	}
	var squares float64
	for _, a := range mean {
		squares += a * a
	}
	c := *x.reduced
	c.centre, c.middle = mean, math.Sqrt(squares)
	x.reduced = &c
	return nil
}

// minHead is the least number of components that is tried.
const minHead = 6

// heads are the numbers of components that are tried: with the two that come to them, the
// products are of multiples of 8.
func heads(most int) (all []int) {
	for h := minHead; h <= most; h += max(8, (h+2)/4/8*8) {
		all = append(all, h)
	}
	return all
}

// cheapest takes the number of axes that costs least, or none of them: it searches in the
// sample as the search will be.
func (x *Index) cheapest(ctx context.Context, items []uint32, rows []float64, most int, off float64) error {
	n, d := float64(x.Len()), x.o.Dim
	plain := x.reduced.with(nil, d, 0)
	best, least := plain, math.Inf(1)
	asked := min(len(items)/4, Block)
	for _, head := range append(heads(most), d) {
		r := plain
		if head < d {
			r = plain.with(transposed(rows[:head*d], head, d), head, off)
		}
		hitGroups, hitPairs, err := x.try(ctx, r, items[:asked], items[asked:])
		if err != nil {
			return err
		}
		cost := pairNs + productNs*float64(r.width) +
			hitGroups*(groupNs/group+boundNs+boundOfNs*float64(r.width)) +
			hitPairs*(exactNs+exactOfNs*float64(d))
		if head < d {
			cost += rotateNs * float64(head) * float64(d) * 2 / n
		}
		if cost < least {
			best, least = r, cost
		}
	}
	x.reduced = best
	return nil
}

// try tells which share of the groups, and of the pairs, a search would look at.
func (x *Index) try(ctx context.Context, r *reducer, asked, added []uint32) (hitGroups, hitPairs float64, err error) {
	v, raw := make([]float32, x.o.Dim), make([]byte, x.file.row)
	reduce := func(items []uint32) (*ort.Tensor, []float32, error) {
		t, bounds := ort.NewTensor(ort.Float32, int64(len(items)), int64(r.width)), make([]float32, len(items))
		err := r.reduce(ctx, len(items), func(i int) ([]float32, error) { return v, x.file.read(items[i], v, raw) }, t.Float32s(), bounds)
		return t, bounds, err
	}
	q, bounds, err := reduce(asked)
	if err != nil {
		return 0, 0, err
	}
	for i := range asked {
		q.Float32s()[(i+1)*r.width-1] = 1
	}
	all, _, err := reduce(added[:len(added)/group*group])
	if err != nil {
		return 0, 0, err
	}
	rows, width := all.Float32s(), r.width
	hits := make([]uint32, len(asked))
	var g, p int
	n := len(rows) / width
	for at := 0; at < n; at += chunk {
		some := min(chunk, n-at)
		t := &ort.Tensor{Type: ort.Float32, Shape: []int64{int64(some), int64(width)}, Data: all.Data[at*width*4:][:some*width*4]}
		if err := x.best(ctx, x.search, q, t, bounds, hits, len(asked)); err != nil {
			return 0, 0, err
		}
		for i, set := range hits {
			for j := at; set != 0; set, j = set>>1, j+group {
				if set&1 == 0 {
					continue
				}
				g++
				for l := range group {
					if inner(q.Float32s()[i*width:][:width], rows[(j+l)*width:][:width]) >= bounds[i] {
						p++
					}
				}
			}
		}
	}
	count := float64(len(asked)) * float64(n)
	return (float64(g) + 1) * group / count, (float64(p) + 1) / count, nil
}
