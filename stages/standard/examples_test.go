package standard_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// Every example of a stage or source can be put into a pipeline as it stands.
func TestExamplesOfStages(t *testing.T) {
	net, err := os.ReadFile(network(t, 16))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	for _, dir := range []string{"photos", "hq", "lq", "DIV2K_train_HR", "DIV2K_train_LR_bicubic/X4"} {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range map[string][]byte{"train.txt": []byte("a.jpg\n"), "clip-vit-b32.onnx": net, "dino.onnx": net} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	scorer := testnet.Embedder(testnet.EmbedderOptions{Dim: 1})
	for name, g := range map[string]*onnx.Graph{
		"ic9600.onnx": scorer, "ic9600.pth": scorer, "hyperiqa.onnx": scorer, "hyperiqa.pth": scorer,
		"artefacts.onnx": several(), "classifier.onnx": several(), "quality.onnx": several(), "denoise.onnx": several(), "4x.onnx": testnet.Compact(4, 4, 1),
	} {
		if err := g.WriteFile(name); err != nil {
			t.Fatal(err)
		}
	}
	r := standard.Registry()
	for _, in := range slices.Concat(r.Sources(), r.Stages()) {
		d := in.Describe()
		if len(d.Examples) == 0 {
			t.Errorf("%s has no example", in.Name)
		}
		for _, e := range d.Examples {
			if !strings.HasSuffix(e.Doc, ".") {
				t.Errorf("%s: %q is no sentence", in.Name, e.Doc)
			}
			file := d.Snippet(e) + "\nstages: [score: {metrics: laplacian}]\n"
			if d.Kind == "stage" {
				file = "source: {images: {path: photos}}\nstages:\n- score: {metrics: [laplacian, blockiness]}\n"
				if in.Name == "vectors" || in.Name == "manifest" {
					file += "- {embed: {model: clip-vit-b32.onnx}, id: before}\n"
				}
				file += d.Snippet(e) + "\n"
			}
			_, err := pipeline.Load(t.Context(), in.Name, []byte(file), pipeline.Options{Registry: r})
			var spec *pipeline.SpecError
			if errors.As(err, &spec) {
				spec.Problems = slices.DeleteFunc(spec.Problems, func(p pipeline.Problem) bool { return p.Lacking })
			}
			if err != nil && (spec == nil || len(spec.Problems) > 0) {
				t.Errorf("%v in\n%s", err, file)
			}
		}
	}
}

// several is a network with all outputs that the examples name.
func several() *onnx.Graph {
	g := onnx.NewGraph("several")
	x := g.Input("input", onnx.Float32, g.Dim("batch"), 3, g.Dim("height"), g.Dim("width"))
	means := g.ReduceMean(x, false, 2, 3)
	g.Output("logits", means)
	g.Output("features", means)
	g.Output("quality", g.ReduceMean(means, true, 1))
	g.Output("output", x)
	return g
}
