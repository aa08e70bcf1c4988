package onnx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
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
