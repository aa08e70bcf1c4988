package arch

import (
	"github.com/forgepipe/forgepipe/model/onnx"
)

// HyperIQA rates the quality of pictures (Su et al. 2020): from what a ResNet-50 sees, a
// hyper network makes the weights of a small perceptron, which then rates the features
// of the same picture. It takes crops of 224 pixels; a picture's score is the mean of 25.
// The output "score" [batch 1] is 0 to 1, higher being better. Its authors' naming is
// known, and that of the IQA-PyTorch toolbox.
var hyperIQA = architecture{
	name: "HyperIQA",
	marks: [][]string{
		{"res.conv1.weight", "res.lda1_pool.0.weight", "fc1w_conv.weight", "fc5b_fc.weight"},
		{"base_model.conv1.weight", "lda_modules.0.0.weight", "fc_w_modules.0.weight", "fc_b_modules.4.2.weight"},
	},
	ignore: []string{"res.fc."},
	build:  buildHyperIQA,
}

const (
	hyperSide     = 224 // of a crop, in pixels
	hyperFeatures = 7   // side of the last features
	hyperChannels = 112 // that weights are made of
	hyperTarget   = 224 // numbers that the perceptron gets
)

// hyperWidths are those of the perceptron's layers.
var hyperWidths = [...]int{112, 56, 28, 14, 1}

// hyperNames are the keys of a naming; layers count from 0.
type hyperNames struct {
	trunk            string
	local, project   func(i int) string // convolution and linear layer of each scale's features
	weights, biases  func(i int) string // what makes the perceptron's layer i
	weightsOfTheLast string
	channels         [3]string // three convolutions of 1x1
}

func hyperNaming(w *weights) hyperNames {
	if w.has("res.conv1.weight") { // the authors'
		return hyperNames{
			trunk: "res.",
			local: func(i int) string { return "res.lda" + itoa(i+1) + "_pool.0" }, project: func(i int) string { return "res.lda" + itoa(i+1) + "_fc" },
			weights: func(i int) string { return "fc" + itoa(i+1) + "w_conv" }, biases: func(i int) string { return "fc" + itoa(i+1) + "b_fc" },
			weightsOfTheLast: "fc5w_fc", channels: [3]string{"conv1.0", "conv1.2", "conv1.4"},
		}
	}
	return hyperNames{ // IQA-PyTorch's
		trunk: "base_model.",
		local: func(i int) string { return "lda_modules." + itoa(i) + ".0" },
		project: func(i int) string {
			if i == 3 {
				return "lda_modules.3.2"
			}
			return "lda_modules." + itoa(i) + ".3"
		},
		weights: func(i int) string { return "fc_w_modules." + itoa(i) }, biases: func(i int) string { return "fc_b_modules." + itoa(i) + ".2" },
		weightsOfTheLast: "fc_w_modules.4.2", channels: [3]string{"conv1.0", "conv1.2", "conv1.4"},
	}
}

func buildHyperIQA(n *net) {
	names := hyperNaming(n.w)
	x := n.Input("input", n.element, n.Dim("batch"), 3, hyperSide, hyperSide)

	// The trunk, and the features of each of its scales pooled to 7 pixels a side less.
	y := n.resNetStem(names.trunk, x)
	in, seen := 64, 0
	var local []*onnx.Value
	for i, width := range [...]int{64, 128, 256, 512} {
		stride := 2
		if i == 0 {
			stride = 1
		}
		y, in = n.resNetLayer(names.trunk+"layer"+itoa(i+1), y, in, width, stride)
		small, channels := y, in
		if i < 3 {
			channels = n.w.dim(names.local(i)+".weight", 0)
			small = n.conv(names.local(i), y, in, channels, 1, onnx.ConvOptions{})
		}
		small = n.AveragePool(small, onnx.PoolOptions{Size: hyperFeatures, Stride: hyperFeatures})
		side := hyperSide / 4 >> i / hyperFeatures
		out := n.w.dim(names.project(i)+".weight", 0)
		local = append(local, n.linear(names.project(i), n.Flatten(small, 1), channels*side*side, out))
		seen += out
	}
	if seen != hyperTarget {
		n.w.fail("%q and the like give %d numbers, where %d are wanted", names.project(0), seen, hyperTarget)
	}
	target := n.Unsqueeze(n.Concat(1, local...), 1) // [N 1 hyperTarget]

	// The hyper network.
	widths := [...]int{in, n.w.dim(names.channels[0]+".weight", 0), n.w.dim(names.channels[1]+".weight", 0), hyperChannels}
	for i, key := range names.channels {
		y = n.Relu(n.conv(key, y, widths[i], widths[i+1], 1, onnx.ConvOptions{}))
	}
	mean := n.Flatten(n.GlobalAveragePool(y), 1)

	// The perceptron, of which each picture has its own.
	width := hyperTarget
	for i, out := range hyperWidths {
		var w *onnx.Value // [N out width]
		if i < len(hyperWidths)-1 {
			key := names.weights(i)
			w = n.conv(key, y, hyperChannels, width*out/(hyperFeatures*hyperFeatures), 3, onnx.ConvOptions{Pad: 1})
		} else {
			w = n.linear(names.weightsOfTheLast, mean, hyperChannels, width)
		}
		w = n.Reshape(w, 0, out, width)
		bias := n.Unsqueeze(n.linear(names.biases(i), mean, hyperChannels, out), 1)
		target = n.Add(n.MatMul(target, n.Transpose(w, 0, 2, 1)), bias)
		if i < len(hyperWidths)-1 {
			target = n.Sigmoid(target)
		}
		width = out
	}
	n.Output("score", n.Reshape(target, 0, 1), n.Dim("batch"), 1)
	n.about.Preset = "hyperiqa"
}
