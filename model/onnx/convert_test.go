package onnx_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/x448/float16"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/onnx/internal/onnxpb"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
)

// everyForm is a network whose numbers are written in all forms that there are, and
// that has what must stay float32 beside what becomes float16.
const everyForm = `
ir_version: 8
opset_import { version: 17 }
graph {
  name: "forms"
  input { name: "x" type { tensor_type { elem_type: 1 shape { dim { dim_value: 1 } dim { dim_value: 1 } dim { dim_param: "h" } dim { dim_param: "w" } } } } }
  output { name: "y" type { tensor_type { elem_type: 1 } } }
  value_info { name: "a" type { tensor_type { elem_type: 1 } } }
  initializer { name: "raw" data_type: 1 dims: 2 raw_data: "\000\000\200?\000\000\000\300" }
  initializer { name: "typed" data_type: 1 dims: 2 float_data: 0.5 float_data: -65504 }
  initializer { name: "outside" data_type: 1 dims: 2 data_location: 1 external_data { key: "location" value: "w.bin" } external_data { key: "offset" value: "4" } external_data { key: "length" value: "8" } }
  initializer { name: "numbers" data_type: 7 dims: 1 int64_data: 3 }
  initializer { name: "outside numbers" data_type: 7 dims: 1 data_location: 1 external_data { key: "location" value: "./w.bin" } }
  initializer { name: "scales" data_type: 1 dims: 2 float_data: 1 float_data: 2 }
  initializer { name: "both" data_type: 1 dims: 2 float_data: 1 float_data: 2 }
  node { name: "add" op_type: "Add" input: "x" input: "raw" output: "a" }
  node { name: "mul" op_type: "Mul" input: "a" input: "typed" output: "b" }
  node { name: "sub" op_type: "Sub" input: "b" input: "outside" output: "c" }
  node { name: "constant" op_type: "Constant" output: "d" attribute { name: "value" type: 4 t { data_type: 1 raw_data: "\000\000\200?" } } }
  node { name: "add constant" op_type: "Add" input: "c" input: "d" output: "e" }
  node { name: "resize" op_type: "Resize" input: "e" input: "" input: "scales" output: "f" }
  node { name: "shape" op_type: "Shape" input: "f" output: "g" }
  node { name: "sizes" op_type: "Cast" input: "g" output: "h" attribute { name: "to" type: 2 i: 1 } }
  node { name: "larger" op_type: "Mul" input: "h" input: "both" output: "i" }
  node { name: "scale" op_type: "Mul" input: "f" input: "both" output: "j" }
  node { name: "resize again" op_type: "Resize" input: "j" input: "" input: "i" output: "k" }
  node { name: "whole" op_type: "Cast" input: "k" output: "l" attribute { name: "to" type: 2 i: 6 } }
  node { name: "again" op_type: "Cast" input: "l" output: "m" attribute { name: "to" type: 2 i: 1 } }
  node { name: "sum" op_type: "CumSum" input: "m" input: "numbers" output: "n" }
  node { name: "end" op_type: "Relu" input: "n" output: "y" }
}`

// sameForm is what it becomes as float16.
const sameForm = `
ir_version: 8
opset_import { version: 17 }
graph {
  name: "forms"
  input { name: "x" type { tensor_type { elem_type: 10 shape { dim { dim_value: 1 } dim { dim_value: 1 } dim { dim_param: "h" } dim { dim_param: "w" } } } } }
  output { name: "y" type { tensor_type { elem_type: 10 } } }
  initializer { name: "raw" data_type: 10 dims: 2 raw_data: "\000<\000\300" }
  initializer { name: "typed" data_type: 10 dims: 2 raw_data: "\0008\377\373" }
  initializer { name: "outside" data_type: 10 dims: 2 raw_data: "\000@\000B" }
  initializer { name: "numbers" data_type: 7 dims: 1 int64_data: 3 }
  initializer { name: "outside numbers" data_type: 7 dims: 1 raw_data: "\000\000\000\000\000\000\000@" }
  initializer { name: "scales" data_type: 1 dims: 2 float_data: 1 float_data: 2 }
  initializer { name: "both" data_type: 1 dims: 2 float_data: 1 float_data: 2 }
  node { name: "add" op_type: "Add" input: "x" input: "raw" output: "a" }
  node { name: "mul" op_type: "Mul" input: "a" input: "typed" output: "b" }
  node { name: "sub" op_type: "Sub" input: "b" input: "outside" output: "c" }
  node { name: "constant" op_type: "Constant" output: "d" attribute { name: "value" type: 4 t { data_type: 10 raw_data: "\000<" } } }
  node { name: "add constant" op_type: "Add" input: "c" input: "d" output: "e" }
  node { name: "resize" op_type: "Resize" input: "e" input: "" input: "scales" output: "f" }
  node { name: "shape" op_type: "Shape" input: "f" output: "g" }
  node { name: "sizes" op_type: "Cast" input: "g" output: "h" attribute { name: "to" type: 2 i: 1 } }
  node { name: "larger" op_type: "Mul" input: "h" input: "both" output: "i" }
  node { name: "both_as_float16" op_type: "Cast" input: "both" output: "both_as_float16" attribute { name: "to" type: 2 i: 10 } }
  node { name: "scale" op_type: "Mul" input: "f" input: "both_as_float16" output: "j" }
  node { name: "resize again" op_type: "Resize" input: "j" input: "" input: "i" output: "k" }
  node { name: "whole" op_type: "Cast" input: "k" output: "l" attribute { name: "to" type: 2 i: 6 } }
  node { name: "again" op_type: "Cast" input: "l" output: "m" attribute { name: "to" type: 2 i: 10 } }
  node { name: "m_as_float32" op_type: "Cast" input: "m" output: "m_as_float32" attribute { name: "to" type: 2 i: 1 } }
  node { name: "sum" op_type: "CumSum" input: "m_as_float32" input: "numbers" output: "n" }
  node { name: "n_as_float16" op_type: "Cast" input: "n" output: "n_as_float16" attribute { name: "to" type: 2 i: 10 } }
  node { name: "end" op_type: "Relu" input: "n_as_float16" output: "y" }
}`

func parsed(t *testing.T, text string) *onnxpb.ModelProto {
	t.Helper()
	m := new(onnxpb.ModelProto)
	if err := prototext.Unmarshal([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// form is everyForm in a file, with the weights that lie outside.
func form(t *testing.T, outside ...float32) string {
	t.Helper()
	dir := t.TempDir()
	var weights []byte
	for _, w := range outside {
		weights = binary.LittleEndian.AppendUint32(weights, math.Float32bits(w))
	}
	for name, data := range map[string][]byte{"net.onnx": marshal(t, parsed(t, everyForm)), "w.bin": weights} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "net.onnx")
}

func TestConvertFieldByField(t *testing.T) {
	var out bytes.Buffer
	if err := onnx.Convert(&out, form(t, 0, 2, 3), onnx.Float16); err != nil {
		t.Fatal(err)
	}
	got, want := new(onnxpb.ModelProto), parsed(t, sameForm)
	if err := proto.Unmarshal(out.Bytes(), got); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if len(got.ProtoReflect().GetUnknown()) > 0 || len(got.Graph.ProtoReflect().GetUnknown()) > 0 {
		t.Error("there are fields that ONNX has not")
	}
}

func TestConvertRefuses(t *testing.T) {
	inner := parsed(t, everyForm)
	inner.Graph.Node[3].Attribute = append(inner.Graph.Node[3].Attribute, &onnxpb.AttributeProto{Name: proto.String("then_branch"), G: &onnxpb.GraphProto{}})
	sparse := parsed(t, everyForm)
	sparse.Graph.SparseInitializer = []*onnxpb.SparseTensorProto{{}}
	write := func(m *onnxpb.ModelProto) string {
		path := form(t, 0, 2, 3)
		if err := os.WriteFile(path, marshal(t, m), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	gone := form(t, 0, 2, 3)
	if err := os.Remove(filepath.Join(filepath.Dir(gone), "w.bin")); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		path string
		to   onnx.ElementType
		want string
	}{
		"too large":    {form(t, 0, 2, 65520), onnx.Float16, `weights "outside": 65520 is beyond what float16 holds (65504)`},
		"cut off":      {form(t, 0, 2), onnx.Float16, `reading the weights "outside": unexpected EOF`},
		"weights gone": {gone, onnx.Float16, "w.bin are no regular file"},
		"inner graphs": {write(inner), onnx.Float16, `the node "constant" (Constant) has graphs within it`},
		"sparse":       {write(sparse), onnx.Float16, "sparse weights"},
		"another type": {form(t), onnx.BFloat16, "only float16 and float32 are possible"},
		"no such file": {"nowhere.onnx", onnx.Float16, "nowhere.onnx"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := onnx.Convert(&out, tt.path, tt.to); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.path) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// What both types hold comes back as it was.
func TestConvertThereAndBack(t *testing.T) {
	for _, n := range testnet.All() {
		if n.Name == "resnet18" || n.Name == "resnet18 features" {
			continue // which is more of the same
		}
		t.Run(n.Name, func(t *testing.T) {
			t.Parallel()
			half, err := onnx.Converted(file(t, n.Build()), onnx.Float16)
			if err != nil {
				t.Fatal(err)
			}
			single, err := onnx.Converted(half, onnx.Float32)
			if err != nil {
				t.Fatal(err)
			}
			again, err := onnx.Converted(single, onnx.Float16)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(half, again) {
				t.Errorf("%d bytes became %d others", len(half), len(again))
			}
			for name, b := range map[string][]byte{"float16": half, "float32": single} {
				h, err := inspect(b)
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range append(h.Inputs, h.Outputs...) {
					if s := p.Type.String(); s != name && s != "int64" {
						t.Errorf("%q is %s as %s", p.Name, s, name)
					}
				}
			}
		})
	}
}

func file(t *testing.T, g *onnx.Graph) []byte {
	t.Helper()
	b, err := g.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is made of a file that can be read can be read.
func FuzzConvert(f *testing.F) {
	for _, g := range []*onnx.Graph{testnet.Interpolated(), testnet.Hog(12), testnet.NaN()} {
		b, err := g.Bytes()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	m := new(onnxpb.ModelProto)
	if err := prototext.Unmarshal([]byte(everyForm), m); err != nil {
		f.Fatal(err)
	}
	f.Add(marshal(f, m))
	f.Add(marshal(f, otherWriters()))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, to := range []onnx.ElementType{onnx.Float16, onnx.Float32} {
			out, err := onnx.Converted(b, to)
			if err != nil {
				continue
			}
			if _, err := inspect(out); err != nil {
				t.Errorf("as %v: %v", to, err)
			}
		}
	})
}

// Every number that float16 has is the same as float32 and back.
func TestEveryHalf(t *testing.T) {
	g := onnx.NewGraph("halves")
	halves := make([]uint16, 1<<16)
	for i := range halves {
		halves[i] = uint16(i)
	}
	x := g.Input("x", onnx.Float16, 1)
	g.Output("y", g.Add(x, g.Float16s("w", halves, len(halves))))
	single, err := onnx.Converted(file(t, g), onnx.Float32)
	if err != nil {
		t.Fatal(err)
	}
	m := new(onnxpb.ModelProto)
	if err := proto.Unmarshal(single, m); err != nil {
		t.Fatal(err)
	}
	data := m.Graph.Initializer[0].RawData
	for i := range halves {
		f := math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		want := float64(float16.Frombits(uint16(i)).Float32())
		if got := float64(f); got != want && !(math.IsNaN(got) && math.IsNaN(want)) || math.Signbit(got) != math.Signbit(want) {
			t.Fatalf("%#x became %v, want %v", i, got, want)
		}
	}
}
