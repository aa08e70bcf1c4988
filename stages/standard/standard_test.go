package standard_test

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/standard"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWhatThereIs(t *testing.T) {
	var names []string
	for _, in := range standard.Registry().Stages() {
		names = append(names, in.Name)
	}
	if want := []string{"compare", "dedup", "embed", "filter", "hash", "infer", "manifest", "pair", "resize", "score", "tile", "upscale", "vectors", "write"}; !slices.Equal(names, want) {
		t.Errorf("stages %q, want %q", names, want)
	}
	if s := standard.Registry().Sources(); len(s) != 2 || s[0].Name != "images" || s[1].Name != "pairs" {
		t.Errorf("sources %v", s)
	}
}

// The declarations are all the documentation there is.
func TestDeclarationsAreComplete(t *testing.T) {
	r := standard.Registry()
	for _, in := range slices.Concat(r.Stages(), r.Sources()) {
		if in.Long == "" || !strings.HasSuffix(in.Short, ".") || in.Version == 0 && in.New != nil {
			t.Errorf("%s: short %q, %d bytes of description, version %d", in.Name, in.Short, len(in.Long), in.Version)
		}
		for _, f := range in.Fields {
			if !strings.HasSuffix(f.Doc, ".") {
				t.Errorf("%s.%s: the description %q is no sentence", in.Name, f.Name, f.Doc)
			}
			if f.Required && len(f.Examples) == 0 {
				t.Errorf("%s.%s has no example", in.Name, f.Name)
			}
			if (f.Type == pipeline.FieldInt || f.Type == pipeline.FieldFloat) && (f.Max == 0 || f.Unit == "") {
				t.Errorf("%s.%s has no range or no unit", in.Name, f.Name)
			}
		}
	}
}

// network saves one that gives so many numbers for pictures of 224 x 224 pixels, with
// random weights.
func network(t *testing.T, numbers int) string {
	t.Helper()
	data, err := testnet.Embedder(testnet.EmbedderOptions{Size: 224, Dim: numbers}).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "net.onnx")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// published saves the network of a published architecture with random weights, of which
// those of that name are shifted, so that the limits of BHI lie among its scores.
func published(t *testing.T, architecture, name string, shift float64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), architecture+".onnx")
	weights := stagetest.Checkpoint(t, architecture, map[string]float64{name: shift})
	if _, err := model.Convert(t.Context(), path, model.ConvertOptions{}, weights); err != nil {
		t.Fatal(err)
	}
	return path
}

// photos is a folder with some of the test photographs, and their sidecars.
func photos(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		files, err := filepath.Glob("../../testdata/photos/" + name + ".*")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", name, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, filepath.Base(file)), data, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// Every example pipeline runs on the test pictures, and does what it says. A
// second run finds everything done.
func TestExamples(t *testing.T) {
	complexity, quality := published(t, "icnet", "head.2.bias", -0.2552), published(t, "hyperiqa", "fc5b_fc.bias", 2.2)
	tests := map[string]struct {
		vars     map[string]string
		summary  string   // in, derived, consumed, out, quarantined, rejected
		files    []string // that are there, among others
		suffixes []string // of all outputs in the list
		list     string   // a line per item; manifest.jsonl when empty
	}{
		"quickstart.yaml": {
			map[string]string{"INPUT": "../../testdata/photos"}, "18 in, 43 derived, 18 consumed, 22 out, 0 quarantined, 21 rejected",
			[]string{"mountains_x*_y*.png", "mountains_x*_y*.txt"}, []string{".png"}, "",
		},
		"tiles.yaml": {
			map[string]string{"INPUT": "../../testdata/photos"}, "18 in, 67 derived, 18 consumed, 67 out, 0 quarantined, 0 rejected",
			[]string{"mountains_x0_y0.png", "mountains_x0_y0.txt"}, []string{".png"}, "",
		},
		"pairs.yaml": {
			map[string]string{"HQ": "../../testdata/pairs/hq", "LQ": "../../testdata/pairs/lq"}, "4 in, 4 derived, 3 consumed, 4 out, 0 quarantined, 1 rejected",
			[]string{"hq/*_x*_y*.png", "lq/*_x*_y*.png"}, []string{".png"}, "",
		},
		"hash-dedup.yaml": {
			map[string]string{"INPUT": "../../testdata/duplicates"}, "43 in, 0 derived, 0 consumed, 20 out, 0 quarantined, 23 rejected",
			nil, []string{".jpg", ".png", ".webp"}, "",
		},
		"upscale.yaml": {
			map[string]string{"INPUT": "../../testdata/pairs/lq"}, "4 in, 0 derived, 0 consumed, 4 out, 0 quarantined, 0 rejected",
			nil, []string{".png"}, "",
		},
		"filter.yaml": {
			map[string]string{"INPUT": "../../testdata/photos"}, "18 in, 0 derived, 0 consumed, 11 out, 0 quarantined, 7 rejected",
			[]string{"mountains.jpg", "mountains.txt"}, []string{".jpg"}, "",
		},
		"embed.yaml": {
			map[string]string{"INPUT": "../../testdata/photos", "MODEL": network(t, 16)}, "18 in, 0 derived, 0 consumed, 18 out, 0 quarantined, 0 rejected",
			[]string{"manifest.parquet", "embedding.npy"}, nil, "embedding.jsonl",
		},
		"score.yaml": {
			map[string]string{"INPUT": "../../testdata/photos", "MODEL": network(t, 1), "LEAST": "-1.5"}, "18 in, 0 derived, 0 consumed, 9 out, 0 quarantined, 9 rejected",
			[]string{"mountains.jpg", "mountains.txt"}, []string{".jpg"}, "",
		},
		"bhi.yaml": {
			map[string]string{"INPUT": photos(t, "mountains", "boats", "bridge", "dandelions"), "IC9600": complexity, "HYPERIQA": quality}, "4 in, 0 derived, 0 consumed, 1 out, 0 quarantined, 3 rejected",
			[]string{"bridge.jpg"}, []string{".jpg"}, "",
		},
		"sr-dataset.yaml": {
			map[string]string{"INPUT": photos(t, "dandelions", "dragonfly"), "IC9600": complexity, "HYPERIQA": quality}, "2 in, 2 derived, 2 consumed, 1 out, 0 quarantined, 1 rejected",
			[]string{"hq/*_x*_y*.png", "lq/*_x*_y*.png"}, []string{".png"}, "",
		},
	}
	files, err := filepath.Glob("../../pipelines/*.yaml")
	files = slices.DeleteFunc(files, func(name string) bool { return strings.HasSuffix(name, ".test.yaml") })
	if err != nil || len(files) != len(tests) {
		t.Fatalf("%d pipelines, %d tested, %v", len(files), len(tests), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			tt := tests[filepath.Base(file)]
			out := t.TempDir()
			tt.vars["OUT"] = out
			run := func() *pipeline.Summary {
				data, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				p, err := pipeline.Load(t.Context(), file, data, pipeline.Options{Registry: standard.Registry(), Vars: pipeline.Vars{Set: tt.vars}})
				if err != nil {
					t.Fatal(err)
				}
				s, err := p.Run(t.Context(), pipeline.RunOptions{Check: true})
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			s := run()
			got := fmt.Sprintf("%d in, %d derived, %d consumed, %d out, %d quarantined, %d rejected", s.In, s.Derived, s.Consumed, s.Out, s.Quarantined, s.RejectedTotal())
			if got != tt.summary {
				t.Errorf("got  %s\nwant %s\nfailed %v", got, tt.summary, s.Failed)
			}
			for _, pattern := range tt.files {
				if found, err := filepath.Glob(filepath.Join(out, pattern)); err != nil || len(found) == 0 {
					t.Errorf("there is no %s: %v", pattern, err)
				}
			}
			lines, err := os.ReadFile(filepath.Join(out, cmp.Or(tt.list, "manifest.jsonl")))
			if err != nil {
				t.Fatal(err)
			}
			n := int64(0)
			for line := range strings.Lines(string(lines)) {
				_, rest, files := strings.Cut(line, `"path":"`)
				if !files && tt.suffixes == nil { // nothing but the manifest is written
					n++
					continue
				}
				name, _, _ := strings.Cut(rest, `"`)
				if _, err := os.Stat(filepath.Join(out, name)); err != nil || !slices.Contains(tt.suffixes, filepath.Ext(name)) {
					t.Errorf("the manifest names %q: %v", name, err)
				}
				n++
			}
			if n != s.Out {
				t.Errorf("%d lines for %d items", n, s.Out)
			}
			if again := run(); again.Written != 0 || again.Reused != s.Written {
				t.Errorf("again: %d written, %d right already, want %d", again.Written, again.Reused, s.Written)
			}
		})
	}
}
