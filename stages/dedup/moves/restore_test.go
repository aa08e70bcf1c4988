package moves_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup/moves"
)

var before = map[string]string{
	"keep.png": "keeper", "a.png": "one", "a.txt": "caption", "sub/b.png": "two", "sub/b.txt": "of two", "sub/deep/c.png": "three",
}

// moved is a world from which all but the keeper is moved away.
func moved(t *testing.T) world {
	w := newWorld(t, before)
	w.applied(moves.Options{Action: moves.Move}, w.job("a.png"), w.job("sub/b.png"), w.job("sub/deep/c.png"))
	w.same("moved", w.tree(w.in), map[string]string{"keep.png": "keeper"})
	return w
}

// Which files come back for what was asked for.
func TestRestoreSelects(t *testing.T) {
	for _, tt := range []struct {
		name, file string // {in} and {out} stand for the folders
		back       []string
	}{
		{"a picture, with its caption", "a.png", []string{"a.png", "a.txt"}},
		{"a caption alone", "a.txt", []string{"a.txt"}},
		{"where it was", "{in}/sub/b.png", []string{"sub/b.png", "sub/b.txt"}},
		{"where it lies", "{out}/sub/b.png", []string{"sub/b.png", "sub/b.txt"}},
		{"a folder", "sub", []string{"sub/b.png", "sub/b.txt", "sub/deep/c.png"}},
		{"a folder where it was", "{in}/sub/", []string{"sub/b.png", "sub/b.txt", "sub/deep/c.png"}},
		{"everything by its folder", "{out}", []string{"a.png", "a.txt", "sub/b.png", "sub/b.txt", "sub/deep/c.png"}},
		{"a pattern", "sub/?.png", []string{"sub/b.png", "sub/b.txt"}},
		{"a pattern of places", "{in}/*/*/c*", []string{"sub/deep/c.png"}},
		{"part of a name", "sub/b", nil},
		{"what is not there", "d.png", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := moved(t)
			file := strings.NewReplacer("{in}", w.in, "{out}", w.out).Replace(tt.file)
			want := map[string]string{"keep.png": "keeper"}
			dry := w.restored(moves.RestoreOptions{Files: []string{file}, DryRun: true})
			w.same("a dry run", w.tree(w.in), want)
			for _, name := range tt.back {
				want[name] = before[name]
			}
			r := w.restored(moves.RestoreOptions{Files: []string{file}})
			w.same("restored", w.tree(w.in), want)
			if r.Restored != int64(len(tt.back)) || dry.Restored != r.Restored || dry.Bytes != r.Bytes || (len(r.Unknown) == 1) != (tt.back == nil) {
				t.Errorf("%+v, a dry run %+v", r, dry)
			}
		})
	}
}

// Nothing is written over; what is there already counts as there; and what comes back
// is in the record.
func TestRestorePlaces(t *testing.T) {
	w := moved(t)
	w.put(w.in, map[string]string{"a.png": "another", "sub/b.png": "two"})
	var told []moves.Restored
	r := w.restored(moves.RestoreOptions{All: true, OnFile: func(f moves.Restored) { told = append(told, f) }})
	// The caption of a picture that stays, stays too.
	if r.Restored != 2 || r.Taken != 1 || r.Same != 1 || len(r.Faults) != 1 || len(told) != 4 {
		t.Errorf("%+v, told %+v", r, told)
	}
	w.same("restored", w.tree(w.in), map[string]string{
		"keep.png": "keeper", "a.png": "another", "sub/b.png": "two", "sub/b.txt": "of two", "sub/deep/c.png": "three",
	})
	w.same("left", w.tree(w.out), map[string]string{"a.png": "one", "a.txt": "caption", "sub/b.png": "two"})
	if _, err := os.Stat(filepath.Join(w.out, "sub/deep")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder stays: %v", err)
	}
	n := 0
	for _, l := range w.lines() {
		if l["event"] == "restored" {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d lines say restored", n)
	}

	// Into another folder, also what cannot go to its place.
	to := filepath.Join(t.TempDir(), "to")
	if r := w.restored(moves.RestoreOptions{All: true, To: to, DryRun: true}); r.Restored != 3 {
		t.Errorf("%+v", r)
	}
	if _, err := os.Stat(to); err == nil {
		t.Error("a dry run made the folder")
	}
	if r := w.restored(moves.RestoreOptions{All: true, To: to}); r.Restored != 3 {
		t.Errorf("%+v", r)
	}
	w.same("elsewhere", w.tree(to), map[string]string{"a.png": "one", "a.txt": "caption", "sub/b.png": "two"})
	if r := w.restored(moves.RestoreOptions{All: true}); r.Restored+r.Same+r.Taken+r.Failed != 0 {
		t.Errorf("once more: %+v", r)
	}
	// And moved again.
	must(t, os.Remove(filepath.Join(w.in, "a.png")))
	w.put(w.in, map[string]string{"a.png": "one"})
	w.applied(moves.Options{Action: moves.Move}, w.job("a.png"))
	if r := w.restored(moves.RestoreOptions{All: true}); r.Restored != 1 {
		t.Errorf("moved again: %+v", r)
	}
}

// Of a place from which several files went, the newest comes back.
func TestRestoreNewest(t *testing.T) {
	w := newWorld(t, map[string]string{"keep.png": "keeper", "a.png": "old"})
	w.applied(moves.Options{Action: moves.Move}, w.job("a.png"))
	w.put(w.in, map[string]string{"a.png": "new"})
	w.applied(moves.Options{Action: moves.Move}, w.job("a.png"))
	var entries []moves.Entry
	must(t, moves.List(t.Context(), w.out, moves.RestoreOptions{}, func(e moves.Entry) error {
		entries = append(entries, e)
		return nil
	}))
	if len(entries) != 2 || entries[0].Path != filepath.Join(w.out, "a-2.png") || entries[0].Place != filepath.Join(w.in, "a.png") || entries[0].Keeper != "keep.png" {
		t.Errorf("%+v", entries)
	}
	if r := w.restored(moves.RestoreOptions{All: true}); r.Restored != 1 || r.Older != 1 {
		t.Errorf("%+v", r)
	}
	w.same("restored", w.tree(w.in), map[string]string{"keep.png": "keeper", "a.png": "new"})
	must(t, os.Remove(filepath.Join(w.in, "a.png")))
	if r := w.restored(moves.RestoreOptions{All: true, Run: entries[1].Run}); r.Restored != 1 {
		t.Errorf("of the first run: %+v", r)
	}
	w.same("restored", w.tree(w.in), map[string]string{"keep.png": "keeper", "a.png": "old"})
}

// Copies and hard links go only when that is asked for, and their files are there.
func TestRestoreCopies(t *testing.T) {
	for _, action := range []moves.Action{moves.Copy, moves.Hardlink} {
		w := newWorld(t, before)
		w.applied(moves.Options{Action: action}, w.job("a.png"), w.job("sub/b.png"), w.job("sub/deep/c.png"))
		if r := w.restored(moves.RestoreOptions{All: true}); r.Copies != 5 || r.Removed != 0 {
			t.Errorf("%s: %+v", action, r)
		}
		must(t, os.Remove(filepath.Join(w.in, "sub/b.png"))) // the copy is the only one now
		must(t, os.Remove(filepath.Join(w.out, "sub/deep/c.png")))
		w.put(w.out, map[string]string{"sub/deep/c.png": "edited"})
		r := w.restored(moves.RestoreOptions{All: true, Copies: true})
		if r.Removed != 2 || r.Failed != 2 {
			t.Errorf("%s: %+v", action, r)
		}
		w.same(string(action), w.tree(w.out), map[string]string{"sub/b.png": "two", "sub/b.txt": "of two", "sub/deep/c.png": "edited"})
	}
}

// What was deleted cannot come back, and that is said.
func TestRestoreDeleted(t *testing.T) {
	w := newWorld(t, before)
	w.applied(moves.Options{Action: moves.Delete, DeleteCount: 1}, w.job("a.png"))
	var told []moves.Restored
	r := w.restored(moves.RestoreOptions{All: true, OnFile: func(f moves.Restored) { told = append(told, f) }})
	if r.Deleted != 2 || r.Restored != 0 || len(told) != 2 || !told[0].Deleted || told[0].Keeper != "keep.png" {
		t.Errorf("%+v, %+v", r, told)
	}
}

// A record that is torn, and one of a run that never began.
func TestTornRecord(t *testing.T) {
	for _, tt := range []struct {
		name string
		cut  func(whole string) int // bytes that are left
		back int64
	}{
		{"in what is done", func(whole string) int { return len(whole) - 70 }, 6},
		{"before the last end of a line", func(whole string) int { return len(whole) - 1 }, 6},
		{"after the begin", func(whole string) int { return strings.Index(whole, `{"event":"done"`) }, 6},
		// Without its begin, no file was touched: what lies there is somebody else's.
		{"in the begin", func(whole string) int { return strings.Index(whole, `{"event":"begin"`) + 5 }, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := moved(t)
			file := filepath.Join(w.out, moves.RecordName)
			whole, err := os.ReadFile(file)
			must(t, err)
			must(t, os.Truncate(file, int64(tt.cut(string(whole)))))
			w.put(w.in, map[string]string{"d.png": "four"})
			w.applied(moves.Options{Action: moves.Move}, w.job("d.png"))
			if r := w.restored(moves.RestoreOptions{All: true}); r.Restored != tt.back {
				t.Errorf("%+v", r)
			}
			want := map[string]string{"keep.png": "keeper", "d.png": "four"}
			if tt.back > 1 {
				maps.Copy(want, before)
			}
			w.same("restored", w.tree(w.in), want)
		})
	}
}

// A record that somebody else has written puts nothing where it should not be, and takes
// nothing away from where it is.
func TestHostileRecord(t *testing.T) {
	h := sha256.Sum256([]byte("bytes"))
	good := map[string]any{
		"event": "intend", "run": "r", "n": 1, "job": 1, "action": "move", "kind": "image", "id": "x", "keeper": "k",
		"root": "{in}", "source": "x.png", "target": "x.png", "size": 5, "sha256": hex.EncodeToString(h[:]), "time": 1,
	}
	for _, tt := range []struct {
		name   string
		change map[string]any
		moves  bool
	}{
		{"a good one", nil, true},
		{"a hidden picture", map[string]any{"source": ".x.png"}, true},
		{"other bytes", map[string]any{"sha256": strings.Repeat("ab", 32)}, false},
		{"no hash", map[string]any{"sha256": nil}, false},
		{"half a hash", map[string]any{"sha256": "abcd"}, false},
		{"another size", map[string]any{"size": 6}, false},
		{"from elsewhere", map[string]any{"target": "../secret.png"}, false},
		{"from elsewhere, absolute", map[string]any{"target": "{other}/secret.png"}, false},
		{"from elsewhere through a link", map[string]any{"target": "link/secret.png"}, false},
		{"the link itself", map[string]any{"target": "link.png"}, false},
		{"out of the root", map[string]any{"source": "../x.png"}, false},
		{"an absolute source", map[string]any{"source": "{other}/x.png"}, false},
		{"out of the root through a link", map[string]any{"source": "away/x.png"}, false},
		{"no root", map[string]any{"root": ""}, false},
		{"a relative root", map[string]any{"root": "in"}, false},
		{"a root that is not there", map[string]any{"root": "{in}/none"}, false},
		{"a root that is a file", map[string]any{"root": "{in}/file"}, false},
		{"over a file", map[string]any{"source": "keep.png"}, false},
		{"onto a link to nowhere", map[string]any{"source": "nowhere.png"}, false},
		{"another extension", map[string]any{"source": "x.sh"}, false},
		{"a start-up file", map[string]any{"source": ".profile", "target": "x.profile"}, false},
		{"a hidden folder", map[string]any{"source": ".ssh/rc", "target": "rc"}, false},
		{"a state directory", map[string]any{"source": ".forgepipe/x.png"}, false},
		{"a sidecar of none", map[string]any{"kind": "sidecar"}, false},
		{"another kind", map[string]any{"kind": "folder"}, false},
		{"another action", map[string]any{"action": "run"}, false},
		{"a NUL", map[string]any{"source": "x%00.png"}, false},
		{"a bad escape", map[string]any{"source": "x%zz.png"}, false},
		{"the folder itself", map[string]any{"target": "."}, false},
		{"a copy whose file is elsewhere", map[string]any{"action": "copy"}, false},
		{"a copy that is its file", map[string]any{"action": "copy", "root": "{out}"}, false},
		{"a copy that is its file, by way of a link", map[string]any{"action": "copy", "root": "{in}/out"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, map[string]string{"keep.png": "keeper", "file": "a file", "nowhere.png": "-> none.png"})
			other := t.TempDir()
			w.put(other, map[string]string{"secret.png": "bytes"})
			w.put(w.in, map[string]string{"away": "-> " + other, "out": "-> " + w.out})
			w.put(w.out, map[string]string{"x.png": "bytes", "x.profile": "bytes", "rc": "bytes", "link": "-> " + other, "link.png": "-> " + other + "/secret.png"})
			l := map[string]any{}
			for _, fields := range []map[string]any{good, tt.change} {
				for name, value := range fields {
					if text, ok := value.(string); ok {
						value = strings.NewReplacer("{in}", w.in, "{out}", w.out, "{other}", other).Replace(text)
					}
					l[name] = value
				}
			}
			b, err := json.Marshal(l)
			must(t, err)
			text := string(b) + "\n" + `{"event":"begin","run":"r"}` + "\n"
			must(t, os.WriteFile(filepath.Join(w.out, moves.RecordName), []byte(text), 0o666))
			in, out, away := w.tree(w.in), w.tree(w.out), w.tree(other)
			r := w.restored(moves.RestoreOptions{All: true, Copies: true})
			if (r.Restored == 1) != tt.moves || r.Removed != 0 {
				t.Errorf("%+v", r)
			}
			w.same("another folder", w.tree(other), away)
			if tt.moves {
				name := l["source"].(string)
				in[name] = "bytes"
				delete(out, "x.png")
			}
			w.same("sources", w.tree(w.in), in)
			w.same("folder", w.tree(w.out), out)
		})
	}
}

// What is wrong with the options is said before anything happens.
func TestRestoreOptions(t *testing.T) {
	w := moved(t)
	for _, o := range []moves.RestoreOptions{{Files: []string{""}}, {All: true, To: filepath.Join(w.out, ".forgepipe/x")}} {
		if _, err := moves.Restore(t.Context(), w.out, o); !errors.As(err, new(*pipeline.OptionError)) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := moves.Restore(t.Context(), t.TempDir(), moves.RestoreOptions{All: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no record: %v", err)
	}
	// A record that lies elsewhere: the folder has to be named.
	record := filepath.Join(t.TempDir(), "log.jsonl")
	w = newWorld(t, before)
	w.applied(moves.Options{Action: moves.Move, Record: record}, w.job("a.png"))
	_, err := moves.Restore(t.Context(), record, moves.RestoreOptions{All: true})
	if !errors.As(err, new(*pipeline.OptionError)) || !strings.Contains(err.Error(), w.out) {
		t.Errorf("%v", err)
	}
	if !moves.HasRecord(record) || moves.HasRecord(w.out) {
		t.Error("which is a record?")
	}
	if r, err := moves.Restore(t.Context(), record, moves.RestoreOptions{All: true, Folder: w.out}); err != nil || r.Restored != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	w.same("restored", w.tree(w.in), before)
}
