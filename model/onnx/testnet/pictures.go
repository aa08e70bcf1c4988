package testnet

import (
	"cmp"

	"github.com/forgepipe/forgepipe/model/onnx"
)

// RRDBOptions vary RRDB.
type RRDBOptions struct {
	Features  int              // of the body; the dense blocks grow by half as many
	Blocks    int              // of three dense blocks each
	Unshuffle int              // makes blocks of so many pixels channels first, in the form of PyTorch's exporter; 0 is 1
	Type      onnx.ElementType // of weights, input and output: Float32 (also for Undefined) or Float16
}

// RRDB is RRDBNet, ESRGAN's network (Wang et al. 2018): "input" [batch 3 height
// width] in [0,1] to "output", four times as large, or as many times less as pixels
// are made channels. The published ones have 64 features and 23 blocks.
func RRDB(o RRDBOptions) *onnx.Graph {
	b := newBuilder("rrdb", o.Type)
	x, channels, nf := b.image("input"), 3, o.Features
	if n := cmp.Or(o.Unshuffle, 1); n > 1 {
		x, channels = b.unshuffle(x, 3, n), 3*n*n
	}
	same := onnx.ConvOptions{Pad: 1}
	first := b.conv("conv_first", x, channels, nf, 3, same)
	y := first
	for i := range o.Blocks {
		in := y
		for k := range 3 {
			y = b.dense("body."+itoa(i)+".rdb"+itoa(k+1), y, nf, nf/2)
		}
		y = b.Add(b.Mul(y, b.Scalar(b.elem, 0.2)), in)
	}
	y = b.Add(first, b.conv("conv_body", y, nf, nf, 3, same))
	for _, name := range []string{"conv_up1", "conv_up2"} {
		y = b.Resize(y, onnx.ResizeOptions{Mode: "nearest", Coordinates: "asymmetric", Nearest: "floor", Scales: []float32{1, 1, 2, 2}})
		y = b.LeakyRelu(b.conv(name, y, nf, nf, 3, same), 0.2)
	}
	y = b.LeakyRelu(b.conv("conv_hr", y, nf, nf, 3, same), 0.2)
	b.Output("output", b.conv("conv_last", y, nf, 3, 3, same))
	return b.Graph
}

// dense is a block of five convolutions, each of which sees what all before it made.
func (b *builder) dense(name string, x *onnx.Value, nf, gc int) *onnx.Value {
	same := onnx.ConvOptions{Pad: 1}
	seen := []*onnx.Value{x}
	for i := range 4 {
		y := b.conv(name+".conv"+itoa(i+1), b.Concat(1, seen...), nf+i*gc, gc, 3, same)
		seen = append(seen, b.LeakyRelu(y, 0.2))
	}
	y := b.conv(name+".conv5", b.Concat(1, seen...), nf+4*gc, nf, 3, same)
	return b.Add(b.Mul(y, b.Scalar(b.elem, 0.2)), x)
}

// side is the size of x along an axis, as a list of one number.
func (b *builder) side(x *onnx.Value, axis int) *onnx.Value {
	return b.Unsqueeze(b.Gather(b.Shape(x), b.Scalar(onnx.Int64, float64(axis)), 0), 0)
}

// unshuffle is PyTorch's pixel unshuffle of x, of so many channels, as its exporter
// writes it.
func (b *builder) unshuffle(x *onnx.Value, channels, n int) *onnx.Value {
	batch, by := b.side(x, 0), b.List(n)
	h, w := b.Div(b.side(x, 2), by), b.Div(b.side(x, 3), by)
	y := b.ReshapeTo(x, b.Concat(0, batch, b.List(channels), h, by, w, by))
	y = b.Transpose(y, 0, 1, 3, 5, 2, 4)
	return b.ReshapeTo(y, b.Concat(0, batch, b.List(channels*n*n), h, w))
}

// shuffle is the inverse, for what becomes so many channels.
func (b *builder) shuffle(x *onnx.Value, channels, n int) *onnx.Value {
	batch, h, w, by := b.side(x, 0), b.side(x, 2), b.side(x, 3), b.List(n)
	y := b.ReshapeTo(x, b.Concat(0, batch, b.List(channels, n, n), h, w))
	y = b.Transpose(y, 0, 1, 4, 2, 5, 3)
	return b.ReshapeTo(y, b.Concat(0, batch, b.List(channels), b.Mul(h, by), b.Mul(w, by)))
}

// Span is like SPAN (Wan et al. 2023) in small: "input" [batch 3 height width] in
// [0,1] to "output", larger by scale, with attention that has no parameters, and a
// pixel shuffle in reshapes.
func Span(scale int) *onnx.Graph {
	b := newBuilder("span", onnx.Float32)
	same := onnx.ConvOptions{Pad: 1}
	x := b.image("input")
	first := b.conv("conv_1", x, 3, 8, 3, same)
	y := first
	for i := range 2 {
		name := "block_" + itoa(i+1)
		z := b.Silu(b.conv(name+".c1_r", y, 8, 8, 3, same))
		z = b.conv(name+".c2_r", z, 8, 8, 3, same)
		y = b.Mul(b.Add(z, y), b.Sub(b.Sigmoid(z), b.Scalar(onnx.Float32, 0.5)))
	}
	y = b.conv("conv_cat", b.Concat(1, first, y), 16, 8, 1, onnx.ConvOptions{})
	y = b.conv("upsampler", y, 8, 3*scale*scale, 3, same)
	b.Output("output", b.shuffle(y, 3, scale))
	return b.Graph
}

// UNet makes a picture "output" of "input" [batch 3 height width], of the same size. It
// halves the picture twice, and the way back meets what was there before: the sides
// must be multiples of 4.
func UNet() *onnx.Graph {
	b := newBuilder("unet", onnx.Float32)
	same, half := onnx.ConvOptions{Pad: 1}, onnx.ConvOptions{Pad: 1, Stride: 2}
	x := b.image("input")
	whole := b.Relu(b.conv("in", x, 3, 8, 3, same))
	halved := b.Relu(b.conv("down1", whole, 8, 16, 3, half))
	y := b.Relu(b.conv("down2", halved, 16, 16, 3, half))
	w := b.he("up2.weight", 2, 16*4, 16, 16, 2, 2)
	y = b.Node(onnx.Node{Op: "ConvTranspose", In: []*onnx.Value{y, w}, Attrs: []onnx.Attr{onnx.Ints("strides", 2, 2)},
		Out: []onnx.Out{{Type: onnx.Float32, Dims: []int{b.Dim("batch"), 16, onnx.Dynamic, onnx.Dynamic}}}})[0]
	y = b.Relu(b.conv("fuse2", b.Concat(1, y, halved), 32, 8, 3, same))
	y = b.Resize(y, onnx.ResizeOptions{Mode: "nearest", Coordinates: "asymmetric", Nearest: "floor", Scales: []float32{1, 1, 2, 2}})
	b.Output("output", b.conv("out", b.Concat(1, y, whole), 16, 3, 3, same))
	return b.Graph
}

// Excited makes a picture "output" of "input" [batch 3 height width], twice as large,
// and weighs the channels of each by their means over all of it (Hu et al. 2018).
func Excited() *onnx.Graph {
	b := newBuilder("excited", onnx.Float32)
	y := b.Relu(b.conv("conv", b.image("input"), 3, 8, 3, onnx.ConvOptions{Pad: 1}))
	weight := b.Sigmoid(b.conv("excite", b.GlobalAveragePool(y), 8, 8, 1, onnx.ConvOptions{}))
	y = b.conv("up", b.Mul(y, weight), 8, 12, 3, onnx.ConvOptions{Pad: 1})
	b.Output("output", b.DepthToSpace(y, 2))
	return b.Graph
}

// Interpolated makes a picture "output" of "input" [batch 3 height width], twice as
// large, by a linear Resize to a size that is computed of the input's, and a
// convolution.
func Interpolated() *onnx.Graph {
	b := newBuilder("interpolated", onnx.Float32)
	x := b.image("input")
	shape := b.Shape(x)
	sides := b.Mul(b.Cast(b.Slice(shape, 0, 2, 4), onnx.Float32), b.Scalar(onnx.Float32, 2))
	floor := b.Node(onnx.Node{Op: "Floor", In: []*onnx.Value{sides}, Out: []onnx.Out{{Type: onnx.Float32, Dims: []int{2}}}})[0]
	sizes := b.Concat(0, b.Slice(shape, 0, 0, 2), b.Cast(floor, onnx.Int64))
	y := b.Node(onnx.Node{Op: "Resize", In: []*onnx.Value{x, b.Float32s("roi", nil, 0), b.Float32s("scales", nil, 0), sizes},
		Attrs: []onnx.Attr{onnx.Text("mode", "linear"), onnx.Text("coordinate_transformation_mode", "pytorch_half_pixel")},
		Out:   []onnx.Out{{Type: onnx.Float32, Dims: []int{b.Dim("batch"), 3, onnx.Dynamic, onnx.Dynamic}}}})[0]
	b.Output("output", b.conv("conv", y, 3, 3, 3, onnx.ConvOptions{Pad: 1}))
	return b.Graph
}
