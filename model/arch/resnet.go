package arch

import (
	"fmt"

	"github.com/forgepipe/forgepipe/model/onnx"
)

// ResNet is the residual network of He et al. 2015 as torchvision has it, with basic
// blocks (18, 34) or bottlenecks (50, 101, 152). The output is the features before the
// last layer, which is left out.
var resNet = architecture{
	name:   "ResNet",
	marks:  [][]string{{"conv1.weight", "bn1.running_mean", "layer4.0.conv1.weight", "layer4.1.bn2.running_var"}},
	ignore: []string{"fc."},
	build: func(n *net) {
		x := n.Input("input", n.element, n.Dim("batch"), 3, n.Dim("height"), n.Dim("width"))
		y, width := n.resNetTrunk("", x)
		n.Output("output", n.Flatten(n.GlobalAveragePool(y), 1), n.Dim("batch"), width)
		n.about.Preset = "imagenet"
	},
}

// resNetStem is the first layers: a quarter of the picture's size, 64 channels. Keys
// begin with prefix.
func (n *net) resNetStem(prefix string, x *onnx.Value) *onnx.Value {
	y := n.Relu(n.convNorm(prefix+"conv1", prefix+"bn1", x, 3, 64, 7, onnx.ConvOptions{Stride: 2, Pad: 3}))
	return n.MaxPool(y, onnx.PoolOptions{Size: 3, Stride: 2, Pad: 1})
}

// resNetLayer is one of the four groups of blocks, for an input of so many channels. The
// first block halves the size where stride is 2. It returns how many channels come out.
func (n *net) resNetLayer(key string, y *onnx.Value, in, width, stride int) (*onnx.Value, int) {
	blocks := n.w.count(key + ".%.conv1.weight")
	out := width
	for i := range blocks {
		k := key + "." + itoa(i)
		if n.w.has(k + ".conv3.weight") {
			out = 4 * width
		}
		s := 1
		if i == 0 {
			s = stride
		}
		y = n.residual(k, y, in, width, out, s)
		in = out
	}
	return y, out
}

// residual is a block: two convolutions of 3x3, or one between two of 1x1, added to
// what came in.
func (n *net) residual(key string, x *onnx.Value, in, width, out, stride int) *onnx.Value {
	conv := func(i int, y *onnx.Value, in, out, size, stride int) *onnx.Value {
		return n.convNorm(key+".conv"+itoa(i), key+".bn"+itoa(i), y, in, out, size, onnx.ConvOptions{Stride: stride, Pad: size / 2})
	}
	y := x
	if n.w.has(key + ".conv3.weight") {
		y = n.Relu(conv(1, y, in, width, 1, 1))
		y = n.Relu(conv(2, y, width, width, 3, stride))
		y = conv(3, y, width, out, 1, 1)
	} else {
		y = n.Relu(conv(1, y, in, width, 3, stride))
		y = conv(2, y, width, out, 3, 1)
	}
	if n.w.has(key + ".downsample.0.weight") {
		x = n.convNorm(key+".downsample.0", key+".downsample.1", x, in, out, 1, onnx.ConvOptions{Stride: stride})
	}
	return n.Relu(n.Add(y, x))
}

// resNetTrunk is all up to the last features, and how many channels these have.
func (n *net) resNetTrunk(prefix string, x *onnx.Value) (*onnx.Value, int) {
	y := n.resNetStem(prefix, x)
	in, depth := 64, 2
	for i, width := range [...]int{64, 128, 256, 512} {
		stride := 2
		if i == 0 {
			stride = 1
		}
		key := prefix + "layer" + itoa(i+1)
		each := 2
		if n.w.has(key + ".0.conv3.weight") {
			each = 3
		}
		depth += each * n.w.count(key+".%.conv1.weight")
		y, in = n.resNetLayer(key, y, in, width, stride)
	}
	n.about.Details = fmt.Sprintf("%d layers, %d features", depth, in)
	return y, in
}
