package model_test

import (
	"slices"
	"testing"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/onnx"
)

// What a run gives is told beforehand, for outputs of any rank, and in the type in which
// the network computes.
func TestSizesOfOutputs(t *testing.T) {
	g := onnx.NewGraph("wide")
	x := g.Input("input", onnx.Float32, g.Dim("batch"), 3, g.Dim("height"), g.Dim("width"))
	g.Output("wide", g.Conv(x, g.Float32s("w", make([]float32, 40*3), 40, 3, 1, 1), nil, onnx.ConvOptions{}))
	g.Output("mean", g.ReduceMean(x, false, 2, 3))
	unknown := g.Node(onnx.Node{Op: "Frobnicate", In: []*onnx.Value{x}, Out: []onnx.Out{{Type: onnx.Float32, Dims: []int{g.Dim("batch"), 7}}, {Type: onnx.Float32, Dims: x.Dims()}}})
	g.Output("told", unknown[0])
	g.Output("untold", unknown[1])
	f, err := model.Open(saved(t, g), model.FileOptions{Outputs: []string{"mean", "wide", "told", "untold"}})
	if err != nil {
		t.Fatal(err)
	}
	const pixels = 16 * 24
	got := f.Sizes([]int64{3, 16, 24})
	if want := []int64{3 * 4, 40 * 4 * pixels, 7 * 4, -1}; !slices.Equal(got.Outputs, want) {
		t.Errorf("the outputs have %v bytes, want %v", got.Outputs, want)
	}
	if got.Peak < (3+40)*4*pixels || got.Peak > 2*(3+48)*4*pixels {
		t.Errorf("a run has %d bytes", got.Peak)
	}
	half := f.As(model.Float16).Sizes([]int64{3, 16, 24})
	if half.Outputs[1] != got.Outputs[1]/2 || half.Peak != got.Peak/2 {
		t.Errorf("in float16 %+v, and %+v in float32", half, got)
	}
}
