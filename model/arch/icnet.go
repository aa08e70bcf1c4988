package arch

import (
	"github.com/forgepipe/forgepipe/model/onnx"
)

// ICNet is the network of IC9600 (Feng et al. 2022), which rates how complex a picture
// is: one ResNet-18 looks at details, a deeper one at half the size at what they are part
// of. Outputs are "score" [batch 1] and "map" [batch 1 height/8 width/8], both 0 to 1,
// higher being more complex. Trained on pictures of 512 pixels; sides must be multiples
// of 64 where pictures come in another size.
//
// Its Body gives "map" and what the score is told from, "features" [batch 512 height/8
// width/8]. Its Head takes those of a piece, "features" [batch 1 512*rows columns], whose
// 512 planes lie one below the other like the rows of one gray picture, and gives "score".
var icNet = architecture{
	name:  "ICNet",
	marks: [][]string{{"b1_1.0.weight", "b1_2_slam.linear.0.weight", "b2_4.0.conv1.weight", "to_map.to_map.0.weight", "head.2.weight"}},
	parts: []Part{Body, Head},
	build: buildICNet,
}

// icFeatures is how many channels the features have.
const icFeatures = 512

func buildICNet(n *net) {
	if n.part == Head {
		x := n.Input("features", n.element, n.Dim("batch"), 1, n.Dim("planes"), n.Dim("columns"))
		columns := n.Slice(n.Shape(x), 0, 3, 4)
		n.icScore(n.ReshapeTo(x, n.Concat(0, n.List(0, icFeatures, -1), columns)))
		return
	}
	features := n.icBody(n.picture(3))
	complexity := n.Sigmoid(n.conv("to_map.to_map.0", n.icHead("to_map_f", features), icFeatures, 1, 1, onnx.ConvOptions{}))
	if n.part != Body {
		n.icScore(features)
	}
	n.Output("map", complexity)
	if n.part == Body {
		n.Output("features", features)
		return // the preset is for scores
	}
	n.about.Preset = "ic9600"
}

// icScore is what features say of a whole picture.
func (n *net) icScore(features *onnx.Value) {
	y := n.Flatten(n.GlobalAveragePool(n.icHead("to_score_f", features)), 1)
	y = n.linear("head.2", n.Relu(n.linear("head.0", y, icFeatures, 512)), 512, 1)
	n.Output("score", n.Sigmoid(y), n.Dim("batch"), 1)
}

// icHead is what the map and the score begin with.
func (n *net) icHead(key string, features *onnx.Value) *onnx.Value {
	y := n.Relu(n.convNorm(key+".conv", key+".bn", features, icFeatures, icFeatures, 3, onnx.ConvOptions{Pad: 1}))
	return n.slam(key+"_slam", y, icFeatures, 32)
}

// icBody is the features of pictures, at an eighth of their size.
func (n *net) icBody(x *onnx.Value) *onnx.Value {

	detail := n.icStem("b1_1", x)
	detail = n.slam("b1_1_slam", detail, 64, 32)
	detail, _ = n.resNetLayer("b1_2", detail, 64, 128, 2)
	detail = n.slam("b1_2_slam", detail, 128, 32)

	context := n.icStem("b2_1", n.resizeTo(x, n.Div(n.sizeOf(x), n.List(2, 2))))
	context = n.slam("b2_1_slam", context, 64, 32)
	in := 64
	for i, side := range [...]int{32, 16, 8} {
		key := "b2_" + itoa(i+2)
		context, in = n.resNetLayer(key, context, in, 128<<i, 2)
		context = n.slam(key+"_slam", context, in, side)
	}

	// A convolution of 1x1 may come before the enlargement as well as after it.
	one := func(key string, x *onnx.Value, in int) *onnx.Value {
		return n.convNorm(key+".conv", key+".bn", x, in, 256, 1, onnx.ConvOptions{})
	}
	wide := n.Relu(n.resizeTo(one("up2", context, in), n.sizeOf(detail)))
	return n.Concat(1, n.Relu(one("up1", detail, 128)), wide)
}

// icStem is ResNet-18's first layers and its first group, in a sequence.
func (n *net) icStem(key string, x *onnx.Value) *onnx.Value {
	y := n.Relu(n.convNorm(key+".0", key+".1", x, 3, 64, 7, onnx.ConvOptions{Stride: 2, Pad: 3}))
	y = n.MaxPool(y, onnx.PoolOptions{Size: 3, Stride: 2, Pad: 1})
	y, _ = n.resNetLayer(key+".4", y, 64, 64, 1)
	return y
}

// slam is the spatial layout attention module: each channel, brought to side x side, goes
// through one perceptron that all share, and is scaled by what that says.
func (n *net) slam(key string, x *onnx.Value, channels, side int) *onnx.Value {
	y := n.Reshape(n.resizeTo(x, n.List(side, side)), 0, channels, side*side)
	hidden := n.w.dim(key+".linear.0.weight", 0)
	y = n.Relu(n.linear(key+".linear.0", y, side*side, hidden))
	y = n.Sigmoid(n.linear(key+".linear.2", y, hidden, 1))
	return n.Mul(x, n.Unsqueeze(y, 3))
}

// sizeOf is the height and width of x [N C H W], as int64 [2].
func (n *net) sizeOf(x *onnx.Value) *onnx.Value { return n.Slice(n.Shape(x), 0, 2, 4) }

// resizeTo resamples x [N C H W] to a size [2] that may be computed, bilinearly, corner on
// corner (PyTorch's align_corners).
func (n *net) resizeTo(x, size *onnx.Value) *onnx.Value {
	sizes := n.Concat(0, n.Slice(n.Shape(x), 0, 0, 2), size)
	out := n.Node(onnx.Node{
		Op: "Resize", In: []*onnx.Value{x, nil, nil, sizes},
		Attrs: []onnx.Attr{onnx.Text("mode", "linear"), onnx.Text("coordinate_transformation_mode", "align_corners")},
		Out:   []onnx.Out{{Type: n.element, Dims: []int{n.Dim("batch"), onnx.Dynamic, onnx.Dynamic, onnx.Dynamic}}},
	})
	return out[0]
}
