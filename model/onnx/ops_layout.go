package onnx

import (
	"errors"
	"fmt"
	"slices"
)

// Transpose puts the axes into the order perm.
func (g *Graph) Transpose(x *Value, perm ...int) *Value {
	return g.op("Transpose", []*Value{x}, func() (ElementType, []int, error) {
		if err := rank(x, len(perm)); err != nil {
			return x.elem, nil, err
		}
		sorted := slices.Sorted(slices.Values(perm))
		out := make([]int, len(perm))
		for i, p := range perm {
			if sorted[i] != i {
				return x.elem, nil, fmt.Errorf("%v is no order of %d axes", perm, len(perm))
			}
			out[i] = x.dims[p%len(perm)]
		}
		return x.elem, out, nil
	}, Ints("perm", perm...))
}

// Reshape gives x other dimensions: 0 keeps the one at this place, and one -1 is
// what is left.
func (g *Graph) Reshape(x *Value, dims ...int) *Value {
	return g.op("Reshape", []*Value{x, g.List(dims...)}, func() (ElementType, []int, error) {
		out, err := reshape(x.dims, dims)
		return x.elem, out, err
	})
}

func reshape(from, to []int) ([]int, error) {
	out := slices.Clone(to)
	rest := -1
	for i, d := range to {
		switch {
		case d < -1:
			return nil, fmt.Errorf("%d is no dimension for Reshape", d)
		case d == -1 && rest >= 0:
			return nil, errors.New("more than one dimension is -1")
		case d == -1:
			rest = i
		case d == 0 && from != nil && i >= len(from):
			return nil, fmt.Errorf("there is no dimension %d to keep", i)
		case d == 0 && from == nil:
			out[i] = Dynamic
		case d == 0:
			out[i] = from[i]
		}
	}
	if from == nil {
		return out, nil
	}
	// Dimensions that are kept at their place cancel out, so that -1 is known with a dynamic batch too.
	have, want := slices.Clone(from), slices.Clone(out)
	for i, d := range to {
		if d == 0 {
			have[i], want[i] = 1, 1
		}
	}
	if rest >= 0 {
		want[rest] = 1
	}
	n, known := count(have)
	m, fixed := count(want)
	switch {
	case !known || !fixed:
	case rest < 0 && n != m, rest >= 0 && (m == 0 || n%m != 0):
		return nil, fmt.Errorf("%d elements do not become %v", n, to)
	case rest >= 0:
		out[rest] = n / m
	}
	return out, nil
}

// ReshapeTo gives x dimensions that are computed: shape is int64 [n].
func (g *Graph) ReshapeTo(x, shape *Value) *Value { return g.shaped("Reshape", x, shape) }

// shaped adds a node whose second input tells the dimensions of what comes out.
func (g *Graph) shaped(op string, x, shape *Value) *Value {
	return g.op(op, []*Value{x, shape}, func() (ElementType, []int, error) {
		if shape.elem != Int64 {
			return x.elem, nil, fmt.Errorf("the shape is of type %v, not int64", shape.elem)
		}
		if err := rank(shape, 1); err != nil || shape.dims[0] < 0 {
			return x.elem, nil, err
		}
		return x.elem, slices.Repeat([]int{Dynamic}, shape.dims[0]), nil
	})
}

// Flatten makes a matrix of x: the dimensions before axis, and those from it.
func (g *Graph) Flatten(x *Value, axis int) *Value {
	return g.op("Flatten", []*Value{x}, func() (ElementType, []int, error) {
		if x.dims == nil {
			return x.elem, []int{Dynamic, Dynamic}, nil
		}
		if axis < 0 || axis > len(x.dims) {
			return x.elem, nil, fmt.Errorf("there is no axis %d of %d dimensions", axis, len(x.dims))
		}
		return x.elem, []int{product(x.dims[:axis]), product(x.dims[axis:])}, nil
	}, Int("axis", axis))
}

// product is the dimension that dims become when they are joined.
func product(dims []int) int {
	out := 1
	for _, d := range dims {
		switch {
		case out == 1:
			out = d
		case d != 1:
			out = times(out, d)
			if d < 0 {
				out = Dynamic
			}
		}
	}
	return out
}

// Concat joins values along an axis.
func (g *Graph) Concat(at int, in ...*Value) *Value {
	return g.op("Concat", in, func() (ElementType, []int, error) {
		if len(in) == 0 {
			return Undefined, nil, errors.New("there is nothing to join")
		}
		t, err := sameType(in...)
		if err != nil || in[0].dims == nil {
			return t, nil, err
		}
		out := slices.Clone(in[0].dims)
		along, err := axis(out, at)
		if err != nil {
			return t, nil, err
		}
		for _, v := range in[1:] {
			if err := rank(v, len(out)); err != nil {
				return t, nil, err
			}
			for i, d := range v.dims {
				var ok bool
				switch {
				case i != along:
					if out[i], ok = merge(out[i], d); !ok {
						return t, nil, fmt.Errorf("%v and %v differ beside axis %d", in[0].dims, v.dims, along)
					}
				case d < 0 || out[i] < 0:
					out[i] = Dynamic
				default:
					out[i] += d
				}
			}
		}
		return t, out, nil
	}, Int("axis", at))
}

// Split cuts x along an axis into parts of the given sizes.
func (g *Graph) Split(x *Value, at int, sizes ...int) []*Value {
	n := g.add("Split", "", []*Value{x, g.List(sizes...)}, []Attr{Int("axis", at)})
	out := make([]*Value, len(sizes))
	for i, size := range sizes {
		var dims []int
		if g.err == nil && x.dims != nil {
			along, err := axis(x.dims, at)
			sum := 0
			for _, s := range sizes {
				sum += s
			}
			if err == nil && x.dims[along] >= 0 && x.dims[along] != sum {
				err = fmt.Errorf("parts of %v are not %d", sizes, x.dims[along])
			}
			if err != nil {
				g.fail("node %q: %w", n.name, err)
			} else {
				dims = slices.Clone(x.dims)
				dims[along] = size
			}
		}
		out[i] = g.result(n, x.Type(), dims)
	}
	return out
}

// Slice is x from start up to end along an axis. Negative numbers count from the
// end; math.MaxInt is the end.
func (g *Graph) Slice(x *Value, at, start, end int) *Value {
	return g.op("Slice", []*Value{x, g.List(start), g.List(end), g.List(at)}, func() (ElementType, []int, error) {
		if x.dims == nil {
			return x.elem, nil, nil
		}
		along, err := axis(x.dims, at)
		if err != nil {
			return x.elem, nil, err
		}
		out := slices.Clone(x.dims)
		d := out[along]
		if d < 0 {
			out[along] = Dynamic
			return x.elem, out, nil
		}
		place := func(i int) int {
			if i < 0 {
				i += d
			}
			return min(max(i, 0), d)
		}
		out[along] = place(end) - place(start)
		if out[along] <= 0 {
			return x.elem, nil, fmt.Errorf("nothing is between %d and %d of %d", start, end, d)
		}
		return x.elem, out, nil
	})
}

// Gather takes what index (int64 or int32) tells along an axis.
func (g *Graph) Gather(x, index *Value, at int) *Value {
	return g.op("Gather", []*Value{x, index}, func() (ElementType, []int, error) {
		if index.elem != Int64 && index.elem != Int32 {
			return x.elem, nil, fmt.Errorf("the index is of type %v, not int64 or int32", index.elem)
		}
		if x.dims == nil || index.dims == nil {
			return x.elem, nil, nil
		}
		along, err := axis(x.dims, at)
		if err != nil {
			return x.elem, nil, err
		}
		return x.elem, append([]int{}, slices.Concat(x.dims[:along], index.dims, x.dims[along+1:])...), nil // never nil
	}, Int("axis", at))
}

// Shape is the dimensions of x, as int64.
func (g *Graph) Shape(x *Value) *Value {
	return g.op("Shape", []*Value{x}, func() (ElementType, []int, error) {
		if x.dims == nil {
			return Int64, []int{Dynamic}, nil
		}
		return Int64, []int{len(x.dims)}, nil
	})
}

// Unsqueeze inserts dimensions of 1, so that they are at axes of what comes out.
func (g *Graph) Unsqueeze(x *Value, axes ...int) *Value {
	return g.op("Unsqueeze", []*Value{x, g.List(axes...)}, func() (ElementType, []int, error) {
		if x.dims == nil {
			return x.elem, nil, nil
		}
		out := slices.Clone(x.dims)
		for _, a := range slices.Sorted(slices.Values(axes)) {
			if a < 0 || a > len(out) {
				return x.elem, nil, fmt.Errorf("there is no place %d in %d dimensions", a, len(out))
			}
			out = slices.Insert(out, a, 1)
		}
		return x.elem, out, nil
	})
}

// Squeeze takes dimensions of 1 out.
func (g *Graph) Squeeze(x *Value, axes ...int) *Value {
	return g.op("Squeeze", []*Value{x, g.List(axes...)}, func() (ElementType, []int, error) {
		for _, a := range axes {
			at, err := axis(x.dims, a)
			if err == nil && x.dims[at] > 1 {
				err = fmt.Errorf("axis %d has a size of %d, not 1", a, x.dims[at])
			}
			if err != nil && x.dims != nil {
				return x.elem, nil, err
			}
		}
		dims, err := reduce(x, false, axes)
		return x.elem, dims, err
	})
}

// Expand repeats x where it has a size of 1, until it has the dimensions dims.
func (g *Graph) Expand(x *Value, dims ...int) *Value {
	return g.op("Expand", []*Value{x, g.List(dims...)}, func() (ElementType, []int, error) {
		for _, d := range dims {
			if d < 1 {
				return x.elem, nil, fmt.Errorf("%d is no dimension for Expand", d)
			}
		}
		out, err := broadcast(x.dims, dims)
		return x.elem, out, err
	})
}

// ExpandTo expands x to dimensions that are computed: shape is int64 [n].
func (g *Graph) ExpandTo(x, shape *Value) *Value { return g.shaped("Expand", x, shape) }
