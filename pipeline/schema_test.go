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

// base has all kinds of keys. Those who use it are in a folder of their own.
const base = `name: base
memory: {host: {limit: 60%}, gpu: {headroom: 512MiB, when_busy: share}, strategy: adaptive}
limits: {pixels: 1000000, file_bytes: 1GiB}
on_error: quarantine
max_failed: 5%
source:
  images: {path: photos, recursive: true, sidecars: [.txt]}
stages:
  - tile: {size: 512, pick: best, by: laplacian, count: 4, threshold: 4.5}
  - score: {metrics: [laplacian, blockiness]}
  - id: keep
    workers: 2
    batch: 4
    device: host
    on_error: stop
    filter: {keep: "laplacian >= 4"}
  - dedup: {by: [sha256, {pdq: {max_distance: 20}}], prefer: [pixels, -source.bytes]}
  - write: {path: out, format: png, level: 1, overwrite: false}
  - manifest: {path: out/manifest.jsonl, vectors: false}
`

// changed is base with one part replaced.
func changed(t *testing.T, from, to string) string {
	t.Helper()
	if strings.Count(base, from) != 1 {
		t.Fatalf("%q stands %d times in the base", from, strings.Count(base, from))
	}
	return strings.Replace(base, from, to, 1)
}

func inFolder(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.Mkdir("photos", 0o777); err != nil {
		t.Fatal(err)
	}
}

// What the schema refuses is wrong, and the loader says so too.
func TestSchemaRefuses(t *testing.T) {
	v, o := schemaOf(t, standard.Registry(), nil), pipeline.Options{Registry: standard.Registry()}
	inFolder(t)
	if err := errors.Join(load(t, base, o), v.accepts(t, base)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, from, to string }{
		{"unknown key", "name: base", "nam: base"},
		{"name is a list", "name: base", "name: [base]"},
		{"name is empty", "name: base", "name:"},
		{"memory is a list", "memory: {host: {limit: 60%}, gpu: {headroom: 512MiB, when_busy: share}, strategy: adaptive}", "memory: [60%]"},
		{"unknown key of memory", "strategy: adaptive", "tactics: adaptive"},
		{"unknown key of host", "{limit: 60%}", "{limit: 60%, reserve: 1GiB}"},
		{"unknown key of gpu", "headroom:", "headrom:"},
		{"share above 100%", "60%", "160%"},
		{"limit without a unit", "60%", "400"},
		{"limit with a wrong unit", "60%", "40X"},
		{"limit is a bool", "60%", "true"},
		{"limit is below zero", "60%", "-5GiB"},
		{"headroom without a unit", "512MiB", "512"},
		{"headroom with a wrong unit", "512MiB", "512MX"},
		{"headroom is a list", "512MiB", "[512MiB]"},
		{"headroom is a share", "512MiB", "10%"},
		{"unknown word of when_busy", "when_busy: share", "when_busy: yeild"},
		{"unknown strategy", "strategy: adaptive", "strategy: adaptiv"},
		{"strategy is a list", "strategy: adaptive", "strategy: [adaptive]"},
		{"no pixels", "pixels: 1000000", "pixels: 0"},
		{"too many pixels", "pixels: 1000000", "pixels: 2000000000000"},
		{"pixels in words", "pixels: 1000000", "pixels: many"},
		{"a fraction of pixels", "pixels: 1000000", "pixels: 1.5"},
		{"file_bytes without a unit", "1GiB", "1000"},
		{"limits is a number", "limits: {pixels: 1000000, file_bytes: 1GiB}", "limits: 5"},
		{"unknown key of limits", "file_bytes:", "bytes:"},
		{"unknown word of on_error", "on_error: quarantine", "on_error: explode"},
		{"max_failed in words", "max_failed: 5%", "max_failed: some"},
		{"max_failed is 0", "max_failed: 5%", "max_failed: 0"},
		{"max_failed is below 0", "max_failed: 5%", "max_failed: -5"},
		{"max_failed above 100%", "max_failed: 5%", "max_failed: 150%"},
		{"no source", "source:\n  images: {path: photos, recursive: true, sidecars: [.txt]}\n", ""},
		{"source without a value", "source:\n  images: {path: photos, recursive: true, sidecars: [.txt]}\n", "source:\n"},
		{"source is a word", "source:\n  images: {path: photos, recursive: true, sidecars: [.txt]}\n", "source: photos\n"},
		{"source is a list", "  images: {path: photos", "  - images: {path: photos"},
		{"unknown source", "images:", "image:"},
		{"a stage as a source", "images: {path: photos, recursive: true, sidecars: [.txt]}", "tile: {size: 512}"},
		{"two sources", "sidecars: [.txt]}", "sidecars: [.txt]}\n  pairs: {hq: a, lq: b, scale: 2}"},
		{"a source without a name", "images: {path: photos, recursive: true, sidecars: [.txt]}", "id: x"},
		{"unknown field of a source", "recursive:", "recurse:"},
		{"recursive in words", "recursive: true", "recursive: perhaps"},
		{"recursive is yes", "recursive: true", "recursive: yes"},
		{"recursive is a number", "recursive: true", "recursive: 1"},
		{"sidecars is a mapping", "sidecars: [.txt]", "sidecars: {txt: 1}"},
		{"sidecars is a list of lists", "sidecars: [.txt]", "sidecars: [[.txt]]"},
		{"an extension is nothing", "sidecars: [.txt]", "sidecars: [.txt, ~]"},
		{"no stages", base[strings.Index(base, "stages:"):], ""},
		{"stages is empty", base[strings.Index(base, "stages:"):], "stages: []\n"},
		{"stages has no value", base[strings.Index(base, "stages:"):], "stages:\n"},
		{"stages is a mapping", base[strings.Index(base, "stages:"):], "stages: {tile: {size: 512}}\n"},
		{"a stage is a word", "- tile: {size: 512, pick: best, by: laplacian, count: 4, threshold: 4.5}", "- tile"},
		{"a stage is nothing", "- tile: {size: 512, pick: best, by: laplacian, count: 4, threshold: 4.5}", "-"},
		{"unknown stage", "- tile:", "- tiles:"},
		{"a source as a stage", "- tile: {size: 512, pick: best, by: laplacian, count: 4, threshold: 4.5}", "- images: {path: photos}"},
		{"two stages in one entry", "threshold: 4.5}", "threshold: 4.5}\n    hash: {by: pdq}"},
		{"an entry without a stage", "    filter: {keep: \"laplacian >= 4\"}\n", ""},
		{"unknown field", "{size: 512", "{sise: 512, size: 512"},
		{"a required field is missing", "{size: 512, ", "{"},
		{"fields are missing", "{metrics: [laplacian, blockiness]}", ""},
		{"fields are a number", "{size: 512, pick: best, by: laplacian, count: 4, threshold: 4.5}", "512"},
		{"fields are a list", "{metrics: [laplacian, blockiness]}", "[laplacian]"},
		{"below the range", "size: 512", "size: 8"},
		{"above the range", "size: 512", "size: 100000"},
		{"a whole number in words", "size: 512", "size: large"},
		{"a whole number with a unit", "size: 512", "size: 512px"},
		{"a whole number with a fraction", "size: 512", "size: 512.5"},
		{"a whole number in quotes with a fraction", "size: 512", `size: "512.5"`},
		{"a whole number is a list", "size: 512", "size: [512]"},
		{"a whole number is a mapping", "size: 512", "size: {px: 512}"},
		{"a whole number is nothing", "size: 512", "size: "},
		{"a whole number is true", "size: 512", "size: true"},
		{"unknown word", "pick: best", "pick: bset"},
		{"a word is a number", "pick: best", "pick: 5"},
		{"a word is a list", "pick: best", "pick: [best]"},
		{"a word in capitals", "pick: best", "pick: Best"},
		{"a number below its range", "threshold: 4.5", "threshold: -1"},
		{"a number in words", "threshold: 4.5", "threshold: much"},
		{"none of a count from 1 on", "count: 4", "count: 0"},
		{"unknown word in a list", "blockiness]", "blokiness]"},
		{"a list of words is a mapping", "[laplacian, blockiness]", "{laplacian: 1}"},
		{"an id with a space", "id: keep", `id: "b c"`},
		{"the source's id", "id: keep", "id: source"},
		{"an empty id", "id: keep", `id: ""`},
		{"an id is a list", "id: keep", "id: [keep]"},
		{"no workers", "workers: 2", "workers: 0"},
		{"too many workers", "workers: 2", "workers: 2000"},
		{"workers in words", "workers: 2", "workers: many"},
		{"half a worker", "workers: 2", "workers: 1.5"},
		{"too large a batch", "batch: 4", "batch: 2000000"},
		{"batch in words", "batch: 4", "batch: many"},
		{"unknown device", "device: host", "device: tpu"},
		{"a device that is no number", "device: host", "device: gpu:x"},
		{"a device with a zero before it", "device: host", "device: gpu:01"},
		{"a device is a number", "device: host", "device: 0"},
		{"unknown word of a stage's on_error", "on_error: stop", "on_error: ignore"},
		{"a condition that is empty", `"laplacian >= 4"`, `""`},
		{"a condition that is blank", `"laplacian >= 4"`, `"  "`},
		{"a condition that is a list", `"laplacian >= 4"`, "[a, b]"},
		{"unknown method", "[sha256, {pdq: {max_distance: 20}}]", "md5"},
		{"unknown method in a list", "[sha256,", "[md5,"},
		{"unknown method with options", "{pdq: {", "{pdqq: {"},
		{"unknown option", "max_distance:", "distance:"},
		{"an option above its range", "max_distance: 20", "max_distance: 500"},
		{"options are a number", "{max_distance: 20}", "20"},
		{"an option of a method that has none", "[sha256,", "[{sha256: {max_distance: 3}},"},
		{"two methods in one element", "{pdq: {max_distance: 20}}", "{pdq: {max_distance: 20}, phash: {}}"},
		{"an element without a method", "{pdq: {max_distance: 20}}", "{}"},
		{"a method is a list", "[sha256,", "[[sha256],"},
		{"a method is nothing", "[sha256,", "[null,"},
		{"methods are missing", "by: [sha256, {pdq: {max_distance: 20}}], ", ""},
		{"rules are a mapping", "[pixels, -source.bytes]", "{pixels: 1}"},
		{"a level that PNG does not have", "level: 1", "level: 10"},
		{"unknown format", "format: png", "format: jpg"},
		{"overwrite in words", "overwrite: false", "overwrite: maybe"},
		{"a path is a list", "path: out,", "path: [a, b],"},
		{"a path is missing", "path: out,", ""},
		{"a path is empty", "path: out,", `path: "",`},
		{"a bool is a number", "vectors: false", "vectors: 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := changed(t, tt.from, tt.to)
			if load(t, file, o) == nil {
				t.Error("the loader accepts it")
			}
			if v.accepts(t, file) == nil {
				t.Error("the schema accepts it")
			}
		})
	}
}

// Other forms of what stands in base.
func TestSchemaAccepts(t *testing.T) {
	v, o := schemaOf(t, standard.Registry(), nil), pipeline.Options{Registry: standard.Registry()}
	inFolder(t)
	for _, tt := range []struct{ name, from, to string }{
		{"a number in quotes", "size: 512", `size: "512"`},
		{"a number from a variable", "size: 512", `size: "${SIZE:-512}"`},
		{"a word from a variable", "pick: best", `pick: "${PICK:-best}"`},
		{"a word in a list from a variable", "blockiness]", `"${METRIC:-blockiness}"]`},
		{"a list of one word", "[laplacian, blockiness]", "laplacian"},
		{"a method from a variable", "[sha256,", `["${METHOD:-sha256}",`},
		{"one method", "[sha256, {pdq: {max_distance: 20}}]", "sha256"},
		{"one method with options", "[sha256, {pdq: {max_distance: 20}}]", "{pdq: {max_distance: 20}}"},
		{"a method with no options", "{max_distance: 20}", ""},
		{"an option from a variable", "max_distance: 20", `max_distance: "${D:-20}"`},
		{"a bool from a variable", "recursive: true", `recursive: "${DEEP:-true}"`},
		{"a bool in quotes", "recursive: true", `recursive: "true"`},
		{"a whole number where any will do", "threshold: 4.5", "threshold: 4"},
		{"a number with an exponent", "threshold: 4.5", "threshold: 1e1"},
		{"a name that is a number", "name: base", "name: 512"},
		{"a name that is true", "name: base", "name: true"},
		{"a name that is empty", "name: base", `name: ""`},
		{"an id that is a number", "id: keep", "id: 5"},
		{"an id from a variable", "id: keep", `id: "${ID:-keep}"`},
		{"workers in quotes", "workers: 2", `workers: "2"`},
		{"workers from a variable", "workers: 2", "workers: ${W:-2}"},
		{"a device by number", "device: host", "device: gpu:1"},
		{"a simulated device", "device: host", "device: sim:0"},
		{"a device from a variable", "device: host", "device: ${D:-host}"},
		{"on_error from a variable", "on_error: stop", "on_error: ${E:-stop}"},
		{"memory without a value", "memory: {host: {limit: 60%}, gpu: {headroom: 512MiB, when_busy: share}, strategy: adaptive}", "memory:"},
		{"host without a value", "{limit: 60%}", ""},
		{"a limit that is a size", "60%", "1.5 gib"},
		{"a limit from a variable", "60%", `"${LIMIT:-60%}"`},
		{"a share of everything", "60%", "100%"},
		{"no headroom", "512MiB", "0"},
		{"pixels in quotes", "pixels: 1000000", `pixels: "1000000"`},
		{"a number of failed items", "max_failed: 5%", "max_failed: 20"},
		{"a share of failed items from a variable", "max_failed: 5%", "max_failed: ${MOST:-5}%"},
		{"sidecars that are one extension", "sidecars: [.txt]", "sidecars: .txt"},
		{"no sidecars", "sidecars: [.txt]", "sidecars: []"},
		{"a source with an id", "source:\n", "source:\n  id: photos\n"},
		{"a condition over lines", `{keep: "laplacian >= 4"}`, "\n      keep: >\n        laplacian >= 4\n        && blockiness < 30"},
		{"a condition that is true", `"laplacian >= 4"`, "true"},
		{"an alias", "prefer: [pixels, -source.bytes]}", "prefer: &rules [pixels, -source.bytes]}\n  - id: again\n    dedup: {by: phash, prefer: *rules}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := changed(t, tt.from, tt.to)
			if err := load(t, file, o); err != nil {
				t.Errorf("the loader says %v", err)
			}
			if err := v.accepts(t, file); err != nil {
				t.Errorf("the schema says %v", err)
			}
		})
	}
}

// The example pipelines, and the examples of every stage and source.
func TestSchemaAcceptsExamples(t *testing.T) {
	r := standard.Registry()
	v := schemaOf(t, r, nil)
	files, err := filepath.Glob("../pipelines/*.yaml")
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
