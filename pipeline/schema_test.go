package pipeline_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// A validator holds files against a schema, as editors do.
type validator struct {
	compiler *jsonschema.Compiler
	*jsonschema.Schema
}

func schemaOf(t *testing.T, r pipeline.Registry, strategies memory.Strategies) validator {
	t.Helper()
	data, err := r.Schema(strategies)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	v := validator{compiler: jsonschema.NewCompiler()}
	if err := v.compiler.AddResource("pipeline.json", doc); err != nil {
		t.Fatal(err)
	}
	v.Schema = v.part(t, "")
	return v
}

// part is the schema below a JSON pointer.
func (v validator) part(t *testing.T, pointer string) *jsonschema.Schema {
	t.Helper()
	s, err := v.compiler.Compile("pipeline.json#" + pointer)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// accepts says what is wrong with a file.
func (v validator) accepts(t *testing.T, file string) error {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(file), &doc); err != nil {
		t.Fatalf("%v in\n%s", err, file)
	}
	return v.Validate(asEditors(&doc))
}

var (
	yamlNull   = regexp.MustCompile(`^(null|Null|NULL|~|)$`)
	yamlBool   = regexp.MustCompile(`^(true|True|TRUE|false|False|FALSE)$`)
	yamlNumber = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)
	yamlBased  = regexp.MustCompile(`^0(o[0-7]+|x[0-9a-fA-F]+)$`)
)

// asEditors reads YAML by the core schema of YAML 1.2, as editors do, where the
// library that the loader uses has its own view of what a number is.
func asEditors(n *yaml.Node) any {
	switch n.Kind {
	case yaml.DocumentNode:
		return asEditors(n.Content[0])
	case yaml.AliasNode:
		return asEditors(n.Alias)
	case yaml.SequenceNode:
		list := []any{}
		for _, e := range n.Content {
			list = append(list, asEditors(e))
		}
		return list
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			m[n.Content[i].Value] = asEditors(n.Content[i+1])
		}
		return m
	}
	switch plain := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0; {
	case !plain:
		return n.Value
	case yamlNull.MatchString(n.Value):
		return nil
	case yamlBool.MatchString(n.Value):
		return strings.EqualFold(n.Value, "true")
	case yamlBased.MatchString(n.Value):
		i, _ := strconv.ParseInt(n.Value, 0, 64)
		return json.Number(strconv.FormatInt(i, 10))
	case yamlNumber.MatchString(n.Value):
		if f, err := strconv.ParseFloat(n.Value, 64); err == nil && !math.IsInf(f, 0) {
			return json.Number(strconv.FormatFloat(f, 'f', -1, 64))
		}
	}
	return n.Value
}

// load is what Load says, of what the machine has aside.
func load(t *testing.T, file string, o pipeline.Options) error {
	t.Helper()
	o.Unplaced = true
	_, err := pipeline.Load(t.Context(), "pipeline.yaml", []byte(file), o)
	var spec *pipeline.SpecError
	if errors.As(err, &spec) && !slices.ContainsFunc(spec.Problems, func(p pipeline.Problem) bool { return !p.Lacking }) {
		return nil
	}
	return err
}

// The example pipelines, and the examples of every stage and source.
func TestSchemaAcceptsExamples(t *testing.T) {
	r := standard.Registry()
	v := schemaOf(t, r, nil)
	files, err := filepath.Glob("../pipelines/*.yaml")
	files = slices.DeleteFunc(files, func(name string) bool { return strings.HasSuffix(name, ".test.yaml") }) // cases are no pipelines
	if err != nil || len(files) < 5 {
		t.Fatalf("%d pipelines, %v", len(files), err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.accepts(t, string(data)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, in := range slices.Concat(r.Sources(), r.Stages()) {
		d := in.Describe()
		for _, e := range d.Examples {
			file := "source: {images: {path: .}}\nstages:\n" + d.Snippet(e) + "\n"
			if d.Kind == "source" {
				file = d.Snippet(e) + "\nstages: [tile: {size: 512}]\n"
			}
			if err := v.accepts(t, file); err != nil {
				t.Errorf("%s: %v in\n%s", in.Name, err, file)
			}
		}
	}
}

// Every pipeline in the tests of the command and of lint that the loader accepts
// is one for the schema.
func TestSchemaAcceptsCorpus(t *testing.T) {
	r := standard.Registry()
	v := schemaOf(t, r, nil)
	var corpus []string
	scripts, err := filepath.Glob("../cmd/forgepipe/testdata/script/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range scripts {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			if filepath.Ext(f.Name) == ".yaml" {
				corpus = append(corpus, string(f.Data))
			}
		}
	}
	inFolder(t)
	accepted := 0
	for _, file := range corpus {
		o := pipeline.Options{Registry: r, Vars: pipeline.Vars{Env: func(name string) (string, bool) {
			if name == "OUT" {
				return "out", true
			}
			return "photos", true
		}}}
		if load(t, file, o) != nil {
			continue
		}
		accepted++
		if err := v.accepts(t, file); err != nil {
			t.Errorf("%v in\n%s", err, file)
		}
	}
	if accepted < 20 {
		t.Errorf("the loader accepts %d of %d", accepted, len(corpus))
	}
}

// Whatever stands behind any key: when the loader accepts it, so does the schema.
func TestSchemaAcceptsWhatLoadAccepts(t *testing.T) {
	fields := []pipeline.Field{
		{Name: "text", Type: pipeline.FieldString},
		{Name: "path", Type: pipeline.FieldPath},
		{Name: "whole", Type: pipeline.FieldInt, Min: 1, Max: 10},
		{Name: "below", Type: pipeline.FieldInt, Min: -5},
		{Name: "any", Type: pipeline.FieldInt},
		{Name: "number", Type: pipeline.FieldFloat, Max: 1},
		{Name: "flag", Type: pipeline.FieldBool},
		{Name: "size", Type: pipeline.FieldSize},
		{Name: "share", Type: pipeline.FieldShare},
		{Name: "time", Type: pipeline.FieldDuration},
		{Name: "word", Type: pipeline.FieldEnum, Enum: []string{"a", "b", "4", "true"}},
		{Name: "condition", Type: pipeline.FieldExpr},
		{Name: "list", Type: pipeline.FieldStrings},
		{Name: "words", Type: pipeline.FieldStrings, Enum: []string{"a", "b", "4", "true"}},
		{Name: "choices", Type: pipeline.FieldChoices, Choices: []pipeline.Choice{
			{Name: "a", Doc: "With options.", Fields: []pipeline.Field{{Name: "n", Type: pipeline.FieldInt, Max: 9, Doc: "A number."}}},
			{Name: "b", Doc: "Without."},
		}},
	}
	for i := range fields {
		fields[i].Doc = "A field."
	}
	required := slices.Clone(fields)
	for i := range required {
		required[i].Required = true
	}
	r := pipeline.NewRegistry(
		pipeline.Info{Name: "s", Short: "A stage.", Fields: fields, New: newNothing},
		pipeline.Info{Name: "bare", Short: "A stage without fields.", New: newNothing},
		pipeline.Info{Name: "o", Short: "A source.", NewSource: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Source, error) {
			return noItems{}, nil
		}},
	)
	for _, f := range required {
		r = r.With(pipeline.Info{Name: "needs_" + f.Name, Short: "A stage.", Fields: []pipeline.Field{f}, New: newNothing})
	}
	v, o := schemaOf(t, r, nil), pipeline.Options{Registry: r}

	var places []string // where %s stands for the value
	var keys func(before, after string, all []pipeline.Key)
	keys = func(before, after string, all []pipeline.Key) {
		for _, k := range all {
			if k.Name == "source" || k.Name == "stages" {
				continue
			}
			places = append(places, before+k.Name+": %s"+after+"\nsource: {o: }\nstages: [bare: ]\n")
			keys(before+k.Name+": {", "}"+after, k.Keys)
		}
	}
	keys("", "", pipeline.FileKeys())
	for _, k := range pipeline.EntryKeys() {
		places = append(places,
			"source: {o: }\nstages: [{bare: , "+k.Name+": %s}]\n",
			"source: {o: , "+k.Name+": %s}\nstages: [bare: ]\n")
	}
	for _, f := range fields {
		places = append(places,
			"source: {o: }\nstages: [s: {"+f.Name+": %s}]\n",
			"source: {o: }\nstages: [needs_"+f.Name+": {"+f.Name+": %s}]\n")
	}
	places = append(places, "source: %s\nstages: [bare: ]\n", "source: {o: %s}\nstages: [bare: ]\n", "source: {o: }\nstages: %s\n",
		"source: {o: }\nstages: [%s]\n", "source: {o: }\nstages: [s: %s]\n", "source: {o: }\nstages: [s: {choices: {a: %s}}]\n", "source: {o: }\nstages: [s: {choices: {a: {n: %s}}}]\n")

	values := strings.Split(`0|1|5|10|11|-1|-5|+5|05|1.5|.5|5.|1e3|1E-1|0x10|0o7|1_0|60%|12.5%|.5%|100%|100.0%|0100%|101%|' 5 % '|512MiB|1.5 gb|0B|5B|5 b|1KB|`+
		`30s|1h30m|-5s|+5s|1.5ms|.5s|5us|'5µs'|0s|a|b|4|true|false|True|yes|null|~||''|' '|'5'|' 5 '|'0'|'+5'|'true'|' true '|'a'|'4'|`+
		`"${X:-5}"|"${X:-a}"|"${X:-60%}"|"${X:-true}"|"$${"|[]|[a]|[a, b]|[4, true]|[null]|['a', "${X:-b}"]|[[a]]|{}|{a: }|{a: {}}|{a: {n: 5}}|{a: {n: 50}}|[a, {b: {}}]|[{b: }]|{c: }|`+
		`source|x-1|A_b.c|gpu|gpu:0|gpu:00|sim:3|host|auto|quarantine|stop|adaptive|halving|share|pause|2024-01-01|1:30|.inf|.nan|1e400|{n: 5}|{bare: }|{o: }|[bare: ]|[{bare: }, {s: }]`, "|")
	accepted, refused := 0, 0
	for _, place := range places {
		for _, value := range values {
			if value == "' true '" && strings.Contains(place, "{word:") {
				continue // what Schema excepts
			}
			file := strings.Replace(place, "%s", value, 1)
			if load(t, file, o) != nil {
				refused++
				continue
			}
			accepted++
			if err := v.accepts(t, file); err != nil {
				t.Errorf("%v in\n%s", err, file)
			}
		}
	}
	if accepted < 500 || refused < 500 {
		t.Errorf("%d are accepted, %d refused", accepted, refused)
	}
}

type noItems struct{}

func (noItems) Emit(context.Context, func(pipeline.Input) error) error { return nil }

// A schema is of the registry, and of the strategies, that it is made for.
func TestSchemaIsOfTheRegistry(t *testing.T) {
	all := memory.StandardStrategies()
	all["mine"] = all[memory.Adaptive]
	r := standard.Registry().Without("tile")
	v, standardOnes := schemaOf(t, r, all), schemaOf(t, r, nil)
	const file = "memory: {strategy: mine}\nsource: {images: {path: .}}\nstages: [score: {metrics: laplacian}]\n"
	if err := v.accepts(t, file); err != nil {
		t.Error(err)
	}
	if standardOnes.accepts(t, file) == nil {
		t.Error("a strategy that there is not is accepted")
	}
	if v.accepts(t, "source: {images: {path: .}}\nstages: [tile: {size: 512}]\n") == nil {
		t.Error("a stage that there is not is accepted")
	}
	if schemaOf(t, pipeline.Registry{}, nil).accepts(t, "source: {id: x}\nstages: [id: x]\n") == nil {
		t.Error("an empty registry accepts something")
	}
}

// Defaults and examples are right where they stand.
func TestSchemaDefaultsAndExamples(t *testing.T) {
	data, err := standard.Registry().Schema(nil)
	if err != nil {
		t.Fatal(err)
	}
	var root any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&root); err != nil {
		t.Fatal(err)
	}
	v, found := schemaOf(t, standard.Registry(), nil), 0
	var walk func(pointer string, node any)
	walk = func(pointer string, node any) {
		m, ok := node.(map[string]any)
		if list, isList := node.([]any); isList {
			for i, e := range list {
				walk(fmt.Sprintf("%s/%d", pointer, i), e)
			}
		}
		if !ok {
			return
		}
		_, described := m["description"].(string)
		var values []any
		if described {
			if d, ok := m["default"]; ok {
				values = append(values, d)
			}
			if e, ok := m["examples"].([]any); ok {
				values = append(values, e...)
			}
		}
		for _, value := range values {
			found++
			if err := v.part(t, pointer).Validate(value); err != nil {
				t.Errorf("%s: %v: %v", pointer, value, err)
			}
		}
		for key, child := range m {
			if !described || key != "default" && key != "examples" {
				walk(pointer+"/"+key, child)
			}
		}
	}
	walk("", root)
	if found < 60 {
		t.Errorf("%d defaults and examples", found)
	}
}

// Editors say what a value should be, instead of a pattern that it does not match.
func TestSchemaSaysWhatIsWanted(t *testing.T) {
	data, err := standard.Registry().Schema(nil)
	if err != nil {
		t.Fatal(err)
	}
	type field struct{ PatternErrorMessage string }
	var doc struct {
		Properties struct {
			Stages struct {
				Items struct {
					Properties map[string]struct{ Properties map[string]field }
				}
			}
		}
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	stages := doc.Properties.Stages.Items.Properties
	for _, tt := range []struct{ stage, field, want string }{
		{"tile", "size", "wants a whole number"}, {"write", "overwrite", "wants true or false"}, {"filter", "keep", "must not be empty"}, {"write", "name", ""},
	} {
		if got := stages[tt.stage].Properties[tt.field].PatternErrorMessage; got != tt.want {
			t.Errorf("%s.%s: %q, want %q", tt.stage, tt.field, got, tt.want)
		}
	}
}

// An example that is no YAML, or of another stage, is an error of who declared it.
func TestSchemaOfWrongExamples(t *testing.T) {
	for _, tt := range []struct{ name, yaml, want string }{
		{"no YAML", "x: {a: ", "x: example 0: line 1: "},
		{"another stage", "y: {a: 1}", "x: example 0: it has no key x"},
	} {
		in := pipeline.Info{
			Name: "x", Short: "X.", Examples: []pipeline.Example{{Doc: "An example.", YAML: tt.yaml}},
			New: newNothing,
		}
		if _, err := pipeline.NewRegistry(in).Schema(nil); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
