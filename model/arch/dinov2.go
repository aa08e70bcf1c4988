package arch

import (
	"fmt"
	"math"

	"github.com/forgepipe/forgepipe/model/onnx"
)

// DINOv2 is the vision transformer of Oquab et al. 2023, without or with registers
// (Darcet et al. 2023). The output is the class token. Its places are learned for
// pictures of 518 pixels, and brought to 224 as in its published code.
var dinoV2 = architecture{
	name:   "DINOv2",
	marks:  [][]string{{"cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.0.ls1.gamma", "norm.weight"}},
	ignore: []string{"mask_token"},
	build:  buildDINOv2,
}

// dinoSide is the side of its pictures, in pixels.
const dinoSide = 224

func buildDINOv2(n *net) {
	width, patch := n.w.dim("patch_embed.proj.weight", 0), n.w.dim("patch_embed.proj.weight", 2)
	side := dinoSide / max(patch, 1)
	registers := n.w.dim("register_tokens", 1)
	v := vit{width: width, tokens: 1 + registers + side*side, epsilon: 1e-6, gelu: n.Gelu}

	x := n.Input("input", n.element, n.Dim("batch"), 3, side*patch, side*patch)
	y := n.withClass(x, n.patches("patch_embed.proj", x, width, patch, side), n.reshaped("cls_token", 1, 1, width), width)
	y = n.Add(y, n.dinoPositions(width, side, registers))
	if registers > 0 { // after the class, without a place
		batch := n.Slice(n.Shape(x), 0, 0, 1)
		tokens := n.ExpandTo(n.weight("register_tokens", 1, registers, width), n.Concat(0, batch, n.List(registers, width)))
		y = n.Concat(1, n.Slice(y, 1, 0, 1), tokens, n.Slice(y, 1, 1, math.MaxInt))
	}
	layers := n.w.count("blocks.%.norm1.weight")
	for i := range layers {
		k := "blocks." + itoa(i)
		y = n.block(y, vitBlock{
			norm1: k + ".norm1", norm2: k + ".norm2", query: [2]string{k + ".attn.qkv.weight", k + ".attn.qkv.bias"},
			out: k + ".attn.proj", expand: k + ".mlp.fc1", contract: k + ".mlp.fc2", scales: [2]string{k + ".ls1.gamma", k + ".ls2.gamma"},
		}, v)
	}
	n.Output("output", n.layerNorm("norm", n.firstToken(y), width, v.epsilon), n.Dim("batch"), width)
	n.about.Details = fmt.Sprintf("%d layers of %d numbers, %d registers", layers, width, registers)
	n.about.Preset = "dinov2"
}

// dinoPositions are the places of the class and of side x side patches, interpolated
// from those that were learned. The published code scales by (side + 0.1) / learned for
// networks without registers, and by the plain ratio, with a filter that averages, for
// those with them.
func (n *net) dinoPositions(width, side, registers int) *onnx.Value {
	const key = "pos_embed"
	tokens := n.w.dim(key, 1)
	from := int(math.Sqrt(float64(max(tokens-1, 0))))
	learned := n.numbers(key, 1, tokens, width)
	if learned == nil || from*from != tokens-1 {
		n.w.fail("%q has places for %d patches, which is no square", key, tokens-1)
		return n.broken(key)
	}
	if from == side {
		return n.constant(key, learned, 1, tokens, width)
	}
	scale := (float64(side) + 0.1) / float64(from)
	if registers > 0 {
		scale = float64(side) / float64(from)
	}
	places := bicubic(learned[width:], from, side, width, scale, registers > 0)
	return n.constant(key, append(learned[:width:width], places...), 1, 1+side*side, width)
}

// bicubic brings a square of from x from tokens to side x side, as PyTorch's interpolate
// does with that scale factor: Keys' kernel with -0.75, at half-pixel centres, the
// border repeated; smooth is its antialias, with -0.5 and a kernel that is stretched
// where the square gets smaller.
func bicubic(v []float32, from, side, width int, scale float64, smooth bool) []float32 {
	taps := make([][]float64, side) // weights of all tokens of a row, by place
	for i := range taps {
		taps[i] = make([]float64, from)
		centre := (float64(i)+0.5)/scale - 0.5
		a, stretch := -0.75, 1.0
		if smooth {
			a, stretch = -0.5, math.Max(1/scale, 1)
		}
		var sum float64
		for j := int(math.Floor(centre - 2*stretch)); j <= int(math.Ceil(centre+2*stretch)); j++ {
			w := cubic((float64(j)-centre)/stretch, a)
			at := min(max(j, 0), from-1)
			if smooth && at != j {
				continue // what lies outside has no weight
			}
			taps[i][at] += w
			sum += w
		}
		for j := range taps[i] {
			taps[i][j] /= sum
		}
	}
	out := make([]float32, side*side*width)
	rows := make([]float64, side*from*width) // [y of from] brought to [x of side]
	for y := range from {
		for x := range side {
			for j, w := range taps[x] {
				if w == 0 {
					continue
				}
				for c := range width {
					rows[(y*side+x)*width+c] += w * float64(v[(y*from+j)*width+c])
				}
			}
		}
	}
	sum := make([]float64, width)
	for y := range side {
		for x := range side {
			clear(sum)
			for j, w := range taps[y] {
				if w == 0 {
					continue
				}
				for c := range width {
					sum[c] += w * rows[(j*side+x)*width+c]
				}
			}
			for c, s := range sum {
				out[(y*side+x)*width+c] = float32(s)
			}
		}
	}
	return out
}

// cubic is Keys' kernel (1981).
func cubic(x, a float64) float64 {
	x = math.Abs(x)
	switch {
	case x <= 1:
		return ((a+2)*x-(a+3))*x*x + 1
	case x < 2:
		return ((x-5)*x+8)*x*a - 4*a
	}
	return 0
}
