package runstore_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/forgepipe/forgepipe/internal/runstore"
)

// modelRow is what a row of the store should be.
type modelRow struct {
	kind      runstore.Kind
	seq       int64
	unsettled bool // intended and not settled
	seen      bool // or written since Open
}

// TestStoreIsLikeAMap does random things to a store and to a map, and compares
// them each time the store is opened again.
func TestStoreIsLikeAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "runstore")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		ctx := t.Context()
		must := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		reopen := func() *runstore.Store {
			s, err := runstore.Open(ctx, dir, runstore.Options{BootID: "first boot"})
			must(err)
			return s
		}
		s := reopen()
		defer func() { s.Close() }()
		const paths = 3
		ids := map[string]int64{}
		model := map[string]*modelRow{} // by path and lineage

		decision := func(path, lineage string) runstore.Decision {
			src := source(path)
			src.ID = ids[path]
			must(s.PutSource(&src))
			ids[path] = src.ID
			d := written(src.ID, lineage)
			if rapid.Bool().Draw(t, "failed") {
				d.Kind = runstore.Failed
			}
			return d
		}
		compare := func() {
			var got, want, gotUnseen, wantUnseen []string
			must(s.Decisions(ctx, func(src runstore.Source, d runstore.Decision) error {
				got = append(got, fmt.Sprint(src.Path, d.Lineage, d.Kind, d.Seq))
				return nil
			}))
			must(s.Unseen(ctx, func(src runstore.Source, d runstore.Decision) error {
				gotUnseen = append(gotUnseen, src.Path+d.Lineage)
				return nil
			}))
			counts := map[runstore.Kind]int64{}
			for key, r := range model {
				want = append(want, fmt.Sprint(key, r.kind, r.seq))
				counts[r.kind]++
				if !r.seen {
					wantUnseen = append(wantUnseen, key)
				}
			}
			for _, list := range [][]string{got, want, gotUnseen, wantUnseen} {
				slices.Sort(list)
			}
			_, n, byKind, err := s.Counts(ctx)
			must(err)
			maps.DeleteFunc(byKind, func(_ runstore.Kind, n int64) bool { return n == 0 })
			if !slices.Equal(got, want) || !slices.Equal(gotUnseen, wantUnseen) || n != int64(len(want)) || !maps.Equal(byKind, counts) {
				t.Fatalf("rows %v\nwant %v\nunseen %v\nwant %v\ncounts %d %v", got, want, gotUnseen, wantUnseen, n, byKind)
			}
		}
		path := func() string { return fmt.Sprint("p", rapid.IntRange(1, paths).Draw(t, "path")) }
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				path := path()
				ds := make([]runstore.Decision, rapid.IntRange(1, 100).Draw(t, "rows"))
				first := rapid.IntRange(0, 100).Draw(t, "first")
				for i := range ds {
					ds[i] = decision(path, fmt.Sprint("tile=", first+i))
				}
				intend := rapid.Bool().Draw(t, "intend")
				if intend {
					must(s.Intend(ctx, ds))
				} else {
					must(s.Append(ds))
				}
				for _, d := range ds {
					model[path+d.Lineage] = &modelRow{d.Kind, d.Seq, intend, true}
				}
			},
			"settle": func(t *rapid.T) {
				path := path()
				for i := range 60 {
					if r := model[path+fmt.Sprint("tile=", i)]; r != nil {
						s.Settled(r.seq)
						r.unsettled = false
					}
				}
			},
			"see": func(t *rapid.T) {
				path := path()
				_, ds, _, err := s.Source(ctx, path)
				must(err)
				for _, d := range ds {
					s.See(d)
					// The row may have been rewritten or deleted since it was committed.
					if r := model[path+d.Lineage]; r != nil && r.seq == d.Seq {
						r.seen = true
					}
				}
			},
			"delete unseen": func(t *rapid.T) {
				var ds []runstore.Decision
				must(s.Unseen(ctx, func(src runstore.Source, d runstore.Decision) error {
					if d.Seq%2 == 0 {
						ds = append(ds, d)
						delete(model, src.Path+d.Lineage)
					}
					return nil
				}))
				must(s.Delete(ctx, ds))
			},
			"delete source": func(t *rapid.T) {
				path := path()
				must(s.DeleteSources(ctx, []int64{ids[path]}))
				delete(ids, path)
				for i := range 201 {
					delete(model, path+fmt.Sprint("tile=", i))
				}
			},
			"compare": func(*rapid.T) { compare() },
			"reopen": func(t *rapid.T) {
				must(s.Close())
				s = reopen()
				must(s.Decisions(ctx, func(src runstore.Source, d runstore.Decision) error {
					r := model[src.Path+d.Lineage]
					r.seen = false
					if s.Intended(d) != r.unsettled {
						return fmt.Errorf("row %d: intended is %v", d.Seq, !r.unsettled)
					}
					return nil
				}))
				compare()
			},
		})
		compare()
	})
}
