package ort_test

import (
	"encoding/binary"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// What follows writes the few messages of onnx.proto that the tests need. A
// message is its bytes.

func message(fields ...[]byte) []byte {
	var m []byte
	for _, f := range fields {
		m = append(m, f...)
	}
	return m
}

func bytesField(n protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), value)
}

func textField(n protowire.Number, value string) []byte { return bytesField(n, []byte(value)) }

func intField(n protowire.Number, value int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), uint64(value))
}

// model makes a ModelProto of opset 17.
func model(graph ...[]byte) []byte {
	g := append(message(graph...), textField(2, "test")...)
	return message(intField(1, 8), bytesField(7, g), bytesField(8, intField(2, 17)))
}

// port makes an input (field 11) or output (12) of a graph. A dimension is an
// int or, for a free one, its name.
func port(field protowire.Number, name string, elementType int64, dims ...any) []byte {
	var shape []byte
	for _, d := range dims {
		switch d := d.(type) {
		case int:
			shape = append(shape, bytesField(1, intField(1, int64(d)))...)
		case string:
			shape = append(shape, bytesField(1, textField(2, d))...)
		}
	}
	tensor := message(intField(1, elementType), bytesField(2, shape))
	return bytesField(field, message(textField(1, name), bytesField(2, bytesField(1, tensor))))
}

func input(name string, elementType int64, dims ...any) []byte {
	return port(11, name, elementType, dims...)
}

func output(name string, elementType int64, dims ...any) []byte {
	return port(12, name, elementType, dims...)
}

// node makes a node with inputs, one output and attributes.
func node(op string, in []string, out string, attributes ...[]byte) []byte {
	var n []byte
	for _, name := range in {
		n = append(n, textField(1, name)...)
	}
	return bytesField(1, message(n, textField(2, out), textField(3, out+"_node"), textField(4, op), message(attributes...)))
}

// ints makes an attribute of integers.
func ints(name string, values ...int64) []byte {
	a := message(textField(1, name), intField(20, 7))
	for _, v := range values {
		a = append(a, intField(8, v)...)
	}
	return bytesField(5, a)
}

// weights makes a constant of float32.
func weights(name string, dims []int64, values ...float32) []byte {
	var t, raw []byte
	for _, d := range dims {
		t = append(t, intField(1, d)...)
	}
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	return bytesField(5, message(t, intField(2, 1), textField(8, name), bytesField(9, raw)))
}

// external makes a constant of float32 that lies in another file.
func external(name, location string, n int64) []byte {
	entry := func(k, v string) []byte { return bytesField(13, message(textField(1, k), textField(2, v))) }
	return bytesField(5, message(intField(1, n), intField(2, 1), textField(8, name), entry("location", location), intField(14, 1)))
}

// convolutions makes n layers of 16 channels on images of size x size, batched;
// each image takes 64 size^2 bytes a layer. The weights let the image pass.
func convolutions(n, size int) []byte {
	w := make([]float32, 16*16*3*3)
	for c := range 16 {
		w[(c*16+c)*9+4] = 1
	}
	graph := [][]byte{input("x", 1, "n", 16, size, size), weights("w", []int64{16, 16, 3, 3}, w...)}
	from := "x"
	for i := range n {
		to := "y"
		if i < n-1 {
			to = "y" + string(rune('a'+i%26)) + string(rune('a'+i/26))
		}
		graph = append(graph, node("Conv", []string{from, "w"}, to, ints("kernel_shape", 3, 3), ints("pads", 1, 1, 1, 1)))
		from = to
	}
	return model(append(graph, output("y", 1, "n", 16, size, size))...)
}

// double is y = x + x.
func double(elementType int64, dims ...any) []byte {
	return model(input("x", elementType, dims...), node("Add", []string{"x", "x"}, "y"), output("y", elementType, dims...))
}

// repeat is y = x, computed as often as the input "times" says.
func repeat() []byte {
	scalar := func(field protowire.Number, name string, elementType int64) []byte {
		return port(field, name, elementType)
	}
	body := message(
		node("Identity", []string{"more"}, "on"), node("Identity", []string{"from"}, "to"), textField(2, "body"),
		scalar(11, "i", 7), scalar(11, "more", 9), input("from", 1, 1), scalar(12, "on", 9), output("to", 1, 1),
	)
	return model(input("times", 7, 1), input("x", 1, 1),
		node("Loop", []string{"times", "", "x"}, "y", bytesField(5, message(textField(1, "body"), bytesField(6, body), intField(20, 5)))),
		output("y", 1, 1))
}
