package model_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
)

// saved writes a network to a file.
func saved(t *testing.T, g *onnx.Graph) string {
	t.Helper()
	data, err := g.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "net.onnx")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// shaped is a network whose input has that type and shape, and that has outputs of
// these names.
func shaped(t *testing.T, e onnx.ElementType, dims []any, outputs ...string) string {
	t.Helper()
	g := onnx.NewGraph("shaped")
	var sizes []int
	for _, d := range dims {
		if name, ok := d.(string); ok {
			sizes = append(sizes, g.Dim(name))
		} else {
			sizes = append(sizes, d.(int))
		}
	}
	x := g.Input("input", e, sizes...)
	for _, name := range outputs {
		g.Output(name, g.Relu(x))
	}
	return saved(t, g)
}

func TestOpenCompletesTheSpec(t *testing.T) {
	for name, tt := range map[string]struct {
		element onnx.ElementType
		dims    []any
		options model.FileOptions
		want    model.Spec // what is asked about
		batch   int
	}{
		"fixed size":     {onnx.Float32, dims("n", 3, 224, 192), model.FileOptions{}, model.Spec{Layout: model.NCHW, Element: model.Float32, Resize: model.Squash, Width: 192, Height: 224}, 0},
		"any size":       {onnx.Float32, dims("n", 3, "h", "w"), model.FileOptions{}, model.Spec{Layout: model.NCHW, Element: model.Float32}, 0},
		"one at a time":  {onnx.Float16, dims(1, 3, 64, 64), model.FileOptions{}, model.Spec{Layout: model.NCHW, Element: model.Float16, Resize: model.Squash, Width: 64, Height: 64}, 1},
		"channels last":  {onnx.Float32, dims("n", 224, 192, 3), model.FileOptions{}, model.Spec{Layout: model.NHWC, Element: model.Float32, Resize: model.Squash, Width: 192, Height: 224}, 0},
		"gray":           {onnx.Float32, dims("n", 1, 32, 32), model.FileOptions{}, model.Spec{Layout: model.NCHW, Channels: model.Gray, Element: model.Float32, Resize: model.Squash, Width: 32, Height: 32}, 0},
		"what is set":    {onnx.Float32, dims("n", 3, 224, 224), model.FileOptions{Spec: preset(t, "clip")}, with(preset(t, "clip"), model.NCHW, model.Float32), 0},
		"which of three": {onnx.Float32, dims("n", 3, 8, 3), model.FileOptions{}, model.Spec{Layout: model.NCHW, Element: model.Float32, Resize: model.Squash, Width: 3, Height: 8}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := model.Open(shaped(t, tt.element, tt.dims, "output"), tt.options)
			if err != nil {
				t.Fatal(err)
			}
			if f.Spec != tt.want || f.Batch != tt.batch || f.Outputs[0].Name != "output" || f.Input.Name != "input" || len(f.Hash) != 64 {
				t.Errorf("%+v, want %+v and batch %d", f, tt.want, tt.batch)
			}
		})
	}
}

func dims(d ...any) []any { return d }

func preset(t *testing.T, name string) model.Spec {
	s, ok := model.Preset(name)
	if !ok {
		t.Fatal(name)
	}
	return s
}

func with(s model.Spec, l model.Layout, e model.Element) model.Spec {
	s.Layout, s.Element = l, e
	return s
}

// unbatched is a network that gives one value for three pictures.
func unbatched(t *testing.T) string {
	g := onnx.NewGraph("unbatched")
	x := g.Input("input", onnx.Float32, 3, 3, 8, 8)
	g.Output("output", g.ReduceMean(x, true, 0))
	return saved(t, g)
}

func TestOpenRefuses(t *testing.T) {
	any4 := dims("n", 3, 224, 224)
	write := func(data []byte) string {
		path := filepath.Join(t.TempDir(), "bad.onnx")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	whole, err := os.ReadFile(shaped(t, onnx.Float32, any4, "output"))
	if err != nil {
		t.Fatal(err)
	}
	zeros := filepath.Join(t.TempDir(), "zeros.onnx")
	if err := os.WriteFile(zeros, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(zeros, 3e9); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		path    string
		options model.FileOptions
		want    string
	}{
		"no file":          {"nowhere.onnx", model.FileOptions{}, "nowhere.onnx"},
		"a folder":         {t.TempDir(), model.FileOptions{}, "not a regular file"},
		"an empty file":    {write(nil), model.FileOptions{}, "empty"},
		"random bytes":     {write([]byte("PK\x03\x04 surely no model")), model.FileOptions{}, "bad.onnx"},
		"a part":           {write(whole[:len(whole)-7]), model.FileOptions{}, "bad.onnx"},
		"3 GB of zeros":    {zeros, model.FileOptions{}, "zeros.onnx"},
		"no pictures":      {saved(t, testnet.NoImage()), model.FileOptions{}, "no input for pictures"},
		"more inputs":      {saved(t, testnet.SeveralPorts()), model.FileOptions{}, "more than a picture"},
		"four channels":    {shaped(t, onnx.Float32, dims("n", 4, 64, 64), "o"), model.FileOptions{}, "takes 4 channels (n x 4 x 64 x 64)"},
		"gray wanted":      {shaped(t, onnx.Float32, any4, "o"), model.FileOptions{Spec: model.Spec{Channels: model.Gray}}, "takes 3 channels"},
		"whole numbers":    {shaped(t, onnx.Int64, any4, "o"), model.FileOptions{}, "type int64"},
		"the wrong floats": {shaped(t, onnx.Float32, any4, "o"), model.FileOptions{Spec: model.Spec{Element: model.Float16}}, "takes float32, not float16"},
		"another size":     {shaped(t, onnx.Float32, any4, "o"), model.FileOptions{Spec: model.Spec{Width: 256, Height: 256}}, "would come as 256 x 256"},
		"no fixed size":    {shaped(t, onnx.Float32, any4, "o"), model.FileOptions{Spec: model.Spec{Resize: model.NoResize}}, "takes pictures of one size"},
		"which output":     {shaped(t, onnx.Float32, any4, "a", "b"), model.FileOptions{}, "a (float32 n x 3 x 224 x 224), b (float32"},
		"no such output":   {shaped(t, onnx.Float32, any4, "a"), model.FileOptions{Outputs: []string{"b"}}, `no output "b": its outputs are a (`},
		"an output twice":  {shaped(t, onnx.Float32, any4, "a", "b"), model.FileOptions{Outputs: []string{"b", "a", "b"}}, "output b is asked for twice"},
		"no batch axis":    {unbatched(t), model.FileOptions{}, "no value for each picture"},
		"a wrong spec":     {shaped(t, onnx.Float32, any4, "a"), model.FileOptions{Spec: model.Spec{Filter: "sinc"}}, "filter"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := model.Open(tt.path, tt.options); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// A network that is exported again while a run goes on must not give results under
// the old one's name.
func TestLoadRefusesAChangedFile(t *testing.T) {
	path := saved(t, testnet.Embedder(testnet.EmbedderOptions{Size: 32}))
	f, err := model.Open(path, model.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(saved(t, testnet.Embedder(testnet.EmbedderOptions{Size: 48})))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Load(t.Context(), model.SessionOptions{}); err == nil || !strings.Contains(err.Error(), "has changed since") {
		t.Errorf("%v", err)
	}
}

// Outputs that are not wanted are not given, whatever they are.
func TestSessionGivesTheOutputThatIsWanted(t *testing.T) {
	g := onnx.NewGraph("several")
	x := g.Input("input", onnx.Float32, g.Dim("n"), 3, 2, 2)
	g.Output("text", g.Node(onnx.Node{Op: "Cast", In: []*onnx.Value{x}, Attrs: []onnx.Attr{onnx.Int("to", 8)}, Out: []onnx.Out{{Type: onnx.String, Dims: x.Dims()}}})[0])
	g.Output("mean", g.ReduceMean(x, false, 2, 3))
	f, err := model.Open(saved(t, g), model.FileOptions{Outputs: []string{"mean"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.Load(t.Context(), model.SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.Run(t.Context(), []*ort.Tensor{ort.NewTensor(ort.Float32, 5, 3, 2, 2)}, ort.RunOptions{})
	if err != nil || len(out) != 1 || len(out[0].Float32s()) != 15 {
		t.Errorf("%v, %v", out, err)
	}
}

// Each item gets its part of every output, in the order in which they were asked for.
func TestSeveralOutputs(t *testing.T) {
	g := onnx.NewGraph("several")
	x := g.Input("input", onnx.Float32, g.Dim("n"), 3, 2, 2)
	g.Output("mean", g.ReduceMean(x, false, 2, 3))
	g.Output("copy", g.Relu(x))
	g.Output("turned", g.Transpose(x, 1, 0, 2, 3), onnx.Dynamic, onnx.Dynamic, 2, 2) // whose first axis is the channels
	path := saved(t, g)
	infer := func(outputs ...string) []model.Result {
		f, err := model.Open(path, model.FileOptions{Outputs: outputs})
		if err != nil {
			t.Fatal(err)
		}
		r := model.NewRunner(model.RunnerOptions{Name: "several.onnx", Type: f.ElementType(), Batch: 2, Devices: at(func(ctx context.Context) (model.Session, error) {
			return f.Load(ctx, model.SessionOptions{})
		})})
		defer r.Close()
		input := func(value float32) model.Input {
			in := item(value, 12)
			in.Shape = []int64{3, 2, 2}
			return in
		}
		return r.Infer(t.Context(), []model.Input{input(1), input(2)})
	}
	for i, r := range infer("copy", "mean") {
		if r.Err != nil || len(r.Outputs) != 2 {
			t.Fatalf("%+v", r)
		}
		want := fmt.Sprintf("[3 2 2] [3] %d %d", i+1, i+1)
		if got := fmt.Sprint(r.Outputs[0].Shape, r.Outputs[1].Shape, r.Outputs[0].Float32s()[11], r.Outputs[1].Float32s()[2]); got != want {
			t.Errorf("item %d: %s, want %s", i, got, want)
		}
	}
	for _, r := range infer("mean", "turned") {
		if r.Err == nil || !strings.Contains(r.Err.Error(), "output 1 of several.onnx has shape [3 1 2 2] for 1 items: its first axis is not the batch") {
			t.Errorf("%+v", r)
		}
	}
}

// The kinds of vectors lie in indexes, which later versions read.
func TestKind(t *testing.T) {
	spec, _ := model.Preset("clip")
	f := model.File{Hash: "ab", Spec: spec, Outputs: []onnx.Port{{Name: "a"}, {Name: "b"}}}
	const want = "c3dc0c37db6c164aa1bda5f3dadbb2b7ccef93ef1064b712cd5a8be2ad9ac79b"
	if got := f.Kind(0); got != want {
		t.Errorf("the kind is %s, want %s: vectors and indexes of earlier versions can no longer be compared", got, want)
	}
	if f.Kind(1) == want {
		t.Error("two outputs give one kind")
	}
}
