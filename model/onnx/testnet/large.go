package testnet

import (
	"math"
	"strconv"

	"github.com/forgepipe/forgepipe/model/onnx"
)

func itoa(i int) string { return strconv.Itoa(i) }

// ResNet18 is the network of He et al. 2015 with batch normalisation as it is
// trained: "input" [batch 3 224 224] to "output" [batch classes], or to the 512
// features before the last layer with 0 classes.
func ResNet18(classes int) *onnx.Graph {
	b := newBuilder("resnet18", onnx.Float32)
	x := b.Input("input", onnx.Float32, b.Dim("batch"), 3, 224, 224)
	y := b.Relu(b.convNorm("conv1", x, 3, 64, 7, 2, 1))
	y = b.MaxPool(y, onnx.PoolOptions{Size: 3, Stride: 2, Pad: 1})
	in := 64
	for layer, out := range []int{64, 128, 256, 512} {
		for block := range 2 {
			stride := 1
			if layer > 0 && block == 0 {
				stride = 2
			}
			b.Scope("layer"+itoa(layer+1)+"."+itoa(block), func() {
				y = b.basicBlock("layer"+itoa(layer+1)+"."+itoa(block), y, in, out, stride)
			})
			in = out
		}
	}
	y = b.Flatten(b.GlobalAveragePool(y), 1)
	if classes > 0 {
		y = b.linear("fc", y, 512, classes)
	}
	b.Output("output", y)
	return b.Graph
}

// convNorm adds a convolution without a bias and its normalisation, of a scale
// around gain.
func (b *builder) convNorm(name string, x *onnx.Value, in, out, size, stride int, gain float64) *onnx.Value {
	w := b.he(name+".weight", 2, in*size*size, out, in, size, size)
	y := b.Conv(x, w, nil, onnx.ConvOptions{Stride: stride, Pad: size / 2})
	n := name + ".bn"
	return b.BatchNorm(y, b.uniform(n+".weight", gain, 0.1*gain, out), b.uniform(n+".bias", 0, 0.1, out),
		b.uniform(n+".running_mean", 0, 0.1, out), b.uniform(n+".running_var", 1, 0.1, out), 1e-5)
}

// basicBlock halves what it adds, so that the sums of eight blocks stay small.
func (b *builder) basicBlock(name string, x *onnx.Value, in, out, stride int) *onnx.Value {
	y := b.Relu(b.convNorm(name+".conv1", x, in, out, 3, stride, 1))
	y = b.convNorm(name+".conv2", y, out, out, 3, 1, 0.5)
	if stride != 1 || in != out {
		x = b.convNorm(name+".downsample", x, in, out, 1, stride, 0.7)
	}
	return b.Relu(b.Add(y, x))
}

// ViTOptions are the sizes of a vision transformer.
type ViTOptions struct {
	Image, Patch  int // sides in pixels
	Width, Layers int // numbers of a token; blocks of attention and perceptron
	Heads         int // of each attention; they divide Width
	Dim           int // of the vector
}

// ViTB32 is the image half of CLIP ViT-B/32: "input" [batch 3 224 224] to "output"
// [batch 512], 350 MB of weights.
func ViTB32() *onnx.Graph {
	return ViT(ViTOptions{Image: 224, Patch: 32, Width: 768, Layers: 12, Heads: 12, Dim: 512})
}

// ViT is the image half of CLIP (Radford et al. 2021) with the exact GELU: "input"
// [batch 3 Image Image] to "output" [batch Dim], which is not normalised.
func ViT(o ViTOptions) *onnx.Graph {
	b := newBuilder("vit", onnx.Float32)
	w, side := o.Width, o.Image/o.Patch
	x := b.Input("input", onnx.Float32, b.Dim("batch"), 3, o.Image, o.Image)
	conv := b.he("conv1.weight", 1, 3*o.Patch*o.Patch, w, 3, o.Patch, o.Patch)
	y := b.Conv(x, conv, nil, onnx.ConvOptions{Stride: o.Patch})
	y = b.Transpose(b.Reshape(y, 0, w, side*side), 0, 2, 1)
	class := b.uniform("class_embedding", 0, 1, 1, 1, w)
	batch := b.Slice(b.Shape(x), 0, 0, 1)
	y = b.Concat(1, b.ExpandTo(class, b.Concat(0, batch, b.List(1, w))), y)
	y = b.Add(y, b.uniform("positional_embedding", 0, 0.5, 1, side*side+1, w))
	y = b.norm("ln_pre", y, w)
	for i := range o.Layers {
		name := "resblocks." + itoa(i)
		b.Scope(name, func() { y = b.resblock(name, y, side*side+1, o) })
	}
	y = b.Gather(y, b.Scalar(onnx.Int64, 0), 1)
	y = b.MatMul(b.norm("ln_post", y, w), b.he("proj", 1, w, w, o.Dim))
	b.Output("output", y, b.Dim("batch"), o.Dim)
	return b.Graph
}

// norm adds a layer normalisation over n numbers.
func (b *builder) norm(name string, x *onnx.Value, n int) *onnx.Value {
	return b.LayerNorm(x, b.uniform(name+".weight", 1, 0.1, n), b.uniform(name+".bias", 0, 0.1, n), 1e-5)
}

// project adds a linear layer for [N tokens in], of weights [in out].
func (b *builder) project(name string, x *onnx.Value, in, out int) *onnx.Value {
	return b.Add(b.MatMul(x, b.he(name+".weight", 1, in, in, out)), b.uniform(name+".bias", 0, 0.01, out))
}

// resblock is attention and a perceptron, each added to what came in.
func (b *builder) resblock(name string, x *onnx.Value, tokens int, o ViTOptions) *onnx.Value {
	w, head := o.Width, o.Width/o.Heads
	qkv := b.Split(b.project(name+".attn.in_proj", b.norm(name+".ln_1", x, w), w, 3*w), 2, w, w, w)
	heads := func(v *onnx.Value, perm ...int) *onnx.Value {
		return b.Transpose(b.Reshape(v, 0, tokens, o.Heads, head), perm...)
	}
	q, k, v := heads(qkv[0], 0, 2, 1, 3), heads(qkv[1], 0, 2, 3, 1), heads(qkv[2], 0, 2, 1, 3)
	root := b.Scalar(onnx.Float32, math.Sqrt(float64(head)))
	attention := b.Softmax(b.Div(b.MatMul(q, k), root), -1)
	y := b.Reshape(b.Transpose(b.MatMul(attention, v), 0, 2, 1, 3), 0, tokens, w)
	x = b.Add(x, b.project(name+".attn.out_proj", y, w, w))
	y = b.Gelu(b.project(name+".mlp.c_fc", b.norm(name+".ln_2", x, w), w, 4*w))
	return b.Add(x, b.project(name+".mlp.c_proj", y, 4*w, w))
}
