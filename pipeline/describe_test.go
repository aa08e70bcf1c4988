package pipeline_test

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

func newNothing(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
	return pipeline.Func(func(context.Context, *pipeline.Item) error { return nil }), nil
}

func TestDescribe(t *testing.T) {
	made := func(name string) pipeline.Made {
		return pipeline.Made{Name: name, Type: pipeline.TypeFloat, Doc: "What " + name + " is."}
	}
	path := pipeline.Field{Name: "path", Type: pipeline.FieldPath, Required: true, Doc: "A file.", Examples: []string{"a.onnx", "b.onnx"}}
	for _, tt := range []struct {
		name string
		info pipeline.Info
		want pipeline.Description // of what is made, needed and cached
	}{
		{"nothing", pipeline.Info{}, pipeline.Description{Cached: "never"}},
		{
			"the same whatever is configured",
			pipeline.Info{
				Makes: func(pipeline.Config) []pipeline.Made { return []pipeline.Made{made("m")} },
				Needs: func(pipeline.Config) []string { return []string{"n"} },
				Uses:  func(pipeline.Config) []string { return []string{"u"} },
				Pure:  true,
			},
			pipeline.Description{
				Makes: []pipeline.MadeDescription{{Name: "m", Type: "float64", Doc: "What m is."}}, Needs: []string{"n"}, Uses: []string{"u"}, Cached: "always",
			},
		},
		{
			"something for each word",
			pipeline.Info{
				Fields: []pipeline.Field{path, {Name: "by", Type: pipeline.FieldStrings, Required: true, Enum: []string{"a", "b"}, Doc: "Words."}},
				Makes: func(c pipeline.Config) []pipeline.Made {
					return []pipeline.Made{made("all"), made(c.Strings("by")[0])}
				},
			},
			pipeline.Description{
				Makes: []pipeline.MadeDescription{
					{Name: "all", Type: "float64", Doc: "What all is."}, {Name: "a", Type: "float64", Doc: "What a is.", With: "by: a"},
					{Name: "b", Type: "float64", Doc: "What b is.", With: "by: b"},
				},
				Cached: "never",
			},
		},
		{
			"something for each choice",
			pipeline.Info{
				Fields: []pipeline.Field{{Name: "by", Type: pipeline.FieldChoices, Doc: "Words.", Choices: []pipeline.Choice{{Name: "a", Doc: "A."}, {Name: "b", Doc: "B."}, {Name: "c", Doc: "C."}}}},
				Makes: func(c pipeline.Config) []pipeline.Made {
					if c.Choices("by")[0].Name == "b" {
						return nil
					}
					return []pipeline.Made{made("m")}
				},
			},
			pipeline.Description{Makes: []pipeline.MadeDescription{{Name: "m", Type: "float64", Doc: "What m is.", With: "by: a, by: c"}}, Cached: "never"},
		},
		{
			"a vector that is named after a file",
			pipeline.Info{
				Fields: []pipeline.Field{path},
				Makes: func(c pipeline.Config) []pipeline.Made {
					return []pipeline.Made{{Name: c.String("path"), Vector: true, Doc: "A vector."}}
				},
			},
			pipeline.Description{With: "path: a.onnx", Makes: []pipeline.MadeDescription{{Name: "a.onnx", Type: "vector", Doc: "A vector."}}, Cached: "never"},
		},
		{
			"nothing, though there is an example",
			pipeline.Info{Fields: []pipeline.Field{path}},
			pipeline.Description{Cached: "never"},
		},
		{
			"cached with some words",
			pipeline.Info{
				Fields: []pipeline.Field{path,
					{Name: "pick", Type: pipeline.FieldEnum, Enum: []string{"x", "y", "z"}, Default: "x", Doc: "A word."},
					{Name: "other", Type: pipeline.FieldEnum, Enum: []string{"p", "q"}, Default: "p", Doc: "A word."},
					{Name: "flag", Type: pipeline.FieldBool, Doc: "A flag."}},
				Pure:   true,
				PureIf: func(c pipeline.Config) bool { return c.String("pick") != "x" || c.Bool("flag") },
			},
			pipeline.Description{Cached: "sometimes", CachedWith: []string{"pick: y", "pick: z", "flag: true"}},
		},
	} {
		tt.info.Name, tt.info.Short, tt.info.New = "s", "A stage.", newNothing
		d := tt.info.Describe()
		got := pipeline.Description{With: d.With, Makes: d.Makes, Needs: d.Needs, Uses: d.Uses, Cached: d.Cached, CachedWith: d.CachedWith}
		for _, list := range []*[]string{&tt.want.Needs, &tt.want.Uses} {
			if *list == nil {
				*list = []string{} // in JSON a list
			}
		}
		if tt.want.Makes == nil {
			tt.want.Makes = []pipeline.MadeDescription{}
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", tt.name, got, tt.want)
		}
	}
}

func TestDescribeField(t *testing.T) {
	for _, tt := range []struct {
		name  string
		field pipeline.Field
		want  string
	}{
		{"a range with a unit", pipeline.Field{Type: pipeline.FieldInt, Unit: "px", Min: 16, Max: 65535}, "a whole number from 16 to 65535 px"},
		{"a range from 0", pipeline.Field{Type: pipeline.FieldFloat, Max: 1}, "a number from 0 to 1"},
		{"no upper end", pipeline.Field{Type: pipeline.FieldInt, Min: 2, Unit: "px"}, "a whole number from 2 px on"},
		{"sizes", pipeline.Field{Type: pipeline.FieldSize, Min: 1 << 20, Max: 1 << 30}, "a size (512MiB) from 1 MiB to 1 GiB"},
		{"no range", pipeline.Field{Type: pipeline.FieldPath}, "a path"},
		{"words", pipeline.Field{Type: pipeline.FieldEnum, Enum: []string{"a", "b"}}, "a, b"},
		{"a list of words", pipeline.Field{Type: pipeline.FieldStrings, Enum: []string{"a", "b"}}, "one or a list of a, b"},
		{"a list", pipeline.Field{Type: pipeline.FieldStrings}, "a list of text"},
		{"choices", pipeline.Field{Type: pipeline.FieldChoices, Choices: []pipeline.Choice{{Name: "a"}, {Name: "b"}}}, "one or a list of a, b"},
	} {
		if got := tt.field.Describe().Values; got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestFind(t *testing.T) {
	r := pipeline.NewRegistry(
		pipeline.Info{Name: "tile", Short: "A stage.", New: newNothing},
		pipeline.Info{Name: "both", Short: "A stage.", New: newNothing},
		pipeline.Info{Name: "both", Short: "A source.", NewSource: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Source, error) { return nil, nil }},
	)
	found, err := r.Find("both")
	if err != nil || len(found) != 2 || found[0].Describe().Kind != "source" || found[1].Describe().Kind != "stage" {
		t.Errorf("both: %v, %v", found, err)
	}
	for name, want := range map[string]string{
		"tyle": `there is no stage or source "tyle"; did you mean "tile"?`,
		"boht": `there is no stage or source "boht"; did you mean "both"?`,
		"xyz1": `there is no stage or source "xyz1"`,
	} {
		if _, err := r.Find(name); err == nil || err.Error() != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The ranges that keys tell are those that the loader holds to, and their
// defaults and examples are right.
func TestKeysTellTheTruth(t *testing.T) {
	r := pipeline.NewRegistry(
		pipeline.Info{Name: "bare", Short: "A stage.", New: newNothing},
		pipeline.Info{Name: "o", Short: "A source.", NewSource: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Source, error) { return noItems{}, nil }},
	)
	check := func(k pipeline.Key, file string) {
		right := slices.Concat(k.Examples, k.Enum)
		var wrong []string
		if k.Default != "" {
			right = append(right, k.Default)
		}
		if k.Max > 0 {
			d := k.Describe()
			right = append(right, number(*d.Min), number(*d.Max))
			wrong = append(wrong, number(*d.Min-1), number(*d.Max+1))
		}
		if k.Enum != nil {
			wrong = append(wrong, k.Enum[0]+"x")
		}
		parse := func(value string) error {
			return load(t, strings.Replace(file, "%s", value, 1), pipeline.Options{Registry: r})
		}
		for _, value := range right {
			if err := parse(value); err != nil {
				t.Errorf("%s: %s is refused: %v", k.Name, value, err)
			}
		}
		for _, value := range wrong {
			if parse(value) == nil {
				t.Errorf("%s: %s is accepted", k.Name, value)
			}
		}
	}
	var all func(before, after string, keys []pipeline.Key)
	count := 0
	all = func(before, after string, keys []pipeline.Key) {
		for _, k := range keys {
			if k.Required {
				continue // source and stages
			}
			count++
			if k.Keys == nil {
				check(k, before+k.Name+": %s"+after+"\nsource: {o: }\nstages: [bare: ]\n")
			}
			all(before+k.Name+": {", "}"+after, k.Keys)
		}
	}
	all("", "", pipeline.FileKeys())
	if count != 13 {
		t.Errorf("there are %d keys", count)
	}
	for _, k := range pipeline.EntryKeys() {
		check(k, "source: {o: }\nstages: [{bare: , "+k.Name+": %s}]\n")
	}
}

// number writes a bound.
func number(v float64) string { return pipeline.Int(int64(v)).String() }

// The attributes that are described are those that items have.
func TestBuiltinAttributes(t *testing.T) {
	var names []string
	for _, m := range pipeline.BuiltinAttributes() {
		names = append(names, m.Name)
	}
	slices.Sort(names)
	if want := slices.Sorted(maps.Keys(pipeline.Builtins())); !slices.Equal(names, want) {
		t.Errorf("described %q, there are %q", names, want)
	}
}

// A page tells of every stage what it makes, with the names that it has.
func TestDescribeStandard(t *testing.T) {
	for stage, want := range map[string]string{
		"score":  "laplacian float64 metrics: laplacian",
		"hash":   "pdq_quality int64 by: pdq",
		"dedup":  "pixels_sha256 hash by: pixels",
		"embed":  "clip-vit-b32 vector ",
		"filter": "needs laplacian with keep: laplacian >= 4",
		"tile":   "cached pick: best",
	} {
		in, _ := standard.Registry().Stage(stage)
		d := in.Describe()
		said := []string{"needs " + strings.Join(d.Needs, ",") + " with " + d.With, "cached " + strings.Join(d.CachedWith, ",")}
		for _, m := range d.Makes {
			said = append(said, m.Name+" "+m.Type+" "+m.With)
		}
		if !slices.Contains(said, want) {
			t.Errorf("%s: %q, want %q among them", stage, said, want)
		}
	}
}

// An example without a description or without YAML is a bug of the declaration.
func TestExamplesAreWhole(t *testing.T) {
	for _, e := range []pipeline.Example{{Doc: "A sentence."}, {YAML: "s: {}"}} {
		func() {
			defer func() {
				if p := recover(); p != "BUG: s: example 0 needs a description and YAML" {
					t.Errorf("%+v: %v", e, p)
				}
			}()
			pipeline.NewRegistry(pipeline.Info{Name: "s", Short: "A stage.", New: newNothing, Examples: []pipeline.Example{e}})
		}()
	}
}
