package dedup_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"maps"
	"math"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/disintegration/imaging"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

// folder is for files that several tests read.
var folder string

func TestMain(m *testing.M) {
	var err error
	if folder, err = os.MkdirTemp("", "dedup-"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(folder)
		os.Exit(code)
	}))
}

// attrs are those of one item, given maps items' names to them.
type (
	attrs map[string]pipeline.Value
	given map[string]attrs
)

// giver is a stage that sets the given attributes, which it declares.
func (g given) giver() stagetest.Step {
	types := map[string]pipeline.Type{}
	for _, as := range g {
		for name, v := range as {
			types[name] = v.Type()
		}
	}
	return stagetest.Step{Info: pipeline.Info{
		Name: "give", Short: "sets attributes",
		Makes: func(pipeline.Config) []pipeline.Made {
			var made []pipeline.Made
			for name, t := range types {
				made = append(made, pipeline.Made{Name: name, Type: t})
			}
			return made
		},
		New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
			return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
				for name, v := range g[it.ID()] {
					it.SetAttr(name, v)
				}
				return nil
			}), nil
		},
	}}
}

// dot is a file with a picture of one pixel.
var dot = sync.OnceValue(func() string {
	file := filepath.Join(folder, "dot.png")
	if err := imaging.Save(image.NewGray(image.Rect(0, 0, 1, 1)), file); err != nil {
		panic(err)
	}
	return file
})

// source offers items of those names, all with the same file.
func (g given) source(names []string) stagetest.Source {
	var s stagetest.Source
	for _, name := range names {
		s = append(s, pipeline.Input{Name: name, Path: dot()})
	}
	return s
}

func (g given) names() []string { return slices.Sorted(maps.Keys(g)) }

// config is the stage's, from pairs of a field and its value.
func config(fieldValues ...any) map[string]any {
	m := map[string]any{}
	for i := 0; i < len(fieldValues); i += 2 {
		m[fieldValues[i].(string)] = fieldValues[i+1]
	}
	return m
}

// rejected runs the stage over the items and gives what it says of those that
// it rejects, and its note.
func (g given) rejected(t testing.TB, c map[string]any) (map[string]string, string) {
	t.Helper()
	p := pipeline.New("test", pipeline.Options{})
	p.SetSource(g.source(g.names()))
	for _, step := range []stagetest.Step{g.giver(), {Info: dedup.Info(), Values: c}} {
		if err := p.Use(t.Context(), pipeline.NewRegistry(step.Info), step.Info.Name, step.Info.Name, step.Values); err != nil {
			t.Fatal(err)
		}
	}
	return run(t, p, len(g))
}

// run gives what is said of the items that the second stage, dedup, rejects, and
// its note.
func run(t testing.TB, p *pipeline.Pipeline, items int) (map[string]string, string) {
	t.Helper()
	return runStage(t, p, items, "dedup", 1)
}

// runStage is run for a dedup of that id at that place.
func runStage(t testing.TB, p *pipeline.Pipeline, items int, id string, place int) (map[string]string, string) {
	t.Helper()
	said := map[string]string{}
	var mu sync.Mutex
	s, err := p.Run(t.Context(), pipeline.RunOptions{NoStore: true, OnEvent: func(e pipeline.Event) {
		if e.Kind == pipeline.EventRejected {
			mu.Lock()
			said[e.Item] = e.Message
			mu.Unlock()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if n := int64(len(said)); s.Out+n != int64(items) || s.Rejected[id]["duplicate"] != n {
		t.Errorf("%d items, %d rejected, %d passed, %v", items, n, s.Out, s.Rejected)
	}
	return said, s.Stages[place].Note
}

func hash64(v uint64) pipeline.Value {
	return pipeline.Hash(binary.BigEndian.AppendUint64(nil, v))
}

// ones is a hash of 256 bits of which the first n are set.
func ones(n int) pipeline.Value {
	var h [32]byte
	for i := range n {
		h[i/8] |= 0x80 >> (i % 8)
	}
	return pipeline.Hash(h[:])
}

var (
	yes, no  = pipeline.Bool(true), pipeline.Bool(false)
	num      = pipeline.Float
	whole    = pipeline.Int
	nan, inf = pipeline.Float(math.NaN()), math.Inf(1)
)

func TestWhichOneIsKept(t *testing.T) {
	same := hash64(1)
	tests := map[string]struct {
		items  given
		prefer []string
		want   map[string]string // what is said of the rejected
	}{
		"the higher value": {
			given{"a": {"dhash": same, "q": num(1)}, "b": {"dhash": same, "q": num(2.5)}, "c": {"dhash": same, "q": num(-3)}},
			[]string{"q"},
			map[string]string{
				"a": "keeper b, by dhash, distance 0, rule q, value 1, keeper_value 2.5",
				"c": "keeper b, by dhash, distance 0, rule q, value -3, keeper_value 2.5",
			},
		},
		"the lower value, reversed": {
			given{"a": {"dhash": same, "q": num(1)}, "b": {"dhash": same, "q": num(2.5)}},
			[]string{"-q"},
			map[string]string{"b": "keeper a, by dhash, distance 0, rule -q, value 2.5, keeper_value 1"},
		},
		"a tie goes to the next rule": {
			given{"a": {"dhash": same, "q": num(1), "r": whole(1)}, "b": {"dhash": same, "q": num(1), "r": whole(2)}},
			[]string{"q", "r"},
			map[string]string{"a": "keeper b, by dhash, distance 0, rule r, value 1, keeper_value 2"},
		},
		"a tie everywhere goes to the first ID": {
			given{"b": {"dhash": same, "q": num(1)}, "a": {"dhash": same, "q": num(1)}, "B": {"dhash": same, "q": num(1)}},
			[]string{"q"},
			map[string]string{
				"a": "keeper B, by dhash, distance 0, rule id",
				"b": "keeper B, by dhash, distance 0, rule id",
			},
		},
		"no rules": {
			given{"b": {"dhash": same}, "a": {"dhash": same}},
			[]string{},
			map[string]string{"b": "keeper a, by dhash, distance 0, rule id"},
		},
		"zero is zero": {
			given{"a": {"dhash": same, "q": num(math.Copysign(0, -1))}, "b": {"dhash": same, "q": num(0)}},
			[]string{"q"},
			map[string]string{"b": "keeper a, by dhash, distance 0, rule id"},
		},
		"missing is last": {
			given{"a": {"dhash": same}, "b": {"dhash": same, "q": num(-1e300)}},
			[]string{"q"},
			map[string]string{"a": "keeper b, by dhash, distance 0, rule q, keeper_value -1e+300"},
		},
		"missing is last, reversed": {
			given{"a": {"dhash": same}, "b": {"dhash": same, "q": num(1e300)}},
			[]string{"-q"},
			map[string]string{"a": "keeper b, by dhash, distance 0, rule -q, keeper_value 1e+300"},
		},
		"missing in both is a tie": {
			given{"a": {"dhash": same}, "b": {"dhash": same, "r": yes}, "c": {"dhash": hash64(^uint64(0)), "q": num(1)}},
			[]string{"q", "r"},
			map[string]string{"a": "keeper b, by dhash, distance 0, rule r, keeper_value 1"},
		},
		"NaN is as good as missing": {
			given{"a": {"dhash": same, "q": nan}, "b": {"dhash": same}, "c": {"dhash": same, "q": num(-inf)}},
			[]string{"q"},
			map[string]string{
				"a": "keeper c, by dhash, distance 0, rule q, keeper_value -Inf",
				"b": "keeper c, by dhash, distance 0, rule q, keeper_value -Inf",
			},
		},
		"infinity is highest": {
			given{"a": {"dhash": same, "q": num(1e308)}, "b": {"dhash": same, "q": num(inf)}, "c": {"dhash": same, "q": nan}},
			[]string{"q"},
			map[string]string{
				"a": "keeper b, by dhash, distance 0, rule q, value 1e+308, keeper_value +Inf",
				"c": "keeper b, by dhash, distance 0, rule q, keeper_value +Inf",
			},
		},
		"infinity is lowest, reversed": {
			given{"a": {"dhash": same, "q": num(inf)}, "b": {"dhash": same, "q": num(3)}, "c": {"dhash": same, "q": nan}},
			[]string{"-q"},
			map[string]string{
				"a": "keeper b, by dhash, distance 0, rule -q, value +Inf, keeper_value 3",
				"c": "keeper b, by dhash, distance 0, rule -q, keeper_value 3",
			},
		},
		"true is higher than false": {
			given{"a": {"dhash": same, "q": no}, "b": {"dhash": same, "q": yes}},
			[]string{"q"},
			map[string]string{"a": "keeper b, by dhash, distance 0, rule q, value 0, keeper_value 1"},
		},
		"false is preferred, reversed": {
			given{"a": {"dhash": same, "q": yes}, "b": {"dhash": same, "q": no}},
			[]string{"-q"},
			map[string]string{"a": "keeper b, by dhash, distance 0, rule -q, value 1, keeper_value 0"},
		},
		"what is known of every item": {
			given{"a": {"dhash": same}, "b": {"dhash": same}},
			[]string{"pixels", "-width", "height", "source.bytes"},
			map[string]string{"b": "keeper a, by dhash, distance 0, rule id"},
		},
		// b matches a, c matches b and not a: as b is gone, c stays.
		"a chain has several keepers": {
			given{"a": {"dhash": hash64(0)}, "b": {"dhash": hash64(0xf)}, "c": {"dhash": hash64(0xff)}},
			[]string{},
			map[string]string{"b": "keeper a, by dhash, distance 4, rule id"},
		},
		// Here b is preferred and takes both.
		"the middle of a chain takes all": {
			given{"a": {"dhash": hash64(0)}, "b": {"dhash": hash64(0xf), "q": num(1)}, "c": {"dhash": hash64(0xff)}},
			[]string{"q"},
			map[string]string{
				"a": "keeper b, by dhash, distance 4, rule q, keeper_value 1",
				"c": "keeper b, by dhash, distance 4, rule q, keeper_value 1",
			},
		},
		"the nearest keeper is recorded": {
			given{"a": {"dhash": hash64(0)}, "b": {"dhash": hash64(0x7f)}, "c": {"dhash": hash64(0x1f)}},
			[]string{},
			map[string]string{"c": "keeper b, by dhash, distance 2, rule id"},
		},
		"of equally near ones the preferred": {
			given{"a": {"dhash": hash64(0)}, "b": {"dhash": hash64(0xff), "q": num(1)}, "c": {"dhash": hash64(0xf)}},
			[]string{"q"},
			map[string]string{"c": "keeper b, by dhash, distance 4, rule q, keeper_value 1"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, _ := tt.items.rejected(t, config("by", "dhash", "prefer", tt.prefer))
			want := map[string]string{}
			for id, text := range tt.want {
				want[id] = "duplicate: " + text
			}
			if !maps.Equal(got, want) {
				t.Errorf("got %q\nwant %q", got, want)
			}
		})
	}
}

func TestMethods(t *testing.T) {
	flat := whole(49)
	by := func(methods ...any) map[string]any { return config("by", methods, "prefer", []string{}) }
	tests := map[string]struct {
		items  given
		config map[string]any
		want   map[string]string
		note   string
	}{
		"PDQ, as far as 31 bits": {
			given{"a": {"pdq": ones(0)}, "b": {"pdq": ones(31)}, "c": {"pdq": ones(63)}},
			by("pdq"),
			map[string]string{"b": "keeper a, by pdq, distance 31, rule id"},
			"1 of 3 is a duplicate in 1 group (by pdq 1)",
		},
		"PDQ with a distance of its own": {
			given{"a": {"pdq": ones(0)}, "b": {"pdq": ones(3)}, "c": {"pdq": ones(7)}},
			by(map[string]any{"pdq": map[string]any{"max_distance": 3}}),
			map[string]string{"b": "keeper a, by pdq, distance 3, rule id"},
			"1 of 3 is a duplicate in 1 group (by pdq 1)",
		},
		"PDQ with the stage's distance": {
			given{"a": {"pdq": ones(0)}, "b": {"pdq": ones(3)}, "c": {"pdq": ones(7)}},
			config("by", "pdq", "prefer", []string{}, "max_distance", 3),
			map[string]string{"b": "keeper a, by pdq, distance 3, rule id"},
			"1 of 3 is a duplicate in 1 group (by pdq 1)",
		},
		"a distance of 0": {
			given{"a": {"pdq": ones(0)}, "b": {"pdq": ones(1)}, "c": {"pdq": ones(1)}},
			config("by", "pdq", "prefer", []string{}, "max_distance", 0),
			map[string]string{"c": "keeper b, by pdq, distance 0, rule id"},
			"1 of 3 is a duplicate in 1 group (by pdq 1)",
		},
		"no verdict on flat pictures": {
			given{"a": {"pdq": ones(0), "pdq_quality": flat}, "b": {"pdq": ones(0), "pdq_quality": flat}, "c": {"pdq": ones(0), "pdq_quality": whole(50)}, "d": {"pdq": ones(0)}},
			by("pdq"),
			map[string]string{"d": "keeper c, by pdq, distance 0, rule id"},
			"1 of 4 is a duplicate in 1 group (by pdq 1); 2 had no verdict from pdq (flat pictures)",
		},
		"the quality of PDQ matters to PDQ alone": {
			given{"a": {"dhash": hash64(0), "pdq_quality": flat, "pdq": ones(0)}, "b": {"dhash": hash64(0), "pdq_quality": flat, "pdq": ones(0)}},
			by("pdq", "dhash"),
			map[string]string{"b": "keeper a, by dhash, distance 0, rule id"},
			"1 of 2 is a duplicate in 1 group (by dhash 1); 2 had no verdict from pdq (flat pictures)",
		},
		"pHash, as far as 6 bits": {
			given{"a": {"phash": hash64(0)}, "b": {"phash": hash64(0x3f)}, "c": {"phash": hash64(0x1fff)}},
			by("phash"),
			map[string]string{"b": "keeper a, by phash, distance 6, rule id"},
			"1 of 3 is a duplicate in 1 group (by phash 1)",
		},
		// c is nearer to b by dHash, and equal to a by pHash, which comes first.
		"the first method that matches decides": {
			given{"a": {"phash": hash64(0), "dhash": hash64(0)}, "b": {"phash": hash64(1 << 40 * 0xffff), "dhash": hash64(0xffff)}, "c": {"phash": hash64(3), "dhash": hash64(0xffff)}},
			by("phash", "dhash"),
			map[string]string{"c": "keeper a, by phash, distance 2, dhash_distance 16, rule id"},
			"1 of 3 is a duplicate in 1 group (by phash 1)",
		},
		"in the order of the list": {
			given{"a": {"phash": hash64(0), "dhash": hash64(0)}, "b": {"phash": hash64(1 << 40 * 0xffff), "dhash": hash64(0xffff)}, "c": {"phash": hash64(3), "dhash": hash64(0xffff)}},
			by("dhash", "phash"),
			map[string]string{"c": "keeper b, by dhash, distance 0, phash_distance 18, rule id"},
			"1 of 3 is a duplicate in 1 group (by dhash 1)",
		},
		"equal pixels": {
			given{"a": {"pixels_sha256": ones(9)}, "b": {"pixels_sha256": ones(8)}, "c": {"pixels_sha256": ones(9)}, "d": {"pixels_sha256": ones(8)}},
			by("pixels"),
			map[string]string{"c": "keeper a, by pixels, distance 0, rule id", "d": "keeper b, by pixels, distance 0, rule id"},
			"2 of 4 are duplicates in 2 groups (by pixels 2)",
		},
		"equal files": {
			given{"a": {}, "b": {}},
			by("sha256"),
			map[string]string{"b": "keeper a, by sha256, distance 0, rule id"},
			"1 of 2 is a duplicate in 1 group (by sha256 1)",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, note := tt.items.rejected(t, tt.config)
			want := map[string]string{}
			for id, text := range tt.want {
				want[id] = "duplicate: " + text
			}
			if !maps.Equal(got, want) {
				t.Errorf("got %q\nwant %q", got, want)
			}
			if note != tt.note {
				t.Errorf("the note is %q\nwant %q", note, tt.note)
			}
		})
	}
}

func TestAWrongHashIsTheItemsFault(t *testing.T) {
	g := given{"a": {"pdq": hash64(1)}, "b": {"pdq": ones(1)}}
	b := stagetest.New(t, g.source(g.names()), g.giver(), stagetest.Step{Info: dedup.Info(), Values: config("by", "pdq")})
	s, seen := b.Run(t, pipeline.RunOptions{NoStore: true})
	if len(seen) != 1 || s.Quarantined != 1 || s.Failed[0].Cause != `comparing by pdq: the attribute pdq is the hash "0000000000000001", not a hash of 256 bits` {
		t.Errorf("%v passed, %+v", stagetest.IDs(seen), s.Failed)
	}
}

// model decides as the description says, comparing everything with everything.
type model struct {
	methods  []string
	distance map[string]int
	prefer   []string
}

// value is what a rule compares: higher is better, and nothing is worst.
func (m model) value(as attrs, rule string) (float64, bool) {
	name := strings.TrimPrefix(rule, "-")
	v, ok := as[name]
	f := v.Float()
	if v.Type() == pipeline.TypeBool {
		f = map[bool]float64{true: 1, false: 0}[v.Bool()]
	}
	if !ok || f != f {
		return 0, false
	}
	if name != rule {
		f = -f
	}
	return f, true
}

func (m model) compare(g given, a, b string) (int, string) {
	for _, rule := range m.prefer {
		x, xok := m.value(g[a], rule)
		y, yok := m.value(g[b], rule)
		switch {
		case xok && yok && x != y:
			return cmp.Compare(y, x), rule
		case xok && !yok:
			return -1, rule
		case !xok && yok:
			return 1, rule
		}
	}
	return strings.Compare(a, b), "id"
}

var attributeOf = map[string]string{"pixels": "pixels_sha256", "pdq": "pdq", "phash": "phash", "dhash": "dhash"}

// decide gives for each rejected item its keeper, method, distance and rule.
func (m model) decide(g given) map[string]string {
	names := slices.SortedFunc(maps.Keys(g), func(a, b string) int { o, _ := m.compare(g, a, b); return o })
	said := map[string]string{}
	kept := map[string][]string{}      // by method
	hashes := map[string][][4]uint64{} // theirs
next:
	for _, a := range names {
		judging := slices.DeleteFunc(slices.Clone(m.methods), func(method string) bool {
			q := g[a]["pdq_quality"]
			return method == "pdq" && q.Type() == pipeline.TypeInt && q.Int() < 50
		})
		for _, method := range judging {
			nearest, least := -1, m.distance[method]+1
			h := words(g[a][attributeOf[method]])
			for i, k := range hashes[method] {
				if d := differ(h, k); d < least {
					nearest, least = i, d
				}
			}
			if nearest >= 0 {
				keeper := kept[method][nearest]
				_, rule := m.compare(g, a, keeper)
				said[a] = fmt.Sprintf("duplicate: keeper %s, by %s, distance %d, rule %s", keeper, method, least, rule)
				continue next
			}
		}
		for _, method := range judging {
			kept[method] = append(kept[method], a)
			hashes[method] = append(hashes[method], words(g[a][attributeOf[method]]))
		}
	}
	return said
}

func words(v pipeline.Value) (w [4]uint64) {
	for i, b := range v.Hash() {
		w[i/8] = w[i/8]<<8 | uint64(b)
	}
	return w
}

func differ(a, b [4]uint64) (n int) {
	for i := range a {
		n += bits.OnesCount64(a[i] ^ b[i])
	}
	return n
}

// ofOthers are the values of methods that did not decide.
var ofOthers = regexp.MustCompile(`, ([a-z]+_(distance|similarity)|keeper_index) [^,]*`)

// withoutValues cuts what a rejection says down to what the model says.
func withoutValues(said map[string]string) map[string]string {
	out := map[string]string{}
	for id, text := range said {
		text = ofOthers.ReplaceAllString(text, "")
		for _, v := range []string{", value ", ", keeper_value "} {
			text, _, _ = strings.Cut(text, v)
		}
		out[id] = text
	}
	return out
}

func compareSaid(t rapid.TB, got, want map[string]string) {
	t.Helper()
	if maps.Equal(got, want) {
		return
	}
	shown := 0
	for _, id := range slices.Sorted(maps.Keys(want)) {
		if got[id] != want[id] && shown < 5 {
			t.Errorf("%s: got %q, want %q", id, got[id], want[id])
			shown++
		}
	}
	for id := range got {
		if want[id] == "" && shown < 5 {
			t.Errorf("%s is rejected, %q, and should not be", id, got[id])
			shown++
		}
	}
	t.Fatalf("%d are rejected, %d should be", len(got), len(want))
}

func TestTheSameAsComparingAllWithAll(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	m := model{distance: map[string]int{}, prefer: []string{"q"}}
	for name, tt := range map[string]struct{ bytes, near int }{"pdq": {32, 31}, "phash": {8, 6}} {
		t.Run(name, func(t *testing.T) {
			m.methods, m.distance[name] = []string{name}, tt.near
			const n = 20_000
			g := given{}
			hashes := make([][]byte, n)
			for i := range hashes {
				h := make([]byte, tt.bytes)
				if i%3 == 0 || i < 10 {
					for j := range h {
						h[j] = byte(rnd.Uint32())
					}
				} else { // near an earlier one, around the distance that decides
					copy(h, hashes[rnd.IntN(i)])
					for range rnd.IntN(2 * tt.near) {
						b := rnd.IntN(8 * tt.bytes)
						h[b/8] ^= 1 << (b % 8)
					}
				}
				hashes[i] = h
				as := attrs{name: pipeline.Hash(h), "q": num(float64(rnd.IntN(50)))}
				if name == "pdq" {
					as["pdq_quality"] = whole(int64(45 + rnd.IntN(56)))
				}
				g[fmt.Sprintf("%05d", i)] = as
			}
			got, _ := g.rejected(t, config("by", name, "prefer", m.prefer))
			want := m.decide(g)
			if len(want) < n/10 || len(want) > n*9/10 {
				t.Fatalf("%d of %d are duplicates: the test sees little", len(want), n)
			}
			compareSaid(t, withoutValues(got), want)
		})
	}
}

func TestTheSameAsTheModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		methods := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"pixels", "pdq", "phash", "dhash"}), 1, 3, rapid.ID[string]).Draw(r, "by")
		prefer := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"q", "-r", "b"}), 0, 3, rapid.ID[string]).Draw(r, "prefer")
		m := model{methods: methods, distance: map[string]int{}, prefer: prefer}
		var by []any
		for _, name := range methods {
			if name == "pixels" {
				by = append(by, name)
				continue
			}
			m.distance[name] = rapid.IntRange(0, 3).Draw(r, "max_distance")
			by = append(by, map[string]any{name: map[string]any{"max_distance": m.distance[name]}})
		}
		few := rapid.Uint64Range(0, 31) // so that all distances occur
		value := rapid.SampledFrom([]float64{-1, 0, 1, math.Inf(1), math.Inf(-1), math.NaN()})
		g := given{"zz": {"q": num(0), "r": whole(0), "b": no, "pixels_sha256": ones(0), "pdq": ones(0), "phash": hash64(0), "dhash": hash64(0)}}
		for i := range rapid.IntRange(0, 25).Draw(r, "items") {
			wide := func(v uint64) pipeline.Value { return pipeline.Hash(append(make([]byte, 24), hash64(v).Hash()...)) }
			as := attrs{
				"pixels_sha256": wide(few.Draw(r, "pixels")), "pdq": wide(few.Draw(r, "pdq")),
				"phash": hash64(few.Draw(r, "phash")), "dhash": hash64(few.Draw(r, "dhash")),
				"pdq_quality": whole(int64(rapid.SampledFrom([]int{49, 50, 100}).Draw(r, "quality"))),
			}
			for name, v := range map[string]func() pipeline.Value{
				"q": func() pipeline.Value { return num(value.Draw(r, "q")) },
				"r": func() pipeline.Value { return whole(int64(rapid.IntRange(0, 2).Draw(r, "r"))) },
				"b": func() pipeline.Value { return pipeline.Bool(rapid.Bool().Draw(r, "b")) },
			} {
				if rapid.IntRange(0, 3).Draw(r, "has "+name) > 0 {
					as[name] = v()
				}
			}
			g[fmt.Sprintf("%c%d", 'z'-rune(i%7), i)] = as
		}
		got, _ := g.rejected(t, config("by", by, "prefer", prefer))
		compareSaid(r, withoutValues(got), m.decide(g))
	})
}

func TestTheOrderDoesNotMatter(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	g := given{}
	for i := range 400 {
		g[fmt.Sprintf("%03d", i)] = attrs{
			"phash": hash64(rnd.Uint64() & 0xfff), "dhash": hash64(rnd.Uint64() & 0xfff), "q": num(float64(rnd.IntN(3))),
		}
	}
	c := config("by", []any{map[string]any{"phash": map[string]any{"max_distance": 1}}, map[string]any{"dhash": map[string]any{"max_distance": 1}}}, "prefer", []string{"q"})
	want, wantNote := g.rejected(t, c)
	if len(want) < 50 || len(want) > 350 {
		t.Fatalf("%d of 400 are duplicates: the test sees little", len(want))
	}
	for _, workers := range []int{1, 2, 8} {
		for _, batch := range []int{1, 7, 64} {
			names := g.names()
			rnd.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
			p := load(t, g.source(names), fmt.Sprintf(`
  - give:
  - dedup: {by: [{phash: {max_distance: 1}}, {dhash: {max_distance: 1}}], prefer: q}
    workers: %d
    batch: %d
`, workers, batch), g.giver().Info)
			got, note := run(t, p, len(g))
			compareSaid(t, got, want)
			if note != wantNote {
				t.Errorf("%d workers, batches of %d: the note is %q, want %q", workers, batch, note, wantNote)
			}
		}
	}
}

// load builds a pipeline of stages written in YAML.
func load(t testing.TB, src pipeline.Source, stages string, infos ...pipeline.Info) *pipeline.Pipeline {
	t.Helper()
	p, err := pipeline.Load(t.Context(), "p.yaml", []byte("source: {made: {}}\nstages:"+stages), pipeline.Options{Registry: registry(src, infos...)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func registry(src pipeline.Source, infos ...pipeline.Info) pipeline.Registry {
	return pipeline.NewRegistry(append(infos, dedup.Info(), pipeline.Info{
		Name: "made", Short: "what the test made",
		NewSource: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Source, error) { return src, nil },
	})...)
}
