package standard_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWhatThereIs(t *testing.T) {
	var names []string
	for _, in := range standard.Registry().Stages() {
		names = append(names, in.Name)
	}
	if want := []string{"filter", "manifest", "score", "tile", "write"}; !slices.Equal(names, want) {
		t.Errorf("stages %q, want %q", names, want)
	}
	if s := standard.Registry().Sources(); len(s) != 1 || s[0].Name != "images" {
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

// Every example pipeline runs on the photographs.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../pipelines/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d pipelines, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			out := t.TempDir()
			p, err := pipeline.Load(t.Context(), file, data, pipeline.Options{
				Registry: standard.Registry(),
				Vars:     pipeline.Vars{Set: map[string]string{"INPUT": "../../testdata/photos", "OUT": out}},
			})
			if err != nil {
				t.Fatal(err)
			}
			s, err := p.Run(t.Context(), pipeline.RunOptions{Check: true})
			if err != nil {
				t.Fatal(err)
			}
			if s.In != 18 || s.Quarantined != 0 || s.Out < 10 || s.RejectedTotal() < 10 {
				t.Errorf("in %d, out %d, rejected %v, failed %v: want 18 in, some kept and some rejected", s.In, s.Out, s.Rejected, s.Failed)
			}
			lines, err := os.ReadFile(filepath.Join(out, "manifest.jsonl"))
			if err != nil {
				t.Fatal(err)
			}
			pngs := 0
			for line := range strings.Lines(string(lines)) {
				_, rest, _ := strings.Cut(line, `"path":"`)
				name, _, _ := strings.Cut(rest, `"`)
				if _, err := os.Stat(filepath.Join(out, name)); err != nil || !strings.HasSuffix(name, ".png") {
					t.Errorf("the manifest names %q: %v", name, err)
				}
				pngs++
			}
			if int64(pngs) != s.Out {
				t.Errorf("%d lines for %d items", pngs, s.Out)
			}
			captions, err := filepath.Glob(filepath.Join(out, "mountains_*.txt"))
			if err != nil || len(captions) == 0 {
				t.Errorf("%d captions beside the tiles of mountains.jpg, %v", len(captions), err)
			}
		})
	}
}
