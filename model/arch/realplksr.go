package arch

import (
	"fmt"
	"math"

	"github.com/forgepipe/forgepipe/model/onnx"
)

// RealPLKSR is the real-world variant of the partial large kernel network (Lee et al.
// 2024): in each block a quarter of the channels goes through a convolution of 17x17,
// and all are weighted by a gate. What it makes is added to the picture enlarged by
// repeating its pixels. The variant that ends in DySample instead of a pixel shuffle is
// not known.
var realPLKSR = architecture{
	name:  "RealPLKSR",
	marks: [][]string{{"feats.0.weight", "feats.1.channel_mixer.0.weight", "feats.1.lk.conv.weight", "feats.1.refine.weight"}},
	build: buildRealPLKSR,
}

func buildRealPLKSR(n *net) {
	in, features := n.w.dim("feats.0.weight", 1), n.w.dim("feats.0.weight", 0)
	blocks := 0
	for n.w.has("feats." + itoa(blocks+1) + ".refine.weight") {
		blocks++
	}
	last := "feats." + itoa(blocks+2) // between them is what drops channels in training
	scale := int(math.Sqrt(float64(n.w.dim(last+".weight", 0) / max(in, 1))))
	x := n.picture(in)
	y := n.conv("feats.0", x, in, features, 3, onnx.ConvOptions{Pad: 1})
	for i := 1; i <= blocks; i++ {
		y = n.plkBlock("feats."+itoa(i), y, features)
	}
	y = n.conv(last, y, features, in*scale*scale, 3, onnx.ConvOptions{Pad: 1})
	n.Output("output", n.Add(n.DepthToSpace(y, scale), n.repeat(x, scale)))
	n.about.Details = fmt.Sprintf("%dx, %d blocks of %d features", scale, blocks, features)
}

func (n *net) plkBlock(key string, x *onnx.Value, features int) *onnx.Value {
	y := x
	if n.w.has(key + ".layer_norm.weight") {
		y = n.Transpose(n.layerNorm(key+".layer_norm", n.Transpose(y, 0, 2, 3, 1), features, 1e-6), 0, 3, 1, 2)
	}
	y = n.mish(n.conv(key+".channel_mixer.0", y, features, 2*features, 3, onnx.ConvOptions{Pad: 1}))
	y = n.conv(key+".channel_mixer.2", y, 2*features, features, 3, onnx.ConvOptions{Pad: 1})
	part, size := n.w.dim(key+".lk.conv.weight", 0), n.w.dim(key+".lk.conv.weight", 2)
	large := n.conv(key+".lk.conv", n.Slice(y, 1, 0, part), part, part, size, onnx.ConvOptions{Pad: size / 2})
	y = n.Concat(1, large, n.Slice(y, 1, part, math.MaxInt))
	if n.w.has(key + ".attn.f.0.weight") {
		y = n.Mul(y, n.Sigmoid(n.conv(key+".attn.f.0", y, features, features, 3, onnx.ConvOptions{Pad: 1})))
	}
	y = n.conv(key+".refine", y, features, features, 1, onnx.ConvOptions{})
	if n.w.has(key + ".norm.weight") {
		y = n.groupNorm(key+".norm", y, features, plkGroups)
	}
	return n.Add(y, x)
}

// plkGroups are those of its normalisation; the weights do not tell.
const plkGroups = 4

// mish is x tanh(ln(1 + exp(x))) (Misra 2019), as x / (1 + 2/w) for w = exp(x) (exp(x) + 2):
// the runtime computes logarithms one by one, which took a fifth of the network's time. It
// is as exact, and where exp(x) or w is infinite, or 0, it is x, or 0, as it should be.
func (n *net) mish(x *onnx.Value) *onnx.Value {
	dims := []int{n.Dim("batch"), onnx.Dynamic, onnx.Dynamic, onnx.Dynamic}
	u := n.Node(onnx.Node{Op: "Exp", In: []*onnx.Value{x}, Out: []onnx.Out{{Type: n.element, Dims: dims}}})[0]
	w := n.Mul(u, n.Add(u, n.scalar(2)))
	return n.Div(x, n.Add(n.Div(n.scalar(2), w), n.scalar(1)))
}

// groupNorm normalises groups of channels over the picture (Wu and He 2018).
func (n *net) groupNorm(key string, x *onnx.Value, channels, groups int) *onnx.Value {
	ones := make([]float32, groups)
	for i := range ones {
		ones[i] = 1
	}
	scale, bias := n.constant("", ones, groups), n.constant("", make([]float32, groups), groups)
	flat := n.Reshape(x, 0, groups, -1)
	y := n.Node(onnx.Node{
		Op: "InstanceNormalization", In: []*onnx.Value{flat, scale, bias}, Attrs: []onnx.Attr{onnx.Float("epsilon", normEpsilon)},
		Out: []onnx.Out{{Type: n.element, Dims: []int{n.Dim("batch"), groups, onnx.Dynamic}}},
	})[0]
	y = n.ReshapeTo(y, n.Shape(x))
	return n.Add(n.Mul(y, n.reshaped(key+".weight", channels, 1, 1)), n.reshaped(key+".bias", channels, 1, 1))
}
