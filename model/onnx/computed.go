package onnx

import (
	"bufio"
	"iter"
)

// Computed adds weights whose data are made when the graph is written: size bytes,
// little-endian, a piece after another, each of which is let go of before the next one is
// made. It is for weights that are not at hand as they are to be written, so that those of
// a large network are never in memory together.
func (g *Graph) Computed(name string, t ElementType, size int64, pieces iter.Seq[[]byte], dims ...int) *Value {
	return g.weight(name, t, computed{size, pieces}, dims)
}

type computed struct {
	bytes  int64
	pieces iter.Seq[[]byte]
}

func (c computed) size() int64 { return c.bytes }

func (c computed) writeTo(w *bufio.Writer) error {
	var made int64
	for piece := range c.pieces {
		made += int64(len(piece))
		if _, err := w.Write(piece); err != nil {
			return err
		}
	}
	if made != c.bytes {
		panic("BUG: weights have another size than was said")
	}
	return nil
}
