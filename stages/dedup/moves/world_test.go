package moves_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup/moves"
)

// world is a source folder with a folder for duplicates.
type world struct {
	t       testing.TB
	in, out string
}

func newWorld(t testing.TB, files map[string]string) world {
	t.Helper()
	return worldIn(t, quick(t), files)
}

func worldIn(t testing.TB, dir string, files map[string]string) world {
	t.Helper()
	w := world{t, filepath.Join(dir, "in"), filepath.Join(dir, "out")}
	must(t, os.Mkdir(w.in, 0o777))
	w.put(w.in, files)
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put writes files; a text "-> x" is a link to x, and one "= x" a hard link of x.
func (w world) put(dir string, files map[string]string) {
	w.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		file, text := filepath.Join(dir, name), files[name]
		must(w.t, os.MkdirAll(filepath.Dir(file), 0o777))
		if to, ok := strings.CutPrefix(text, "-> "); ok {
			must(w.t, os.Symlink(to, file))
		} else if of, ok := strings.CutPrefix(text, "= "); ok {
			must(w.t, os.Link(filepath.Join(dir, of), file))
		} else {
			must(w.t, os.WriteFile(file, []byte(text), 0o666))
		}
	}
}

// tree is what is below a folder, without records and empty folders.
func (w world) tree(dir string) map[string]string {
	w.t.Helper()
	all := map[string]string{}
	must(w.t, filepath.WalkDir(dir, func(file string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || e.IsDir() || e.Name() == moves.RecordName {
			return err
		}
		name, _ := filepath.Rel(dir, file)
		if e.Type()&fs.ModeSymlink != 0 {
			to, err := os.Readlink(file)
			all[name] = "-> " + to
			return err
		}
		b, err := os.ReadFile(file)
		all[name] = string(b)
		return err
	}))
	return all
}

func (w world) same(what string, got, want map[string]string) {
	w.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if text, ok := want[name]; !ok {
			w.t.Errorf("%s: there is %s (%q)", what, name, got[name])
		} else if text != got[name] {
			w.t.Errorf("%s: %s is %q, want %q", what, name, got[name], text)
		}
	}
	for name := range want {
		if _, ok := got[name]; !ok {
			w.t.Errorf("%s: there is no %s", what, name)
		}
	}
}

func sidecars(t testing.TB, file string) (all []pipeline.Sidecar) {
	stem := strings.TrimSuffix(file, path.Ext(file))
	for _, ext := range []string{".json", ".txt"} {
		info, err := os.Stat(stem + ext)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		must(t, err)
		all = append(all, pipeline.Sidecar{Ext: ext, Path: stem + ext, Size: info.Size(), Time: info.ModTime().UnixNano()})
	}
	return all
}

// job is that of a duplicate of keep.png, as a run sees it now.
func (w world) job(name string) moves.Job {
	w.t.Helper()
	file := filepath.Join(w.in, name)
	b, err := os.ReadFile(file)
	must(w.t, err)
	j := moves.Job{ID: pipeline.EscapeID(name), Source: name, Path: file, Size: int64(len(b)), SHA256: sha256.Sum256(b), Sidecars: sidecars(w.t, file)}
	j.Keeper, j.KeeperPath = "keep.png", filepath.Join(w.in, "keep.png")
	if b, err := os.ReadFile(j.KeeperPath); err == nil {
		j.KeeperSize, j.KeeperSHA256 = int64(len(b)), sha256.Sum256(b)
	}
	return j
}

// pair is the job of a pair: hq/NAME and lq/NAME.
func (w world) pair(name string) moves.Job {
	w.t.Helper()
	j := w.job("hq/" + name)
	j.ID, j.Source = name, name
	lq := w.job("lq/" + name)
	j.LQ = &moves.Companion{Source: name, Path: lq.Path, Size: lq.Size, SHA256: lq.SHA256, Sidecars: lq.Sidecars}
	return j
}

func list(jobs ...moves.Job) iter.Seq2[moves.Job, error] {
	return func(yield func(moves.Job, error) bool) {
		for _, j := range jobs {
			if !yield(j, nil) {
				return
			}
		}
	}
}

func (w world) apply(o moves.Options, jobs ...moves.Job) (moves.Report, error) {
	if o.To == "" && o.Action != moves.Delete {
		o.To = w.out
	}
	if o.Record == "" && o.Action == moves.Delete {
		o.Record = filepath.Join(w.out, moves.RecordName)
	}
	return moves.Apply(w.t.Context(), o, list(jobs...))
}

func (w world) applied(o moves.Options, jobs ...moves.Job) moves.Report {
	w.t.Helper()
	r, err := w.apply(o, jobs...)
	must(w.t, err)
	return r
}

func (w world) restored(o moves.RestoreOptions) *moves.RestoreReport {
	w.t.Helper()
	r, err := moves.Restore(w.t.Context(), w.out, o)
	must(w.t, err)
	return r
}

// lines are those of the record that can be read.
func (w world) lines() (all []map[string]any) {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.out, moves.RecordName))
	must(w.t, err)
	for text := range strings.SplitSeq(string(b), "\n") {
		var l map[string]any
		if json.Unmarshal([]byte(text), &l) == nil {
			all = append(all, l)
		}
	}
	return all
}

// quick is a folder in memory where there is one, since making things durable takes long
// elsewhere.
func quick(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "forgepipe-moves-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// elsewhere is a folder on another file system than that of the test's folders.
func elsewhere(t testing.TB) string {
	t.Helper()
	const shm = "/dev/shm"
	var here, there unix.Stat_t
	if err := unix.Stat(t.TempDir(), &here); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(shm, &there); err != nil || here.Dev == there.Dev {
		t.Skipf("there is no second file system: %s is none (%v)", shm, err)
	}
	dir, err := os.MkdirTemp(shm, "forgepipe-moves-")
	if err != nil {
		t.Skipf("there is no second file system to write to: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
