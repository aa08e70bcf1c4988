package pipeline_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/runstore"
	"github.com/forgepipe/forgepipe/pipeline"
)

// hookFS asks before some operations, and may write other bytes than it is given.
// Between its folders nothing can be renamed, as between file systems.
type hookFS struct {
	fsys.FS
	before func(op, name string) error
	flips  bool
}

func (f *hookFS) OpenRoot(dir string) (fsys.Root, error) {
	r, err := f.FS.OpenRoot(dir)
	return &hookRoot{r, f}, err
}

type hookRoot struct {
	fsys.Root
	fs *hookFS
}

func (r *hookRoot) MkdirAll(dir string) error {
	return errors.Join(r.fs.before("mkdir", dir), r.Root.MkdirAll(dir))
}

func (r *hookRoot) SyncFS() error { return errors.Join(r.fs.before("sync", "."), r.Root.SyncFS()) }

func (r *hookRoot) Create(name string) (fsys.File, error) {
	if err := r.fs.before("create", name); err != nil {
		return nil, err
	}
	f, err := r.Root.Create(name)
	if err == nil && r.fs.flips {
		f = flipping{f}
	}
	return f, err
}

type flipping struct{ fsys.File }

func (f flipping) Write(b []byte) (int, error) {
	other := slices.Clone(b)
	other[0] ^= 1
	return f.File.Write(other)
}

// What goes wrong with a file on its way back leaves it in the trash, and nothing
// half done in its place.
func TestRestoreGoesWrong(t *testing.T) {
	full := func(op, wanted string) func(string, string) error {
		return func(did, _ string) error {
			if did == op {
				return &os.PathError{Op: op, Path: wanted, Err: syscall.ENOSPC}
			}
			return nil
		}
	}
	for _, tt := range []struct {
		name  string
		moved map[string]string // what lies in the trash; a text "-> x" is a link to x
		there map[string]string // what is in the output folder, likewise
		hook  func(out string) *hookFS
		to    bool // to a folder elsewhere
		taken int64
		fails int64
		fatal bool // the rest is not tried
	}{
		{name: "other bytes of that size are there", moved: map[string]string{"a.png": "one"}, there: map[string]string{"a.png": "two"}, taken: 1},
		{name: "a file for a link", moved: map[string]string{"a.png": "-> abc"}, there: map[string]string{"a.png": "two"}, taken: 1},
		{name: "a link for a file", moved: map[string]string{"a.png": "one"}, there: map[string]string{"a.png": "-> abc"}, taken: 1},
		{name: "a file for its folder", moved: map[string]string{"sub/a.png": "one"}, there: map[string]string{"sub": "two"}, taken: 1},
		{name: "a file comes this moment", moved: map[string]string{"sub/a.png": "one"}, hook: func(out string) *hookFS {
			return &hookFS{before: func(op, _ string) error {
				if op != "mkdir" {
					return nil
				}
				return errors.Join(os.MkdirAll(filepath.Join(out, "sub"), 0o777), os.WriteFile(filepath.Join(out, "sub/a.png"), []byte("two"), 0o666))
			}}
		}, taken: 1},
		{name: "a file comes while another is copied", moved: map[string]string{"a.png": "one"}, to: true, hook: func(out string) *hookFS {
			return &hookFS{before: func(op, _ string) error {
				if op != "create" {
					return nil
				}
				return os.WriteFile(filepath.Join(out, "a.png"), []byte("two"), 0o666)
			}}
		}, taken: 1},
		{name: "the copy has other bytes", moved: map[string]string{"a.png": "one"}, to: true, hook: func(string) *hookFS {
			return &hookFS{before: full("nothing", ""), flips: true}
		}, fails: 1},
		{name: "a link to another file system", moved: map[string]string{"a.png": "-> ../../lock", "b.png": "-> c.png"}, to: true, hook: func(string) *hookFS {
			return &hookFS{before: full("nothing", "")}
		}, fails: 2},
		{name: "the disk is full", moved: map[string]string{"a.png": "one", "b.png": "two"}, to: true, hook: func(out string) *hookFS {
			return &hookFS{before: full("create", out)}
		}, fatal: true},
		{name: "the copy is not durable", moved: map[string]string{"a.png": "one", "b.png": "two"}, to: true, hook: func(out string) *hookFS {
			return &hookFS{before: full("sync", out)}
		}, fatal: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, state := trashOf(t)
			at := filepath.Join(state, "trash/20260101-000000.000")
			target := out
			if tt.to {
				target = filepath.Join(t.TempDir(), "to")
			}
			put := func(dir string, files map[string]string) {
				for name, text := range files {
					file := filepath.Join(dir, name)
					if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
						t.Fatal(err)
					}
					var err error
					if to, link := strings.CutPrefix(text, "-> "); link {
						err = os.Symlink(to, file)
					} else {
						err = os.WriteFile(file, []byte(text), 0o666)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			put(at, tt.moved)
			put(target, tt.there)
			o := pipeline.RestoreOptions{All: true, NoStore: true}
			if tt.to {
				o.To = target
			}
			if tt.hook != nil {
				hook := tt.hook(target)
				hook.FS = fsys.OS
				o.FS = hook
			}
			told := 0
			o.OnFile = func(pipeline.Restored) { told++ }
			r, err := pipeline.Restore(t.Context(), state, o)
			if r == nil || (err != nil) != tt.fatal || tt.fatal && (!errors.Is(err, syscall.ENOSPC) || told != 0) {
				t.Fatalf("%+v, %v, and told of %d", r, err, told)
			}
			if r.Restored != 0 || r.Taken != tt.taken || r.Failed != tt.fails {
				t.Errorf("%+v", r)
			}
			for name := range tt.moved {
				if _, err := os.Lstat(filepath.Join(at, name)); err != nil {
					t.Errorf("no longer in the trash: %v", err)
				}
			}
			if temps, _ := filepath.Glob(filepath.Join(target, "*.tmp")); len(temps) > 0 {
				t.Errorf("left %q", temps)
			}
			if b, err := os.ReadFile(filepath.Join(target, "a.png")); err == nil && string(b) != "two" && string(b) != "one" {
				t.Errorf("a.png is %q", b)
			}
			if tt.taken > 0 && tt.hook == nil {
				o.DryRun = true
				if r, err := pipeline.Restore(t.Context(), state, o); err != nil || r.Taken != tt.taken {
					t.Errorf("a dry run: %+v, %v", r, err)
				}
			}
		})
	}
}

// What comes back is made durable, and a fault of that is told.
func TestRestoreIsDurable(t *testing.T) {
	for _, tt := range []struct {
		dry, empty bool
		want       int // times that it is made durable
	}{{want: 1}, {dry: true}, {empty: true}} {
		_, state := trashOf(t, map[string]string{"a.png": "a"})
		synced := 0
		full := &hookFS{FS: fsys.OS, before: func(op, _ string) error {
			if op == "sync" {
				synced++
				return syscall.ENOSPC
			}
			return nil
		}}
		o := pipeline.RestoreOptions{All: true, NoStore: true, FS: full, DryRun: tt.dry}
		if tt.empty {
			o.All, o.Files = false, []string{"none.png"}
		}
		_, err := pipeline.Restore(t.Context(), state, o)
		if synced != tt.want || errors.Is(err, syscall.ENOSPC) != (tt.want > 0) {
			t.Errorf("%+v: made durable %d times, %v", tt, synced, err)
		}
	}
}

// In the place of a file that was not forgepipe's, a run would not move away what is
// restored.
func TestRestoreWhatPassed(t *testing.T) {
	w := newWorkplace(t)
	w.picture("a.png", 1)
	w.must(0, pipeline.RunOptions{})
	if err := runstore.Remove(w.state()); err != nil {
		t.Fatal(err)
	}
	w.must(0, pipeline.RunOptions{})
	tile := ends(t, history(t, w.state()), pipeline.EndQuery{Kind: pipeline.EndPassed})[0].Path
	moved := filepath.Join(w.state(), "trash/20260101-000000.000", filepath.Base(tile))
	if err := errors.Join(os.Remove(tile), os.MkdirAll(filepath.Dir(moved), 0o777), os.WriteFile(moved, []byte("another"), 0o666)); err != nil {
		t.Fatal(err)
	}
	if r := restore(t, w.state(), pipeline.RestoreOptions{All: true}); r.Restored != 1 || r.Wanted+r.Recorded != 0 {
		t.Errorf("%+v", r)
	}
}
