package arch_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/arch"
	"github.com/forgepipe/forgepipe/model/arch/archtest"
	"github.com/forgepipe/forgepipe/model/checkpoint"
	"github.com/forgepipe/forgepipe/model/onnx"
)

// checkpointOf is what the golden's weights are read from.
func checkpointOf(t testing.TB, g archtest.Golden, change func(name string) string) *checkpoint.File {
	t.Helper()
	f, err := checkpoint.Read(g.Checkpoint(t, change))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// infer runs a network on one batch, and returns the outputs of those names.
func infer(t testing.TB, path string, outputs []string, batch []float32, size [3]int) []*model.Tensor {
	t.Helper()
	f, err := model.Open(path, model.FileOptions{Spec: model.Spec{Width: size[2], Height: size[1]}, Outputs: outputs})
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.Load(t.Context(), model.SessionOptions{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in := &model.Tensor{Type: f.ElementType(), Shape: []int64{int64(size[0]), 3, int64(size[1]), int64(size[2])}}
	for _, x := range batch {
		if f.ElementType().Size() == 2 {
			in.Data = binary.NativeEndian.AppendUint16(in.Data, onnx.Half(x))
		} else {
			in.Data = binary.NativeEndian.AppendUint32(in.Data, math.Float32bits(x))
		}
	}
	out, err := s.Run(t.Context(), []*model.Tensor{in}, model.SessionRun{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// distances are the squared lengths of the differences of n vectors: what LPIPS says of
// the pictures that they are of.
func distances(v []float32, n int) []float32 {
	var out []float32
	each := len(v) / n
	for i := range n {
		for j := range n {
			var sum float64
			for k := range each {
				d := float64(v[i*each+k]) - float64(v[j*each+k])
				sum += d * d
			}
			out = append(out, float32(sum))
		}
	}
	return out
}

// compare runs a network on the golden's pictures, and holds what it makes against what
// the reference made: the error relative to the length (L2) of each output must be at
// most most.
func compare(t *testing.T, n *arch.Network, g archtest.Golden, element onnx.ElementType, most float64) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "net.onnx")
	if err := n.Graph.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	for i, c := range g.Cases {
		names := slices.Sorted(maps.Keys(c.Outputs))
		asked := slices.Clone(names)
		if i := slices.Index(asked, "distances"); i >= 0 {
			asked[i] = "output"
		}
		all := infer(t, path, asked, archtest.Picture(i, c.Size[0], c.Size[1], c.Size[2]), c.Size)
		for k, output := range names {
			got, want := all[k], c.Outputs[output]
			values, shape := got.Numbers(), fmt.Sprint(got.Shape)
			if output == "distances" {
				values, shape = distances(values, c.Size[0]), fmt.Sprint(want.Shape)
			}
			wanted := want.Numbers(t)
			if shape != fmt.Sprint(want.Shape) {
				t.Errorf("%v: %s has the shape %s, and %v in %s", c.Size, output, shape, want.Shape, g.About)
				continue
			}
			var diff, length, largest float64
			for j, x := range values {
				w := float64(wanted[j])
				d := float64(x) - w
				diff, length, largest = diff+d*d, length+w*w, math.Max(largest, math.Abs(d))
			}
			rel := math.Sqrt(diff / length)
			t.Logf("%s of %v in %v: relative error %.1e, largest %.1e", output, c.Size, element, rel, largest)
			if !(rel <= most) {
				t.Errorf("%v: %s differs by %.2e of its length from %s, more than %g", c.Size, output, rel, g.About, most)
			}
		}
	}
}

// goldens are the networks of all architectures: by the golden's name what is recognised.
var goldens = map[string]struct{ architecture, details string }{
	"clip-huggingface":        {"CLIP", "ViT of 3 layers of 128 numbers, patches of 16 pixels, 48 numbers"},
	"clip-huggingface-quick":  {"CLIP", "ViT of 3 layers of 128 numbers, patches of 16 pixels, 48 numbers, with the activation of OpenAI's"},
	"clip-openclip":           {"CLIP", "ViT of 3 layers of 128 numbers, patches of 16 pixels, 48 numbers"},
	"clip-openclip-quick":     {"CLIP", "ViT of 3 layers of 128 numbers, patches of 16 pixels, 48 numbers, with the activation of OpenAI's"},
	"dinov2":                  {"DINOv2", "3 layers of 128 numbers, 0 registers"},
	"dinov2-registers":        {"DINOv2", "3 layers of 128 numbers, 4 registers"},
	"sscd":                    {"SSCD", "18 layers, 512 features, 32 numbers"},
	"compact-x1":              {"SRVGGNetCompact", "1x, 3 convolutions of 8 features"},
	"compact-x2":              {"SRVGGNetCompact", "2x, 4 convolutions of 8 features"},
	"compact-x4":              {"SRVGGNetCompact", "4x, 6 convolutions of 16 features"},
	"rrdb-basicsr-x1":         {"RRDBNet", "1x, 2 blocks of 8 features"},
	"rrdb-basicsr-x2":         {"RRDBNet", "2x, 2 blocks of 8 features"},
	"rrdb-basicsr-x4":         {"RRDBNet", "4x, 2 blocks of 8 features"},
	"rrdb-bsrgan-x2":          {"RRDBNet", "2x, 2 blocks of 8 features"},
	"rrdb-bsrgan-x4":          {"RRDBNet", "4x, 2 blocks of 8 features"},
	"rrdb-old-x1":             {"RRDBNet", "1x, 2 blocks of 8 features"},
	"rrdb-old-x2":             {"RRDBNet", "2x, 2 blocks of 8 features"},
	"rrdb-old-x4":             {"RRDBNet", "4x, 2 blocks of 8 features"},
	"rrdb-old-x8":             {"RRDBNet", "8x, 2 blocks of 8 features"},
	"span-x4":                 {"SPAN", "4x, 6 blocks of 12 features"},
	"span-x2-no-norm":         {"SPAN", "2x, 6 blocks of 12 features"},
	"hyperiqa":                {"HyperIQA", ""},
	"hyperiqa-toolbox":        {"HyperIQA", ""},
	"icnet":                   {"ICNet", ""},
	"lpips-alex":              {"LPIPS", "AlexNet"},
	"lpips-alex-apart":        {"LPIPS", "AlexNet"},
	"lpips-vgg":               {"LPIPS", "VGG-16"},
	"lpips-vgg-apart":         {"LPIPS", "VGG-16"},
	"realplksr-x4":            {"RealPLKSR", "4x, 2 blocks of 16 features"},
	"realplksr-x2-layer-norm": {"RealPLKSR", "2x, 2 blocks of 16 features"},
	"realplksr-x1-no-ea":      {"RealPLKSR", "1x, 2 blocks of 16 features"},
	"resnet18":                {"ResNet", "18 layers, 512 features"},
	"resnet50":                {"ResNet", "50 layers, 2048 features"},
}

// namings are goldens of a network that another golden has too, under other names: one
// picture shows that these have been found.
var namings = []string{"-apart", "-toolbox", "-bsrgan", "-old-x2", "-old-x4", "-huggingface"}

// Networks are recognised from the names and shapes of their weights alone, and make
// what published implementations make.
func TestAsPublished(t *testing.T) {
	for name, want := range goldens {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := archtest.Read(t, name)
			f := checkpointOf(t, g, nil)
			build := func(element onnx.ElementType) *arch.Network {
				gelu := arch.GELU("")
				switch {
				case strings.Contains(name, "quick"):
					gelu = arch.QuickGELU
				case strings.Contains(name, "huggingface"):
					gelu = arch.ExactGELU
				}
				n, err := arch.Build(arch.Options{Type: element, GELU: gelu}, f)
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
			n := build(onnx.Float32)
			if n.Architecture != want.architecture || n.Details != want.details {
				t.Errorf("it is %s, %s", n.Architecture, n.Details)
			}
			if slices.ContainsFunc(namings, func(s string) bool { return strings.Contains(name, s) }) {
				g.Cases = g.Cases[:1]
				compare(t, n, g, onnx.Float32, 1e-4)
				return
			}
			compare(t, n, g, onnx.Float32, 1e-4)
			g.Cases = g.Cases[:2]
			compare(t, build(onnx.Float16), g, onnx.Float16, 5e-3)
		})
	}
}

// ICNet's head says of all features of its body what was published of the whole network.
func TestICNetInParts(t *testing.T) {
	t.Parallel()
	g := archtest.Read(t, "icnet")
	f := checkpointOf(t, g, nil)
	saved := func(part arch.Part) string {
		n, err := arch.Build(arch.Options{Part: part}, f)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), string(part)+".onnx")
		if err := n.Graph.WriteFile(path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	body, head := saved(arch.Body), saved(arch.Head)
	score, err := model.Open(head, model.FileOptions{Spec: model.Spec{Channels: model.Gray}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := score.Load(t.Context(), model.SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i, c := range g.Cases {
		picture := archtest.Picture(i, c.Size[0], c.Size[1], c.Size[2])
		of := infer(t, body, []string{"features", "map"}, picture, c.Size)
		features := of[0]
		if want := fmt.Sprint([]int{c.Size[0], 512, c.Size[1] / 8, c.Size[2] / 8}); fmt.Sprint(features.Shape) != want {
			t.Fatalf("the features have the shape %v, want %s", features.Shape, want)
		}
		features.Shape = []int64{int64(c.Size[0]), 1, int64(512 * c.Size[1] / 8), int64(c.Size[2] / 8)}
		out, err := s.Run(t.Context(), []*model.Tensor{features}, model.SessionRun{})
		if err != nil {
			t.Fatal(err)
		}
		for output, got := range map[string][]float32{"score": out[0].Numbers(), "map": of[1].Numbers()} {
			var diff, length float64
			for j, want := range c.Outputs[output].Numbers(t) {
				d := float64(got[j] - want)
				diff, length = diff+d*d, length+float64(want)*float64(want)
			}
			if rel := math.Sqrt(diff / length); !(rel <= 1e-4) {
				t.Errorf("%v: %s differs by %.2e of its length", c.Size, output, rel)
			}
		}
	}
	if _, err := arch.Build(arch.Options{Part: arch.Head}, checkpointOf(t, archtest.Read(t, "compact-x2"), nil)); err == nil || !strings.Contains(err.Error(), `building SRVGGNetCompact: it has no part "head"`) {
		t.Errorf("the head of a network without parts: %v", err)
	}
}

// What is not known, or not whole, is told by its nearest relative and by the first thing
// that does not fit.
func TestUnknown(t *testing.T) {
	rename := func(from, to string) func(string) string {
		return func(name string) string {
			if name == from {
				return to
			}
			return name
		}
	}
	for name, tt := range map[string]struct {
		golden string
		change func(string) string
		cause  []string
	}{
		"a weight is missing":      {"compact-x4", rename("body.4.bias", ""), nil},
		"a layer is missing":       {"rrdb-basicsr-x4", rename("conv_hr.weight", ""), []string{"the nearest is RRDBNet, of which 71 of the 71 tensors fit", `there is no "conv_hr.weight"`}},
		"a weight too many":        {"rrdb-basicsr-x4", rename("conv_hr.bias", "conv_extra.bias"), []string{"the nearest is RRDBNet", `"conv_extra.bias" has no place in it`}},
		"a variant":                {"realplksr-x4", rename("feats.1.attn.f.0.weight", "to_img.offset.weight"), []string{"the nearest is RealPLKSR", "has no place in it"}},
		"nothing alike":            {"compact-x4", func(name string) string { return "layers." + name }, []string{"none has weights of these names", `(the first is "layers.body.0.`}},
		"half of LPIPS":            {"lpips-alex-apart", func(name string) string { return strings.TrimPrefix(name, "lin0.") }, []string{"the architecture is not known"}},
		"another text than CLIP's": {"clip-openclip", rename("visual.ln_post.bias", "visual.pool.bias"), []string{"the nearest is CLIP", "visual."}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := arch.Build(arch.Options{}, checkpointOf(t, archtest.Read(t, tt.golden), tt.change))
			if tt.cause == nil { // a convolution may be without a bias
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, arch.ErrUnknown) || !strings.Contains(err.Error(), "torch.onnx.export") {
				t.Fatalf("the error is %v", err)
			}
			for _, cause := range tt.cause {
				if !strings.Contains(err.Error(), cause) {
					t.Errorf("the error is %q, and should say %q", err, cause)
				}
			}
		})
	}
}

// What a checkpoint does not tell of its network is asked for, and not guessed.
func TestNotGuessed(t *testing.T) {
	f := checkpointOf(t, archtest.Read(t, "clip-huggingface"), nil)
	if _, err := arch.Build(arch.Options{}, f); err == nil || errors.Is(err, arch.ErrUnknown) || !strings.Contains(err.Error(), "preset: clip-openai") {
		t.Errorf("whose activation: %v", err)
	}
	g := archtest.Read(t, "clip-openclip")
	for _, tensor := range g.Tensors { // ViT-H/14 is 1280 wide, with heads of 80
		for i, d := range tensor.Shape {
			if d == 128 || d == 384 || d == 512 {
				tensor.Shape[i] = 10 * d
			}
		}
	}
	if _, err := arch.Build(arch.Options{}, checkpointOf(t, g, nil)); err == nil || !strings.Contains(err.Error(), "tokens have 1280 numbers") {
		t.Errorf("how wide its heads are: %v", err)
	}
}

// A backbone whose LPIPS layers have a weight below 0 gives no distance.
func TestNegativeLPIPS(t *testing.T) {
	g := archtest.Read(t, "lpips-alex")
	f := checkpointOf(t, g, nil)
	lin := f.Find("lin2.model.1.weight").Bytes()
	lin[3] |= 0x80 // the sign of the first
	if _, err := arch.Build(arch.Options{}, f); err == nil || !strings.Contains(err.Error(), `"lin2.model.1.weight" has the weight -`) {
		t.Errorf("the error is %v", err)
	}
}

// Weights that are computed, here convolutions with their batch normalisations, are made
// when the graph is written, a piece at a time.
func TestWeightsAreNotHeld(t *testing.T) {
	data := archtest.Read(t, "resnet18").Checkpoint(t, nil)
	f, err := checkpoint.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	var before, built runtime.MemStats
	runtime.ReadMemStats(&before)
	n, err := arch.Build(arch.Options{}, f)
	runtime.ReadMemStats(&built)
	if err != nil {
		t.Fatal(err)
	}
	if made := built.TotalAlloc - before.TotalAlloc; made > uint64(len(data))/4 {
		t.Errorf("building it takes %d bytes, of %d of weights", made, len(data))
	}
	if _, err := n.Graph.WriteTo(io.Discard); err != nil {
		t.Error(err)
	}
}

// Mish has exponentials within, which are infinite, or 0, of what is far from 0.
func TestMishOfLargeNumbers(t *testing.T) {
	t.Parallel()
	n, err := arch.Build(arch.Options{}, checkpointOf(t, archtest.Read(t, "realplksr-x4"), nil))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "net.onnx")
	if err := n.Graph.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	x := archtest.Picture(0, 1, 8, 8)
	for i := range x {
		x[i] = (x[i] - 0.5) * 1e4
	}
	for i, y := range infer(t, path, []string{"output"}, x, [3]int{1, 8, 8})[0].Float32s() {
		if math.IsNaN(float64(y)) || math.IsInf(float64(y), 0) {
			t.Fatalf("number %d is %g", i, y)
		}
	}
}
