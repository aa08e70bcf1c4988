package dedup_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup"
	"github.com/forgepipe/forgepipe/stages/dedup/moves"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

// tidying is a folder that a dedup tidies up.
type tidying struct {
	*photoSet
	dir   string
	files pipeline.FS
	log   *slog.Logger
	hand  string // what stands in the decisions at first
}

func newTidying(t testing.TB) *tidying {
	w := &tidying{photoSet: photographs(t), dir: t.TempDir(), files: fsys.OS, hand: "decision,item,keeper\nreject,02.png,\n"}
	w.lay(t, w.at("in"))
	if err := os.WriteFile(w.at("decisions.csv"), []byte(w.hand), 0o666); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *tidying) at(name string) string { return filepath.Join(w.dir, name) }

// run tells of the run's stage and how it ended.
func (w *tidying) run(t testing.TB, started func(*pipeline.Run), action ...any) (state, note string, err error) {
	t.Helper()
	pl := pipeline.New("test", pipeline.Options{FS: w.files, Logger: w.log})
	pl.SetSource(w.offered(t, w.at("in")))
	values := config(append([]any{
		"by", []any{option("sha256"), option("phash", "max_distance", 4)}, "prefer", []string{},
		"groups", []string{w.at("groups.jsonl"), w.at("groups.parquet")}, "decisions", w.at("decisions.csv"),
	}, action...)...)
	for _, s := range []stagetest.Step{w.given.giver(), {Info: dedup.Info(), Values: values}} {
		if err := pl.Use(t.Context(), pipeline.NewRegistry(s.Info), s.Info.Name, s.Info.Name, s.Values); err != nil {
			t.Fatal(err)
		}
	}
	r, err := pl.Start(t.Context(), pipeline.RunOptions{StateDir: w.at("state")})
	if err != nil {
		t.Fatal(err)
	}
	if started != nil {
		started(r)
	}
	s, err := r.Wait()
	return s.State, s.Stages[1].Note, err
}

func (w *tidying) move(t testing.TB) string {
	t.Helper()
	_, note, err := w.run(t, nil, "action", "move", "to", w.at("to"))
	if err != nil {
		t.Fatal(err)
	}
	return note
}

func (w *tidying) groups(t testing.TB) (lines, table string) {
	t.Helper()
	return read(t, w.at("groups.jsonl")), read(t, w.at("groups.parquet"))
}

// Why pictures went stays told of when they are no items any more.
func TestGroupsTellOfWhatEarlierRunsMoved(t *testing.T) {
	w := newTidying(t)
	first := w.move(t)
	lines, table := w.groups(t)
	away := strings.Count(lines, `"by":`)
	if !strings.Contains(first, fmt.Sprintf("of source images %d were moved", away)) || strings.Contains(first, "earlier") || away < 6 {
		t.Fatalf("%s\n%s", first, lines)
	}
	second := w.move(t)
	if gotLines, gotTable := w.groups(t); gotLines != lines || gotTable != table {
		t.Errorf("the second run tells of\n%s\nand not of\n%s", gotLines, lines)
	}
	if want := fmt.Sprintf("; groups tell of %d more that earlier runs moved", away); !strings.HasSuffix(second, want) {
		t.Errorf("the second run says %q", second)
	}
	want := w.told(t)
	restore := func(o moves.RestoreOptions) error {
		r, err := moves.Restore(t.Context(), w.at("to"), o)
		if err == nil && r.Restored != 1 {
			err = fmt.Errorf("%+v", r)
		}
		return err
	}
	for _, tt := range []struct {
		name   string
		change func() error
		lost   []string // what is not told of any more
	}{
		{"restored to another folder", func() error {
			return restore(moves.RestoreOptions{Files: []string{"06.png"}, To: w.at("rescued")})
		}, []string{"06.png"}},
		{"restored, and moved once more", func() error {
			return restore(moves.RestoreOptions{Files: []string{"08.png"}})
		}, nil},
		{"another picture has its place", func() error {
			return os.WriteFile(w.at("in/04.png"), w.photoSet.files["01.png"], 0o666)
		}, nil},
		{"its keeper is another file, which is kept", func() error {
			return os.WriteFile(w.at("in/00.png"), append(slices.Clip(w.photoSet.files["00.png"]), 0), 0o666)
		}, []string{"03.png", "09.png"}},
		{"its keeper was rejected", func() error {
			return os.WriteFile(w.at("decisions.csv"), []byte(w.hand+"reject,01.png,\n"), 0o666)
		}, []string{"04.png", "05.png", "07.png", "08.png", "10.png", "11.png"}},
	} {
		if err := tt.change(); err != nil {
			t.Fatal(err)
		}
		for _, id := range tt.lost {
			delete(want, id)
		}
		w.move(t)
		got := w.told(t)
		if tt.name == "its keeper was rejected" {
			want["01.png"] = ""
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: it tells of %v, want %v", tt.name, got, want)
		}
	}
}

// A record may be of several input folders.
func TestGroupsTellOfTheirOwnFolderAlone(t *testing.T) {
	a, b := newTidying(t), newTidying(t)
	b.cascade, b.images, b.photoSet.files = a.cascade, a.images, a.photoSet.files
	a.move(t)
	lines, _ := a.groups(t)
	if err := os.Rename(a.at("to"), b.at("to")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(b.at("in/02.png")); err != nil { // which the record tells of
		t.Fatal(err)
	}
	for range 2 {
		b.move(t)
		if got, _ := b.groups(t); !strings.HasPrefix(lines, "{\"keeper\":null") || got != lines[strings.IndexByte(lines, '\n')+1:] {
			t.Errorf("it tells of\n%s", got)
		}
	}
}

// told are the keepers of the pictures that the groups tell of.
func (w *tidying) told(t testing.TB) map[string]string {
	t.Helper()
	told := map[string]string{}
	for text := range strings.Lines(read(t, w.at("groups.jsonl"))) {
		var g struct {
			Keeper  struct{ ID string }
			Members []struct{ ID string }
		}
		if err := json.Unmarshal([]byte(text), &g); err != nil {
			t.Fatal(err)
		}
		for _, m := range g.Members {
			told[m.ID] = g.Keeper.ID
		}
	}
	return told
}

// The first interrupt ends the moves after the picture in work.
func TestInterruptedWhileMoving(t *testing.T) {
	ref := newTidying(t)
	all := len(ref.offered(t, ref.at("in")))
	ref.move(t)
	lines, table := ref.groups(t)

	w := newTidying(t)
	var run *pipeline.Run
	ready := make(chan struct{})
	w.files = &hooked{FS: fsys.OS, hook: func(_ int64, op string) error {
		if strings.HasPrefix(op, "create .forgepipe-move-") {
			<-ready
			run.Drain()
		}
		return nil
	}}
	state, note, err := w.run(t, func(r *pipeline.Run) { run = r; close(ready) }, "action", "move", "to", w.at("to"))
	left := len(w.offered(t, w.at("in")))
	undone := left - len(ref.offered(t, ref.at("in")))
	want := fmt.Sprintf("; of source images 1 was moved (1 file), all of it in %[1]s (forgepipe restore %[1]s brings it back), and %[2]d were not come to before the run was interrupted: run again to go on", w.at("to/moves.jsonl"), undone)
	if err != nil || state != "interrupted" || left != all-1 || !strings.HasSuffix(note, want) {
		t.Errorf("%s: %q, %v, and %d of %d are left", state, note, err, left, all)
	}
	w.files = fsys.OS
	w.move(t)
	if gotLines, gotTable := w.groups(t); gotLines != lines || gotTable != table {
		t.Errorf("after it was interrupted groups tell of\n%s\nand not of\n%s", gotLines, lines)
	}
	if got := len(w.offered(t, w.at("in"))); got != left-undone {
		t.Errorf("%d are left, want %d", got, left-undone)
	}
}

// What the system refuses is said with its cause.
func TestMovesThatTheSystemRefuses(t *testing.T) {
	for _, some := range []bool{false, true} {
		t.Run(fmt.Sprintf("some %v", some), func(t *testing.T) {
			t.Parallel()
			var logged lockedBuffer
			w := newTidying(t)
			w.log = slog.New(slog.NewTextHandler(&logged, nil))
			n := 0
			w.files = &hooked{FS: fsys.OS, hook: func(_ int64, op string) error {
				if !strings.HasPrefix(op, "create .forgepipe-move-") {
					return nil
				}
				if n++; some && n > 1 {
					return nil
				}
				return syscall.EPERM
			}}
			_, note, err := w.run(t, nil, "action", "move", "to", w.at("to"))
			cause := w.at("in/02.png") + " (copying it: create .forgepipe-move-"
			if !some {
				if err == nil || !strings.Contains(err.Error(), "stage dedup: closing: no duplicate could be moved: 10 were left alone, the first "+cause) || !strings.Contains(err.Error(), "operation not permitted") {
					t.Errorf("it ends with %v", err)
				}
				if !strings.Contains(note, "of source images 0 were moved (0 files), 10 were left alone (it could not be done: 10, such as "+cause) {
					t.Errorf("it says %q", note)
				}
				return
			}
			if err != nil || !strings.Contains(note, "1 was left alone (it could not be done: 1, "+cause) {
				t.Errorf("%v, %q", err, note)
			}
			if got := logged.String(); !strings.Contains(got, `level=WARN msg="1 of the duplicates could not be moved"`) {
				t.Errorf("the log has %s", got)
			}
		})
	}
}

// What a person rejected has no keeper, and is not deleted.
func TestOnlyPicturesWithAKeeperAreDeleted(t *testing.T) {
	w := newTidying(t)
	remove := []any{"action", "delete", "record", w.at("record.jsonl"), "delete_count", -1}
	_, note, err := w.run(t, nil, remove...)
	if want := "1 was left alone (it was rejected without a keeper, so it is not deleted: 1, " + w.at("in/02.png") + ")"; err != nil || !strings.Contains(note, want) {
		t.Errorf("%v, %q", err, note)
	}
	lines, table := w.groups(t)
	if _, err := os.Stat(w.at("in/02.png")); err != nil {
		t.Error(err)
	}
	if _, note, err = w.run(t, nil, remove...); err != nil || !strings.Contains(note, "more that earlier runs deleted") {
		t.Errorf("%v, %q", err, note)
	}
	if gotLines, gotTable := w.groups(t); gotLines != lines || gotTable != table {
		t.Errorf("the second run tells of\n%s\nand not of\n%s", gotLines, lines)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}
