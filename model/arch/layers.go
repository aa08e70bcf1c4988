package arch

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"github.com/forgepipe/forgepipe/model/checkpoint"
	"github.com/forgepipe/forgepipe/model/onnx"
)

// net is a network that is being built: a graph, whose weights are taken from a
// checkpoint by their names. What does not fit is kept by the weights, and everything
// after it does nothing.
type net struct {
	*onnx.Graph
	arch    architecture
	w       *weights
	element onnx.ElementType
	gelu    GELU // Options.GELU
	part    Part // Options.Part
	about   Network
}

func newNet(a architecture, o Options, files []*checkpoint.File) (*net, error) {
	w, err := newWeights(files, a.ignore)
	return &net{Graph: onnx.NewGraph(a.name), arch: a, w: w, element: cmp.Or(o.Type, onnx.Float32), gelu: o.GELU, part: o.Part}, err
}

// build builds the network, and sees to it that nothing is left over, but for what the
// other parts have.
func (n *net) build() {
	n.arch.build(n)
	if slices.Contains(n.arch.parts, n.part) {
		return
	}
	if key := n.w.unused(); key != "" {
		n.w.fail("%q has no place in it", key)
	}
	if n.part != "" && n.w.misfit == "" {
		n.w.refuse("it has no part %q", n.part)
	}
}

// network is what was built.
func (n *net) network() *Network {
	a := n.about
	a.Architecture, a.Graph = n.arch.name, n.Graph
	n.Metadata("architecture", n.arch.name)
	if a.Details != "" {
		n.Metadata("details", a.Details)
	}
	if a.Preset != "" {
		n.Metadata(PresetKey, a.Preset)
	}
	return &a
}

// PresetKey is the key under which a graph's metadata have Network's Preset.
const PresetKey = "forgepipe.preset"

// OutputKey is the key under which the metadata of a graph with several outputs have the
// name of the one that is meant where none is named.
const OutputKey = "forgepipe.output"

// picture adds the input: pictures of any size.
func (n *net) picture(channels int) *onnx.Value {
	return n.Input("input", n.element, n.Dim("batch"), channels, n.Dim("height"), n.Dim("width"))
}

// broken is a value in the place of one that does not fit. The graph takes it as a
// mistake, and does nothing from then on.
func (n *net) broken(key string) *onnx.Value { return n.Raw(key, n.element, nil, 1) }

// weight is the tensor of that name as it is, in the network's type.
func (n *net) weight(key string, dims ...int) *onnx.Value {
	t := n.w.take(key, dims...)
	if t == nil {
		return n.broken(key)
	}
	return n.tensor(key, t, t.Shape...)
}

// tensor adds a tensor's numbers under that name and with these dimensions: straight
// from the file, where they are in the network's type.
func (n *net) tensor(name string, t *checkpoint.Tensor, dims ...int) *onnx.Value {
	if t.Type == n.element {
		return n.Raw(name, n.element, t.Bytes(), dims...)
	}
	return n.changed(name, t, func(int, []float32) {}, dims...)
}

// changed adds a tensor's numbers under that name and with these dimensions, as change
// leaves them, which gets some of them at a time and where the first of these is. It is
// called when the graph is written.
func (n *net) changed(name string, t *checkpoint.Tensor, change func(at int, v []float32), dims ...int) *onnx.Value {
	const most = 1 << 16
	size := int64(t.Elements() * n.element.Bits() / 8)
	return n.Computed(name, n.element, size, func(yield func([]byte) bool) {
		data, bytes := t.Bytes(), t.Type.Bits()/8
		for at := 0; at < t.Elements(); at += most {
			v := floats(data[at*bytes:min(at+most, t.Elements())*bytes], t.Type)
			change(at, v)
			if !yield(encoded(v, n.element)) {
				return
			}
		}
		for _, f := range n.w.files { // or all of it is in memory in the end
			f.LetGo()
		}
	}, dims...)
}

// numbers are those of the tensor of that name; nil, where it does not fit.
func (n *net) numbers(key string, dims ...int) []float32 {
	t := n.w.take(key, dims...)
	if t == nil {
		return nil
	}
	return floats(t.Bytes(), t.Type)
}

// constant adds numbers that were computed.
func (n *net) constant(name string, v []float32, dims ...int) *onnx.Value {
	return n.Computed(name, n.element, int64(len(v)*n.element.Bits()/8), func(yield func([]byte) bool) { yield(encoded(v, n.element)) }, dims...)
}

// scalar is a number.
func (n *net) scalar(v float64) *onnx.Value { return n.Scalar(n.element, v) }

// conv is the convolution key.weight [out in/groups size size], with key.bias where
// there is one.
func (n *net) conv(key string, x *onnx.Value, in, out, size int, o onnx.ConvOptions) *onnx.Value {
	w := n.weight(key+".weight", out, in/max(o.Groups, 1), size, size)
	var b *onnx.Value
	if n.w.has(key + ".bias") {
		b = n.weight(key+".bias", out)
	}
	return n.Conv(x, w, b, o)
}

// convNorm is the convolution conv.weight, without or with a bias, and the batch
// normalisation norm after it, folded into it (Ioffe and Szegedy 2015, as it is in
// evaluation).
func (n *net) convNorm(conv, norm string, x *onnx.Value, in, out, size int, o onnx.ConvOptions) *onnx.Value {
	t := n.w.take(conv+".weight", out, in/max(o.Groups, 1), size, size)
	b := make([]float32, out)
	if n.w.has(conv + ".bias") {
		b = n.numbers(conv+".bias", out)
	}
	scale, shift := n.norm(norm, out)
	if t == nil || b == nil || scale == nil {
		return n.broken(conv)
	}
	each := t.Elements() / out
	w := n.changed(conv+".weight", t, func(at int, v []float32) {
		for i := range v {
			v[i] = float32(float64(v[i]) * scale[(at+i)/each])
		}
	}, t.Shape...)
	for c := range out {
		b[c] = float32(float64(b[c])*scale[c] + shift[c])
	}
	return n.Conv(x, w, n.constant(conv+".bias", b, out), o)
}

// normEpsilon is PyTorch's default.
const normEpsilon = 1e-5

// norm is what a batch normalisation does in evaluation: x scale + shift.
func (n *net) norm(key string, channels int) (scale, shift []float64) {
	weight, bias := n.numbers(key+".weight", channels), n.numbers(key+".bias", channels)
	mean, variance := n.numbers(key+".running_mean", channels), n.numbers(key+".running_var", channels)
	if weight == nil || bias == nil || mean == nil || variance == nil {
		return nil, nil
	}
	scale, shift = make([]float64, channels), make([]float64, channels)
	for c := range channels {
		scale[c] = float64(weight[c]) / math.Sqrt(float64(variance[c])+normEpsilon)
		shift[c] = float64(bias[c]) - float64(mean[c])*scale[c]
	}
	return scale, shift
}

// linear is x W^T + b for x [... in], with key.weight [out in] and key.bias [out], where
// there is one.
func (n *net) linear(key string, x *onnx.Value, in, out int) *onnx.Value {
	return n.affine(key+".weight", key+".bias", x, in, out)
}

// affine is linear for weights of any name.
func (n *net) affine(weight, bias string, x *onnx.Value, in, out int) *onnx.Value {
	y := n.MatMul(x, n.Transpose(n.weight(weight, out, in), 1, 0))
	if n.w.has(bias) {
		y = n.Add(y, n.weight(bias, out))
	}
	return y
}

// reshaped is the tensor of that name, of any dimensions, with these.
func (n *net) reshaped(key string, dims ...int) *onnx.Value {
	size := 1
	for _, d := range dims {
		size *= d
	}
	t := n.w.tensors[key]
	if t != nil && t.Elements() != size {
		n.w.fail("%q has the shape %v, where %d numbers are wanted", key, t.Shape, size)
	}
	if t == nil || n.w.misfit != "" || n.w.take(key, t.Shape...) == nil {
		n.w.fail("there is no %q", key)
		return n.broken(key)
	}
	return n.tensor(key, t, dims...)
}

// layerNorm is the layer normalisation key over the last axis.
func (n *net) layerNorm(key string, x *onnx.Value, width int, epsilon float32) *onnx.Value {
	return n.LayerNorm(x, n.weight(key+".weight", width), n.weight(key+".bias", width), epsilon)
}

func itoa(i int) string { return strconv.Itoa(i) }
