package arch

import (
	"fmt"
	"math"

	"github.com/forgepipe/forgepipe/model/onnx"
)

// SPAN is the swift parameter-free attention network (Wan et al. 2023): six blocks of
// three convolutions, whose output is weighted by what it is itself, and a pixel shuffle
// at the end. It is trained with three convolutions and a shortcut in the place of each
// of its convolutions, which are made one here. (Checkpoints have that one too, as
// "eval_conv", but not always that of the last training step.)
var span = architecture{
	name:  "SPAN",
	marks: [][]string{{"conv_1.sk.weight", "block_1.c1_r.sk.weight", "block_6.c3_r.conv.2.weight", "conv_cat.weight", "upsampler.0.weight"}},
	build: buildSPAN,
}

// spanMean is what is taken from red, green and blue, in 0..1, before they become 0..255.
var spanMean = []float32{0.4488, 0.4371, 0.4040}

const spanRange = 255

func buildSPAN(n *net) {
	in, features := n.w.dim("conv_1.sk.weight", 1), n.w.dim("conv_1.sk.weight", 0)
	scale := int(math.Sqrt(float64(n.w.dim("upsampler.0.weight", 0) / max(in, 1))))
	x := n.picture(in)
	if n.w.has("no_norm") {
		n.w.take("no_norm", 1)
	} else if in == len(spanMean) {
		x = n.Mul(n.Sub(x, n.constant("mean", spanMean, 1, len(spanMean), 1, 1)), n.scalar(spanRange))
	}
	first := n.conv3XC("conv_1", x, in, features)
	y, inner := first, first
	var block1 *onnx.Value
	for i := 1; i <= 6; i++ {
		y, inner = n.spab("block_"+itoa(i), y, features)
		if i == 1 {
			block1 = y
		}
	}
	y = n.conv3XC("conv_2", y, features, features)
	y = n.conv("conv_cat", n.Concat(1, first, y, block1, inner), 4*features, features, 1, onnx.ConvOptions{})
	y = n.conv("upsampler.0", y, features, in*scale*scale, 3, onnx.ConvOptions{Pad: 1})
	n.Output("output", n.DepthToSpace(y, scale))
	n.about.Details = fmt.Sprintf("%dx, 6 blocks of %d features", scale, features)
}

// spab is a block, and what is within it after the first activation.
func (n *net) spab(key string, x *onnx.Value, features int) (out, inner *onnx.Value) {
	inner = n.Silu(n.conv3XC(key+".c1_r", x, features, features))
	y := n.Silu(n.conv3XC(key+".c2_r", inner, features, features))
	y = n.conv3XC(key+".c3_r", y, features, features)
	attention := n.Sub(n.Sigmoid(y), n.scalar(0.5))
	return n.Mul(n.Add(y, x), attention), inner
}

// conv3XC is the convolution of 3x3 that does what key.conv.0 (1x1), conv.1 (3x3) and
// conv.2 (1x1) do one after the other, and key.sk (1x1) beside them.
func (n *net) conv3XC(key string, x *onnx.Value, in, out int) *onnx.Value {
	inner, wide := n.w.dim(key+".conv.0.weight", 0), n.w.dim(key+".conv.1.weight", 0)
	w1, b1 := n.numbers(key+".conv.0.weight", inner, in, 1, 1), n.numbers(key+".conv.0.bias", inner)
	w2, b2 := n.numbers(key+".conv.1.weight", wide, inner, 3, 3), n.numbers(key+".conv.1.bias", wide)
	w3, b3 := n.numbers(key+".conv.2.weight", out, wide, 1, 1), n.numbers(key+".conv.2.bias", out)
	shortcut, shift := n.numbers(key+".sk.weight", out, in, 1, 1), n.numbers(key+".sk.bias", out)
	n.w.take(key+".eval_conv.weight", out, in, 3, 3)
	n.w.take(key+".eval_conv.bias", out)
	if n.w.misfit != "" {
		return n.broken(key)
	}
	const taps = 9
	// The first two: [wide in 3 3].
	w12, b12 := make([]float64, wide*in*taps), make([]float64, wide)
	for o := range wide {
		b12[o] = float64(b2[o])
		for m := range inner {
			for k := range taps {
				v := float64(w2[(o*inner+m)*taps+k])
				b12[o] += v * float64(b1[m])
				for i := range in {
					w12[(o*in+i)*taps+k] += v * float64(w1[m*in+i])
				}
			}
		}
	}
	w, b := make([]float32, out*in*taps), make([]float32, out)
	for o := range out {
		sum, bias := make([]float64, in*taps), float64(b3[o])+float64(shift[o])
		for m := range wide {
			v := float64(w3[o*wide+m])
			bias += v * b12[m]
			for i := range sum {
				sum[i] += v * w12[m*in*taps+i]
			}
		}
		for i := range in {
			sum[i*taps+taps/2] += float64(shortcut[o*in+i])
		}
		for i, v := range sum {
			w[o*in*taps+i] = float32(v)
		}
		b[o] = float32(bias)
	}
	return n.Conv(x, n.constant(key+".weight", w, out, in, 3, 3), n.constant(key+".bias", b, out), onnx.ConvOptions{Pad: 1})
}
