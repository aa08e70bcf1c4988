package onnx

import "bufio"

// Computed adds weights whose data are made when the graph is written, and let go of
// then: size bytes, little-endian. It is for weights that are not at hand as they are to
// be written, so that those of a large network are not all made at once.
func (g *Graph) Computed(name string, t ElementType, size int64, data func() []byte, dims ...int) *Value {
	return g.weight(name, t, computed{size, data}, dims)
}

type computed struct {
	bytes int64
	make  func() []byte
}

func (c computed) size() int64 { return c.bytes }

func (c computed) writeTo(w *bufio.Writer) error {
	data := c.make()
	if int64(len(data)) != c.bytes {
		panic("BUG: weights have another size than was said")
	}
	_, err := w.Write(data)
	return err
}
