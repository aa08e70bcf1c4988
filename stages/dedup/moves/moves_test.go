package moves_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/stages/dedup/moves"
)

// What each action leaves, of pictures with sidecars, names that are taken, pairs.
func TestActions(t *testing.T) {
	files := map[string]string{
		"keep.png": "keeper", "a.png": "one", "a.txt": "caption", "a.json": "{}", "sub/b.jpg": "two", "other.txt": "not of these",
		"hq/p.png": "high", "hq/p.txt": "of high", "lq/p.png": "low", "lq/p.txt": "of low",
	}
	gone := []string{"a.png", "a.txt", "a.json", "sub/b.jpg", "hq/p.png", "hq/p.txt", "lq/p.png", "lq/p.txt"}
	there := map[string]string{"a.json": "mine"} // a-2.png is among the sources as well
	put := map[string]string{
		"a.json": "mine", "a-2.png": "one", "a-2.txt": "caption", "a-2.json": "{}", "sub/b.jpg": "two",
		"hq/p.png": "high", "hq/p.txt": "of high", "lq/p.png": "low", "lq/p.txt": "of low",
	}
	for _, tt := range []struct {
		action moves.Action
		leaves bool // the sources
	}{{moves.Move, false}, {moves.Copy, true}, {moves.Hardlink, true}, {moves.Delete, false}} {
		t.Run(string(tt.action), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, files)
			w.put(w.out, there)
			jobs := []moves.Job{w.job("a.png"), w.job("sub/b.jpg"), w.pair("p.png")}
			r := w.applied(moves.Options{Action: tt.action, DeleteCount: 3}, jobs...)
			wantIn, wantOut := map[string]string{}, put
			for name, text := range files {
				wantIn[name] = text
			}
			if !tt.leaves {
				for _, name := range gone {
					delete(wantIn, name)
				}
			}
			numbered := int64(1)
			if tt.action == moves.Delete {
				wantOut, numbered = there, 0
			}
			w.same("sources", w.tree(w.in), wantIn)
			w.same("folder", w.tree(w.out), wantOut)
			if r.Images != 3 || r.Files != 8 || r.Bytes != int64(len("onecaption{}twohighof highlowof low")) || r.Left != 0 || r.Numbered != numbered {
				t.Errorf("%+v", r)
			}
			if r.Record != filepath.Join(w.out, moves.RecordName) {
				t.Errorf("the record is %s", r.Record)
			}
			if tt.action == moves.Hardlink {
				a, _ := os.Stat(filepath.Join(w.in, "a.png"))
				b, _ := os.Stat(filepath.Join(w.out, "a-2.png"))
				if !os.SameFile(a, b) {
					t.Error("the hard link is another file")
				}
			}

			// The same jobs once more: all is done already.
			again := w.applied(moves.Options{Action: tt.action, DeleteCount: 3}, jobs...)
			if again.Images != 0 || again.Already != 3 || again.Left != 0 {
				t.Errorf("again: %+v", again)
			}
			w.same("sources again", w.tree(w.in), wantIn)
			w.same("folder again", w.tree(w.out), wantOut)
		})
	}
}

// Each line tells what was where, and all are there before the first file goes.
func TestRecord(t *testing.T) {
	w := newWorld(t, map[string]string{"keep.png": "keeper", "a b@\xff.png": "one", "a b@\xff.txt": "caption"})
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	w.applied(moves.Options{Action: moves.Move, Time: at}, w.job("a b@\xff.png"))
	lines := w.lines()
	var events []string
	for _, l := range lines {
		events = append(events, l["event"].(string))
		if l["run"] != "2026-01-02T03:04:05Z" {
			t.Errorf("%v", l)
		}
	}
	if got := strings.Join(events, " "); got != "intend intend begin done done end" {
		t.Fatalf("the events are %s", got)
	}
	for name, want := range map[string]any{
		"kind": "image", "action": "move", "id": "a b%40%FF.png", "keeper": "keep.png", "root": w.in, "source": "a b%40%FF.png",
		"target": "a b%40%FF.png", "size": 3.0, "sha256": "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
	} {
		if lines[0][name] != want {
			t.Errorf("%s is %v, want %v", name, lines[0][name], want)
		}
	}
	if lines[1]["kind"] != "sidecar" || lines[1]["sha256"] == nil {
		t.Errorf("%v", lines[1])
	}
	w.same("folder", w.tree(w.out), map[string]string{"a b@\xff.png": "one", "a b@\xff.txt": "caption"})
	if r := w.restored(moves.RestoreOptions{All: true}); r.Restored != 2 {
		t.Errorf("%+v", r)
	}
	w.same("sources", w.tree(w.in), map[string]string{"keep.png": "keeper", "a b@\xff.png": "one", "a b@\xff.txt": "caption"})
}

// What does not hold leaves one picture alone, with the reason, and the others go on.
func TestLeftAlone(t *testing.T) {
	files := map[string]string{"keep.png": "keeper", "a.png": "one", "a.txt": "caption", "b.png": "two"}
	write := func(name, text string) func(w world, j *moves.Job) {
		return func(w world, j *moves.Job) { must(w.t, os.WriteFile(filepath.Join(w.in, name), []byte(text), 0o666)) }
	}
	instead := func(name, to string) func(w world, j *moves.Job) {
		return func(w world, j *moves.Job) {
			file := filepath.Join(w.in, name)
			must(w.t, os.Rename(file, file+".away"))
			must(w.t, os.Symlink(to, file))
		}
	}
	for _, tt := range []struct {
		name   string
		change func(w world, j *moves.Job) // after the run saw it
		why    string
		also   bool // with delete alone
	}{
		{"it is gone", func(w world, _ *moves.Job) { must(w.t, os.Remove(filepath.Join(w.in, "a.png"))) }, "it is not there any more", false},
		{"another size", write("a.png", "longer"), "it is not the file that the run saw", false},
		{"other bytes", write("a.png", "eno"), "it is not the file that the run saw", false},
		{"a link", instead("a.png", "a.png.away"), "it is a symbolic link", false},
		{"a link to its keeper", instead("a.png", "keep.png"), "it is a symbolic link", false},
		{"a folder", func(w world, _ *moves.Job) {
			must(w.t, errors.Join(os.Remove(filepath.Join(w.in, "a.png")), os.Mkdir(filepath.Join(w.in, "a.png"), 0o777)))
		}, "it is not the file that the run saw", false},
		{"its keeper is gone", func(w world, _ *moves.Job) { must(w.t, os.Remove(filepath.Join(w.in, "keep.png"))) }, "its keeper is not there any more", false},
		{"its keeper has another size", write("keep.png", "k"), "its keeper is not the file that the run saw", false},
		{"its keeper has other bytes", write("keep.png", "reepek"), "its keeper is not the file that the run saw", true},
		{"its keeper is a link to it", instead("keep.png", "a.png"), "its keeper is not the file that the run saw", false},
		{"its keeper is a link to it, of its size", func(w world, j *moves.Job) {
			instead("keep.png", "a.png")(w, j)
			j.KeeperSize = 3
		}, "it and its keeper are one file", false},
		{"it is its keeper", func(w world, j *moves.Job) { j.KeeperPath, j.KeeperSize = j.Path, j.Size }, "it and its keeper are one file", false},
		{"it is its keeper by way of a folder", func(w world, j *moves.Job) {
			must(w.t, os.Symlink(w.in, filepath.Join(w.in, "loop")))
			j.KeeperPath, j.KeeperSize = filepath.Join(w.in, "loop", "a.png"), j.Size
		}, "it and its keeper are one file", false},
		{"its keeper is in an index", func(_ world, j *moves.Job) { j.KeeperPath = "" }, "its keeper is not in a file here", true},
		{"it has no keeper", func(_ world, j *moves.Job) { j.Keeper, j.KeeperPath = "", "" }, "it was rejected without a keeper", true},
		{"a caption was changed", write("a.txt", "another"), "its sidecar is not as the run saw it", false},
		{"a caption is a link", instead("a.txt", "a.txt.away"), "its sidecar is not as the run saw it", false},
		{"a name that leads out", func(_ world, j *moves.Job) { j.Source = "../a.png" }, "its name leads out of the folder", false},
	} {
		for _, action := range []moves.Action{moves.Move, moves.Copy, moves.Hardlink, moves.Delete} {
			t.Run(tt.name+"/"+string(action), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, files)
				a, b := w.job("a.png"), w.job("b.png")
				b.KeeperPath = filepath.Join(t.TempDir(), "keep.png") // one that is all right
				must(t, os.WriteFile(b.KeeperPath, []byte("keeper"), 0o666))
				tt.change(w, &a)
				want := w.tree(w.in)
				r := w.applied(moves.Options{Action: action, DeleteCount: -1}, a, b)
				if tt.also && action != moves.Delete {
					if r.Images != 2 {
						t.Errorf("%+v", r)
					}
					return
				}
				if r.Left != 1 || r.Images != 1 || len(r.Why) != 1 || !strings.HasPrefix(r.Why[0].Text, tt.why) || !strings.HasPrefix(r.Why[0].First[0], a.Path) {
					t.Errorf("%+v, want %q", r, tt.why)
				}
				if action == moves.Move || action == moves.Delete {
					delete(want, "b.png")
				}
				w.same("sources", w.tree(w.in), want)
				if got := w.tree(w.out); len(got) > 1 {
					t.Errorf("in the folder: %v", got)
				}
			})
		}
	}
}

// A hard link is another name of the same bytes, and may go.
func TestHardLinkOfTheKeeper(t *testing.T) {
	for _, action := range []moves.Action{moves.Move, moves.Delete} {
		w := newWorld(t, map[string]string{"keep.png": "keeper", "link.png": "= keep.png"})
		r := w.applied(moves.Options{Action: action, DeleteCount: 1}, w.job("link.png"))
		if r.Images != 1 || r.Left != 0 {
			t.Errorf("%s: %+v", action, r)
		}
		w.same("sources", w.tree(w.in), map[string]string{"keep.png": "keeper"})
	}
}

// A caption that another picture has as well stays with that.
func TestSharedSidecar(t *testing.T) {
	for _, tt := range []struct {
		action moves.Action
		out    map[string]string
	}{{moves.Move, map[string]string{"a.jpg": "one", "a.txt": "caption"}}, {moves.Delete, map[string]string{}}} {
		w := newWorld(t, map[string]string{"keep.png": "keeper", "a.jpg": "one", "a.png": "another", "a.txt": "caption"})
		if r := w.applied(moves.Options{Action: tt.action, DeleteCount: 1}, w.job("a.jpg")); r.Images != 1 || r.Left != 0 {
			t.Errorf("%+v", r)
		}
		w.same("sources", w.tree(w.in), map[string]string{"keep.png": "keeper", "a.png": "another", "a.txt": "caption"})
		w.same("folder", w.tree(w.out), tt.out)
	}
}

// Sidecars of another picture, which an item took over, are not its own to take away.
func TestForeignSidecar(t *testing.T) {
	w := newWorld(t, map[string]string{"keep.png": "keeper", "a.png": "one", "b.txt": "of another"})
	j := w.job("a.png")
	j.Sidecars = sidecars(t, filepath.Join(w.in, "b.png"))
	if len(j.Sidecars) != 1 {
		t.Fatal("there is no sidecar")
	}
	w.applied(moves.Options{Action: moves.Move}, j)
	w.same("sources", w.tree(w.in), map[string]string{"keep.png": "keeper", "b.txt": "of another"})
	w.same("folder", w.tree(w.out), map[string]string{"a.png": "one"})
}

// Names that are about to come are not given to others, and numbers go on.
func TestNumbers(t *testing.T) {
	w := newWorld(t, map[string]string{"keep.png": "keeper", "a.png": "one", "a-2.png": "two", "a-3.txt": "a caption alone"})
	w.put(w.out, map[string]string{"a.png": "mine", "a-4.png": "mine too"})
	r := w.applied(moves.Options{Action: moves.Move}, w.job("a.png"), w.job("a-2.png"))
	if r.Images != 2 || r.Numbered != 1 {
		t.Errorf("%+v", r)
	}
	w.same("folder", w.tree(w.out), map[string]string{"a.png": "mine", "a-4.png": "mine too", "a-3.png": "one", "a-2.png": "two"})

	// What is in the folder leads nowhere out of it, and a record that is a link neither.
	other := t.TempDir()
	w = newWorld(t, map[string]string{"keep.png": "keeper", "sub/a.png": "one"})
	w.put(w.out, map[string]string{"sub": "-> " + other})
	r = w.applied(moves.Options{Action: moves.Move}, w.job("sub/a.png"))
	if r.Left != 1 {
		t.Errorf("through a link: %+v", r)
	}
	w.same("sources", w.tree(w.in), map[string]string{"keep.png": "keeper", "sub/a.png": "one"})
	w.same("another folder", w.tree(other), map[string]string{})
	w = newWorld(t, map[string]string{"keep.png": "keeper", "a.png": "one"})
	w.put(w.out, map[string]string{moves.RecordName: "-> " + filepath.Join(other, "record")})
	if r, err := w.apply(moves.Options{Action: moves.Move}, w.job("a.png")); err == nil || r.Images != 0 {
		t.Errorf("a record that is a link: %+v, %v", r, err)
	}
	w.same("another folder", w.tree(other), map[string]string{})
}

// Delete wants the number of pictures, and else deletes nothing at all.
func TestDeleteCount(t *testing.T) {
	files := map[string]string{"keep.png": "keeper", "a.png": "one", "a.txt": "caption", "b.png": "two"}
	w := newWorld(t, files)
	jobs := []moves.Job{w.job("a.png"), w.job("b.png")}
	for _, n := range []int64{0, 1, 3} { // 3: not the sidecar as well
		r, err := w.apply(moves.Options{Action: moves.Delete, DeleteCount: n}, jobs...)
		var wrong *moves.CountError
		if !errors.As(err, &wrong) || wrong.Would != 2 || wrong.Said != n || !strings.Contains(err.Error(), "write delete_count: 2") || r.Images != 0 {
			t.Errorf("%d: %+v, %v", n, r, err)
		}
		w.same("sources", w.tree(w.in), files)
	}
	if r := w.applied(moves.Options{Action: moves.Delete, DeleteCount: 2}, jobs...); r.Images != 2 || r.Files != 3 {
		t.Errorf("%+v", r)
	}
	w.same("sources", w.tree(w.in), map[string]string{"keep.png": "keeper"})

	// The number is of what would be deleted: one that is left alone does not count.
	w = newWorld(t, files)
	jobs = []moves.Job{w.job("a.png"), w.job("b.png")}
	must(t, os.WriteFile(filepath.Join(w.in, "b.png"), []byte("owt"), 0o666))
	if _, err := w.apply(moves.Options{Action: moves.Delete, DeleteCount: 2}, jobs...); !errors.As(err, new(*moves.CountError)) {
		t.Errorf("%v", err)
	}
	if _, err := w.apply(moves.Options{Action: moves.Delete, DeleteCount: -1}, jobs...); err != nil {
		t.Error(err)
	}
	w.same("sources", w.tree(w.in), map[string]string{"keep.png": "keeper", "b.png": "owt"})
}

// For nothing, nothing is made; and what is wrong is said before anything happens.
func TestApplyOptions(t *testing.T) {
	w := newWorld(t, map[string]string{"keep.png": "keeper", "a.png": "one"})
	if r := w.applied(moves.Options{Action: moves.Move}); r.Record != "" {
		t.Errorf("%+v", r)
	}
	if _, err := os.Lstat(w.out); err == nil {
		t.Error("a folder was made for nothing")
	}
	for _, o := range []moves.Options{{Action: "burn", To: w.out}, {Action: moves.Move}, {Action: moves.Delete}} {
		if _, err := moves.Apply(t.Context(), o, list(w.job("a.png"))); err == nil {
			t.Errorf("%+v is no error", o)
		}
	}
	// A folder that lies in the source's: what is there is not moved about.
	w.put(w.in, map[string]string{"dups/b.png": "two"})
	if r := w.applied(moves.Options{Action: moves.Move, To: filepath.Join(w.in, "dups")}, w.job("dups/b.png")); r.Left != 1 {
		t.Errorf("%+v", r)
	}
	broken := errors.New("the table is broken")
	_, err := moves.Apply(t.Context(), moves.Options{Action: moves.Move, To: w.out}, func(yield func(moves.Job, error) bool) {
		if yield(w.job("a.png"), nil) {
			yield(moves.Job{}, broken)
		}
	})
	if !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	w.same("sources", w.tree(w.in), map[string]string{"keep.png": "keeper", "a.png": "one", "dups/b.png": "two"})
}

// Two processes do not work with one record.
func TestLocked(t *testing.T) {
	w := newWorld(t, map[string]string{"keep.png": "keeper", "a.png": "one", "b.png": "two"})
	jobs := func(yield func(moves.Job, error) bool) {
		if !yield(w.job("a.png"), nil) {
			return
		}
		if _, err := w.apply(moves.Options{Action: moves.Move}, w.job("b.png")); !errors.Is(err, moves.ErrLocked) {
			t.Errorf("%v", err)
		}
		if _, err := moves.Restore(t.Context(), w.out, moves.RestoreOptions{All: true}); !errors.Is(err, moves.ErrLocked) {
			t.Errorf("%v", err)
		}
	}
	if _, err := moves.Apply(t.Context(), moves.Options{Action: moves.Move, To: w.out}, jobs); err != nil {
		t.Fatal(err)
	}
	w.same("folder", w.tree(w.out), map[string]string{"a.png": "one"})
}
