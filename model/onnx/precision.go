package onnx

import (
	"fmt"
	"slices"
	"strings"
)

// precision is what becomes of a network when numbers of the type from become to.
type precision struct {
	net      *network
	from, to ElementType
	names    []string      // of values by their numbers
	types    []ElementType // of values, before
	picture  []bool        // values that hang on what goes into the network
	becomes  map[int]ElementType
	nodes    []nodePlan // in the order of the network's
	err      error
}

// nodePlan is what becomes of a node.
type nodePlan struct {
	hangs     bool           // on what goes into the network
	rewritten bool           // the type that it tells in an attribute is another then
	casts     []valueCast    // that come before it
	renamed   map[int]string // inputs by their places
}

// valueCast makes a value of another type.
type valueCast struct {
	from, to string
	elem     ElementType
}

// singleOnly are operators that know no float16, or for whose numbers it is too coarse,
// whatever version they are of; and those that are quantized, whose scales are float32.
var singleOnly = []string{"Range", "NonMaxSuppression", "CumSum", "MelWeightMatrix", "Multinomial", "QuantizeLinear",
	"DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"}

// singleInputs are those inputs that are float32 whatever the others are.
var singleInputs = map[string][]int{"Resize": {1, 2}, "Upsample": {1}}

// precision plans how the network gets numbers of that type.
func (net *network) precision(to ElementType) *precision {
	p := &precision{
		net: net, from: Float32, to: to, names: make([]string, len(net.ids)), types: make([]ElementType, len(net.ids)),
		picture: make([]bool, len(net.ids)), becomes: map[int]ElementType{}, nodes: make([]nodePlan, len(net.nodes)),
	}
	if to == Float32 {
		p.from = Float16
	}
	for name, id := range net.ids {
		p.names[id] = name
	}
	for _, in := range net.Inputs {
		if id, ok := net.ids[in.Name]; ok {
			p.types[id], p.picture[id] = in.Type, true
			p.change(id)
		}
	}
	for id, w := range net.consts {
		p.types[id] = w.elem
	}
	for i := range net.nodes {
		p.flow(i)
	}
	p.weights()
	p.cast()
	return p
}

// change notes that a value gets the other type.
func (p *precision) change(id int) {
	if p.types[id] == p.from && id != 0 {
		p.becomes[id] = p.to
	}
}

// now is the type that a value has at last.
func (p *precision) now(id int) ElementType {
	if t, ok := p.becomes[id]; ok {
		return t
	}
	return p.types[id]
}

// flow finds the types of what a node makes.
func (p *precision) flow(i int) {
	n := &p.net.nodes[i]
	hangs := slices.ContainsFunc(n.in, func(id int) bool { return p.picture[id] }) && !measures(n)
	p.nodes[i].hangs = hangs
	for k, id := range n.out {
		if id == 0 {
			continue
		}
		p.types[id], p.picture[id] = p.made(n, k), hangs
		// Beside what it makes, a normalisation tells a mean and a deviation, as float32.
		if hangs && !p.single(n) && (k == 0 || !strings.HasSuffix(n.op, "LayerNormalization")) {
			p.change(id)
		}
	}
	for _, a := range n.attrs {
		if a.graph && p.err == nil {
			p.err = fmt.Errorf("%v has graphs within it, which are not rewritten: export the network without conditions and loops", n)
		}
	}
	p.nodes[i].rewritten = n.op == "Cast" && hangs && len(n.out) > 0 && p.types[n.out[0]] == p.from
}

// single tells whether a node stays float32.
func (p *precision) single(n *netNode) bool {
	if p.to != Float16 {
		return false
	}
	domain, _, own := strings.Cut(n.op, ".")
	return slices.Contains(singleOnly, n.op) || own && domain != "com"
}

// made is the type of an output.
func (p *precision) made(n *netNode, output int) ElementType {
	in := func(i int) ElementType {
		if i >= len(n.in) {
			return Undefined
		}
		return p.types[n.in[i]]
	}
	told := func(name string, otherwise ElementType) ElementType {
		if a, ok := n.attrs[name]; ok {
			return ElementType(a.i)
		}
		return otherwise
	}
	if _, ok := comparisons[n.op]; ok {
		return Bool
	}
	switch n.op {
	case "And", "Or", "Xor", "Not", "IsNaN", "IsInf":
		return Bool
	case "Shape", "Size", "NonZero", "ArgMax", "ArgMin", "NonMaxSuppression":
		return Int64
	case "Cast":
		return told("to", Undefined)
	case "CastLike", "DequantizeLinear", "Where":
		return in(1)
	case "OneHot":
		return in(2)
	case "Constant", "ConstantOfShape":
		for name, a := range n.attrs {
			switch {
			case a.t != nil:
				return a.t.elem
			case strings.HasPrefix(name, "value_int"):
				return Int64
			case strings.HasPrefix(name, "value_string"):
				return String
			}
		}
		return Float32
	case "RandomNormal", "RandomUniform":
		return told("dtype", Float32)
	case "RandomNormalLike", "RandomUniformLike", "EyeLike", "Bernoulli":
		return told("dtype", in(0))
	case "QuantizeLinear":
		if t := in(2); t != Undefined {
			return t
		}
		return Uint8
	case "DynamicQuantizeLinear":
		return []ElementType{Uint8, Float32, Uint8}[min(output, 2)]
	case "MatMulInteger", "ConvInteger":
		return Int32
	case "SplitToSequence", "SequenceConstruct", "SequenceEmpty", "SequenceInsert", "SequenceAt", "Optional":
		return Undefined // lists of tensors, which no node casts
	case "LayerNormalization", "SimplifiedLayerNormalization":
		if output > 0 {
			return Float32
		}
	case "TopK", "MaxPool":
		if output == 1 {
			return Int64
		}
	case "Dropout":
		if output == 1 {
			return Bool
		}
	}
	if in(0) == Undefined { // of a list of tensors, or of an operator that nobody knows
		for i := range n.in {
			if in(i) == p.from {
				return p.from
			}
		}
	}
	return in(0)
}

// measures tells whether a node takes anything, as it looks at the shape alone.
func measures(n *netNode) bool { return n.op == "Shape" || n.op == "Size" }

// wants is the type that an input of a node must have, where that was from.
func (p *precision) wants(i, input int) ElementType {
	n := &p.net.nodes[i]
	if !p.nodes[i].hangs || p.single(n) || p.to == Float16 && slices.Contains(singleInputs[n.op], input) {
		return p.from
	}
	return p.to
}

// weights decides which weights, and which numbers of nodes that are constant, get the
// other type: those of which nobody needs the first one.
func (p *precision) weights() {
	constants := map[int]int{} // nodes that can make the other type, by what they make
	for i, n := range p.net.nodes {
		can := n.op == "Constant" && n.attrs["value"].t != nil || n.op == "Cast" && !p.nodes[i].hangs
		if can && len(n.out) > 0 && p.types[n.out[0]] == p.from {
			constants[n.out[0]] = i
		}
	}
	first, second := map[int]bool{}, map[int]bool{}
	for i := range p.net.nodes {
		n := &p.net.nodes[i]
		for k, id := range n.in {
			_, weights := p.net.consts[id]
			if _, constant := constants[id]; !constant && !weights || p.types[id] != p.from || measures(n) {
				continue
			}
			if p.wants(i, k) == p.to {
				second[id] = true
			} else {
				first[id] = true
			}
		}
	}
	for id := range second {
		if first[id] {
			continue
		}
		p.change(id)
		if i, ok := constants[id]; ok {
			p.nodes[i].rewritten = true
		}
	}
}

// cast puts nodes that cast before those that need another type than there is.
func (p *precision) cast() {
	type version struct {
		id   int
		elem ElementType
	}
	have := map[version]string{}
	for i := range p.net.nodes {
		n := &p.net.nodes[i]
		for k, id := range n.in {
			if p.types[id] != p.from || id == 0 || measures(n) {
				continue
			}
			want := p.wants(i, k)
			if p.now(id) == want {
				continue
			}
			v := version{id, want}
			if have[v] == "" {
				have[v] = p.free(fmt.Sprintf("%s_as_%v", p.names[id], want))
				p.nodes[i].casts = append(p.nodes[i].casts, valueCast{p.names[id], have[v], want})
				p.hold(id, want)
			}
			if p.nodes[i].renamed == nil {
				p.nodes[i].renamed = map[int]string{}
			}
			p.nodes[i].renamed[k] = have[v]
		}
	}
}

// hold refuses weights that are cast to what does not hold them.
func (p *precision) hold(id int, t ElementType) {
	w, ok := p.net.consts[id]
	if !ok || t != Float16 {
		return
	}
	for _, v := range w.vals {
		if err := holds(float32(v)); err != nil && p.err == nil {
			p.err = named(p.names[id], err)
		}
	}
}

// free is a name that nothing has yet.
func (p *precision) free(name string) string {
	for {
		if _, taken := p.net.ids[name]; !taken {
			p.net.ids[name] = len(p.net.ids)
			return name
		}
		name += "_"
	}
}
