package dedup_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup"
	"github.com/forgepipe/forgepipe/stages/dedup/index"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

// embedded maps items' names to their vectors by name.
type embedded map[string]map[string]pipeline.Vector

// vec is a vector by the network that tests have.
func vec(data ...float32) pipeline.Vector { return pipeline.Vector{Model: "net", Data: data} }

// giver is a stage that sets the given vectors, which it declares.
func (e embedded) giver(names ...string) stagetest.Step {
	return stagetest.Step{Info: pipeline.Info{
		Name: "embedded", Short: "sets vectors",
		Makes: func(pipeline.Config) []pipeline.Made {
			var made []pipeline.Made
			for _, name := range names {
				made = append(made, pipeline.Made{Name: name, Vector: true})
			}
			return made
		},
		New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
			return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
				for name, v := range e[it.ID()] {
					v.Name, v.Data = name, slices.Clone(v.Data)
					it.SetVector(v)
				}
				return nil
			}), nil
		},
	}}
}

// cascade is a dedup of items with attributes and vectors.
type cascade struct {
	given
	embedded
	vectors []string // names
}

func (c cascade) bench(t testing.TB, values map[string]any) *stagetest.Bench {
	t.Helper()
	return stagetest.New(t, c.source(c.names()), c.given.giver(), c.embedded.giver(c.vectors...), stagetest.Step{Info: dedup.Info(), Values: values})
}

// said is what the stage says of the items that it rejects, and its note.
func (c cascade) said(t testing.TB, values map[string]any) (map[string]string, string) {
	t.Helper()
	b := c.bench(t, values)
	s, seen := b.Run(t, pipeline.RunOptions{NoStore: true})
	said := b.Messages(pipeline.EventRejected)
	for id, text := range said {
		m := keeperOf.FindStringSubmatch(text)
		if _, kept := seen[m[1]]; text != "decided by hand" && m[2] == "" && !kept {
			t.Errorf("%s is rejected for %s, which is not kept", id, m[1])
		}
	}
	if len(seen)+len(said) != len(c.given) || s.Quarantined > 0 {
		t.Errorf("%d items, %d rejected, %d passed, failed %+v", len(c.given), len(said), len(seen), s.Failed)
	}
	return said, s.Stages[2].Note
}

// keeperOf finds the keeper, and the index that it is from, in what is said of an item.
var keeperOf = regexp.MustCompile(`^(?:duplicate: keeper ([^,]*)(, keeper_index)?|decided by hand)`)

func option(name string, fieldValues ...any) map[string]any {
	return map[string]any{name: config(fieldValues...)}
}

// TestClauses has what each kind of step decides and confirms.
func TestClauses(t *testing.T) {
	c := cascade{
		given: given{
			"a": {"phash": hash64(0), "dhash": hash64(0)},
			"b": {"phash": hash64(1), "dhash": hash64(0xffff)},
			"c": {"phash": hash64(3), "dhash": hash64(0)},
			"d": {"phash": hash64(1 << 40 * 0xffff), "dhash": hash64(1 << 40 * 0xffff)},
		},
		embedded: embedded{
			"a": {"v": vec(1, 0)}, "b": {"v": vec(1, 1)}, "c": {"v": vec(2, 0)}, "d": {"v": vec(3, 4)},
		},
		vectors: []string{"v"},
	}
	v := func(least any, more ...any) map[string]any {
		return option("vector", append([]any{"name", "v", "min_similarity", least}, more...)...)
	}
	confirm := []any{"confirm", true}
	tests := map[string]struct {
		by   []any
		want map[string]string
		note string
	}{
		"a vector decides": {
			[]any{v(0.98)},
			map[string]string{
				"c": "keeper a, by v, similarity 1, rule id",
				"d": "keeper b, by v, similarity 0.9899494936611665, rule id",
			},
			"2 of 4 are duplicates in 2 groups (by v 2)",
		},
		"what is as near as the threshold counts": {
			[]any{v(0.6)},
			map[string]string{
				"b": "keeper a, by v, similarity 0.7071067811865475, rule id",
				"c": "keeper a, by v, similarity 1, rule id",
				"d": "keeper a, by v, similarity 0.6, rule id",
			},
			"3 of 4 are duplicates in 1 group (by v 3)",
		},
		// b is near a by pHash, and not by dHash; so it stays, and c is nearer to it.
		"a hash confirms a hash": {
			[]any{option("phash"), option("dhash", confirm...)},
			map[string]string{"c": "keeper a, by phash, distance 2, dhash_distance 0, rule id"},
			"1 of 4 is a duplicate in 1 group (by phash 1)",
		},
		"a vector confirms a hash": {
			[]any{option("phash"), v(0.9, confirm...)},
			map[string]string{"c": "keeper a, by phash, distance 2, v_similarity 1, rule id"},
			"1 of 4 is a duplicate in 1 group (by phash 1)",
		},
		"a hash confirms a vector": {
			[]any{v(0.6), option("phash", confirm...)},
			map[string]string{
				"b": "keeper a, by v, similarity 0.7071067811865475, phash_distance 1, rule id",
				"c": "keeper a, by v, similarity 1, phash_distance 2, rule id",
			},
			"2 of 4 are duplicates in 1 group (by v 2)",
		},
		"two clauses, one with two that confirm": {
			[]any{option("phash", "max_distance", 1), option("dhash", confirm...), v(0.9, confirm...), option("sha256"), option("pdq", confirm...)},
			map[string]string{},
			"0 of 4 are duplicates",
		},
		"the same file confirms": {
			[]any{option("phash"), option("sha256", confirm...)},
			map[string]string{
				"b": "keeper a, by phash, distance 1, rule id",
				"c": "keeper a, by phash, distance 2, rule id",
			},
			"2 of 4 are duplicates in 1 group (by phash 2)",
		},
	}
	for i, id := range c.names() {
		c.given[id]["pdq"] = ones(64 * i)
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, note := c.said(t, config("by", tt.by, "prefer", []string{}))
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

// clauseModel decides as the description says, comparing everything with everything.
type clauseModel struct {
	cascade
	steps     []modelStep
	entries   []string // of an index, in their order: keys of attributes and vectors
	was       map[string]whereabouts
	reference func(id string) bool
	keep      map[string]bool
	reject    map[string]bool
	different map[[2]string]bool
}

// whereabouts say of an entry whether its file is that of the item with its ID, by the bytes,
// and whether it lies elsewhere.
type whereabouts struct {
	same      bool
	elsewhere string // a folder; empty: it does not
}

type modelStep struct {
	name    string // of the attribute or the vector
	vector  bool
	within  float64
	confirm bool
}

// value measures two items; false: there is no verdict.
func (m clauseModel) value(s modelStep, a, b string) (float64, bool) {
	if !s.vector {
		for _, id := range []string{a, b} {
			if q, ok := m.given[id]["pdq_quality"]; s.name == "pdq" && ok && q.Int() < 50 {
				return 0, false
			}
		}
		return float64(differ(words(m.given[a][s.name]), words(m.given[b][s.name]))), true
	}
	var dot, aa, bb float64
	x, y := m.embedded[a][s.name].Data, m.embedded[b][s.name].Data
	for i := range x {
		dot += float64(x[i]) * float64(y[i])
		aa += float64(x[i]) * float64(x[i])
		bb += float64(y[i]) * float64(y[i])
	}
	return max(-1, min(1, dot/math.Sqrt(aa*bb))), true
}

func (m clauseModel) near(s modelStep, a, b string) (float64, bool) {
	v, ok := m.value(s, a, b)
	if s.vector {
		return v, ok && v >= s.within
	}
	return v, ok && v <= s.within
}

func (m clauseModel) rank(id string) int {
	switch {
	case m.was[entry+id].same && m.was[entry+id].elsewhere == "":
		return 3
	case m.reference(id):
		return 2
	case m.keep[id]:
		return 1
	}
	return 0
}

// match is the keeper that an item is a duplicate of, by which step and with which value.
func (m clauseModel) match(id string, keepers []string) (keeper string, by modelStep, value float64) {
	for first := 0; first < len(m.steps); first++ {
		if m.steps[first].confirm {
			continue
		}
		for i, k := range keepers {
			v, ok := m.near(m.steps[first], id, k)
			name := strings.TrimPrefix(k, entry)
			if !ok || m.different[[2]string{min(id, name), max(id, name)}] {
				continue
			}
			for _, s := range m.steps[first+1:] {
				if !s.confirm {
					break
				}
				_, yes := m.near(s, id, k)
				ok = ok && yes
			}
			nearer := v < value
			if m.steps[first].vector {
				nearer = v > value
			}
			if ok && (keeper == "" || nearer) {
				keeper, by, value = keepers[i], m.steps[first], v
			}
		}
		if keeper != "" {
			return keeper, by, value
		}
	}
	return "", by, 0
}

func (m clauseModel) decide() map[string]string {
	order := model{prefer: []string{"q"}}
	ids := slices.DeleteFunc(m.names(), isEntry)
	slices.SortFunc(ids, func(a, b string) int {
		if ra, rb := m.rank(a), m.rank(b); ra != rb {
			return rb - ra
		}
		o, _ := order.compare(m.given, a, b)
		return o
	})
	said := map[string]string{}
	keepers := slices.DeleteFunc(slices.Clone(m.entries), func(key string) bool {
		_, item := m.given[strings.TrimPrefix(key, entry)]
		return item && m.was[key].elsewhere == ""
	})
	for _, id := range ids {
		if m.reject[id] {
			said[id] = "decided by hand"
			continue
		}
		if m.rank(id) > 0 {
			keepers = append(keepers, id)
			continue
		}
		keeper, by, value := m.match(id, keepers)
		if keeper == "" {
			keepers = append(keepers, id)
			continue
		}
		_, rule := order.compare(m.given, id, keeper)
		if r := m.rank(keeper); r > 0 {
			rule = []string{1: "decisions", 2: "reference", 3: "against"}[r]
		}
		if isEntry(keeper) {
			keeper, rule = strings.TrimPrefix(keeper, entry), "against"
		}
		what := "distance"
		if by.vector {
			what = "similarity"
		}
		said[id] = fmt.Sprintf("duplicate: keeper %s, by %s, %s %s, rule %s", keeper, by.name, what, number(value), rule)
	}
	return said
}

// entry is before the ID of an entry of an index, among the items that a test knows.
const entry = "entry:"

func isEntry(id string) bool { return strings.HasPrefix(id, entry) }

// saveIndex makes an index of the entries, with a column for each step.
func (m clauseModel) saveIndex(t rapid.TB, folder string) {
	var columns []index.Column
	for _, s := range m.steps {
		switch {
		case s.vector:
			columns = append(columns, index.Column{Name: s.name, Size: 12, Vector: true, Model: "net"})
		case s.name == "pdq":
			columns = append(columns, index.Column{Name: s.name, Size: 32, Version: "1"})
		default:
			columns = append(columns, index.Column{Name: s.name, Size: 8, Version: "1"})
		}
	}
	_, err := index.Add(context.Background(), fsys.OS, folder, columns, func(yield func(index.Entry, error) bool) {
		for _, key := range m.entries {
			e := index.Entry{ID: strings.TrimPrefix(key, entry), Width: 1, Height: 1, SHA256: [32]byte{1}, Root: m.was[key].elsewhere}
			if m.was[key].same {
				e.SHA256 = dotSum()
			}
			for _, s := range m.steps {
				p := m.given[key][s.name].Hash()
				if q := m.given[key]["pdq_quality"]; s.name == "pdq" && q.Int() < 50 {
					p = nil
				}
				for _, x := range m.embedded[key][s.name].Data {
					p = binary.LittleEndian.AppendUint32(p, math.Float32bits(x))
				}
				e.Prints = append(e.Prints, p)
			}
			if !yield(e, nil) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// dotSum is the hash of the file that the items of given have.
var dotSum = sync.OnceValue(func() [32]byte {
	b, err := os.ReadFile(dot())
	if err != nil {
		panic(err)
	}
	return sha256.Sum256(b)
})

// copyOfDot is another file with the same bytes.
func copyOfDot(t rapid.TB, path string) {
	data, err := os.ReadFile(dot())
	if err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, data, 0o666)); err != nil {
		t.Fatal(err)
	}
}

func number(v float64) string {
	if v == math.Trunc(v) {
		return fmt.Sprint(int64(v))
	}
	return pipeline.Float(v).String()
}

func TestClausesAreAsTheModelSays(t *testing.T) {
	dir := t.TempDir()
	runs := 0
	rapid.Check(t, func(r *rapid.T) {
		m := clauseModel{
			cascade:   cascade{given: given{}, embedded: embedded{}, vectors: []string{"v", "w"}},
			reference: func(id string) bool { return strings.HasPrefix(id, "r/") },
			keep:      map[string]bool{}, reject: map[string]bool{}, different: map[[2]string]bool{}, was: map[string]whereabouts{},
		}
		var by []any
		for i, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"pdq", "phash", "dhash", "v", "w"}), 1, 4, rapid.ID[string]).Draw(r, "by") {
			s := modelStep{name: name, vector: len(name) == 1, confirm: i > 0 && rapid.Bool().Draw(r, "confirm")}
			if s.vector {
				s.within = rapid.SampledFrom([]float64{0.5, 0.8, 0.9, 1}).Draw(r, "min_similarity")
				by = append(by, option("vector", "name", name, "min_similarity", s.within, "confirm", s.confirm))
			} else {
				d := rapid.IntRange(0, 3).Draw(r, "max_distance")
				s.within = float64(d)
				by = append(by, option(name, "max_distance", d, "confirm", s.confirm))
			}
			m.steps = append(m.steps, s)
		}
		few, component := rapid.Uint64Range(0, 15), rapid.Float32Range(-1, 2)
		whole := func(label string) float32 { return float32(math.Round(float64(component.Draw(r, label)))) }
		vector := func() pipeline.Vector {
			v := vec(whole("x"), whole("y"), whole("z"))
			if v.Data[0] == 0 && v.Data[1] == 0 && v.Data[2] == 0 {
				v.Data[0] = 1
			}
			return v
		}
		add := func(id string) {
			m.given[id] = attrs{
				"pdq":         pipeline.Hash(append(make([]byte, 24), hash64(few.Draw(r, "pdq")).Hash()...)),
				"phash":       hash64(few.Draw(r, "phash")),
				"dhash":       hash64(few.Draw(r, "dhash")),
				"pdq_quality": pipeline.Int(int64(rapid.SampledFrom([]int{49, 50, 100}).Draw(r, "quality"))),
				"q":           num(float64(rapid.IntRange(0, 2).Draw(r, "q"))),
			}
			m.embedded[id] = map[string]pipeline.Vector{"v": vector(), "w": vector()}
		}
		for i := range rapid.IntRange(1, 25).Draw(r, "items") {
			add(fmt.Sprintf("%s%d", rapid.SampledFrom([]string{"", "", "", "r/"}).Draw(r, "folder"), i))
		}
		ids := m.names()
		lines := "decision,item,keeper\n"
		for range rapid.IntRange(0, 4).Draw(r, "decisions") {
			a, b := rapid.SampledFrom(ids).Draw(r, "item"), rapid.SampledFrom(ids).Draw(r, "other")
			switch word := rapid.SampledFrom([]string{"keep", "reject", "different"}).Draw(r, "decision"); {
			case word == "keep" && !m.reject[a]:
				m.keep[a] = true
				lines += "keep," + a + ",\n"
			case word == "reject" && !m.keep[a]:
				m.reject[a] = true
				lines += "reject," + a + ",\n"
			case word == "different" && a != b:
				m.different[[2]string{min(a, b), max(a, b)}] = true
				lines += "different," + a + "," + b + "\n"
			}
		}
		runs++
		values := config("by", by, "prefer", "q", "reference", []string{"r/**"})
		if n := rapid.IntRange(0, 5).Draw(r, "entries"); n > 0 {
			names := rapid.SliceOfNDistinct(rapid.SampledFrom(append(ids, "old1", "old2", "old3")), 1, n, rapid.ID[string]).Draw(r, "entry")
			slices.Sort(names)
			for _, id := range names {
				add(entry + id)
				m.entries = append(m.entries, entry+id)
				w := whereabouts{same: rapid.Bool().Draw(r, "same bytes")}
				if rapid.Bool().Draw(r, "elsewhere") {
					w.elsewhere = filepath.Join(dir, "elsewhere")
					copyOfDot(r, filepath.Join(w.elsewhere, id))
				}
				m.was[entry+id] = w
			}
			folder := filepath.Join(dir, fmt.Sprint(runs))
			m.saveIndex(r, folder)
			values["against"] = folder
		}
		offered := cascade{given: maps.Clone(m.given), embedded: m.embedded, vectors: m.vectors}
		maps.DeleteFunc(offered.given, func(id string, _ attrs) bool { return isEntry(id) })
		file := filepath.Join(dir, fmt.Sprintf("%d.csv", runs))
		if err := os.WriteFile(file, []byte(lines), 0o666); err != nil {
			r.Fatal(err)
		}
		defer dedup.SetBlock(rapid.SampledFrom([]int{1, 3, 1024}).Draw(r, "block"))()
		values["decisions"] = file
		got, _ := offered.said(t, values)
		compareSaid(r, withoutValues(got), m.decide())
	})
}

// Neither the order of the items nor how they are handled makes a difference.
func TestTheOrderOfVectorsDoesNotMatter(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	c := cascade{given: given{}, embedded: embedded{}, vectors: []string{"v"}}
	var centres [40][]float32
	for i := range centres {
		for range 12 {
			centres[i] = append(centres[i], float32(rnd.NormFloat64()))
		}
	}
	for i := range 300 {
		id := fmt.Sprintf("%03d", i)
		v := slices.Clone(centres[rnd.IntN(len(centres))])
		for j := range v {
			v[j] += 0.3 * float32(rnd.NormFloat64())
		}
		c.given[id] = attrs{"phash": hash64(rnd.Uint64() & 0xff), "q": num(float64(rnd.IntN(3)))}
		c.embedded[id] = map[string]pipeline.Vector{"v": vec(v...)}
	}
	by := []any{option("vector", "name", "v", "min_similarity", 0.93), option("phash", "max_distance", 4, "confirm", true)}
	want, wantNote := c.said(t, config("by", by, "prefer", "q"))
	if len(want) < 50 || len(want) > 250 {
		t.Fatalf("%d of 300 are duplicates: the test sees little", len(want))
	}
	for _, workers := range []int{1, 4} {
		for _, batch := range []int{1, 64} {
			names := c.names()
			rnd.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
			p := load(t, c.source(names), fmt.Sprintf(`
  - give:
  - embedded:
  - dedup: {by: [{vector: {name: v, min_similarity: 0.93}}, {phash: {max_distance: 4, confirm: true}}], prefer: q}
    workers: %d
    batch: %d
`, workers, batch), c.given.giver().Info, c.embedded.giver(c.vectors...).Info)
			undo := dedup.SetBlock(1 + workers*batch)
			got, note := runStage(t, p, len(c.given), "dedup", 2)
			undo()
			compareSaid(t, got, want)
			if note != wantNote {
				t.Errorf("%d workers, batches of %d: the note is %q, want %q", workers, batch, note, wantNote)
			}
		}
	}
}

// What cannot be compared is said by name, and nothing is called a duplicate by it.
func TestDamagedVectors(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	for name, tt := range map[string]struct {
		vector map[string]pipeline.Vector
		want   string
	}{
		"NaN":       {map[string]pipeline.Vector{"v": vec(1, nan)}, "comparing by v: the vector v is not finite: number 2 of 2 is NaN"},
		"infinite":  {map[string]pipeline.Vector{"v": vec(inf, 1)}, "comparing by v: the vector v is not finite: number 1 of 2 is -Inf"},
		"zeros":     {map[string]pipeline.Vector{"v": vec(0, 0)}, "comparing by v: the vector v is nothing but zeros, which have no direction"},
		"missing":   {nil, "comparing by v: the item has no vector v: put the stage that makes it before this one"},
		"one alone": {map[string]pipeline.Vector{"v": vec(1)}, "comparing by v: the vector v has 1 numbers, and two or more are compared"},
	} {
		t.Run(name, func(t *testing.T) {
			c := cascade{
				given:    given{"a": {}, "b": {}, "c": {}},
				embedded: embedded{"a": {"v": vec(1, 0)}, "b": tt.vector, "c": {"v": vec(3, 0)}}, vectors: []string{"v"},
			}
			b := c.bench(t, config("by", []any{option("vector", "name", "v", "min_similarity", 0.9)}))
			s, seen := b.Run(t, pipeline.RunOptions{NoStore: true})
			if s.Quarantined != 1 || s.Failed[0].ID != "b" || s.Failed[0].Cause != tt.want {
				t.Errorf("failed %+v\nwant %s", s.Failed, tt.want)
			}
			if got := stagetest.IDs(seen); !slices.Equal(got, []string{"a"}) {
				t.Errorf("kept %v", got)
			}
		})
	}
}

func TestMixedVectorsEndTheRun(t *testing.T) {
	for name, tt := range map[string]struct {
		other pipeline.Vector
		want  string
	}{
		"lengths":  {vec(1, 2, 3), "that of b has 2 numbers by the model net, that of d 3 numbers by the model net"},
		"networks": {pipeline.Vector{Model: "another", Data: []float32{1, 2}}, "that of b has 2 numbers by the model net, that of d 2 numbers by the model another"},
	} {
		t.Run(name, func(t *testing.T) {
			c := cascade{
				given:    given{"b": {}, "c": {}, "d": {}},
				embedded: embedded{"b": {"v": vec(1, 0)}, "c": {"v": vec(1, 0)}, "d": {"v": tt.other}}, vectors: []string{"v"},
			}
			b := c.bench(t, config("by", []any{option("vector", "name", "v", "min_similarity", 0.9)}))
			_, err := b.Try(t, pipeline.RunOptions{NoStore: true})
			want := "stage dedup2: the vectors of v are of two kinds: " + tt.want + ": make all of them with one network, of one of its outputs and with pictures prepared in one way"
			if err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
			if said := b.Messages(pipeline.EventRejected); len(said) > 0 {
				t.Errorf("rejected %v", said)
			}
		})
	}
}

func TestReferencesAreAlwaysKept(t *testing.T) {
	same := hash64(1)
	g := given{
		"a.png": {"phash": same, "q": num(9)}, "master/x.png": {"phash": same}, "master/deep/y.png": {"phash": same, "q": num(1)},
		"mastered/z.png": {"phash": same},
	}
	got, _ := g.rejected(t, config("by", "phash", "prefer", "q", "reference", []string{"master/"}))
	want := map[string]string{
		"a.png":          "duplicate: keeper master/deep/y.png, by phash, distance 0, rule reference",
		"mastered/z.png": "duplicate: keeper master/deep/y.png, by phash, distance 0, rule reference",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	for pattern, want := range map[string]struct {
		rejected int
		note     string
	}{
		"*.png":             {3, "1 is named by reference"},
		"**/*.png":          {0, "4 are named by reference"},
		"master/*":          {3, "1 is named by reference"},
		"m*/**/[xz].png":    {2, "2 are named by reference"},
		"m*/":               {1, "3 are named by reference"},
		"master":            {2, "2 are named by reference"},
		"./master/**":       {2, "2 are named by reference"},
		"./master//./deep":  {3, "1 is named by reference"},
		"master/x.png":      {3, "1 is named by reference"},
		"in/master/**":      {3, `no item is named by "in/master/**" of reference`},
		"mastre":            {3, `no item is named by "mastre" of reference`},
		"m*":                {3, `no item is named by "m*" of reference`},
		"master a.png mas*": {1, `3 are named by reference; no item is named by "mas*" of reference`},
		"x y":               {3, `no item is named by "x", nor any by "y" of reference`},
	} {
		got, note := g.rejected(t, config("by", "phash", "prefer", "q", "reference", strings.Fields(pattern)))
		if _, said, _ := strings.Cut(note, "; "); len(got) != want.rejected || said != want.note {
			t.Errorf("%s: %d are rejected: %q; %s", pattern, len(got), got, note)
		}
	}
}
