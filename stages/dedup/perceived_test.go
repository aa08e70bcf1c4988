package dedup_test

import (
	"fmt"
	"image"
	"image/color"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup"
	"github.com/forgepipe/forgepipe/stages/dedup/groups"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

// scenes are pictures of a few scenes that differ in their colours, and a distance that is
// well between two of those that they have.
func scenes(seed uint64, n int) (all []*thing, within float64) {
	r := rand.New(rand.NewPCG(seed, 5))
	for i := range n {
		base, img := texture(uint64(r.IntN(3)), 32, 32), image.NewNRGBA(image.Rect(0, 0, 32, 32))
		red, blue := r.IntN(24), r.IntN(24)
		for y := range 32 {
			for x := range 32 {
				v := int(base.GrayAt(x, y).Y)
				img.SetNRGBA(x, y, color.NRGBA{R: uint8(min(255, v+red)), G: uint8(v), B: uint8(max(0, v-blue)), A: 255})
			}
		}
		all = append(all, &thing{
			id: fmt.Sprintf("%s%02d", []string{"", "", "", "r/"}[r.IntN(4)], i), picture: img,
			hashes: map[string][]byte{"phash": hash64(uint64(r.IntN(8))).Hash()}, prefer: map[string]float64{"q": float64(r.IntN(3))},
		})
	}
	var values []float64
	for i, a := range all {
		for _, b := range all[:i] {
			values = append(values, perceived(a.picture, b.picture))
		}
	}
	slices.Sort(values)
	values = values[len(values)/20 : len(values)/4] // those of one scene
	at := 1
	for i := range values[1:] {
		if values[i+1]/values[i] > values[at]/values[at-1] {
			at = i + 1
		}
	}
	return all, (values[at-1] + values[at]) / 2
}

// Where pictures are measured, the bound that saves measuring most of them loses none: what is
// rejected, and the pairs that are written, are those of measuring all.
func TestPicturesAreComparedAsMeasuringAllDoes(t *testing.T) { allMeasured(t, 2) }

func allMeasured(t *testing.T, seeds uint64) {
	bounded, plain := perceiver(t, true), perceiver(t, false)
	runs, rejections := 0, 0
	for seed := range seeds {
		all, within := scenes(seed, 14)
		lpips, hash := measuring{"lpips", "perceived", within, false}, measuring{"phash", "bits", 2, false}
		confirming := func(m measuring) measuring { m.confirm = true; return m }
		for name, tt := range map[string]struct {
			net string
			by  []measuring
		}{
			"with a bound":         {bounded, []measuring{lpips}},
			"without":              {plain, []measuring{lpips}},
			"and a hash confirms":  {bounded, []measuring{lpips, confirming(hash)}},
			"confirming":           {plain, []measuring{hash, confirming(lpips)}},
			"after another clause": {bounded, []measuring{hash, lpips}},
		} {
			t.Run(fmt.Sprintf("%s %d", name, seed), func(t *testing.T) {
				o := oracle{
					things: all, by: tt.by, prefer: []string{"q"}, keep: map[string]bool{all[3].id: true}, reject: map[string]bool{all[5].id: true},
					reference: func(id string) bool { return strings.HasPrefix(id, "r/") }, different: map[[2]string]bool{},
				}
				dir := t.TempDir()
				decisions, pairs := filepath.Join(dir, "decisions.csv"), filepath.Join(dir, "pairs.parquet")
				if err := os.WriteFile(decisions, []byte("decision,item,keeper\nkeep,"+all[3].id+",\nreject,"+all[5].id+",\n"), 0o666); err != nil {
					t.Fatal(err)
				}
				var by []string
				for _, m := range tt.by {
					if m.name == "lpips" {
						by = append(by, fmt.Sprintf("{lpips: {model: %s, size: 32, max_distance: %.17g, confirm: %t}}", tt.net, m.within, m.confirm))
					} else {
						by = append(by, fmt.Sprintf("{phash: {max_distance: %g, confirm: %t}}", m.within, m.confirm))
					}
				}
				g := given{}
				var src stagetest.Source
				for _, x := range all {
					g[x.id] = attrs{"phash": pipeline.Hash(x.hashes["phash"]), "q": num(x.prefer["q"])}
					src = append(src, stagetest.Picture(x.id, x.picture))
				}
				defer dedup.SetBlock([]int{2, 1024}[seed%2])()
				said, _ := decided(t, chain(t, src, fmt.Sprintf("\n  - give:\n  - dedup: {by: [%s], prefer: q, reference: r/**, decisions: %s, pairs: %s}\n", strings.Join(by, ", "), decisions, pairs), g.giver().Info))
				o.compare(t, said, pairs)
				rejections += len(said)
			})
			runs++
		}
	}
	if !t.Failed() && (rejections < 3*runs || rejections > 11*runs) {
		t.Errorf("%d of %d pictures are rejected: the test sees little", rejections, 14*runs)
	}
}

// compare compares what is said of items, and pairs, where values are those of a network, which
// are not exact.
func (o *oracle) compare(t *testing.T, said map[string]string, path string) {
	t.Helper()
	want := o.decide()
	if got, names := slices.Sorted(maps.Keys(said)), slices.Sorted(maps.Keys(want)); !slices.Equal(got, names) {
		t.Fatalf("rejected %v, want %v", got, names)
	}
	for id, v := range want {
		if v.keeper == nil {
			continue
		}
		m, w := sayingKeeper.FindStringSubmatch(said[id]), sayingKeeper.FindStringSubmatch(v.text)
		if m == nil || m[1] != w[1] || m[2] != w[2] {
			t.Errorf("%s: %q\nwant %q", id, said[id], v.text)
		}
	}
	p, err := groups.ReadPairs(path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	of := map[string]*thing{}
	for _, x := range o.things {
		of[x.id] = x
	}
	var got, names []string
	line := func(a, b string, rankA, rankB int, fixedA, fixedB bool, clause int) string {
		return pairLine(a, b, rankA, rankB, fixedA, fixedB, clause, nil)
	}
	for x, err := range p.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, line(x.A, x.B, int(x.RankA), int(x.RankB), x.FixedA, x.FixedB, x.Clause))
		for i, m := range o.by {
			v, _ := m.measure(of[x.A], of[x.B])
			if math.IsNaN(x.Values[i]) && m.kind == "perceived" && !slices.Contains(o.clauses()[x.Clause], m) {
				continue // nobody asked
			}
			if !(math.Abs(x.Values[i]-v) <= 1e-5*v+1e-9) {
				t.Errorf("%s and %s: %s is %v, want %v", x.A, x.B, m.name, x.Values[i], v)
			}
		}
	}
	order := o.order()
	for i, x := range order {
		for k, y := range order[:i] {
			for n, clause := range o.clauses() {
				if _, ok := o.agreed(clause, x, y); ok && o.rank(x) == 0 {
					names = append(names, line(y.id, x.id, k, i, o.rank(y) > 0, false, n))
				}
			}
		}
	}
	slices.Sort(got)
	slices.Sort(names)
	if !slices.Equal(got, names) {
		t.Errorf("pairs\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(names, "\n"))
	}
}
