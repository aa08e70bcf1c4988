package onnx

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/encoding/protowire"
)

// maxFile is the size that protobuf's readers accept.
const maxFile = math.MaxInt32

// payload is the data of weights, in their encoded form.
type payload interface {
	size() int64
	writeTo(w *bufio.Writer) error
}

// raw is a payload that is encoded already.
type raw []byte

func (r raw) size() int64 { return int64(len(r)) }

func (r raw) writeTo(w *bufio.Writer) error {
	_, err := w.Write(r)
	return err
}

// numbers are encoded a buffer at a time, so that there is no second copy.
type numbers[T any] struct {
	data  []T
	bytes int // of one
	put   func([]byte, T) []byte
}

func (n numbers[T]) size() int64 { return int64(len(n.data)) * int64(n.bytes) }

func (n numbers[T]) writeTo(w *bufio.Writer) error {
	for data := n.data; len(data) > 0; {
		if w.Available() < n.bytes {
			if err := w.Flush(); err != nil {
				return err
			}
		}
		b := w.AvailableBuffer()
		k := min(len(data), w.Available()/n.bytes)
		for _, v := range data[:k] {
			b = n.put(b, v)
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		data = data[k:]
	}
	return nil
}

// The numbers of fields in onnx.proto, as far as they are written or read.
const (
	modelIRVersion       = 1
	modelProducer        = 2
	modelProducerVersion = 3
	modelDomain          = 4
	modelVersion         = 5
	modelGraph           = 7
	modelOpset           = 8
	modelMetadata        = 14
	modelTraining        = 20
	modelFunction        = 25

	opsetDomain  = 1
	opsetVersion = 2

	entryKey   = 1
	entryValue = 2

	graphNode        = 1
	graphName        = 2
	graphInitializer = 5
	graphInput       = 11
	graphOutput      = 12
	graphValue       = 13
	graphSparse      = 15

	nodeInput     = 1
	nodeOutput    = 2
	nodeName      = 3
	nodeOp        = 4
	nodeAttribute = 5
	nodeDomain    = 7

	attrName    = 1
	attrFloat   = 2
	attrInt     = 3
	attrString  = 4
	attrTensor  = 5
	attrGraph   = 6
	attrFloats  = 7
	attrInts    = 8
	attrTensors = 10
	attrGraphs  = 11
	attrType    = 20
	attrSparse  = 22
	attrSparses = 23

	tensorDims     = 1
	tensorType     = 2
	tensorFloats   = 4
	tensorInt32s   = 5
	tensorStrings  = 6
	tensorInt64s   = 7
	tensorName     = 8
	tensorRaw      = 9
	tensorDoubles  = 10
	tensorUint64s  = 11
	tensorExternal = 13
	tensorLocation = 14

	sparseValues  = 1
	sparseIndices = 2

	infoName = 1
	infoType = 2

	typeTensor  = 1
	plainType   = 1
	plainShape  = 2
	shapeDim    = 1
	dimValue    = 1
	dimParam    = 2
	trainInit   = 1
	trainGraph  = 2
	functionOps = 7
	functionDef = 11
)

// Attr is an attribute of a node: its name and its value, encoded.
type Attr []byte

func attr(name string, kind uint64) Attr {
	b := appendString(nil, attrName, name)
	return appendVarint(b, attrType, kind)
}

// Int is an attribute that is a number.
func Int(name string, v int) Attr { return appendVarint(attr(name, 2), attrInt, uint64(v)) }

// Float is an attribute that is a float32.
func Float(name string, v float32) Attr {
	b := protowire.AppendTag(attr(name, 1), attrFloat, protowire.Fixed32Type)
	return protowire.AppendFixed32(b, math.Float32bits(v))
}

// Text is an attribute that is a string.
func Text(name, v string) Attr { return appendString(attr(name, 3), attrString, v) }

// Ints is an attribute that is a list of numbers.
func Ints(name string, v ...int) Attr {
	b := attr(name, 7)
	for _, n := range v {
		b = appendVarint(b, attrInts, uint64(n))
	}
	return b
}

// Floats is an attribute that is a list of float32.
func Floats(name string, v ...float32) Attr {
	b := attr(name, 6)
	for _, n := range v {
		b = protowire.AppendTag(b, attrFloats, protowire.Fixed32Type)
		b = protowire.AppendFixed32(b, math.Float32bits(n))
	}
	return b
}

// tensorAttr is an attribute that is a tensor.
func tensorAttr(name string, t ElementType, dims []int, data []byte) Attr {
	b := tensorHead("", t, dims, int64(len(data)))
	return appendBytes(attr(name, 4), attrTensor, append(b, data...))
}

func appendVarint(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func appendString(b []byte, field protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), v)
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

// appendLength is the head of a field whose n bytes follow.
func appendLength(b []byte, field protowire.Number, n int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(n))
}

// tensorHead is a TensorProto without its data of n bytes, which follow.
func tensorHead(name string, t ElementType, dims []int, n int64) []byte {
	var b []byte
	for _, d := range dims {
		b = appendVarint(b, tensorDims, uint64(d))
	}
	b = appendVarint(b, tensorType, uint64(t))
	if name != "" {
		b = appendString(b, tensorName, name)
	}
	return appendLength(b, tensorRaw, n)
}

// part is a piece of a file: bytes, and the data of weights after them.
type part struct {
	head []byte
	data payload // or nil
}

// encode gives the file's parts and its size.
func (g *Graph) encode() ([]part, int64, error) {
	if g.err == nil && len(g.outputs) == 0 {
		g.fail("it has no output")
	}
	if g.err != nil {
		return nil, 0, g.err
	}
	graph := appendString(nil, graphName, g.name)
	for _, n := range g.nodes {
		graph = appendBytes(graph, graphNode, n.encode())
	}
	for _, v := range g.inputs {
		graph = appendBytes(graph, graphInput, g.port(v, v.dims))
	}
	for _, o := range g.outputs {
		graph = appendBytes(graph, graphOutput, g.port(o.value, o.dims))
	}
	parts := []part{{head: graph}}
	size := int64(len(graph))
	for _, w := range g.weights {
		n := w.data.size()
		tensor := tensorHead(w.value.name, w.value.elem, w.value.dims, n)
		head := append(appendLength(nil, graphInitializer, int64(len(tensor))+n), tensor...)
		parts = append(parts, part{head, w.data})
		size += int64(len(head)) + n
	}

	model := appendVarint(nil, modelIRVersion, IRVersion)
	model = appendString(model, modelProducer, "forgepipe")
	model = appendBytes(model, modelOpset, opset("", Opset))
	for _, d := range g.domains {
		model = appendBytes(model, modelOpset, opset(d, 1))
	}
	for _, m := range g.metadata {
		entry := appendString(nil, entryKey, m[0])
		model = appendBytes(model, modelMetadata, appendString(entry, entryValue, m[1]))
	}
	model = appendLength(model, modelGraph, size)
	size += int64(len(model))
	if size > maxFile {
		return nil, 0, fmt.Errorf("graph %q: the file would have %d bytes, and protobuf allows %d: "+
			"write the weights as float16", g.name, size, maxFile)
	}
	return append([]part{{head: model}}, parts...), size, nil
}

func opset(domain string, version uint64) []byte {
	return appendVarint(appendString(nil, opsetDomain, domain), opsetVersion, version)
}

func (n *node) encode() []byte {
	var b []byte
	for _, v := range n.in {
		b = appendString(b, nodeInput, v.name) // that of absent is empty, as it should be
	}
	for _, v := range n.out {
		b = appendString(b, nodeOutput, v.name)
	}
	b = appendString(b, nodeName, n.name)
	b = appendString(b, nodeOp, n.op)
	for _, a := range n.attrs {
		b = appendBytes(b, nodeAttribute, a)
	}
	if n.domain != "" {
		b = appendString(b, nodeDomain, n.domain)
	}
	return b
}

// port is a ValueInfoProto.
func (g *Graph) port(v *Value, dims []int) []byte {
	tensor := appendVarint(nil, plainType, uint64(v.elem))
	if dims != nil {
		var shape []byte
		for _, d := range dims {
			var dim []byte
			switch {
			case d >= 0:
				dim = appendVarint(nil, dimValue, uint64(d))
			case d <= firstDim:
				dim = appendString(nil, dimParam, g.dims[firstDim-d])
			}
			shape = appendBytes(shape, shapeDim, dim)
		}
		tensor = appendBytes(tensor, plainShape, shape)
	}
	b := appendString(nil, infoName, v.name)
	return appendBytes(b, infoType, appendBytes(nil, typeTensor, tensor))
}

// WriteTo writes the graph as an ONNX file. The weights are encoded on the way,
// without a copy in memory. Nothing is written when there was a mistake, or when
// the file would be larger than the 2 GiB that protobuf allows.
func (g *Graph) WriteTo(w io.Writer) (int64, error) {
	parts, _, err := g.encode()
	if err != nil {
		return 0, err
	}
	count := &counter{w: w}
	buf := bufio.NewWriterSize(count, 64<<10)
	for _, p := range parts {
		_, err = buf.Write(p.head)
		if err == nil && p.data != nil {
			err = p.data.writeTo(buf)
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		err = buf.Flush()
	}
	if err != nil {
		return count.n, fmt.Errorf("writing the graph %q: %w", g.name, err)
	}
	return count.n, nil
}

// whileIn writes as long as its context has not ended.
type whileIn struct {
	ctx context.Context
	io.Writer
}

func (w whileIn) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, context.Cause(w.ctx)
	}
	return w.Writer.Write(p)
}

// counter counts what has reached a writer.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// Bytes is the ONNX file that WriteTo writes.
func (g *Graph) Bytes() ([]byte, error) {
	_, size, err := g.encode()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Grow(int(size))
	if _, err := g.WriteTo(&b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// WriteFile writes the graph to a file, which is replaced when it is there. On an
// error it stays as it was.
func (g *Graph) WriteFile(path string) error {
	return g.WriteFileContext(context.Background(), path)
}

// WriteFileContext is WriteFile that ends with ctx.
func (g *Graph) WriteFileContext(ctx context.Context, path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("writing the graph %q: %w", g.name, err)
	}
	_, err = g.WriteTo(whileIn{ctx, f})
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync() // or a name could stand for a file without content after a power loss
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
