package model

import (
	"fmt"
	"slices"

	"github.com/forgepipe/forgepipe/model/onnx"
)

// Geometry is how the pixels of an output lie to those of a picture, for networks that
// make pictures: the scale, how far pixels have an influence, what the sides must be
// multiples of, and what a run needs. It reads the file's nodes each time. The name is
// one of Outputs'. The error says which node cannot be followed: then the scale must be
// told by who knows the network.
func (f *File) Geometry(output string) (onnx.Geometry, error) {
	i := slices.IndexFunc(f.Outputs, func(p onnx.Port) bool { return p.Name == output })
	switch {
	case i < 0:
		return onnx.Geometry{}, fmt.Errorf("following the picture through %s: the output %q is not among those that are wanted, %q", f.Path, output, f.OutputNames())
	case f.Outputs[i].Shape != nil && len(f.Outputs[i].Shape) != 4:
		return onnx.Geometry{}, fmt.Errorf("following the picture through %s: its output %s (%s) is no picture, which has four axes", f.Path, output, f.Outputs[i].Dims())
	}
	if err := f.unchanged(); err != nil {
		return onnx.Geometry{}, err
	}
	r := onnx.Route{Input: f.Input.Name, Output: output, Rows: 2}
	if f.Spec.Layout == NHWC {
		r.Rows = 1
	}
	g, err := onnx.ReadGeometry(f.network, r)
	switch f.as { // the file's tensors have other elements
	case onnx.Float32:
		g.Peak *= 2
	case onnx.Float16:
		g.Peak = (g.Peak + 1) / 2
	}
	return g, err
}
