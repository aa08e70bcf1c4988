package onnx

import "fmt"

// Sizes are how many bytes the tensors of a run have.
type Sizes struct {
	// Outputs are those of the outputs by name, of those whose shape can be followed.
	Outputs map[string]int64
	// Peak is that of Geometry, here of the whole run; tensors whose shape cannot be
	// followed are not counted.
	Peak int64
}

// ReadSizes follows a network from an input of that shape, as ReadGeometry does. Rows is
// the axis of its rows, as that of a Route.
func ReadSizes(path, input string, shape []int64, rows int) (Sizes, error) {
	net, err := readNetwork(path)
	if err != nil {
		return Sizes{}, err
	}
	in, err := port("input", net.Inputs, input)
	if err != nil {
		return Sizes{}, fmt.Errorf("following the picture through %s: %w", path, err)
	}
	dims := make([]int, len(shape))
	for i, n := range shape {
		dims[i] = int(n)
	}
	known := net.through(in, dims, rows)
	s := Sizes{Outputs: map[string]int64{}, Peak: net.peak(known)}
	for _, p := range net.Outputs {
		f := known[net.ids[p.Name]]
		if f == nil || f.why != nil {
			continue
		}
		if n, ok := count(f.dims); ok {
			s.Outputs[p.Name] = int64(n) * int64(f.elem.Bits()) / 8
		}
	}
	return s, nil
}
