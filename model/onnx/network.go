package onnx

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"

	"google.golang.org/protobuf/encoding/protowire"
)

// maxValues is how many elements weights have at most that are kept: those that
// tell shapes are few.
const maxValues = 4096

// network is a model's graph as far as shapes follow from it: its nodes with their
// attributes, the shapes of its weights, and the values of the small ones.
type network struct {
	*Header
	opset  int64          // of ONNX's own operators
	nodes  []netNode      // in the order in which they run
	ids    map[string]int // numbers of values by name; 0 is what is not given
	consts map[int]*flow  // weights by the numbers of their values
	work   int            // that following it has been so far
}

type netNode struct {
	name, op string // op has its domain before it, unless that is ONNX's own
	in, out  []int
	attrs    map[string]netAttr
}

// String names the node for messages: the operator and where it is.
func (n *netNode) String() string {
	if n.name == "" {
		return fmt.Sprintf("a node of the operator %s", n.op)
	}
	return fmt.Sprintf("the node %.200q (%s)", n.name, n.op)
}

// netAttr is an attribute, which has one of these.
type netAttr struct {
	i     int64
	f     float64
	s     string
	ints  []int
	reals []float64
	t     *flow // a tensor
	graph bool  // it is one or more graphs, which are not looked into
}

// readNetwork reads a model's file, as ReadHeader does, with its nodes.
func readNetwork(path string) (*network, error) {
	h, err := ReadHeader(path)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading an ONNX model: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading an ONNX model: %w", err)
	}
	n, err := inspectNetwork(f, info.Size(), h)
	if err != nil {
		return nil, fmt.Errorf("reading the ONNX model %s: %w", path, err)
	}
	return n, nil
}

// inspectNetwork reads the nodes of a model that h is the header of.
func inspectNetwork(r io.ReaderAt, size int64, h *Header) (*network, error) {
	n := &networkReader{
		walker: walker{r: r, size: size},
		net:    &network{Header: h, ids: map[string]int{"": 0}, consts: map[int]*flow{}},
	}
	for _, o := range h.Opsets {
		if o.Domain == "" {
			n.net.opset = o.Version
		}
	}
	whole := field{typ: protowire.BytesType, end: size}
	err := n.message(whole, func(f field) error {
		if f.num != modelGraph {
			return nil
		}
		return n.message(f, func(f field) error {
			switch f.num {
			case graphNode:
				return n.node(f)
			case graphInitializer:
				name, w, err := n.tensor(f)
				if err != nil {
					return err
				}
				id, err := n.id(name)
				n.net.consts[id] = w
				return err
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("no ONNX model, or a damaged one: %w", err)
	}
	return n.net, nil
}

// networkReader fills a network. What it keeps is bounded as a header is.
type networkReader struct {
	walker
	net *network
}

// count counts bytes that are kept.
func (n *networkReader) count(bytes int) error {
	if n.text += bytes; n.text > maxText {
		return errText
	}
	return nil
}

// word is the text of a field; equal ones are not kept twice where that is easy.
func (n *networkReader) word(f field) (string, error) {
	b, err := n.short(f)
	if err != nil {
		return "", err
	}
	return string(b), n.count(len(b) + 16)
}

// id is the number of the value of that name.
func (n *networkReader) id(name string) (int, error) {
	if id, ok := n.net.ids[name]; ok {
		return id, n.count(8)
	}
	id := len(n.net.ids)
	n.net.ids[name] = id
	return id, n.count(len(name) + 64)
}

func (n *networkReader) port(f field, to *[]int) error {
	b, err := n.short(f)
	if err != nil {
		return err
	}
	id, err := n.id(string(b))
	*to = append(*to, id)
	return err
}

func (n *networkReader) node(f field) error {
	var node netNode
	var domain string
	err := n.message(f, func(f field) (err error) {
		switch f.num {
		case nodeInput:
			err = n.port(f, &node.in)
		case nodeOutput:
			err = n.port(f, &node.out)
		case nodeName:
			node.name, err = n.word(f)
		case nodeOp:
			node.op, err = n.word(f)
		case nodeDomain:
			domain, err = n.word(f)
		case nodeAttribute:
			err = n.attribute(f, &node)
		}
		return err
	})
	if domain != "" && domain != "ai.onnx" {
		node.op = domain + "." + node.op
	}
	n.net.nodes = append(n.net.nodes, node)
	if err == nil {
		err = n.count(128)
	}
	return err
}

func (n *networkReader) attribute(f field, node *netNode) error {
	var name string
	var a netAttr
	err := n.message(f, func(f field) (err error) {
		switch f.num {
		case attrName:
			name, err = n.word(f)
		case attrInt:
			a.i, err = n.number(f)
		case attrFloat:
			a.f = float64(math.Float32frombits(uint32(f.value)))
		case attrString:
			if f.typ == protowire.BytesType && f.end-f.start > windowLen {
				return nil // a text of an operator of others, which tells no shape
			}
			a.s, err = n.word(f)
		case attrInts:
			err = n.numbers(f, func(v int64) error {
				a.ints = append(a.ints, int(v))
				return n.count(8)
			})
		case attrFloats:
			err = n.reals(f, 4, func(v float64) error {
				a.reals = append(a.reals, v)
				return n.count(8)
			})
		case attrTensor:
			_, a.t, err = n.tensor(f)
		case attrGraph, attrGraphs:
			a.graph = true
		}
		return err
	})
	if node.attrs == nil {
		node.attrs = map[string]netAttr{}
	}
	node.attrs[name] = a
	if err == nil {
		err = n.count(128)
	}
	return err
}

// reals calls visit with each number of a repeated field of floats of so many
// bytes, packed or not.
func (n *networkReader) reals(f field, size int64, visit func(float64) error) error {
	real := func(bits uint64) float64 {
		if size == 8 {
			return math.Float64frombits(bits)
		}
		return float64(math.Float32frombits(uint32(bits)))
	}
	if f.typ != protowire.BytesType {
		return visit(real(f.value))
	}
	for at := f.start; at+size <= f.end; at += size {
		b, err := n.peek(at, int(size))
		if err != nil {
			return err
		}
		var bits [8]byte
		copy(bits[:], b)
		if err := visit(real(binary.LittleEndian.Uint64(bits[:]))); err != nil {
			return err
		}
	}
	return nil
}

// tensor reads the name and the shape of weights, and of few their values, where
// they are in the file. The header's reader has checked the rest.
func (n *networkReader) tensor(f field) (name string, w *flow, err error) {
	w = &flow{dims: []int{}}
	var raw, typed field
	elements := 1
	err = n.message(f, func(f field) (err error) {
		switch f.num {
		case tensorName:
			name, err = n.word(f)
		case tensorType:
			var t int64
			t, err = n.number(f)
			w.elem = ElementType(t)
		case tensorDims:
			err = n.numbers(f, func(d int64) error {
				w.dims = append(w.dims, int(d))
				elements = min(elements*min(int(d), maxValues+1), maxValues+1)
				return n.count(8)
			})
		case tensorRaw:
			raw = f
		case tensorFloats, tensorDoubles, tensorInt32s, tensorInt64s:
			if typed.num == 0 || f.typ == protowire.BytesType {
				typed = f
			}
		}
		return err
	})
	if err != nil || elements > maxValues {
		return name, w, err
	}
	if elements == 0 {
		w.vals = []float64{} // all there are
		return name, w, nil
	}
	var values []float64
	keep := func(v float64) error {
		values = append(values, v)
		return n.count(8)
	}
	switch {
	case raw.num != 0:
		var b []byte
		if b, err = n.part(raw, maxValues*8); err == nil {
			values = decode(w.elem, b)
			err = n.count(8 * len(values))
		}
	case typed.num == tensorFloats || typed.num == tensorDoubles:
		size := int64(4)
		if typed.num == tensorDoubles {
			size = 8
		}
		err = n.reals(typed, size, keep)
	case typed.num != 0:
		err = n.numbers(typed, func(v int64) error {
			if w.elem == Float16 {
				return keep(float64(fromHalf(uint16(v))))
			}
			return keep(float64(v))
		})
	}
	if len(values) == elements {
		w.vals = values
	}
	return name, w, err
}

// part is the first most bytes of a field.
func (n *networkReader) part(f field, most int64) ([]byte, error) {
	b := make([]byte, min(f.end-f.start, most))
	for at := 0; at < len(b); {
		p, err := n.peek(f.start+int64(at), min(len(b)-at, windowLen))
		if err != nil {
			return nil, err
		}
		at += copy(b[at:], p)
	}
	return b, nil
}

// decode gives the numbers of raw data; nil for types that tell no shapes.
func decode(t ElementType, b []byte) []float64 {
	size := t.Bits() / 8
	if size == 0 {
		return nil
	}
	values := make([]float64, 0, len(b)/size)
	for ; len(b) >= size; b = b[size:] {
		var v float64
		switch t {
		case Float32:
			v = float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
		case Float64:
			v = math.Float64frombits(binary.LittleEndian.Uint64(b))
		case Float16:
			v = float64(fromHalf(binary.LittleEndian.Uint16(b)))
		case Int64:
			v = float64(int64(binary.LittleEndian.Uint64(b)))
		case Int32:
			v = float64(int32(binary.LittleEndian.Uint32(b)))
		case Uint8, Bool:
			v = float64(b[0])
		case Int8:
			v = float64(int8(b[0]))
		default:
			return nil
		}
		values = append(values, v)
	}
	return values
}
