package nearest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/forgepipe/forgepipe/internal/ort"
)

// axes finds the directions in which the items vary most, as rows, the most important
// first: by orthogonal iteration, in which it matters little how exact they are, and much
// that they are orthonormal; off is how far they are from that.
func (x *Index) axes(ctx context.Context, items []uint32, most int) (rows []float64, off float64, err error) {
	d := x.o.Dim
	data := ort.NewTensor(ort.Float64, int64(len(items)), int64(d))
	v, to, raw := make([]float32, d), make([]float64, d), make([]byte, x.file.row)
	for i, item := range items {
		if err := x.file.read(item, v, raw); err != nil {
			return nil, 0, err
		}
		x.reduced.place(v, to)
		put(data.Data[i*d*8:], to)
	}
	r := rand.New(rand.NewPCG(3, 4))
	rows = make([]float64, most*d)
	for i := range rows {
		rows[i] = r.NormFloat64()
	}
	for i := range iterations {
		seen, err := x.multiply(ctx, data, transposed(rows, most, d))
		if err != nil {
			return nil, 0, err
		}
		out, err := x.multiply(ctx, transposed(numbers(seen), len(items), most), data)
		if err != nil {
			return nil, 0, err
		}
		rows = numbers(out)
		orthonormalise(rows, d, r)
		if i == iterations-1 {
			orthonormalise(rows, d, r) // what rounding left over
		}
	}
	a := ort.NewTensor(ort.Float64, int64(most), int64(d))
	put(a.Data, rows)
	square, err := x.multiply(ctx, a, transposed(rows, most, d))
	if err != nil {
		return nil, 0, err
	}
	for i, e := range numbers(square) {
		if i%(most+1) == 0 {
			e--
		}
		off += e * e
	}
	// The norm of a matrix is at most the root of the sum of its squares.
	if off = math.Sqrt(off); !(off < 1e-9) {
		return nil, 0, nil // numbers so odd are searched as they are
	}
	return rows, off + 0x1p-53*float64(d*most), nil
}

func (x *Index) multiply(ctx context.Context, a, b *ort.Tensor) (*ort.Tensor, error) {
	out, err := x.product.Run(ctx, []*ort.Tensor{a, b}, ort.RunOptions{})
	if err != nil {
		return nil, fmt.Errorf("finding the axes of the vectors: %w", err)
	}
	return out[0], nil
}

// transposed is the tensor of [columns rows] of the matrix m [rows columns].
func transposed(m []float64, rows, columns int) *ort.Tensor {
	t := make([]float64, len(m))
	for i := range rows {
		for j, a := range m[i*columns:][:columns] {
			t[j*rows+i] = a
		}
	}
	out := ort.NewTensor(ort.Float64, int64(columns), int64(rows))
	put(out.Data, t)
	return out
}

// orthonormalise makes rows of d numbers orthonormal, by the modified method of Gram and
// Schmidt. One that the rows before it make up is replaced by another.
func orthonormalise(m []float64, d int, r *rand.Rand) {
	for i := 0; i*d < len(m); i++ {
		row := m[i*d:][:d]
		for {
			before := math.Sqrt(inner(row, row))
			for j := range i {
				other := m[j*d:][:d]
				by := inner(row, other)
				for c, a := range other {
					row[c] -= by * a
				}
			}
			length := math.Sqrt(inner(row, row))
			if length > before*1e-7 && length > 0 {
				for c := range row {
					row[c] /= length
				}
				break
			}
			for c := range row {
				row[c] = r.NormFloat64()
			}
		}
	}
}

// inner is the inner product: of a reduced vector that is asked for and an added one, the
// bound.
func inner[F float32 | float64](a, b []F) F {
	b = b[:len(a)]
	var s0, s1, s2, s3 F
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + (s2 + s3)
}
