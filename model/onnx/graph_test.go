package onnx_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/onnx/internal/onnxpb"
)

// reread writes a graph and reads it with the published description.
func reread(t *testing.T, g *onnx.Graph) *onnxpb.ModelProto {
	t.Helper()
	b, err := g.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	m := new(onnxpb.ModelProto)
	if err := proto.Unmarshal(b, m); err != nil {
		t.Fatal(err)
	}
	// Fields that the description does not have would be kept aside.
	if len(m.ProtoReflect().GetUnknown()) > 0 || len(m.Graph.ProtoReflect().GetUnknown()) > 0 {
		t.Error("there are fields that ONNX has not")
	}
	return m
}

func TestGraphFieldByField(t *testing.T) {
	g := onnx.NewGraph("net")
	g.Metadata("license", "none")
	x := g.Input("x", onnx.Float32, g.Dim("batch"), 2, onnx.Dynamic, 5)
	w := g.Float32s("w", []float32{1, -2, 0.5, 4, 5, 6}, 3, 2, 1, 1)
	h := g.Float16s("h", []uint16{0x3c00, 0xc000}, 2)
	i := g.Int64s("i", []int64{-1, 1 << 40}, 2)
	var y *onnx.Value
	g.Scope("body", func() {
		y = g.Conv(x, w, nil, onnx.ConvOptions{Stride: 2, Pad: 1, Dilation: 3})
	})
	g.Output("y", y)
	g.Output("z", g.LeakyRelu(y, 0.25))
	g.Output("y again", y)
	g.Output("halves", h)
	g.Output("odd", g.Node(onnx.Node{Op: "Odd", Domain: "test", In: []*onnx.Value{i}, Out: []onnx.Out{{Type: onnx.Bool}},
		Attrs: []onnx.Attr{onnx.Int("int", -3), onnx.Text("text", "né"), onnx.Floats("floats", 1, 2.5), onnx.Ints("ints", 7, -8)}})[0])
	g.Output("scaled", g.Resize(x, onnx.ResizeOptions{Mode: "linear", Coordinates: "half_pixel", Sizes: []int{1, 2, 3, 4}}), 1, 2, 3, 4)

	dim := func(n int64) *onnxpb.TensorShapeProto_Dimension {
		return &onnxpb.TensorShapeProto_Dimension{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: n}}
	}
	batch := &onnxpb.TensorShapeProto_Dimension{Value: &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: "batch"}}
	open := &onnxpb.TensorShapeProto_Dimension{}
	port := func(name string, t int32, dims ...*onnxpb.TensorShapeProto_Dimension) *onnxpb.ValueInfoProto {
		tensor := &onnxpb.TypeProto_Tensor{ElemType: &t}
		if dims != nil {
			tensor.Shape = &onnxpb.TensorShapeProto{Dim: dims}
		}
		return &onnxpb.ValueInfoProto{Name: &name, Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{TensorType: tensor}}}
	}
	number := func(name string, v int64) *onnxpb.AttributeProto {
		return &onnxpb.AttributeProto{Name: &name, Type: onnxpb.AttributeProto_INT.Enum(), I: &v}
	}
	list := func(name string, v ...int64) *onnxpb.AttributeProto {
		return &onnxpb.AttributeProto{Name: &name, Type: onnxpb.AttributeProto_INTS.Enum(), Ints: v}
	}
	text := func(name, v string) *onnxpb.AttributeProto {
		return &onnxpb.AttributeProto{Name: &name, Type: onnxpb.AttributeProto_STRING.Enum(), S: []byte(v)}
	}
	node := func(name, op string, in, out []string, attrs ...*onnxpb.AttributeProto) *onnxpb.NodeProto {
		return &onnxpb.NodeProto{Name: &name, OpType: &op, Input: in, Output: out, Attribute: attrs}
	}
	odd := node("Odd_7", "Odd", []string{"i"}, []string{"odd"}, number("int", -3), text("text", "né"),
		&onnxpb.AttributeProto{Name: proto.String("floats"), Type: onnxpb.AttributeProto_FLOATS.Enum(), Floats: []float32{1, 2.5}},
		list("ints", 7, -8))
	odd.Domain = proto.String("test")
	tensor := func(name string, t int32, raw string, dims ...int64) *onnxpb.TensorProto {
		return &onnxpb.TensorProto{Name: &name, DataType: &t, RawData: []byte(raw), Dims: dims}
	}
	opset := func(domain string, v int64) *onnxpb.OperatorSetIdProto {
		return &onnxpb.OperatorSetIdProto{Domain: &domain, Version: &v}
	}
	want := &onnxpb.ModelProto{
		IrVersion:     proto.Int64(8),
		ProducerName:  proto.String("forgepipe"),
		OpsetImport:   []*onnxpb.OperatorSetIdProto{opset("", 17), opset("test", 1)},
		MetadataProps: []*onnxpb.StringStringEntryProto{{Key: proto.String("license"), Value: proto.String("none")}},
		Graph: &onnxpb.GraphProto{
			Name:  proto.String("net"),
			Input: []*onnxpb.ValueInfoProto{port("x", 1, batch, dim(2), open, dim(5))},
			Output: []*onnxpb.ValueInfoProto{
				port("y", 1, batch, dim(3), open, dim(4)), port("z", 1, batch, dim(3), open, dim(4)),
				port("y again", 1, batch, dim(3), open, dim(4)), port("halves", 10, dim(2)), port("odd", 9),
				port("scaled", 1, dim(1), dim(2), dim(3), dim(4)),
			},
			Node: []*onnxpb.NodeProto{
				node("body/Conv_3", "Conv", []string{"x", "w"}, []string{"y"}, list("strides", 2, 2), list("pads", 1, 1, 1, 1),
					list("dilations", 3, 3), number("group", 1)),
				node("LeakyRelu_4", "LeakyRelu", []string{"y"}, []string{"z"},
					&onnxpb.AttributeProto{Name: proto.String("alpha"), Type: onnxpb.AttributeProto_FLOAT.Enum(), F: proto.Float32(0.25)}),
				node("Identity_5", "Identity", []string{"y"}, []string{"y again"}),
				node("Identity_6", "Identity", []string{"h"}, []string{"halves"}),
				odd,
				node("Resize_9", "Resize", []string{"x", "", "", "const_8"}, []string{"scaled"}, text("mode", "linear"),
					text("coordinate_transformation_mode", "half_pixel")),
			},
			Initializer: []*onnxpb.TensorProto{
				tensor("w", 1, "\x00\x00\x80\x3f\x00\x00\x00\xc0\x00\x00\x00\x3f\x00\x00\x80\x40\x00\x00\xa0\x40\x00\x00\xc0\x40", 3, 2, 1, 1),
				tensor("h", 10, "\x00\x3c\x00\xc0", 2),
				tensor("i", 7, strings.Repeat("\xff", 8)+"\x00\x00\x00\x00\x00\x01\x00\x00", 2),
				tensor("const_8", 7, "\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00"+
					"\x03\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00", 4),
			},
		},
	}
	if got := reread(t, g); !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// ops are graphs of one operator each, and the dimensions that come out.
var ops = []struct {
	name  string
	build func(g *onnx.Graph, x *onnx.Value) *onnx.Value // x is [batch 4 8 ?]
	want  string
}{
	{"add", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Add(x, g.Scalar(onnx.Float32, 1)) }, "batch 4 8 ?"},
	{"channels", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Mul(x, zeros(g, 4, 1, 1)) }, "batch 4 8 ?"},
	{"two open dimensions", func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
		return g.Add(x, g.Input("n", onnx.Float32, g.Dim("n"), 1, 1, 1))
	}, "? 4 8 ?"},
	{"gelu", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Gelu(x) }, "batch 4 8 ?"},
	{"quick gelu", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.QuickGelu(x) }, "batch 4 8 ?"},
	{"silu", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Silu(x) }, "batch 4 8 ?"},
	{"tanh", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Tanh(x) }, "batch 4 8 ?"},
	{"pow", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Pow(x, g.Scalar(onnx.Float32, 2)) }, "batch 4 8 ?"},
	{"softmax", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Softmax(x, 1) }, "batch 4 8 ?"},
	{"clip", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Clip(x, 0, 1) }, "batch 4 8 ?"},
	{"prelu", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.PRelu(x, zeros(g, 4, 1, 1)) }, "batch 4 8 ?"},
	{"conv", func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
		return g.Conv(x, zeros(g, 6, 2, 3, 3), zeros(g, 6), onnx.ConvOptions{Groups: 2, Pad: 1})
	}, "batch 6 8 ?"},
	{"strided conv", func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
		return g.Conv(x, zeros(g, 6, 4, 3, 3), nil, onnx.ConvOptions{Stride: 2, Pad: 1})
	}, "batch 6 4 ?"},
	{"max pool", func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
		return g.MaxPool(x, onnx.PoolOptions{Size: 3, Stride: 2, Pad: 1})
	}, "batch 4 4 ?"},
	{"average pool", func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
		return g.AveragePool(x, onnx.PoolOptions{Size: 2, Stride: 2, CountPad: true})
	}, "batch 4 4 ?"},
	{"global average pool", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.GlobalAveragePool(x) }, "batch 4 1 1"},
	{"reduce mean", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.ReduceMean(x, true, -1) }, "batch 4 8 1"},
	{"reduce sum", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.ReduceSum(x, false, 1, 3) }, "batch 8"},
	{"matmul", func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
		return g.MatMul(g.Transpose(x, 0, 1, 3, 2), zeros(g, 8, 5))
	}, "batch 4 ? 5"},
	{"gemm", func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
		return g.Gemm(g.ReduceMean(x, false, 2, 3), zeros(g, 4, 7), zeros(g, 7), false)
	}, "batch 7"},
	{"batch norm", func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
		return g.BatchNorm(x, zeros(g, 4), zeros(g, 4), zeros(g, 4), zeros(g, 4), 1e-5)
	}, "batch 4 8 ?"},
	{"layer norm", func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
		return g.LayerNorm(g.Transpose(x, 0, 1, 3, 2), zeros(g, 8), zeros(g, 8), 1e-5)
	}, "batch 4 ? 8"},
	{"reshape", func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
		return g.Reshape(g.ReduceMean(x, false, 3), 0, 2, -1)
	}, "batch 2 16"},
	{"reshape to", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.ReshapeTo(x, g.Shape(x)) }, "? ? ? ?"},
	{"flatten", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Flatten(g.ReduceMean(x, false, 3), 1) }, "batch 32"},
	{"flatten what is open", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Flatten(x, 2) }, "? ?"},
	{"concat", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Concat(1, x, x) }, "batch 8 8 ?"},
	{"split", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Split(x, 1, 1, 3)[1] }, "batch 3 8 ?"},
	{"slice", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Slice(x, 2, -3, math.MaxInt) }, "batch 4 3 ?"},
	{"slice what is open", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Slice(x, 3, 0, 2) }, "batch 4 8 ?"},
	{"gather", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Gather(x, g.List(1, 1), 1) }, "batch 2 8 ?"},
	{"gather one", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Gather(x, g.Scalar(onnx.Int64, 0), 2) }, "batch 4 ?"},
	{"shape", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Shape(x) }, "4"},
	{"unsqueeze", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Unsqueeze(x, 0, 5) }, "1 batch 4 8 ? 1"},
	{"squeeze", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Squeeze(g.GlobalAveragePool(x), 2, 3) }, "batch 4"},
	{"resize by scales", func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
		return g.Resize(x, onnx.ResizeOptions{Mode: "cubic", Coordinates: "align_corners", Cubic: -0.5, Scales: []float32{1, 1, 1.5, 2}})
	}, "batch 4 12 ?"},
	{"depth to space", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.DepthToSpace(x, 2) }, "batch 1 16 ?"},
	{"pixel unshuffle", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.PixelUnshuffle(x, 2) }, "batch 16 4 ?"},
	{"pad", func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
		return g.Pad(x, onnx.PadOptions{Mode: "reflect", Before: []int{0, 0, 1, 0}, After: []int{0, 0, 2, 0}})
	}, "batch 4 11 ?"},
	{"cast", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Cast(x, onnx.Float16) }, "batch 4 8 ?"},
	{"expand", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Expand(g.GlobalAveragePool(x), 1, 1, 3, 2) }, "batch 4 3 2"},
	{"expand to", func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.ExpandTo(g.GlobalAveragePool(x), g.Shape(x)) }, "? ? ? ?"},
	{"constant", func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
		return g.Add(x, g.Constant([]float32{1, 2, 3, 4}, 4, 1, 1))
	}, "batch 4 8 ?"},
}

func zeros(g *onnx.Graph, dims ...int) *onnx.Value {
	n := 1
	for _, d := range dims {
		n *= d
	}
	return g.Float32s("", make([]float32, n), dims...)
}

func newOp() (*onnx.Graph, *onnx.Value) {
	g := onnx.NewGraph("op")
	return g, g.Input("x", onnx.Float32, g.Dim("batch"), 4, 8, onnx.Dynamic)
}

func TestDimensionsFollow(t *testing.T) {
	for _, op := range ops {
		t.Run(op.name, func(t *testing.T) {
			g, x := newOp()
			y := op.build(g, x)
			g.Output("y", y)
			m := reread(t, g)
			var got []string
			for _, d := range m.Graph.Output[0].Type.GetTensorType().Shape.Dim {
				switch v := d.Value.(type) {
				case *onnxpb.TensorShapeProto_Dimension_DimValue:
					got = append(got, fmt.Sprint(v.DimValue))
				case *onnxpb.TensorShapeProto_Dimension_DimParam:
					got = append(got, v.DimParam)
				default:
					got = append(got, "?")
				}
			}
			if s := strings.Join(got, " "); s != op.want {
				t.Errorf("got [%s], want [%s]", s, op.want)
			}
			if len(y.Dims()) != len(got) {
				t.Errorf("Dims has %d dimensions, the file %d", len(y.Dims()), len(got))
			}
		})
	}
}

func TestMistakes(t *testing.T) {
	type graph = *onnx.Graph
	type value = *onnx.Value
	for name, c := range map[string]struct {
		build func(g graph, x value)
		want  []string
	}{
		"conv for other channels": {func(g graph, x value) { g.Conv(x, zeros(g, 8, 3, 3, 3), nil, onnx.ConvOptions{}) },
			[]string{`node "Conv_1"`, "3 channels", "has 4", "[batch 4 8 ?]"}},
		"bias of another size": {func(g graph, x value) { g.Conv(x, zeros(g, 8, 4, 3, 3), zeros(g, 7), onnx.ConvOptions{}) },
			[]string{"Conv", "bias needs 8 numbers, not 7"}},
		"window too large": {func(g graph, x value) { g.Conv(x, zeros(g, 8, 4, 9, 9), nil, onnx.ConvOptions{}) },
			[]string{"Conv", "window of 9 does not fit into 8"}},
		"in a scope": {func(g graph, x value) {
			g.Scope("layer1", func() { g.Scope("0", func() { g.MaxPool(x, onnx.PoolOptions{}) }) })
		}, []string{`"layer1/0/MaxPool_0"`, "window of 0"}},
		"broadcast": {func(g graph, x value) { g.Add(x, zeros(g, 3, 1, 1)) }, []string{`"Add_1"`, "4 and 3"}},
		"types":     {func(g graph, x value) { g.Mul(x, g.Scalar(onnx.Float16, 1)) }, []string{"Mul", "float32 and float16"}},
		"rank": {func(g graph, x value) { g.Conv(zeros(g, 4, 4), zeros(g, 8, 4, 3, 3), nil, onnx.ConvOptions{}) },
			[]string{"4 dimensions are needed, not 2"}},
		"gemm":      {func(g graph, x value) { g.Gemm(zeros(g, 2, 3), zeros(g, 4, 5), nil, false) }, []string{"for 4 numbers", "are 3"}},
		"matmul":    {func(g graph, x value) { g.MatMul(zeros(g, 2, 3), zeros(g, 4, 5)) }, []string{"3 columns and 4 rows"}},
		"norm":      {func(g graph, x value) { g.LayerNorm(zeros(g, 2, 3), zeros(g, 4), zeros(g, 3), 1) }, []string{"scale needs 3"}},
		"transpose": {func(g graph, x value) { g.Transpose(x, 0, 1, 1, 2) }, []string{"no order"}},
		"reshape":   {func(g graph, x value) { g.Reshape(zeros(g, 6), 4, -1) }, []string{"6 elements do not become [4 -1]"}},
		"concat":    {func(g graph, x value) { g.Concat(0, zeros(g, 2, 3), zeros(g, 2, 4)) }, []string{"differ beside axis 0"}},
		"split":     {func(g graph, x value) { g.Split(x, 1, 2, 3) }, []string{`"Split_1"`, "[2 3] are not 4"}},
		"slice":     {func(g graph, x value) { g.Slice(x, 1, 3, 2) }, []string{"nothing is between 3 and 2 of 4"}},
		"axis":      {func(g graph, x value) { g.Softmax(x, 4) }, []string{"no axis 4 of 4"}},
		"squeeze":   {func(g graph, x value) { g.Squeeze(x, 1) }, []string{"size of 4, not 1"}},
		"shuffle":   {func(g graph, x value) { g.DepthToSpace(x, 3) }, []string{"4 channels", "3 x 3"}},
		"unshuffle": {func(g graph, x value) { g.PixelUnshuffle(x, 3) }, []string{"8 is not a multiple of 3"}},
		"resize":    {func(g graph, x value) { g.Resize(x, onnx.ResizeOptions{}) }, []string{"either scales or sizes"}},
		"other graph": {func(g graph, x value) { g.Relu(onnx.NewGraph("other").Input("theirs", onnx.Float32, 1)) },
			[]string{`"Relu_0": input 0`, `"theirs" belongs to the graph "other"`}},
		"other output": {func(g graph, x value) { g.Output("o", onnx.NewGraph("other").Input("theirs", onnx.Float32, 1)) },
			[]string{`output "o"`, `belongs to the graph "other"`}},
		"nil":               {func(g graph, x value) { g.Add(x, nil) }, []string{`"Add_0": input 1`, "nil"}},
		"nil with scalars":  {func(g graph, x value) { g.Gelu(nil) }, []string{"undefined"}},
		"name of two":       {func(g graph, x value) { g.Input("x", onnx.Float32, 1) }, []string{`"x"`, "twice", "an input"}},
		"name of weights":   {func(g graph, x value) { g.Float32s("x", []float32{1}, 1) }, []string{`"x"`, "an input and to weights"}},
		"name of outputs":   {func(g graph, x value) { g.Output("x", g.Relu(x)) }, []string{`"x"`, "an output"}},
		"size of weights":   {func(g graph, x value) { g.Float32s("w", make([]float32, 5), 2, 3) }, []string{`"w"`, "[2 3]", "24 bytes", "are 20"}},
		"overflow":          {func(g graph, x value) { g.Raw("w", onnx.Uint8, nil, 1<<40, 1<<40) }, []string{"too large"}},
		"dimension":         {func(g graph, x value) { g.Input("i", onnx.Float32, -7) }, []string{"-7 is no dimension"}},
		"declared":          {func(g graph, x value) { g.Output("o", g.Relu(x), 1, 5, 8, 8) }, []string{`"o"`, "[1 5 8 8]", "[batch 4 8 ?]"}},
		"first mistake":     {func(g graph, x value) { g.Split(g.Relu(g.Softmax(x, 9)), 1, 9); g.Dim("") }, []string{"no axis 9"}},
		"nothing comes out": {func(g graph, x value) {}, []string{"no output"}},
	} {
		t.Run(name, func(t *testing.T) {
			g, x := newOp()
			c.build(g, x)
			b, err := g.Bytes()
			if err == nil || b != nil {
				t.Fatalf("no error, and %d bytes", len(b))
			}
			for _, want := range append(c.want, `graph "op"`) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			var w bytes.Buffer
			if _, again := g.WriteTo(&w); w.Len() > 0 || again == nil || again.Error() != err.Error() {
				t.Errorf("WriteTo wrote %d bytes and says %v", w.Len(), again)
			}
		})
	}
}

func TestWeightsAreNotCopied(t *testing.T) {
	data := make([]float32, 16<<20)
	g := onnx.NewGraph("large")
	g.Output("y", g.Float32s("w", data, len(data)))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n, err := g.WriteTo(io.Discard)
	runtime.ReadMemStats(&after)
	if err != nil || n < 64<<20 {
		t.Fatal(n, err)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
		t.Errorf("writing 64 MiB allocated %d bytes", took)
	}
}

func TestLargerThanProtobufAllows(t *testing.T) {
	data := make([]byte, 1<<30) // never touched, so it takes no memory
	g := onnx.NewGraph("huge")
	g.Output("y", g.Raw("a", onnx.Uint8, data, len(data)))
	g.Raw("b", onnx.Uint8, data, len(data))
	n, err := g.WriteTo(io.Discard)
	if n != 0 || err == nil || !strings.Contains(err.Error(), "2147483647") || !strings.Contains(err.Error(), "float16") {
		t.Error(n, err)
	}
}

// limited fails after n bytes.
type limited struct{ n int }

var errFull = errors.New("full")

func (l *limited) Write(p []byte) (int, error) {
	if len(p) > l.n {
		return l.n, errFull
	}
	l.n -= len(p)
	return len(p), nil
}

func TestWriterThatFails(t *testing.T) {
	g := onnx.NewGraph("net")
	g.Output("y", g.Float32s("w", make([]float32, 100_000), 100_000))
	for _, n := range []int{0, 1, 70_000, 390_000} {
		if _, err := g.WriteTo(&limited{n}); !errors.Is(err, errFull) || !strings.Contains(err.Error(), `"net"`) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "net.onnx")
	g, x := newOp()
	g.Output("y", g.Relu(x))
	if err := g.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	want, _ := g.Bytes()
	if err != nil || !bytes.Equal(good, want) {
		t.Errorf("the file differs from Bytes (%v)", err)
	}
	bad, _ := newOp()
	if err := bad.WriteFile(path); err == nil || !strings.Contains(err.Error(), "no output") {
		t.Error(err)
	}
	if now, _ := os.ReadFile(path); !bytes.Equal(now, good) {
		t.Error("a mistake has changed the file")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left over: %v", entries)
	}
	if err := g.WriteFile(filepath.Join(dir, "none", "net.onnx")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// half is the value of a float16.
func half(b uint16) float64 {
	exp, frac := int(b>>10&31), float64(b&1023)
	v := math.Ldexp(1024+frac, exp-25)
	switch {
	case exp == 0:
		v = math.Ldexp(frac, -24)
	case exp == 31 && frac == 0:
		v = math.Inf(1)
	case exp == 31:
		v = math.NaN()
	}
	if b>>15 == 1 {
		v = -v
	}
	return v
}

func TestHalf(t *testing.T) {
	var last uint16
	for b := range uint16(0x7c00) {
		if got := onnx.Half(float32(half(b))); got != b {
			t.Fatalf("%#x becomes %#x", b, got)
		}
		if got := onnx.Half(float32(-half(b))); got != b|0x8000 {
			t.Fatalf("-%#x becomes %#x", b, got)
		}
		if b == 0 {
			continue
		}
		// Between two, the nearest; in the middle, the even one.
		low, high := half(last), half(b)
		middle := (low + high) / 2
		even := last + last&1
		for _, c := range []struct {
			v    float64
			want uint16
		}{{math.Nextafter(middle, 0), last}, {middle, even}, {math.Nextafter(middle, 1e9), b}} {
			f := float32(c.v)
			if float64(f) != c.v { // beyond float32's own precision
				f = math.Nextafter32(float32(middle), float32(c.v-middle)*float32(math.Inf(1)))
			}
			if got := onnx.Half(f); got != c.want {
				t.Fatalf("%v becomes %#x, not %#x", f, got, c.want)
			}
		}
		last = b
	}
	for f, want := range map[float32]uint16{65519: 0x7bff, 65520: 0x7c00, 1e30: 0x7c00, float32(math.Inf(-1)): 0xfc00, 1e-30: 0} {
		if got := onnx.Half(f); got != want {
			t.Errorf("%v becomes %#x, not %#x", f, got, want)
		}
	}
	if got := onnx.Half(float32(math.NaN())); !math.IsNaN(half(got)) {
		t.Errorf("NaN becomes %#x", got)
	}
}

func TestElementTypes(t *testing.T) {
	// The names of the published description, but for the floats, which Go and everyone else call otherwise.
	other := map[string]string{"FLOAT": "float32", "DOUBLE": "float64"}
	for n, name := range onnxpb.TensorProto_DataType_name {
		want := strings.ToLower(name)
		if s, ok := other[name]; ok {
			want = s
		}
		if got := onnx.ElementType(n).String(); got != want {
			t.Errorf("type %d is %q, not %q", n, got, want)
		}
	}
	if s := onnx.ElementType(-5).String(); s != "element type -5" {
		t.Error(s)
	}
	if !slices.Equal([]int{onnx.Float16.Bits(), onnx.Int64.Bits(), onnx.String.Bits(), onnx.ElementType(1000).Bits()}, []int{16, 64, 0, 0}) {
		t.Error("sizes are wrong")
	}
}
