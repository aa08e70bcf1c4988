package onnx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// unary adds a node that turns every element into one.
func (g *Graph) unary(op string, x *Value, attrs ...Attr) *Value {
	return g.op(op, []*Value{x}, func() (ElementType, []int, error) { return x.elem, x.dims, nil }, attrs...)
}

// Relu is max(x, 0).
func (g *Graph) Relu(x *Value) *Value { return g.unary("Relu", x) }

// LeakyRelu is x where x > 0, and x times slope elsewhere.
func (g *Graph) LeakyRelu(x *Value, slope float32) *Value {
	return g.unary("LeakyRelu", x, Float("alpha", slope))
}

// Sigmoid is 1 / (1 + exp(-x)).
func (g *Graph) Sigmoid(x *Value) *Value { return g.unary("Sigmoid", x) }

// Tanh is the hyperbolic tangent.
func (g *Graph) Tanh(x *Value) *Value { return g.unary("Tanh", x) }

// Erf is the error function.
func (g *Graph) Erf(x *Value) *Value { return g.unary("Erf", x) }

// Sqrt is the square root.
func (g *Graph) Sqrt(x *Value) *Value { return g.unary("Sqrt", x) }

// Identity is x under another name.
func (g *Graph) Identity(x *Value) *Value { return g.unary("Identity", x) }

// Softmax is taken along an axis; -1 is the last.
func (g *Graph) Softmax(x *Value, axis int) *Value {
	return g.op("Softmax", []*Value{x}, func() (ElementType, []int, error) {
		return x.elem, x.dims, checkAxis(x.dims, axis)
	}, Int("axis", axis))
}

func checkAxis(dims []int, a int) error {
	if dims == nil {
		return nil
	}
	_, err := axis(dims, a)
	return err
}

// Gelu is x/2 (1 + erf(x / sqrt(2))), in operators that opset 17 has.
func (g *Graph) Gelu(x *Value) *Value {
	half, one, root := g.Scalar(x.Type(), 0.5), g.Scalar(x.Type(), 1), g.Scalar(x.Type(), math.Sqrt2)
	return g.Mul(g.Mul(x, half), g.Add(g.Erf(g.Div(x, root)), one))
}

// QuickGelu is x sigmoid(1.702 x), which the first CLIP models use.
func (g *Graph) QuickGelu(x *Value) *Value {
	return g.Mul(x, g.Sigmoid(g.Mul(x, g.Scalar(x.Type(), 1.702))))
}

// Silu is x sigmoid(x).
func (g *Graph) Silu(x *Value) *Value { return g.Mul(x, g.Sigmoid(x)) }

// PRelu is x where x > 0, and x times slope elsewhere. The slope is broadcast to
// x: [C 1 1] for one of each channel.
func (g *Graph) PRelu(x, slope *Value) *Value {
	return g.op("PRelu", []*Value{x, slope}, func() (ElementType, []int, error) {
		t, err := sameType(x, slope)
		if err != nil {
			return t, nil, err
		}
		dims, err := broadcast(x.dims, slope.dims)
		if err == nil && len(dims) != len(x.dims) {
			err = errors.New("the slope has more dimensions than x")
		}
		return t, x.dims, err
	})
}

func (g *Graph) binary(op string, a, b *Value) *Value {
	return g.op(op, []*Value{a, b}, func() (ElementType, []int, error) {
		t, err := sameType(a, b)
		if err != nil {
			return t, nil, err
		}
		dims, err := broadcast(a.dims, b.dims)
		return t, dims, err
	})
}

// Add is a + b, broadcast.
func (g *Graph) Add(a, b *Value) *Value { return g.binary("Add", a, b) }

// Sub is a - b, broadcast.
func (g *Graph) Sub(a, b *Value) *Value { return g.binary("Sub", a, b) }

// Mul is a b, broadcast.
func (g *Graph) Mul(a, b *Value) *Value { return g.binary("Mul", a, b) }

// Div is a / b, broadcast.
func (g *Graph) Div(a, b *Value) *Value { return g.binary("Div", a, b) }

// Pow is a to the power of b, broadcast.
func (g *Graph) Pow(a, b *Value) *Value { return g.binary("Pow", a, b) }

// ConvOptions are those of a convolution; what is 0 is what is usual.
type ConvOptions struct {
	Stride   int // 0 is 1
	Pad      int // on all four sides
	Dilation int // 0 is 1
	Groups   int // 0 is 1
}

// Conv is a convolution of x [N C H W] with w [O C/Groups h w], and the bias b [O]
// or nil.
func (g *Graph) Conv(x, w, b *Value, o ConvOptions) *Value {
	stride, dilation, groups := max(o.Stride, 1), max(o.Dilation, 1), max(o.Groups, 1)
	b = optional(b)
	// The attribute kernel_shape can be left out: it follows from w.
	return g.op("Conv", []*Value{x, w, b}, func() (ElementType, []int, error) {
		t, err := sameType(x, w, b)
		if err := errors.Join(err, rank(x, 4), rank(w, 4)); err != nil {
			return t, nil, err
		}
		if c := w.dims[1] * groups; w.dims[1] >= 0 && x.dims[1] >= 0 && c != x.dims[1] {
			return t, nil, fmt.Errorf("the weights are for %d channels, and x has %d", c, x.dims[1])
		}
		if w.dims[0]%groups != 0 {
			return t, nil, fmt.Errorf("%d channels cannot come out of %d groups", w.dims[0], groups)
		}
		if err := vector("bias", b, w.dims[0]); err != nil {
			return t, nil, err
		}
		out := []int{x.dims[0], w.dims[0], 0, 0}
		for i := 2; i < 4; i++ {
			if out[i], err = slide(x.dims[i], w.dims[i], stride, dilation, o.Pad, o.Pad); err != nil {
				return t, nil, err
			}
		}
		return t, out, nil
	}, Ints("strides", stride, stride), Ints("pads", o.Pad, o.Pad, o.Pad, o.Pad),
		Ints("dilations", dilation, dilation), Int("group", groups))
}

// PoolOptions are those of a pooling; the window has the same size both ways.
type PoolOptions struct {
	Size     int  // of the window's sides
	Stride   int  // 0 is 1
	Pad      int  // on all four sides
	CountPad bool // AveragePool: padding counts as zeros
}

// MaxPool is the largest of each window of x [N C H W].
func (g *Graph) MaxPool(x *Value, o PoolOptions) *Value { return g.pool("MaxPool", x, o) }

// AveragePool is the mean of each window of x [N C H W].
func (g *Graph) AveragePool(x *Value, o PoolOptions) *Value {
	if o.CountPad {
		return g.pool("AveragePool", x, o, Int("count_include_pad", 1))
	}
	return g.pool("AveragePool", x, o)
}

func (g *Graph) pool(op string, x *Value, o PoolOptions, attrs ...Attr) *Value {
	stride := max(o.Stride, 1)
	attrs = append(attrs, Ints("kernel_shape", o.Size, o.Size), Ints("strides", stride, stride),
		Ints("pads", o.Pad, o.Pad, o.Pad, o.Pad))
	return g.op(op, []*Value{x}, func() (ElementType, []int, error) {
		if o.Size < 1 || o.Pad >= o.Size {
			return x.elem, nil, fmt.Errorf("a window of %d with a padding of %d is not possible", o.Size, o.Pad)
		}
		if err := rank(x, 4); err != nil {
			return x.elem, nil, err
		}
		out := slices.Clone(x.dims)
		for i := 2; i < 4; i++ {
			var err error
			if out[i], err = slide(x.dims[i], o.Size, stride, 1, o.Pad, o.Pad); err != nil {
				return x.elem, nil, err
			}
		}
		return x.elem, out, nil
	}, attrs...)
}

// GlobalAveragePool is the mean over H and W of x [N C H W]: [N C 1 1].
func (g *Graph) GlobalAveragePool(x *Value) *Value {
	return g.op("GlobalAveragePool", []*Value{x}, func() (ElementType, []int, error) {
		if err := rank(x, 4); err != nil {
			return x.elem, nil, err
		}
		return x.elem, []int{x.dims[0], x.dims[1], 1, 1}, nil
	})
}

// ReduceMean is the mean along axes, which are kept with size 1 where keep is
// set.
func (g *Graph) ReduceMean(x *Value, keep bool, axes ...int) *Value {
	return g.op("ReduceMean", []*Value{x}, func() (ElementType, []int, error) {
		dims, err := reduce(x, keep, axes)
		return x.elem, dims, err
	}, Ints("axes", axes...), Int("keepdims", number(keep)))
}

// ReduceSum is the sum along axes, as ReduceMean is the mean.
func (g *Graph) ReduceSum(x *Value, keep bool, axes ...int) *Value {
	return g.op("ReduceSum", []*Value{x, g.List(axes...)}, func() (ElementType, []int, error) {
		dims, err := reduce(x, keep, axes)
		return x.elem, dims, err
	}, Int("keepdims", number(keep)))
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

func reduce(x *Value, keep bool, axes []int) ([]int, error) {
	if len(axes) == 0 {
		return nil, errors.New("no axes are given")
	}
	if x.dims == nil {
		return nil, errUnknown
	}
	gone := make([]bool, len(x.dims))
	for _, a := range axes {
		at, err := axis(x.dims, a)
		if err != nil {
			return nil, err
		}
		gone[at] = true
	}
	out := []int{}
	for i, d := range x.dims {
		if !gone[i] {
			out = append(out, d)
		} else if keep {
			out = append(out, 1)
		}
	}
	return out, nil
}

// MatMul multiplies the matrices in the last two dimensions, and broadcasts the
// others.
func (g *Graph) MatMul(a, b *Value) *Value {
	return g.op("MatMul", []*Value{a, b}, func() (ElementType, []int, error) {
		t, err := sameType(a, b)
		if err != nil {
			return t, nil, err
		}
		if a.dims == nil || b.dims == nil {
			return t, nil, errUnknown
		}
		m, n := len(a.dims), len(b.dims)
		if m < 2 || n < 2 {
			return t, nil, errors.New("matrices need 2 dimensions")
		}
		if _, ok := merge(a.dims[m-1], b.dims[n-2]); !ok {
			return t, nil, fmt.Errorf("%d columns and %d rows do not go together", a.dims[m-1], b.dims[n-2])
		}
		dims, err := broadcast(a.dims[:m-2], b.dims[:n-2])
		return t, append(dims, a.dims[m-2], b.dims[n-1]), err
	})
}

// Gemm is a b + c for matrices a [M K] and b [K N], or b [N K] with transB, as
// linear layers are stored in checkpoints. c [N] may be nil.
func (g *Graph) Gemm(a, b, c *Value, transB bool) *Value {
	c = optional(c)
	return g.op("Gemm", []*Value{a, b, c}, func() (ElementType, []int, error) {
		t, err := sameType(a, b, c)
		if err := errors.Join(err, rank(a, 2), rank(b, 2)); err != nil {
			return t, nil, err
		}
		k, n := b.dims[0], b.dims[1]
		if transB {
			k, n = n, k
		}
		if _, ok := merge(a.dims[1], k); !ok {
			return t, nil, fmt.Errorf("the weights are for %d numbers, and there are %d", k, a.dims[1])
		}
		return t, []int{a.dims[0], n}, vector("bias", c, n)
	}, Int("transB", number(transB)))
}

// BatchNorm is (x - mean) / sqrt(variance + epsilon) scale + bias for each channel
// of x [N C ...]; the others are [C].
func (g *Graph) BatchNorm(x, scale, bias, mean, variance *Value, epsilon float32) *Value {
	return g.op("BatchNormalization", []*Value{x, scale, bias, mean, variance}, func() (ElementType, []int, error) {
		t, err := sameType(x, scale, bias, mean, variance)
		if err != nil || x.dims == nil {
			return t, nil, err
		}
		if len(x.dims) < 2 {
			return t, nil, errors.New("x has no channels")
		}
		c := x.dims[1]
		return t, x.dims, errors.Join(vector("scale", scale, c), vector("bias", bias, c), vector("mean", mean, c),
			vector("variance", variance, c))
	}, Float("epsilon", epsilon))
}

// LayerNorm normalises along the last axis of x; scale and bias have its size.
func (g *Graph) LayerNorm(x, scale, bias *Value, epsilon float32) *Value {
	return g.op("LayerNormalization", []*Value{x, scale, bias}, func() (ElementType, []int, error) {
		t, err := sameType(x, scale, bias)
		if err != nil || x.dims == nil {
			return t, nil, err
		}
		if len(x.dims) == 0 {
			return t, nil, errors.New("x has no axis")
		}
		c := x.dims[len(x.dims)-1]
		return t, x.dims, errors.Join(vector("scale", scale, c), vector("bias", bias, c))
	}, Int("axis", -1), Float("epsilon", epsilon))
}

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
		return x.elem, slices.Concat(x.dims[:along], index.dims, x.dims[along+1:]), nil
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

// ResizeOptions are those of Resize. Names are ONNX's.
type ResizeOptions struct {
	Mode        string    // "nearest", "linear" or "cubic"
	Coordinates string    // "half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"
	Nearest     string    // for nearest: "floor", "round_prefer_floor"
	Cubic       float32   // for cubic: the coefficient; 0 is -0.75
	Scales      []float32 // one for each axis, or
	Sizes       []int     // one for each axis
}

// Resize resamples x by Scales or to Sizes.
func (g *Graph) Resize(x *Value, o ResizeOptions) *Value {
	attrs := []Attr{Text("mode", o.Mode), Text("coordinate_transformation_mode", o.Coordinates)}
	if o.Nearest != "" {
		attrs = append(attrs, Text("nearest_mode", o.Nearest))
	}
	if o.Cubic != 0 {
		attrs = append(attrs, Float("cubic_coeff_a", o.Cubic))
	}
	in := []*Value{x, absent}
	if o.Scales != nil {
		in = append(in, g.Float32s("", o.Scales, len(o.Scales)))
	} else {
		in = append(in, absent, g.List(o.Sizes...))
	}
	return g.op("Resize", in, func() (ElementType, []int, error) {
		if (o.Scales == nil) == (o.Sizes == nil) {
			return x.elem, nil, errors.New("either scales or sizes are needed")
		}
		if err := rank(x, len(o.Scales)+len(o.Sizes)); err != nil {
			return x.elem, nil, err
		}
		if o.Sizes != nil {
			return x.elem, slices.Clone(o.Sizes), nil
		}
		out := slices.Clone(x.dims)
		for i, s := range o.Scales {
			switch {
			case s <= 0:
				return x.elem, nil, fmt.Errorf("%v is no scale", s)
			case s != 1 && out[i] < 0:
				out[i] = Dynamic
			case s != 1:
				out[i] = int(math.Floor(float64(out[i]) * float64(s)))
			}
		}
		return x.elem, out, nil
	}, attrs...)
}

// DepthToSpace makes blocks of n x n pixels of n n channels each: [N C n n H W] to
// [N C H n W n], which is PyTorch's pixel shuffle.
func (g *Graph) DepthToSpace(x *Value, n int) *Value {
	return g.op("DepthToSpace", []*Value{x}, func() (ElementType, []int, error) {
		if err := rank(x, 4); err != nil {
			return x.elem, nil, err
		}
		d := x.dims
		if n < 1 || d[1] >= 0 && d[1]%(n*n) != 0 {
			return x.elem, nil, fmt.Errorf("%d channels are not a multiple of %d x %d", d[1], n, n)
		}
		c := Dynamic
		if d[1] >= 0 {
			c = d[1] / (n * n)
		}
		return x.elem, []int{d[0], c, times(d[2], n), times(d[3], n)}, nil
	}, Int("blocksize", n), Text("mode", "CRD"))
}

// PixelUnshuffle is the inverse of DepthToSpace, PyTorch's pixel unshuffle. H and
// W must be multiples of n; where they are not, running the network fails.
func (g *Graph) PixelUnshuffle(x *Value, n int) *Value {
	y := g.op("SpaceToDepth", []*Value{x}, func() (ElementType, []int, error) {
		if err := rank(x, 4); err != nil {
			return x.elem, nil, err
		}
		out := []int{x.dims[0], times(x.dims[1], n*n), Dynamic, Dynamic}
		for i := 2; i < 4; i++ {
			if d := x.dims[i]; d >= 0 {
				if n < 1 || d%n != 0 {
					return x.elem, nil, fmt.Errorf("%d is not a multiple of %d", d, n)
				}
				out[i] = d / n
			}
		}
		if out[1] < 0 {
			return x.elem, nil, errors.New("the channels must be known")
		}
		return x.elem, out, nil
	}, Int("blocksize", n))
	if g.err != nil || x.dims == nil {
		return y
	}
	// ONNX puts the place in the block before the channel, and PyTorch after it.
	c := x.dims[1]
	order := make([]int, 0, c*n*n)
	for channel := range c {
		for place := range n * n {
			order = append(order, place*c+channel)
		}
	}
	return g.Gather(y, g.List(order...), 1)
}

// PadOptions are those of Pad.
type PadOptions struct {
	Mode   string // "constant" (zeros; also for ""), "reflect" or "edge"
	Before []int  // one for each axis
	After  []int  // one for each axis
}

// Pad enlarges x.
func (g *Graph) Pad(x *Value, o PadOptions) *Value {
	mode := o.Mode
	if mode == "" {
		mode = "constant"
	}
	pads := g.List(slices.Concat(o.Before, o.After)...)
	return g.op("Pad", []*Value{x, pads}, func() (ElementType, []int, error) {
		if len(o.Before) != len(o.After) {
			return x.elem, nil, errors.New("the paddings before and after differ in number")
		}
		if err := rank(x, len(o.Before)); err != nil {
			return x.elem, nil, err
		}
		out := slices.Clone(x.dims)
		for i := range out {
			switch n := o.Before[i] + o.After[i]; {
			case n != 0 && out[i] < 0:
				out[i] = Dynamic
			case n != 0:
				out[i] += n
			}
		}
		return x.elem, out, nil
	}, Text("mode", mode))
}

// Clip is x within low and high.
func (g *Graph) Clip(x *Value, low, high float64) *Value {
	in := []*Value{x, g.Scalar(x.Type(), low), g.Scalar(x.Type(), high)}
	return g.op("Clip", in, func() (ElementType, []int, error) { return x.elem, x.dims, nil })
}

// Cast is x with elements of another type.
func (g *Graph) Cast(x *Value, t ElementType) *Value {
	return g.op("Cast", []*Value{x}, func() (ElementType, []int, error) {
		if t.Bits() == 0 {
			return t, nil, fmt.Errorf("nothing can be made %v", t)
		}
		return t, x.dims, nil
	}, Int("to", int(t)))
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

// Constant is a node that gives the float32 numbers v, of the dimensions dims.
// Weights are rather written with [Graph.Float32s].
func (g *Graph) Constant(v []float32, dims ...int) *Value {
	var data []byte
	for _, f := range v {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(f))
	}
	return g.op("Constant", nil, func() (ElementType, []int, error) {
		if n, ok := count(append([]int{}, dims...)); !ok || n != len(v) {
			return Float32, nil, fmt.Errorf("%v is not %d numbers", dims, len(v))
		}
		return Float32, append([]int{}, dims...), nil
	}, tensorAttr("value", Float32, dims, data))
}
