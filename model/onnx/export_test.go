package onnx

import "bytes"

// GeometryOf is ReadGeometry of a model's bytes.
func GeometryOf(model []byte, r Route) (Geometry, error) {
	h, err := Inspect(bytes.NewReader(model), int64(len(model)))
	if err != nil {
		return Geometry{}, err
	}
	net, err := inspectNetwork(bytes.NewReader(model), int64(len(model)), h)
	if err != nil {
		return Geometry{}, err
	}
	return net.geometry(r)
}
