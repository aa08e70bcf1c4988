package arch

import (
	"fmt"
	"math"

	"github.com/forgepipe/forgepipe/model/onnx"
)

// Compact is SRVGGNetCompact of Real-ESRGAN (Wang et al. 2021): a row of convolutions
// at the picture's own size, each with a PReLU, and a pixel shuffle at the end. What it
// makes is added to the picture enlarged by repeating its pixels.
var compact = architecture{
	name:  "SRVGGNetCompact",
	marks: [][]string{{"body.0.weight", "body.1.weight", "body.2.weight"}},
	build: buildCompact,
}

func buildCompact(n *net) {
	in, features := n.w.dim("body.0.weight", 1), n.w.dim("body.0.weight", 0)
	last := 0 // index of the last convolution: they are at the even places
	for n.w.has("body." + itoa(last+2) + ".weight") {
		last += 2
	}
	scale := int(math.Sqrt(float64(n.w.dim("body."+itoa(last)+".weight", 0) / max(in, 1))))
	x := n.picture(in)
	y := x
	for i := 0; i < last; i += 2 {
		y = n.conv("body."+itoa(i), y, n.w.dim("body."+itoa(i)+".weight", 1), features, 3, onnx.ConvOptions{Pad: 1})
		y = n.prelu("body."+itoa(i+1), y, features)
	}
	y = n.conv("body."+itoa(last), y, features, in*scale*scale, 3, onnx.ConvOptions{Pad: 1})
	y = n.DepthToSpace(y, scale)
	n.Output("output", n.Add(y, n.repeat(x, scale)))
	n.about.Details = fmt.Sprintf("%dx, %d convolutions of %d features", scale, last/2+1, features)
}

// prelu is the PReLU key.weight of one slope for each channel.
func (n *net) prelu(key string, x *onnx.Value, channels int) *onnx.Value {
	return n.PRelu(x, n.reshaped(key+".weight", channels, 1, 1))
}

// repeat enlarges a picture by repeating its pixels.
func (n *net) repeat(x *onnx.Value, scale int) *onnx.Value {
	if scale == 1 {
		return x
	}
	s := float32(scale)
	return n.Resize(x, onnx.ResizeOptions{Mode: "nearest", Coordinates: "asymmetric", Nearest: "floor", Scales: []float32{1, 1, s, s}})
}
