package pipeline_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/pipeline"
)

// fakes is a registry with one source and a stage that has a field of each type.
func fakes() pipeline.Registry {
	return pipeline.NewRegistry(
		pipeline.Info{
			Name: "images", Short: "a source",
			Fields: []pipeline.Field{{Name: "path", Type: pipeline.FieldPath, Doc: "Where.", Required: true}},
			NewSource: func(_ context.Context, c pipeline.Config, _ pipeline.Env) (pipeline.Source, error) {
				if c.String("path") == "missing" {
					return nil, c.Errorf("path", 0, "there is no such folder")
				}
				return inputs(1), nil
			},
		},
		pipeline.Info{
			Name: "make", Short: "sets an attribute", Pure: true, Version: 1,
			Makes: func(pipeline.Config) []pipeline.Made {
				return []pipeline.Made{{Name: "made", Type: pipeline.TypeFloat}}
			},
			New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) { return pass, nil },
		},
		pipeline.Info{
			Name: "cut", Short: "derives", Derives: true,
			New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) { return cut("a"), nil },
		},
		pipeline.Info{
			Name: "every", Short: "has every field",
			Needs: func(c pipeline.Config) []string { return c.Strings("needs") },
			Fields: []pipeline.Field{
				{Name: "text", Type: pipeline.FieldString, Doc: "Text."},
				{Name: "count", Type: pipeline.FieldInt, Doc: "A count.", Min: 1, Max: 10, Unit: "px", Default: "5"},
				{Name: "ratio", Type: pipeline.FieldFloat, Doc: "A ratio.", Min: -1, Max: 1},
				{Name: "flag", Type: pipeline.FieldBool, Doc: "A flag."},
				{Name: "room", Type: pipeline.FieldSize, Doc: "Room.", Max: 1 << 30},
				{Name: "part", Type: pipeline.FieldShare, Doc: "A part."},
				{Name: "wait", Type: pipeline.FieldDuration, Doc: "A wait."},
				{Name: "mode", Type: pipeline.FieldEnum, Doc: "A mode.", Enum: []string{"drop", "partial"}, Default: "drop"},
				{Name: "keep", Type: pipeline.FieldExpr, Doc: "A condition."},
				{Name: "needs", Type: pipeline.FieldStrings, Doc: "Attributes."},
				{Name: "metrics", Type: pipeline.FieldStrings, Doc: "Metrics.", Enum: []string{"laplacian", "entropy"}},
				{Name: "by", Type: pipeline.FieldChoices, Doc: "Choices.", Choices: []pipeline.Choice{
					{Name: "bytes", Doc: "No options."},
					{Name: "hash", Doc: "An option.", Fields: []pipeline.Field{{Name: "bits", Type: pipeline.FieldInt, Doc: "Bits."}}},
				}},
			},
			New: func(_ context.Context, c pipeline.Config, _ pipeline.Env) (pipeline.Stage, error) {
				if i := strings.Index(c.String("keep"), "!!"); i >= 0 {
					return nil, c.Errorf("keep", i, "two exclamation marks")
				}
				return pass, nil
			},
		},
	)
}

// A file may say anything: what comes back is a pipeline or problems with
// places in the file, never a panic.
func FuzzLoad(f *testing.F) {
	examples, err := filepath.Glob("../pipelines/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range examples {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add("source: {images: {path: a}}\nstages:\n  - make:\n  - every: {needs: [made], room: 1MiB, keep: 'a'}\n")
	f.Add("source: {images: {path: a}}\nstages:\n  - every: {by: [bytes, {hash: {bits: 3}}, {hash: }, {}, [x]]}\n")
	f.Add("a: &a [*a]\n")
	f.Add("a: &a {b: 1}\nc: [*a, *a]\n<<: *a\n")
	f.Add("source: {images: {path: '${X:-y}'}}\nstages: [{make: }, {every: {count: 99}}]\nmemory: {host: {limit: 60%}}\n")
	o := pipeline.Options{Registry: fakes()}
	f.Fuzz(func(t *testing.T, data string) {
		p, err := pipeline.Load(t.Context(), "f.yaml", []byte(data), o)
		if err == nil {
			if p == nil {
				t.Fatal("neither a pipeline nor an error")
			}
			return
		}
		var se *pipeline.SpecError
		if !errors.As(err, &se) || len(se.Problems) == 0 {
			t.Fatalf("not a list of problems: %v", err)
		}
		for _, p := range se.Problems {
			if p.File != "f.yaml" || p.Line < 1 || p.Col < 1 || p.Message == "" {
				t.Fatalf("a problem without a place: %#v", p)
			}
		}
	})
}

func FuzzExpand(f *testing.F) {
	f.Add("a ${X} b", "x", "y")
	f.Add("${X:-d}${Y}$${Z}", "${Y}", "")
	f.Add("${", "", "")
	f.Fuzz(func(t *testing.T, text, x, y string) {
		v := pipeline.Vars{Set: map[string]string{"X": x, "Y": y}}
		got, err := v.Expand(text, nil)
		if err != nil {
			if !strings.Contains(text, "${") {
				t.Fatalf("%q has no variable and gives %v", text, err)
			}
			return
		}
		if !strings.Contains(text, "$") && got != text {
			t.Fatalf("%q became %q", text, got)
		}
		// What a variable holds is never expanded again.
		if one, err := v.Expand("${X}", nil); err != nil || one != x {
			t.Fatalf("${X} became %q, %v; want %q", one, err, x)
		}
	})
}

func FuzzID(f *testing.F) {
	f.Add("a/b.jpg")
	f.Add("a@b%c\xff\x00\n")
	f.Add("日本/ü@.png")
	f.Fuzz(func(t *testing.T, name string) {
		id := pipeline.EscapeID(name)
		if strings.Contains(id, "@") || !utf8.ValidString(id) || strings.ContainsAny(id, "\x00\n\x7f") {
			t.Fatalf("%q became %q", name, id)
		}
		back, err := pipeline.UnescapeID(id)
		if err != nil || back != name {
			t.Fatalf("%q became %q and came back as %q, %v", name, id, back, err)
		}
	})
}

// Whatever the template and the names: a name is safe or refused, and two
// different items do not get the same one.
func FuzzTemplate(f *testing.F) {
	f.Add(pipeline.DefaultTemplate, "a/b.jpg", "tile=512,0,0", "a/b2.jpg", "tile=512,512,0")
	f.Add("{hash}{ext}", "a.jpg", "", "b.jpg", "")
	f.Add("x/{dir}{stem}-{suffix}{ext}", "a.b.jpg", "k=1,2", "a.b.c.jpg", "k=1")
	f.Fuzz(func(t *testing.T, text, src1, lin1, src2, lin2 string) {
		tpl, err := pipeline.ParseTemplate(text, true)
		if err != nil {
			return
		}
		if strings.Contains(lin1+lin2, "@") || strings.Contains(src1+src2, "\x00") {
			return
		}
		for _, s := range []string{src1, src2} {
			if fsys.CheckName(s) != nil {
				return
			}
		}
		n1 := tpl.Name(pipeline.NameOf{Source: src1, Lineage: lin1, Ext: ".png"})
		if fsys.CheckName(n1) == nil && (strings.HasPrefix(n1, "/") || strings.Contains("/"+n1+"/", "/../")) {
			t.Fatalf("%q leaves the folder", n1)
		}
		if text != pipeline.DefaultTemplate {
			return
		}
		tile := func(l string) bool {
			return strings.HasPrefix(l, "tile=") && strings.Count(l, ",") == 2 && !strings.ContainsAny(l, "_x")
		}
		if !tile(lin1) || !tile(lin2) {
			return
		}
		n2 := tpl.Name(pipeline.NameOf{Source: src2, Lineage: lin2, Ext: ".png"})
		stem := func(s string) string { return strings.TrimSuffix(s, filepath.Ext(s)) }
		if n1 == n2 && stem(src1) != stem(src2) {
			t.Fatalf("%q %q and %q %q both become %q", src1, lin1, src2, lin2, n1)
		}
	})
}
