package groups_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/stages/dedup/groups"
)

var (
	nan      = math.NaN()
	measures = []groups.Measure{{Step: "sha256", Whole: true}, {Step: "pdq", Whole: true}, {Step: "clip", Similarity: true}}
)

func newWriter(t testing.TB, dir string) *groups.Writer {
	t.Helper()
	root, err := fsys.OS.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	w := groups.New(root, "groups", measures)
	t.Cleanup(func() {
		if err := errors.Join(w.Close(), root.Close()); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("Close left %v, %v", left, err)
		}
	})
	return w
}

// adding is a keeper or a member to be added.
type adding func(w *groups.Writer) error

func keeper(it groups.Item, index string) adding {
	return func(w *groups.Writer) error { return w.AddKeeper(it, index) }
}

func member(m groups.Member) adding {
	return func(w *groups.Writer) error { return w.AddMember(m) }
}

func item(id string, width int) groups.Item {
	return groups.Item{ID: id, Source: strings.TrimSuffix(id, "@tile=1,2"), Width: width, Height: 7}
}

var keepers = []adding{
	keeper(item("b <&>.jpg", 30), ""),
	keeper(item("lonely.jpg", 10), ""),
	keeper(item("a.jpg", 100), ""),
	keeper(item("a.jpg", 90), "old/index"),
}

var members = []groups.Member{
	{Item: item("z.jpg", 20), Keeper: "b <&>.jpg", By: "clip", Values: []float64{nan, 40, 0.991}, Rule: "pixels", Value: 140, KeeperValue: 210},
	{Item: item("x.jpg@tile=1,2", 20), Keeper: "a.jpg", By: "pdq", Values: []float64{nan, 12, nan}, Rule: "laplacian", Value: nan, KeeperValue: 0.1},
	{Item: item("c.jpg", 12000000), Keeper: "a.jpg", By: "sha256", Values: []float64{0, math.Inf(1), nan}, Rule: "pixels", Value: 84000000, KeeperValue: math.Inf(1)},
	{Item: item("d.jpg", 1), Keeper: "a.jpg", KeeperIndex: "old/index", By: "pdq", Values: []float64{nan, 0, nan}, Value: nan, KeeperValue: nan},
	{Item: item("y.jpg", 1), Values: []float64{nan, nan, nan}, Value: nan, KeeperValue: nan, Decided: true},
	{Item: item("w.jpg", 1), Keeper: "b <&>.jpg", Values: []float64{nan, 3, nan}, Value: nan, KeeperValue: nan, Decided: true},
}

var some = func() []adding {
	all := slices.Clone(keepers)
	for _, m := range members {
		all = append(all, member(m))
	}
	return all
}()

const lines = `{"keeper":null,"members":[{"id":"y.jpg","source":"y.jpg","width":1,"height":7,"by":"decision","distances":{},"similarities":{}}]}
{"keeper":{"id":"a.jpg","source":"a.jpg","width":100,"height":7},"members":[{"id":"c.jpg","source":"c.jpg","width":12000000,"height":7,"by":"sha256","distances":{"sha256":0},"similarities":{},"rule":"pixels","value":84000000},{"id":"x.jpg@tile=1,2","source":"x.jpg","width":20,"height":7,"by":"pdq","distances":{"pdq":12},"similarities":{},"rule":"laplacian","keeper_value":0.1}]}
{"keeper":{"id":"a.jpg","source":"a.jpg","width":90,"height":7,"index":"old/index"},"members":[{"id":"d.jpg","source":"d.jpg","width":1,"height":7,"by":"pdq","distances":{"pdq":0},"similarities":{}}]}
{"keeper":{"id":"b <&>.jpg","source":"b <&>.jpg","width":30,"height":7},"members":[{"id":"w.jpg","source":"w.jpg","width":1,"height":7,"by":"decision","distances":{"pdq":3},"similarities":{}},{"id":"z.jpg","source":"z.jpg","width":20,"height":7,"by":"clip","distances":{"pdq":40},"similarities":{"clip":0.991},"rule":"pixels","value":140,"keeper_value":210}]}
`

// Groups are in the order of the keepers' IDs, members in that of theirs, however they came,
// and both formats say the same.
func TestWrites(t *testing.T) {
	ctx := context.Background()
	for n := range 5 {
		w := newWriter(t, t.TempDir())
		for _, i := range rand.New(rand.NewPCG(1, uint64(n))).Perm(len(some)) {
			if err := some[i](w); err != nil {
				t.Fatal(err)
			}
		}
		var got, table bytes.Buffer
		if err := errors.Join(w.WriteJSONL(ctx, &got), w.WriteParquet(ctx, &table)); err != nil {
			t.Fatal(err)
		}
		if got.String() != lines {
			t.Errorf("wrote\n%s\nwant\n%s", got.String(), lines)
		}
		if rows, want := readTable(t, table.Bytes()), tableOf(t, lines); !reflect.DeepEqual(rows, want) {
			t.Errorf("the table has\n%v\nwant\n%v", rows, want)
		}
	}
}

// What is told of a member in a record is what groups have of it in a later run, for as
// long as it has its keeper there.
func TestMembersOfEarlierRuns(t *testing.T) {
	w := newWriter(t, t.TempDir())
	for _, add := range keepers {
		if err := add(w); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range members {
		got, err := groups.Explained(m.Explain(measures), measures)
		if err != nil {
			t.Fatal(err)
		}
		got.Keeper, got.Earlier = m.Keeper, true
		orphan := got
		orphan.Keeper = "nosuch.jpg"
		if err := errors.Join(w.AddMember(got), w.AddMember(orphan)); err != nil {
			t.Fatal(err)
		}
	}
	var got bytes.Buffer
	if err := w.WriteJSONL(context.Background(), &got); err != nil {
		t.Fatal(err)
	}
	if got.String() != lines || w.Earlier() != int64(len(members)) {
		t.Errorf("%d of %d are told of:\n%s\nwant\n%s", w.Earlier(), len(members), got.String(), lines)
	}
	// Other steps have no values of it.
	m, err := groups.Explained(members[0].Explain(measures), []groups.Measure{{Step: "clip"}, {Step: "clip", Similarity: true}})
	if err != nil || len(m.Values) != 2 || !math.IsNaN(m.Values[0]) || m.Values[1] != 0.991 {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := groups.Explained([]byte(`{"id":1}`), measures); err == nil {
		t.Error("what no run has written is read")
	}
}

// tableOf is what the table has to be.
func tableOf(t *testing.T, lines string) (rows []map[string]any) {
	t.Helper()
	for n, text := range strings.Split(strings.TrimSpace(lines), "\n") {
		var g struct {
			Keeper  map[string]any   `json:"keeper"`
			Members []map[string]any `json:"members"`
		}
		if err := json.Unmarshal([]byte(text), &g); err != nil {
			t.Fatal(err)
		}
		for _, row := range g.Members {
			row["group"] = float64(n + 1)
			if g.Keeper != nil {
				row["keeper"] = g.Keeper["id"]
			}
			if index := g.Keeper["index"]; index != nil {
				row["keeper_index"] = index
			}
			for _, kind := range []string{"distances", "similarities"} {
				for step, v := range row[kind].(map[string]any) {
					row[step+map[string]string{"distances": "_distance", "similarities": "_similarity"}[kind]] = v
				}
				delete(row, kind)
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// readTable reads a flat table, without what is null; numbers are float64.
func readTable(t *testing.T, data []byte) (rows []map[string]any) {
	t.Helper()
	f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	names := f.Schema().Columns()
	for _, g := range f.RowGroups() {
		r := g.Rows()
		buf := make([]parquet.Row, 7)
		for {
			n, err := r.ReadRows(buf)
			for _, in := range buf[:n] {
				row := map[string]any{}
				for _, v := range in {
					switch name := names[v.Column()][0]; {
					case v.IsNull():
					case v.Kind() == parquet.ByteArray:
						row[name] = string(v.ByteArray())
					case v.Kind() == parquet.Int64:
						row[name] = float64(v.Int64())
					case v.Kind() == parquet.Int32:
						row[name] = float64(v.Uint32())
					case v.Kind() == parquet.Boolean:
						row[name] = v.Boolean()
					default:
						row[name] = v.Double()
					}
				}
				rows = append(rows, row)
			}
			if err != nil {
				break
			}
		}
		r.Close()
	}
	return rows
}

// The columns are there, in their order, also where nothing is in them, and readers are
// told their types.
func TestColumns(t *testing.T) {
	w := newWriter(t, t.TempDir())
	var table, text bytes.Buffer
	if err := errors.Join(w.WriteParquet(context.Background(), &table), w.WriteJSONL(context.Background(), &text)); err != nil {
		t.Fatal(err)
	}
	if text.Len() > 0 {
		t.Errorf("nothing is %q", text.String())
	}
	f, err := parquet.OpenFile(bytes.NewReader(table.Bytes()), int64(table.Len()))
	if err != nil {
		t.Fatal(err)
	}
	const want = `message groups {
	required int64 group (INT(64,true));
	optional binary keeper (STRING);
	optional binary keeper_index (STRING);
	required binary id (STRING);
	required binary source (STRING);
	required int64 width (INT(64,true));
	required int64 height (INT(64,true));
	required binary by (STRING);
	optional double sha256_distance;
	optional double pdq_distance;
	optional double clip_similarity;
	optional binary rule (STRING);
	optional double value;
	optional double keeper_value;
}`
	if got := f.Schema().String(); got != want {
		t.Errorf("the columns are\n%s\nwant\n%s", got, want)
	}
}

func TestWrongGroups(t *testing.T) {
	ctx := context.Background()
	w := newWriter(t, t.TempDir())
	for _, tt := range []struct {
		name, want string
		add        adding
	}{
		{"too few values", "1 values, and there are 3 measures", member(groups.Member{Item: item("a", 1), Keeper: "b", Values: []float64{1}})},
		{"no keeper", "the member a has no keeper", member(groups.Member{Item: item("a", 1), Values: make([]float64, 3)})},
		{"a NUL in an ID", "has a NUL byte", member(groups.Member{Item: item("a\x00", 1), Keeper: "b", Values: make([]float64, 3)})},
		{"a NUL in a keeper", "has a NUL byte", keeper(item("a\x00b", 1), "")},
	} {
		if err := tt.add(w); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if err := errors.Join(w.AddKeeper(item("b", 1), "index"), w.AddMember(groups.Member{Item: item("a", 1), Keeper: "b", Values: make([]float64, 3)})); err != nil {
		t.Fatal(err)
	}
	for _, write := range []func(context.Context, *bytes.Buffer) error{
		func(ctx context.Context, b *bytes.Buffer) error { return w.WriteJSONL(ctx, b) },
		func(ctx context.Context, b *bytes.Buffer) error { return w.WriteParquet(ctx, b) },
	} {
		if err := write(ctx, new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), "the keeper b of a was never added") {
			t.Errorf("a keeper that was not added: %v", err)
		}
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		if err := write(cancelled, new(bytes.Buffer)); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	}
}

// Many groups go through the disk, to the same files.
func TestManyGroups(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	w := newWriter(t, dir)
	const n = 12000
	long := strings.Repeat("a/", 40)
	for i := range n {
		i = i * 7919 % n // in another order
		k := fmt.Sprintf("%s%06d.jpg", long, i-i%4)
		var err error
		if i%4 == 0 {
			err = w.AddKeeper(item(k, i), "")
		} else {
			err = w.AddMember(groups.Member{Item: item(fmt.Sprintf("%s%06d.jpg", long, i), i), Keeper: k, By: "pdq", Values: []float64{nan, float64(i % 4), nan}, Value: nan, KeeperValue: nan})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) == 0 {
		t.Errorf("nothing went to the disk: %v", err)
	}
	var text, table bytes.Buffer
	if err := errors.Join(w.WriteJSONL(ctx, &text), w.WriteParquet(ctx, &table)); err != nil {
		t.Fatal(err)
	}
	rows := readTable(t, table.Bytes())
	if got := strings.Count(text.String(), "\n"); got != n/4 || len(rows) != n/4*3 {
		t.Fatalf("%d groups and %d members, want %d and %d", got, len(rows), n/4, n/4*3)
	}
	for i, r := range rows {
		if want := fmt.Sprintf("%s%06d.jpg", long, i/3*4+i%3+1); r["id"] != want || r["group"] != float64(i/3+1) || r["pdq_distance"] != float64(i%3+1) {
			t.Fatalf("row %d is %v, want the ID %s", i, r, want)
		}
	}
}
