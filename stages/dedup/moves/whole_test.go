package moves_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/stages/dedup/moves"
)

// tripping is a file system in which one operation fails, or all from then on: one that
// changes something, or opens a file to read it. Nothing can be renamed between its folders.
type tripping struct {
	fsys.FS
	n, at  atomic.Int64
	from   bool // all from then on
	err    error
	failed string
}

func trip(n int64, from bool, err error) *tripping {
	f := &tripping{FS: fsys.OS, from: from, err: err}
	f.at.Store(n)
	return f
}

func (f *tripping) do(op, name string) error {
	n := f.n.Add(1)
	if n == f.at.Load() {
		f.failed = op + " " + name
	} else if !f.from || n < f.at.Load() {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: f.err}
}

func (f *tripping) OpenRoot(dir string) (fsys.Root, error) {
	r, err := f.FS.OpenRoot(dir)
	return trippingRoot{r, f}, err
}

type trippingRoot struct {
	fsys.Root
	f *tripping
}

func (r trippingRoot) Open(name string) (fsys.File, error) {
	if err := r.f.do("open", name); err != nil {
		return nil, err
	}
	return r.Root.Open(name)
}

func (r trippingRoot) Create(name string) (fsys.File, error) {
	if err := r.f.do("create", name); err != nil {
		return nil, err
	}
	return r.Root.Create(name)
}

func (r trippingRoot) MkdirAll(name string) error {
	if err := r.f.do("mkdir", name); err != nil {
		return err
	}
	return r.Root.MkdirAll(name)
}

func (r trippingRoot) Rename(old, new string) error {
	if err := r.f.do("rename", old); err != nil {
		return err
	}
	return r.Root.Rename(old, new)
}

func (r trippingRoot) Remove(name string) error {
	if err := r.f.do("remove", name); err != nil {
		return err
	}
	return r.Root.Remove(name)
}

func (r trippingRoot) SyncFS() error {
	if err := r.f.do("syncfs", r.Name()); err != nil {
		return err
	}
	return r.Root.SyncFS()
}

// together are the files of sources that go together.
var together = [][]string{
	{"a.png", "a.txt", "a.json"}, {"c.jpg"}, {"sub/b.jpg"}, {"hq/p.png", "hq/p.txt", "lq/p.png", "lq/p.txt"},
}

// whole makes sure that of each picture everything is in its place or nothing, and tells how
// many are.
func (w world) whole(what string) (here int) {
	w.t.Helper()
	in := w.tree(w.in)
	for _, files := range together {
		n := 0
		for _, name := range files {
			if in[name] == sources[name] {
				n++
			}
		}
		switch n {
		case len(files):
			here++
		case 0:
		default:
			w.t.Errorf("%s: of %v there are %v", what, files, slices.Sorted(maps.Keys(in)))
		}
	}
	return here
}

// When something cannot be done with a picture or with what belongs to it, all of it stays,
// and nothing of it is in the folder; the others go. It can be restored then, or tried again.
func TestWholeOrNotAtAll(t *testing.T) {
	for _, tt := range []struct {
		name string
		fs   func(n int64) (files fsys.FS, failed func() string)
		run  fsys.FS // without faults
		step int64
	}{
		{"same", func(n int64) (fsys.FS, func() string) {
			f := fsys.FailAt(fsys.OS, n, syscall.EACCES)
			return f, f.Failed
		}, fsys.OS, 2},
		{"apart", func(n int64) (fsys.FS, func() string) {
			f := trip(n, false, syscall.EACCES)
			return f, func() string { return f.failed }
		}, apart{fsys.OS}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ref := worldIn(t, quick(t), sources)
			ref.put(ref.out, mine)
			ref.applied(moves.Options{Action: moves.Move, FS: tt.run}, ref.remaining()...)
			stayed := 0
			for n := int64(1); ; n += tt.step {
				w := worldIn(t, quick(t), sources)
				w.put(w.out, mine)
				files, failed := tt.fs(n)
				r, err := w.apply(moves.Options{Action: moves.Move, FS: files}, w.remaining()...)
				if failed() == "" {
					break
				}
				what := fmt.Sprintf("%d, %s", n, failed())
				w.safe(what, moves.Move)
				here := w.whole(what)
				if err == nil && (int64(here) != r.Left || r.Images != int64(len(together)-here)) {
					t.Errorf("%s: %d stay, and it says %+v", what, here, r)
				}
				if err == nil && here == 1 {
					stayed++
				}
				// With what was not moved there are as many files in both folders as before.
				if out := w.tree(w.out); err == nil && len(w.tree(w.in))+len(out) != len(sources)+len(mine)+1-copiesLess(out) {
					t.Errorf("%s: there are %v in the folder, and %v", what, slices.Sorted(maps.Keys(out)), slices.Sorted(maps.Keys(w.tree(w.in))))
				}
				if n%3 == 0 {
					if r := w.restored(moves.RestoreOptions{All: true, FS: tt.run}); r.Taken+r.Failed > 0 {
						t.Errorf("%s: restored: %+v", what, r)
					}
					w.same(what+": restored", w.tree(w.in), sources)
					continue
				}
				if r, err := w.apply(moves.Options{Action: moves.Move, FS: tt.run}, w.remaining()...); err != nil || r.Left > 0 {
					t.Errorf("%s: once more: %+v, %v", what, r, err)
				}
				w.same(what+": once more", w.tree(w.in), ref.tree(ref.in))
				w.same(what+": once more, the folder", w.tree(w.out), ref.tree(ref.out))
				if t.Failed() {
					return
				}
			}
			if stayed < 5 {
				t.Errorf("only %d pictures stayed", stayed)
			}
		})
	}
}

// copiesLess is 1 where the copy of the caption that two pictures have is not in the folder.
func copiesLess(out map[string]string) int {
	if out["c.txt"] == "" {
		return 1
	}
	return 0
}

// Of a run that is killed at any step, each file is there; all of it can be restored; and a run
// that wants nothing of the same pictures leaves none of them without what belongs to it.
func TestKilledAtEachStep(t *testing.T) {
	for _, same := range []bool{true, false} {
		t.Run(map[bool]string{true: "same", false: "apart"}[same], func(t *testing.T) {
			t.Parallel()
			halves := 0
			for n := int64(1); ; n++ {
				w := worldIn(t, quick(t), sources)
				w.put(w.out, mine)
				var files, run fsys.FS
				var failed func() string
				if same {
					f := fsys.FailAt(fsys.OS, n, syscall.EIO)
					f.Sticky = true
					files, failed, run = f, f.Failed, fsys.OS
				} else {
					f := trip(n, true, syscall.EIO)
					files, failed, run = f, func() string { return f.failed }, apart{fsys.OS}
				}
				_, _ = w.apply(moves.Options{Action: moves.Move, FS: files}, w.remaining()...)
				if failed() == "" {
					break
				}
				what := fmt.Sprintf("%d, %s", n, failed())
				w.safe(what, moves.Move)
				if n%2 == 0 {
					r, err := moves.Restore(t.Context(), w.out, moves.RestoreOptions{All: true, FS: run})
					if errors.Is(err, fs.ErrNotExist) {
						err, r = nil, &moves.RestoreReport{} // it was killed before there was a record
					}
					if err != nil || r.Taken+r.Failed > 0 {
						t.Errorf("%s: restored: %+v, %v", what, r, err)
					}
					w.same(what+": restored", w.tree(w.in), sources)
					continue
				}
				if w.has("a.png") && !w.has("a.txt") || w.has("hq/p.png") && !w.has("lq/p.png") {
					halves++
				}
				if r, err := w.apply(moves.Options{Action: moves.Move, FS: run}); err != nil || r.Left > 0 {
					t.Errorf("%s: a run that wants nothing: %+v, %v", what, r, err)
				}
				w.whole(what)
				w.safe(what, moves.Move)
				if t.Failed() {
					return
				}
			}
			if halves == 0 {
				t.Error("none was done by half")
			}
		})
	}
}

// notApart makes sure that of each picture that is among the sources everything is there, and that of
// another one everything is in one of the folders, if it was not deleted.
func (w world) notApart(what string, action moves.Action, folders ...string) {
	w.t.Helper()
	texts := func(dir string) map[string]bool {
		all := map[string]bool{}
		for _, text := range w.tree(dir) {
			all[text] = true
		}
		return all
	}
	in := texts(w.in)
	held := []map[string]bool{in}
	for _, dir := range folders {
		held = append(held, texts(dir))
	}
	for _, files := range together {
		count := func(texts map[string]bool) (n int) {
			for _, name := range files {
				if texts[sources[name]] {
					n++
				}
			}
			return n
		}
		whole := slices.ContainsFunc(held, func(h map[string]bool) bool { return count(h) == len(files) })
		if here := count(in); !whole && action != moves.Delete || here != 0 && here != len(files) {
			w.t.Errorf("%s: %v: %d are among the sources, and there are %v", what, files, here, held)
		}
	}
}

// Whatever step a run is killed at, and another run after it, and whatever the next one does,
// each picture has what belongs to it, and no byte is lost.
func TestKilledAtEachStepAndAnotherRun(t *testing.T) {
	for _, same := range []bool{true, false} {
		for _, tt := range []struct {
			name   string
			action moves.Action
			to     string
			twice  bool
		}{
			{"copy", moves.Copy, "", false},
			{"delete", moves.Delete, "", false},
			{"another folder", moves.Move, "out2", false},
			{"killed twice", moves.Move, "", true},
			{"killed twice, another folder", moves.Copy, "out2", true},
			{"killed twice, delete", moves.Delete, "", true},
		} {
			t.Run(map[bool]string{true: "same", false: "apart"}[same]+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				halves := 0
				for n := int64(1); ; n++ {
					w := worldIn(t, quick(t), sources)
					w.put(w.out, mine)
					record, other := filepath.Join(w.in, "..", "r.jsonl"), filepath.Join(w.in, "..", tt.to)
					kill := func(o moves.Options, n int64) (died bool) {
						o.Record = record
						if same {
							f := fsys.FailAt(fsys.OS, n, syscall.EIO)
							f.Sticky, o.FS = true, f
							_, _ = w.apply(o, w.remaining()...)
							return f.Failed() != ""
						}
						f := trip(n, true, syscall.EIO)
						o.FS = f
						_, _ = w.apply(o, w.remaining()...)
						return f.failed != ""
					}
					o := moves.Options{Action: tt.action, DeleteCount: -1, Record: record, FS: fsys.OS}
					if tt.to != "" {
						o.To = other
					}
					if !same {
						o.FS = apart{fsys.OS}
					}
					if !kill(moves.Options{Action: moves.Move}, n) {
						break
					}
					if w.has("a.png") && !w.has("a.txt") || w.has("hq/p.png") && !w.has("lq/p.png") {
						halves++
					}
					what := fmt.Sprint(n)
					if tt.twice {
						m := n*7%31 + 1
						kill(o, m)
						what = fmt.Sprint(n, ", ", m)
						o.Action = moves.Move
					}
					folders := []string{w.out}
					if tt.to != "" {
						folders = append(folders, other)
					}
					var jobs []moves.Job
					if n%2 == 0 || !tt.twice {
						jobs = w.remaining()
					}
					r, err := w.apply(o, jobs...)
					if err != nil || r.Left > 0 {
						t.Errorf("%s: %+v, %v", what, r, err)
					}
					w.notApart(what, tt.action, folders...)
					if t.Failed() {
						return
					}
				}
				if halves == 0 {
					t.Error("none was done by half")
				}
			})
		}
	}
}

// stuck is a file system in which a file cannot be removed from its place.
type stuck struct {
	fsys.FS
	file string
}

func (s stuck) OpenRoot(dir string) (fsys.Root, error) {
	r, err := s.FS.OpenRoot(dir)
	return stuckRoot{r, s.file}, err
}

type stuckRoot struct {
	fsys.Root
	file string
}

func (r stuckRoot) Remove(name string) error {
	if filepath.Join(r.Name(), name) == r.file {
		return &fs.PathError{Op: "remove", Path: name, Err: syscall.EPERM}
	}
	return r.Root.Remove(name)
}

// A file that its folder does not let go stays with all that belongs to its picture, also
// where the folders really are on two file systems, and that is said with the file.
func TestAcrossWhatCannotBeRemoved(t *testing.T) {
	for _, file := range []string{"hq/p.png", "hq/p.txt", "lq/p.png"} {
		w := worldIn(t, t.TempDir(), map[string]string{"keep.png": "keeper", "hq/p.png": "high", "hq/p.txt": "of high", "lq/p.png": "low", "b.png": "two"})
		w.out = filepath.Join(elsewhere(t), "out")
		before := w.tree(w.in)
		r := w.applied(moves.Options{Action: moves.Move, FS: stuck{fsys.OS, filepath.Join(w.in, file)}}, w.pair("p.png"), w.job("b.png"))
		if r.Left != 1 || r.Images != 1 || !r.Why[0].Refused || r.Why[0].Text != "it could not be done" || !strings.Contains(r.Why[0].First[0], path.Base(file)) {
			t.Errorf("%s: %+v", file, r)
		}
		delete(before, "b.png")
		w.same(file+": sources", w.tree(w.in), before)
		w.same(file+": folder", w.tree(w.out), map[string]string{"b.png": "two"})
	}
}

// A wrong number leaves nothing in the record, and nothing beside it.
func TestWrongCountLeavesTheRecord(t *testing.T) {
	w := newWorld(t, map[string]string{"keep.png": "keeper", "a.png": "one", "a.txt": "caption", "b.png": "two", "c.png": "three"})
	w.applied(moves.Options{Action: moves.Delete, DeleteCount: 1}, w.job("c.png"))
	record := filepath.Join(w.out, moves.RecordName)
	before, err := os.ReadFile(record)
	must(t, err)
	for range 3 {
		if _, err := w.apply(moves.Options{Action: moves.Delete, DeleteCount: 5}, w.job("a.png"), w.job("b.png")); !errors.As(err, new(*moves.CountError)) {
			t.Fatalf("%v", err)
		}
	}
	after, err := os.ReadFile(record)
	must(t, err)
	if string(after) != string(before) {
		t.Errorf("the record has %d bytes more", len(after)-len(before))
	}
	if files, err := os.ReadDir(w.out); err != nil || len(files) != 1 {
		t.Errorf("beside the record: %v, %v", files, err)
	}
	if r := w.applied(moves.Options{Action: moves.Delete, DeleteCount: 2}, w.job("a.png"), w.job("b.png")); r.Images != 2 {
		t.Errorf("%+v", r)
	}
}
