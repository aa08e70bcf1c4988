package onnx

import (
	"bytes"
	"errors"
	"io"
)

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

// Converted is what Convert makes of a model's bytes.
func Converted(model []byte, to ElementType) ([]byte, error) {
	r := bytes.NewReader(model)
	h, err := Inspect(r, int64(len(model)))
	if err != nil {
		return nil, err
	}
	net, err := inspectNetwork(r, int64(len(model)), h)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = rewrite(&out, r, int64(len(model)), net, to, func(string) (io.ReaderAt, error) { return nil, errors.New("no such file") })
	return out.Bytes(), err
}
