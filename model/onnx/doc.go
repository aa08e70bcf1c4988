// Package onnx writes neural networks as ONNX files, and reads what such a file
// tells about itself without loading it.
//
// A [Graph] is built by calls that name what a network does, and is written
// weights last, straight from where the caller has them:
//
//	g := onnx.NewGraph("tiny")
//	x := g.Input("input", onnx.Float32, g.Dim("batch"), 3, 224, 224)
//	y := g.Relu(g.Conv(x, w, b, onnx.ConvOptions{Stride: 2, Pad: 1}))
//	g.Output("output", y)
//	err := g.WriteFile("tiny.onnx")
//
// Dimensions are followed from the inputs on, so that a mistake is found where it
// is made. [ReadHeader] walks a file and skips its weights; what is hostile or
// broken gives an error, and never more memory than the file's own text needs.
//
// [ReadGeometry] follows a picture through a network's nodes: by how much it enlarges,
// and how far pixels have an influence. [Convert] rewrites a network as float16 or
// float32.
package onnx
