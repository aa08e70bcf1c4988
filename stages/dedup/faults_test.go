package dedup_test

import (
	"context"
	"fmt"
	"image"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

// byHand is what a person has decided about them.
const byHand = "keep,nobody.png,,,,\ndifferent,00.png,03.png,,,\n"

// moving runs a dedup that does that with files, and writes everything that it can.
func (p *photoSet) moving(ctx context.Context, t testing.TB, files pipeline.FS, dir, action string) (map[string]string, error) {
	t.Helper()
	pl := pipeline.New("test", pipeline.Options{FS: files})
	pl.SetSource(p.offered(t, filepath.Join(dir, "in")))
	at := func(name string) string { return filepath.Join(dir, name) }
	values := config(
		"by", []any{option("sha256"), option("phash", "max_distance", 4), option("vector", "name", "v", "min_similarity", 0.9, "confirm", true)}, "prefer", []string{},
		"groups", []string{at("groups.jsonl"), at("groups.parquet")}, "pairs", at("pairs.jsonl"), "decisions", at("decisions.csv"), "index", at("index"),
	)
	if action == "move" {
		values["action"], values["to"] = action, at("to")
	}
	for _, s := range []stagetest.Step{p.given.giver(), p.embedded.giver("v"), {Info: dedup.Info(), Values: values}} {
		if err := pl.Use(ctx, pipeline.NewRegistry(s.Info), s.Info.Name, s.Info.Name, s.Values); err != nil {
			return nil, err
		}
	}
	said := map[string]string{}
	_, err := pl.Run(ctx, pipeline.RunOptions{StateDir: at("state"), OnEvent: func(e pipeline.Event) {
		if e.Kind == pipeline.EventRejected {
			said[e.Item] = e.Message // one goroutine flushes
		}
	}})
	return said, err
}

var movingClauses = map[string][]string{"sha256": {"sha256"}, "phash": {"phash", "v"}}

// Whatever fails while files are moved, or whenever it is interrupted: nothing is rejected
// without a reason, no byte is lost, and the next run ends where one that nothing disturbed
// does.
func TestNoFileIsLostWhateverFails(t *testing.T) { noFileIsLost(t, 2) }

// noFileIsLost disturbs about so many runs in each way.
func noFileIsLost(t *testing.T, times int64) {
	p := photographs(t)
	world := func() string {
		dir := t.TempDir()
		p.lay(t, filepath.Join(dir, "in"))
		if err := os.WriteFile(filepath.Join(dir, "decisions.csv"), []byte("decision,item,keeper,by,distance,rule\n"+byHand), 0o666); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	ref, told := world(), world()
	want, err := p.moving(t.Context(), t, fsys.OS, ref, "move")
	if err != nil || len(want) < 4 || len(want) > 9 {
		t.Fatalf("undisturbed: %v, %v", want, err)
	}
	p.check(t, "undisturbed", want, movingClauses)
	kept, moved := tree(t, filepath.Join(ref, "in")), tree(t, filepath.Join(ref, "to"))
	if len(moved) <= len(want) {
		t.Fatalf("moved were %v", slices.Sorted(maps.Keys(moved)))
	}
	if said, err := p.moving(t.Context(), t, fsys.OS, told, "report"); err != nil || !maps.Equal(said, want) {
		t.Fatalf("undisturbed, without moving: %v, %v\nwant %v", said, err, want)
	}
	tells := []string{"groups.jsonl", "groups.parquet", "pairs.jsonl", "decisions.csv"}
	for name, disturb := range map[string]func(cancel func(), n int64) (files fsys.FS, count func() int64, what func() string){
		"a change fails": func(_ func(), n int64) (fsys.FS, func() int64, func() string) {
			f := fsys.FailAt(fsys.OS, n, syscall.EIO)
			return f, f.Count, f.Failed
		},
		"a change fails, and nothing is moved": func(_ func(), n int64) (fsys.FS, func() int64, func() string) {
			f := fsys.FailAt(fsys.OS, n, syscall.EIO)
			return f, f.Count, f.Failed
		},
		"interrupted, and nothing is moved": func(cancel func(), n int64) (fsys.FS, func() int64, func() string) {
			h := &hooked{FS: fsys.OS}
			h.hook = func(at int64, _ string) error {
				if at == n {
					cancel()
				}
				return nil
			}
			return h, h.n.Load, func() string { return "an operation" }
		},
		"the disk is full from then on": func(_ func(), n int64) (fsys.FS, func() int64, func() string) {
			f := fsys.FailAt(fsys.OS, n, syscall.ENOSPC)
			f.Sticky = true
			return f, f.Count, f.Failed
		},
		"an operation fails, between disks": func(_ func(), n int64) (fsys.FS, func() int64, func() string) {
			what := ""
			h := &hooked{FS: fsys.OS}
			h.hook = func(at int64, op string) error {
				if at == n {
					what = op
					return syscall.EIO
				}
				return nil
			}
			return h, h.n.Load, func() string { return what }
		},
		"interrupted": func(cancel func(), n int64) (fsys.FS, func() int64, func() string) {
			what := ""
			h := &hooked{FS: fsys.OS}
			h.hook = func(at int64, op string) error {
				if at == n {
					what = op
					cancel()
				}
				return nil
			}
			return h, h.n.Load, func() string { return what }
		},
	} {
		if times < 10 && (name == "a change fails" || name == "interrupted, and nothing is moved") {
			continue // others do nearly the same
		}
		// Of duplicates that were moved, groups tell; pairs and decisions are of what is still there.
		action := "move"
		if strings.HasSuffix(name, "nothing is moved") {
			action = "report"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := func(dir string, n int64) (map[string]string, int64, string, error) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				files, count, what := disturb(cancel, n)
				said, err := p.moving(ctx, t, files, dir, action)
				return said, count(), what(), err
			}
			whole := world()
			_, all, _, err := run(whole, 0)
			if got := tree(t, filepath.Join(whole, "to")); err != nil || action == "move" && !maps.EqualFunc(got, moved, slices.Equal) {
				t.Fatalf("undisturbed: moved were %v: %v", slices.Sorted(maps.Keys(got)), err)
			}
			disturbed, step := 0, 1+all/times
			for n := max(1, step*9/10); n <= all; n += step {
				dir := world()
				said, _, what, err := run(dir, n)
				when := fmt.Sprintf("%d of %d, %s (%v)", n, all, what, err)
				if err != nil || what != "" {
					disturbed++
				}
				p.check(t, when, said, movingClauses)
				p.nothingLost(t, when, filepath.Join(dir, "in"), filepath.Join(dir, "to"))
				for name, data := range kept {
					if string(tree(t, filepath.Join(dir, "in"))[name]) != string(data) {
						t.Errorf("%s: %s is not in its place any more", when, name)
					}
				}
				if got := read(t, filepath.Join(dir, "decisions.csv")); !strings.Contains(got, byHand) {
					t.Errorf("%s: of what a person decided is left:\n%s", when, got)
				}
				again, err := p.moving(t.Context(), t, fsys.OS, dir, action)
				if err != nil {
					t.Errorf("%s: the next run: %v", when, err)
				}
				p.check(t, when+": the next run", again, movingClauses)
				if action == "report" {
					for _, f := range tells {
						if read(t, filepath.Join(dir, f)) != read(t, filepath.Join(told, f)) {
							t.Errorf("%s: after the next run %s is another", when, f)
						}
					}
					if left, err := os.ReadDir(dir); err != nil || len(left) != len(tells)+3 { // index, in, state
						t.Errorf("%s: after the next run there are %v, %v", when, left, err)
					}
					continue
				}
				for _, name := range []string{"groups.jsonl", "groups.parquet"} {
					if got := read(t, filepath.Join(dir, name)); got != read(t, filepath.Join(ref, name)) {
						t.Errorf("%s: after the next run %s is\n%s", when, name, got)
					}
				}
				for _, f := range []struct {
					name string
					want map[string][]byte
				}{{"in", kept}, {"to", moved}} {
					got := tree(t, filepath.Join(dir, f.name))
					if !maps.EqualFunc(got, f.want, slices.Equal) {
						t.Errorf("%s: after the next run %s has %v, want %v", when, f.name, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(f.want)))
					}
				}
			}
			if disturbed == 0 {
				t.Error("nothing was disturbed")
			}
		})
	}
}

// tripping is perceiver, which cannot be run on a picture that is white all over.
func tripping(t testing.TB) string {
	t.Helper()
	g := onnx.NewGraph("tripping")
	x := g.Input("input", onnx.Float32, g.Dim("batch"), 3, 32, 32)
	// The mean of samples from -1 to 1 is cut to 0, and is 1 where all of them are: there is
	// no second number to take.
	at := g.Cast(g.ReduceMean(g.Mul(x, g.Scalar(onnx.Float32, 1.01)), true, 1, 2, 3), onnx.Int64)
	zero := g.Gather(g.Float32s("zero", []float32{0}, 1), at, 0)
	g.Output("output", g.Flatten(g.Mul(g.Add(x, zero), g.Scalar(onnx.Float32, 1./32)), 1))
	path := filepath.Join(t.TempDir(), "tripping.onnx")
	if err := g.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func white() *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, 32, 32))
	for i := range img.Pix {
		img.Pix[i] = 255
	}
	return img
}

// perceiving runs a dedup in which LPIPS has the last word, and calls between when all items
// have come to it.
func (p *photoSet) perceiving(ctx context.Context, t testing.TB, net, dir string, between func()) (map[string]string, string, error) {
	t.Helper()
	src := p.offered(t, filepath.Join(dir, "in"))
	var come atomic.Int64
	gate := pipeline.Info{Name: "gate", Short: "calls a function", New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
		return pipeline.Func(func(context.Context, *pipeline.Item) error {
			if come.Add(1) == int64(len(src)) {
				between()
			}
			return nil
		}), nil
	}}
	pl := load(t, src, fmt.Sprintf("\n  - give:\n  - gate:\n  - dedup: {prefer: [], by: [{phash: {max_distance: 31}}, {lpips: {model: %s, size: 32, max_distance: %g, confirm: true}}], groups: %s, pairs: %s}\n",
		net, perceivedWithin, filepath.Join(dir, "groups.jsonl"), filepath.Join(dir, "pairs.jsonl")), p.given.giver().Info, gate)
	said := map[string]string{}
	s, err := pl.Run(ctx, pipeline.RunOptions{StateDir: filepath.Join(dir, "state"), OnEvent: func(e pipeline.Event) {
		if e.Kind == pipeline.EventRejected {
			said[e.Item] = e.Message
		}
	}})
	note := ""
	if s != nil && len(s.Stages) > 0 {
		note = s.Stages[len(s.Stages)-1].Note
	}
	return said, note, err
}

var perceivingClauses = map[string][]string{"phash": {"lpips"}} // all hashes are near enough

// A network that fails at a picture, and pictures that cannot be read when their turn comes,
// make no duplicates: what was not measured stays, and nothing goes for its sake.
func TestNothingIsRejectedForWhatCannotBeMeasured(t *testing.T) { cannotBeMeasured(t, 12) }

func cannotBeMeasured(t *testing.T, step int) {
	ids := slices.Sorted(maps.Keys(photographs(t).images))
	net := perceiver(t, false)
	for i := 0; i < len(ids); i += step {
		for name, tt := range map[string]struct {
			net    string
			damage func(t *testing.T, path string)
		}{
			"the network fails": {tripping(t), nil},
			"gone":              {net, func(t *testing.T, path string) { remove(t, path) }},
			"cut": {net, func(t *testing.T, path string) {
				if err := os.Truncate(path, 60); err != nil {
					t.Fatal(err)
				}
			}},
			"another picture": {net, func(t *testing.T, path string) {
				remove(t, path)
				save(t, filepath.Dir(path), filepath.Base(path), white())
			}},
			"a folder": {net, func(t *testing.T, path string) {
				remove(t, path)
				if err := os.Mkdir(path, 0o777); err != nil {
					t.Fatal(err)
				}
			}},
		} {
			t.Run(name+" at "+strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				p, dir := photographs(t), t.TempDir()
				if tt.damage == nil {
					p.images[ids[i]] = white()
					p.files[ids[i]] = []byte(read(t, save(t, t.TempDir(), ids[i], white()).Path))
				}
				p.lay(t, filepath.Join(dir, "in"))
				said, note, err := p.perceiving(t.Context(), t, tt.net, dir, func() {
					if tt.damage != nil {
						tt.damage(t, filepath.Join(dir, "in", ids[i]))
					}
				})
				p.check(t, name, said, perceivingClauses)
				for id, text := range said {
					if id == ids[i] || strings.Contains(text, "keeper "+ids[i]+",") {
						t.Errorf("%s: %s", id, text)
					}
				}
				if tt.damage == nil {
					if err == nil || len(said) > 0 {
						t.Errorf("rejected %v; %s, %v", said, note, err)
					}
					return
				}
				if err != nil || len(said) < 3 || !strings.Contains(note, "1 pictures could not be decoded") {
					t.Errorf("rejected %v; %s, %v", said, note, err)
				}
			})
		}
	}
}

func remove(t testing.TB, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
