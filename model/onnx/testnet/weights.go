package testnet

import (
	"math"
	"math/rand/v2"

	"github.com/forgepipe/forgepipe/model/onnx"
)

// builder adds weights to a graph. One generator makes all of a network, in the
// order in which it is built.
type builder struct {
	*onnx.Graph
	rand *rand.PCG
	elem onnx.ElementType // of the weights
}

func newBuilder(name string, t onnx.ElementType) *builder {
	if t == onnx.Undefined {
		t = onnx.Float32
	}
	return &builder{onnx.NewGraph(name), rand.NewPCG(1, 2), t}
}

// uniform adds weights around a mean, with a standard deviation. They are
// uniform, because PCG's numbers are specified and those of a normal distribution
// are not.
func (b *builder) uniform(name string, mean, deviation float64, dims ...int) *onnx.Value {
	n := 1
	for _, d := range dims {
		n *= d
	}
	m, scale := float32(mean), float32(deviation*math.Sqrt(3)/(1<<23))
	// The conversion keeps product and sum from being rounded as one.
	next := func() float32 { return m + float32(float32(int32(b.rand.Uint64()>>40)-1<<23)*scale) }
	if b.elem == onnx.Float16 {
		data := make([]uint16, n)
		for i := range data {
			data[i] = onnx.Half(next())
		}
		return b.Float16s(name, data, dims...)
	}
	data := make([]float32, n)
	for i := range data {
		data[i] = next()
	}
	return b.Float32s(name, data, dims...)
}

// he adds weights that keep the size of activations where a rectifier follows (He
// et al. 2015); gain is 2 then, and 1 otherwise.
func (b *builder) he(name string, gain float64, fanIn int, dims ...int) *onnx.Value {
	return b.uniform(name, 0, math.Sqrt(gain/float64(fanIn)), dims...)
}

// conv adds a convolution from in to out channels with a bias.
func (b *builder) conv(name string, x *onnx.Value, in, out, size int, o onnx.ConvOptions) *onnx.Value {
	w := b.he(name+".weight", 2, in*size*size, out, in, size, size)
	return b.Conv(x, w, b.uniform(name+".bias", 0, 0.01, out), o)
}

// linear adds a layer from in to out numbers, for matrices.
func (b *builder) linear(name string, x *onnx.Value, in, out int) *onnx.Value {
	w := b.he(name+".weight", 1, in, out, in)
	return b.Gemm(x, w, b.uniform(name+".bias", 0, 0.01, out), true)
}
