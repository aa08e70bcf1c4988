package pipeline_test

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
)

// What the command prints can be read back into the types it was made of.
func TestEndRoundTrips(t *testing.T) {
	values := pipeline.Values{
		{Name: "z", Value: pipeline.Float(2.5)}, {Name: "a", Value: pipeline.Int(1 << 60)},
		{Name: "\"q\" ü", Value: pipeline.String("<x>")}, {Name: "b", Value: pipeline.Bool(true)},
		{Name: "none"},
	}
	end := pipeline.End{
		ID: "a.png@tile=1,2,3", Source: "a.png", Kind: pipeline.EndRejected, Stage: "filter", Reason: "z >= 3",
		Values: values, Sidecars: []string{".txt"},
	}
	item := pipeline.CaseItem{
		ID: "a.png", End: pipeline.CaseRejected, Stage: "filter", Reason: "z >= 3", Values: values,
		Attributes: map[string]pipeline.Value{"z": pipeline.Float(2.5)},
	}
	for _, tt := range []struct{ name, want string }{
		{"end", `"values":{"z":2.5,"a":1152921504606846976,"\"q\" ü":"\u003cx\u003e","b":true,"none":null}`},
		{"item", `"end":"rejected"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var from, to any = end, new(pipeline.End)
			if tt.name == "item" {
				from, to = item, new(pipeline.CaseItem)
			}
			b, err := json.Marshal(from)
			if err != nil || !strings.Contains(string(b), tt.want) {
				t.Fatalf("%s, %v; want %s in it", b, err, tt.want)
			}
			if err := json.Unmarshal(b, to); err != nil {
				t.Fatal(err)
			}
			if got := reflect.ValueOf(to).Elem().Interface(); !reflect.DeepEqual(got, from) {
				t.Errorf("read back as\n%+v\nwant\n%+v", got, from)
			}
		})
	}
}

func TestValueFromJSON(t *testing.T) {
	for _, tt := range []struct {
		text string
		want pipeline.Value
	}{
		{`12`, pipeline.Int(12)},
		{`-9223372036854775808`, pipeline.Int(math.MinInt64)},
		{`1.5`, pipeline.Float(1.5)},
		{`1e3`, pipeline.Float(1000)},
		{`9223372036854775808`, pipeline.Float(1 << 63)},
		{`false`, pipeline.Bool(false)},
		{`"abcd"`, pipeline.String("abcd")},
		{`null`, pipeline.Value{}},
	} {
		v := pipeline.String("before")
		if err := json.Unmarshal([]byte(tt.text), &v); err != nil || v != tt.want {
			t.Errorf("%s is read as %v (%s), %v; want %v (%s)", tt.text, v, v.Type(), err, tt.want, tt.want.Type())
		}
	}
	for _, text := range []string{`1e400`, `[1]`, `{"a": 1}`, `x`} {
		if err := json.Unmarshal([]byte(text), new(pipeline.Value)); err == nil {
			t.Errorf("%s is a value", text)
		}
	}
	for _, text := range []string{`[1]`, `"x"`, `{"a": [1]}`, `{"a": {}}`} {
		if err := json.Unmarshal([]byte(text), new(pipeline.Values)); err == nil {
			t.Errorf("%s are values", text)
		}
	}
}
