package groups_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/forgepipe/forgepipe/stages/dedup/groups"
)

var header = groups.Header{
	Items: 1 << 32,
	Steps: []groups.Step{
		{Measure: groups.Measure{Step: "pdq", Whole: true}, Threshold: 31},
		{Measure: groups.Measure{Step: "clip", Similarity: true}, Threshold: 0.9},
		{Measure: groups.Measure{Step: "lpips"}, Threshold: 0.2},
	},
	Clauses: [][]int{{0}, {1, 2}},
}

var pairs = []groups.Pair{
	{A: "a.jpg", B: "b <&>.jpg@tile=1,2", RankA: 0, RankB: 4, FixedA: true, Clause: 0, Values: []float64{12, nan, nan}},
	{A: "é.jpg", B: "a.jpg", RankA: math.MaxUint32, RankB: 0, FixedB: true, Clause: 1, Values: []float64{nan, 0.9123456789, 0.1}},
	{A: "c.jpg", B: "d.jpg", RankA: 7, RankB: 8, Clause: 0, Values: []float64{31, 0.5, 9}},
}

const pairLines = `{"forgepipe_pairs":1,"items":4294967296,"steps":[{"name":"pdq","measure":"distance","whole":true,"threshold":31},{"name":"clip","measure":"similarity","whole":false,"threshold":0.9},{"name":"lpips","measure":"distance","whole":false,"threshold":0.2}],"clauses":[["pdq"],["clip","lpips"]]}
{"a":"a.jpg","b":"b <&>.jpg@tile=1,2","a_rank":0,"b_rank":4,"a_fixed":true,"b_fixed":false,"clause":0,"pdq_distance":12}
{"a":"é.jpg","b":"a.jpg","a_rank":4294967295,"b_rank":0,"a_fixed":false,"b_fixed":true,"clause":1,"clip_similarity":0.9123456789,"lpips_distance":0.1}
{"a":"c.jpg","b":"d.jpg","a_rank":7,"b_rank":8,"a_fixed":false,"b_fixed":false,"clause":0,"pdq_distance":31,"clip_similarity":0.5,"lpips_distance":9}
{"pairs":3}
`

func readPairs(path string) (h groups.Header, all []groups.Pair, err error) {
	p, err := groups.ReadPairs(path)
	if err != nil {
		return h, nil, err
	}
	defer p.Close()
	for pair, err := range p.All(context.Background()) {
		if err != nil {
			return h, nil, err
		}
		all = append(all, pair)
	}
	return p.Header, all, nil
}

// What is written is read, of both formats; in Parquet with what readers are told.
func TestPairs(t *testing.T) {
	for _, name := range []string{"p.jsonl", "P.PARQUET"} {
		path := filepath.Join(t.TempDir(), name)
		writePairs(t, path, header, pairs)
		h, got, err := readPairs(path)
		if err != nil {
			t.Fatal(err)
		}
		// NaN is not itself, but its text is.
		if fmt.Sprint(h) != fmt.Sprint(header) || fmt.Sprint(got) != fmt.Sprint(pairs) {
			t.Errorf("%s: read\n%v %v\nwant\n%v %v", name, h, got, header, pairs)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if name == "p.jsonl" {
			if string(data) != pairLines {
				t.Errorf("wrote\n%s\nwant\n%s", data, pairLines)
			}
			continue
		}
		const want = `message pairs {
	required binary a (STRING);
	required binary b (STRING);
	required int32 a_rank (INT(32,false));
	required int32 b_rank (INT(32,false));
	required boolean a_fixed;
	required boolean b_fixed;
	required int64 clause (INT(64,true));
	optional double pdq_distance;
	optional double clip_similarity;
	optional double lpips_distance;
}`
		f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Schema().String(); got != want {
			t.Errorf("the columns are\n%s\nwant\n%s", got, want)
		}
		if head, _ := f.Lookup("forgepipe.pairs"); head+"\n" != pairLines[:strings.IndexByte(pairLines, '\n')+1] {
			t.Errorf("the metadata is %s", head)
		}
	}
}

// A pair that cannot be one is a bug of who adds it.
func TestWrongPairs(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		pair       groups.Pair
	}{
		{"no value", "NaN for clip, which is not within 0.9", groups.Pair{A: "a", B: "b", RankB: 1, Clause: 1, Values: []float64{1, nan, 0.1}}},
		{"a confirming step that does not", "0.3 for lpips", groups.Pair{A: "a", B: "b", RankB: 1, Clause: 1, Values: []float64{1, 0.95, 0.3}}},
		{"too far", "32 for pdq", groups.Pair{A: "a", B: "b", RankB: 1, Values: []float64{32, nan, nan}}},
		{"values", "1 values for 3 steps", groups.Pair{A: "a", B: "b", RankB: 1, Values: []float64{3}}},
		{"one item", "a, b has the ranks 1 and 1", groups.Pair{A: "a", B: "b", RankA: 1, RankB: 1, Values: []float64{3, nan, nan}}},
		{"clause", "is of clause 2", groups.Pair{A: "a", B: "b", RankB: 1, Clause: 2, Values: []float64{3, nan, nan}}},
	} {
		w, err := groups.NewPairs(new(bytes.Buffer), groups.JSONL, header)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Add(tt.pair); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	for name, h := range map[string]groups.Header{
		"a step twice":           {Steps: []groups.Step{{Measure: groups.Measure{Step: "a"}}, {Measure: groups.Measure{Step: "a"}}}, Clauses: [][]int{{0}, {1}}},
		"a step in two clauses":  {Steps: []groups.Step{{Measure: groups.Measure{Step: "a"}}}, Clauses: [][]int{{0}, {0}}},
		"a step in none":         {Steps: []groups.Step{{Measure: groups.Measure{Step: "a"}}}},
		"a clause of nothing":    {Clauses: [][]int{{}}},
		"a threshold of nothing": {Steps: []groups.Step{{Measure: groups.Measure{Step: "a"}, Threshold: nan}}, Clauses: [][]int{{0}}},
		"too many items":         {Items: groups.MaxItems + 1},
	} {
		if _, err := groups.NewPairs(new(bytes.Buffer), groups.Parquet, h); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A file that is not as it was written is an error that says where, never fewer pairs.
func TestDamagedLines(t *testing.T) {
	replace := func(old, new string) string {
		if !strings.Contains(pairLines, old) {
			t.Fatalf("there is no %s", old)
		}
		return strings.Replace(pairLines, old, new, 1)
	}
	lines := strings.SplitAfter(pairLines, "\n")
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", "it is empty"},
		{"another file", "{\"id\":\"a.jpg\"}\n", "it is no file of pairs"},
		{"no JSON", "hello\n", "it is no file of pairs"},
		{"a later version", replace(`pairs":1`, `pairs":2`), "its version is 2"},
		{"a step without a clause", replace(`["pdq"],`, ""), "the step pdq is in no clause"},
		{"a clause of another step", replace(`["pdq"]`, `["phash"]`), "a clause has the step -1"},
		{"another measure", replace(`"similarity"`, `"angle"`), `measures "angle"`},
		{"cut", strings.Join(lines[:3], ""), "it ends after 2 pairs"},
		{"cut in a line", pairLines[:len(pairLines)-30], "line 4: it is no JSON object"},
		{"a pair less", lines[0] + lines[1] + lines[4], "there are 1 pairs, and the last line says 3"},
		{"more", pairLines + "{}\n", "line 6 comes after the last"},
		{"a member less", replace(`"b_rank":4,`, ""), "line 2: it has no b_rank"},
		{"a rank that is none", replace(`"b_rank":4,`, `"b_rank":-4,`), "line 2: its b_rank: "},
		{"an item beyond the last", replace(`"items":4294967296`, `"items":5`), "line 3: the pair é.jpg, a.jpg has the ranks"},
		{"a value that is none", replace(`"pdq_distance":12`, `"pdq_distance":"12"`), "line 2: its pdq_distance: "},
		{"a value that is missing", replace(`,"pdq_distance":12`, ""), "line 2: the pair a.jpg, b <&>.jpg@tile=1,2 has NaN for pdq"},
		{"a value that is too far", replace(`"pdq_distance":12`, `"pdq_distance":40`), "line 2: the pair"},
		{"a clause that there is not", replace(`"clause":1`, `"clause":9`), "line 3: the pair"},
		{"a line without an end", lines[0] + strings.Repeat(" ", 2<<20), "line 2 is longer than"},
	} {
		path := filepath.Join(t.TempDir(), "p.jsonl")
		if err := os.WriteFile(path, []byte(tt.text), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, _, err := readPairs(path); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestDamagedParquet(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "p.parquet")
	writePairs(t, path, header, pairs)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Whichever byte is wrong, the pairs are read or there is an error.
	for i := 0; i < len(whole); i += 7 {
		data := bytes.Clone(whole)
		data[i] ^= 0x55
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		_, _, _ = readPairs(path)
	}
	for _, n := range []int{0, 3, 8, len(whole) / 2, len(whole) - 1} {
		if err := os.WriteFile(path, whole[:n], 0o666); err != nil {
			t.Fatal(err)
		}
		if _, _, err := readPairs(path); err == nil || !strings.Contains(err.Error(), "it is no Parquet file, or was cut") {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	var other bytes.Buffer
	if err := newWriter(t, t.TempDir()).WriteParquet(context.Background(), &other); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, other.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, _, err := readPairs(path); err == nil || !strings.Contains(err.Error(), "it is no file of pairs: its metadata has no forgepipe.pairs") {
		t.Errorf("another table: %v", err)
	}
	for _, name := range []string{"none.parquet", "p.csv", "none.jsonl"} {
		if _, err := groups.ReadPairs(filepath.Join(dir, name)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "d.jsonl"), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := groups.ReadPairs(filepath.Join(dir, "d.jsonl")); err == nil || !strings.Contains(err.Error(), "it is no file") {
		t.Errorf("a folder: %v", err)
	}
}

// An item is fixed in all of its pairs or in none.
func TestContradiction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.jsonl")
	h := header
	h.Items = 10
	writePairs(t, path, h, []groups.Pair{
		{A: "a", B: "b", RankA: 1, RankB: 2, FixedA: true, Values: []float64{1, nan, nan}},
		{A: "a", B: "c", RankA: 1, RankB: 3, Values: []float64{1, nan, nan}},
	})
	if _, err := open(t, path).Sweep(context.Background(), "pdq", []float64{3}, 0); err == nil || !strings.Contains(err.Error(), "rank 1 is fixed in one pair and not in another") {
		t.Errorf("got %v", err)
	}
}

func FuzzReadPairs(f *testing.F) {
	f.Add([]byte(pairLines))
	f.Add([]byte(strings.Replace(pairLines, "4294967296", "10", 1)))
	f.Add([]byte("{\"forgepipe_pairs\":1}\n{\"pairs\":0}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "p.jsonl")
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		h, all, err := readPairs(path)
		if err != nil {
			return
		}
		writePairs(t, path, h, all)
		if h2, again, err := readPairs(path); err != nil || fmt.Sprint(h, all) != fmt.Sprint(h2, again) {
			t.Errorf("%v %v was read, and then %v %v, %v", h, all, h2, again, err)
		}
		p := open(t, path)
		for _, s := range h.Steps {
			// With room for few items, as any number of them can be said.
			_, _ = p.Sweep(context.Background(), s.Step, []float64{s.Threshold}, 1<<16)
		}
	})
}

// A table that another program has written again, with its columns in another order, all of
// them optional, in several row groups, holds the same pairs.
func TestRewrittenParquet(t *testing.T) {
	for name, missing := range map[string]bool{"whole": false, "without a rank": true} {
		columns := parquet.Group{}
		for _, c := range []string{"a", "b"} {
			columns[c] = parquet.Optional(parquet.String())
		}
		for _, c := range []string{"pdq_distance", "clip_similarity", "lpips_distance"} {
			columns[c] = parquet.Optional(parquet.Leaf(parquet.DoubleType))
		}
		columns["a_rank"], columns["b_rank"], columns["clause"] = parquet.Optional(parquet.Uint(32)), parquet.Optional(parquet.Uint(32)), parquet.Optional(parquet.Int(64))
		columns["a_fixed"], columns["b_fixed"] = parquet.Optional(parquet.Leaf(parquet.BooleanType)), parquet.Optional(parquet.Leaf(parquet.BooleanType))
		var b bytes.Buffer
		schema := parquet.NewSchema("schema", columns)
		w := parquet.NewWriter(&b, schema, parquet.KeyValueMetadata("forgepipe.pairs", strings.SplitN(pairLines, "\n", 2)[0]))
		for _, p := range pairs {
			row := make(parquet.Row, len(columns))
			for _, c := range schema.Columns() {
				leaf, _ := schema.Lookup(c[0])
				v := map[string]any{
					"a": p.A, "b": p.B, "a_rank": int32(p.RankA), "b_rank": int32(p.RankB), "a_fixed": p.FixedA, "b_fixed": p.FixedB,
					"clause": int64(p.Clause), "pdq_distance": p.Values[0], "clip_similarity": p.Values[1], "lpips_distance": p.Values[2],
				}[c[0]]
				if f, ok := v.(float64); ok && math.IsNaN(f) || missing && c[0] == "b_rank" {
					row[leaf.ColumnIndex] = parquet.NullValue().Level(0, 0, leaf.ColumnIndex)
				} else {
					row[leaf.ColumnIndex] = parquet.ValueOf(v).Level(0, 1, leaf.ColumnIndex)
				}
			}
			if _, err := w.WriteRows([]parquet.Row{row}); err != nil {
				t.Fatal(err)
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(t.TempDir(), "p.parquet")
		if err := errors.Join(w.Close(), os.WriteFile(path, b.Bytes(), 0o666)); err != nil {
			t.Fatal(err)
		}
		_, got, err := readPairs(path)
		switch {
		case missing && (err == nil || !strings.Contains(err.Error(), "a pair has no b_rank")):
			t.Errorf("%s: %v", name, err)
		case !missing && (err != nil || fmt.Sprint(got) != fmt.Sprint(pairs)):
			t.Errorf("%s: read %v, %v, want %v", name, got, err, pairs)
		}
	}
}
