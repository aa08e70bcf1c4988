package nearest_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/model/nearest"
)

// value is the similarity or the squared distance, in float64.
func value(m nearest.Measure, a, b []float32) float64 {
	var dot, aa, bb, dd float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		dot, aa, bb, dd = dot+x*y, aa+x*x, bb+y*y, dd+(x-y)*(x-y)
	}
	if m == nearest.SquaredEuclidean {
		return dd
	}
	return dot / math.Sqrt(aa*bb)
}

// row has the values of i and of each before it.
func row(m nearest.Measure, all vectors, i int) []float64 {
	out := make([]float64, i)
	for j, b := range all[:i] {
		out[j] = value(m, all[i], b)
	}
	return out
}

// values are those of all pairs.
func values(m nearest.Measure, all vectors) [][]float64 {
	out := make([][]float64, len(all))
	for i := range all {
		out[i] = row(m, all, i)
	}
	return out
}

func root(t testing.TB) fsys.Root {
	t.Helper()
	r, err := fsys.OS.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// build appends all, and is ready.
func build(t testing.TB, o nearest.Options, all vectors) *nearest.Index {
	t.Helper()
	o.Dim = len(all[0])
	if o.Dir == nil {
		o.Dir = root(t)
	}
	x, err := nearest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, v := range all {
		if err := x.Append(v); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return x
}

type pair struct{ a, b uint32 }

// search finds all pairs: each vector is asked for in the order, in blocks of the size,
// and added. The first early ones are added before.
func search(ctx context.Context, x *nearest.Index, m nearest.Measure, order []uint32, size, early int) (map[pair]float64, error) {
	for _, i := range order[:early] {
		x.Add(i)
	}
	found := map[pair]float64{}
	var at []nearest.Match
	rank := make([]int, len(order))
	for r, i := range order {
		rank[i] = r
	}
	for part := range slices.Chunk(order[early:], size) {
		if err := x.Begin(ctx, part); err != nil {
			return nil, err
		}
		for _, i := range part {
			var err error
			if at, err = x.Matches(i, at[:0]); err != nil {
				return nil, err
			}
			for _, f := range at {
				p := pair{min(i, f.Item), max(i, f.Item)}
				if _, ok := found[p]; ok {
					return nil, fmt.Errorf("the pair %v was found twice", p)
				}
				found[p] = f.Value
			}
			if !slices.IsSortedFunc(at, func(a, b nearest.Match) int {
				return cmp.Or(nearer(m, a.Value, b.Value), cmp.Compare(rank[a.Item], rank[b.Item]))
			}) {
				return nil, fmt.Errorf("the matches of %d are not nearest first, and then as they were added: %v", i, at)
			}
			x.Add(i)
		}
	}
	return found, nil
}

// nearer orders values, the nearest first.
func nearer(m nearest.Measure, a, b float64) int {
	if m == nearest.SquaredEuclidean {
		return cmp.Compare(a, b)
	}
	return cmp.Compare(b, a)
}

// check compares what was found with all pairs. Where a value is as good as the threshold,
// so that the order of a sum decides, it is the index's own that does.
func check(t *testing.T, x *nearest.Index, o nearest.Options, all [][]float64, found map[pair]float64) {
	t.Helper()
	for i, values := range all {
		checkRow(t, x, o, i, values, found)
	}
}

func checkRow(t *testing.T, x *nearest.Index, o nearest.Options, i int, values []float64, found map[pair]float64) {
	t.Helper()
	const close = 1e-12
	missing, extra, scale := 0, 0, 1.0
	for j, v := range values {
		if o.Measure == nearest.SquaredEuclidean {
			scale = max(v, 1e-300)
		}
		p := pair{uint32(j), uint32(i)}
		got, ok := found[p]
		if math.Abs(v-o.Within) <= close*scale {
			own, err := x.Value(p.a, p.b)
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(own-v) > close*scale {
				t.Fatalf("the value of %v is %v, want %v", p, own, v)
			}
			v = own
		}
		want := nearer(o.Measure, v, o.Within) <= 0
		switch {
		case want && !ok:
			missing++
		case ok && !want:
			extra++
		case ok && math.Abs(got-v) > close*scale:
			t.Fatalf("the value of %v is %v, want %v", p, got, v)
		}
	}
	if missing > 0 || extra > 0 {
		t.Fatalf("of the vector %d, %d pairs are missing and %d are too much", i, missing, extra)
	}
}

func inOrder(n int) []uint32 {
	order := make([]uint32, n)
	for i := range order {
		order[i] = uint32(i)
	}
	return order
}

func TestPairsAreThoseOfComparingAll(t *testing.T) {
	for name, tt := range map[string]struct {
		all     vectors
		measure nearest.Measure
		within  []float64
		fewer   bool // the reduced vectors have fewer numbers than the vectors
	}{
		"random":                  {random(1300, 64, 1), nearest.Cosine, []float64{0.5}, false},
		"random, all":             {random(200, 64, 1), nearest.Cosine, []float64{-1, -0.1, 0.2}, false},
		"clustered":               {clustered(1300, 64, 1), nearest.Cosine, []float64{0.9, 0.999}, false},
		"like pictures":           {likePictures(1300, 64, 1), nearest.Cosine, []float64{0.95}, false},
		"like pictures, distance": {likePictures(1300, 64, 1), nearest.SquaredEuclidean, []float64{3}, true},
		"distance":                {clustered(1300, 64, 2), nearest.SquaredEuclidean, []float64{0, 10}, true},
		"all within the distance": {clustered(200, 64, 2), nearest.SquaredEuclidean, []float64{1e6, math.Inf(1)}, false},
		"few":                     {random(1, 2, 1), nearest.Cosine, []float64{-1}, false},
		"two numbers":             {random(250, 2, 2), nearest.Cosine, []float64{-1, -0.5, 0.9999, 1}, false},
		"three numbers":           {clustered(250, 3, 2), nearest.Cosine, []float64{-0.999, 0.99999, 1}, false},
		"three numbers, distance": {clustered(250, 3, 2), nearest.SquaredEuclidean, []float64{0, 1e-6, 1}, false},
		"many numbers":            {clustered(150, 512, 2), nearest.Cosine, []float64{-1, 0.9, 1}, false},
		"equal":                   {equal(150, 48), nearest.Cosine, []float64{0.5, 1}, false},
		"equal, distance":         {equal(150, 48), nearest.SquaredEuclidean, []float64{0, 1e3}, false},
		"at 0.95":                 {atThreshold(400, 64, 0.95), nearest.Cosine, []float64{0.95}, false},
		"at 0.95, reduced":        {atThreshold(1400, 64, 0.95), nearest.Cosine, []float64{0.95}, true},
		"at 1":                    {atThreshold(200, 16, 1), nearest.Cosine, []float64{1, 1 - 1e-9}, false},
		"at 0":                    {atThreshold(150, 512, 0), nearest.Cosine, []float64{0}, false},
		"at -0.5":                 {atThreshold(200, 3, -0.5), nearest.Cosine, []float64{-0.5}, false},
		"lopsided":                {lopsided(250, 32), nearest.Cosine, []float64{0.95}, false},
		"lopsided, distance":      {lopsided(250, 32), nearest.SquaredEuclidean, []float64{0, 1e-18, 1e-3, 1e22}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := values(tt.measure, tt.all)
			for _, within := range tt.within {
				o := nearest.Options{Measure: tt.measure, Within: within, Threads: 2}
				x := build(t, o, tt.all)
				found, err := search(t.Context(), x, o.Measure, inOrder(len(tt.all)), nearest.Block, 0)
				if err != nil {
					t.Fatal(err)
				}
				check(t, x, o, want, found)
				st := x.Stats()
				if n := int64(len(tt.all)); st.Pairs != n*(n-1)/2 {
					t.Errorf("%d pairs were decided, want %d", st.Pairs, n*(n-1)/2)
				}
				if st.Exact < int64(len(found)) || tt.fewer && st.Components >= len(tt.all[0]) {
					t.Errorf("within %v: %+v for %d pairs found, want fewer numbers: %t", within, st, len(found), tt.fewer)
				}
			}
		})
	}
}

// However it is gone about, the pairs and their values are the same, bit for bit.
func TestPairsAreTheSameHoweverTheyAreSought(t *testing.T) {
	all := likePictures(2200, 24, 7)
	o := nearest.Options{Within: 0.98}
	var want map[pair]float64
	for _, tt := range []struct {
		name            string
		memory          int64
		threads         int
		size, early     int
		reversed, mixed bool
	}{
		{name: "plain", size: nearest.Block},
		{name: "from the disk", memory: 1, size: nearest.Block},
		{name: "half from the disk", memory: 1200 * 4 * 24, size: 500},
		{name: "three threads", threads: 3, size: nearest.Block},
		{name: "three threads from the disk", memory: 1, threads: 3, size: 700},
		{name: "small blocks", size: 97},
		{name: "one after another", size: 1, early: 2150},
		{name: "half of them before", size: 333, early: 1100, memory: 1},
		{name: "reversed", size: nearest.Block, reversed: true},
		{name: "mixed up", size: 600, mixed: true, memory: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := o
			o.Memory, o.Threads = tt.memory, tt.threads
			order := inOrder(len(all))
			if tt.reversed {
				slices.Reverse(order)
			}
			if tt.mixed {
				for i := range order {
					order[i] = uint32(i * 7 % len(order)) // 7 does not divide 2200
				}
			}
			x := build(t, o, all)
			found, err := search(t.Context(), x, o.Measure, order, tt.size, tt.early)
			if err != nil {
				t.Fatal(err)
			}
			for p := range want { // those that were added before are not asked for
				if int(p.b) < tt.early {
					if _, ok := found[p]; ok {
						t.Errorf("%v was not asked for", p)
					}
					found[p] = want[p]
				}
			}
			if want == nil {
				check(t, x, o, values(o.Measure, all), found)
				want = found
			}
			if len(found) != len(want) {
				t.Fatalf("%d pairs, want %d", len(found), len(want))
			}
			for p, v := range want {
				if found[p] != v {
					t.Errorf("the value of %v is %v, want %v", p, found[p], v)
				}
			}
		})
	}
}

// Only what was added is found, and each time as much as was added until then.
func TestMatchesAreOfThoseThatWereAdded(t *testing.T) {
	all := equal(6, 3)
	x := build(t, nearest.Options{Within: 0.99}, all)
	found := func(i uint32) (items []uint32) {
		t.Helper()
		at, err := x.Matches(i, []nearest.Match{{Item: 99}})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range at {
			items = append(items, m.Item)
		}
		return items
	}
	x.Add(5)
	if err := x.Begin(t.Context(), []uint32{3, 1, 4, 5}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		ask  uint32
		want []uint32
		add  bool
	}{{3, []uint32{99, 5}, false}, {1, []uint32{99, 5}, true}, {4, []uint32{99, 5, 1}, true}, {3, []uint32{99, 5, 1, 4}, false}, {1, []uint32{99, 5, 4}, false}, {5, []uint32{99, 1, 4}, false}} {
		if got := found(tt.ask); !slices.Equal(got, tt.want) {
			t.Errorf("of %d: %v, want %v", tt.ask, got, tt.want)
		}
		if tt.add {
			x.Add(tt.ask)
		}
	}
	if err := x.Begin(t.Context(), []uint32{0}); err != nil {
		t.Fatal(err)
	}
	if got := found(0); !slices.Equal(got, []uint32{99, 5, 1, 4}) {
		t.Errorf("of 0 in the next block: %v", got)
	}
	if _, err := x.Matches(3, nil); err == nil || !strings.Contains(err.Error(), "the vector 3: it is not of the block") {
		t.Errorf("asking for one of an earlier block: %v", err)
	}
}

func TestAppendRefusesWhatCannotBeCompared(t *testing.T) {
	inf, nan := float32(math.Inf(-1)), float32(math.NaN())
	for name, tt := range map[string]struct {
		measure nearest.Measure
		v       []float32
		want    string // in the error; "": none
	}{
		"too short":       {nearest.Cosine, []float32{1, 2}, "it has 2 numbers, and the others have 3"},
		"too long":        {nearest.Cosine, []float32{1, 2, 3, 4}, "it has 4 numbers"},
		"none":            {nearest.SquaredEuclidean, nil, "it has 0 numbers"},
		"NaN":             {nearest.Cosine, []float32{1, nan, 3}, "its number 1 is NaN"},
		"infinite":        {nearest.SquaredEuclidean, []float32{1, 2, inf}, "its number 2 is -Inf"},
		"zeros":           {nearest.Cosine, []float32{0, 0, 0}, "it is all zeros"},
		"zeros, distance": {nearest.SquaredEuclidean, []float32{0, 0, 0}, ""},
		"very short":      {nearest.Cosine, []float32{0, math.SmallestNonzeroFloat32, 0}, ""},
		"very long":       {nearest.Cosine, []float32{math.MaxFloat32, math.MaxFloat32, 1}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			x, err := nearest.New(nearest.Options{Dim: 3, Measure: tt.measure, Within: 0.5, Dir: root(t)})
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			if err := x.Append([]float32{1, 2, 3}); err != nil {
				t.Fatal(err)
			}
			err = x.Append(tt.v)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), "appending the vector 1: "+tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if want := map[bool]int{true: 2, false: 1}[tt.want == ""]; x.Len() != want {
				t.Errorf("there are %d vectors, want %d", x.Len(), want)
			}
			if err := x.Append([]float32{1, 2, 4}); err != nil {
				t.Errorf("the next one: %v", err)
			}
		})
	}
}

func TestNewRefusesWhatMakesNoSense(t *testing.T) {
	for name, o := range map[string]nearest.Options{
		"one number":          {Dim: 1},
		"a similarity over 1": {Dim: 2, Within: 1.1},
		"no similarity":       {Dim: 2, Within: math.NaN()},
		"a distance below 0":  {Dim: 2, Within: -1, Measure: nearest.SquaredEuclidean},
		"no distance":         {Dim: 2, Within: math.NaN(), Measure: nearest.SquaredEuclidean},
		"another measure":     {Dim: 2, Measure: 7},
		"less than no memory": {Dim: 2, Memory: -1},
	} {
		t.Run(name, func(t *testing.T) {
			o.Dir = root(t)
			if x, err := nearest.New(o); err == nil {
				t.Errorf("%+v is accepted", o)
				x.Close()
			}
		})
	}
}

func TestCancelledSearchesSayWhy(t *testing.T) {
	why := errors.New("enough of it")
	ctx, cancel := context.WithCancelCause(t.Context())
	x := build(t, nearest.Options{Within: 0.9}, random(100, 4, 1))
	cancel(why)
	if err := x.Begin(ctx, []uint32{1, 2}); !errors.Is(err, why) {
		t.Errorf("beginning: %v, want %v", err, why)
	}
	if _, err := x.Matches(1, nil); !errors.Is(err, why) {
		t.Errorf("asking afterwards: %v, want %v", err, why)
	}
	y, err := nearest.New(nearest.Options{Dim: 2, Within: 0.9, Dir: root(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer y.Close()
	if err := y.Ready(ctx); !errors.Is(err, why) {
		t.Errorf("preparing: %v, want %v", err, why)
	}
}

func TestCloseRemovesTheFiles(t *testing.T) {
	r := root(t)
	x, err := nearest.New(nearest.Options{Dim: 2, Within: 0.9, Dir: r, Prefix: "near-", Memory: 1})
	if err != nil {
		t.Fatal(err)
	}
	for range 2000 {
		if err := x.Append([]float32{1, 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, i := range inOrder(2000) {
		x.Add(i)
	}
	if err := x.Begin(t.Context(), []uint32{0}); err != nil {
		t.Fatal(err)
	}
	var bytes int64
	names, err := r.ReadDir(".")
	for _, n := range names {
		info, err := n.Info()
		if err != nil {
			t.Fatal(err)
		}
		bytes += info.Size()
		if !strings.HasPrefix(n.Name(), "near-") {
			t.Errorf("there is a file %s", n.Name())
		}
	}
	if most := nearest.Spill(2, 2000); err != nil || len(names) != 2 || bytes > most {
		t.Errorf("%d files with %d bytes, want 2 with at most %d (%v)", len(names), bytes, most, err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if names, err := r.ReadDir("."); err != nil || len(names) > 0 {
		t.Errorf("%d files are left (%v)", len(names), err)
	}
	if err := x.Append([]float32{1, 1}); err == nil {
		t.Error("it takes a vector after it was closed")
	}
}
