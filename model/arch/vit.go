package arch

import (
	"math"

	"github.com/forgepipe/forgepipe/model/onnx"
)

// headWidth is how many numbers of a token each head of attention has, in all networks
// here. Weights do not tell it, and larger networks have others: mostWidth is the width
// of a token up to which all have this one.
const (
	headWidth = 64
	mostWidth = 1024
)

// A block of a vision transformer (Dosovitskiy et al. 2020): attention and a perceptron,
// each normalised before and added to what came in.
type vitBlock struct {
	norm1, norm2     string // keys of the layer normalisations
	query, key       [2]string
	value            [2]string // weight and bias; only query, where one matrix has all three
	out              string
	expand, contract string    // of the perceptron
	scales           [2]string // of LayerScale (Touvron et al. 2021); empty: none
}

// vit are the sizes that all blocks have.
type vit struct {
	width, tokens int
	epsilon       float32
	gelu          func(*onnx.Value) *onnx.Value
}

// block adds one block to x [N tokens width].
func (n *net) block(x *onnx.Value, b vitBlock, v vit) *onnx.Value {
	add := func(x, y *onnx.Value, scale string) *onnx.Value {
		if scale != "" {
			y = n.Mul(y, n.weight(scale, v.width))
		}
		return n.Add(x, y)
	}
	x = add(x, n.attention(n.layerNorm(b.norm1, x, v.width, v.epsilon), b, v), b.scales[0])
	wide := n.w.dim(b.expand+".weight", 0)
	y := v.gelu(n.linear(b.expand, n.layerNorm(b.norm2, x, v.width, v.epsilon), v.width, wide))
	return add(x, n.linear(b.contract, y, wide, v.width), b.scales[1])
}

// attention is that of Vaswani et al. 2017, with heads of headWidth.
func (n *net) attention(x *onnx.Value, b vitBlock, v vit) *onnx.Value {
	if v.width > mostWidth || v.width%headWidth != 0 {
		n.w.refuse("its tokens have %d numbers, of which it is not known how many each head of attention has: export the network as ONNX (torch.onnx.export) and use that file", v.width)
		return n.broken(b.out)
	}
	var q, k, value *onnx.Value
	if b.key[0] == "" {
		all := n.Split(n.affine(b.query[0], b.query[1], x, v.width, 3*v.width), 2, v.width, v.width, v.width)
		if len(all) < 3 {
			return n.broken(b.query[0])
		}
		q, k, value = all[0], all[1], all[2]
	} else {
		one := func(keys [2]string) *onnx.Value { return n.affine(keys[0], keys[1], x, v.width, v.width) }
		q, k, value = one(b.query), one(b.key), one(b.value)
	}
	heads := func(x *onnx.Value, perm ...int) *onnx.Value {
		return n.Transpose(n.Reshape(x, 0, v.tokens, v.width/headWidth, headWidth), perm...)
	}
	q = n.Mul(heads(q, 0, 2, 1, 3), n.scalar(1/math.Sqrt(headWidth)))
	weights := n.Softmax(n.MatMul(q, heads(k, 0, 2, 3, 1)), -1)
	y := n.Transpose(n.MatMul(weights, heads(value, 0, 2, 1, 3)), 0, 2, 1, 3)
	return n.linear(b.out, n.Reshape(y, 0, v.tokens, v.width), v.width, v.width)
}

// patches cuts x into tokens by a convolution: [N side*side width].
func (n *net) patches(key string, x *onnx.Value, width, patch, side int) *onnx.Value {
	y := n.conv(key, x, 3, width, patch, onnx.ConvOptions{Stride: patch})
	return n.Transpose(n.Reshape(y, 0, width, side*side), 0, 2, 1)
}

// withClass puts the token class [1 1 width] before the tokens y of the batch x.
func (n *net) withClass(x, y, class *onnx.Value, width int) *onnx.Value {
	batch := n.Slice(n.Shape(x), 0, 0, 1)
	return n.Concat(1, n.ExpandTo(class, n.Concat(0, batch, n.List(1, width))), y)
}

// firstToken is that of y [N tokens width]: [N width].
func (n *net) firstToken(y *onnx.Value) *onnx.Value { return n.Gather(y, n.Scalar(onnx.Int64, 0), 1) }
