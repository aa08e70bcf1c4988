package onnx

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// Convert writes the model of a file with float16 where it has float32, or the other
// way round, as to says: weights, inputs and outputs, and what nodes compute. Weights
// that lie in files of their own are in w with all others, and are read while they are
// written, so that none of them is in memory whole.
//
// What tells shapes stays as it is, as do inputs of operators that are float32 whatever
// the rest is, operators that know no float16, and the network's own functions; nodes that
// cast are put between.
//
// The error names a weight that float16 does not hold, and a node with graphs within it,
// which are not rewritten; w has a part of the model then.
func Convert(w io.Writer, path string, to ElementType) error {
	if err := convert(w, path, to); err != nil {
		return fmt.Errorf("rewriting the ONNX model %s as %v: %w", path, to, err)
	}
	return nil
}

func convert(w io.Writer, path string, to ElementType) error {
	if to != Float16 && to != Float32 {
		return errors.New("only float16 and float32 are possible")
	}
	net, err := readNetwork(path)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	files := map[string]*os.File{}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	open := func(name string) (io.ReaderAt, error) {
		if f, ok := files[name]; ok {
			return f, nil
		}
		at := filepath.Join(filepath.Dir(path), name)
		// The name is in the model's folder; a link could lead anywhere from there.
		if info, err := os.Lstat(at); err != nil || !info.Mode().IsRegular() {
			return nil, errors.Join(fmt.Errorf("its weights %s are no regular file", at), err)
		}
		f, err := os.Open(at)
		if err == nil {
			files[name] = f
		}
		return f, err
	}
	return rewrite(w, f, info.Size(), net, to, open)
}

// rewrite writes the model in r, which net was read of.
func rewrite(w io.Writer, r io.ReaderAt, size int64, net *network, to ElementType, open func(string) (io.ReaderAt, error)) error {
	c := &converter{walker: walker{r: r, size: size}, plan: net.precision(to), open: open}
	if c.plan.err != nil {
		return c.plan.err
	}
	m, err := c.rewritten(field{typ: protowire.BytesType, end: size}, func(out *rope, f field) (bool, error) {
		switch f.num {
		case modelGraph:
			g, err := c.graph(f)
			if err == nil {
				out.field(modelGraph, g)
			}
			return true, err
		case modelTraining:
			return true, nil // nobody needs it to run
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	if m.n > maxFile {
		return fmt.Errorf("it would have %d bytes, and ONNX models have at most %d", m.n, maxFile)
	}
	return m.writeTo(w)
}

// converter rewrites a model.
type converter struct {
	walker
	plan *precision
	open func(name string) (io.ReaderAt, error)
	node int // the next one
}

// rewritten is the message in f, in which replace puts what it wants in place of a field
// and says that it did.
func (c *converter) rewritten(f field, replace func(out *rope, f field) (bool, error)) (*rope, error) {
	if f.typ != protowire.BytesType {
		return nil, fmt.Errorf("field %d is not of the kind that ONNX has there", f.num)
	}
	out := &rope{}
	for at := f.start; at < f.end; {
		sub, next, err := c.next(at, f.end)
		if err != nil {
			return nil, err
		}
		done, err := replace(out, sub)
		if err != nil {
			return nil, err
		}
		if !done {
			if err := c.copy(out, at, next); err != nil {
				return nil, err
			}
		}
		at = next
	}
	return out, nil
}

// copy adds a part of the file as it is.
func (c *converter) copy(out *rope, from, to int64) error {
	if to-from > windowLen {
		out.payload(section{c.r, from, to - from})
		return nil
	}
	b, err := c.peek(from, int(to-from))
	out.text(slices.Clone(b))
	return err
}

func (c *converter) graph(f field) (*rope, error) {
	return c.rewritten(f, func(out *rope, f field) (bool, error) {
		switch f.num {
		case graphNode:
			return true, c.oneNode(out, f)
		case graphInitializer:
			return true, c.initializer(out, f)
		case graphSparse:
			return true, errors.New("it has sparse weights, which are not rewritten")
		case graphValue:
			return true, nil // the types of values within follow from the nodes
		case graphInput, graphOutput:
			info, err := c.info(f)
			if err == nil {
				out.field(f.num, info)
			}
			return true, err
		}
		return false, nil
	})
}

// info rewrites the type of an input or an output.
func (c *converter) info(f field) (*rope, error) {
	var name string
	err := c.message(f, func(f field) error {
		if f.num != infoName {
			return nil
		}
		b, err := c.short(f)
		name = string(b)
		return err
	})
	if err != nil {
		return nil, err
	}
	t, known := c.plan.becomes[c.plan.net.ids[name]]
	return c.rewritten(f, func(out *rope, f field) (bool, error) {
		if f.num != infoType || !known {
			return false, nil
		}
		typ, err := c.rewritten(f, func(out *rope, f field) (bool, error) {
			if f.num != typeTensor {
				return false, nil
			}
			tensor, err := c.rewritten(f, func(out *rope, f field) (bool, error) {
				if f.num != plainType || ElementType(f.value) != c.plan.from {
					return false, nil
				}
				out.text(appendVarint(nil, plainType, uint64(t)))
				return true, nil
			})
			if err == nil {
				out.field(typeTensor, tensor)
			}
			return true, err
		})
		if err == nil {
			out.field(infoType, typ)
		}
		return true, err
	})
}

// oneNode writes a node, with what casts its inputs before it.
func (c *converter) oneNode(out *rope, f field) error {
	n := &c.plan.net.nodes[c.node]
	todo := &c.plan.nodes[c.node]
	c.node++
	for _, cast := range todo.casts {
		m := appendString(nil, nodeInput, cast.from)
		m = appendString(m, nodeOutput, cast.to)
		m = appendString(m, nodeName, cast.to)
		m = appendString(m, nodeOp, "Cast")
		out.text(appendBytes(nil, graphNode, appendBytes(m, nodeAttribute, Int("to", int(cast.elem)))))
	}
	input := 0
	m, err := c.rewritten(f, func(out *rope, f field) (bool, error) {
		switch f.num {
		case nodeInput:
			name, ok := todo.renamed[input]
			input++
			if ok {
				out.text(appendString(nil, nodeInput, name))
			}
			return ok, nil
		case nodeAttribute:
			if todo.rewritten {
				return true, c.attribute(out, f, n)
			}
		}
		return false, nil
	})
	if err == nil {
		out.field(graphNode, m)
	}
	return err
}

// attribute writes an attribute that tells the type, which becomes another.
func (c *converter) attribute(out *rope, f field, n *netNode) error {
	m, err := c.rewritten(f, func(out *rope, f field) (bool, error) {
		switch {
		case f.num == attrInt && n.op == "Cast" && ElementType(f.value) == c.plan.from:
			out.text(appendVarint(nil, attrInt, uint64(c.plan.to)))
			return true, nil
		case f.num == attrTensor:
			t, err := c.tensor(f, true)
			if err == nil {
				out.field(attrTensor, t)
			}
			return true, err
		}
		return false, nil
	})
	if err == nil {
		out.field(nodeAttribute, m)
	}
	return err
}

// initializer writes weights, in the one precision or in the other.
func (c *converter) initializer(out *rope, f field) error {
	var name string
	err := c.message(f, func(f field) error {
		if f.num != tensorName {
			return nil
		}
		b, err := c.short(f)
		name = string(b)
		return err
	})
	if err != nil {
		return err
	}
	_, other := c.plan.becomes[c.plan.net.ids[name]]
	t, err := c.tensor(f, other)
	if err == nil {
		out.field(graphInitializer, t)
	}
	return err
}

// tensor rewrites weights: those that are in another file come into this one, and where
// rewrite is set they get their other precision.
func (c *converter) tensor(f field, rewrite bool) (*rope, error) {
	var (
		t        ElementType
		name     string
		elements = int64(1)
		data     []section // of numbers of fixed size
		loose    []byte    // numbers that are written as varints
		outside  bool
		external struct{ name, offset string }
	)
	err := c.message(f, func(f field) (err error) {
		var v int64
		switch f.num {
		case tensorName:
			var b []byte
			b, err = c.short(f)
			name = string(b)
		case tensorType:
			v, err = c.number(f)
			t = ElementType(v)
		case tensorDims:
			err = c.numbers(f, func(d int64) error { elements *= d; return nil })
		case tensorLocation:
			v, err = c.number(f)
			outside = v == 1
		case tensorExternal:
			var key, value string
			err = c.message(f, func(f field) error {
				b, err := c.short(f)
				if f.num == entryKey {
					key = string(b)
				} else {
					value = string(b)
				}
				return err
			})
			switch key {
			case "location":
				external.name = strings.TrimPrefix(value, "./")
			case "offset":
				external.offset = value
			}
		}
		return err
	})
	if err != nil {
		return nil, named(name, err)
	}
	rewrite = rewrite && t == c.plan.from
	if !rewrite && !outside {
		out := &rope{}
		return out, c.copy(out, f.start, f.end)
	}
	bytes := (elements*int64(t.Bits()) + 7) / 8
	out, err := c.rewritten(f, func(out *rope, f field) (bool, error) {
		switch f.num {
		case tensorType:
			if rewrite {
				out.text(appendVarint(nil, tensorType, uint64(c.plan.to)))
				return true, nil
			}
		case tensorLocation, tensorExternal:
			return true, nil
		case tensorRaw:
			data = []section{{c.r, f.start, f.end - f.start}}
			return true, nil
		case tensorFloats:
			if f.typ == protowire.BytesType {
				data = append(data, section{c.r, f.start, f.end - f.start})
			} else {
				loose = append(loose, byte(f.value), byte(f.value>>8), byte(f.value>>16), byte(f.value>>24))
			}
			return true, nil
		case tensorInt32s:
			return true, c.numbers(f, func(v int64) error {
				loose = append(loose, byte(v), byte(v>>8))
				return nil
			})
		}
		return false, nil
	})
	if err != nil {
		return nil, named(name, err)
	}
	switch {
	case outside:
		r, err := c.open(external.name)
		if err != nil {
			return nil, named(name, err)
		}
		var at int64
		if external.offset != "" {
			if at, err = strconv.ParseInt(external.offset, 10, 64); err != nil {
				return nil, named(name, err)
			}
		}
		data = []section{{r, at, bytes}}
	case len(data) == 0 && loose != nil:
		data = []section{{strings.NewReader(string(loose)), 0, int64(len(loose))}}
	case len(data) > 1:
		return nil, named(name, errors.New("they are in several pieces, which are not rewritten"))
	case len(data) == 0:
		data = []section{{strings.NewReader(""), 0, 0}}
	}
	if data[0].n != bytes {
		return nil, named(name, errDamaged)
	}
	var p payload = data[0]
	if rewrite {
		p = converted{section: data[0], name: name, half: c.plan.to == Float16}
	}
	out.text(appendLength(nil, tensorRaw, p.size()))
	out.payload(p)
	return out, nil
}
