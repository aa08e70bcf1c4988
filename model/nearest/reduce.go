package nearest

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/model"
)

// A reducer makes reduced vectors. What is near by them may be near, and nothing else is.
//
// Write x and y for two vectors as they are compared: brought to length 1 with Cosine,
// scaled by a power of two with SquaredEuclidean, less the centre of the sample. Both
// measures then ask whether D = |x-y|^2 is at most W: for unit vectors D is 2 - 2 times
// the similarity. With N for a squared length, D <= W is
//
//	x y - Ny/2  >=  (Nx - W)/2.                                               (1)
//
// Let U have orthonormal rows, h = Ux, and r the length of x - U'Ux. By Cauchy and Schwarz
//
//	x y  <=  hx hy + rx ry,                                                   (2)
//
// so that a reduced vector is (h, r, c) with c = -N/2, one that is asked for has 1 in the
// place of c, and their product, the bound, is never less than the left side of (1).
//
// That holds for real numbers. The slack for those of the machine, with K numbers in a
// reduced vector and u = 2^-24:
//
//   - h is rounded to float32, r is rounded up, c is rounded up: hx hy is off by at most
//     (2u + u^2)|hx||hy|, the rest is on the safe side.
//   - The bound is a sum of K products in float32. In whatever order it is summed, with
//     fused operations or without, it is off by at most g times the sum of the products'
//     absolute values, where g = Ku/(1-Ku) (Higham, Accuracy and Stability of Numerical
//     Algorithms, 2002, section 3.1), which is at most
//     (1+3u)^2 sqrt(Nx Ny) + Ny/2: rounding up takes up to 3u of r, u for the nearest
//     number and 2u for the one above.
//   - Together that is less than t (sqrt(Nx Ny) + Ny/2), where t = (K+8)u/(1-(K+8)u): t is
//     greater than g by at least 8u, and 2u + u^2 + 7ug are less, as K is at most 2^20 + 2
//     and g less than 0.07. So it is less than t Nx/2 + t Ny. The first is taken off the
//     right side of (1), the second is added to c: each vector has slack by its own length,
//     and one that is very long does not blunt the search among the others.
//   - What is computed in float64 (x, h, N, r, and the value that decides in the end) has
//     errors of at most 16 d (sqrt(K)+1) 2^-53 in relation to M = (length of the vector +
//     length of the centre)^2, which does not get small where x is a small difference.
//     The rows of U are orthonormal but for the matrix E = UU' - I, of which the norm e is
//     measured: hx hy and r^2 are off by at most e N each. Both are in the factor f of M,
//     and f (Mx + My) is shared out as above; f M is added to r^2 as well.
//   - Lengths are at most 1, so that nothing overflows. What underflows, or is flushed to
//     zero, is off by less than K 2^-124, which is less than tiny.
type reducer struct {
	measure Measure
	dim     int
	head    int // numbers of h; dim: there is no rotation, and no r
	width   int // K
	centre  []float64
	middle  float64 // length of the centre
	scale   float64 // of vectors with SquaredEuclidean
	within  float64 // W
	axes    *ort.Tensor
	t, f    float64
	product model.Session
}

const tiny = 1e-30

// newReducer is one without a rotation and with the centre at the origin.
func newReducer(o Options, longest float64, product model.Session) *reducer {
	r := &reducer{measure: o.Measure, dim: o.Dim, centre: make([]float64, o.Dim), scale: 1, within: 2 - 2*o.Within, product: product}
	if o.Measure == SquaredEuclidean {
		if longest > 0 {
			_, e := math.Frexp(math.Sqrt(longest))
			r.scale = math.Ldexp(1, -e)
		}
		r.within = o.Within * r.scale * r.scale
	}
	return r.with(nil, o.Dim, 0)
}

// with is the reducer with the first head of the rows of axes, as columns; off is how far
// these are from being orthonormal.
func (r *reducer) with(axes *ort.Tensor, head int, off float64) *reducer {
	c := *r
	c.axes, c.head = axes, head
	if c.width = head + 1; axes != nil {
		c.width++
	}
	const u, u64 = 0x1p-24, 0x1p-53
	k := float64(c.width+8) * u
	c.t = k / (1 - k)
	c.f = 16*float64(c.dim)*(math.Sqrt(float64(c.width))+1)*u64 + 2*off
	return &c
}

// place is where a vector is that is compared. It gives N, and M.
func (r *reducer) place(v []float32, to []float64) (squares, size float64) {
	var sum float64
	for _, a := range v {
		sum += float64(a) * float64(a)
	}
	length, by := math.Sqrt(sum)*r.scale, r.scale
	if r.measure == Cosine {
		length, by = 1, 1/math.Sqrt(sum)
	}
	for i, a := range v {
		x := float64(a)*by - r.centre[i]
		to[i] = x
		squares += x * x
	}
	size = length + r.middle
	return squares, size * size
}

// reducedRows is how many vectors are rotated at once.
const reducedRows = 128

// reduce reduces n vectors, which vector gives. reduced and bounds have room for them.
func (r *reducer) reduce(ctx context.Context, n int, vector func(i int) ([]float32, error), reduced, bounds []float32) error {
	x := make([]float64, r.dim)
	var squares, sizes [reducedRows]float64
	for at := 0; at < n; at += reducedRows {
		rows := min(reducedRows, n-at)
		var in *ort.Tensor
		if r.axes != nil {
			in = ort.NewTensor(ort.Float64, int64(rows), int64(r.dim))
		}
		for i := range rows {
			v, err := vector(at + i)
			if err != nil {
				return err
			}
			squares[i], sizes[i] = r.place(v, x)
			if r.axes == nil {
				r.finish(x, squares[i], sizes[i], reduced[(at+i)*r.width:][:r.width], &bounds[at+i])
				continue
			}
			put(in.Data[i*r.dim*8:], x)
		}
		if r.axes == nil {
			continue
		}
		out, err := r.product.Run(ctx, []*ort.Tensor{in, r.axes}, ort.RunOptions{})
		if err != nil {
			return fmt.Errorf("rotating vectors: %w", err)
		}
		h := numbers(out[0])
		for i := range rows {
			r.finish(h[i*r.head:][:r.head], squares[i], sizes[i], reduced[(at+i)*r.width:][:r.width], &bounds[at+i])
		}
	}
	return nil
}

// finish writes a reduced vector, as the added ones are, and the bound.
func (r *reducer) finish(h []float64, squares, size float64, to []float32, bound *float32) {
	var inside float64
	for i, a := range h {
		to[i] = float32(a)
		inside += a * a
	}
	if r.axes != nil {
		rest := math.Sqrt(max(0, squares-inside) + r.f*size)
		to[len(h)] = above(rest)
	}
	to[r.width-1] = above(-squares/2 + r.t*squares + r.f*size)
	*bound = -above(-((squares-r.within)/2 - r.t*squares/2 - r.f*size - tiny))
}

// above is a float32 that is not less.
func above(f float64) float32 { return math.Nextafter32(float32(f), float32(math.Inf(1))) }

// put writes float64s as a tensor has them, numbers reads them.
func put(to []byte, v []float64) {
	for i, x := range v {
		binary.NativeEndian.PutUint64(to[8*i:], math.Float64bits(x))
	}
}

func numbers(t *ort.Tensor) []float64 {
	v := make([]float64, len(t.Data)/8)
	for i := range v {
		v[i] = math.Float64frombits(binary.NativeEndian.Uint64(t.Data[8*i:]))
	}
	return v
}
