package filter_test

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/filter"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/standard"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func keep(condition string) stagetest.Step {
	return stagetest.Step{Info: filter.Info(), Values: map[string]any{"keep": condition}}
}

// set is a stage that gives every item these attributes, and declares them.
func set(attrs ...pipeline.Attribute) stagetest.Step {
	var made []pipeline.Made
	for _, a := range attrs {
		made = append(made, pipeline.Made{Name: a.Name, Type: a.Value.Type()})
	}
	return stagetest.Step{Info: pipeline.Info{
		Name: "set", Short: "Sets attributes.", Makes: func(pipeline.Config) []pipeline.Made { return made },
		New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
			return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
				for _, a := range attrs {
					if a.Value.Type() != pipeline.TypeNone {
						it.SetAttr(a.Name, a.Value)
					}
				}
				return nil
			}), nil
		},
	}}
}

var attributes = []pipeline.Attribute{
	{Name: "sharp", Value: pipeline.Float(4.5)}, {Name: "whole", Value: pipeline.Float(2)}, {Name: "n", Value: pipeline.Int(7)},
	{Name: "ok", Value: pipeline.Bool(true)}, {Name: "label", Value: pipeline.String("cat's <b>")}, {Name: "pdq", Value: pipeline.Hash([]byte{0xab, 0x01})},
	{Name: "nan", Value: pipeline.Float(math.NaN())}, {Name: "big", Value: pipeline.Int(math.MaxInt64)}, {Name: "dino.v2.score", Value: pipeline.Float(0.5)},
}

func picture() stagetest.Source {
	return stagetest.Source{stagetest.Picture("dir/p.png", image.NewGray(image.Rect(0, 0, 30, 20)))}
}

func TestConditions(t *testing.T) {
	tests := []struct {
		condition string
		want      bool
	}{
		{"sharp >= 4", true}, {"sharp > 4.5", false}, {"sharp >= 4 && n < 10", true}, {"sharp < 4 || ok", true}, {"not ok", false}, {"!ok or n == 7", true},
		{"n == 7", true}, {"n == 7.0", true}, {"n >= 6.5", true}, {"whole == 2", true}, {"whole == n - 5", true}, {"n / 2 == 3.5", true}, {"n % 2 == 1", true},
		{"n in [1, 7]", true}, {"n in [1, 2]", false}, {"whole in [1, 2]", true}, {"n not in [7]", false}, {"sharp in [4.5]", true}, {"n in [7.0]", true},
		{"big > 9223372036854775806", true}, {"big == 9223372036854775807", true},
		{`label == "cat's <b>"`, true}, {`label contains "<b>"`, true}, {`label startsWith "dog"`, false}, {`label matches "^c.t"`, true},
		{`label in ["a", "cat's <b>"]`, true}, {`lower(label) == upper(label)`, false}, {`len(label) == 9`, true},
		{`pdq == "ab01"`, true}, {`pdq startsWith "ab"`, true},
		{"width == 30 && height == 20 && pixels == 600", true}, {"source.width == 30", true}, {`source.path startsWith "dir/"`, true}, {`source.path == "dir/p.png"`, true},
		{"dino.v2.score < 0.6", true}, {`source["width"] > source.height`, true},
		{"nan > 1", false}, {"nan < 1", false}, {"nan == nan", false},
		{"width > height ? sharp > 4 : false", true}, {"if ok { n > 1 } else { n > 10 }", true}, {"abs(-sharp) == 4.5", true}, {"max(n, sharp) == 7", true}, {"round(sharp) == 5", true},
		{"1 < n < 3", false}, {"true", true}, {"2 ** 3 == 8.0 and ok", true}, {"n | abs() == 7", true},
	}
	for _, tt := range tests {
		t.Run(tt.condition, func(t *testing.T) {
			b := stagetest.New(t, picture(), set(attributes...), keep(tt.condition))
			s, seen := b.Run(t, pipeline.RunOptions{})
			if s.Quarantined != 0 {
				t.Fatalf("failed: %v", s.Failed)
			}
			if got := len(seen) == 1; got != tt.want {
				t.Errorf("kept %t, want %t", got, tt.want)
			}
		})
	}
}

func TestRejectionSaysWhy(t *testing.T) {
	b := stagetest.New(t, picture(), set(attributes...), keep("sharp >= 5 &&\n  n > source.width || sharp > 9"))
	s, _ := b.Run(t, pipeline.RunOptions{})
	reason := "sharp >= 5 && n > source.width || sharp > 9"
	if s.Rejected["filter1"][reason] != 1 {
		t.Errorf("rejected %v", s.Rejected)
	}
	if got, want := b.Messages(pipeline.EventRejected)["dir/p.png"], reason+": sharp 4.5, n 7, source.width 30"; got != want {
		t.Errorf("event %q, want %q", got, want)
	}
}

func TestItemsThatFail(t *testing.T) {
	tests := map[string]struct {
		attrs     []pipeline.Attribute
		condition string
		want      string
	}{
		// Declared, and not set on the item.
		"missing":              {[]pipeline.Attribute{{Name: "sharp"}}, "sharp > 1", "the item has no attribute sharp"},
		"missing but not read": {[]pipeline.Attribute{{Name: "sharp"}}, "width > 1 || sharp > 1", "the item has no attribute sharp"},
		"division by zero":     {[]pipeline.Attribute{{Name: "zero", Value: pipeline.Int(0)}}, "width % zero == 1", "integer divide by zero"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, seen := stagetest.New(t, picture(), set(tt.attrs...), keep(tt.condition)).Run(t, pipeline.RunOptions{})
			if len(seen) != 0 || s.Quarantined != 1 || !strings.Contains(s.Failed[0].Cause, tt.want) {
				t.Errorf("seen %d, failed %v, want %q", len(seen), s.Failed, tt.want)
			}
		})
	}
}

func TestAfterAStageThatDeclaresNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		condition, failure string
		kept               int
	}{
		"a number":         {"secret > 3", "", 1},
		"dotted":           {"my.secret > 3", "", 1},
		"not a condition":  {"secret", "evaluating secret", 0},
		"not there":        {"other > 3", "no attribute other", 0},
		"of another type":  {`secret startsWith "a"`, "evaluating", 0},
		"no text to match": {`secret matches "a"`, "evaluating", 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := stagetest.New(t, picture())
			err := b.Add(pipeline.Step{ID: "undeclared", Stage: pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
				it.SetAttr("secret", pipeline.Float(4))
				it.SetAttr("my.secret", pipeline.Float(4))
				return nil
			})})
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Use(t.Context(), pipeline.NewRegistry(filter.Info()), "filter", "filter", map[string]any{"keep": tt.condition}); err != nil {
				t.Fatal(err)
			}
			s, seen := b.Run(t, pipeline.RunOptions{})
			if len(seen) != tt.kept || (tt.failure != "") != (s.Quarantined == 1) || tt.failure != "" && !strings.Contains(s.Failed[0].Cause, tt.failure) {
				t.Errorf("kept %d, failed %v, want %d and %q", len(seen), s.Failed, tt.kept, tt.failure)
			}
		})
	}
}

func TestWrongConditionsAndWhere(t *testing.T) {
	tests := map[string]struct {
		condition string
		offset    int // characters
		want      string
	}{
		"unknown name":           {"width > 3 && laplasian > 4", 13, `no stage before this one makes the attribute "laplasian"; did you mean "laplacian"?`},
		"unknown part":           {"source.widht > 4", 0, `"source.widht"; did you mean "source.width"?`},
		"behind other letters":   {`source.path == "ä€😀" && wdth > 1`, 24, `did you mean "width"?`},
		"part of a number":       {"width.x > 1", 0, `"width.x"`},
		"syntax":                 {"width >", 6, "unexpected token EOF"},
		"syntax in the middle":   {"width > > 3", 8, "unexpected token"},
		"types":                  {`height > 1 && width > "a"`, 20, "mismatched types int and string"},
		"bool and number":        {"laplacian == true", 10, "mismatched types float64 and bool"},
		"no condition":           {"width + 1", 0, "expected bool, but got int"},
		"empty":                  {"  ", 0, "must not be empty"},
		"a range":                {"width in 1..3000000", 10, "ranges are not possible"},
		"a loop":                 {"width > 1 && any([1, 2], # > 1)", 13, "there is no function any"},
		"the clock":              {"now() > date(\"2020-01-01\")", 0, "there is no function now"},
		"a long text":            {`repeat("a", 999999999) == "b"`, 0, "there is no function repeat"},
		"another spelling of it": {`"a" | repeat(999999999) == "b"`, 6, "there is no function repeat"},
		"a hidden function":      {`::now() == 1`, 2, "there is no function now"},
		"a method":               {"source.width() > 1", 0, "there is no function source.width"},
		"the environment":        {`$env["width"] > 1`, 0, "only attributes have parts"},
		"a computed name":        {`source["wid" + "th"] > 1`, 0, "only attributes have parts"},
		"an index":               {"width[0] > 1", 0, "only attributes have parts"},
		"a variable":             {"let x = 1; x > width", 4, "a condition may hold"},
		"a sequence":             {"true; width > 1", 0, "a condition may hold"},
		"nothing":                {"width == nil", 9, "a condition may hold"},
		"a pattern":              {`source.path matches "(a"`, 20, "missing closing )"},
		"a computed pattern":     {`"a" matches source.path`, 12, "must be a text in quotes"},
		"a huge pattern":         {`source.path matches "` + strings.Repeat("(a?){900}", 20) + `"`, 20, "the pattern is too large"},
		"too long":               {strings.Repeat("true && ", 600) + "true", 0, "the limit is 4096"},
		"too many parts":         {strings.Repeat("1+", 1500) + "1 > 0", -1, "maximum allowed nodes"},
		"too deep":               {strings.Repeat("(", 1500) + "1" + strings.Repeat(")", 1500), 0, "expected bool"},
		"a wrong function":       {"abss(width) > 1", 0, `did you mean "abs"?`},
		"not enough arguments":   {"abs() > 1", 0, "expected 1, got 0"},
	}
	measure := set(pipeline.Attribute{Name: "laplacian", Value: pipeline.Float(1)})
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			err := stagetest.Err(t, keep(tt.condition), measure)
			var fe *pipeline.FieldError
			if !errors.As(err, &fe) || fe.Field != "keep" || !strings.Contains(fe.Err.Error(), tt.want) || strings.Contains(fe.Err.Error(), "\n") {
				t.Fatalf("error %v, want one about keep with %q", err, tt.want)
			}
			if fe.Offset != tt.offset && tt.offset >= 0 {
				t.Errorf("offset %d, want %d: %v", fe.Offset, tt.offset, err)
			}
			if d := time.Since(began); d > 2*time.Second {
				t.Errorf("it took %v to refuse", d)
			}
		})
	}
}

// In a pipeline file the place is that of the fault, not of the stage.
func TestPlaceInTheFile(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"plain":   {"keep: laplacian > 4 && widht > 3", "p.yaml:5:35: stage filter: keep: no stage before this one makes the attribute \"widht\""},
		"quoted":  {`keep: "laplacian > 4 && widht > 3"`, "p.yaml:5:36: stage filter: keep: no stage"},
		"at once": {`keep: "laplasian > 4"`, "p.yaml:5:18: stage filter: keep: no stage"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			yaml := "source:\n  images: {path: .}\nstages:\n- score: {metrics: [laplacian]}\n- filter: {" + tt.text + "}\n"
			_, err := pipeline.Load(t.Context(), "p.yaml", []byte(yaml), pipeline.Options{Registry: standard.Registry()})
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Count(err.Error(), "\n") != 0 {
				t.Errorf("error %v\nwant  %s", err, tt.want)
			}
		})
	}
}

func TestNeeds(t *testing.T) {
	tests := map[string][]string{
		"laplacian > 4 && source.width > 3 || laplacian > 9": {"laplacian", "source.width"},
		"max(a, b.c.d) in [e, 1]":                            {"a", "b.c.d", "e"},
		"x ? y : z":                                          {"x", "y", "z"},
		"true":                                               {},
		"width >":                                            nil,
	}
	for condition, want := range tests {
		c, err := pipeline.NewConfig(filter.Info(), map[string]any{"keep": condition})
		if err != nil {
			t.Fatal(err)
		}
		if got := filter.Info().Needs(c); !slices.Equal(got, want) {
			t.Errorf("%s needs %q, want %q", condition, got, want)
		}
	}
}

func FuzzCondition(f *testing.F) {
	for _, s := range []string{"width > 1", "source.path matches \"a\"", "[1,2] | max() > 1", "a?.b", "#", "1..2", "let a = 1; a", "\"\\u{110000}\" == label"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, condition string) {
		c, err := pipeline.NewConfig(filter.Info(), map[string]any{"keep": condition})
		if err != nil {
			return
		}
		filter.Info().Needs(c)
		began := time.Now()
		if _, err := filter.Info().New(t.Context(), c, pipeline.Env{Attributes: pipeline.Builtins()}); err != nil {
			var fe *pipeline.FieldError
			if !errors.As(err, &fe) || fe.Offset < 0 || fe.Offset > len([]rune(condition)) {
				t.Errorf("error without a place in the text: %#v", err)
			}
		}
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

func BenchmarkFilter(b *testing.B) {
	c, err := pipeline.NewConfig(filter.Info(), map[string]any{"keep": "laplacian >= 4 && width < 3000 || source.width < 1"})
	if err != nil {
		b.Fatal(err)
	}
	stage, err := filter.Info().New(b.Context(), c, pipeline.Env{Attributes: pipeline.Builtins(), Undeclared: true})
	if err != nil {
		b.Fatal(err)
	}
	// The stage alone, on items that a pipeline has made.
	done := false
	p := pipeline.New("", pipeline.Options{})
	in := make(stagetest.Source, 64)
	for i := range in {
		in[i] = stagetest.Picture(fmt.Sprint(i), image.NewGray(image.Rect(0, 0, 4, 4)))
	}
	p.SetSource(in)
	if err := p.Add(pipeline.Step{ID: "bench", Batch: 64, Workers: 1, Stage: process(func(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
		for _, it := range batch {
			it.SetAttr("laplacian", pipeline.Float(5))
		}
		if done { // one batch is enough
			return batch, nil
		}
		done = true
		b.ResetTimer()
		for i := 0; i < b.N; i += len(batch) {
			if out, err := stage.Process(ctx, batch); err != nil || len(out) != len(batch) {
				b.Fatal(err, len(out))
			}
		}
		b.StopTimer()
		return batch, nil
	})}); err != nil {
		b.Fatal(err)
	}
	if _, err := p.Run(b.Context(), pipeline.RunOptions{NoStore: true}); err != nil {
		b.Fatal(err)
	}
}

type process func(context.Context, []*pipeline.Item) ([]*pipeline.Item, error)

func (f process) Process(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	return f(ctx, batch)
}
