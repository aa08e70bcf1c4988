package embed_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/model/store"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// A network of the store is called by its name, and brings its preset, which its name
// says as little of as its file.
func TestNetworkOfTheStore(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(store.Variable, dir)
	registry := `{"models": [{"name": "means", "format": "onnx", "file": "m.onnx", "preset": "imagenet", "licence": "ours", "bring": "ask us"}]}`
	if err := os.WriteFile(filepath.Join(dir, "registry.json"), []byte(registry), 0o666); err != nil {
		t.Fatal(err)
	}
	load := func(text string) error {
		yaml := "source: {images: {path: " + dir + "}}\nstages:\n  - embed: {" + text + "}\n"
		_, err := pipeline.Load(t.Context(), "p.yaml", []byte(yaml), pipeline.Options{Registry: standard.Registry()})
		return err
	}
	var spec *pipeline.SpecError
	err := load("model: means")
	if !errors.As(err, &spec) || !spec.Lacking() || !strings.Contains(err.Error(), "p.yaml:3:20") || !strings.Contains(err.Error(), "ask us, then forgepipe models add m.onnx --name means") {
		t.Errorf("one that is not there: %v", err)
	}
	err = load("model: maens")
	if !errors.As(err, &spec) || spec.Lacking() || !strings.Contains(err.Error(), "did you mean means?") {
		t.Errorf("one that is not known: %v", err)
	}
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Add(t.Context(), means(t), "means"); err != nil {
		t.Fatal(err)
	}
	src := stagetest.Source{stagetest.Picture("p", flat(51, 102, 204))}
	for name, tt := range map[string]struct {
		model  string
		fields map[string]any
		same   map[string]any // of the file at its path
	}{
		"its preset":     {"means", nil, map[string]any{"preset": "imagenet"}},
		"another preset": {"means", map[string]any{"preset": "clip"}, map[string]any{"preset": "clip"}},
		"a part of it":   {"means", map[string]any{"mean": "0"}, map[string]any{"preset": "imagenet", "mean": "0"}},
	} {
		got, _ := vectors(t, src, step(tt.model, tt.fields), pipeline.RunOptions{})
		want, _ := vectors(t, src, step(means(t), tt.same), pipeline.RunOptions{})
		for i, x := range got["p"].Data {
			if math.Abs(float64(x-want["p"].Data[i])) > 1e-6 {
				t.Errorf("%s: component %d is %v, want %v", name, i, x, want["p"].Data[i])
			}
		}
		if got["p"].Name != "means" {
			t.Errorf("%s: the vector is called %s", name, got["p"].Name)
		}
	}
	// The preset is part of what results are known by.
	fingerprint := func(model string) string {
		t.Helper()
		yaml := "source: {images: {path: " + dir + "}}\nstages:\n  - embed: {model: " + model + "}\n"
		p, err := pipeline.Load(t.Context(), "p.yaml", []byte(yaml), pipeline.Options{Registry: standard.Registry()})
		if err != nil {
			t.Fatal(err)
		}
		return p.Fingerprint()
	}
	before := fingerprint("means")
	if err := os.WriteFile(filepath.Join(dir, "registry.json"), []byte(strings.Replace(registry, "imagenet", "clip", 1)), 0o666); err != nil {
		t.Fatal(err)
	}
	if fingerprint("means") == before {
		t.Error("another preset gives the same fingerprint")
	}
}
