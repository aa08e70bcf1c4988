package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"image/color"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// grade is a stage that gives marks, rejects what is too narrow and fails for a
// width of 13.
func grade() pipeline.Info {
	return pipeline.Info{
		Name: "grade", Short: "Gives marks.", Version: 1,
		Fields: []pipeline.Field{{Name: "least", Type: pipeline.FieldInt, Default: "20", Doc: "The least width."}},
		Makes: func(pipeline.Config) []pipeline.Made {
			return []pipeline.Made{
				{Name: "mark", Type: pipeline.TypeFloat}, {Name: "class", Type: pipeline.TypeString}, {Name: "wide", Type: pipeline.TypeBool},
				{Name: "more", Type: pipeline.TypeInt}, {Name: "print", Type: pipeline.TypeHash},
			}
		},
		New: func(_ context.Context, c pipeline.Config, _ pipeline.Env) (pipeline.Stage, error) {
			return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
				w := it.Size().X
				it.SetAttr("mark", pipeline.Float(float64(w)/8))
				it.SetAttr("class", pipeline.String("b"))
				it.SetAttr("wide", pipeline.Bool(w > 20))
				it.SetAttr("print", pipeline.Hash([]byte{0xab, 0xcd}))
				switch {
				case w == 13:
					it.Fail(errors.New("an unlucky width"))
				case int64(w) < c.Int("least"):
					it.Reject("too narrow", pipeline.Attribute{Name: "width", Value: pipeline.Int(int64(w))})
				}
				return nil
			}), nil
		},
	}
}

// graded is a folder with a pipeline, curate.yaml, and pictures: a.png and its copy
// b.png, which give two tiles, narrow.png, unlucky.png, and deep/c.png, which gives
// eight.
func graded(t *testing.T) (dir string, o pipeline.Options) {
	t.Helper()
	dir = t.TempDir()
	write := func(name string, data []byte) {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o777), os.WriteFile(file, data, 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	write("curate.yaml", []byte(`name: curate
source:
  images: {path: "${INPUT:-./nowhere}"}
stages:
  - grade: {least: "${LEAST:-20}"}
  - dedup: {by: sha256, prefer: []}
  - tile: {size: 16}
  - id: again
    grade: {least: 1}
  - write: {path: "${OUT:-./out}", format: png}
  - manifest: {path: "${OUT:-./out}/manifest.jsonl"}
`))
	for name, size := range map[string][2]int{
		"a.png": {40, 20}, "b.png": {40, 20}, "narrow.png": {10, 20}, "unlucky.png": {13, 20}, "deep/c.png": {64, 32},
	} {
		write("pictures/"+name, pngBytes(t, size[0], size[1], gradient))
	}
	write("pictures/a.txt", []byte("a caption"))
	return dir, pipeline.Options{Registry: standard.Registry().With(grade())}
}

func writeCases(t *testing.T, dir, text string) string {
	t.Helper()
	file := filepath.Join(dir, "curate.test.yaml")
	if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return file
}

// failures runs a file's cases and gives what failed, without the folder's name.
func failures(t *testing.T, file string, o pipeline.Options) string {
	t.Helper()
	cases, err := pipeline.LoadCases(t.Context(), file, o)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for i, c := range cases {
		r, err := c.Run(t.Context(), filepath.Join(t.TempDir(), fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		if r.OK != (len(r.Failures) == 0) {
			t.Errorf("%s: ok %v with %d failures", r.Name, r.OK, len(r.Failures))
		}
		for _, f := range r.Failures {
			all = append(all, strings.ReplaceAll(f.String(), filepath.Dir(file)+"/", ""))
		}
	}
	return strings.Join(all, "\n")
}

func TestCaseExpectations(t *testing.T) {
	dir, o := graded(t)
	for _, tt := range []struct {
		name, expect string
		want         string // the failure; empty: none. It is compared from "expected" on.
	}{
		{"kept tiles are counted", `{of: a.png, is: kept, count: 2}`, ""},
		{"too many", `{of: a.png, is: kept, count: 1}`,
			`1 item of a.png: kept; got 2 of 2
  a.png@tile=16,0,0 is kept, 16 x 16; class b, mark 2, print abcd, wide false
  a.png@tile=16,16,0 is kept, 16 x 16; class b, mark 2, print abcd, wide false`},
		{"too few", `{of: a.png, is: kept, count: {min: 3}}`, `at least 3 items of a.png: kept; got 2 of 2`},
		{"a range", `{of: a.png, is: kept, count: {min: 1, max: 2}}`, ""},
		{"all is the default", `{of: narrow.png, is: rejected, by: grade, reason: too narrow}`, ""},
		{"not all", `{is: kept, by: }`, "wrong"},
		{"rejected and not kept", `{of: narrow.png, is: kept}`,
			`all items of narrow.png: kept; got 0 of 1
  narrow.png is rejected by grade, too narrow, width 10; class b, mark 1.25, print abcd, wide false (not kept)`},
		{"by another stage", `{of: narrow.png, by: dedup}`,
			`all items of narrow.png: rejected by or failed in dedup; got 0 of 1
  narrow.png is rejected by grade, too narrow, width 10; class b, mark 1.25, print abcd, wide false (not by dedup)`},
		{"for another reason", `{of: narrow.png, reason: too wide}`,
			`all items of narrow.png: rejected, reason "too wide"; got 0 of 1
  narrow.png is rejected by grade, too narrow, width 10; class b, mark 1.25, print abcd, wide false (not for that reason)`},
		{"failed", `{of: unlucky.png, is: failed, by: grade, cause: unlucky}`, ""},
		{"with another cause", `{of: unlucky.png, cause: broken}`,
			`all items of unlucky.png: failed, cause "broken"; got 0 of 1
  unlucky.png has failed in grade: an unlucky width; class b, mark 1.625, print abcd, wide false (not for that cause)`},
		{"a duplicate", `{of: b.png, duplicate_of: a.png}`, ""},
		{"a duplicate of another", `{of: b.png, duplicate_of: c.png}`,
			`all items of b.png: rejected, a duplicate of c.png; got 0 of 1
  b.png is rejected by dedup, duplicate, by sha256, distance 0, keeper a.png, rule id; class b, mark 5, print abcd, wide true (not of c.png)`},
		{"rejected, and no duplicate", `{of: narrow.png, duplicate_of: a.png, count: none}`, ""},
		{"a tile by the end of its ID", `{of: "@tile=16,48,16", is: kept, count: 1}`, ""},
		{"a pattern in a folder", `{of: "*/?.png", is: kept, count: 8}`, ""},
		{"a pattern is no folder", `{of: "*c.png", is: kept, count: 8}`, `got no such item`},
		{"a bracket is itself", `{of: "[abc].png", is: kept}`, `got no such item`},
		{"the ends of IDs by a pattern", `{of: "@tile=16,48,*", is: kept, count: 2}`, ""},
		{"a pattern of one character", `{of: "?.png", is: rejected, count: 1}`, ""},
		{"none", `{is: rejected, by: dedup, count: none}`,
			`no item: rejected by dedup; got 1 of 13
  b.png is rejected by dedup, duplicate, by sha256, distance 0, keeper a.png, rule id; class b, mark 5, print abcd, wide true`},
		{"any", `{is: failed, count: any}`, ""},
		{"not any", `{of: a.png, is: failed, count: any}`, `any item of a.png: failed; got 0 of 2
  a.png@tile=16,0,0 is kept, 16 x 16; class b, mark 2, print abcd, wide false (not failed)
  a.png@tile=16,16,0 is kept, 16 x 16; class b, mark 2, print abcd, wide false (not failed)`},
		{"only the first are named", `{is: failed}`, "and 2 more"},
		{"a name that is mistyped", `{of: narow.png, is: kept, count: none}`,
			`no item of narow.png: kept; got no such item; did you mean "narrow.png"? (there are a.png, a.png@tile=16,0,0, a.png@tile=16,16,0, b.png, deep/c.png, ...)`},
		{"attributes", `{of: a.png, attributes: {mark: 2, class: b, wide: false, print: abcd, more: {absent: true}, width: 16, source.width: {min: 40, max: 40}}}`, ""},
		{"numbers as numbers", `{of: a.png, attributes: {mark: 2.0, width: 16.0}}`, ""},
		{"an attribute below", `{of: narrow.png, attributes: {mark: {min: 1.5}}}`,
			`all items of narrow.png: mark at least 1.5; got 0 of 1
  narrow.png is rejected by grade, too narrow, width 10; class b, mark 1.25, print abcd, wide false (mark is 1.25, less than 1.5)`},
		{"an attribute above", `{of: narrow.png, attributes: {mark: {min: 0, max: 1}}}`, `(mark is 1.25, more than 1)`},
		{"another value", `{of: narrow.png, attributes: {class: a}}`, `(class is b, not a)`},
		{"an attribute that lacks", `{of: narrow.png, attributes: {more: 1}}`, `(more is absent (there are class, mark, print, wide))`},
		{"an attribute that is there", `{of: narrow.png, attributes: {mark: {absent: true}}}`, `(mark is 1.25, not absent)`},
		{"the text absent", `{of: narrow.png, attributes: {class: absent}}`, `(class is b, not absent)`},
		{"the text absent of an attribute that lacks", `{of: narrow.png, attributes: {more: "absent"}}`, `(more is absent, which {absent: true} expects; absent alone is a text)`},
		{"no number in a range", `{of: narrow.png, attributes: {class: {min: 1}}}`, `(class is b, no number)`},
		{"the output", `{of: a.png, is: kept, output: {format: png, width: 16, height: {max: 16}, bytes: {min: 70B, max: 2KiB}}}`, ""},
		{"another format", `{of: "@tile=16,48,16", output: {format: jpeg}}`, `(written as png, 16 x 16, `},
		{"another size", `{of: "@tile=16,48,16", output: {width: 17}}`, `(written as png, 16 x 16, `},
		{"no output", `{of: narrow.png, output: {format: png}}`, `(no picture is written from it)`},
		{"only a count", `{of: deep/*, count: 8}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := writeCases(t, dir, "source: {path: pictures}\ncases:\n- name: x\n  expect:\n  - "+tt.expect+"\n")
			if tt.want == "wrong" {
				if _, err := pipeline.LoadCases(t.Context(), file, o); err == nil {
					t.Error("it is accepted")
				}
				return
			}
			got := failures(t, file, o)
			_, got, _ = strings.Cut(got, "curate.test.yaml:5:5: expected ")
			if got != tt.want && (tt.want == "" || !strings.Contains(got, tt.want)) {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

// The names of files do, and IDs too.
func TestCaseNames(t *testing.T) {
	dir, o := graded(t)
	name := "it@x%.png"
	if err := os.WriteFile(filepath.Join(dir, "pictures", name), pngBytes(t, 40, 20, gradient), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{name, "it%40x%25.png", "it@*", "i?%40x%25.*"} {
		t.Run(name, func(t *testing.T) {
			text := fmt.Sprintf(`cases: [{name: x, source: {path: pictures}, only: %q, totals: {in: 1},
  expect: [{of: %[1]q, is: kept, count: 2}, {of: "%[1]s@tile=16,0,0", is: kept, count: 1}]}]`, name)
			if got := failures(t, writeCases(t, dir, text), o); got != "" {
				t.Error(got)
			}
		})
	}
}

func TestCaseTotals(t *testing.T) {
	dir, o := graded(t)
	file := writeCases(t, dir, `source: {path: pictures}
cases:
- name: right
  totals: {in: 5, derived: 10, consumed: 2, out: 10, rejected: 2, quarantined: 1, ignored: 0}
- name: a range
  totals: {out: {min: 1, max: 10}}
- name: wrong
  totals: {in: 5, out: {max: 9}, rejected: 0}
- name: one input
  only: a.png
  totals: {in: 1, out: 2}
- name: some inputs
  only: [a.png, "deep/*"]
  totals: {in: 2, out: 10}
- name: one file
  source: {path: pictures/a.png}
  totals: {in: 1}
- name: a pattern
  source: {path: "pictures/**/c*.png"}
  totals: {in: 1, out: 8}
- name: a variable
  set: {LEAST: 50}
  totals: {rejected: 3}
- name: an input that lacks
  only: [a.png, narow.png]
  totals: {in: 1}
`)
	want := `curate.test.yaml:8:24: expected at most 9 out; got 10
curate.test.yaml:8:44: expected 0 rejected; got 2
curate.test.yaml:25:17: expected an input narow.png; got none; did you mean "narrow.png"? (the source has b.png, deep/c.png, narrow.png, unlucky.png)`
	if got := failures(t, file, o); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What a case writes goes into its own folder: the pipeline's outputs and its run
// store stay as they are, and a case begins with nothing.
func TestCasesKeepApart(t *testing.T) {
	dir, o := graded(t)
	t.Chdir(dir)
	data, err := os.ReadFile("curate.yaml")
	if err != nil {
		t.Fatal(err)
	}
	vars := pipeline.Options{Registry: o.Registry, Vars: pipeline.Vars{Set: map[string]string{"INPUT": "pictures"}}}
	p, err := pipeline.Load(t.Context(), "curate.yaml", data, vars)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(t.Context(), pipeline.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	// The output folder may even lie in what the case reads.
	file := writeCases(t, ".", "cases:\n- {name: x, source: {path: .}, only: pictures/a.png, totals: {in: 1, out: 2}}\n")
	before := snapshot(t, ".")
	cases, err := pipeline.LoadCases(t.Context(), file, o)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		own := t.TempDir()
		r, err := cases[0].Run(t.Context(), own)
		if err != nil || !r.OK {
			t.Fatalf("%v %v", err, r)
		}
		for _, name := range []string{"out/pictures/a_x0_y0.png", "out/pictures/a_x0_y0.txt", "out/manifest.jsonl", ".forgepipe/run.db"} {
			if _, err := os.Stat(filepath.Join(own, name)); err != nil {
				t.Error(err)
			}
		}
		if want := []string{"out/pictures/a_x0_y0.png"}; !slices.Equal(r.Items[0].Files, want) {
			t.Errorf("files %q, want %q", r.Items[0].Files, want)
		}
	}
	if after := snapshot(t, "."); after != before {
		t.Errorf("there was\n%s\nand now\n%s", before, after)
	}
}

// snapshot lists a folder with sizes and times.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			fmt.Fprintln(&b, name, info.Size(), info.ModTime().UnixNano())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A source of two folders keeps its pairs, also where some are chosen.
func TestCasePairs(t *testing.T) {
	dir := t.TempDir()
	pairs, err := filepath.Abs("../testdata/pairs")
	if err != nil {
		t.Fatal(err)
	}
	broken := pairs + "-broken"
	text := `source:
  pairs: {hq: "${HQ:-./hq}", lq: "${LQ:-./lq}", scale: 4}
stages:
  - write: {path: "${OUT:-./out}", format: png}
`
	if err := os.WriteFile(filepath.Join(dir, "curate.yaml"), []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	file := writeCases(t, dir, fmt.Sprintf(`cases:
- name: chosen
  source: {hq: %[1]s/hq, lq: %[1]s/lq}
  only: 0002.jpg
  expect: {of: 0002.jpg, is: kept, output: {format: png, width: 384}, lq_output: {format: png, width: 96}}
  totals: {in: 1, out: 1}
- name: broken
  source: {hq: %[2]s/hq, lq: %[2]s/lq}
  expect:
  - {of: fits.png, is: kept}
  - {of: alone.png, is: failed, by: source, cause: companion}
  - {of: mismatch.png, is: failed, cause: does not fit}
`, pairs, broken))
	o := pipeline.Options{Registry: standard.Registry()}
	if got := failures(t, file, o); got != "" {
		t.Error(got)
	}
	cases, err := pipeline.LoadCases(t.Context(), file, o)
	if err != nil {
		t.Fatal(err)
	}
	own := t.TempDir()
	if _, err := cases[0].Run(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"out/hq/0002.png", "out/lq/0002.png"} {
		if _, err := os.Stat(filepath.Join(own, name)); err != nil {
			t.Error(err)
		}
	}
	for expect, want := range map[string]string{
		"{lq_output: {width: 384}}":                     "(the companion: written as png, 96 x ",
		"{output: {width: 96}, lq_output: {width: 96}}": "(written as png, 384 x ",
	} {
		wrong := writeCases(t, dir, fmt.Sprintf("cases:\n- name: wrong\n  source: {hq: %[1]s/hq, lq: %[1]s/lq}\n  only: 0002.jpg\n  expect: %[2]s\n", pairs, expect))
		if got := failures(t, wrong, o); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q in it", expect, got, want)
		}
	}
}

func TestCaseRunThatFails(t *testing.T) {
	dir, o := graded(t)
	t.Run("a stage ends it", func(t *testing.T) {
		broken := pipeline.Info{
			Name: "grade", Short: "Gives up.", Version: 1, Makes: grade().Makes, Fields: grade().Fields,
			New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
				return batchStage(func(context.Context, []*pipeline.Item) ([]*pipeline.Item, error) {
					return nil, errors.New("the disk is full")
				}), nil
			},
		}
		file := writeCases(t, dir, "cases:\n- {name: x, source: {path: pictures}, totals: {in: 1}}\n")
		got := failures(t, file, pipeline.Options{Registry: o.Registry.With(broken)})
		if want := "curate.test.yaml:2:3: expected the run to come to its end; got stage grade: the disk is full"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
	t.Run("it is interrupted", func(t *testing.T) {
		file := writeCases(t, dir, "cases:\n- {name: x, source: {path: pictures}, totals: {in: 1}}\n")
		cases, err := pipeline.LoadCases(t.Context(), file, o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if r, err := cases[0].Run(ctx, t.TempDir()); !errors.Is(err, context.Canceled) || r != nil {
			t.Errorf("%v, %v", r, err)
		}
	})
	t.Run("there is too much", func(t *testing.T) {
		wide := filepath.Join(dir, "wide")
		if err := os.MkdirAll(wide, 0o777); err != nil {
			t.Fatal(err)
		}
		picture := pngBytes(t, 16*101, 16*100, func(int, int) color.Color { return color.Black })
		if err := os.WriteFile(filepath.Join(wide, "w.png"), picture, 0o666); err != nil {
			t.Fatal(err)
		}
		light := "source: {images: {path: x}}\nstages: [{tile: {size: 16}}]\n"
		if err := os.WriteFile(filepath.Join(dir, "light.yaml"), []byte(light), 0o666); err != nil {
			t.Fatal(err)
		}
		file := writeCases(t, dir, "pipeline: light.yaml\ncases:\n- {name: x, source: {path: wide}, totals: {in: 1}}\n")
		got := failures(t, file, o)
		if want := "more than 10000 items have ended"; !strings.Contains(got, want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}
