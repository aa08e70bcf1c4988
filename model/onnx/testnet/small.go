package testnet

import (
	"cmp"
	"math"

	"github.com/forgepipe/forgepipe/model/onnx"
)

// EmbedderOptions vary the small embedder.
type EmbedderOptions struct {
	Batch    int              // 0 is dynamic, named "batch"
	Size     int              // of the image's sides; 0 is dynamic, named "height" and "width"
	Channels int              // 0 is 3
	Dim      int              // of the vector; 0 is 16
	Type     onnx.ElementType // of weights, input and output: Float32 (also for Undefined) or Float16
}

// dim is n, or the named dimension for 0.
func (b *builder) dim(n int, name string) int {
	if n == 0 {
		return b.Dim(name)
	}
	return n
}

// Embedder makes vectors of images with two small convolutions: "input" [N C H W]
// to "output" [N Dim].
func Embedder(o EmbedderOptions) *onnx.Graph {
	b := newBuilder("embedder", o.Type)
	channels, dim := cmp.Or(o.Channels, 3), cmp.Or(o.Dim, 16)
	x := b.Input("input", b.elem, b.dim(o.Batch, "batch"), channels, b.dim(o.Size, "height"), b.dim(o.Size, "width"))
	y := b.features(x, channels)
	b.Output("output", b.linear("head", y, 16, dim))
	return b.Graph
}

// features makes 16 numbers of an image.
func (b *builder) features(x *onnx.Value, channels int) *onnx.Value {
	y := b.Relu(b.conv("conv1", x, channels, 8, 3, onnx.ConvOptions{Stride: 2, Pad: 1}))
	y = b.Relu(b.conv("conv2", y, 8, 16, 3, onnx.ConvOptions{Stride: 2, Pad: 1}))
	return b.Flatten(b.GlobalAveragePool(y), 1)
}

// image adds the input [batch 3 height width], all dynamic but the channels.
func (b *builder) image(name string) *onnx.Value {
	return b.Input(name, b.elem, b.Dim("batch"), 3, b.Dim("height"), b.Dim("width"))
}

// SeveralPorts has the inputs "image" and "reference" [batch 3 height width] and
// "strength" [1], and the outputs "embedding" [batch 16], "difference" [batch 1
// height width] and "score" [batch 1].
func SeveralPorts() *onnx.Graph {
	b := newBuilder("several-ports", onnx.Float32)
	image, reference := b.image("image"), b.image("reference")
	strength := b.Input("strength", onnx.Float32, 1)
	difference := b.Mul(b.Sub(image, reference), strength)
	embedding := b.features(image, 3)
	b.Output("embedding", embedding)
	b.Output("difference", b.ReduceMean(b.Mul(difference, difference), true, 1))
	b.Output("score", b.Sigmoid(b.linear("score", embedding, 16, 1)))
	return b.Graph
}

// MultipleOf8 makes vectors "output" [batch 16] of images "input" [batch 3 height
// width] whose sides are multiples of 8. Nothing in its header says so: running
// it with others fails.
func MultipleOf8() *onnx.Graph {
	b := newBuilder("multiple-of-8", onnx.Float32)
	y := b.PixelUnshuffle(b.image("input"), 8)
	y = b.Relu(b.conv("conv", y, 3*64, 16, 1, onnx.ConvOptions{}))
	b.Output("output", b.Flatten(b.GlobalAveragePool(y), 1))
	return b.Graph
}

// Hog takes about the given bytes for each image of a batch, in one tensor, and
// computes next to nothing: "input" [batch 3 height width] to the channels' means
// "output" [batch 3]. The bytes are rounded down to a multiple of 12, and are 12
// at least.
func Hog(bytesPerItem int) *onnx.Graph {
	b := newBuilder("hog", onnx.Float32)
	mean := b.ReduceMean(b.image("input"), false, 2, 3)
	large := b.Expand(b.Unsqueeze(mean, 2), 1, 3, max(bytesPerItem/12, 1))
	b.Output("output", b.ReduceMean(large, false, 2))
	return b.Graph
}

// NaN gives what is no number, as a network does whose activations overflow:
// "input" [batch 3 height width] to "output" [batch 3].
func NaN() *onnx.Graph {
	b := newBuilder("nan", onnx.Float32)
	y := b.Flatten(b.GlobalAveragePool(b.image("input")), 1)
	negative := b.Sub(b.Mul(y, b.Scalar(onnx.Float32, 0)), b.Scalar(onnx.Float32, 1))
	b.Output("output", b.Sqrt(negative))
	return b.Graph
}

// NoImage has no input that could be an image: "tokens" int64 [batch 77] to
// "output" [batch 16].
func NoImage() *onnx.Graph {
	b := newBuilder("no-image", onnx.Float32)
	tokens := b.Input("tokens", onnx.Int64, b.Dim("batch"), 77)
	table := b.uniform("embedding", 0, 1, 1000, 16)
	b.Output("output", b.ReduceMean(b.Gather(table, tokens, 0), false, 1))
	return b.Graph
}

// UnknownOp has a node of an operator that does not exist: its header can be
// read, and no runtime loads it.
func UnknownOp() *onnx.Graph {
	b := newBuilder("unknown-op", onnx.Float32)
	x := b.image("input")
	y := b.Node(onnx.Node{Op: "Frobnicate", In: []*onnx.Value{x}, Out: []onnx.Out{{Type: onnx.Float32, Dims: x.Dims()}}})
	b.Output("output", y[0])
	return b.Graph
}

// Compact is SRVGGNetCompact, the small network of Real-ESRGAN (Wang et al. 2021):
// "input" [batch 3 height width] in [0,1] to "output", larger by scale. The
// published ones have 64 features, and 16 or 32 convolutions between the first
// and the last.
func Compact(scale, features, convs int) *onnx.Graph {
	b := newBuilder("compact", onnx.Float32)
	x := b.image("input")
	same := onnx.ConvOptions{Pad: 1}
	prelu := func(i string, y *onnx.Value) *onnx.Value {
		return b.PRelu(y, b.uniform("body."+i+".slope", 0.25, 0.05, features, 1, 1))
	}
	y := prelu("1", b.conv("body.0", x, 3, features, 3, same))
	for i := range convs {
		y = prelu(itoa(2*i+3), b.conv("body."+itoa(2*i+2), y, features, features, 3, same))
	}
	// The last one is small, so that what comes out is about the input enlarged.
	last := 3 * scale * scale
	w := b.uniform("body.last.weight", 0, 0.05/math.Sqrt(float64(9*features)), last, features, 3, 3)
	y = b.DepthToSpace(b.Conv(y, w, b.uniform("body.last.bias", 0, 0.01, last), same), scale)
	s := float32(scale)
	base := b.Resize(x, onnx.ResizeOptions{Mode: "nearest", Coordinates: "asymmetric", Nearest: "floor",
		Scales: []float32{1, 1, s, s}})
	b.Output("output", b.Add(y, base))
	return b.Graph
}
