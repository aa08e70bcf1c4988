package groups_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/stages/dedup/groups"
)

// set is one whose items have all been compared, by every step.
type set struct {
	header groups.Header
	fixed  []bool
	values map[[2]int][]float64 // of two items by their ranks, the lower first
}

// random makes a set in which every part of a decision matters: few different values, so
// that equally near items are common, and pairs without a value.
func random(r *rand.Rand) *set {
	s := &set{fixed: make([]bool, 1+r.IntN(12)), values: map[[2]int][]float64{}}
	s.header = groups.Header{
		Items: int64(len(s.fixed)),
		Steps: []groups.Step{
			{Measure: groups.Measure{Step: "sha256", Whole: true}},
			{Measure: groups.Measure{Step: "pdq", Whole: true}, Threshold: 6},
			{Measure: groups.Measure{Step: "clip", Similarity: true}, Threshold: 0.5},
			{Measure: groups.Measure{Step: "lpips"}, Threshold: 0.3},
		},
		Clauses: [][]int{{0}, {1}, {2, 3}},
	}
	if r.IntN(2) == 0 {
		s.header.Clauses = [][]int{{2}, {1, 3}, {0}}
	}
	for i := range s.fixed {
		s.fixed[i] = r.IntN(8) == 0
		for j := range i {
			v := []float64{nan, float64(r.IntN(14)), 1 - float64(r.IntN(10))/10, float64(r.IntN(7)) / 10}
			if r.IntN(20) == 0 {
				v[0] = 0
			}
			for m := 1; m < len(v); m++ {
				if r.IntN(6) == 0 {
					v[m] = nan
				}
			}
			s.values[[2]int{j, i}] = v
		}
	}
	return s
}

// matches says by which clauses two items are duplicates.
func (s *set) matches(v []float64, thresholds []float64) (clauses []int) {
	for c, steps := range s.header.Clauses {
		if !slices.ContainsFunc(steps, func(m int) bool {
			if s.header.Steps[m].Similarity {
				return !(v[m] >= thresholds[m])
			}
			return !(v[m] <= thresholds[m])
		}) {
			clauses = append(clauses, c)
		}
	}
	return clauses
}

func (s *set) thresholds() (all []float64) {
	for _, st := range s.header.Steps {
		all = append(all, st.Threshold)
	}
	return all
}

// decide is the decision as it is described, by comparing all with all.
func (s *set) decide(thresholds []float64) groups.Point {
	var out groups.Point
	members := map[int]int64{}
	var kept []int
	for i := range s.fixed {
		best, bestClause, bestFar := -1, 0, 0.0
		for _, k := range kept {
			v := s.values[[2]int{k, i}]
			for _, c := range s.matches(v, thresholds) {
				far := v[s.header.Clauses[c][0]]
				if s.header.Steps[s.header.Clauses[c][0]].Similarity {
					far = -far
				}
				if best < 0 || c < bestClause || c == bestClause && far < bestFar {
					best, bestClause, bestFar = k, c, far
				}
			}
		}
		if best < 0 || s.fixed[i] {
			kept = append(kept, i)
			continue
		}
		out.Duplicates++
		if members[best]++; members[best] == 1 {
			out.Groups++
		}
		out.Largest = max(out.Largest, members[best]+1)
	}
	return out
}

// pairs are those of the set, in any order, in a row for each clause or in one.
func (s *set) pairs(r *rand.Rand) (all []groups.Pair) {
	for ranks, v := range s.values {
		p := groups.Pair{
			A: fmt.Sprint(ranks[0]), B: fmt.Sprint(ranks[1]), RankA: uint32(ranks[0]), RankB: uint32(ranks[1]),
			FixedA: s.fixed[ranks[0]], FixedB: s.fixed[ranks[1]], Values: v,
		}
		clauses := s.matches(v, s.thresholds())
		if len(clauses) == 0 {
			continue
		}
		if r.IntN(2) == 0 {
			p.A, p.B, p.RankA, p.RankB, p.FixedA, p.FixedB = p.B, p.A, p.RankB, p.RankA, p.FixedB, p.FixedA
		}
		if r.IntN(3) == 0 {
			p.Clause = clauses[r.IntN(len(clauses))]
			all = append(all, p)
			continue
		}
		for _, c := range clauses { // each with what it measures
			p.Clause, p.Values = c, slices.Repeat([]float64{nan}, len(v))
			for _, m := range s.header.Clauses[c] {
				p.Values[m] = v[m]
			}
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b groups.Pair) int {
		return cmp.Or(cmp.Compare(a.A, b.A), cmp.Compare(a.B, b.B), cmp.Compare(a.Clause, b.Clause))
	})
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

func writePairs(t testing.TB, path string, h groups.Header, pairs []groups.Pair) {
	t.Helper()
	f, err := groups.FormatOf(path)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := groups.NewPairs(&b, f, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pairs {
		if err := w.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), os.WriteFile(path, b.Bytes(), 0o666)); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, path string) *groups.Pairs {
	t.Helper()
	p, err := groups.ReadPairs(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// A sweep decides as a run with each of the thresholds would, whatever clauses,
// confirming steps and fixed items there are.
func TestSweepDecidesAsRunsDo(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	rejected := int64(0)
	for n := range 250 {
		r := rand.New(rand.NewPCG(7, uint64(n)))
		s := random(r)
		path := filepath.Join(dir, []string{"p.jsonl", "p.parquet"}[min(n%8, 1)])
		writePairs(t, path, s.header, s.pairs(r))
		p := open(t, path)
		for m, st := range s.header.Steps {
			thresholds := []float64{st.Threshold}
			if st.Sweepable() {
				var err error
				if thresholds, err = st.Thresholds(nan, nan, 0); err != nil {
					t.Fatal(err)
				}
				r.Shuffle(len(thresholds), func(i, j int) { thresholds[i], thresholds[j] = thresholds[j], thresholds[i] })
				thresholds = append(thresholds, thresholds[0])
			}
			got, err := p.Sweep(ctx, st.Step, thresholds, 0)
			if err != nil {
				t.Fatal(err)
			}
			for i, threshold := range thresholds {
				with := s.thresholds()
				with[m] = threshold
				want := s.decide(with)
				want.Threshold = threshold
				rejected += want.Duplicates
				if got[i] != want {
					t.Fatalf("set %d, %s at %v: got %+v, want %+v", n, st.Step, threshold, got[i], want)
				}
			}
		}
		p.Close()
	}
	if rejected < 5000 {
		t.Errorf("only %d items were rejected", rejected)
	}
}

func TestThresholds(t *testing.T) {
	bits := func(n float64) groups.Step {
		return groups.Step{Measure: groups.Measure{Step: "pdq", Whole: true}, Threshold: n}
	}
	clip := groups.Step{Measure: groups.Measure{Step: "clip", Similarity: true}, Threshold: 0.9}
	lpips := groups.Step{Measure: groups.Measure{Step: "lpips"}, Threshold: 0.2}
	for _, tt := range []struct {
		name     string
		step     groups.Step
		from, to float64
		n        int
		want     string
	}{
		{"each of a few bits", bits(4), nan, nan, 0, "[0 1 2 3 4]"},
		{"some of many bits", bits(100), nan, nan, 0, "[0 10 20 30 40 50 60 70 80 90 100]"},
		{"whole numbers once", bits(4), 1, 3, 7, "[1 2 3]"},
		{"a similarity", clip, nan, nan, 0, "[0.9 0.91 0.92 0.93 0.94 0.95 0.96 0.97 0.98 0.99 1]"},
		{"a range", clip, 0.95, 0.98, 4, "[0.95 0.96 0.97 0.98]"},
		{"downwards", clip, 0.98, nan, 3, "[0.98 0.99 1]"},
		{"a distance", lpips, nan, nan, 3, "[0 0.1 0.2]"},
		{"backwards", lpips, 0.2, 0, 3, "[0.2 0.1 0]"},
		{"one", lpips, 0.1, 0.1, 0, "[0.1]"},
		{"one, said", lpips, 0.1, 0.1, 1, "[0.1]"},
		{"one of a range", lpips, 0.1, 0.2, 1, "one threshold cannot be both 0.1 and 0.2"},
		{"too many", lpips, nan, nan, 1001, "1001 thresholds cannot be looked at: give 1 to 1000"},
		{"an endless range", lpips, math.Inf(-1), 0.1, 3, "-Inf to 0.1 is no range"},
	} {
		got, err := tt.step.Thresholds(tt.from, tt.to, tt.n)
		text := fmt.Sprint(got)
		if err != nil {
			text = err.Error()
		}
		if text != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, text, tt.want)
		}
	}
}

func TestWrongSweeps(t *testing.T) {
	ctx := context.Background()
	s := random(rand.New(rand.NewPCG(1, 1)))
	path := filepath.Join(t.TempDir(), "p.parquet")
	writePairs(t, path, s.header, nil)
	p := open(t, path)
	for _, tt := range []struct {
		name, step string
		thresholds []float64
		want       string
	}{
		{"a looser distance", "pdq", []float64{2, 7}, "max_distance = 7 is looser than the 6 that the pairs of " + path + " were found with"},
		{"a looser similarity", "clip", []float64{0.4}, "min_similarity = 0.4 is looser than the 0.5 that"},
		{"no step", "phash", []float64{2}, `the pairs have no step "phash": they have sha256, pdq, clip, lpips`},
		{"no threshold", "pdq", nil, "0 thresholds cannot be looked at"},
		{"no number", "pdq", []float64{nan}, "NaN is no threshold"},
	} {
		_, err := p.Sweep(ctx, tt.step, tt.thresholds, 0)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !errors.As(err, new(*groups.OptionError)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	for _, tt := range []struct {
		name, step string
		from       float64
		want       string
	}{
		{"a range of all", "", 0.1, "a range of thresholds is that of one step: say which of pdq, clip, lpips"},
		{"equality", "sha256", nan, "sha256 has no other threshold than 0"},
		{"no step", "x", nan, "the pairs have no step"},
	} {
		if _, err := p.Header.Sweeps(tt.step, tt.from, nan, 0); err == nil || !strings.Contains(err.Error(), tt.want) || !errors.As(err, new(*groups.OptionError)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if all, err := p.Header.Sweeps("", nan, nan, 0); err != nil || len(all) != 3 || all[0].Step.Step != "pdq" {
		t.Errorf("all steps are %v, %v", all, err)
	}
}

// What does not fit into memory is refused, and not begun.
func TestSweepMemory(t *testing.T) {
	h := groups.Header{Items: 100, Steps: []groups.Step{{Measure: groups.Measure{Step: "pdq"}, Threshold: 9}}, Clauses: [][]int{{0}}}
	var pairs []groups.Pair
	for i := range uint32(99) {
		pairs = append(pairs, groups.Pair{A: "a", B: "b", RankA: i, RankB: i + 1, Values: []float64{1}})
	}
	for _, name := range []string{"p.jsonl", "p.parquet"} {
		path := filepath.Join(t.TempDir(), name)
		writePairs(t, path, h, pairs)
		p := open(t, path)
		const need = 99*24 + 100*5
		if got, err := p.Sweep(context.Background(), "pdq", []float64{9}, need); err != nil || got[0].Duplicates != 50 {
			t.Errorf("%s: with enough memory %v, %v", name, got, err)
		}
		for _, memory := range []int64{need - 24, 100} {
			if _, err := p.Sweep(context.Background(), "pdq", []float64{9}, memory); err == nil || !strings.Contains(err.Error(), "write pairs with stricter thresholds") {
				t.Errorf("%s: with %d bytes %v", name, memory, err)
			}
		}
		cancelled, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := p.Sweep(cancelled, "pdq", []float64{9}, 0); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: cancelled: %v", name, err)
		}
	}
}
