package dedup_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup"
	"github.com/forgepipe/forgepipe/stages/dedup/groups"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

// checks has rapid draw n cases, until the test ends.
func checks(t *testing.T, n int) {
	t.Helper()
	f := flag.Lookup("rapid.checks")
	before := f.Value.String()
	if err := f.Value.Set(fmt.Sprint(n)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Value.Set(before) })
}

// contents are files of three kinds, of which things are.
var contents = sync.OnceValue(func() (files [3]string) {
	data, err := os.ReadFile(dot())
	if err != nil {
		panic(err)
	}
	for i := range files {
		files[i] = filepath.Join(folder, fmt.Sprintf("content%d.png", i))
		// What comes behind the end of a picture is not read.
		if err := os.WriteFile(files[i], append(slices.Clone(data), byte(i)), 0o666); err != nil {
			panic(err)
		}
	}
	return files
})

// drawn is a case: things, and how they are compared.
type drawn struct {
	oracle
	orientations string
	turns        int
	decisions    string
}

var kinds = map[string]string{"sha256": "same", "pixels": "same", "pdq": "bits", "phash": "bits", "dhash": "bits", "v": "cosine", "w": "cosine"}

// draw draws a case. Hashes, vectors and preferences are of few kinds, so that much is near
// and much a tie.
func draw(r *rapid.T, folders ...string) *drawn {
	d := &drawn{oracle: oracle{
		reference: func(id string) bool { return strings.HasPrefix(id, "r/") },
		keep:      map[string]bool{}, reject: map[string]bool{}, different: map[[2]string]bool{}, indexes: folders,
	}}
	d.prefer = rapid.SampledFrom([][]string{{}, {"q"}, {"-p", "q"}, {"q", "p"}}).Draw(r, "prefer")
	names := slices.Sorted(maps.Keys(kinds))
	for i, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, 5, rapid.ID[string]).Draw(r, "by") {
		m := measuring{name: name, kind: kinds[name], confirm: i > 0 && rapid.Bool().Draw(r, "confirm")}
		switch m.kind {
		case "bits":
			m.within = float64(rapid.IntRange(0, 3).Draw(r, "max_distance"))
		case "cosine":
			m.within = rapid.SampledFrom([]float64{0.5, 0.8, 0.95, 1}).Draw(r, "min_similarity")
		}
		d.by = append(d.by, m)
	}
	d.orientations = "upright"
	if d.canTurn() {
		d.orientations = rapid.SampledFrom([]string{"upright", "upright", "mirrored", "all"}).Draw(r, "orientations")
	}
	d.turns = map[string]int{"mirrored": 1, "all": 7}[d.orientations]
	few, kind := rapid.Uint64Range(0, 31), rapid.ByteRange(1, 3)
	component := rapid.IntRange(-1, 2)
	hash := func(name string) []byte {
		switch name {
		case "pixels":
			return slices.Repeat([]byte{kind.Draw(r, "pixels")}, 32)
		case "pdq":
			return append(make([]byte, 24), hash64(few.Draw(r, name)).Hash()...)
		}
		return hash64(few.Draw(r, name)).Hash()
	}
	make := func(id, index string) {
		t := &thing{id: id, index: index, file: rapid.IntRange(0, 2).Draw(r, "file"), hashes: map[string][]byte{}, turned: map[string][][]byte{}, vectors: map[string][]float32{}, prefer: map[string]float64{}}
		for _, name := range []string{"pixels", "pdq", "phash", "dhash"} {
			if name == "pdq" && rapid.IntRange(0, 3).Draw(r, "flat") == 0 {
				continue
			}
			t.hashes[name] = hash(name)
			for range d.turns {
				if index == "" {
					t.turned[name] = append(t.turned[name], hash(name))
				}
			}
		}
		t.hashes["sha256"] = []byte{byte(t.file)}
		for _, name := range []string{"v", "w"} {
			v := []float32{1, 0, 0}
			for i := range v {
				v[i] += float32(component.Draw(r, name))
			}
			if v[0] == 0 && v[1] == 0 && v[2] == 0 {
				v[1] = 1
			}
			t.vectors[name] = v
		}
		for _, name := range []string{"p", "q"} {
			if n := rapid.IntRange(0, 3).Draw(r, name); n > 0 {
				t.prefer[name] = float64(n) / 2
			}
		}
		d.things = append(d.things, t)
	}
	for _, folder := range folders {
		for i := range rapid.IntRange(1, 6).Draw(r, "entries") {
			make(fmt.Sprintf("r/%d", i), folder)
		}
	}
	for i := range rapid.IntRange(1, 25).Draw(r, "items") {
		make(fmt.Sprintf("%s%02d", rapid.SampledFrom([]string{"", "", "", "r/"}).Draw(r, "folder"), i), "")
	}
	uses := func(name string) bool {
		return slices.ContainsFunc(d.by, func(m measuring) bool { return m.name == name })
	}
	for _, t := range d.things {
		// One that cannot be compared takes no part.
		if t.index == "" && uses("v") && rapid.IntRange(0, 9).Draw(r, "damage") == 0 {
			t.damaged = true
			t.vectors["v"] = rapid.SampledFrom([][]float32{nil, {0, 0, 0}, {1, float32(math.NaN()), 0}, {float32(math.Inf(1)), 1, 1}}).Draw(r, "damaged")
		}
	}
	d.decideByHand(r)
	return d
}

// canTurn says whether a step compares pictures turned, and no vector is asked about such.
func (d *drawn) canTurn() bool {
	some, proposes := false, false
	for _, m := range d.by {
		turns := m.kind == "bits" || m.name == "pixels"
		if !m.confirm {
			proposes = turns
		}
		if proposes && m.kind == "cosine" {
			return false
		}
		some = some || turns
	}
	return some
}

// decideByHand draws what a person decided, also about what is not in the run.
func (d *drawn) decideByHand(r *rapid.T) {
	d.decisions = "decision,item,keeper\n"
	ids := []string{"nobody"}
	for _, t := range d.things {
		ids = append(ids, t.id)
	}
	for range rapid.IntRange(0, 5).Draw(r, "decisions") {
		a, b := rapid.SampledFrom(ids).Draw(r, "item"), rapid.SampledFrom(ids).Draw(r, "other")
		switch word := rapid.SampledFrom([]string{"keep", "reject", "different"}).Draw(r, "decision"); {
		case word == "keep" && !d.reject[a]:
			d.keep[a] = true
			d.decisions += "keep," + a + ",\n"
		case word == "reject" && !d.keep[a]:
			d.reject[a] = true
			d.decisions += "reject," + a + ",\n"
		case word == "different" && a != b:
			d.different[[2]string{min(a, b), max(a, b)}] = true
			d.decisions += "different," + a + "," + b + "\n"
		}
	}
}

func (d *drawn) config(more ...any) map[string]any {
	var by []any
	for _, m := range d.by {
		switch m.kind {
		case "same":
			by = append(by, option(m.name, "confirm", m.confirm))
		case "bits":
			by = append(by, option(m.name, "max_distance", int(m.within), "confirm", m.confirm))
		default:
			by = append(by, option("vector", "name", m.name, "min_similarity", m.within, "confirm", m.confirm))
		}
	}
	return config(append([]any{"by", by, "prefer", d.prefer}, more...)...)
}

// of are the things of an index, or with the empty name those of the run.
func (d *drawn) of(index string) cascade {
	c := cascade{given: given{}, embedded: embedded{}, vectors: []string{"v", "w"}}
	c.given["nobody"] = attrs{"p": num(0), "q": num(0)} // declares them
	suffix := ""
	if index == "" {
		suffix = map[int]string{1: "_mirrored", 7: "_orientations"}[d.turns]
	}
	for _, t := range d.things {
		if t.index != index {
			continue
		}
		c.given[t.id] = t.attributes(suffix)
		c.embedded[t.id] = map[string]pipeline.Vector{}
		for name, v := range t.vectors {
			if v != nil {
				c.embedded[t.id][name] = vec(v...)
			}
		}
	}
	return c
}

// source offers the things of an index, or of the run, in an order.
func (d *drawn) source(index string, shuffled *rand.Rand) (src stagetest.Source) {
	for _, t := range d.things {
		if t.index == index {
			src = append(src, pipeline.Input{Name: t.id, Path: contents()[t.file]})
		}
	}
	if shuffled != nil {
		shuffled.Shuffle(len(src), func(i, j int) { src[i], src[j] = src[j], src[i] })
	}
	return src
}

// ran is what a run said and wrote.
type ran struct {
	rejected, failed map[string]string
	pairs            []string
	groups           string
	note             string
}

// run runs the stage on the things of an index, or those of the run.
func (d *drawn) run(t testing.TB, index string, shuffled *rand.Rand, workers, batch int, values map[string]any) (ran, error) {
	t.Helper()
	flow, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	c := d.of(index)
	p := load(t, d.source(index, shuffled), fmt.Sprintf("\n  - give:\n  - embedded:\n  - dedup: %s\n    workers: %d\n    batch: %d\n", flow, workers, batch), c.given.giver().Info, c.embedded.giver(c.vectors...).Info)
	out := ran{rejected: map[string]string{}, failed: map[string]string{}}
	var mu sync.Mutex
	s, err := p.Run(t.Context(), pipeline.RunOptions{NoStore: true, OnEvent: func(e pipeline.Event) {
		mu.Lock()
		defer mu.Unlock()
		switch e.Kind {
		case pipeline.EventRejected:
			out.rejected[e.Item] = e.Message
		case pipeline.EventFailed:
			out.failed[e.Item] = e.Message
		}
	}})
	if s != nil {
		if cerr := s.Check(); cerr != nil {
			t.Error(cerr)
		}
		out.note = s.Stages[len(s.Stages)-1].Note
	}
	return out, err
}

func readPairs(t testing.TB, path string) (lines []string) {
	t.Helper()
	p, err := groups.ReadPairs(path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for x, err := range p.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, pairLine(x.A, x.B, int(x.RankA), int(x.RankB), x.FixedA, x.FixedB, x.Clause, slices.Clone(x.Values)))
	}
	slices.Sort(lines)
	return lines
}

// Whatever is compared how, the result is that of comparing everything with everything; and
// neither the order of arrival nor how items are handled makes a difference to what is
// rejected, why, and what is written.
func TestItDecidesAsComparingEverythingDoes(t *testing.T) {
	checks(t, 10)
	everythingCompared(t)
}

func everythingCompared(t *testing.T) {
	dir := t.TempDir()
	runs, rejections, byEntries, pairs := 0, 0, 0, 0
	rapid.Check(t, func(r *rapid.T) {
		runs++
		at := filepath.Join(dir, fmt.Sprint(runs))
		var folders []string
		for i := range rapid.IntRange(0, 2).Draw(r, "indexes") {
			folders = append(folders, filepath.Join(at, fmt.Sprintf("index%d", i)))
		}
		d := draw(r, folders...)
		for _, f := range folders {
			// They are references, so that all of them are kept, whatever they match.
			if out, err := d.run(t, f, nil, 1, 16, d.config("reference", "**", "index", f)); err != nil || len(out.rejected)+len(out.failed) > 0 {
				r.Fatalf("making an index: %+v, %v", out, err)
			}
		}
		decisions := filepath.Join(at, "decisions.csv")
		var first ran
		for i := range 2 {
			// The run writes it anew.
			if err := errors.Join(os.MkdirAll(at, 0o777), os.WriteFile(decisions, []byte(d.decisions), 0o666)); err != nil {
				r.Fatal(err)
			}
			format := []string{".jsonl", ".parquet"}[i]
			more := []any{
				"orientations", d.orientations, "reference", "r/**", "decisions", decisions,
				"pairs", filepath.Join(at, "pairs"+format), "groups", []string{filepath.Join(at, "groups.jsonl"), filepath.Join(at, "groups.parquet")},
			}
			if len(folders) > 0 {
				more = append(more, "against", folders)
			}
			undo := dedup.SetBlock(rapid.SampledFrom([]int{1, 2, 5, 1024}).Draw(r, "block"))
			workers, batch := rapid.IntRange(1, 4).Draw(r, "workers"), rapid.IntRange(1, 9).Draw(r, "batch")
			out, err := d.run(t, "", rand.New(rand.NewPCG(uint64(runs), uint64(i))), workers, batch, d.config(more...))
			undo()
			if err != nil {
				r.Fatal(err)
			}
			out.pairs = readPairs(t, filepath.Join(at, "pairs"+format))
			out.groups = read(t, filepath.Join(at, "groups.jsonl"))
			d.check(r, out)
			if i == 0 {
				first = out
			} else if out.groups != first.groups || out.note != first.note {
				r.Errorf("%d workers, batches of %d: the groups are\n%s\nand were\n%s\n%s, %s", workers, batch, out.groups, first.groups, out.note, first.note)
			}
		}
		rejections += len(first.rejected)
		pairs += len(first.pairs)
		byEntries += strings.Count(fmt.Sprint(first.rejected), "rule against")
	})
	t.Logf("%d runs, %d rejections, %d of them by entries, %d pairs", runs, rejections, byEntries, pairs)
	if !t.Failed() && (rejections < runs || byEntries < runs/10 || pairs < runs) {
		t.Error("the test sees little")
	}
}

// check compares what a run said with the oracle.
func (d *drawn) check(r *rapid.T, out ran) {
	want, said := d.decide(), map[string]string{}
	for id, v := range want {
		said[id] = v.text
	}
	for _, id := range slices.Sorted(maps.Keys(said)) {
		if out.rejected[id] != said[id] {
			r.Errorf("%s: %q\nwant %q", id, out.rejected[id], said[id])
		}
	}
	failed := map[string]bool{}
	for _, t := range d.things {
		if t.index == "" && t.damaged {
			failed[t.id] = true
		}
		if _, rejected := said[t.id]; t.index == "" && !rejected && out.rejected[t.id] != "" {
			r.Errorf("%s is rejected: %s", t.id, out.rejected[t.id])
		}
	}
	if !slices.Equal(slices.Sorted(maps.Keys(out.failed)), slices.Sorted(maps.Keys(failed))) {
		r.Errorf("failed %v, want %v", out.failed, failed)
	}
	if pairs := d.pairs(); !slices.Equal(out.pairs, pairs) {
		r.Errorf("pairs\n%s\nwant\n%s", strings.Join(out.pairs, "\n"), strings.Join(pairs, "\n"))
	}
	d.checkGroups(r, out.groups, want)
}

// checkGroups looks whether the groups tell the same.
func (d *drawn) checkGroups(r *rapid.T, text string, want map[string]verdict) {
	type member struct {
		ID, By, Rule string
	}
	told := map[string]bool{}
	for line := range strings.Lines(text) {
		var g struct {
			Keeper  *struct{ ID, Index string }
			Members []member
		}
		if err := json.Unmarshal([]byte(line), &g); err != nil {
			r.Fatalf("%s: %v", line, err)
		}
		for _, m := range g.Members {
			v, ok := want[m.ID]
			if !ok || told[m.ID] || (v.keeper == nil) != (g.Keeper == nil) || v.keeper != nil && (g.Keeper.ID != v.keeper.id || g.Keeper.Index != v.keeper.index) {
				r.Errorf("%s is told of in\n%s\nwant %s", m.ID, line, v.text)
			}
			told[m.ID] = true
		}
	}
	if len(told) != len(want) {
		r.Errorf("groups tell of %d items, want %d:\n%s", len(told), len(want), text)
	}
}
