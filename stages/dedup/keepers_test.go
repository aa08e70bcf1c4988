package dedup_test

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup/index"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

// Nothing is taken away for a picture that is in an index alone: the file that was added must be
// there, with its bytes. One of which an index does not know the file may still be moved for,
// which can be undone.
func TestWhatIsTakenAwayForAnEntry(t *testing.T) {
	content := read(t, dot()) + "1" // of x/a
	own := func(t *testing.T, dir string, e index.Entry) {
		t.Helper()
		e.SHA256, e.Prints = sha256.Sum256([]byte(content)), [][]byte{hash64(0).Hash()}
		_, err := index.Add(t.Context(), nil, filepath.Join(dir, "set"), []index.Column{{Name: "phash", Size: 8, Version: "1"}}, func(yield func(index.Entry, error) bool) { yield(e, nil) })
		if err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]struct {
		entry  func(dir string) index.Entry // nil: that of a run with x/a
		change func(file string) error      // x/a
		moved  string                       // why it is not; empty: it is
		gone   string                       // the same of delete
	}{
		"its file is there": {},
		"its file is gone": {
			change: os.Remove,
			moved:  "its keeper is not there any more: 1, DIR/y/b (a of the index DIR/set, DIR/x/a)",
			gone:   "its keeper is not there any more: 1, DIR/y/b (a of the index DIR/set, DIR/x/a)",
		},
		"its file has other bytes": {
			change: func(file string) error {
				return os.WriteFile(file, []byte(strings.Repeat("x", len(content))), 0o666)
			},
			moved: "its keeper is not the file that was added to the index: 1, DIR/y/b (a of the index DIR/set, DIR/x/a: its bytes are others)",
			gone:  "its keeper is not the file that was added to the index: 1, DIR/y/b (a of the index DIR/set, DIR/x/a: its bytes are others)",
		},
		"the index does not know its file": {
			entry: func(string) index.Entry { return index.Entry{ID: "a"} },
			gone:  "its keeper is in an index that does not know its file, so it is not deleted: 1, DIR/y/b (a of the index DIR/set)",
		},
		"it is a part of a picture": {
			entry: func(dir string) index.Entry {
				return index.Entry{ID: "a@tile=8,0,0", Root: filepath.Join(dir, "x")}
			},
			gone: "its keeper is in an index that does not know its file, so it is not deleted: 1, DIR/y/b (a@tile=8,0,0 of the index DIR/set, DIR/x/a)",
		},
		"it is a part of a picture that is gone": {
			entry: func(dir string) index.Entry {
				return index.Entry{ID: "a@tile=8,0,0", Root: filepath.Join(dir, "x")}
			},
			change: os.Remove,
			moved:  "its keeper is not there any more: 1, DIR/y/b (a@tile=8,0,0 of the index DIR/set, DIR/x/a)",
			gone:   "its keeper is in an index that does not know its file, so it is not deleted: 1, DIR/y/b (a@tile=8,0,0 of the index DIR/set, DIR/x/a)",
		},
	}
	for name, tt := range tests {
		for action, why := range map[string]string{"move": tt.moved, "delete": tt.gone} {
			t.Run(name+"/"+action, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				set, a := filepath.Join(dir, "set"), folderSet{"a": {hash: 0, content: "1"}}
				if tt.entry == nil {
					if _, _, err := a.compare(t, filepath.Join(dir, "x"), set); err != nil {
						t.Fatal(err)
					}
				} else {
					if err := os.Mkdir(filepath.Join(dir, "x"), 0o777); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(filepath.Join(dir, "x", "a"), []byte(content), 0o666); err != nil {
						t.Fatal(err)
					}
					own(t, dir, tt.entry(dir))
				}
				if tt.change != nil {
					if err := tt.change(filepath.Join(dir, "x", "a")); err != nil {
						t.Fatal(err)
					}
				}
				more := []any{"action", action, "record", filepath.Join(dir, "record.jsonl"), "delete_count", -1}
				if action == "move" {
					more = []any{"action", action, "to", filepath.Join(dir, "to")}
				}
				said, note, err := folderSet{"b": {hash: 1, content: "2"}}.compare(t, filepath.Join(dir, "y"), set, more...)
				if err != nil || len(said) != 1 {
					t.Fatalf("%v, %s, %v", said, note, err)
				}
				_, err = os.Stat(filepath.Join(dir, "y", "b"))
				if (err == nil) != (why != "") {
					t.Errorf("after %q it is there: %v", note, err)
				}
				if want := "1 was left alone (" + why + ")"; why != "" && !strings.Contains(strings.ReplaceAll(note, dir, "DIR"), want) {
					t.Errorf("it says %s\nwant %s", note, want)
				}
			})
		}
	}
}

// A dry run says what would be done with source files, by the rules of the run, and does
// nothing.
func TestDryRunOfAnAction(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	in := filepath.Join(dir, "in")
	if err := os.Mkdir(in, 0o777); err != nil {
		t.Fatal(err)
	}
	src := stagetest.Source{save(t, in, "a.png", texture(1, 32, 32)), save(t, in, "b.png", texture(1, 32, 32)), save(t, in, "c.png", texture(1, 32, 32)), save(t, in, "d.png", texture(2, 32, 32))}
	run := func(fields string, dry bool) string {
		p := load(t, src, "\n  - dedup: {by: pixels"+fields+"}\n")
		s, err := p.Run(t.Context(), pipeline.RunOptions{StateDir: state, DryRun: dry})
		if err != nil {
			t.Fatal(err)
		}
		return s.Stages[0].Note
	}
	const found = "2 of 4 are duplicates in 1 group (by pixels 2)"
	if note := run("", false); note != found {
		t.Fatal(note)
	}
	to, record := filepath.Join(dir, "to"), filepath.Join(dir, "record.jsonl")
	for fields, want := range map[string]string{
		"":                              "",
		", action: move, to: " + to:     "; action: move would move 2 source images",
		", action: hardlink, to: " + to: "; action: hardlink would link 2 source images",
		", action: copy, to: " + in:     "; action: copy would copy 0 source images, and leave 2 alone (it lies in the folder that duplicates go to: 2, such as " + src[1].Path + ")",
		", action: delete, delete_count: 2, record: " + record: "; action: delete would delete 2 source images",
		", action: delete, delete_count: 9, record: " + record: "; action: delete would delete 2 source images: delete_count is 9, so that nothing would be deleted",
	} {
		if note := run(fields, true); note != found+want {
			t.Errorf("%s: it says %q, want %q", fields, note, found+want)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("there are %v, %v", files, err)
	}
	if files := tree(t, in); len(files) != 4 {
		t.Errorf("there are %d source images", len(files))
	}
}
