package infer_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/model/arch/archtest"
	"github.com/forgepipe/forgepipe/model/lpips"
	"github.com/forgepipe/forgepipe/model/store"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/embed"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

// A network whose weights come in two files is called by one name of the store, and one
// with several outputs has one that is meant where none is named.
func TestLPIPS(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	dir := t.TempDir()
	t.Setenv(store.Variable, dir)
	registry := `{"models": [
		{"name": "layers", "format": "safetensors", "file": "l.safetensors", "preset": "lpips", "beside": ["network"], "licence": "ours", "bring": "ask us"},
		{"name": "network", "format": "safetensors", "file": "n.safetensors", "preset": "imagenet", "licence": "ours", "bring": "ask us"}]}`
	if err := os.WriteFile(filepath.Join(dir, "registry.json"), []byte(registry), 0o666); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	g := archtest.Read(t, "lpips-alex-apart")
	add := func(name string, lin bool) {
		t.Helper()
		file := g.Save(t, name+".safetensors", func(key string) string {
			if strings.HasPrefix(key, "lin") != lin {
				return ""
			}
			return key
		})
		if _, _, err := s.Add(t.Context(), file, name); err != nil {
			t.Fatal(err)
		}
	}
	fields := values{"width": 40, "height": 40, "vectors": []string{"x = " + lpips.PooledOutput, "whole"}}
	add("layers", true)
	err = stagetest.Err(t, step("layers", fields))
	if !errors.Is(err, pipeline.ErrLacking) || !strings.Contains(err.Error(), "forgepipe models add n.safetensors --name network") {
		t.Errorf("without the network: %v", err)
	}
	err = stagetest.Err(t, step(filepath.Join(dir, "layers", "layers.safetensors"), fields))
	if err == nil || !strings.Contains(err.Error(), "the network that they belong to is another file: forgepipe models convert LAYERS NETWORK") {
		t.Errorf("the layers alone, by their path: %v", err)
	}
	add("network", false)
	seen, sum := run(t, step("layers", fields), stagetest.Picture("p", flat()))
	it := seen["p"]
	if len(it.Vectors) != 2 || it.Vectors[0].Name != "x" || len(it.Vectors[0].Data) != 2304 || it.Vectors[1].Name != "whole" {
		t.Fatalf("%v, failed %v", it.Vectors, sum.Failed)
	}
	_, alone := stagetest.New(t, stagetest.Source{stagetest.Picture("p", flat())}, stagetest.Step{
		Info: embed.Info(), Values: values{"model": "layers", "width": 40, "height": 40},
	}).Run(t, pipeline.RunOptions{})
	if v := alone["p"].Vectors; len(v) != 1 || len(v[0].Data) != len(it.Vectors[1].Data) || v[0].Model != it.Vectors[1].Model {
		t.Errorf("embed takes another output: %v", v)
	}
}
