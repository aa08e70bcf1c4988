package dedup_test

import (
	"crypto/sha256"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup"
	"github.com/forgepipe/forgepipe/stages/dedup/index"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

// laid is a file in a folder, as a test has it: what it looks like, and what makes its bytes
// unlike those of others.
type laid struct {
	hash    uint64
	content string
	beside  string // another folder than that of the run, relative to it; empty: that one
}

// folderSet are the files of a folder, by their names.
type folderSet map[string]laid

// compare lays the files into a folder and runs a dedup of them against an index, to which it
// adds.
func (f folderSet) compare(t *testing.T, folder, set string, more ...any) (map[string]string, string, error) {
	t.Helper()
	g, src := given{}, stagetest.Source{}
	for name, l := range f {
		path := filepath.Join(folder, l.beside, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		data := read(t, dot()) + l.content
		if old, err := os.ReadFile(path); err != nil || string(old) != data {
			if err := os.WriteFile(path, []byte(data), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		g[name] = attrs{"phash": hash64(l.hash)}
		src = append(src, pipeline.Input{Name: name, Path: path})
	}
	values := config("by", []any{option("phash", "max_distance", 2)}, "prefer", []string{}, "against", set, "index", set)
	maps.Copy(values, config(more...))
	b := stagetest.New(t, src, g.giver(), stagetest.Step{Info: dedup.Info(), Values: values})
	s, err := b.Try(t, pipeline.RunOptions{NoStore: true})
	return b.Messages(pipeline.EventRejected), s.Stages[1].Note, err
}

func entriesOf(t *testing.T, set string) int64 {
	t.Helper()
	x, err := index.Open(fsys.OS, set)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	return x.Len()
}

// What an entry does depends on what has become of its file: nothing goes for a picture that
// is only in an index, while an item of the run has its file or its name.
func TestWhatHasBecomeOfAnEntry(t *testing.T) {
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const far = 0xffff0000
	a := folderSet{"a": {hash: 0, content: "1"}}
	tests := map[string]struct {
		first   string // folder of the run that makes the index; x if it is not said
		before  folderSet
		between func(t *testing.T, dir string) // dir has that folder and the next one
		then    string
		now     folderSet
		want    map[string]string
		note    string
		entries int64
	}{
		"those that are in it stay, however near": {
			before: folderSet{"a": {hash: 0, content: "1"}, "b": {hash: 7, content: "2"}},
			then:   "x", now: folderSet{"a": {hash: 0, content: "1"}, "b": {hash: 1, content: "2"}, "c": {hash: 0, content: "3"}},
			want:    map[string]string{"c": "duplicate: keeper a, by phash, distance 0, rule against"},
			note:    "1 of 3 is a duplicate in 1 group (by phash 1); 2 were in an index already; 0 were added to ",
			entries: 2,
		},
		"it was edited": {
			before: a, then: "x", now: folderSet{"a": {hash: 1, content: "2"}},
			note: "0 of 1 are duplicates; 1 was added to ", entries: 2,
		},
		"it is another picture now, of which there is no other copy": {
			before: a, then: "x", now: folderSet{"a": {hash: far, content: "2"}, "b": {hash: 0, content: "3"}},
			note: "0 of 2 are duplicates; 2 were added to ", entries: 3,
		},
		"it was edited, and is compared with others": {
			before: folderSet{"a": {hash: 0, content: "1"}, "c": {hash: far, content: "2"}}, between: func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "x", "c"))) },
			then: "x", now: folderSet{"a": {hash: far + 1, content: "2"}},
			want: map[string]string{"a": "duplicate: keeper c, keeper_index SET, by phash, distance 1, rule against"},
			note: "1 of 1 is a duplicate in 1 group (by phash 1); compared with 1 of indexes; 0 were added to ", entries: 2,
		},
		"the set was moved": {
			before: a, between: func(t *testing.T, dir string) { must(t, os.Rename(filepath.Join(dir, "x"), filepath.Join(dir, "y"))) },
			then: "y", now: a,
			note: "0 of 1 are duplicates; 1 was in an index already; 0 were added to ", entries: 1,
		},
		"the set was moved, and edited": {
			before: a, between: func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, "x"))) },
			then: "y", now: folderSet{"a": {hash: 1, content: "2"}},
			note: "0 of 1 are duplicates; 1 was added to ", entries: 2,
		},
		"the set was moved, and there is a folder in its place": {
			before: a, between: func(t *testing.T, dir string) {
				must(t, os.RemoveAll(filepath.Join(dir, "x")))
				must(t, os.MkdirAll(filepath.Join(dir, "x", "a"), 0o777))
			},
			then: "y", now: folderSet{"a": {hash: 1, content: "2"}},
			note: "0 of 1 are duplicates; 1 was added to ", entries: 2,
		},
		"the set was moved, and there are other files in its place": {
			before: a, between: func(t *testing.T, dir string) {
				must(t, os.WriteFile(filepath.Join(dir, "x", "a"), []byte("another picture"), 0o666))
			},
			then: "y", now: a,
			note: "0 of 1 are duplicates; 1 was in an index already; 0 were added to ", entries: 1,
		},
		"a copy of the set": {
			before: a, then: "y", now: a,
			want: map[string]string{"a": "duplicate: keeper a, keeper_index SET, by phash, distance 0, rule against"},
			note: "1 of 1 is a duplicate in 1 group (by phash 1); compared with 1 of indexes; 0 were added to ", entries: 1,
		},
		"a copy of it, where it is a link": {
			before: a, between: func(t *testing.T, dir string) {
				must(t, os.Rename(filepath.Join(dir, "x", "a"), filepath.Join(dir, "a")))
				must(t, os.Symlink("../a", filepath.Join(dir, "x", "a")))
			},
			then: "y", now: a,
			want: map[string]string{"a": "duplicate: keeper a, keeper_index SET, by phash, distance 0, rule against"},
			note: "1 of 1 is a duplicate in 1 group (by phash 1); compared with 1 of indexes; 0 were added to ", entries: 1,
		},
		"a copy of it, in a run that has other files of its folder": {
			before: a, then: "x", now: folderSet{"a": {hash: 0, content: "1", beside: "../y"}, "b": {hash: far, content: "2"}},
			want: map[string]string{"a": "duplicate: keeper a, keeper_index SET, by phash, distance 0, rule against"},
			note: "1 of 2 is a duplicate in 1 group (by phash 1); compared with 1 of indexes; 1 was added to ", entries: 2,
		},
		"a near picture of that name in another folder": {
			before: a, then: "y", now: folderSet{"a": {hash: 1, content: "2"}},
			want: map[string]string{"a": "duplicate: keeper a, keeper_index SET, by phash, distance 1, rule against"},
			note: "1 of 1 is a duplicate in 1 group (by phash 1); compared with 1 of indexes; 0 were added to ", entries: 1,
		},
		"another picture of that name in another folder": {
			before: a, then: "y", now: folderSet{"a": {hash: far, content: "2"}},
			note: "0 of 1 are duplicates; compared with 1 of indexes; 1 was added to ", entries: 2,
		},
		"the folder above": {
			before: a, then: ".", now: folderSet{"x/a": {hash: 0, content: "1"}},
			note: "0 of 1 are duplicates; 1 was in an index already; 1 was added to ", entries: 2,
		},
		"the folder above, and it was edited": {
			before: a, then: ".", now: folderSet{"x/a": {hash: 1, content: "2"}},
			note: "0 of 1 are duplicates; 1 was added to ", entries: 2,
		},
		"the folder below": {
			first: ".", before: folderSet{"x/a@%": {hash: 0, content: "1"}}, then: "x", now: folderSet{"a@%": {hash: 0, content: "1"}},
			note: "0 of 1 are duplicates; 1 was in an index already; 1 was added to ", entries: 2,
		},
		"the folder by another name": {
			before: a, between: func(t *testing.T, dir string) { must(t, os.Symlink("x", filepath.Join(dir, "y"))) },
			then: "y", now: a,
			note: "0 of 1 are duplicates; 1 was in an index already; 0 were added to ", entries: 1,
		},
		"the folder above, by another name": {
			before: a, between: func(t *testing.T, dir string) { must(t, os.Symlink(".", filepath.Join(dir, "y"))) },
			then: "y", now: folderSet{"x/a": {hash: 0, content: "1"}},
			note: "0 of 1 are duplicates; 1 was in an index already; 1 was added to ", entries: 2,
		},
		"another name of the file": {
			before: a, between: func(t *testing.T, dir string) {
				must(t, os.Mkdir(filepath.Join(dir, "y"), 0o777))
				must(t, os.Link(filepath.Join(dir, "x", "a"), filepath.Join(dir, "y", "a")))
			},
			then: "y", now: a,
			note: "0 of 1 are duplicates; 1 was in an index already; 0 were added to ", entries: 1,
		},
		"a link in the place of the file, which was moved": {
			before: a, between: func(t *testing.T, dir string) {
				must(t, os.Rename(filepath.Join(dir, "x"), filepath.Join(dir, "y")))
				must(t, os.Mkdir(filepath.Join(dir, "x"), 0o777))
				must(t, os.Symlink("../y/a", filepath.Join(dir, "x", "a")))
			},
			then: "y", now: a,
			note: "0 of 1 are duplicates; 1 was in an index already; 0 were added to ", entries: 1,
		},
		"a part of the picture": {
			before: folderSet{"c": {hash: far, content: ""}}, between: func(t *testing.T, dir string) {
				_, err := index.Add(t.Context(), nil, filepath.Join(dir, "set"), []index.Column{{Name: "phash", Size: 8, Version: "1"}}, func(yield func(index.Entry, error) bool) {
					yield(index.Entry{ID: "a@tile=0,0", SHA256: sha256.Sum256([]byte(read(t, dot()) + "1")), Root: filepath.Join(dir, "x"), Prints: [][]byte{hash64(1).Hash()}}, nil)
				})
				must(t, err)
			},
			then: "x", now: a,
			note: "0 of 1 are duplicates; compared with 1 of indexes; 1 was added to ", entries: 3,
		},
		"nothing has its name: a set that is finished": {
			before: a, between: func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, "x"))) },
			then: "x", now: folderSet{"b": {hash: 1, content: "2"}},
			want: map[string]string{"b": "duplicate: keeper a, keeper_index SET, by phash, distance 1, rule against"},
			note: "1 of 1 is a duplicate in 1 group (by phash 1); compared with 1 of indexes; 0 were added to ", entries: 1,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			set := filepath.Join(dir, "set")
			if tt.first == "" {
				tt.first = "x"
			}
			if said, note, err := tt.before.compare(t, filepath.Join(dir, tt.first), set); err != nil || len(said) > 0 {
				t.Fatalf("at first %v; %s; %v", said, note, err)
			}
			if tt.between != nil {
				tt.between(t, dir)
			}
			said, note, err := tt.now.compare(t, filepath.Join(dir, tt.then), set)
			for id, text := range said {
				said[id] = strings.ReplaceAll(text, set, "SET")
			}
			if err != nil || !maps.Equal(said, tt.want) || note != tt.note+set {
				t.Errorf("%v, %s, %v\nwant %v, %s", said, note, err, tt.want, tt.note)
			}
			if n := entriesOf(t, set); n != tt.entries {
				t.Errorf("the index has %d entries, want %d", n, tt.entries)
			}
			// Once more it is as it was: what stays is known.
			again, note, err := tt.now.compare(t, filepath.Join(dir, tt.then), set)
			if err != nil || len(again) != len(said) || entriesOf(t, set) != tt.entries {
				t.Errorf("again: %v, %s, %v", again, note, err)
			}
		})
	}
}

// A picture that a person rejects is no reason for others to go, also where it is in an index.
func TestRejectedByHandAndInAnIndex(t *testing.T) {
	dir := t.TempDir()
	set, file := filepath.Join(dir, "set"), filepath.Join(dir, "decisions.csv")
	if _, _, err := (folderSet{"a": {hash: 0, content: "1"}}).compare(t, filepath.Join(dir, "x"), set); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("decision,item,keeper\nreject,a,\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	said, note, err := folderSet{"a": {hash: 0, content: "1"}, "b": {hash: 1, content: "2"}}.compare(t, filepath.Join(dir, "x"), set, "decisions", file)
	if want := map[string]string{"a": "decided by hand"}; err != nil || !maps.Equal(said, want) || strings.Contains(note, "indexes") {
		t.Errorf("%v, %s, %v; want %v", said, note, err, want)
	}
}

// A run that stopped before it deleted anything has added to the index by then. The next one
// finds the keepers, as files, all the same.
func TestDeletingWhatAnEarlierRunFound(t *testing.T) {
	dir := t.TempDir()
	set, f := filepath.Join(dir, "set"), folderSet{"a": {hash: 0, content: "1"}, "b": {hash: 1, content: "2"}, "c": {hash: 0xff, content: "3"}}
	remove := func(n int) (string, error) {
		_, note, err := f.compare(t, filepath.Join(dir, "x"), set, "action", "delete", "record", filepath.Join(dir, "deleted.jsonl"), "delete_count", n)
		return note, err
	}
	if _, err := remove(0); err == nil || entriesOf(t, set) != 2 {
		t.Fatalf("with another number: %v", err)
	}
	if note, err := remove(1); err != nil || !strings.Contains(note, "of source images 1 was deleted (1 file)") {
		t.Errorf("%s, %v", note, err)
	}
	for name, there := range map[string]bool{"a": true, "b": false, "c": true} {
		if _, err := os.Stat(filepath.Join(dir, "x", name)); (err == nil) != there {
			t.Errorf("%s: %v", name, err)
		}
	}
}
