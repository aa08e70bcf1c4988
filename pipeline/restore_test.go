package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/runstore"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// restore also does without a run store: no run is writing anywhere.
func restore(t testing.TB, dir string, o pipeline.RestoreOptions) *pipeline.RestoreReport {
	t.Helper()
	o.NoStore = true
	r, err := pipeline.Restore(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func listTrash(t testing.TB, dir string) (all []pipeline.Trashed) {
	t.Helper()
	if err := pipeline.Trash(t.Context(), dir, func(f pipeline.Trashed) error {
		all = append(all, f)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// retracted is a workplace in which an edit has taken files back, with what was
// there before and what is there now.
func retracted(t *testing.T) (w workplace, before, after map[string]string) {
	w = newWorkplace(t)
	w.picture("a.png", 1)
	w.picture("sub/b.jpg", 2)
	if err := os.WriteFile(filepath.Join(w.in, "sub/b.txt"), []byte("a caption"), 0o666); err != nil {
		t.Fatal(err)
	}
	w.must(0, pipeline.RunOptions{})
	before = tree(t, w.out)
	if s := w.must(50, pipeline.RunOptions{}); s.Retracted == 0 {
		t.Fatal("nothing was retracted")
	}
	return w, before, tree(t, w.out)
}

// A file that is no more an output still tells what it was made of, and why not.
func TestEndsOfRetracted(t *testing.T) {
	w, _, _ := retracted(t)
	h := history(t, w.state())
	n := 0
	for _, f := range listTrash(t, w.state()) {
		if filepath.Ext(f.Name) != ".png" {
			continue
		}
		n++
		got := ends(t, h, pipeline.EndQuery{Image: f.Place()})
		if len(got) != 1 || got[0].Kind != pipeline.EndRejected || got[0].Stage != "filter" {
			t.Errorf("%s: %+v, want the end of the tile alone", f.Name, got)
		}
	}
	if n == 0 {
		t.Fatal("no picture was retracted")
	}
	// One that no item would be called any more: what became of its source.
	if got := ends(t, h, pipeline.EndQuery{Image: filepath.Join(w.out, "sub/b_x999_y0.png")}); len(got) < 3 || got[0].Source != "sub/b.jpg" {
		t.Errorf("%+v", got)
	}
	for _, name := range []string{"b_x999_y0.png", "sub/bb.png", "sub/b.gif"} {
		if err := h.Ends(t.Context(), pipeline.EndQuery{Image: filepath.Join(w.out, name)}, func(pipeline.End) error { return nil }); !errors.Is(err, pipeline.ErrUnknownImage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What comes back is what was there, and runs leave it alone whatever they want.
func TestRestoreAndRunAgain(t *testing.T) {
	w, before, after := retracted(t)
	listed := listTrash(t, w.state())
	for _, f := range listed {
		if f.Why != "retracted" || f.Taken != (f.Name == "manifest.jsonl") || time.Since(f.Time) > time.Hour || f.Folder != w.out || f.Size == 0 {
			t.Errorf("%+v", f)
		}
	}
	if _, err := os.Stat(listed[0].Path); err != nil {
		t.Error(err)
	}
	plan := restore(t, w.state(), pipeline.RestoreOptions{All: true, DryRun: true})
	sameTree(t, "dry run", tree(t, w.out), after)
	done := restore(t, w.state(), pipeline.RestoreOptions{All: true})
	if done.Restored != plan.Restored || done.Bytes != plan.Bytes || done.Restored == 0 || done.Wanted != 0 || done.Failed != 0 {
		t.Errorf("%+v after %+v", done, plan)
	}
	manifest := after["manifest.jsonl"] // that of the last run stays
	want := maps.Clone(before)
	want["manifest.jsonl"] = manifest
	sameTree(t, "restored", tree(t, w.out), want)

	if s := w.must(50, pipeline.RunOptions{}); s.Retracted+s.Replaced+s.Quarantined != 0 {
		t.Errorf("the next run: %+v", s)
	}
	sameTree(t, "a run that does not want them", tree(t, w.out), want)
	if s := w.must(0, pipeline.RunOptions{}); s.Retracted+s.Replaced+s.Quarantined != 0 {
		t.Errorf("a run that wants them: %+v", s)
	}
	sameTree(t, "a run that wants them", tree(t, w.out), before)
	for range 2 { // recorded anew, and as it was
		for _, e := range ends(t, history(t, w.state()), pipeline.EndQuery{}) {
			if e.Kind == pipeline.EndUnfinished || e.Kind == pipeline.EndPassed && (e.Stage != "write" || before[strings.TrimPrefix(e.Path, w.out+"/")] == "") {
				t.Errorf("%+v", e)
			}
		}
		w.must(0, pipeline.RunOptions{})
	}
	// They are still nobody's: another edit does not take them back.
	w.must(50, pipeline.RunOptions{})
	sameTree(t, "a run that again does not", tree(t, w.out), want)
}

// A restored file that somebody changes stays, and the item that wants its name
// fails.
func TestRestoredFileInTheWay(t *testing.T) {
	w, _, _ := retracted(t)
	restore(t, w.state(), pipeline.RestoreOptions{All: true})
	file := ""
	for name := range tree(t, w.out) {
		if strings.HasPrefix(name, "a_x0") {
			file = filepath.Join(w.out, name)
		}
	}
	if err := os.WriteFile(file, []byte("mine"), 0o666); err != nil {
		t.Fatal(err)
	}
	s := w.must(0, pipeline.RunOptions{})
	if b, _ := os.ReadFile(file); string(b) != "mine" || s.Quarantined != 1 || !strings.Contains(s.Failed[0].Cause, "did not write") {
		t.Errorf("the file has %q, the run %+v", b, s.Failed)
	}
}

// A file that was changed and made again does not come back over the new one, and
// one whose place is free although the pipeline makes it is said to go again.
func TestRestoreWhatWasReplaced(t *testing.T) {
	w := newWorkplace(t)
	w.picture("a.png", 1)
	w.must(0, pipeline.RunOptions{})
	file := filepath.Join(w.out, "a_x0_y0.png")
	made, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("mine"), 0o666); err != nil {
		t.Fatal(err)
	}
	w.must(0, pipeline.RunOptions{})
	if l := listTrash(t, w.state()); len(l) != 1 || l[0].Why != "replaced" || !l[0].Taken || l[0].Place() != file {
		t.Fatalf("trash %+v", l)
	}
	if r := restore(t, w.state(), pipeline.RestoreOptions{Files: []string{file}}); r.Taken != 1 || r.Restored != 0 || len(r.Faults) != 1 {
		t.Errorf("%+v", r)
	}
	if b, _ := os.ReadFile(file); string(b) != string(made) {
		t.Error("it was written over")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if r := restore(t, w.state(), pipeline.RestoreOptions{Files: []string{"a_x0_y0.png"}}); r.Restored != 1 || r.Wanted != 1 {
		t.Errorf("%+v", r)
	}
	if s := w.must(0, pipeline.RunOptions{}); s.Replaced != 1 {
		t.Errorf("the next run %+v", s)
	}
	to := filepath.Join(t.TempDir(), "to")
	if r := restore(t, w.state(), pipeline.RestoreOptions{All: true, To: to}); r.Restored != 1 || r.Wanted != 0 {
		t.Errorf("%+v", r)
	}
	if b, _ := os.ReadFile(filepath.Join(to, "a_x0_y0.png")); string(b) != "mine" {
		t.Errorf("it has %q", b)
	}
	if l := listTrash(t, w.state()); len(l) != 0 {
		t.Errorf("left in the trash: %+v", l)
	}
	if left, err := os.ReadDir(filepath.Join(w.state(), "trash")); err != nil || len(left) > 0 {
		t.Errorf("the trash has %v, %v: want it empty", left, err)
	}
}

// What comes to a file's place while the run makes it, as from another process that
// restores, is never written over.
func TestRestoredDuringRun(t *testing.T) {
	for name, before := range map[string]func(file string) error{
		"changed": func(file string) error { return os.WriteFile(file, []byte("edited"), 0o666) },
		"missing": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorkplace(t)
			w.picture("a.png", 1)
			w.must(0, pipeline.RunOptions{})
			file := filepath.Join(w.out, "a_x0_y0.png")
			info, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := before(file); err != nil {
				t.Fatal(err)
			}
			came := false
			var o pipeline.RunOptions
			o.FailSQL(func(string) error { // the run is about to record that the file will be there
				temps, _ := filepath.Glob(filepath.Join(w.out, ".forgepipe-*.tmp"))
				if came || len(temps) != 1 {
					return nil
				}
				if temp, err := os.Stat(temps[0]); err != nil || temp.Size() != info.Size() {
					return nil
				}
				came = true
				return os.WriteFile(file, []byte("mine"), 0o666)
			})
			s := w.must(0, o)
			if !came {
				t.Fatal("the run made nothing")
			}
			if b, err := os.ReadFile(file); string(b) != "mine" {
				t.Fatalf("the file has %d bytes, %v: what came is lost", len(b), err)
			}
			if s.Quarantined != 1 || !strings.Contains(s.Failed[0].Cause, "did not write") {
				t.Errorf("failed %+v", s.Failed)
			}
			if s := w.must(0, pipeline.RunOptions{}); s.Quarantined != 1 || s.Replaced != 0 {
				t.Errorf("the next run %+v", s)
			}
			if b, _ := os.ReadFile(file); string(b) != "mine" {
				t.Errorf("the next run left %q", b)
			}
		})
	}
}

// A run that was killed while it took a file back still has it on record.
func TestRestoreWhatIsOnRecord(t *testing.T) {
	w := newWorkplace(t)
	w.picture("a.png", 1)
	w.must(0, pipeline.RunOptions{})
	want := files(t, w.out)
	moved := filepath.Join(w.state(), "trash/20260101-000000.000")
	for name := range want {
		if err := errors.Join(os.MkdirAll(moved, 0o777), os.Rename(filepath.Join(w.out, name), filepath.Join(moved, name))); err != nil {
			t.Fatal(err)
		}
	}
	if r := restore(t, w.state(), pipeline.RestoreOptions{All: true}); r.Restored != int64(len(want)) || r.Recorded != r.Restored || r.Wanted != 0 {
		t.Errorf("%+v", r)
	}
	if s := w.must(0, pipeline.RunOptions{}); s.Written != 0 || s.Reused != int64(len(want)) {
		t.Errorf("a run that wants them: %+v", s)
	}
	if s := w.must(1000, pipeline.RunOptions{}); s.Retracted == 0 {
		t.Errorf("one that does not: %+v", s)
	}
}

// Starting over leaves the same files in the trash and in place.
func TestRestoreAfterFresh(t *testing.T) {
	w := newWorkplace(t)
	w.picture("a.png", 1)
	w.must(0, pipeline.RunOptions{})
	want := files(t, w.out)
	w.must(0, pipeline.RunOptions{Fresh: true})
	l := listTrash(t, w.state())
	if len(l) != len(want) || l[0].Why != "fresh" || !l[0].Taken {
		t.Fatalf("trash %+v", l)
	}
	if r := restore(t, w.state(), pipeline.RestoreOptions{All: true}); r.Same != int64(len(want)) || r.Restored+r.Taken+r.Failed != 0 {
		t.Errorf("%+v", r)
	}
	// Killed after the files went: there is no run store, and all come back.
	for name := range want {
		if err := os.Remove(filepath.Join(w.out, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := runstore.Remove(w.state()); err != nil {
		t.Fatal(err)
	}
	if r := restore(t, w.state(), pipeline.RestoreOptions{All: true}); r.Restored != int64(len(want)) {
		t.Errorf("%+v", r)
	}
	if got := files(t, w.out); !maps.Equal(got, want) {
		t.Errorf("restored %q", slices.Sorted(maps.Keys(got)))
	}
	if s := w.must(0, pipeline.RunOptions{}); s.Quarantined+s.Replaced+s.Retracted != 0 {
		t.Errorf("the next run %+v", s)
	}
	if got := files(t, w.out); !maps.Equal(got, want) {
		t.Errorf("after the next run %q", slices.Sorted(maps.Keys(got)))
	}
}

func TestRestoreFinds(t *testing.T) {
	w, before, after := retracted(t)
	t.Chdir(filepath.Dir(w.out))
	from := listTrash(t, w.state())[0].From
	var gone []string
	for name := range before {
		if _, ok := after[name]; !ok && !strings.HasSuffix(name, "/") {
			gone = append(gone, name)
		}
	}
	in := func(folder string) (names []string) {
		for _, name := range gone {
			if strings.HasPrefix(name, folder) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	tile := in("sub/")[0] // a picture, or its caption beside it
	tile = strings.TrimSuffix(strings.TrimSuffix(tile, ".png"), ".txt")
	both := []string{tile + ".png", tile + ".txt"}
	for _, tt := range []struct {
		name string
		o    pipeline.RestoreOptions
		want []string
	}{
		{"path in the output folder", pipeline.RestoreOptions{Files: []string{tile + ".png"}}, both},
		{"path from the working directory", pipeline.RestoreOptions{Files: []string{"out/" + tile + ".png"}}, both},
		{"absolute path", pipeline.RestoreOptions{Files: []string{filepath.Join(w.out, tile+".png")}}, both},
		{"path in the trash", pipeline.RestoreOptions{Files: []string{"out/.forgepipe/trash/" + from + "/" + tile + ".png"}}, both},
		{"sidecar alone", pipeline.RestoreOptions{Files: []string{tile + ".txt"}}, both[1:]},
		{"folder", pipeline.RestoreOptions{Files: []string{"sub/"}}, in("sub/")},
		{"pattern", pipeline.RestoreOptions{Files: []string{"sub/*"}}, in("sub/")},
		{"two", pipeline.RestoreOptions{Files: []string{"sub", in("a_")[0]}}, append(in("a_")[:1:1], in("sub/")...)},
		{"time", pipeline.RestoreOptions{All: true, From: from}, in("")},
		{"another time", pipeline.RestoreOptions{All: true, From: "20010101-000000.000"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.To = filepath.Join(t.TempDir(), "to") // so that each begins alike
			tt.o.DryRun = true
			var got []string
			tt.o.OnFile = func(r pipeline.Restored) {
				if r.Fault == "" && r.Name != "manifest.jsonl" {
					got = append(got, r.Name)
				}
			}
			r := restore(t, w.state(), tt.o)
			slices.Sort(got)
			if !slices.Equal(got, tt.want) || len(r.Unknown) > 0 {
				t.Errorf("%q, want %q; %+v", got, tt.want, r)
			}
			if _, err := os.Stat(tt.o.To); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the dry run made the folder: %v", err)
			}
		})
	}
	for _, file := range []string{"none.png", "su", "/etc/passwd", "../out2", "none*", "a[*", "s*.png", "out/.forgepipe/trash/20010101-000000.000/" + tile + ".png"} {
		if r := restore(t, w.state(), pipeline.RestoreOptions{Files: []string{file}}); !slices.Equal(r.Unknown, []string{file}) || r.Restored != 0 {
			t.Errorf("%q: %+v", file, r)
		}
	}
	if _, err := pipeline.Restore(t.Context(), filepath.Join(t.TempDir(), ".forgepipe"), pipeline.RestoreOptions{All: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("where nothing is: %v", err)
	}
}

// trashOf makes a trash by hand: name and text of each file.
func trashOf(t *testing.T, times ...map[string]string) (out, state string) {
	out = filepath.Join(t.TempDir(), "out")
	state = filepath.Join(out, ".forgepipe")
	for i, files := range times {
		for name, text := range files {
			file := filepath.Join(state, "trash", fmt.Sprintf("2026010%d-000000.000", i+1), name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o777), os.WriteFile(file, []byte(text), 0o666)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out, state
}

// Of several versions the newest comes back; a second of one time has a number.
func TestRestoreTheNewest(t *testing.T) {
	out, state := trashOf(t,
		map[string]string{"a.png": "old", "b.png": "old b", "a.txt": "old caption"},
		map[string]string{"a.png": "new", "a.png.1": "newer", "c.d.png": "c"})
	if r := restore(t, state, pipeline.RestoreOptions{Files: []string{"a.png"}}); r.Restored != 1 || r.Older != 0 {
		t.Errorf("%+v", r)
	}
	if got := files(t, out); got["a.png"] != "new" || len(got) != 1 {
		t.Errorf("restored %q: the sidecar of another time does not belong to it", got)
	}
	if err := os.Remove(filepath.Join(out, "a.png")); err != nil {
		t.Fatal(err)
	}
	if r := restore(t, state, pipeline.RestoreOptions{All: true}); r.Restored != 4 || r.Older != 1 || r.Taken != 0 {
		t.Errorf("%+v", r)
	}
	if got := files(t, out); got["a.png"] != "newer" || got["b.png"] != "old b" || got["a.txt"] != "old caption" || got["c.d.png"] != "c" {
		t.Errorf("restored %q", got)
	}
	if l := listTrash(t, state); len(l) != 1 || l[0].Name != "a.png" || l[0].From != "20260101-000000.000" {
		t.Errorf("left %+v", l)
	}
}

// With wrong options nothing is moved.
func TestRestoreWrongOptions(t *testing.T) {
	out, state := trashOf(t, map[string]string{"a.png": "a", "x[": "b"})
	link, another := filepath.Join(t.TempDir(), "link"), filepath.Join(t.TempDir(), ".forgepipe")
	if err := errors.Join(os.Symlink(state, link), os.Mkdir(another, 0o777), os.Symlink(another, link+"ed")); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]pipeline.RestoreOptions{
		"empty name":          {Files: []string{"a.png", ""}},
		"state directory":     {All: true, To: state},
		"sample":              {All: true, To: filepath.Join(state, "sample/out")},
		"trash of another":    {All: true, To: filepath.Join(t.TempDir(), ".forgepipe/trash")},
		"through a link":      {All: true, To: filepath.Join(link, "sample")},
		"a link to another":   {All: true, To: filepath.Join(link+"ed", "x")},
		"dry, into the trash": {All: true, To: filepath.Join(state, "trash"), DryRun: true},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pipeline.Restore(t.Context(), state, o)
			var wrong *pipeline.OptionError
			if !errors.As(err, &wrong) || wrong.Option == "" {
				t.Errorf("%v", err)
			}
			if got := files(t, out); len(got) != 0 {
				t.Errorf("moved %q", got)
			}
		})
	}
	if r := restore(t, state, pipeline.RestoreOptions{Files: []string{"x["}}); r.Restored != 1 {
		t.Errorf("a file of that name: %+v", r)
	}
}

// Files of several output folders do not stand for each other.
func TestRestoreSeveralFolders(t *testing.T) {
	w := newWorkplace(t)
	w.picture("a.png", 1)
	dir := filepath.Dir(w.out)
	run := func(least int) {
		t.Helper()
		text := fmt.Sprintf("name: two\nsource:\n  images: {path: %s}\nstages:\n  - filter: {keep: \"source.width > %d\"}\n", w.in, least)
		for _, to := range []string{"a/x", "b/x", "c"} {
			text += fmt.Sprintf("  - write: {path: %s, format: png, level: %d}\n", filepath.Join(dir, to), len(to))
		}
		p, err := pipeline.Load(t.Context(), "two.yaml", []byte(text), pipeline.Options{Registry: standard.Registry()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Run(t.Context(), pipeline.RunOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	run(0)
	run(9999)
	to := filepath.Join(dir, "to")
	if r := restore(t, filepath.Join(dir, "a/x/.forgepipe"), pipeline.RestoreOptions{Files: []string{"a.png"}, To: to}); r.Restored != 3 || r.Older != 0 {
		t.Errorf("%+v", r)
	}
	if got := slices.Sorted(maps.Keys(files(t, to))); !slices.Equal(got, []string{"c/a.png", "x-1/a.png", "x-2/a.png"}) {
		t.Errorf("restored %q", got)
	}
}

// A file system of another package does.
func TestRestoreOtherFS(t *testing.T) {
	for _, to := range []string{"", filepath.Join(t.TempDir(), "to")} {
		out, state := trashOf(t, map[string]string{"a.png": "a"})
		r, err := pipeline.Restore(t.Context(), state, pipeline.RestoreOptions{All: true, To: to, FS: otherFS{fsys.OS}, NoStore: true})
		if err != nil || r.Restored != 1 {
			t.Errorf("to %q: %+v, %v", to, r, err)
		}
		if to == "" {
			to = out
		}
		if got := files(t, to); got["a.png"] != "a" {
			t.Errorf("restored %q", got)
		}
	}
}

type otherFS struct{ fsys.FS }

func (f otherFS) OpenRoot(dir string) (fsys.Root, error) {
	r, err := f.FS.OpenRoot(dir)
	return otherRoot{r}, err
}

type otherRoot struct{ fsys.Root }

// files are those outside of .forgepipe, with their text; of a link where it leads.
func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == ".forgepipe":
			return filepath.SkipDir
		case d.IsDir():
			return nil
		}
		rel, _ := filepath.Rel(dir, name)
		if d.Type()&fs.ModeSymlink != 0 {
			all[rel], err = os.Readlink(name)
			return err
		}
		b, err := os.ReadFile(name)
		all[rel] = string(b)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return all
}

// Nothing leaves the output folder, nothing enters the state directory, and no
// link is followed.
func TestRestoreHostileTrash(t *testing.T) {
	out, state := trashOf(t, map[string]string{
		".forgepipe/run.db": "x", "sub/.forgepipe/lock": "x", "way/f.png": "x", "nl\n.png": "x", "ok.png": "x", "\xff\\.png": "x", "-.png": "x",
	})
	outside := t.TempDir()
	at := filepath.Join(state, "trash/20260101-000000.000")
	if err := errors.Join(
		os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o666),
		os.Symlink(outside, filepath.Join(out, "way")), // where way/f.png would go
		os.Symlink(outside, filepath.Join(at, "linked")),
		os.Symlink(outside, filepath.Join(state, "trash/20260102-000000.000")),
		os.Symlink(filepath.Join(outside, "secret"), filepath.Join(at, "link.png")),
		os.MkdirAll(filepath.Join(state, "trash/not a time/f"), 0o777),
		syscall.Mkfifo(filepath.Join(at, "pipe.png"), 0o666),
	); err != nil {
		t.Fatal(err)
	}
	r := restore(t, state, pipeline.RestoreOptions{All: true})
	if r.Failed != 3 || r.Taken != 0 {
		t.Errorf("%+v: want the two of state directories and the one through a link to fail", r)
	}
	if l, err := os.ReadDir(outside); err != nil || len(l) != 1 {
		t.Errorf("outside: %v, %v", l, err)
	}
	for _, name := range []string{".forgepipe/run.db", "sub/.forgepipe"} {
		if _, err := os.Lstat(filepath.Join(out, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"nl\n.png", "ok.png", "\xff\\.png", "-.png"} {
		if b, err := os.ReadFile(filepath.Join(out, name)); string(b) != "x" || err != nil {
			t.Errorf("%q: %q, %v", name, b, err)
		}
	}
	if to, err := os.Readlink(filepath.Join(out, "link.png")); err != nil || to != filepath.Join(outside, "secret") {
		t.Errorf("the link leads to %q, %v", to, err)
	}
}

// A disk that fails, or a process that is killed, at any moment: nothing is lost,
// no half file has a name, and a second try ends where an undisturbed one does.
func TestRestoreInterrupted(t *testing.T) {
	content := map[string]string{"a.png": "one", "sub/b.png": strings.Repeat("two", 1000), "sub/b.txt": "three"}
	other, err := os.MkdirTemp("/dev/shm", "forgepipe-test-") // most likely another file system
	if err != nil {
		other = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(other) })
	for _, to := range []string{"", other} {
		for n := int64(1); ; n++ {
			out, state := trashOf(t, content)
			target := out
			if to != "" {
				target = filepath.Join(to, fmt.Sprint(n))
			}
			o := pipeline.RestoreOptions{All: true, NoStore: true}
			if to != "" {
				o.To = target
			}
			faulty := fsys.FailAt(fsys.OS, n, syscall.EIO)
			faulty.Sticky = true
			o.FS = faulty
			_, err := pipeline.Restore(t.Context(), state, o)
			if faulty.Failed() == "" {
				if err != nil || n < 5 {
					t.Fatalf("after %d operations: %v", n, err)
				}
				break
			}
			place, trash := files(t, target), files(t, filepath.Join(state, "trash"))
			for name, text := range content {
				moved, ok := trash["20260101-000000.000/"+name]
				back, there := place[name]
				if !ok && !there || ok && moved != text || there && back != text {
					t.Errorf("%s: in the trash %q (%v), in its place %q (%v)", faulty.Failed(), moved, ok, back, there)
				}
			}
			o.FS = nil
			if _, err := pipeline.Restore(t.Context(), state, o); err != nil {
				t.Errorf("%s: again: %v", faulty.Failed(), err)
			}
			if place = files(t, target); !maps.Equal(place, content) {
				t.Errorf("%s: again makes %q", faulty.Failed(), slices.Sorted(maps.Keys(place)))
			}
		}
	}
}

func TestRestoreCancelled(t *testing.T) {
	out, state := trashOf(t, map[string]string{"a.png": "a", "b.png": "b", "c.png": "c"})
	ctx, cancel := context.WithCancel(t.Context())
	r, err := pipeline.Restore(ctx, state, pipeline.RestoreOptions{All: true, NoStore: true, OnFile: func(pipeline.Restored) { cancel() }})
	if !errors.Is(err, context.Canceled) || r.Restored != 1 || len(files(t, out)) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A run and a restore keep out of each other's way.
func TestRestoreLocked(t *testing.T) {
	_, state := trashOf(t, map[string]string{"a.png": "a"})
	lock, err := runstore.Lock(state)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pipeline.Restore(t.Context(), state, pipeline.RestoreOptions{All: true, NoStore: true}); !errors.Is(err, pipeline.ErrLocked) {
		t.Errorf("restore: %v", err)
	}
	if _, _, err := pipeline.Prune(t.Context(), state, pipeline.PruneOptions{NoStore: true}); !errors.Is(err, pipeline.ErrLocked) {
		t.Errorf("prune: %v", err)
	}
	if r := restore(t, state, pipeline.RestoreOptions{All: true, DryRun: true}); r.Restored != 1 {
		t.Errorf("a dry run looks: %+v", r)
	}
	if l := listTrash(t, state); len(l) != 1 {
		t.Errorf("listing looks: %+v", l)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if r := restore(t, state, pipeline.RestoreOptions{All: true}); r.Restored != 1 {
		t.Errorf("%+v", r)
	}
}

// Without a run store nothing moves unless that is allowed, and looking always is.
func TestRestoreWithoutAStore(t *testing.T) {
	out, state := trashOf(t, map[string]string{"a.png": "a", "b.png": "b"})
	for _, o := range []pipeline.RestoreOptions{{All: true}, {Files: []string{"a.png"}}, {All: true, To: filepath.Join(t.TempDir(), "to")}} {
		if r, err := pipeline.Restore(t.Context(), state, o); !errors.Is(err, pipeline.ErrNoStore) || r != nil || !strings.Contains(err.Error(), state) {
			t.Errorf("%+v: %+v, %v", o, r, err)
		}
	}
	if n, _, err := pipeline.Prune(t.Context(), state, pipeline.PruneOptions{}); !errors.Is(err, pipeline.ErrNoStore) || n != 0 {
		t.Errorf("prune: %d, %v", n, err)
	}
	if l := listTrash(t, state); len(l) != 2 {
		t.Errorf("in the trash: %+v", l)
	}
	if r, err := pipeline.Restore(t.Context(), state, pipeline.RestoreOptions{All: true, DryRun: true}); err != nil || r.Restored != 2 {
		t.Errorf("a dry run: %+v, %v", r, err)
	}
	if n, _, err := pipeline.Prune(t.Context(), state, pipeline.PruneOptions{DryRun: true}); err != nil || n != 2 {
		t.Errorf("a dry prune: %d, %v", n, err)
	}
	if r, err := pipeline.Restore(t.Context(), state, pipeline.RestoreOptions{Files: []string{"a.png"}, NoStore: true}); err != nil || r.Restored != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := os.Stat(filepath.Join(out, "a.png")); err != nil {
		t.Error(err)
	}
}

// Pruning removes what is old, and only that.
func TestPrune(t *testing.T) {
	out, state := trashOf(t, map[string]string{"sub/a.png": "12345", "b.png": "1"})
	recent := filepath.Join(state, "trash", time.Now().UTC().Format("20060102-150405.000"))
	strange := filepath.Join(state, "trash", "mine")
	outside := filepath.Join(t.TempDir(), "f")
	if err := errors.Join(os.MkdirAll(recent, 0o777), os.WriteFile(filepath.Join(recent, "c.png"), nil, 0o666),
		os.MkdirAll(strange, 0o777), os.WriteFile(filepath.Join(strange, "d.png"), nil, 0o666),
		os.WriteFile(outside, []byte("theirs"), 0o666), os.Symlink(outside, filepath.Join(state, "trash/20260101-000000.000/link.png")),
		os.WriteFile(filepath.Join(out, "b.png"), []byte("in place"), 0o666)); err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{true, false} {
		n, bytes, err := pipeline.Prune(t.Context(), state, pipeline.PruneOptions{Age: 24 * time.Hour, DryRun: dry, NoStore: true})
		if n != 3 || bytes < 6 || err != nil {
			t.Errorf("dry %v: %d files, %d bytes, %v", dry, n, bytes, err)
		}
		if _, err := os.Stat(filepath.Join(state, "trash/20260101-000000.000")); dry != (err == nil) {
			t.Errorf("dry %v: %v", dry, err)
		}
	}
	for _, name := range []string{outside, filepath.Join(recent, "c.png"), filepath.Join(strange, "d.png"), filepath.Join(out, "b.png")} {
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
}
