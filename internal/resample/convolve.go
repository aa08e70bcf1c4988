package resample

import "context"

// cacheLine is the alignment of the rows between the passes. They are an odd
// number of lines long: rows of a power of two would all fall into a few sets of
// the processor's cache, and the pass over the columns evicts what it needs next.
const cacheLine = 64

// A ring holds the rows between the passes that are still needed: row y lies in
// slot y modulo the number of slots.
type ring[T uint8 | uint16] struct {
	buf    []T
	stride int
	slots  int
}

// ringStride is the distance of rows of n samples.
func ringStride(n int) int {
	lines := (n + cacheLine - 1) / cacheLine
	return (lines | 1) * cacheLine
}

func newRing[T uint8 | uint16](n, slots int) ring[T] {
	stride := ringStride(n)
	return ring[T]{buf: make([]T, slots*stride), stride: stride, slots: slots}
}

// at is where row y begins.
func (r *ring[T]) at(y int) int { return y % r.slots * r.stride }

// passes are the steps of a convolution for one form.
type passes[T uint8 | uint16] struct {
	horizontal func(dst []T, row []uint8)          // from a source's row
	vertical   func(dst []T, r *ring[T], down tap) // from the rows between
	finish     func(dst []uint8, row []T)          // to the result's row
}

// run reads the rows that are needed once each, from the top, and writes those of
// the result in their order.
func (p passes[T]) run(ctx context.Context, to canvas, src source, down []tap) error {
	slots := 1
	for _, t := range down {
		slots = max(slots, len(t.weights))
	}
	n := to.size.X * src.form.channels
	r := newRing[T](n, slots)
	out := make([]T, r.stride)
	next := 0
	for y, t := range down {
		if err := ctx.Err(); err != nil {
			return err
		}
		for next = max(next, t.first); next < t.first+len(t.weights); next++ {
			p.horizontal(r.buf[r.at(next):][:n], src.row(next))
		}
		p.vertical(out, &r, t)
		p.finish(to.row(y), out[:n])
	}
	return nil
}
