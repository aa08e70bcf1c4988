package onnx

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

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
