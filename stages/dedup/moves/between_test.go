package moves_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/stages/dedup/moves"
)

// hooked does something once, when a folder is first made durable: what is going to
// happen is written down then, and nothing has happened yet.
type hooked struct {
	fsys.FS
	once func()
}

func (h hooked) OpenRoot(dir string) (fsys.Root, error) {
	r, err := h.FS.OpenRoot(dir)
	return hookedRoot{r, h}, err
}

type hookedRoot struct {
	fsys.Root
	h hooked
}

func (r hookedRoot) SyncFS() error {
	r.h.once()
	return r.Root.SyncFS()
}

// What changes after it was written down what is going to happen, and before it does,
// leaves a picture alone too.
func TestChangesBetween(t *testing.T) {
	other := func(name, text string) func(world) { // of the same time, so that only reading tells
		return func(w world) {
			file := filepath.Join(w.in, name)
			info, err := os.Stat(file)
			must(w.t, err)
			must(w.t, os.WriteFile(file, []byte(text), 0o666))
			must(w.t, os.Chtimes(file, info.ModTime(), info.ModTime()))
		}
	}
	for _, tt := range []struct {
		name    string
		change  func(w world)
		why     string
		deletes bool // it matters to delete alone
	}{
		{"it has other bytes", other("a.png", "eno"), "it is not the file that the run saw", false},
		{"it is gone", func(w world) { must(w.t, os.Remove(filepath.Join(w.in, "a.png"))) }, "it is not there any more", false},
		{"its caption has other bytes", other("a.txt", "noitpac"), "its file is not as the run saw it", true},
		{"its keeper is gone", func(w world) { must(w.t, os.Remove(filepath.Join(w.in, "keep.png"))) }, "its keeper is not there any more", false},
		{"its keeper has other bytes", other("keep.png", "reepek"), "its keeper is not the file that the run saw", true},
		{"its keeper is a link to it", func(w world) {
			must(w.t, errors.Join(os.Remove(filepath.Join(w.in, "keep.png")), os.Symlink("a.png", filepath.Join(w.in, "keep.png"))))
		}, "its keeper is not the file that the run saw", false},
		{"its name is taken", func(w world) { w.put(w.out, map[string]string{"a.png": "mine"}) }, "its name was taken meanwhile: run again", false},
		{"its name is taken by a folder", func(w world) { must(w.t, os.Mkdir(filepath.Join(w.out, "a.png"), 0o777)) }, "its name was taken meanwhile: run again", false},
	} {
		for _, action := range []moves.Action{moves.Move, moves.Copy, moves.Delete} {
			if tt.deletes && action != moves.Delete || action == moves.Delete && strings.HasPrefix(tt.why, "its name") {
				continue
			}
			t.Run(tt.name+"/"+string(action), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, map[string]string{"keep.png": "keeper", "a.png": "one", "a.txt": "caption"})
				j := w.job("a.png")
				var want, out map[string]string
				files := hooked{fsys.OS, sync.OnceFunc(func() {
					tt.change(w)
					want, out = w.tree(w.in), w.tree(w.out)
				})}
				r := w.applied(moves.Options{Action: action, DeleteCount: 1, FS: files}, j)
				if want == nil {
					t.Fatal("nothing was changed")
				}
				// A move to another file system reads what it removes; one within finds what has
				// another time or size. Both may move a file that was changed in the time of it.
				if r.Left != 1 || r.Images != 0 || r.Why[0].Text != tt.why {
					t.Errorf("%+v", r)
				}
				w.same("sources", w.tree(w.in), want)
				w.same("folder", w.tree(w.out), out)
			})
		}
	}
}

// What was confirmed goes on holding for the rest of a run that was killed, and for
// nothing else.
func TestConfirmedGoesOn(t *testing.T) {
	for _, tt := range []struct {
		name  string
		jobs  []string // of the second run, beside those that are left of the first
		count int64
		fine  bool
	}{
		{"the rest", nil, 3, true},
		{"the rest by its own number", nil, 2, true},
		{"the rest with any number", nil, -1, true},
		{"another number", nil, 4, false},
		{"others too", []string{"d.png"}, 4, false},
		{"others, and the same number", []string{"d.png", "e.png"}, 3, false},
		{"others, counted", []string{"d.png"}, 3, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, map[string]string{"keep.png": "keeper", "a.png": "a", "b.png": "b", "c.png": "c", "d.png": "d", "e.png": "e"})
			first := []moves.Job{w.job("a.png"), w.job("b.png"), w.job("c.png")}
			w.halfDeleted(first...)
			jobs := []moves.Job{w.job("b.png"), w.job("c.png")}
			for _, name := range tt.jobs {
				jobs = append(jobs, w.job(name))
			}
			before := w.tree(w.in)
			o := moves.Options{Action: moves.Delete, DeleteCount: tt.count, Record: filepath.Join(w.out, moves.RecordName)}
			if p, err := moves.Preview(t.Context(), o, list(jobs...)); (err == nil) != tt.fine || p.Images != int64(len(jobs)) {
				t.Errorf("a preview: %+v, %v", p, err)
			}
			r, err := w.apply(o, jobs...)
			if !tt.fine {
				if !errors.As(err, new(*moves.CountError)) {
					t.Errorf("%+v, %v", r, err)
				}
				w.same("sources", w.tree(w.in), before)
				return
			}
			if err != nil || r.Images != int64(len(jobs)) {
				t.Errorf("%+v, %v", r, err)
			}
			// Now it is over: the number is of new ones again.
			w.put(w.in, map[string]string{"b.png": "b"})
			for _, name := range []string{"b.png", "e.png"} {
				if r, err := w.apply(moves.Options{Action: moves.Delete, DeleteCount: 3}, w.job(name)); !errors.As(err, new(*moves.CountError)) {
					t.Errorf("%s: %+v, %v", name, r, err)
				}
			}
		})
	}
}

// halfDeleted deletes the first of the files, and is killed then.
func (w world) halfDeleted(jobs ...moves.Job) {
	w.t.Helper()
	all := len(w.tree(w.in))
	for n := int64(1); len(w.tree(w.in)) == all; n++ {
		faulty := fsys.FailAt(fsys.OS, n, syscall.EIO)
		faulty.Sticky = true
		_, _ = w.apply(moves.Options{Action: moves.Delete, DeleteCount: int64(len(jobs)), FS: faulty}, jobs...)
		if faulty.Failed() == "" {
			w.t.Fatal("all are deleted")
		}
	}
}

// The caption of a picture that somebody took away after a run was killed is not one of a
// picture that the run deleted.
func TestCaptionOfOneTakenAway(t *testing.T) {
	w := newWorld(t, map[string]string{"keep.png": "keeper", "a.png": "a", "b.png": "b", "b.txt": "caption"})
	w.halfDeleted(w.job("a.png"), w.job("b.png"))
	must(t, os.Rename(filepath.Join(w.in, "b.png"), filepath.Join(filepath.Dir(w.in), "b.png")))
	w.applied(moves.Options{Action: moves.Delete, DeleteCount: 2})
	w.same("sources", w.tree(w.in), map[string]string{"keep.png": "keeper", "b.txt": "caption"})
}

// When it is stopped, what was done is whole, and the rest is for the next run.
func TestStopped(t *testing.T) {
	files := map[string]string{"keep.png": "keeper", "a.png": "a", "a.txt": "caption", "b.png": "b", "c.png": "c"}
	w := newWorld(t, files)
	asked := 0
	jobs := []moves.Job{w.job("a.png"), w.job("b.png"), w.job("c.png")}
	r, err := w.apply(moves.Options{Action: moves.Delete, DeleteCount: 3, Stop: func() bool { asked++; return asked > 1 }}, jobs...)
	if !errors.Is(err, moves.ErrStopped) || r.Images != 1 || r.Files != 2 || r.Undone != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	w.same("sources", w.tree(w.in), map[string]string{"keep.png": "keeper", "b.png": "b", "c.png": "c"})
	if r := w.applied(moves.Options{Action: moves.Delete, DeleteCount: 3}, jobs[1:]...); r.Images != 2 {
		t.Errorf("%+v", r)
	}
	w.same("sources", w.tree(w.in), map[string]string{"keep.png": "keeper"})
}

// away are the pictures that the record tells of, with what was said of them.
func (w world) away(action moves.Action) (all []string) {
	w.t.Helper()
	must(w.t, moves.EachAway(w.t.Context(), moves.Options{Action: action, To: w.out}, func(a moves.Away) error {
		if a.Root != w.in || a.Keeper != "keep.png" || a.KeeperSHA256 != sha256.Sum256([]byte("keeper")) {
			w.t.Errorf("%+v", a)
		}
		all = append(all, a.ID+" "+string(a.Explained))
		return nil
	}))
	return all
}

// Only what the record moved or deleted, and what is not there again, is away.
func TestEachAway(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(w world)
		want   bool // of a.png
	}{
		{"nothing", func(world) {}, true},
		{"what it went to is gone", func(w world) { must(w.t, os.RemoveAll(filepath.Join(w.out, "a.png"))) }, true},
		{"it is there again", func(w world) { w.put(w.in, map[string]string{"a.png": "another"}) }, false},
		{"a newer one went", func(w world) {
			w.put(w.in, map[string]string{"a.png": "new"})
			j := w.job("a.png")
			j.Explained = []byte(`"a.png"`)
			w.applied(moves.Options{Action: moves.Move}, j)
		}, true},
		{"it was restored, and taken away", func(w world) {
			w.restored(moves.RestoreOptions{All: true})
			must(w.t, os.Remove(filepath.Join(w.in, "a.png")))
		}, false},
		{"it came once more, and nothing is said of that", func(w world) {
			w.put(w.in, map[string]string{"a.png": "new"})
			w.applied(moves.Options{Action: moves.Move}, w.job("a.png"))
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, map[string]string{"keep.png": "keeper", "a.png": "a", "b.png": "b"})
			if all := w.away(moves.Move); len(all) > 0 {
				t.Errorf("without a record there are %v", all)
			}
			j := w.job("a.png")
			j.Explained = []byte(`"a.png"`)
			w.applied(moves.Options{Action: moves.Move}, j)
			w.applied(moves.Options{Action: moves.Copy}, w.job("b.png"))
			must(t, os.Remove(filepath.Join(w.in, "b.png")))
			tt.change(w)
			if got := w.away(moves.Move); len(got) != 0 && got[0] != `a.png "a.png"` || (len(got) == 1) != tt.want {
				t.Errorf("away are %q", got)
			}
		})
	}
	for _, action := range []moves.Action{moves.Move, moves.Delete} {
		t.Run("not come to/"+string(action), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, map[string]string{"keep.png": "keeper", "a.png": "a", "b.png": "b", "c.png": "c"})
			var jobs []moves.Job
			for _, name := range []string{"a.png", "b.png", "c.png"} {
				j := w.job(name)
				j.Explained = []byte(`1`)
				jobs = append(jobs, j)
			}
			files := hooked{fsys.OS, sync.OnceFunc(func() { must(w.t, os.Remove(filepath.Join(w.in, "a.png"))) })} // which is left, then
			asked := 0
			r, err := w.apply(moves.Options{Action: action, DeleteCount: 3, FS: files, Stop: func() bool { asked++; return asked > 2 }}, jobs...)
			if !errors.Is(err, moves.ErrStopped) || r.Left != 1 {
				t.Fatalf("%+v, %v", r, err)
			}
			must(t, os.Remove(filepath.Join(w.in, "c.png")))
			if got := w.away(action); !slices.Equal(got, []string{"b.png 1"}) {
				t.Errorf("away are %q", got)
			}
			// A process that is killed has not told of the last ones; of what it deletes it
			// tells before.
			record := filepath.Join(w.out, moves.RecordName)
			b, err := os.ReadFile(record)
			must(t, err)
			last := bytes.Index(b, []byte(`"begin"`))
			if action == moves.Delete {
				last = bytes.LastIndex(b, []byte(`"doing"`))
			}
			must(t, os.WriteFile(record, b[:last+bytes.IndexByte(b[last:], '\n')+1], 0o666))
			if got := w.away(action); !slices.Equal(got, []string{"b.png 1"}) {
				t.Errorf("after it was killed, away are %q", got)
			}
		})
	}
}
