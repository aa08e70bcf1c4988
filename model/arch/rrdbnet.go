package arch

import (
	"fmt"
	"math"

	"github.com/forgepipe/forgepipe/model/onnx"
)

// RRDBNet is the generator of ESRGAN (Wang et al. 2018) and Real-ESRGAN: dense blocks in
// residuals in a residual, then one enlargement by repeated pixels and a convolution for
// each factor of 2. Where fewer than 4x are wanted, Real-ESRGAN makes the picture
// smaller first, pixels becoming channels. The same network has been published under
// three namings.
var rrdbNet = architecture{
	name: "RRDBNet",
	marks: [][]string{
		{"conv_first.weight", "body.0.rdb1.conv1.weight"},
		{"conv_first.weight", "RRDB_trunk.0.RDB1.conv1.weight"},
		{"model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"},
	},
	build: buildRRDBNet,
}

// rrdbNames are the keys of a naming, without ".weight" and ".bias".
type rrdbNames struct {
	first, trunk, high, last string
	block                    func(i int) string // without the number of the dense block
	conv                     func(i int) string // within a dense block
	up                       func(i int) string // counted from 1
}

// rrdbNaming is that of these weights.
func rrdbNaming(w *weights) rrdbNames {
	plain := func(i int) string { return ".conv" + itoa(i) }
	switch {
	case w.has("body.0.rdb1.conv1.weight"): // BasicSR, Real-ESRGAN
		return rrdbNames{
			first: "conv_first", trunk: "conv_body", high: "conv_hr", last: "conv_last", conv: plain,
			block: func(i int) string { return "body." + itoa(i) + ".rdb" }, up: func(i int) string { return "conv_up" + itoa(i) },
		}
	case w.has("RRDB_trunk.0.RDB1.conv1.weight"): // BSRGAN, RealSR
		return rrdbNames{
			first: "conv_first", trunk: "trunk_conv", high: "HRconv", last: "conv_last", conv: plain,
			block: func(i int) string { return "RRDB_trunk." + itoa(i) + ".RDB" }, up: func(i int) string { return "upconv" + itoa(i) },
		}
	}
	// ESRGAN: a sequence, in which enlarging, its convolution and its activation have a
	// number each.
	last := 4
	for i := last; i <= 4+3*rrdbMostUps; i += 3 {
		if w.has("model." + itoa(i) + ".weight") {
			last = i
		}
	}
	return rrdbNames{
		first: "model.0", high: "model." + itoa(last-2), last: "model." + itoa(last),
		trunk: "model.1.sub." + itoa(w.count("model.1.sub.%.RDB1.conv1.0.weight")),
		block: func(i int) string { return "model.1.sub." + itoa(i) + ".RDB" },
		conv:  func(i int) string { return ".conv" + itoa(i) + ".0" },
		up:    func(i int) string { return "model." + itoa(3*i) },
	}
}

func buildRRDBNet(n *net) {
	names := rrdbNaming(n.w)
	in, features := n.w.dim(names.first+".weight", 1), n.w.dim(names.first+".weight", 0)
	out, growth := n.w.dim(names.last+".weight", 0), n.w.dim(names.block(0)+"1"+names.conv(1)+".weight", 0)
	ups, blocks := 0, 0
	for n.w.has(names.up(ups+1)+".weight") && names.up(ups+1) != names.high && names.up(ups+1) != names.last {
		ups++
	}
	for n.w.has(names.block(blocks) + "1" + names.conv(1) + ".weight") {
		blocks++
	}
	smaller := int(math.Sqrt(float64(in / max(out, 1)))) // pixels that become channels: 12 are 2x2 of 3
	channels := in / max(smaller*smaller, 1)

	x := n.picture(channels)
	if smaller > 1 {
		x = n.PixelUnshuffle(x, smaller)
	}
	conv := func(key string, x *onnx.Value, in, out int) *onnx.Value {
		return n.conv(key, x, in, out, 3, onnx.ConvOptions{Pad: 1})
	}
	first := conv(names.first, x, in, features)
	y := first
	for i := range blocks {
		y = n.rrdb(names, i, y, features, growth)
	}
	y = n.Add(first, conv(names.trunk, y, features, features))
	for i := range ups {
		y = n.LeakyRelu(conv(names.up(i+1), n.repeat(y, 2), features, features), rrdbSlope)
	}
	y = n.LeakyRelu(conv(names.high, y, features, features), rrdbSlope)
	n.Output("output", conv(names.last, y, features, out))
	n.about.Details = fmt.Sprintf("%dx, %d blocks of %d features", (1<<ups)/max(smaller, 1), blocks, features)
}

// rrdbMostUps is how many times ESRGAN's sequence may double the size.
const rrdbMostUps = 5

// rrdbSlope is that of all its activations, rrdbResidual what of a residual is added.
const rrdbSlope, rrdbResidual = 0.2, 0.2

// rrdb is a residual in residual dense block.
func (n *net) rrdb(names rrdbNames, i int, x *onnx.Value, features, growth int) *onnx.Value {
	y := x
	for d := range 3 {
		y = n.denseBlock(names.block(i)+itoa(d+1), names, y, features, growth)
	}
	return n.Add(n.Mul(y, n.scalar(rrdbResidual)), x)
}

// denseBlock is five convolutions, each of which sees what all before it made.
func (n *net) denseBlock(key string, names rrdbNames, x *onnx.Value, features, growth int) *onnx.Value {
	seen, in := x, features
	for i := 1; i < 5; i++ {
		y := n.LeakyRelu(n.conv(key+names.conv(i), seen, in, growth, 3, onnx.ConvOptions{Pad: 1}), rrdbSlope)
		seen, in = n.Concat(1, seen, y), in+growth
	}
	y := n.conv(key+names.conv(5), seen, in, features, 3, onnx.ConvOptions{Pad: 1})
	return n.Add(n.Mul(y, n.scalar(rrdbResidual)), x)
}
