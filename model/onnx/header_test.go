package onnx_test

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/onnx/internal/onnxpb"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
)

func inspect(b []byte) (*onnx.Header, error) {
	return onnx.Inspect(bytes.NewReader(b), int64(len(b)))
}

// headerOf is the header of one of our networks by the published description.
func headerOf(m *onnxpb.ModelProto) *onnx.Header {
	h := &onnx.Header{IRVersion: m.GetIrVersion(), Producer: m.GetProducerName(), Graph: m.Graph.GetName(),
		Ops: map[string]int{}, Metadata: map[string]string{}}
	for _, o := range m.OpsetImport {
		h.Opsets = append(h.Opsets, onnx.OpsetVersion{Domain: o.GetDomain(), Version: o.GetVersion()})
	}
	ports := func(infos []*onnxpb.ValueInfoProto) (ports []onnx.Port) {
		for _, info := range infos {
			tensor := info.Type.GetTensorType()
			p := onnx.Port{Name: info.GetName(), Type: onnx.ElementType(tensor.GetElemType()), Shape: []int64{}, Axes: []string{}}
			for _, d := range tensor.Shape.Dim {
				size := d.GetDimValue()
				if size == 0 {
					size = -1
				}
				p.Shape, p.Axes = append(p.Shape, size), append(p.Axes, d.GetDimParam())
			}
			ports = append(ports, p)
		}
		return ports
	}
	h.Inputs, h.Outputs = ports(m.Graph.Input), ports(m.Graph.Output)
	for _, n := range m.Graph.Node {
		h.Ops[n.GetOpType()]++
	}
	for _, w := range m.Graph.Initializer {
		n := int64(1)
		for _, d := range w.Dims {
			n *= d
		}
		h.Parameters += n
		h.WeightBytes += int64(len(w.RawData))
	}
	return h
}

func TestHeaderAgreesWithPublishedDescription(t *testing.T) {
	for _, n := range testnet.All() {
		t.Run(n.Name, func(t *testing.T) {
			g := n.Build()
			path := filepath.Join(t.TempDir(), "net.onnx")
			if err := g.WriteFile(path); err != nil {
				t.Fatal(err)
			}
			got, err := onnx.ReadHeader(path)
			if err != nil {
				t.Fatal(err)
			}
			if want := headerOf(reread(t, g)); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// model is the least that a model needs, with a graph.
func model(g *onnxpb.GraphProto) *onnxpb.ModelProto {
	return &onnxpb.ModelProto{IrVersion: proto.Int64(3), Graph: g}
}

func tensor(name string, t onnxpb.TensorProto_DataType, dims ...int64) *onnxpb.TensorProto {
	return &onnxpb.TensorProto{Name: &name, DataType: proto.Int32(int32(t)), Dims: dims}
}

// outside is a tensor with external data: key, value, key, value.
func outside(entries ...string) *onnxpb.TensorProto {
	w := tensor("w", onnxpb.TensorProto_FLOAT, 5)
	w.DataLocation = onnxpb.TensorProto_EXTERNAL.Enum()
	for i := 0; i < len(entries); i += 2 {
		w.ExternalData = append(w.ExternalData, &onnxpb.StringStringEntryProto{Key: &entries[i], Value: &entries[i+1]})
	}
	return w
}

func marshal(t testing.TB, m *onnxpb.ModelProto) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// otherWriters is a model with all that a header tells, in forms that this package
// does not write.
func otherWriters() *onnxpb.ModelProto {
	info := func(name string, typ *onnxpb.TypeProto) *onnxpb.ValueInfoProto {
		return &onnxpb.ValueInfoProto{Name: &name, Type: typ}
	}
	plain := func(t onnxpb.TensorProto_DataType, shape *onnxpb.TensorShapeProto) *onnxpb.TypeProto {
		return &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{
			TensorType: &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(t)), Shape: shape}}}
	}
	m := model(&onnxpb.GraphProto{
		Name: proto.String("main"),
		Input: []*onnxpb.ValueInfoProto{
			info("image", plain(onnxpb.TensorProto_UINT8, nil)),
			info("w", plain(onnxpb.TensorProto_FLOAT, &onnxpb.TensorShapeProto{})), // before IR 4, weights are inputs too
			info("sparse", plain(onnxpb.TensorProto_FLOAT, nil)),
			info("scalar", plain(onnxpb.TensorProto_DOUBLE, &onnxpb.TensorShapeProto{})),
			info("list", &onnxpb.TypeProto{Value: &onnxpb.TypeProto_SequenceType{SequenceType: &onnxpb.TypeProto_Sequence{}}}),
			info("odd", plain(onnxpb.TensorProto_INT64, &onnxpb.TensorShapeProto{Dim: []*onnxpb.TensorShapeProto_Dimension{
				{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: -1}},
				{Value: &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: "n"}}, {}}})),
		},
		Node: []*onnxpb.NodeProto{
			{OpType: proto.String("Conv"), Domain: proto.String("ai.onnx")},
			{OpType: proto.String("Conv")},
			{OpType: proto.String("FusedConv"), Domain: proto.String("com.microsoft")},
			{OpType: proto.String("If"), Attribute: []*onnxpb.AttributeProto{{G: &onnxpb.GraphProto{
				Name:        proto.String("inner"),
				Input:       []*onnxpb.ValueInfoProto{info("inner", nil)},
				Node:        []*onnxpb.NodeProto{{OpType: proto.String("Relu")}},
				Initializer: []*onnxpb.TensorProto{{DataType: proto.Int32(1), FloatData: []float32{1, 2}, Dims: []int64{2}}},
			}}}},
			{OpType: proto.String("Constant"), Attribute: []*onnxpb.AttributeProto{{T: outside("location", "c.bin")}}},
		},
		Initializer: []*onnxpb.TensorProto{
			outside("location", "weights.bin", "offset", "4096", "length", "20"),
			outside("location", "./weights.bin", "offset", "8"),
			{DataType: proto.Int32(7), Int64Data: []int64{1, -2, 3}, Dims: []int64{3}},
			{DataType: proto.Int32(10), Int32Data: []int32{0x3c00}, Dims: []int64{1}},
			{DataType: proto.Int32(11), DoubleData: []float64{1}},
			{DataType: proto.Int32(8), StringData: [][]byte{{'a'}, {}}, Dims: []int64{2}},
			{DataType: proto.Int32(22), RawData: []byte{0x12, 0x03}, Dims: []int64{3}}, // int4, two in a byte
			{DataType: proto.Int32(1), Dims: []int64{0}},
		},
		SparseInitializer: []*onnxpb.SparseTensorProto{{Values: &onnxpb.TensorProto{Name: proto.String("sparse"),
			DataType: proto.Int32(1), RawData: make([]byte, 4), Dims: []int64{1}}}},
	})
	m.OpsetImport = []*onnxpb.OperatorSetIdProto{{Domain: proto.String("ai.onnx"), Version: proto.Int64(12)}, {Version: proto.Int64(13)}}
	m.ProducerName, m.ProducerVersion, m.Domain = proto.String("pytorch"), proto.String("2.4"), proto.String("org.x")
	m.ModelVersion = proto.Int64(5)
	m.MetadataProps = []*onnxpb.StringStringEntryProto{{Key: proto.String("k"), Value: proto.String("v")}}
	m.Functions = []*onnxpb.FunctionProto{{Node: []*onnxpb.NodeProto{{OpType: proto.String("Erf")}}}}
	return m
}

func TestHeaderOfOtherWriters(t *testing.T) {
	want := &onnx.Header{
		IRVersion: 3, Opsets: []onnx.OpsetVersion{{Version: 12}, {Version: 13}},
		Producer: "pytorch", ProducerVersion: "2.4", Domain: "org.x", ModelVersion: 5, Graph: "main",
		Inputs: []onnx.Port{
			{Name: "image", Type: onnx.Uint8},
			{Name: "scalar", Type: onnx.Float64, Shape: []int64{}, Axes: []string{}},
			{Name: "list"},
			{Name: "odd", Type: onnx.Int64, Shape: []int64{-1, -1, -1}, Axes: []string{"", "n", ""}},
		},
		Ops: map[string]int{"Conv": 2, "com.microsoft.FusedConv": 1, "If": 1, "Relu": 1, "Constant": 1, "Erf": 1},
		// The inner graph's, three tensors outside, then the others in turn.
		Parameters:  2 + 3*5 + 3 + 1 + 1 + 2 + 3 + 0 + 1,
		WeightBytes: 8 + 3*20 + 24 + 2 + 8 + 0 + 2 + 0 + 4,
		External:    []onnx.External{{Name: "c.bin", Bytes: 20}, {Name: "weights.bin", Bytes: 4116}},
		Metadata:    map[string]string{"k": "v"},
	}
	b := marshal(t, otherWriters())
	got, err := inspect(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	// Cut anywhere, it is an error, or it lacks what comes after the graph.
	for n := range len(b) {
		if h, err := inspect(b[:n]); err == nil && (h.Parameters != want.Parameters || !reflect.DeepEqual(h.Inputs, want.Inputs)) {
			t.Errorf("of %d bytes %d gave no error", len(b), n)
		}
	}
}

func TestWeightsOutsideOfDirectory(t *testing.T) {
	for _, name := range []string{"../w.bin", "/etc/passwd", "..", ".", "", "sub/w.bin", "sub/../../w.bin", `..\w.bin`, `C:\w.bin`,
		"./../w.bin", ".//etc/passwd", "w\x00.bin"} {
		for place, m := range map[string]*onnxpb.ModelProto{
			"weights":  model(&onnxpb.GraphProto{Initializer: []*onnxpb.TensorProto{outside("location", name)}}),
			"constant": model(&onnxpb.GraphProto{Node: []*onnxpb.NodeProto{{Attribute: []*onnxpb.AttributeProto{{T: outside("location", name)}}}}}),
			"twice":    model(&onnxpb.GraphProto{Initializer: []*onnxpb.TensorProto{outside("location", name, "location", "w.bin")}}),
			"inner": model(&onnxpb.GraphProto{Node: []*onnxpb.NodeProto{{Attribute: []*onnxpb.AttributeProto{{
				G: &onnxpb.GraphProto{Initializer: []*onnxpb.TensorProto{outside("location", name)}}}}}}}),
			"sparse": model(&onnxpb.GraphProto{SparseInitializer: []*onnxpb.SparseTensorProto{{Indices: outside("location", name)}}}),
			"function": {IrVersion: proto.Int64(8), Graph: &onnxpb.GraphProto{}, Functions: []*onnxpb.FunctionProto{{
				Node: []*onnxpb.NodeProto{{Attribute: []*onnxpb.AttributeProto{{Tensors: []*onnxpb.TensorProto{outside("location", name)}}}}}}}},
			"training": {IrVersion: proto.Int64(8), Graph: &onnxpb.GraphProto{}, TrainingInfo: []*onnxpb.TrainingInfoProto{{
				Algorithm: &onnxpb.GraphProto{Initializer: []*onnxpb.TensorProto{outside("location", name)}}}}},
		} {
			_, err := inspect(marshal(t, m))
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q is not in the model's own directory", name)) {
				t.Errorf("%q as %s: %v", name, place, err)
			}
		}
	}
}

func TestBadModels(t *testing.T) {
	weights := func(w *onnxpb.TensorProto) []byte {
		return marshal(t, model(&onnxpb.GraphProto{Initializer: []*onnxpb.TensorProto{w}}))
	}
	short := tensor("w", onnxpb.TensorProto_FLOAT, 2, 3)
	short.RawData = make([]byte, 23)
	floats := tensor("w", onnxpb.TensorProto_FLOAT, 3)
	floats.FloatData = []float32{1, 2}
	deep := &onnxpb.GraphProto{}
	for range 40 {
		deep = &onnxpb.GraphProto{Node: []*onnxpb.NodeProto{{Attribute: []*onnxpb.AttributeProto{{G: deep}}}}}
	}
	minimal := marshal(t, model(&onnxpb.GraphProto{Name: proto.String("g")}))
	graphs := func(n int, b ...byte) []byte {
		g := bytes.Repeat(b, n)
		return append([]byte{1 << 3, 8, 7<<3 | 2}, protowire.AppendBytes(nil, g)...)
	}
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"empty":             {nil, "empty"},
		"text":              {[]byte("<!DOCTYPE html><html>not found</html>"), "no ONNX model"},
		"zip":               {[]byte("PK\x03\x04\x14\x00\x00\x00\x08\x00"), "no ONNX model"},
		"zeros":             {make([]byte, 1000), "byte 0 begins no field"},
		"no graph":          {marshal(t, &onnxpb.ModelProto{IrVersion: proto.Int64(8)}), "no graph"},
		"no version":        {marshal(t, &onnxpb.ModelProto{Graph: &onnxpb.GraphProto{}}), "ir_version"},
		"two graphs":        {append(bytes.Clone(minimal), minimal...), "two graphs"},
		"cut off":           {minimal[:len(minimal)-1], "cut off"},
		"endless length":    {[]byte{7<<3 | 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, "9223372036854775807 bytes"},
		"group":             {[]byte{1<<3 | 3, 1<<3 | 4}, "a kind that ONNX has not"},
		"graph as number":   {[]byte{1 << 3, 8, 7 << 3, 1}, "field 7"},
		"version as text":   {[]byte{1<<3 | 2, 1, 'x'}, "field 1"},
		"data too short":    {weights(short), `weights "w": they have 23 bytes, and their dimensions need 24`},
		"floats too few":    {weights(floats), "8 bytes, and their dimensions need 12"},
		"no data":           {weights(tensor("w", onnxpb.TensorProto_INT64, 1<<40)), "too few for 1099511627776"},
		"negative":          {weights(tensor("w", onnxpb.TensorProto_FLOAT, -1)), "dimension of -1"},
		"too many elements": {weights(tensor("w", onnxpb.TensorProto_FLOAT, 1<<32, 1<<32)), "counted"},
		"too many bytes":    {weights(tensor("w", onnxpb.TensorProto_COMPLEX128, math.MaxInt64/16)), "counted"},
		"external length":   {weights(outside("location", "w", "length", "21")), `21 bytes in "w"`},
		"external offset":   {weights(outside("location", "w", "offset", "-1")), "no number"},
		"external overflow": {weights(outside("location", "w", "offset", fmt.Sprint(math.MaxInt64))), "not possible"},
		"external nowhere":  {weights(outside()), "not told"},
		"deep":              {marshal(t, model(deep)), "nested more than 32"},
		"many fields":       {graphs(11_000_000, 1<<3|2, 0), "more than 10000000 fields"},
		"many inputs":       {graphs(1_000_000, 11<<3|2, 0), "names and metadata"},
		"long name":         {graphs(1, append([]byte{2<<3 | 2}, protowire.AppendBytes(nil, make([]byte, 17<<20))...)...), "names and metadata"},
		"long operator": {marshal(t, model(&onnxpb.GraphProto{Node: []*onnxpb.NodeProto{{OpType: proto.String(strings.Repeat("x", 20000))}}})),
			"20000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := inspect(c.file)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v, %v; want an error that says %q", h, err, c.want)
			}
		})
	}
}

// TestLargeRubbish is about files that are no models, of 3 GB and of just what
// protobuf allows: refusing them must not take memory.
func TestLargeRubbish(t *testing.T) {
	noise := make([]byte, 1<<20)
	for name, size := range map[string]int64{"beyond the limit": 3_000_000_000, "within the limit": math.MaxInt32} {
		for _, head := range [][]byte{nil, {1 << 3, 8, 7<<3 | 2, 0xf0, 0xff, 0xff, 0xff, 0x07}, noise} {
			for seed := range uint64(10) {
				r := rand.New(rand.NewPCG(seed, 0))
				for i := range noise {
					noise[i] = byte(r.Uint32())
				}
				path := filepath.Join(t.TempDir(), "rubbish.onnx")
				if err := os.WriteFile(path, head, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Truncate(path, size); err != nil {
					t.Fatal(err)
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				_, err := onnx.ReadHeader(path)
				runtime.ReadMemStats(&after)
				if err == nil || !strings.Contains(err.Error(), path) {
					t.Errorf("%s: %v", name, err)
				}
				if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
					t.Errorf("%s: %d bytes were allocated", name, n)
				}
			}
		}
	}
}

// TestWeightsAreSkipped reads a header of a file of 1 GB.
func TestWeightsAreSkipped(t *testing.T) {
	w := tensor("w", onnxpb.TensorProto_UINT8, 1<<30)
	head, err := proto.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	head = protowire.AppendVarint(append(head, 9<<3|2), 1<<30)
	graph := protowire.AppendVarint([]byte{5<<3 | 2}, uint64(len(head))+1<<30)
	graph = append(graph, head...)
	file := protowire.AppendVarint([]byte{1 << 3, 8, 7<<3 | 2}, uint64(len(graph))+1<<30)
	file = append(file, graph...)
	r := &counting{head: file}
	h, err := onnx.Inspect(r, int64(len(file))+1<<30)
	if err != nil || h.WeightBytes != 1<<30 || r.read > 1<<20 {
		t.Errorf("%+v, %v, after reading %d bytes", h, err, r.read)
	}
}

// counting is a file that is zeros after its head, and counts what is read of it.
type counting struct {
	head []byte
	read int
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(c.head)) {
		copy(p, c.head[off:])
	}
	c.read += len(p)
	return len(p), nil
}

func TestWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{dir: "not a regular file", pipe: "not a regular file",
		filepath.Join(dir, "none"): "no such file"} {
		if _, err := onnx.ReadHeader(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A file that is replaced by a shorter one while it is read.
func TestFileThatShrinks(t *testing.T) {
	b, err := testnet.SeveralPorts().Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(b) {
		if _, err := onnx.Inspect(bytes.NewReader(b[:n]), int64(len(b))); err == nil {
			t.Fatalf("%d bytes of %d are enough", n, len(b))
		}
	}
}

func FuzzHeader(f *testing.F) {
	// Small ones only: the fuzzer spends its time on making inputs smaller otherwise.
	for _, g := range []*onnx.Graph{testnet.Hog(12), testnet.NaN(), testnet.UnknownOp()} {
		b, err := g.Bytes()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(marshal(f, otherWriters()))
	f.Add(marshal(f, model(&onnxpb.GraphProto{Initializer: []*onnxpb.TensorProto{outside("location", "w", "offset", "1")}})))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := inspect(b)
		if err != nil {
			if h != nil || err.Error() == "" {
				t.Error("an error with a header, or without a text")
			}
			return
		}
		again, err := inspect(b)
		if err != nil || !reflect.DeepEqual(h, again) {
			t.Error("read twice, it differs")
		}
		for _, p := range append(h.Inputs, h.Outputs...) {
			if len(p.Shape) != len(p.Axes) {
				t.Errorf("%+v", p)
			}
		}
		for _, e := range h.External {
			if e.Name != filepath.Base(e.Name) || e.Bytes < 0 {
				t.Errorf("%+v", e)
			}
		}
		for n := range maps.Values(h.Ops) {
			if n < 1 {
				t.Error(h.Ops)
			}
		}
		if h.Parameters < 0 || h.WeightBytes < 0 {
			t.Errorf("%+v", h)
		}
		// What the published description reads too, it reads with as many inputs, outputs and operators.
		m := new(onnxpb.ModelProto)
		if proto.Unmarshal(b, m) == nil && len(m.Functions)+len(m.TrainingInfo) == 0 {
			if len(h.Outputs) != len(m.GetGraph().GetOutput()) || len(h.Inputs) > len(m.GetGraph().GetInput()) {
				t.Errorf("%+v", h)
			}
		}
	})
}
