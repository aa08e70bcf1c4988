package manifest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/filter"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

var withVectors = map[string]any{"vectors": true}

// table is a Parquet file that was read: the schema, and the rows as JSON would
// have them, without what is null.
type table struct {
	schema string
	groups int
	rows   []map[string]any
	ids    []string
}

func readParquet(t *testing.T, file string) table {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := parquet.OpenFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if f.Metadata().CreatedBy != "forgepipe version 1(build 0)" {
		t.Errorf("it was created by %q", f.Metadata().CreatedBy)
	}
	got := table{schema: f.Schema().String(), groups: len(f.RowGroups())}
	paths := f.Schema().Columns()
	for _, g := range f.RowGroups() {
		rows := g.Rows()
		buf := make([]parquet.Row, 10)
		for {
			n, err := rows.ReadRows(buf)
			for _, r := range buf[:n] {
				row := asJSON(paths, r)
				got.rows = append(got.rows, row)
				got.ids = append(got.ids, row["id"].(string))
			}
			if n == 0 || err != nil {
				break
			}
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if int64(len(got.rows)) != f.NumRows() {
		t.Errorf("%d of %d rows were read", len(got.rows), f.NumRows())
	}
	return got
}

func asJSON(paths [][]string, r parquet.Row) map[string]any {
	row := map[string]any{"attributes": map[string]any{}, "vectors": map[string]any{}}
	for _, v := range r {
		path, in := paths[v.Column()], row
		if len(path) > 1 {
			in = row[path[0]].(map[string]any)
			path = path[1:]
		}
		name := path[0]
		var x any
		switch v.Kind() {
		case parquet.Boolean:
			x = v.Boolean()
		case parquet.Int64:
			x = v.Int64()
		case parquet.Double:
			x = v.Double()
		case parquet.Float:
			x = v.Float()
		case parquet.ByteArray:
			x = string(v.ByteArray())
		}
		switch isList := len(path) > 1; {
		case v.IsNull() && isList && v.DefinitionLevel() == 1:
			in[name] = []any{}
		case v.IsNull():
		case isList && v.RepetitionLevel() > 0:
			in[name] = append(in[name].([]any), x)
		case isList:
			in[name] = []any{x}
		default:
			in[name] = x
		}
	}
	return row
}

// Both formats hold the same, but for what JSON cannot say.
func TestParquetHoldsWhatJSONDoes(t *testing.T) {
	out := t.TempDir()
	src := stagetest.Source{picture("b.png", 20, 18), picture("a/50% @home.png", 8, 4), picture("a/d\xe9j\xe0 <&>.png", 2, 1)}
	// Not every item has all attributes and vectors.
	some := stagetest.Step{Info: pipeline.Info{Name: "some", Short: "Some.", New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
		return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
			if it.Size().X != 8 {
				it.SetAttr("rare", pipeline.Bool(false))
				it.SetVector(pipeline.Vector{Name: "rare", Half: true, Data: []float32{0.1}})
			}
			return nil
		}), nil
	}}}
	stagetest.New(t, src, describe, some, writeTo(out), step(out+"/m.jsonl", withVectors), step(out+"/m.parquet", withVectors)).Run(t, pipeline.RunOptions{})

	got := readParquet(t, out+"/m.parquet")
	var lines []string
	for line := range strings.Lines(read(t, out+"/m.jsonl")) {
		lines = append(lines, strings.TrimSpace(line))
	}
	if len(lines) != 3 || len(got.rows) != 3 {
		t.Fatalf("%d lines, %d rows", len(lines), len(got.rows))
	}
	for i, row := range got.rows {
		attributes, clip := row["attributes"].(map[string]any), row["vectors"].(map[string]any)["clip"].([]any)
		if f, ok := attributes["nan"].(float64); !ok || !math.IsNaN(f) || attributes["inf"] != math.Inf(1) || !math.IsNaN(float64(clip[5].(float32))) || clip[6] != float32(math.Inf(-1)) {
			t.Errorf("numbers that are not finite became %v, %v, %v", attributes["nan"], attributes["inf"], clip[5:])
		}
		attributes["nan"], attributes["inf"], clip[5], clip[6] = nil, nil, nil, nil
		b, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		var a, b2 any
		if err := json.Unmarshal([]byte(lines[i]), &a); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &b2); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(a, b2) {
			t.Errorf("row %d is\n%s\nwhere JSON has\n%s", i, b, lines[i])
		}
		if z := attributes["z"]; z != int64(math.MaxInt64) {
			t.Errorf("z is %v (%T)", z, z)
		}
		if v := clip[2]; v != float32(0.1) {
			t.Errorf("a component is %v (%T)", v, v)
		}
	}
}

// The columns are what is declared and what arrives beside.
func TestColumns(t *testing.T) {
	declared := func(made ...pipeline.Made) stagetest.Step {
		return stagetest.Step{Info: pipeline.Info{
			Name: "declared", Short: "Declares.", Makes: func(pipeline.Config) []pipeline.Made { return made },
			New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
				return pipeline.Func(func(context.Context, *pipeline.Item) error { return nil }), nil
			},
		}}
	}
	sets := func(set func(*pipeline.Item)) stagetest.Step {
		return stagetest.Step{Info: pipeline.Info{Name: "sets", Short: "Sets.", New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
			return pipeline.Func(func(_ context.Context, it *pipeline.Item) error { set(it); return nil }), nil
		}}}
	}
	nothing := stagetest.Step{Info: filter.Info(), Values: map[string]any{"keep": "width > 1000"}}
	const always = "\trequired binary id (STRING);\n\trequired binary source (STRING);\n\toptional binary path (STRING);\n" +
		"\trequired int64 width (INT(64,true));\n\trequired int64 height (INT(64,true));\n"
	list := func(name string) string {
		return "\t\toptional group " + name + " (LIST) {\n\t\t\trepeated group list {\n\t\t\t\trequired float element;\n\t\t\t}\n\t\t}\n"
	}
	tests := map[string]struct {
		steps  []stagetest.Step
		values map[string]any
		want   string
		first  map[string]any // attributes of the first item
	}{
		"none":                  {nil, withVectors, "", nil},
		"none of no items":      {[]stagetest.Step{nothing}, withVectors, "", nil},
		"vectors not asked for": {[]stagetest.Step{declared(pipeline.Made{Name: "v", Vector: true}), sets(func(it *pipeline.Item) { it.SetVector(pipeline.Vector{Name: "w", Data: []float32{1}}) })}, nil, "", nil},
		"declared, no items": {
			[]stagetest.Step{declared(
				pipeline.Made{Name: "v", Vector: true}, pipeline.Made{Name: "h", Type: pipeline.TypeHash}, pipeline.Made{Name: "b", Type: pipeline.TypeBool},
				pipeline.Made{Name: "i", Type: pipeline.TypeInt}, pipeline.Made{Name: "f", Type: pipeline.TypeFloat}, pipeline.Made{Name: "s", Type: pipeline.TypeString},
			), nothing}, withVectors,
			"\trequired group attributes {\n\t\toptional boolean b;\n\t\toptional double f;\n\t\toptional binary h (STRING);\n\t\toptional int64 i (INT(64,true));\n\t\toptional binary s (STRING);\n\t}\n" +
				"\trequired group vectors {\n" + list("v") + "\t}\n", nil,
		},
		"declared and arriving": {
			[]stagetest.Step{declared(pipeline.Made{Name: "b", Type: pipeline.TypeBool}), sets(func(it *pipeline.Item) {
				it.SetAttr("a", pipeline.Int(7))
				it.SetVector(pipeline.Vector{Name: "w", Data: []float32{1}})
			})}, withVectors,
			"\trequired group attributes {\n\t\toptional int64 a (INT(64,true));\n\t\toptional boolean b;\n\t}\n\trequired group vectors {\n" + list("w") + "\t}\n",
			map[string]any{"a": int64(7)},
		},
		"several types": {
			[]stagetest.Step{sets(func(it *pipeline.Item) {
				first := it.ID() == "0.png"
				pick := func(a, b pipeline.Value) pipeline.Value {
					if first {
						return a
					}
					return b
				}
				it.SetAttr("number", pick(pipeline.Int(3), pipeline.Float(0.5)))
				it.SetAttr("text", pick(pipeline.Bool(true), pipeline.Float(0.5)))
				it.SetAttr("hex", pick(pipeline.Hash([]byte{1, 2}), pipeline.Int(1)))
				it.SetAttr("nothing", pipeline.Value{})
				it.SetAttr("bytes", pipeline.String("a\xff\xfeb"))
			})}, nil,
			"\trequired group attributes {\n\t\toptional binary bytes (STRING);\n\t\toptional binary hex (STRING);\n\t\toptional double number;\n\t\toptional binary text (STRING);\n\t}\n",
			map[string]any{"number": 3.0, "text": "true", "hex": "0102", "bytes": "a\ufffd\ufffdb"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			out := t.TempDir()
			var src stagetest.Source
			for i := range 40 {
				src = append(src, picture(fmt.Sprintf("%d.png", i), 1, 1))
			}
			stagetest.New(t, src, append(tt.steps, step(out+"/m.parquet", tt.values))...).Run(t, pipeline.RunOptions{})
			got := readParquet(t, out+"/m.parquet")
			if want := "message manifest {\n" + always + tt.want + "}"; strings.TrimSpace(got.schema) != want {
				t.Errorf("schema\n%s\nwant\n%s", got.schema, want)
			}
			if tt.first != nil && (len(got.rows) != 40 || !reflect.DeepEqual(got.rows[0]["attributes"], tt.first)) {
				t.Errorf("%d rows, the first with %v; want %v", len(got.rows), got.rows[0]["attributes"], tt.first)
			}
		})
	}
}

// Names that would be in the way of others are names like any.
func TestOddNamesOfColumns(t *testing.T) {
	out := t.TempDir()
	names := []string{"a,b", "x.y", "é b", "list", "id", "A", "a", "", "b\xff"}
	odd := stagetest.Step{Info: pipeline.Info{Name: "odd", Short: "Odd.", New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
		return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
			for i, n := range names {
				it.SetAttr(n, pipeline.Int(int64(i)))
				it.SetVector(pipeline.Vector{Name: n, Data: []float32{float32(i)}})
			}
			return nil
		}), nil
	}}}
	stagetest.New(t, stagetest.Source{picture("a.png", 1, 1)}, odd, step(out+"/m.PARQUET", withVectors)).Run(t, pipeline.RunOptions{})
	row := readParquet(t, out+"/m.PARQUET").rows[0]
	for i, n := range names {
		n = strings.ToValidUTF8(n, "\ufffd") // otherwise no reader takes the file
		if a, v := row["attributes"].(map[string]any)[n], row["vectors"].(map[string]any)[n]; a != int64(i) || !reflect.DeepEqual(v, []any{float32(i)}) {
			t.Errorf("%q: attribute %v, vector %v, want %d", n, a, v, i)
		}
	}
}

// Rows are gathered in memory only up to a bound, and come in order whatever the
// workers; the bytes are the same each time.
func TestParquetOfManyItems(t *testing.T) {
	const n, dim = 450, 100
	src, want := many(n)
	long := stagetest.Step{Info: pipeline.Info{Name: "long", Short: "Long.", New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
		return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
			var i int
			if _, err := fmt.Sscanf(filepath.Base(it.ID()), "%d.png", &i); err != nil {
				return err
			}
			data := make([]float32, dim)
			for j := range data {
				data[j] = float32(i*dim+j) / (n * dim)
			}
			it.SetVector(pipeline.Vector{Name: "v", Data: data})
			it.SetAttr("text", pipeline.String(strings.Repeat("x", 40000))) // of all, 17 MiB
			if i%2 == 0 {                                                   // which of two columns arrives first is chance
				it.SetAttr("even", pipeline.Bool(true))
			} else {
				it.SetAttr("odd", pipeline.Bool(true))
			}
			return nil
		}), nil
	}}}
	var files []string
	for range 2 {
		out := t.TempDir()
		stagetest.New(t, src, long, step(out+"/m.parquet", withVectors)).Run(t, pipeline.RunOptions{})
		files = append(files, read(t, out+"/m.parquet"))
		if len(files) > 1 {
			break
		}
		got := readParquet(t, out+"/m.parquet")
		if !slices.Equal(got.ids, want) {
			t.Errorf("%d rows, not those of the %d items in order", len(got.ids), n)
		}
		if got.groups != 2 {
			t.Errorf("%d row groups, want 2", got.groups)
		}
		for i, row := range got.rows {
			var k int
			if _, err := fmt.Sscanf(filepath.Base(got.ids[i]), "%d.png", &k); err != nil {
				t.Fatal(err)
			}
			v := row["vectors"].(map[string]any)["v"].([]any)
			if len(v) != dim || v[0] != float32(k*dim)/(n*dim) || v[dim-1] != float32(k*dim+dim-1)/(n*dim) {
				t.Fatalf("%s has another vector: %d components from %v to %v", got.ids[i], len(v), v[0], v[len(v)-1])
			}
		}
	}
	if files[0] != files[1] {
		t.Error("a second run wrote something else")
	}
}
