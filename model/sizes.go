package model

import (
	"github.com/forgepipe/forgepipe/model/onnx"
)

// Sizes are about how many bytes the tensors of a run have for each picture.
type Sizes struct {
	// Outputs are those of File.Outputs, in their order; -1: that cannot be told.
	Outputs []int64
	// Peak is what all tensors have at once at most, as far as the network can be
	// followed; see onnx.Geometry.
	Peak int64
}

// Sizes follows the network for pictures whose tensors have that shape, without the axis
// of the batch. It reads the file's nodes each time. What cannot be followed is taken
// from what the file says of its outputs, where that has no open axes.
func (f *File) Sizes(shape []int64) Sizes {
	batch := max(int64(f.Batch), 1)
	rows := 2
	if f.Spec.Layout == NHWC {
		rows = 1
	}
	followed, err := onnx.ReadSizes(f.network, f.Input.Name, append([]int64{batch}, shape...), rows)
	if err != nil { // whoever loads it says what is wrong
		followed = onnx.Sizes{}
	}
	elements := func(bytes int64) int64 { // the file's tensors may have others
		switch f.as {
		case onnx.Float32:
			return 2 * bytes
		case onnx.Float16:
			return (bytes + 1) / 2
		}
		return bytes
	}
	s := Sizes{Peak: elements(followed.Peak) / batch}
	for _, p := range f.Outputs {
		n, ok := followed.Outputs[p.Name]
		if n = elements(n) / batch; !ok {
			n = pictureBytes(p)
		}
		s.Outputs = append(s.Outputs, n)
	}
	return s
}

// pictureBytes is how many bytes an output has for a picture; -1: its shape leaves that
// open.
func pictureBytes(p onnx.Port) int64 {
	if len(p.Shape) == 0 {
		return -1
	}
	n := int64(p.Type.Bits()) / 8
	for _, d := range p.Shape[1:] {
		if d < 0 {
			return -1
		}
		n *= d
	}
	return n
}
