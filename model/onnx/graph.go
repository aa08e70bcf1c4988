package onnx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Opset is the version of ONNX's operators that graphs are written in, and
// IRVersion that of the file format: the oldest ones with LayerNormalization.
const (
	Opset     = 17
	IRVersion = 8
)

// Dynamic is a dimension that is known only when the network runs, and has no
// name.
const Dynamic = -1

// Graph is a network that is being written. Its methods add to it and return the
// values that come out; the first mistake is kept, everything after it does
// nothing, and [Graph.Err], [Graph.Bytes] and [Graph.WriteTo] report it. A Graph
// is used by one goroutine.
//
// Dimensions are plain numbers. One that is known only when the network runs is
// [Dynamic], or has the number that [Graph.Dim] gives to its name.
type Graph struct {
	name     string
	dims     []string // named dimensions; the i-th has the number firstDim - i
	inputs   []*Value
	outputs  []output
	weights  []*weight
	nodes    []*node
	metadata [][2]string
	domains  []string          // beside ONNX's own
	taken    map[string]string // the kind of thing that has a name
	scope    string
	err      error
}

// firstDim is the number of the first named dimension; further ones lie below.
const firstDim = -2

// Value is a tensor that flows through a graph: an input, weights, or what comes
// out of a node.
type Value struct {
	g    *Graph
	name string
	elem ElementType
	dims []int // nil: not even their count is known
	node *node // that makes it; nil for inputs and weights
}

// absent stands for an optional input of a node that is not given.
var absent = &Value{}

// optional is v, or absent for nil.
func optional(v *Value) *Value {
	if v == nil {
		return absent
	}
	return v
}

// Type is the type of the elements; Undefined after a mistake.
func (v *Value) Type() ElementType {
	if v == nil {
		return Undefined
	}
	return v.elem
}

// Dims are the dimensions, as far as they are known: see [Graph]. They are nil
// where not even their count is known, and after a mistake.
func (v *Value) Dims() []int {
	if v == nil {
		return nil
	}
	return slices.Clone(v.dims)
}

type node struct {
	name, op, domain string
	in, out          []*Value
	attrs            []Attr
}

type output struct {
	value *Value
	dims  []int
}

// weight is an initializer. Its data stay the caller's, and are encoded when the
// graph is written.
type weight struct {
	value *Value
	data  payload
}

// NewGraph begins a graph.
func NewGraph(name string) *Graph {
	g := &Graph{name: name, taken: map[string]string{}}
	if name == "" {
		g.fail("a graph needs a name")
	}
	return g
}

// Err is the first mistake, or nil.
func (g *Graph) Err() error { return g.err }

// fail keeps the first mistake.
func (g *Graph) fail(format string, args ...any) {
	if g.err == nil {
		g.err = fmt.Errorf("graph %q: %w", g.name, fmt.Errorf(format, args...))
	}
}

// Metadata adds a property of the model, such as where its weights come from.
func (g *Graph) Metadata(key, value string) {
	g.metadata = append(g.metadata, [2]string{key, value})
}

// Dim is a dimension that is known only when the network runs. The same name is
// the same number, and dimensions of one name are taken to be equal.
func (g *Graph) Dim(name string) int {
	i := slices.Index(g.dims, name)
	if i < 0 {
		if name == "" {
			g.fail("a dimension has an empty name; use onnx.Dynamic")
		}
		i = len(g.dims)
		g.dims = append(g.dims, name)
	}
	return firstDim - i
}

// Scope puts "name/" before the names of all that build adds without a name of
// its own, so that a mistake or a profile tells its place. Scopes nest.
func (g *Graph) Scope(name string, build func()) {
	outer := g.scope
	g.scope += name + "/"
	build()
	g.scope = outer
}

// Input adds an input.
func (g *Graph) Input(name string, t ElementType, dims ...int) *Value {
	if g.err != nil {
		return &Value{g: g}
	}
	if name == "" {
		g.fail("an input has an empty name")
	}
	g.take(name, "input")
	if t.Bits() == 0 {
		g.fail("input %q: %v cannot be the type of its elements", name, t)
	}
	g.checkDims(fmt.Sprintf("input %q", name), dims)
	v := &Value{g: g, name: name, elem: t, dims: append([]int{}, dims...)}
	g.inputs = append(g.inputs, v)
	return v
}

// Output makes v an output of that name. Its dimensions are the ones that follow
// from the graph; dims, where there are any, replace what does not follow, and
// may not contradict the rest.
func (g *Graph) Output(name string, v *Value, dims ...int) {
	what := fmt.Sprintf("output %q", name)
	if g.err != nil || !g.mine(what, v) {
		return
	}
	if name == "" {
		g.fail("an output has an empty name")
	}
	known := v.dims
	if len(dims) > 0 {
		g.checkDims(what, dims)
		if known != nil && len(known) != len(dims) {
			g.fail("%s: %s was declared, but %s comes out", what, g.show(dims), g.show(known))
			return
		}
		for i, d := range known {
			if d > 0 && dims[i] > 0 && d != dims[i] {
				g.fail("%s: %s was declared, but %s comes out", what, g.show(dims), g.show(known))
				return
			}
		}
		known = slices.Clone(dims)
	}
	// An output has the name of the value, so that of an input, of weights, or of what is an output already needs a node
	// in between.
	if v.node == nil || slices.ContainsFunc(g.outputs, func(o output) bool { return o.value == v }) {
		v = g.Identity(v)
	}
	g.take(name, "output")
	v.name = name
	g.outputs = append(g.outputs, output{v, known})
}

// Float32s adds weights of type float32. The data are read when the graph is
// written, and must not be changed until then.
func (g *Graph) Float32s(name string, data []float32, dims ...int) *Value {
	return g.weight(name, Float32, numbers[float32]{data, 4, func(b []byte, v float32) []byte {
		return binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}}, dims)
}

// Float16s adds weights of type float16, whose bits the data are (see [Half]), as
// Float32s does.
func (g *Graph) Float16s(name string, data []uint16, dims ...int) *Value {
	return g.weight(name, Float16, numbers[uint16]{data, 2, binary.LittleEndian.AppendUint16}, dims)
}

// Int64s adds weights of type int64, as Float32s does.
func (g *Graph) Int64s(name string, data []int64, dims ...int) *Value {
	return g.weight(name, Int64, numbers[int64]{data, 8, func(b []byte, v int64) []byte {
		return binary.LittleEndian.AppendUint64(b, uint64(v))
	}}, dims)
}

// Raw adds weights of any type of whole bytes, as little-endian bytes such as
// those of a mapped file, as Float32s does.
func (g *Graph) Raw(name string, t ElementType, data []byte, dims ...int) *Value {
	return g.weight(name, t, raw(data), dims)
}

// Scalar adds a number of type float32, float16 or int64, without a name.
func (g *Graph) Scalar(t ElementType, v float64) *Value {
	return g.list(t, []float64{v}, nil)
}

// List adds int64 numbers as a tensor of one dimension, without a name: axes,
// shapes, indices.
func (g *Graph) List(v ...int) *Value {
	data := make([]int64, len(v))
	for i, n := range v {
		data[i] = int64(n)
	}
	return g.Int64s("", data, len(v))
}

func (g *Graph) list(t ElementType, v []float64, dims []int) *Value {
	if g.err != nil {
		return &Value{g: g}
	}
	switch t {
	case Float32:
		data := make([]float32, len(v))
		for i, f := range v {
			data[i] = float32(f)
		}
		return g.Float32s("", data, dims...)
	case Float16:
		data := make([]uint16, len(v))
		for i, f := range v {
			data[i] = Half(float32(f))
		}
		return g.Float16s("", data, dims...)
	case Int64:
		data := make([]int64, len(v))
		for i, f := range v {
			data[i] = int64(f)
		}
		return g.Int64s("", data, dims...)
	}
	g.fail("a number of type %v cannot be written: only float32, float16 and int64", t)
	return &Value{g: g}
}

func (g *Graph) weight(name string, t ElementType, data payload, dims []int) *Value {
	if g.err != nil {
		return &Value{g: g}
	}
	if name == "" {
		name = g.free("const")
	}
	g.take(name, "weights")
	want, ok := int64(t.Bits()/8), t.Bits() > 0 && t.Bits()%8 == 0
	if !ok {
		g.fail("weights %q: %v cannot be the type of their elements", name, t)
	}
	for _, d := range dims {
		if d < 0 {
			g.fail("weights %q: %s has a dimension below 0", name, g.show(dims))
			return &Value{g: g}
		}
		if d > 0 && want > math.MaxInt64/int64(d) {
			g.fail("weights %q: %s is too large", name, g.show(dims))
			return &Value{g: g}
		}
		want *= int64(d)
	}
	if data.size() != want {
		g.fail("weights %q: %s of %v are %d bytes, but there are %d", name, g.show(dims), t, want, data.size())
	}
	v := &Value{g: g, name: name, elem: t, dims: append([]int{}, dims...)}
	g.weights = append(g.weights, &weight{v, data})
	return v
}

// Node is a node of any operator, for those that have no method of their own.
type Node struct {
	Op     string   // the operator's name, such as "Conv"
	Domain string   // "" for ONNX's own operators
	In     []*Value // what goes in; nil for an optional input that is left out
	Attrs  []Attr   // the operator's attributes
	Out    []Out    // what comes out
}

// Out is an output of a [Node].
type Out struct {
	Type ElementType // of the elements
	Dims []int       // nil: not even their count is known
}

// Node adds a node, and returns its outputs. Nothing is known of the operator, so
// only the inputs are checked.
func (g *Graph) Node(n Node) []*Value {
	in := slices.Clone(n.In)
	for i, v := range in {
		if v == nil {
			in[i] = absent
		}
	}
	made := g.add(n.Op, n.Domain, in, n.Attrs)
	out := make([]*Value, len(n.Out))
	for i, o := range n.Out {
		out[i] = g.result(made, o.Type, slices.Clone(o.Dims))
	}
	return out
}

// add adds a node without outputs; nil after a mistake.
func (g *Graph) add(op, domain string, in []*Value, attrs []Attr) *node {
	name := g.free(op)
	for i, v := range in {
		if v != absent && !g.mine(fmt.Sprintf("node %q: input %d", name, i), v) {
			return nil
		}
	}
	if g.err != nil {
		return nil
	}
	for len(in) > 0 && in[len(in)-1] == absent {
		in = in[:len(in)-1]
	}
	g.take(name, "node")
	if domain != "" && !slices.Contains(g.domains, domain) {
		g.domains = append(g.domains, domain)
	}
	n := &node{name: name, op: op, domain: domain, in: slices.Clone(in), attrs: attrs}
	g.nodes = append(g.nodes, n)
	return n
}

// result adds an output to a node.
func (g *Graph) result(n *node, t ElementType, dims []int) *Value {
	if g.err != nil || n == nil {
		return &Value{g: g}
	}
	name := n.name
	if len(n.out) > 0 {
		name = fmt.Sprintf("%s.%d", name, len(n.out))
		g.take(name, "node's output")
	}
	v := &Value{g: g, name: name, elem: t, dims: dims, node: n}
	n.out = append(n.out, v)
	return v
}

// errUnknown says that nothing is known of what comes out: no mistake.
var errUnknown = errors.New("unknown shape")

// op adds a node with one output. infer gives its type and dimensions; it is
// called when the inputs are known to be values of this graph.
func (g *Graph) op(op string, in []*Value, infer func() (ElementType, []int, error), attrs ...Attr) *Value {
	n := g.add(op, "", in, attrs)
	if n == nil {
		return &Value{g: g}
	}
	t, dims, err := infer()
	if err != nil && !errors.Is(err, errUnknown) {
		var shapes []string
		for _, v := range n.in {
			if v != absent {
				shapes = append(shapes, fmt.Sprintf("%q %v%s", v.name, v.elem, g.show(v.dims)))
			}
		}
		g.fail("node %q (inputs %s): %w", n.name, strings.Join(shapes, ", "), err)
	}
	return g.result(n, t, dims)
}

// free is a name for what has none.
func (g *Graph) free(kind string) string {
	return fmt.Sprintf("%s%s_%d", g.scope, kind, len(g.nodes)+len(g.weights))
}

// take gives a name away.
func (g *Graph) take(name, kind string) {
	if other, ok := g.taken[name]; ok {
		g.fail("the name %q is given twice: to %s and to %s", name, article(other), article(kind))
		return
	}
	g.taken[name] = kind
}

func article(kind string) string {
	switch kind {
	case "weights":
		return kind
	case "input", "output":
		return "an " + kind
	}
	return "a " + kind
}

// mine tells whether v is a value of this graph, and fails when not.
func (g *Graph) mine(what string, v *Value) bool {
	switch {
	case g.err != nil:
	case v == nil:
		g.fail("%s: there is no value (nil)", what)
	case v.g == nil:
		g.fail("%s: the value was made by no graph", what)
	case v.g != g:
		g.fail("%s: the value %q belongs to the graph %q", what, v.name, v.g.name)
	}
	return g.err == nil
}

func (g *Graph) checkDims(what string, dims []int) {
	for _, d := range dims {
		if d == 0 || d <= firstDim-len(g.dims) {
			g.fail("%s: %d is no dimension", what, d)
		}
	}
}

// show prints dimensions: [batch 3 ? 224].
func (g *Graph) show(dims []int) string {
	if dims == nil {
		return "[...]"
	}
	var s []string
	for _, d := range dims {
		switch {
		case d == Dynamic:
			s = append(s, "?")
		case d <= firstDim && firstDim-d < len(g.dims):
			s = append(s, g.dims[firstDim-d])
		default:
			s = append(s, fmt.Sprint(d))
		}
	}
	return "[" + strings.Join(s, " ") + "]"
}
