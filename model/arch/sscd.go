package arch

import (
	"fmt"
	"math"

	"github.com/forgepipe/forgepipe/model/onnx"
)

// SSCD is the copy detection network of Pizzi et al. 2022 in torchvision's naming: a
// ResNet whose features are pooled by their generalised mean and projected. The output is
// a vector of length 1.
var sscd = architecture{
	name:  "SSCD",
	marks: [][]string{{"backbone.conv1.weight", "backbone.bn1.running_mean", "backbone.layer4.0.conv1.weight", "backbone.fc.weight"}},
	build: func(n *net) {
		x := n.picture(3)
		y, width := n.resNetTrunk("backbone.", x)
		dim := n.w.dim("backbone.fc.weight", 0)
		y = n.linear("backbone.fc", n.Flatten(n.generalisedMean(y), 1), width, dim)
		n.Output("output", n.unitLength(y), n.Dim("batch"), dim)
		n.about.Details = fmt.Sprintf("%s, %d numbers", n.about.Details, dim)
		n.about.Preset = "sscd"
	},
}

// generalisedMean pools x [N C H W] to [N C 1 1]: the cube root of the mean of cubes
// (Radenovic et al. 2018, with their p = 3).
func (n *net) generalisedMean(x *onnx.Value) *onnx.Value {
	const p, least = 3, 1e-6
	x = n.Clip(n.exact(x), least, math.MaxFloat32)
	y := n.Pow(n.GlobalAveragePool(n.Mul(n.Mul(x, x), x)), n.Scalar(onnx.Float32, 1.0/p))
	return n.back(y)
}

// unitLength brings the vectors x [N dim] to length 1.
func (n *net) unitLength(x *onnx.Value) *onnx.Value {
	x = n.exact(x)
	length := n.Sqrt(n.ReduceSum(n.Mul(x, x), true, 1))
	return n.back(n.Div(x, n.Clip(length, 1e-12, math.MaxFloat32)))
}

// exact is x in float32, for what float16 is too narrow for; back is its inverse.
func (n *net) exact(x *onnx.Value) *onnx.Value {
	if n.element == onnx.Float32 {
		return x
	}
	return n.Cast(x, onnx.Float32)
}

func (n *net) back(x *onnx.Value) *onnx.Value {
	if n.element == onnx.Float32 {
		return x
	}
	return n.Cast(x, n.element)
}
