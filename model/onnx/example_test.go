package onnx_test

import (
	"bytes"
	"fmt"

	"github.com/forgepipe/forgepipe/model/onnx"
)

func Example() {
	g := onnx.NewGraph("tiny")
	x := g.Input("input", onnx.Float32, g.Dim("batch"), 3, 224, 224)
	w := g.Float32s("conv.weight", make([]float32, 16*3*3*3), 16, 3, 3, 3)
	b := g.Float32s("conv.bias", make([]float32, 16), 16)
	y := g.Relu(g.Conv(x, w, b, onnx.ConvOptions{Stride: 2, Pad: 1}))
	g.Output("output", y)
	file, err := g.Bytes()
	if err != nil {
		fmt.Println(err)
		return
	}

	h, err := onnx.Inspect(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		fmt.Println(err)
		return
	}
	out := h.Outputs[0]
	fmt.Println(out.Name, out.Type, out.Shape, out.Axes[0])
	fmt.Println(h.Parameters, "parameters,", h.Ops["Conv"], "convolution")
	// Output:
	// output float32 [-1 16 112 112] batch
	// 448 parameters, 1 convolution
}
