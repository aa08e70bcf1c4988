package moves_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/stages/dedup/moves"
)

// stopAfter is an Options.Stop that lets so many pictures go.
func stopAfter(n int) func() bool {
	return func() bool { n--; return n < 0 }
}

// captioned is a picture with its caption, beside their keeper.
func captioned(more ...string) map[string]string {
	files := map[string]string{"keep.png": "keeper", "a.png": "one", "a.txt": "caption"}
	for _, name := range more {
		files[name] = name
	}
	return files
}

// killedByHalf moves a.png, and is killed when a.txt is in the folder and a.png in its place.
func (w world) killedByHalf(o moves.Options) {
	w.t.Helper()
	o.Action = moves.Move
	for n := int64(1); ; n++ {
		f := fsys.FailAt(fsys.OS, n, syscall.EIO)
		f.Sticky = true
		o.FS = f
		_, _ = w.apply(o, w.job("a.png"))
		if f.Failed() == "" {
			w.t.Fatal("it is never half")
		}
		if w.has("a.png") && !w.has("a.txt") {
			return
		}
	}
}

// What a run has finished with is not half, whatever has come to the places of its pictures since.
func TestStoppedAndNewOnesCame(t *testing.T) {
	for _, tt := range []struct {
		name string
		came map[string]string
	}{
		{"another of its name", map[string]string{"a.png": "another"}},
		{"one of its stem, with a caption of the same words", map[string]string{"a.jpg": "another", "a.txt": "caption"}},
		{"the same, without its caption", map[string]string{"a.png": "one"}},
		{"a caption of the same words alone", map[string]string{"a.txt": "caption"}},
	} {
		for _, action := range []moves.Action{moves.Move, moves.Delete} {
			t.Run(tt.name+"/"+string(action), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, captioned("b.png"))
				_, err := w.apply(moves.Options{Action: action, DeleteCount: 2, Stop: stopAfter(1)}, w.job("a.png"), w.job("b.png"))
				if !errors.Is(err, moves.ErrStopped) {
					t.Fatal(err)
				}
				w.put(w.in, tt.came)
				r := w.applied(moves.Options{Action: action, DeleteCount: 2}, w.job("b.png"))
				if r.Left != 0 || r.Images != 1 {
					t.Errorf("%+v", r)
				}
				tt.came["keep.png"] = "keeper"
				w.same("sources", w.tree(w.in), tt.came)
				if action == moves.Move {
					w.same("folder", w.tree(w.out), map[string]string{"a.png": "one", "a.txt": "caption", "b.png": "b.png"})
				}
				delete(tt.came, "keep.png")
			})
		}
	}
}

// A run that was killed before it was written down that a picture went takes nothing of one that
// came since.
func TestKilledAndNewOnesCame(t *testing.T) {
	t.Run("another of its name", func(t *testing.T) {
		w := newWorld(t, captioned())
		w.killedByHalf(moves.Options{})
		w.put(w.in, map[string]string{"a.png": "another"})
		if r := w.applied(moves.Options{Action: moves.Move}); r.Left != 0 {
			t.Errorf("%+v", r)
		}
		w.same("sources", w.tree(w.in), map[string]string{"keep.png": "keeper", "a.png": "another"})
		w.same("folder", w.tree(w.out), map[string]string{"a.txt": "caption"})
	})
	t.Run("one of its stem, with a caption of the same words", func(t *testing.T) {
		w := newWorld(t, captioned())
		w.halfDeleted(w.job("a.png"))
		came := map[string]string{"a.jpg": "another", "a.txt": "caption"}
		w.put(w.in, came)
		w.applied(moves.Options{Action: moves.Delete, DeleteCount: 1})
		came["keep.png"] = "keeper"
		w.same("sources", w.tree(w.in), came)
	})
}

// What a killed run has moved of a picture is beside it again before another run begins, whatever
// that is to do.
func TestHalfAndAnotherRun(t *testing.T) {
	all := map[string]string{"a.png": "one", "a.txt": "caption"}
	for _, tt := range []struct {
		name    string
		o       moves.Options // To is below the folder of the test
		jobs    bool
		in, out map[string]string // beside the keeper
		other   map[string]string // what is in To
	}{
		{"the same", moves.Options{Action: moves.Move}, true, nil, all, nil},
		{"nothing", moves.Options{Action: moves.Move}, false, all, nil, nil},
		{"copy", moves.Options{Action: moves.Copy}, true, all, all, nil},
		{"hard link", moves.Options{Action: moves.Hardlink}, true, all, all, nil},
		{"delete", moves.Options{Action: moves.Delete, DeleteCount: 1}, true, nil, nil, nil},
		{"another folder", moves.Options{Action: moves.Move, To: "out2"}, true, nil, nil, all},
		{"copy to another folder", moves.Options{Action: moves.Copy, To: "out2"}, true, all, nil, all},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, captioned())
			tt.o.Record = filepath.Join(w.in, "..", "r.jsonl")
			w.killedByHalf(moves.Options{Record: tt.o.Record})
			if tt.o.To != "" {
				tt.o.To = filepath.Join(w.in, "..", tt.o.To)
			}
			var jobs []moves.Job
			if tt.jobs {
				jobs = append(jobs, w.job("a.png")) // which was seen without its caption
			}
			if r := w.applied(tt.o, jobs...); r.Left != 0 {
				t.Errorf("%+v", r)
			}
			in := map[string]string{"keep.png": "keeper"}
			for name, text := range tt.in {
				in[name] = text
			}
			w.same("sources", w.tree(w.in), in)
			w.same("folder", w.tree(w.out), tt.out)
			if tt.o.To != "" {
				w.same("the other folder", w.tree(tt.o.To), tt.other)
			}
		})
	}
}

// The caption of a picture that gets a number since its name was taken gets it too.
func TestHalfAndNameTaken(t *testing.T) {
	w := newWorld(t, captioned())
	w.killedByHalf(moves.Options{})
	w.put(w.out, map[string]string{"a.png": "a stranger"})
	w.applied(moves.Options{Action: moves.Move}, w.job("a.png"))
	w.same("folder", w.tree(w.out), map[string]string{"a.png": "a stranger", "a-2.png": "one", "a-2.txt": "caption"})
}

// What is left of a copy back is removed.
func TestHalfCopiedBack(t *testing.T) {
	w := newWorld(t, captioned())
	w.killedByHalf(moves.Options{})
	for n := int64(1); len(w.tree(w.in)) == 2; n++ {
		_, _ = w.apply(moves.Options{Action: moves.Move, FS: trip(n, true, syscall.EIO)})
	}
	if !regexp.MustCompile(`\.forgepipe-move-[0-9a-f]+\.tmp`).MatchString(strings.Join(names(w.tree(w.in)), " ")) {
		t.Fatalf("there are %v", w.tree(w.in))
	}
	w.applied(moves.Options{Action: moves.Move})
	w.same("sources", w.tree(w.in), captioned())
}

func names(tree map[string]string) (all []string) {
	for name := range tree {
		all = append(all, name)
	}
	return all
}

// What was done by half comes back also after other runs that were stopped, of which none
// was about it.
func TestHalfOfAnEarlierRun(t *testing.T) {
	w := newWorld(t, captioned("b.png", "c.png"))
	// Nothing can be made in its place, so that it cannot come back.
	w.killedByHalf(moves.Options{})
	fixed := closed{fsys.OS, w.in}
	for _, name := range []string{"b.png", "c.png"} {
		r, err := w.apply(moves.Options{Action: moves.Move, FS: fixed, Stop: stopAfter(0)}, w.job(name), w.job("a.png"))
		if !errors.Is(err, moves.ErrStopped) || r.Left != 1 || !strings.HasPrefix(r.Why[0].Text, "it could not be done, and not undone") {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	if w.has("a.txt") {
		t.Fatal("it came back")
	}
	// The picture is not touched as long as it has no caption.
	for _, action := range []moves.Action{moves.Move, moves.Copy, moves.Delete} {
		r := w.applied(moves.Options{Action: action, DeleteCount: 0, FS: fixed}, w.job("a.png"))
		if r.Left != 1 || r.Images != 0 || !w.has("a.png") {
			t.Errorf("%s: %+v", action, r)
		}
	}
	for range 2 {
		if r := w.applied(moves.Options{Action: moves.Move}); r.Left != 0 {
			t.Errorf("%+v", r)
		}
		w.same("sources", w.tree(w.in), captioned("b.png", "c.png"))
	}
}

// closed is a file system with a folder in which nothing can be made or removed.
type closed struct {
	fsys.FS
	dir string
}

func (c closed) OpenRoot(dir string) (fsys.Root, error) {
	r, err := c.FS.OpenRoot(dir)
	if dir == c.dir {
		r = closedRoot{r}
	}
	return r, err
}

type closedRoot struct{ fsys.Root }

func (closedRoot) Remove(name string) error {
	return &fs.PathError{Op: "remove", Path: name, Err: syscall.EPERM}
}

func (closedRoot) Create(name string) (fsys.File, error) {
	return nil, &fs.PathError{Op: "create", Path: name, Err: syscall.EPERM}
}

// A folder that is not there makes nobody believe that nothing is in it.
func TestHalfAndFolderAway(t *testing.T) {
	w := newWorld(t, captioned())
	record := filepath.Join(w.in, "..", "r.jsonl")
	w.killedByHalf(moves.Options{Record: record})
	must(t, os.Rename(w.out, w.out+"-away"))
	for range 2 {
		r := w.applied(moves.Options{Action: moves.Delete, DeleteCount: 0, Record: record}, w.job("a.png"))
		if r.Left != 1 || !strings.Contains(r.Why[0].First[0], "is gone") || !w.has("a.png") {
			t.Fatalf("%+v", r)
		}
	}
	must(t, os.Rename(w.out+"-away", w.out))
	w.applied(moves.Options{Action: moves.Delete, DeleteCount: 0, Record: record})
	w.same("sources", w.tree(w.in), captioned())
}

// A folder that was taken elsewhere with its record is looked into there.
func TestHalfAndFolderElsewhere(t *testing.T) {
	for _, action := range []moves.Action{moves.Move, moves.Delete} {
		w := newWorld(t, captioned())
		w.killedByHalf(moves.Options{})
		must(t, os.Rename(w.out, w.out+"2"))
		w.out += "2"
		for range 2 {
			if r := w.applied(moves.Options{Action: action}); r.Left != 0 {
				t.Errorf("%s: %+v", action, r)
			}
			w.same(string(action), w.tree(w.in), captioned())
		}
	}
}

// A picture that could not be deleted, and that somebody took away then, was not deleted.
func TestLeftThenTakenAway(t *testing.T) {
	w := newWorld(t, captioned("b.png"))
	j := w.job("a.png")
	j.Explained = []byte(`1`)
	o := moves.Options{Action: moves.Delete, DeleteCount: 2, Stop: stopAfter(1), FS: stuck{fsys.OS, filepath.Join(w.in, "a.png")}}
	if r, err := w.apply(o, j, w.job("b.png")); !errors.Is(err, moves.ErrStopped) || r.Left != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	must(t, os.Rename(filepath.Join(w.in, "a.png"), filepath.Join(filepath.Dir(w.in), "mine.png")))
	if got := w.away(moves.Delete); len(got) > 0 {
		t.Errorf("away are %q", got)
	}
	w.applied(moves.Options{Action: moves.Delete, DeleteCount: 2}, w.job("b.png"))
	w.same("sources", w.tree(w.in), map[string]string{"keep.png": "keeper", "a.txt": "caption"})
}

// The caption of a picture that is deleted goes with a later run if it could not go with it, and
// the picture is away.
func TestCaptionLeftOfADeletedOne(t *testing.T) {
	w := newWorld(t, captioned())
	j := w.job("a.png")
	j.Explained = []byte(`1`)
	fixed := stuck{fsys.OS, filepath.Join(w.in, "a.txt")}
	if r := w.applied(moves.Options{Action: moves.Delete, DeleteCount: 1, FS: fixed}, j); r.Left != 1 || r.Images != 1 {
		t.Errorf("%+v", r)
	}
	if r := w.applied(moves.Options{Action: moves.Move, FS: fixed}); r.Left != 1 {
		t.Errorf("%+v", r)
	}
	if got := w.away(moves.Delete); len(got) != 1 {
		t.Errorf("away are %q", got)
	}
	for range 2 {
		if r := w.applied(moves.Options{Action: moves.Move}); r.Left != 0 {
			t.Errorf("%+v", r)
		}
		w.same("sources", w.tree(w.in), map[string]string{"keep.png": "keeper"})
	}
}

// A picture that cannot go or be undone is made whole when it is run again.
func TestNotWholeAndRunAgain(t *testing.T) {
	w := newWorld(t, captioned())
	r := w.applied(moves.Options{Action: moves.Move, FS: noWayBack{fsys.OS, w.in}}, w.job("a.png"))
	if r.Left != 1 || !strings.HasPrefix(r.Why[0].Text, "it could not be done, and not undone") || w.has("a.txt") {
		t.Fatalf("%+v", r)
	}
	for range 2 { // it is no duplicate any more
		w.applied(moves.Options{Action: moves.Move})
		w.same("sources", w.tree(w.in), captioned())
	}
}

// noWayBack is a file system with a folder that a.png cannot be moved from, and to which
// nothing comes back.
type noWayBack struct {
	fsys.FS
	dir string
}

func (s noWayBack) OpenRoot(dir string) (fsys.Root, error) {
	r, err := s.FS.OpenRoot(dir)
	if dir == s.dir {
		return noWayBackRoot{r}, err
	}
	return r, err
}

type noWayBackRoot struct{ fsys.Root }

func (r noWayBackRoot) Remove(name string) error {
	if name == "a.png" {
		return &fs.PathError{Op: "remove", Path: name, Err: syscall.EPERM}
	}
	return r.Root.Remove(name)
}

func (noWayBackRoot) Create(name string) (fsys.File, error) {
	return nil, &fs.PathError{Op: "create", Path: name, Err: syscall.EPERM}
}

// The lines of earlier versions that say what is about to be deleted have no number of a file.
func TestRecordOfAnEarlierVersion(t *testing.T) {
	w := newWorld(t, captioned())
	w.halfDeleted(w.job("a.png"))
	if !w.has("a.txt") {
		t.Fatal("nothing is left of it")
	}
	record := filepath.Join(w.out, moves.RecordName)
	b, err := os.ReadFile(record)
	must(t, err)
	numbered := regexp.MustCompile(`("event":"doing","run":"[^"]*",)"n":1,`)
	if !numbered.Match(b) {
		t.Fatalf("%s", b)
	}
	must(t, os.WriteFile(record, numbered.ReplaceAll(b, []byte("$1")), 0o666))
	w.applied(moves.Options{Action: moves.Delete, DeleteCount: 1})
	w.same("sources", w.tree(w.in), map[string]string{"keep.png": "keeper"})
}

// Where a picture cannot come back, nothing of it does, whichever run moved that.
func TestRestoreTakenOfTwoRuns(t *testing.T) {
	w := newWorld(t, captioned())
	w.killedByHalf(moves.Options{})
	// A run of an earlier version took the picture alone to its caption.
	record := filepath.Join(w.out, moves.RecordName)
	b, err := os.ReadFile(record)
	must(t, err)
	must(t, os.WriteFile(record, append(b, alone(t, b)...), 0o666))
	must(t, os.Rename(filepath.Join(w.in, "a.png"), filepath.Join(w.out, "a.png")))
	w.put(w.in, map[string]string{"a.png": "a stranger"})
	if r := w.restored(moves.RestoreOptions{All: true}); r.Taken != 1 || r.Restored != 0 {
		t.Errorf("%+v", r)
	}
	w.same("sources", w.tree(w.in), map[string]string{"keep.png": "keeper", "a.png": "a stranger"})
	w.same("folder", w.tree(w.out), map[string]string{"a.png": "one", "a.txt": "caption"})
}

// alone are the lines of a run that moved the picture of the record's first line alone.
func alone(t *testing.T, record []byte) string {
	t.Helper()
	first, _, _ := strings.Cut(string(record), "\n")
	run := regexp.MustCompile(`"run":"[^"]*"`)
	if !strings.Contains(first, `"image"`) || !run.MatchString(first) {
		t.Fatal(first)
	}
	const r = `"run":"2099-01-01T00:00:00Z"`
	return "\n" + run.ReplaceAllString(first, r) + "\n" + `{"event":"begin",` + r + `,"action":"move"}` + "\n" +
		`{"event":"done",` + r + `,"n":1}` + "\n" + `{"event":"end",` + r + `}` + "\n"
}

// What is left of a pair whose high-quality picture a killed run has deleted goes, unless it may
// be another picture's now, or what is kept in its stead is not what it was; and what cannot be
// reached keeps no later run from its work.
func TestRestOfADeletedPair(t *testing.T) {
	files := map[string]string{"keep.png": "keeper", "hq/p.png": "high", "lq/p.png": "low", "lq/p.txt": "of low", "b.png": "two"}
	for name, tt := range map[string]struct {
		meanwhile func(w world)
		stay      []string // of the pair
		left      int64
	}{
		"nothing":            {func(world) {}, nil, 0},
		"another high one":   {func(w world) { w.put(w.in, map[string]string{"hq/p.jpg": "another"}) }, []string{"lq/p.png", "lq/p.txt"}, 0},
		"the keeper changed": {func(w world) { w.put(w.in, map[string]string{"keep.png": "kaputt"}) }, []string{"lq/p.png", "lq/p.txt"}, 1},
		"the keeper is gone": {func(w world) { must(t, os.Remove(filepath.Join(w.in, "keep.png"))) }, []string{"lq/p.png", "lq/p.txt"}, 1},
		"another caption":    {func(w world) { w.put(w.in, map[string]string{"lq/p.txt": "of another"}) }, []string{"lq/p.txt"}, 1},
		"the folder is gone": {func(w world) { must(t, os.RemoveAll(filepath.Join(w.in, "lq"))) }, nil, 0},
		"the folder is a file": {func(w world) {
			must(t, os.RemoveAll(filepath.Join(w.in, "lq")))
			w.put(w.in, map[string]string{"lq": "a file"})
		}, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, files)
			w.halfDeleted(w.pair("p.png"))
			if w.has("hq/p.png") || !w.has("lq/p.png") {
				t.Fatal("the pair is not half")
			}
			tt.meanwhile(w)
			r := w.applied(moves.Options{Action: moves.Delete, DeleteCount: -1})
			if r.Left != tt.left {
				t.Errorf("%+v", r)
			}
			got := w.tree(w.in)
			for _, file := range []string{"lq/p.png", "lq/p.txt"} {
				if _, there := got[file]; there != slices.Contains(tt.stay, file) {
					t.Errorf("%s is there: %v", file, there)
				}
			}
			if name != "the keeper is gone" && name != "the keeper changed" {
				if r := w.applied(moves.Options{Action: moves.Delete, DeleteCount: -1}, w.job("b.png")); r.Images != 1 {
					t.Errorf("then %+v", r)
				}
			}
		})
	}
}
