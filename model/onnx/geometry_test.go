package onnx_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
)

// written is a file of the graph.
func written(t *testing.T, g *onnx.Graph) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "net.onnx")
	if err := g.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

var planes = onnx.Route{Input: "input", Output: "output", Rows: 2}

func TestGeometryOfNetworks(t *testing.T) {
	for name, tt := range map[string]struct {
		build func() *onnx.Graph
		want  onnx.Geometry // Unbounded is a part of it
	}{
		// Three convolutions on the picture.
		"compact": {func() *onnx.Graph { return testnet.Compact(4, 16, 1) }, onnx.Geometry{Up: 4, Down: 1, Reach: 3, Multiple: 1, Grid: 1}},
		// Two blocks of three dense ones of five convolutions, one before, one after; then one at twice
		// the size, and three at four times: the pixel 3 of 4 before the first of a block is in the second
		// block of 2 before, and one before that is in the second pixel before.
		"rrdb":            {func() *onnx.Graph { return testnet.RRDB(testnet.RRDBOptions{Features: 4, Blocks: 2}) }, onnx.Geometry{Up: 4, Down: 1, Reach: 30 + 2 + 2, Multiple: 1, Grid: 1}},
		"rrdb unshuffled": {func() *onnx.Graph { return testnet.RRDB(testnet.RRDBOptions{Features: 4, Blocks: 1, Unshuffle: 2}) }, onnx.Geometry{Up: 2, Down: 1, Reach: 38, Multiple: 2, Grid: 2}},
		"span":            {func() *onnx.Graph { return testnet.Span(3) }, onnx.Geometry{Up: 3, Down: 1, Reach: 6, Multiple: 1, Grid: 1}},
		"unet":            {testnet.UNet, onnx.Geometry{Up: 1, Down: 1, Reach: 10, Multiple: 4, Grid: 4}},
		"shuffled":        {shuffled, onnx.Geometry{Up: 2, Down: 1, Reach: 2, Multiple: 2, Grid: 2}},
		"excited":         {testnet.Excited, onnx.Geometry{Up: 2, Down: 1, Multiple: 1, Grid: 1, Unbounded: `"GlobalAveragePool_`}},
		"interpolated":    {testnet.Interpolated, onnx.Geometry{Up: 2, Down: 1, Reach: 1, Multiple: 1, Grid: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := onnx.ReadGeometry(written(t, tt.build()), planes)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(got.Unbounded, tt.want.Unbounded) || got.Peak < 1 {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			got.Unbounded, got.Peak = tt.want.Unbounded, 0
			if got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

// What stands in the way is said with the node.
func TestGeometryOfText(t *testing.T) {
	const head = `ir_version: 8 opset_import { version: 18 } graph {
  input { name: "input" type { tensor_type { elem_type: 1 shape { dim { dim_value: 1 } dim { dim_value: 3 } dim { dim_param: "h" } dim { dim_param: "w" } } } } }
  output { name: "output" type { tensor_type { elem_type: 1 } } } `
	node := func(op, in, rest string) string {
		return head + `node { name: "here" op_type: "` + op + `" ` + in + ` output: "output" ` + rest + `} }`
	}
	const scales = ` initializer { name: "s" data_type: 1 dims: 4 float_data: 1 float_data: 1 float_data: 0.5 float_data: 0.5 } }`
	antialiased := strings.TrimSuffix(node("Resize", `input: "input" input: "" input: "s"`, `attribute { name: "mode" s: "linear" type: 3 } attribute { name: "antialias" i: 1 type: 2 }`), "}") + scales
	for name, tt := range map[string]struct {
		text string
		want onnx.Geometry
		err  string
	}{
		// The pixel q is of those from 2q-1 to 2q+2, and lies at 2q and 2q+1.
		"antialiased":   {text: antialiased, want: onnx.Geometry{Up: 1, Down: 2, Reach: 2, Multiple: 2, Grid: 2}},
		"unknown":       {text: node("Frobnicate", `input: "input"`, ""), err: `the node "here" (Frobnicate) is of an operator that is not followed`},
		"other domain":  {text: node("Relu", `input: "input"`, `domain: "mine"`), err: `the node "here" (mine.Relu) is of an operator`},
		"no input":      {text: node("Relu", "", ""), err: `the node "here" (Relu) lacks an input`},
		"no such value": {text: node("Relu", `input: "nothing"`, ""), err: `the node "here" (Relu) needs what no node before it makes`},
		"no picture":    {text: node("Squeeze", `input: "input"`, ""), err: `its output "output" is no picture: it has the shape [3`},
		"no scale":      {text: node("AveragePool", `input: "input"`, `attribute { name: "kernel_shape" ints: 3 ints: 3 type: 7 }`), err: `that is no scale; a border that is cut off is one reason`},
		"no output":     {text: strings.Replace(node("Relu", `input: "input"`, ""), `output { name: "output"`, `output { name: "other"`, 1), err: `it has no output "output": it has ["other"]`},
		"a global one":  {text: node("InstanceNormalization", `input: "input"`, ""), want: onnx.Geometry{Up: 1, Down: 1, Multiple: 1, Grid: 1, Unbounded: `the node "here" (InstanceNormalization)`}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := onnx.GeometryOf(marshal(t, parsed(t, tt.text)), planes)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("%+v, %v, want %q", got, err, tt.err)
				}
				return
			}
			if got.Peak = 0; err != nil || got != tt.want {
				t.Errorf("%+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

// exported are networks that PyTorch's exporters wrote: see testdata/make_exports.py.
var exported = map[string]struct {
	want onnx.Geometry
	err  string
}{
	"shuffle.legacy":         {want: onnx.Geometry{Up: 2, Down: 1, Reach: 2, Multiple: 1, Grid: 1}},
	"shuffle.dynamo":         {want: onnx.Geometry{Up: 2, Down: 1, Reach: 2, Multiple: 1, Grid: 1}},
	"rrdb_unshuffled.legacy": {want: onnx.Geometry{Up: 2, Down: 1, Reach: 17, Multiple: 2, Grid: 2}},
	"rrdb_unshuffled.dynamo": {want: onnx.Geometry{Up: 2, Down: 1, Reach: 17, Multiple: 2, Grid: 2}},
	"unet.legacy":            {want: onnx.Geometry{Up: 1, Down: 1, Reach: 4, Multiple: 2, Grid: 2}},
	"unet.dynamo":            {want: onnx.Geometry{Up: 1, Down: 1, Reach: 4, Multiple: 2, Grid: 2}},
	"viewed.legacy":          {want: onnx.Geometry{Up: 2, Down: 1, Reach: 4, Multiple: 1, Grid: 2}}, // pads to blocks itself
	"attention.legacy":       {want: onnx.Geometry{Up: 2, Down: 1, Reach: 5, Multiple: 4, Grid: 4}}, // within windows of 4
	"attention.dynamo":       {err: `the node "node_SplitToSequence_49" (SplitToSequence) is of an operator that is not followed`},
}

func TestGeometryOfExportedNetworks(t *testing.T) {
	for name, tt := range exported {
		t.Run(name, func(t *testing.T) {
			got, err := onnx.ReadGeometry(filepath.Join("testdata", name+".onnx"), planes)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("%+v, %v", got, err)
				}
				return
			}
			if got.Peak < 1 {
				t.Errorf("%+v", got)
			}
			if got.Peak = 0; err != nil || got != tt.want {
				t.Errorf("%+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

// Whatever a file says, following it ends, and tells what can be.
func FuzzGeometry(f *testing.F) {
	// Small ones only: the fuzzer spends its time on making inputs smaller otherwise.
	for _, g := range []*onnx.Graph{testnet.Interpolated(), testnet.Hog(12), shuffled()} {
		b, err := g.Bytes()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, rows := range []int{1, 2} {
			g, err := onnx.GeometryOf(b, onnx.Route{Input: "input", Output: "output", Rows: rows})
			switch {
			case err != nil && err.Error() == "":
				t.Error("an error without a text")
			case err == nil && (g.Up < 1 || g.Down < 1 || g.Reach < 0 || g.Multiple < 1 || g.Peak < 0):
				t.Errorf("%+v", g)
			}
		}
	})
}

// shuffled has no weights, and its pixels go into blocks and out of them again.
func shuffled() *onnx.Graph {
	g := onnx.NewGraph("shuffled")
	x := g.Input("input", onnx.Float32, g.Dim("n"), 4, g.Dim("h"), g.Dim("w"))
	y := g.Add(x, g.DepthToSpace(g.PixelUnshuffle(x, 2), 2))
	shape := g.Shape(y)
	size := func(axis int) *onnx.Value { return g.Slice(shape, 0, axis, axis+1) }
	y = g.ReshapeTo(y, g.Concat(0, size(0), g.List(1, 2, 2), size(2), size(3)))
	y = g.Transpose(y, 0, 1, 4, 2, 5, 3)
	y = g.ReshapeTo(y, g.Concat(0, size(0), g.List(1), g.Mul(size(2), g.List(2)), g.Mul(size(3), g.List(2))))
	g.Output("output", g.MaxPool(y, onnx.PoolOptions{Size: 3, Pad: 1}))
	return g
}
