package arch

import (
	"math"

	"github.com/forgepipe/forgepipe/model/onnx"
)

// LPIPS is the perceptual distance of Zhang et al. 2018, version 0.1, on the features of
// VGG-16 or AlexNet. Its distance of two pictures is the squared length of a difference:
// the output is, for one picture, the vector of which that is so, [batch values]. Values
// are more for larger pictures; both must have one size. The weights may come in one
// file, or the backbone's and the linear layers' each in its own.
//
// The output "pooled" bounds it from below. Let a and b be what a channel of a layer is at
// the P places of two pictures, without the 1/sqrt(P) that makes it a part of the vector;
// m the mean of each and r the rest, which sums to 0. Then
//
//	|a - b|^2 / P = (m_a - m_b)^2 + |r_a - r_b|^2 / P >= (m_a - m_b)^2 + (s_a - s_b)^2
//
// by the triangle inequality, with s = |r| / sqrt(P), the standard deviation: the means and
// the deviations of all channels are a vector of which the squared length of a difference
// is never more than LPIPS.
var lpips = architecture{
	name: "LPIPS",
	marks: [][]string{
		{"lin0.model.1.weight", "lin4.model.1.weight", "net.slice1.0.weight", "net.slice5.28.weight"},
		{"lin0.model.1.weight", "lin4.model.1.weight", "net.slice1.0.weight", "net.slice5.10.weight"},
		{"lin0.model.1.weight", "lin4.model.1.weight", "features.0.weight", "features.28.weight"},
		{"lin0.model.1.weight", "lin4.model.1.weight", "features.0.weight", "features.10.weight"},
	},
	// The same layers once more, what prepares pictures, and the backbone's classifier.
	ignore: []string{"lins.", "scaling_layer.", "classifier."},
	apart:  "lin0.model.1.weight",
	missing: "it has the linear layers of LPIPS, and the network that they belong to is another file: " +
		"forgepipe models convert LAYERS NETWORK --out lpips.onnx makes one file of both; the names lpips-vgg and lpips-alex of the store find both files",
	build: buildLPIPS,
}

// A backbone is a row of convolutions, each followed by a ReLU. Features are taken at
// the end of each of five groups, and a maximum pooling is between these.
type backbone struct {
	name   string
	groups [5][]int // numbers of the convolutions in torchvision's sequence
	pool   onnx.PoolOptions
	first  onnx.ConvOptions // of the first convolution
}

var (
	vgg16 = backbone{
		name: "VGG-16", groups: [5][]int{{0, 2}, {5, 7}, {10, 12, 14}, {17, 19, 21}, {24, 26, 28}},
		pool: onnx.PoolOptions{Size: 2, Stride: 2}, first: onnx.ConvOptions{Pad: 1},
	}
	alexNet = backbone{
		name: "AlexNet", groups: [5][]int{{0}, {3}, {6}, {8}, {10}},
		pool: onnx.PoolOptions{Size: 3, Stride: 2}, first: onnx.ConvOptions{Stride: 4, Pad: 2},
	}
)

// pooled tells whether a pooling is before a group.
func (b backbone) pooled(group int) bool {
	return group > 0 && (b.name == vgg16.name || group < 3)
}

func buildLPIPS(n *net) {
	b := alexNet
	if n.w.has("features.28.weight") || n.w.has("net.slice5.28.weight") {
		b = vgg16
	}
	y := n.picture(3)
	in, o, values := 3, b.first, 0
	var all, pooled []*onnx.Value
	for g, convs := range b.groups {
		if b.pooled(g) {
			y = n.MaxPool(y, b.pool)
		}
		for _, i := range convs {
			key := "features." + itoa(i)
			if n.w.has("net.slice1.0.weight") {
				key = "net.slice" + itoa(g+1) + "." + itoa(i)
			}
			out, size := n.w.dim(key+".weight", 0), n.w.dim(key+".weight", 2)
			if i > 0 {
				o = onnx.ConvOptions{Pad: size / 2}
			}
			y = n.Relu(n.conv(key, y, in, out, size, o))
			in = out
		}
		whole, mean, spread := n.lpipsLayer("lin"+itoa(g), y, in)
		all, pooled = append(all, whole), append(pooled, mean, spread)
		values += 2 * in
	}
	n.Output("output", n.back(n.Concat(1, all...)))
	n.Output("pooled", n.back(n.Concat(1, pooled...)), n.Dim("batch"), values)
	n.Metadata(OutputKey, "output")
	n.about.Details = b.name
	n.about.Preset = "lpips"
}

// lpipsLayer is what a layer x [N C H W] adds to the vector: features of unit length over
// the channels, times the root of their weight, over the root of the number of places.
// What it adds to the pooled one are the mean over the places of each channel, before they
// are divided, and the standard deviation from that.
func (n *net) lpipsLayer(key string, x *onnx.Value, channels int) (whole, mean, spread *onnx.Value) {
	const epsilon = 1e-10
	weights := n.numbers(key+".model.1.weight", 1, channels, 1, 1)
	roots := make([]float32, len(weights))
	for i, w := range weights {
		if w < 0 {
			n.w.refuse("%q has the weight %g: below 0 there is no distance", key+".model.1.weight", w)
		}
		roots[i] = float32(math.Sqrt(float64(w)))
	}
	if n.w.misfit != "" {
		broken := n.broken(key)
		return broken, broken, broken
	}
	x = n.exact(x) // squares of features are too large for float16
	length := n.Sqrt(n.ReduceSum(n.Mul(x, x), true, 1))
	x = n.Div(x, n.Add(length, n.Scalar(onnx.Float32, epsilon)))
	places := n.Cast(n.sizeOf(x), onnx.Float32)
	places = n.Sqrt(n.Mul(n.Slice(places, 0, 0, 1), n.Slice(places, 0, 1, 2)))
	x = n.Div(n.Mul(x, n.Float32s(key+".roots", roots, channels, 1, 1)), places)
	mean = n.ReduceMean(x, true, 2, 3)
	// One operator, as all features of a layer once more are much memory.
	spread = n.Node(onnx.Node{
		Op: "ReduceL2", In: []*onnx.Value{n.Sub(x, mean)}, Attrs: []onnx.Attr{onnx.Ints("axes", 2, 3), onnx.Int("keepdims", 1)},
		Out: []onnx.Out{{Type: onnx.Float32, Dims: []int{n.Dim("batch"), channels, 1, 1}}},
	})[0]
	return n.Flatten(x, 1), n.Flatten(n.Mul(mean, places), 1), n.Flatten(spread, 1)
}
