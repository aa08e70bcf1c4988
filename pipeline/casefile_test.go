package pipeline_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
)

func TestCasesFindWhatIsWrong(t *testing.T) {
	dir, o := graded(t)
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", ``, `:1:1: the file is empty: it needs at least a list of cases`},
		{"not a mapping", `[a]`, `:1:1: a test file must be a mapping with cases, not a list`},
		{"two documents", "cases: []\n---\ncases: []", `:3:1: the file holds a second document: one list of cases per file`},
		{"no cases", `set: {LEAST: 1}`, `:1:1: the file has no cases: add a list under cases:`},
		{"an empty list", `cases: []`, `:1:8: the file has no cases: the list is empty`},
		{"cases that are no list", `cases: {name: x}`, `:1:8: cases must be a list, not a mapping`},
		{"an unknown key", `case: []`, `:1:1: a test file has no key "case"; did you mean "cases"? (it has cases, pipeline, set, source)`},
		{"another pipeline", "pipeline: other.yaml\ncases: [{name: x, totals: {in: 1}}]", `:1:11: reading the pipeline DIR/other.yaml: stat DIR/other.yaml: no such file or directory`},
		{"a case that is no mapping", `cases: [x]`, `:1:9: a case must be a mapping with name and expect, not "x"`},
		{"an unknown key of a case", `cases: [{name: x, totl: {in: 1}}]`, `:1:19: a case has no key "totl"; did you mean "totals"? (it has expect, name, only, set, source, totals)`},
		{"no name", `cases: [{totals: {in: 1}}]`, `:1:9: the case has no name: say in a few words what it pins`},
		{"no expectation", `cases: [{name: x, only: a.png}]`, `:1:9: the case expects nothing: add expect or totals`},
		{"the same name twice", `cases: [{name: x, totals: {in: 1}}, {name: x, totals: {in: 2}}]`, `:1:37: two cases are called "x", the first in line 1`},
		{"an unknown field of the source", `cases: [{name: x, source: {pth: pictures}, totals: {in: 1}}]`, `:1:28: images has no field "pth"; did you mean "path"? (it has path, list, recursive, sidecars)`},
		{"a source that is not there", `cases: [{name: x, source: {path: missing}, totals: {in: 1}}]`, `:1:34: source images: path: looking for the input: stat DIR/missing: no such file or directory`},
		{"a source outside", `cases: [{name: x, source: {path: ../../nowhere/x}, totals: {in: 1}}]`, `nowhere/x: no such file or directory`},
		{"a wrong value of the source", `cases: [{name: x, source: {path: pictures, recursive: perhaps}, totals: {in: 1}}]`, `:1:55: images.recursive: wants true or false, not "perhaps"`},
		{"a source that is no mapping", `cases: [{name: x, source: pictures, totals: {in: 1}}]`, `:1:27: source must be a mapping, not "pictures"`},
		{"a variable that the pipeline has not", `cases: [{name: x, source: {path: pictures}, set: {LEST: 1}, totals: {in: 1}}]`, `:1:51: set gives LEST, but the pipeline has no ${LEST}; did you mean "LEAST"?`},
		{"no variable's name", `cases: [{name: x, source: {path: pictures}, set: {a-b: 1}, totals: {in: 1}}]`, `:1:51: "a-b" is not a variable's name: letters, digits and _ only`},
		{"a list as a variable", `cases: [{name: x, source: {path: pictures}, set: {LEAST: [1]}, totals: {in: 1}}]`, `:1:58: set.LEAST must be one value, or {path: FILE} for a path relative to this file, not a list`},
		{"an unknown total", `cases: [{name: x, totals: {outt: 1}}]`, `:1:28: totals has no key "outt"; did you mean "out"? (it has consumed, derived, ignored, in, out, quarantined, rejected)`},
		{"a total that is no number", `cases: [{name: x, totals: {in: some}}]`, `:1:32: totals.in: wants a whole number from 0 on, not "some"`},
		{"a range the wrong way", `cases: [{name: x, totals: {in: {min: 3, max: 2}}}]`, `:1:32: totals.in: nothing is at least 3 and at most 2`},
		{"an empty range", `cases: [{name: x, totals: {in: {}}}]`, `:1:32: totals.in has neither min nor max`},
		{"an unknown key of a range", `cases: [{name: x, totals: {in: {mn: 3}}}]`, `:1:33: totals.in has no key "mn"; did you mean "min"? (it has max, min)`},
		{"an empty expectation", `cases: [{name: x, expect: []}]`, `:1:27: expect is empty`},
		{"an expectation that is no mapping", `cases: [{name: x, expect: [kept]}]`, `:1:28: an expectation must be a mapping such as {of: photo.jpg, is: kept}, not "kept"`},
		{"an unknown key of an expectation", `cases: [{name: x, expect: {is: kept, off: a.png}}]`, `:1:38: an expectation has no key "off"; did you mean "of"? (it has attributes, by, cause, count, duplicate_of, is, lq_output, of, output, reason)`},
		{"an expectation of nothing", `cases: [{name: x, expect: {of: a.png}}]`, `:1:27: this expects nothing: say what the items are (is: kept, rejected or failed), their attributes, output, or count`},
		{"an unknown end", `cases: [{name: x, expect: {is: rejectd}}]`, `:1:32: is: "rejectd" is none of kept, rejected, failed; did you mean "rejected"?`},
		{"a reason of what is kept", `cases: [{name: x, expect: {is: kept, reason: y}}]`, `:1:27: reason is of rejected items, and is says kept`},
		{"a cause of what is rejected", `cases: [{name: x, expect: {is: rejected, cause: y}}]`, `:1:27: cause is of failed items, and is says rejected`},
		{"a stage of what is kept", `cases: [{name: x, expect: {is: kept, by: grade}}]`, `:1:27: by is the stage that rejected an item or in which it failed, and is says kept`},
		{"an unknown stage", `cases: [{name: x, source: {path: pictures}, expect: {is: rejected, by: grad}}]`, `:1:72: by: DIR/curate.yaml has no stage "grad"; did you mean "grade"? (it has source, grade, dedup, tile, again, write, manifest)`},
		{"an unknown attribute", `cases: [{name: x, source: {path: pictures}, expect: {attributes: {marc: 1}}}]`, `:1:67: no stage of DIR/curate.yaml makes the attribute "marc"; did you mean "mark"? (there are class, height, mark, more, pixels, print, source.bytes, source.format, source.height, source.path, source.width, wide, width)`},
		{"a list as an attribute", `cases: [{name: x, expect: {attributes: {mark: [1]}}}]`, `:1:47: attributes.mark must be a value, {min: 1, max: 2} or {absent: true}, not a list`},
		{"an attribute that is not absent", `cases: [{name: x, expect: {attributes: {mark: {absent: false}}}}]`, `:1:56: attributes.mark.absent: wants true, not "false": leave out what may be there and may not`},
		{"an attribute that is absent and in a range", `cases: [{name: x, expect: {attributes: {mark: {absent: true, min: 1}}}}]`, `:1:62: attributes.mark has no key "min" (it has absent)`},
		{"a count that is no number", `cases: [{name: x, expect: {is: kept, count: most}}]`, `:1:45: count: wants all, any, none, a whole number or {min: 1, max: 2}, not "most"`},
		{"an unknown format", `cases: [{name: x, expect: {output: {format: jpg}}}]`, `:1:45: output.format: "jpg" is none of bmp, gif, jpeg, png, tiff, webp; did you mean "jpeg"?`},
		{"an empty output", `cases: [{name: x, expect: {output: {}}}]`, `:1:36: output expects nothing: give format, width, height or bytes`},
		{"an empty output of a companion", `cases: [{name: x, expect: {lq_output: {}}}]`, `:1:39: lq_output expects nothing: give format, width, height or bytes`},
		{"bytes without a unit", `cases: [{name: x, expect: {output: {bytes: 12}}}]`, `:1:44: output.bytes: `},
		{"a variable that is not set", `cases: [{name: "${NOWHERE}", totals: {in: 1}}]`, `:1:16: the variable NOWHERE is not set`},
		{"the same problem in all cases", "source: {pth: x}\ncases: [{name: x, totals: {in: 1}}, {name: y, totals: {in: 1}}]", "once :1:10: images has no field"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := writeCases(t, dir, tt.text)
			_, err := pipeline.LoadCases(t.Context(), file, o)
			var se *pipeline.SpecError
			if !errors.As(err, &se) {
				t.Fatalf("it says %v", err)
			}
			got := strings.ReplaceAll(strings.ReplaceAll(se.Error(), file, ""), dir, "DIR")
			want, once := strings.CutPrefix(tt.want, "once ")
			if !strings.Contains(got, want) || once && strings.Count(got, want) != 1 {
				t.Errorf("it says\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestCasePaths(t *testing.T) {
	dir, o := graded(t)
	// A name that looks like a variable, once it stands in the pipeline.
	odd := filepath.Join(dir, "${odd}")
	if err := os.Rename(filepath.Join(dir, "pictures/deep"), odd); err != nil {
		t.Fatal(err)
	}
	file := writeCases(t, dir, fmt.Sprintf(`cases:
- {name: relative to the file, set: {INPUT: {path: pictures}}, totals: {in: 4}}
- {name: absolute, set: {INPUT: %s/pictures}, totals: {in: 4}}
- {name: taken as it is, source: {path: "$${odd}"}, totals: {in: 1}}
`, dir))
	if got := failures(t, file, o); got != "" {
		t.Error(got)
	}
}

// --set is for the pipeline or for the file of cases: one that is for neither is a
// mistake.
func TestCasesUseVariables(t *testing.T) {
	dir, o := graded(t)
	text := "source: {path: \"${PLACE:-pictures}\"}\nset: {LEAST: 50}\ncases:\n- {name: x, totals: {rejected: 3}}\n" +
		"- {name: own, set: {LEAST: 20}, totals: {rejected: 2}}\n- {name: not needed, set: {INPUT: x}, totals: {in: 5}}\n"
	file := writeCases(t, dir, text)
	if got := failures(t, file, o); got != "" {
		t.Error(got)
	}
	for _, tt := range []struct{ name, value, want string }{
		{"PLACE", "nowhere", "looking for the input: stat " + dir + "/nowhere: no such file or directory"},
		{"OUT", filepath.Join(t.TempDir(), "elsewhere"), ""},
		{"LEAST", "11", ""}, // what the file sets comes first
		{"PLAICE", "x", dir + "/curate.yaml:1:1: --set gives PLAICE, but the pipeline has no ${PLAICE}"},
	} {
		o.Vars.Set = map[string]string{tt.name: tt.value}
		cases, err := pipeline.LoadCases(t.Context(), file, o)
		if tt.want == "" {
			if err != nil || len(cases) != 3 {
				t.Errorf("%s: %v", tt.name, err)
			} else if got := failures(t, file, o); got != "" {
				t.Errorf("%s: %s", tt.name, got)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}

func TestCasesOfWhatIsNoFile(t *testing.T) {
	dir, o := graded(t)
	for _, tt := range []struct {
		name string
		make func(file string) error
		want string
	}{
		{"nothing", func(string) error { return nil }, "no such file or directory"},
		{"a folder", func(file string) error { return os.Mkdir(file, 0o777) }, "it is not a regular file"},
		{"a link to a device", func(file string) error { return os.Symlink("/dev/zero", file) }, "it is not a regular file"},
		{"a huge file", func(file string) error {
			return os.WriteFile(file, []byte("cases: []\n"+strings.Repeat("# much\n", 1<<20)), 0o666)
		}, "1:1: the file has 7340042 bytes; a test file may have 1048576"},
		{"a bomb", func(file string) error {
			text := "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
			for c := 'b'; c <= 'h'; c++ {
				ref := "*" + string(c-1)
				text += string(c) + ": &" + string(c) + " [" + strings.Repeat(ref+", ", 9) + ref + "]\n"
			}
			return os.WriteFile(file, []byte(text), 0o666)
		}, "more than 100000 nodes"},
	} {
		file := filepath.Join(dir, strings.ReplaceAll(tt.name, " ", "-")+".test.yaml")
		if err := tt.make(file); err != nil {
			t.Fatal(err)
		}
		if _, err := pipeline.LoadCases(t.Context(), file, o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}

// A file of cases may say anything: what comes back is cases or problems with places,
// never a panic.
func FuzzLoadCases(f *testing.F) {
	examples, err := filepath.Glob("../pipelines/*.test.yaml")
	if err != nil || len(examples) == 0 {
		f.Fatal(examples, err)
	}
	for _, name := range examples {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add("cases: [{name: x, only: [], totals: , expect: [{}, x, {of: , output: , attributes: , count: {}}]}]")
	f.Add("cases: [{name: x, source: {path: a, every: {b: [c]}}, set: {A: , B: {path: }, C: {d: e}}, expect: {is: kept}}]")
	f.Add("pipeline: /dev/zero\nsource: \nset: [x]\ncases: {}\n")
	dir := f.TempDir()
	text := "source: {images: }\nstages:\n  - make:\n  - cut:\n"
	if err := os.WriteFile(filepath.Join(dir, "f.yaml"), []byte(text), 0o666); err != nil {
		f.Fatal(err)
	}
	file := filepath.Join(dir, "f.test.yaml")
	o := pipeline.Options{Registry: fakes()}
	f.Fuzz(func(t *testing.T, data string) {
		if err := os.WriteFile(file, []byte(data), 0o666); err != nil {
			t.Fatal(err)
		}
		cases, err := pipeline.LoadCases(t.Context(), file, o)
		if err == nil {
			if len(cases) == 0 {
				t.Fatal("neither cases nor an error")
			}
			return
		}
		var se *pipeline.SpecError
		if !errors.As(err, &se) || len(se.Problems) == 0 {
			t.Fatalf("not a list of problems: %v", err)
		}
		for _, p := range se.Problems {
			if p.File == "" || p.Line < 1 || p.Col < 1 || p.Message == "" {
				t.Fatalf("a problem without a place: %#v", p)
			}
		}
	})
}
