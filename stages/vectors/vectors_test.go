package vectors_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/filter"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/vectors"
	"github.com/forgepipe/forgepipe/stages/write"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func step(file string, values map[string]any) stagetest.Step {
	v := map[string]any{"path": file}
	maps.Copy(v, values)
	return stagetest.Step{Info: vectors.Info(), Values: v}
}

// makes is a stage that declares vectors and sets those that it has for an item.
func makes(vectors map[string][]pipeline.Vector, names ...string) stagetest.Step {
	return stagetest.Step{Info: pipeline.Info{
		Name: "makes", Short: "Makes vectors.",
		Makes: func(pipeline.Config) []pipeline.Made {
			var out []pipeline.Made
			for _, n := range names {
				out = append(out, pipeline.Made{Name: n, Vector: true})
			}
			return out
		},
		New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
			return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
				for _, v := range vectors[it.ID()] {
					v.Data = slices.Clone(v.Data)
					it.SetVector(v)
				}
				return nil
			}), nil
		},
	}}
}

func pictures(names ...string) stagetest.Source {
	var src stagetest.Source
	for _, n := range names {
		src = append(src, stagetest.Picture(n, image.NewGray(image.Rect(0, 0, 1, 1))))
	}
	return src
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func full(data ...float32) []pipeline.Vector { return []pipeline.Vector{{Name: "v", Data: data}} }

func half(data ...float32) []pipeline.Vector {
	return []pipeline.Vector{{Name: "v", Half: true, Data: data}}
}

var zero = math.Float32frombits(1 << 31) // negative

// The files under testdata were written by numpy.save of NumPy 2.4, of the same
// numbers.
func TestArraysAreNumPys(t *testing.T) {
	tests := map[string]map[string][]pipeline.Vector{
		"float32": {"a.png": full(1, -0.5, 0.1), "b.png": full(0, 1e-20, 3e20), "c.png": full(zero, 2, 65504)},
		"float16": {"a.png": half(1, -0.5, 0.1), "b.png": half(0, 6e-8, 65504), "c.png": half(zero, 2, 0.3333)},
		"mixed":   {"a.png": half(1, -0.5, 0.1), "b.png": full(0, 1e-20, 3e20), "c.png": half(zero, 2, 65504)},
		"empty":   {},
	}
	for name, all := range tests {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "new", "out")
			ids := slices.Sorted(maps.Keys(all))
			backwards := slices.Clone(ids)
			slices.Reverse(backwards)
			steps := []stagetest.Step{makes(all, "v"), step(out+"/x.npy", nil)}
			if len(all) == 0 {
				backwards = []string{"rejected.png"}
				steps = slices.Insert(steps, 1, stagetest.Step{Info: filter.Info(), Values: map[string]any{"keep": "width > 1"}})
			}
			_, seen := stagetest.New(t, pictures(backwards...), steps...).Run(t, pipeline.RunOptions{})
			if got, want := read(t, out+"/x.npy"), read(t, "testdata/"+name+".npy"); got != want {
				t.Errorf("the array is\n%q\nwhere NumPy writes\n%q", got, want)
			}
			var lines strings.Builder
			for _, id := range ids {
				fmt.Fprintf(&lines, `{"id":%q,"source":%q,"path":null}`+"\n", id, id)
			}
			if got := read(t, out+"/x.jsonl"); got != lines.String() {
				t.Errorf("its rows are named\n%s", got)
			}
			if !slices.Equal(stagetest.IDs(seen), ids) {
				t.Errorf("%v were passed on", stagetest.IDs(seen))
			}
		})
	}
}

func TestRowsAreNamed(t *testing.T) {
	out := t.TempDir()
	all := map[string][]pipeline.Vector{"a/d%E9 <&>.png": full(1), "a/50%25 %40x.png": full(2)}
	stagetest.New(t, pictures("a/d\xe9 <&>.png", "a/50% @x.png"), makes(all, "v"),
		stagetest.Step{Info: write.Info(), Values: map[string]any{"path": out + "/pictures"}}, step(out+"/lists/x.NPY", nil)).Run(t, pipeline.RunOptions{})
	want := `{"id":"a/50%25 %40x.png","source":"a/50%25 %40x.png","path":"../pictures/a/50%25 %40x.png"}
{"id":"a/d%E9 <&>.png","source":"a/d%E9 <&>.png","path":"../pictures/a/d%E9 <&>.png"}
`
	if got := read(t, out+"/lists/x.jsonl"); got != want {
		t.Errorf("the rows are named\n%swant\n%s", got, want)
	}
	if got := read(t, out+"/lists/x.NPY")[128:]; got != "\x00\x00\x00\x40\x00\x00\x80\x3f" {
		t.Errorf("the rows are %q", got)
	}
}

// An item that cannot be a row is quarantined, and the others are rows.
func TestItemsThatCannotBeRows(t *testing.T) {
	inf, nan := float32(math.Inf(-1)), float32(math.NaN())
	all := map[string][]pipeline.Vector{
		"a.png": full(1, 2), "inf.png": full(1, inf), "nan.png": full(nan, 1), "wide.png": half(1, 70000), "z.png": full(3, 4),
		"other.png": {{Name: "w", Data: []float32{1, 2}}},
	}
	out := t.TempDir()
	b := stagetest.New(t, pictures("a.png", "bare.png", "inf.png", "nan.png", "other.png", "wide.png", "z.png"), makes(all, "v", "w"), step(out+"/x.npy", map[string]any{"vector": "v"}))
	_, seen := b.Run(t, pipeline.RunOptions{})
	if got := stagetest.IDs(seen); !slices.Equal(got, []string{"a.png", "z.png"}) {
		t.Errorf("%v were passed on", got)
	}
	want := map[string]string{
		"bare.png": "the item has no vector v", "other.png": "the item has no vector v",
		"inf.png":  "component 1 of the vector v is -Inf, which is not finite",
		"nan.png":  "component 0 of the vector v is NaN, which is not finite",
		"wide.png": "component 1 of the vector v is +Inf, which is not finite",
	}
	if got := b.Messages(pipeline.EventFailed); !maps.Equal(got, want) {
		t.Errorf("it failed %v", got)
	}
	if a := read(t, out+"/x.npy"); !strings.Contains(a, "(2, 2)") || len(a) != 128+16 {
		t.Errorf("the array is %q", a)
	}
	if n := strings.Count(read(t, out+"/x.jsonl"), "\n"); n != 2 {
		t.Errorf("%d rows are named", n)
	}
}

func TestVectorsOfSeveralLengthsEndTheRun(t *testing.T) {
	all := map[string][]pipeline.Vector{"a.png": full(1, 2), "b.png": full(1, 2, 3)}
	out := t.TempDir()
	_, err := stagetest.New(t, pictures("a.png", "b.png"), makes(all, "v"), step(out+"/x.npy", nil)).Try(t, pipeline.RunOptions{})
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{"vectors", "a.png", "b.png", " 2 ", " 3 "} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %v", part, err)
		}
	}
	for _, name := range []string{"x.npy", "x.jsonl"} {
		if _, err := os.Stat(filepath.Join(out, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Many rows go through the disk, and are in the order of IDs whatever the
// workers. A second run finds all right.
func TestManyRows(t *testing.T) {
	const n, dim = 3000, 300
	all := map[string][]pipeline.Vector{}
	var names []string
	for i := range n {
		name := fmt.Sprintf("%d/%d.png", i%7, i)
		names = append(names, name)
		data := make([]float32, dim)
		for j := range data {
			data[j] = float32(i) + float32(j)/dim
		}
		all[name] = full(data...)
	}
	out := t.TempDir()
	run := func() *pipeline.Summary {
		s, _ := stagetest.New(t, pictures(names...), makes(all, "v"), step(out+"/x.npy", nil)).Run(t, pipeline.RunOptions{StateDir: out + "/state"})
		return s
	}
	run()
	a := read(t, out+"/x.npy")
	if len(a) != 128+n*dim*4 || !strings.Contains(a[:128], fmt.Sprintf("'shape': (%d, %d)", n, dim)) {
		t.Fatalf("%d bytes, %q", len(a), a[:128])
	}
	for i, id := range slices.Sorted(slices.Values(names)) {
		for j, want := range all[id][0].Data {
			if got := math.Float32frombits(binary.LittleEndian.Uint32([]byte(a[128+4*(i*dim+j):]))); got != want {
				t.Fatalf("row %d, of %s: component %d is %v, want %v", i, id, j, got, want)
			}
		}
	}
	if s := run(); s.Written != 0 || s.Reused != 2 || s.Retracted != 0 {
		t.Errorf("again: %d written, %d right already, %d retracted", s.Written, s.Reused, s.Retracted)
	}
}

// Where one of the files is somebody else's, neither is written.
func TestFilesOfSomebodyElse(t *testing.T) {
	for _, name := range []string{"x.npy", "x.jsonl"} {
		out := t.TempDir()
		if err := os.WriteFile(filepath.Join(out, name), []byte("theirs"), 0o666); err != nil {
			t.Fatal(err)
		}
		all := map[string][]pipeline.Vector{"a.png": full(1)}
		_, err := stagetest.New(t, pictures("a.png"), makes(all, "v"), step(out+"/x.npy", nil)).Try(t, pipeline.RunOptions{})
		if err == nil || !strings.Contains(err.Error(), name+": a file is there already") {
			t.Errorf("%s: the run ended with %v", name, err)
		}
		files, err := filepath.Glob(out + "/x.*")
		if err != nil || len(files) != 1 || read(t, files[0]) != "theirs" {
			t.Errorf("%s: there are %v, %v", name, files, err)
		}
		stagetest.New(t, pictures("a.png"), makes(all, "v"), step(out+"/x.npy", map[string]any{"overwrite": true})).Run(t, pipeline.RunOptions{})
		if got := read(t, out+"/x.jsonl"); !strings.HasPrefix(got, `{"id":"a.png"`) {
			t.Errorf("%s: with overwrite the rows are named %q", name, got)
		}
	}
}

func TestADryRunWritesNone(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	s, _ := stagetest.New(t, pictures("a.png"), makes(nil, "v"), step(out+"/x.npy", nil)).Run(t, pipeline.RunOptions{DryRun: true})
	if s.Quarantined != 0 {
		t.Errorf("failed %v", s.Failed)
	}
	if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder was made: %v", err)
	}
}

func TestWrongConfigurations(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/folder.npy", 0o777); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		file, vector string
		before       []stagetest.Step
		want         string // of the error; none when empty
	}{
		"the only one":           {"/x.npy", "", []stagetest.Step{makes(nil, "clip")}, ""},
		"the same twice":         {"/x.npy", "", []stagetest.Step{makes(nil, "clip", "clip")}, ""},
		"one of two":             {"/x.npy", "dino", []stagetest.Step{makes(nil, "clip", "dino")}, ""},
		"which of two":           {"/x.npy", "", []stagetest.Step{makes(nil, "dino", "clip")}, "vector: several vectors arrive here: say with vector which one is written (there are: clip, dino)"},
		"another":                {"/x.npy", "cilp", []stagetest.Step{makes(nil, "clip")}, `vector: no stage before this one makes the vector "cilp" (there are: clip)`},
		"none":                   {"/x.npy", "", nil, "vector: no stage before this one makes a vector"},
		"none of that name":      {"/x.npy", "clip", nil, `(there are: none)`},
		"a folder":               {"/folder.npy", "", []stagetest.Step{makes(nil, "clip")}, "is a folder: name a file in it, such as"},
		"a slash":                {"/new/", "", []stagetest.Step{makes(nil, "clip")}, "is a folder"},
		"another extension":      {"/x.txt", "", []stagetest.Step{makes(nil, "clip")}, "path: the array is a NumPy file: give it a name that ends in .npy"},
		"nothing but that":       {"/.npy", "", []stagetest.Step{makes(nil, "clip")}, "give it a name that ends in .npy"},
		"the same file of names": {"/x.npy", "", []stagetest.Step{makes(nil, "clip"), step(dir+"/x.NPY", nil)}, "writes to"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			values := map[string]any{}
			if tt.vector != "" {
				values["vector"] = tt.vector
			}
			err := stagetest.Err(t, step(dir+tt.file, values), tt.before...)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("lint says %v, want %q", err, tt.want)
			}
		})
	}
}

// What a stage without a declaration makes is not known before it runs.
func TestVectorsThatNobodyDeclares(t *testing.T) {
	for _, vector := range []string{"v", ""} {
		out := t.TempDir()
		b := stagetest.New(t, pictures("a.png"))
		err := b.Add(pipeline.Step{ID: "undeclared", Stage: pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
			it.SetVector(full(1)[0])
			return nil
		})})
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]any{"path": out + "/x.npy"}
		if vector != "" {
			values["vector"] = vector
		}
		if err := b.Use(t.Context(), pipeline.NewRegistry(vectors.Info()), "vectors", "vectors", values); err != nil {
			t.Fatal(err)
		}
		_, err = b.Try(t, pipeline.RunOptions{})
		if vector == "" {
			if err == nil || !strings.Contains(err.Error(), "say it with vector") {
				t.Errorf("without a name the run ended with %v", err)
			}
			continue
		}
		if err != nil || len(read(t, out+"/x.npy")) != 128+4 {
			t.Errorf("with a name the run ended with %v", err)
		}
	}
}
