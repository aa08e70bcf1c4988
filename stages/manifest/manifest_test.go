package manifest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io/fs"
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
	"github.com/forgepipe/forgepipe/stages/manifest"
	"github.com/forgepipe/forgepipe/stages/tile"
	"github.com/forgepipe/forgepipe/stages/write"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// describe is a stage that gives every item attributes and vectors of all kinds.
var describe = stagetest.Step{Info: pipeline.Info{
	Name: "describe", Short: "Describes.",
	New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
		return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
			it.SetAttr("z", pipeline.Int(math.MaxInt64))
			it.SetAttr("float", pipeline.Float(0.1))
			it.SetAttr("whole", pipeline.Float(3))
			it.SetAttr("small", pipeline.Float(1e-9))
			it.SetAttr("nan", pipeline.Float(math.NaN()))
			it.SetAttr("inf", pipeline.Float(math.Inf(1)))
			it.SetAttr("ok", pipeline.Bool(true))
			it.SetAttr("text", pipeline.String("a <b> & \"c\"\n\u2028é"))
			it.SetAttr("hash", pipeline.Hash([]byte{0xde, 0xad}))
			it.SetVector(pipeline.Vector{Name: "zero", Data: []float32{}})
			it.SetVector(pipeline.Vector{Name: "clip", Model: "m", Data: []float32{1, -0.5, 0.1, 1e-20, 3e20, float32(math.NaN()), float32(math.Inf(-1))}})
			return nil
		}), nil
	},
}}

func step(file string, values map[string]any) stagetest.Step {
	v := map[string]any{"path": file}
	for k, x := range values {
		v[k] = x
	}
	return stagetest.Step{Info: manifest.Info(), Values: v}
}

func writeTo(dir string) stagetest.Step {
	return stagetest.Step{Info: write.Info(), Values: map[string]any{"path": dir}}
}

var cut = stagetest.Step{Info: tile.Info(), Values: map[string]any{"size": 16}}

func picture(name string, w, h int) pipeline.Input {
	return stagetest.Picture(name, image.NewGray(image.Rect(0, 0, w, h)))
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestGolden(t *testing.T) {
	const attributes = `{"float":0.1,"hash":"dead","inf":null,"nan":null,"ok":true,"small":1e-9,"text":"a <b> & \"c\"\n\u2028é","whole":3,"z":9223372036854775807}`
	const vectors = `{"clip":[1,-0.5,0.1,1e-20,3e+20,null,null],"zero":[]}`
	src := stagetest.Source{picture("b.png", 20, 18), picture("a/50% @home.png", 8, 4), picture("a/d\xe9j\xe0 <&>.png", 2, 1)}
	tests := map[string]struct {
		steps func(out string) []stagetest.Step
		file  string
		want  string
	}{
		"attributes": {
			func(out string) []stagetest.Step { return []stagetest.Step{describe, step(out+"/m.jsonl", nil)} }, "m.jsonl",
			`{"id":"a/50%25 %40home.png","source":"a/50%25 %40home.png","path":null,"width":8,"height":4,"attributes":` + attributes + `}
{"id":"a/d%E9j%E0 <&>.png","source":"a/d%E9j%E0 <&>.png","path":null,"width":2,"height":1,"attributes":` + attributes + `}
{"id":"b.png","source":"b.png","path":null,"width":20,"height":18,"attributes":` + attributes + `}
`,
		},
		"vectors": {
			func(out string) []stagetest.Step {
				return []stagetest.Step{describe, {Info: filter.Info(), Values: map[string]any{"keep": "width == 8"}}, step(out+"/m.jsonl", map[string]any{"vectors": true})}
			}, "m.jsonl",
			`{"id":"a/50%25 %40home.png","source":"a/50%25 %40home.png","path":null,"width":8,"height":4,"attributes":` + attributes + `,"vectors":` + vectors + "}\n",
		},
		"outputs beside it": {
			func(out string) []stagetest.Step { return []stagetest.Step{writeTo(out), step(out+"/m.jsonl", nil)} }, "m.jsonl",
			`{"id":"a/50%25 %40home.png","source":"a/50%25 %40home.png","path":"a/50%25 %40home.png","width":8,"height":4,"attributes":{}}
{"id":"a/d%E9j%E0 <&>.png","source":"a/d%E9j%E0 <&>.png","path":"a/d%E9j%E0 <&>.png","width":2,"height":1,"attributes":{}}
{"id":"b.png","source":"b.png","path":"b.png","width":20,"height":18,"attributes":{}}
`,
		},
		"outputs elsewhere": {
			func(out string) []stagetest.Step {
				return []stagetest.Step{cut, writeTo(out + "/pictures"), step(out+"/lists/deep/m.jsonl", nil)}
			}, "lists/deep/m.jsonl",
			`{"id":"b.png@tile=16,0,0","source":"b.png","path":"../../pictures/b_x0_y0.png","width":16,"height":16,"attributes":{}}` + "\n",
		},
		"written twice": {
			func(out string) []stagetest.Step {
				return []stagetest.Step{cut, writeTo(out + "/one"), writeTo(out + "/two"), step(out+"/m.jsonl", nil)}
			}, "m.jsonl",
			`{"id":"b.png@tile=16,0,0","source":"b.png","path":"two/b_x0_y0.png","width":16,"height":16,"attributes":{}}` + "\n",
		},
		"before it is written": {
			func(out string) []stagetest.Step {
				return []stagetest.Step{cut, step(out+"/m.jsonl", nil), writeTo(out)}
			}, "m.jsonl",
			`{"id":"b.png@tile=16,0,0","source":"b.png","path":null,"width":16,"height":16,"attributes":{}}` + "\n",
		},
		"nothing arrives": {
			func(out string) []stagetest.Step {
				return []stagetest.Step{{Info: filter.Info(), Values: map[string]any{"keep": "width > 1000"}}, step(out+"/m.jsonl", nil)}
			}, "m.jsonl", "",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			s, seen := stagetest.New(t, src, tt.steps(out)...).Run(t, pipeline.RunOptions{})
			got := read(t, filepath.Join(out, tt.file))
			if got != tt.want {
				t.Errorf("manifest\n%swant\n%s", got, tt.want)
			}
			for line := range strings.Lines(got) {
				if !json.Valid([]byte(line)) {
					t.Errorf("this is no JSON: %s", line)
				}
			}
			if n := strings.Count(got, "\n"); len(seen) != n || s.Out != int64(n) {
				t.Errorf("%d items passed on, %d lines", len(seen), n)
			}
		})
	}
}

// many are n pictures in several folders, and their IDs in order.
func many(n int) (src stagetest.Source, ids []string) {
	for i := range n {
		name := fmt.Sprintf("%d/%d.png", i%7, i)
		src = append(src, picture(name, 1+i%5, 1))
		ids = append(ids, name)
	}
	slices.Sort(ids)
	return src, ids
}

func TestManyLinesFromManyWorkers(t *testing.T) {
	const n = 3000
	src, want := many(n)
	out := t.TempDir()
	run := func() string {
		stagetest.New(t, src, step(out+"/m.jsonl", nil)).Run(t, pipeline.RunOptions{})
		return read(t, out+"/m.jsonl")
	}
	first := run()
	var got []string
	for line := range strings.Lines(first) {
		var v struct{ ID string }
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		got = append(got, v.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d lines, not those of the %d items in order", len(got), len(want))
	}
	info, err := os.Stat(out + "/m.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	if second := run(); second != first {
		t.Error("a second run wrote something else")
	}
	if again, err := os.Stat(out + "/m.jsonl"); err != nil || !os.SameFile(info, again) {
		t.Errorf("a file that was right has been replaced: %v", err)
	}
}

func TestTheFileOfSomebodyElse(t *testing.T) {
	out := t.TempDir()
	if err := os.WriteFile(out+"/m.jsonl", []byte("theirs"), 0o666); err != nil {
		t.Fatal(err)
	}
	src := stagetest.Source{picture("a.png", 1, 1)}
	if _, err := stagetest.New(t, src, step(out+"/m.jsonl", nil)).Try(t, pipeline.RunOptions{}); err == nil || !strings.Contains(err.Error(), "a file is there already") {
		t.Errorf("the run ended with %v", err)
	}
	if got := read(t, out+"/m.jsonl"); got != "theirs" {
		t.Errorf("it holds %q now", got)
	}
	stagetest.New(t, src, step(out+"/m.jsonl", map[string]any{"overwrite": true})).Run(t, pipeline.RunOptions{})
	if got := read(t, out+"/m.jsonl"); !strings.HasPrefix(got, `{"id":"a.png"`) {
		t.Errorf("with overwrite it holds %q", got)
	}
}

// gate is a source that offers one picture and then waits for the run to be
// drained.
type gate struct{ ready chan struct{} }

func (g gate) Emit(ctx context.Context, emit func(pipeline.Input) error) error {
	if err := emit(picture("a.png", 1, 1)); err != nil {
		return err
	}
	close(g.ready)
	for i := 0; ; i++ {
		if err := emit(picture(fmt.Sprintf("later-%d.png", i), 1, 1)); err != nil {
			return err
		}
	}
}

func TestAnInterruptedRunWritesNone(t *testing.T) {
	out := t.TempDir()
	g := gate{make(chan struct{})}
	p := pipeline.New("", pipeline.Options{})
	p.SetSource(g)
	if err := p.Use(t.Context(), pipeline.NewRegistry(manifest.Info()), "manifest", "manifest", map[string]any{"path": out + "/m.jsonl"}); err != nil {
		t.Fatal(err)
	}
	run, err := p.Start(t.Context(), pipeline.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	<-g.ready
	run.Drain()
	s, err := run.Wait()
	if err != nil || s.State != "interrupted" {
		t.Errorf("state %s, %v", s.State, err)
	}
	if _, err := os.Stat(out + "/m.jsonl"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half a manifest was written: %v", err)
	}
}

func TestASampleHasItsOwn(t *testing.T) {
	out := t.TempDir()
	src := stagetest.Source{picture("x/a.png", 8, 8), picture("x/b.png", 8, 8)}
	p := pipeline.New("", pipeline.Options{})
	p.SetSource(src)
	for _, s := range []stagetest.Step{writeTo(out + "/pictures"), step(out+"/lists/m.jsonl", nil)} {
		if err := p.Use(t.Context(), pipeline.NewRegistry(s.Info), s.Info.Name, s.Info.Name, s.Values); err != nil {
			t.Fatal(err)
		}
	}
	run, err := p.Start(t.Context(), pipeline.RunOptions{Sample: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run.Wait(); err != nil {
		t.Fatal(err)
	}
	_, dir := run.SampleOf()
	var line struct{ Path string }
	if err := json.Unmarshal([]byte(read(t, dir+"/lists/m.jsonl")), &line); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "lists", line.Path)); err != nil || !strings.HasPrefix(line.Path, "../pictures/x/") {
		t.Errorf("the path %q does not lead from the sample's manifest to its picture: %v", line.Path, err)
	}
	if _, err := os.Stat(out + "/lists/m.jsonl"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the sample has touched the real place: %v", err)
	}
}

func TestADryRunWritesNone(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	stagetest.New(t, stagetest.Source{picture("a.png", 1, 1)}, step(out+"/m.jsonl", nil)).Run(t, pipeline.RunOptions{DryRun: true})
	if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder was made: %v", err)
	}
}

// Two runs in different folders give the same bytes.
func TestNothingOfTheMachineIsInIt(t *testing.T) {
	var all [][]byte
	for range 2 {
		out := t.TempDir()
		stagetest.New(t, stagetest.Source{picture("a/b.png", 40, 40)}, cut, describe, writeTo(out), step(out+"/m.jsonl", map[string]any{"vectors": true})).Run(t, pipeline.RunOptions{StateDir: t.TempDir()})
		all = append(all, []byte(read(t, out+"/m.jsonl")))
	}
	if !bytes.Equal(all[0], all[1]) || bytes.Contains(all[0], []byte(os.TempDir())) {
		t.Errorf("the first\n%sthe second\n%s", all[0], all[1])
	}
}

func TestWrongConfigurations(t *testing.T) {
	dir := t.TempDir()
	for name, file := range map[string]string{"no file": "", "a folder": dir, "a slash": dir + "/new/", "a reserved name": dir + "/NUL", "upwards": dir + "/x/.."} {
		if err := stagetest.Err(t, step(file, nil)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
