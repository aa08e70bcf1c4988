package pipeline_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/runstore"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// workplace is an input folder and an output folder for one test.
type workplace struct {
	t       testing.TB
	in, out string
}

func newWorkplace(t testing.TB) workplace {
	dir := t.TempDir()
	w := workplace{t, filepath.Join(dir, "in"), filepath.Join(dir, "out")}
	if err := os.MkdirAll(w.in, 0o777); err != nil {
		t.Fatal(err)
	}
	return w
}

// picture writes a picture of three tiles of 32 pixels, whose laplacian rises
// from tile to tile with seed.
func (w workplace) picture(name string, seed uint64) {
	w.t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	img := image.NewNRGBA(image.Rect(0, 0, 96, 32))
	for y := range 32 {
		for x := range 96 {
			amp := 4 + 40*(x/32) + int(seed%7)
			v := uint8(128 + r.IntN(2*amp) - amp)
			img.SetNRGBA(x, y, color.NRGBA{v, uint8(x), uint8(y), 255})
		}
	}
	path := filepath.Join(w.in, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		w.t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	if strings.HasSuffix(name, ".png") {
		err = png.Encode(f, img)
	} else {
		err = jpeg.Encode(f, img, nil)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

const tilesYAML = `
name: tiles
source:
  images: {path: %q}
stages:
  - tile: {size: 32}
  - score: {metrics: [laplacian]}
  - filter: {keep: "laplacian >= %v"}
  - write: {path: %q, format: png}
  - manifest: {path: %q}
`

func (w workplace) yaml(threshold float64) string {
	return fmt.Sprintf(tilesYAML, w.in, threshold, w.out, filepath.Join(w.out, "manifest.jsonl"))
}

// run runs the pipeline as a new process would: built from the file.
func (w workplace) run(threshold float64, o pipeline.RunOptions, files fsys.FS) (*pipeline.Summary, error) {
	w.t.Helper()
	p, err := pipeline.Load(w.t.Context(), "tiles.yaml", []byte(w.yaml(threshold)), pipeline.Options{Registry: standard.Registry(), FS: files})
	if err != nil {
		w.t.Fatal(err)
	}
	o.Check = true
	s, err := p.Run(w.t.Context(), o)
	if err == nil {
		if cerr := s.Check(); cerr != nil {
			w.t.Error(cerr)
		}
	}
	return s, err
}

func (w workplace) must(threshold float64, o pipeline.RunOptions) *pipeline.Summary {
	w.t.Helper()
	s, err := w.run(threshold, o, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// tree is what a folder holds, folders included and .forgepipe left out.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		if d.IsDir() {
			if d.Name() == ".forgepipe" {
				return filepath.SkipDir
			}
			out[rel+"/"] = ""
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		h := sha256.Sum256(b)
		out[rel] = hex.EncodeToString(h[:6])
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sameTree(t testing.TB, what string, got, want map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if g, ok := got[name]; !ok {
			t.Errorf("%s: %s is missing", what, name)
		} else if g != want[name] {
			t.Errorf("%s: %s differs", what, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: %s should not be there", what, name)
		}
	}
}

// fresh is the tree that a first run makes of the workplace's input.
func (w workplace) fresh(threshold float64) map[string]string {
	w.t.Helper()
	f := workplace{w.t, w.in, filepath.Join(w.t.TempDir(), "out")}
	f.must(threshold, pipeline.RunOptions{})
	return tree(w.t, f.out)
}

// trashed lists the files in the trash of the output folder.
func (w workplace) trashed() (names []string) {
	w.t.Helper()
	base := filepath.Join(w.out, ".forgepipe", "trash")
	err := filepath.WalkDir(base, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(base, path)
			_, name, _ := strings.Cut(rel, "/")
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

func TestRunAgainDoesNothing(t *testing.T) {
	w := newWorkplace(t)
	for i := range 5 {
		w.picture(fmt.Sprintf("sub/%d.jpg", i), uint64(i))
	}
	first := w.must(20, pipeline.RunOptions{})
	if first.In != 5 || first.Derived != 15 || first.Written == 0 || first.RejectedTotal() == 0 || first.Decoded != 5 {
		t.Fatalf("first run: %+v", first)
	}
	before := tree(t, w.out)
	again := w.must(20, pipeline.RunOptions{})
	if again.Written != 0 || again.Decoded != 0 || again.Reused != first.Written || again.Retracted != 0 {
		t.Errorf("second run wrote %d, decoded %d, reused %d of %d", again.Written, again.Decoded, again.Reused, first.Written)
	}
	sameTree(t, "second run", tree(t, w.out), before)
}

func TestEditingTheThreshold(t *testing.T) {
	w := newWorkplace(t)
	for i := range 8 {
		w.picture(fmt.Sprintf("%d.jpg", i), uint64(i))
	}
	w.must(25, pipeline.RunOptions{})
	had := tree(t, w.out)

	up := w.must(60, pipeline.RunOptions{})
	sameTree(t, "raised", tree(t, w.out), w.fresh(60))
	if up.Decoded != 0 || up.Retracted == 0 {
		t.Errorf("raising the threshold decoded %d and retracted %d", up.Decoded, up.Retracted)
	}
	var fell []string
	now := tree(t, w.out)
	for name := range had {
		if _, ok := now[name]; !ok && !strings.HasSuffix(name, "/") {
			fell = append(fell, name)
		}
	}
	slices.Sort(fell)
	if got := w.trashed(); !slices.Equal(got, fell) || len(fell) == 0 {
		t.Errorf("the trash has %v, want %v", got, fell)
	}

	down := w.must(5, pipeline.RunOptions{})
	sameTree(t, "lowered", tree(t, w.out), w.fresh(5))
	if down.Cached != 24 || down.Reused != int64(len(now))-2 {
		t.Errorf("lowering the threshold: %d results from the cache, %d files reused of %d", down.Cached, down.Reused, len(now)-2)
	}
}

func TestAddingRemovingChanging(t *testing.T) {
	w := newWorkplace(t)
	for i := range 8 {
		w.picture(fmt.Sprintf("dir/%d.jpg", i), uint64(i))
	}
	w.must(20, pipeline.RunOptions{})

	for i := range 3 {
		w.picture(fmt.Sprintf("dir/new%d.jpg", i), uint64(100+i))
	}
	for _, name := range []string{"dir/1.jpg", "dir/5.jpg"} {
		if err := os.Remove(filepath.Join(w.in, name)); err != nil {
			t.Fatal(err)
		}
	}
	w.picture("dir/3.jpg", 77)
	s := w.must(20, pipeline.RunOptions{})
	sameTree(t, "after the change", tree(t, w.out), w.fresh(20))
	if s.Decoded != 4 {
		t.Errorf("decoded %d pictures, want the 3 new and the changed one", s.Decoded)
	}
}

func TestASourceChangesItsExtension(t *testing.T) {
	w := newWorkplace(t)
	w.picture("a.jpg", 1)
	w.must(0, pipeline.RunOptions{})
	// The outputs of a.png have the paths that those of a.jpg had.
	if err := os.Remove(filepath.Join(w.in, "a.jpg")); err != nil {
		t.Fatal(err)
	}
	w.picture("a.png", 2)
	s := w.must(0, pipeline.RunOptions{})
	sameTree(t, "renamed", tree(t, w.out), w.fresh(0))
	if s.Quarantined != 0 {
		t.Errorf("quarantined %v", s.Failed)
	}
	// Both: each keeps its extension.
	w.picture("a.jpg", 1)
	s = w.must(0, pipeline.RunOptions{})
	got := tree(t, w.out)
	sameTree(t, "both", got, w.fresh(0))
	if _, ok := got["a.jpg_x32_y0.png"]; !ok || s.Renamed != 2 {
		t.Errorf("renamed %d: %v", s.Renamed, got)
	}
	// And back.
	if err := os.Remove(filepath.Join(w.in, "a.png")); err != nil {
		t.Fatal(err)
	}
	w.must(0, pipeline.RunOptions{})
	sameTree(t, "back", tree(t, w.out), w.fresh(0))
}

// The rows of the runs before name files that now are others': a template that
// moves every file onto the path of its neighbour.
func TestATemplateThatMovesFilesOntoEachOther(t *testing.T) {
	w := newWorkplace(t)
	w.picture("a.jpg", 1)
	w.picture("a.jpg_x0_y0.jpg", 2)
	w.must(0, pipeline.RunOptions{})
	yaml := strings.Replace(w.yaml(0), "format: png", `format: png, name: "{dir}{stem}.jpg{suffix}{ext}"`, 1)
	load := func(out string) *pipeline.Pipeline {
		p, err := pipeline.Load(t.Context(), "tiles.yaml", []byte(strings.ReplaceAll(yaml, w.out, out)), pipeline.Options{Registry: standard.Registry()})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if _, err := load(w.out).Run(t.Context(), pipeline.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "out")
	if _, err := load(other).Run(t.Context(), pipeline.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	sameTree(t, "moved", tree(t, w.out), tree(t, other))
}

// Another id is another stage, whose files happen to have the old paths: also
// where the old file is gone, the new one is not taken back with the old row.
func TestANewStageIDTakesOverTheFiles(t *testing.T) {
	w := newWorkplace(t)
	w.picture("a.jpg", 1)
	w.must(0, pipeline.RunOptions{})
	want := tree(t, w.out)
	if err := os.Remove(filepath.Join(w.out, "a_x32_y0.png")); err != nil {
		t.Fatal(err)
	}
	yaml := strings.Replace(w.yaml(0), "- write:", "- id: renamed\n    write:", 1)
	p, err := pipeline.Load(t.Context(), "tiles.yaml", []byte(yaml), pipeline.Options{Registry: standard.Registry()})
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.Run(t.Context(), pipeline.RunOptions{})
	if err != nil || s.Quarantined != 0 {
		t.Fatalf("%v, %+v", err, s)
	}
	sameTree(t, "renamed stage", tree(t, w.out), want)
}

func TestWhatTheUserChangedIsKept(t *testing.T) {
	w := newWorkplace(t)
	w.picture("a.jpg", 1)
	w.must(0, pipeline.RunOptions{})
	want := tree(t, w.out)
	edited := filepath.Join(w.out, "a_x32_y0.png")
	if err := os.WriteFile(edited, []byte("retouched"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(w.out, "a_x0_y0.png")); err != nil {
		t.Fatal(err)
	}
	s := w.must(0, pipeline.RunOptions{})
	sameTree(t, "mended", tree(t, w.out), want)
	if s.Replaced != 1 || s.Written != 2 || !slices.Equal(w.trashed(), []string{"a_x32_y0.png"}) {
		t.Errorf("replaced %d, wrote %d, trash %v", s.Replaced, s.Written, w.trashed())
	}
}

func TestAFileThatNobodyWroteStays(t *testing.T) {
	w := newWorkplace(t)
	w.picture("a.jpg", 1)
	if err := os.MkdirAll(w.out, 0o777); err != nil {
		t.Fatal(err)
	}
	theirs := filepath.Join(w.out, "a_x32_y0.png")
	if err := os.WriteFile(theirs, []byte("mine"), 0o666); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s := w.must(0, pipeline.RunOptions{})
		if s.Quarantined != 1 || !strings.Contains(s.Failed[0].Cause, "did not write") || s.Failed[0].Stage != "write" {
			t.Errorf("failed: %+v", s.Failed)
		}
		if b, err := os.ReadFile(theirs); err != nil || string(b) != "mine" {
			t.Errorf("the file is now %q, %v", b, err)
		}
	}
}

// Without its store a tree is unknown files; the same bytes are taken over.
func TestALostStoreIsRebuilt(t *testing.T) {
	w := newWorkplace(t)
	w.picture("a.jpg", 1)
	w.must(0, pipeline.RunOptions{})
	want := tree(t, w.out)
	if err := os.RemoveAll(filepath.Join(w.out, ".forgepipe")); err != nil {
		t.Fatal(err)
	}
	if s := w.must(0, pipeline.RunOptions{}); s.Quarantined != 0 {
		t.Errorf("failed: %+v", s.Failed)
	}
	sameTree(t, "rebuilt", tree(t, w.out), want)
}

func TestAMovedTreeKnowsItsFilesAndLeavesTheOldAlone(t *testing.T) {
	w := newWorkplace(t)
	w.picture("a.jpg", 1)
	w.must(0, pipeline.RunOptions{})
	before := tree(t, w.out)
	copied := workplace{t, w.in, w.out + "-copy"}
	if err := os.CopyFS(copied.out, os.DirFS(w.out)); err != nil {
		t.Fatal(err)
	}
	s := copied.must(50, pipeline.RunOptions{})
	if s.Retracted == 0 {
		t.Error("the copy retracted nothing")
	}
	sameTree(t, "copy", tree(t, copied.out), w.fresh(50))
	sameTree(t, "original", tree(t, w.out), before)
}

func TestFreshRemovesOnlyWhatNobodyChanged(t *testing.T) {
	w := newWorkplace(t)
	w.picture("a.jpg", 1)
	w.must(0, pipeline.RunOptions{})
	edited := filepath.Join(w.out, "a_x32_y0.png")
	if err := os.WriteFile(edited, []byte("retouched"), 0o666); err != nil {
		t.Fatal(err)
	}
	s := w.must(50, pipeline.RunOptions{Fresh: true})
	if b, err := os.ReadFile(edited); err != nil || string(b) != "retouched" {
		t.Errorf("the changed file is now %q, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(w.out, "a_x0_y0.png")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that nobody changed and nobody wants is still there: %v", err)
	}
	if s.Decoded != 1 || s.Cached != 0 {
		t.Errorf("a fresh run decoded %d and took %d results from the cache", s.Decoded, s.Cached)
	}
}

func TestASecondRunIsRefused(t *testing.T) {
	w := newWorkplace(t)
	w.picture("a.jpg", 1)
	s, err := runstore.Open(t.Context(), filepath.Join(w.out, ".forgepipe"), runstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := w.run(0, pipeline.RunOptions{}, nil); !errors.Is(err, runstore.ErrLocked) {
		t.Errorf("got %v", err)
	}
}

func TestAnotherPipelinesFolderIsRefused(t *testing.T) {
	w := newWorkplace(t)
	w.picture("a.jpg", 1)
	w.must(0, pipeline.RunOptions{})
	want := tree(t, w.out)
	p, err := pipeline.Load(t.Context(), "other.yaml", []byte(strings.Replace(w.yaml(90), "name: tiles", "name: other", 1)), pipeline.Options{Registry: standard.Registry()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Run(t.Context(), pipeline.RunOptions{})
	var se *pipeline.SpecError
	if !errors.As(err, &se) {
		t.Errorf("got %v", err)
	}
	sameTree(t, "refused", tree(t, w.out), want)
}

func TestAnEmptyInputTakesNothingBack(t *testing.T) {
	w := newWorkplace(t)
	w.picture("a.jpg", 1)
	w.must(0, pipeline.RunOptions{})
	want := tree(t, w.out)
	if err := os.Remove(filepath.Join(w.in, "a.jpg")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.run(0, pipeline.RunOptions{}, nil); err == nil {
		t.Error("a run over an empty folder passed")
	}
	sameTree(t, "after the empty run", tree(t, w.out), want)
}

var errInjected = errors.New("injected fault")

// Every write, rename, mkdir, sync of ours fails once, at every place; then the
// run is repeated and the outcome is that of an undisturbed run.
func TestEveryFileOperationFails(t *testing.T) {
	for _, sticky := range []bool{false, true} {
		t.Run(fmt.Sprintf("sticky=%v", sticky), func(t *testing.T) {
			ref := newWorkplace(t)
			ref.picture("a.jpg", 1)
			ref.picture("b.png", 2)
			if err := os.WriteFile(filepath.Join(ref.in, "a.txt"), []byte("caption"), 0o666); err != nil {
				t.Fatal(err)
			}
			want := ref.fresh(0)
			count := fsys.FailAt(fsys.OS, 0, nil)
			if _, err := ref.run(0, pipeline.RunOptions{}, count); err != nil {
				t.Fatal(err)
			}
			n := count.Count()
			if n < 30 {
				t.Fatalf("only %d operations go through the seam", n)
			}
			kinds := map[string]bool{}
			for i := int64(1); i <= n; i++ {
				w := workplace{t, ref.in, filepath.Join(t.TempDir(), "out")}
				faulty := fsys.FailAt(fsys.OS, i, errInjected)
				faulty.Sticky = sticky
				s, err := w.run(0, pipeline.RunOptions{}, faulty)
				op, _, _ := strings.Cut(faulty.Failed(), " ")
				kinds[op] = true
				if err == nil && s.Quarantined == 0 {
					// The fault was in something that is no output and that the
					// run can do without; the outcome must be whole already.
					sameTree(t, fmt.Sprintf("fault %d (%s), not reported", i, faulty.Failed()), tree(t, w.out), want)
				}
				w.must(0, pipeline.RunOptions{})
				sameTree(t, fmt.Sprintf("fault %d (%s)", i, faulty.Failed()), tree(t, w.out), want)
				if t.Failed() {
					t.Fatalf("fault %d of %d: %s; the run said %v, %+v", i, n, faulty.Failed(), err, s)
				}
			}
			for _, op := range []string{"create", "write", "rename", "mkdir", "syncfs"} {
				if !kinds[op] {
					t.Errorf("no %s failed: %v", op, slices.Sorted(maps.Keys(kinds)))
				}
			}
		})
	}
}

// brokenSegments is the file system under the cached results, of which the nth
// operation that changes something fails, and all after it.
type brokenSegments struct {
	runstore.OS
	left *atomic.Int64
}

func (b brokenSegments) fails() bool { return b.left.Add(-1) < 0 }

func (b brokenSegments) OpenFile(name string, flag int, perm fs.FileMode) (runstore.File, error) {
	if flag&os.O_CREATE != 0 && b.fails() {
		return nil, errInjected
	}
	f, err := b.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return brokenSegment{f, b}, nil
}

func (b brokenSegments) Rename(from, to string) error {
	if b.fails() {
		return errInjected
	}
	return b.OS.Rename(from, to)
}

func (b brokenSegments) MkdirAll(name string, perm fs.FileMode) error {
	if b.fails() {
		return errInjected
	}
	return b.OS.MkdirAll(name, perm)
}

type brokenSegment struct {
	runstore.File
	fs brokenSegments
}

func (b brokenSegment) Write(p []byte) (int, error) {
	if b.fs.fails() {
		n, _ := b.File.Write(p[:len(p)/2])
		return n, errInjected
	}
	return b.File.Write(p)
}

func (b brokenSegment) Sync() error {
	if b.fs.fails() {
		return errInjected
	}
	return b.File.Sync()
}

// The cached results are a convenience: whatever happens to their files, a run
// and the one after it come to the right outcome.
func TestEveryOperationOnCachedResultsFails(t *testing.T) {
	ref := newWorkplace(t)
	ref.picture("a.jpg", 1)
	ref.picture("b.png", 2)
	want := ref.fresh(20)
	for n := int64(0); ; n++ {
		w := workplace{t, ref.in, filepath.Join(t.TempDir(), "out")}
		var left atomic.Int64
		left.Store(n)
		o := pipeline.RunOptions{}
		o.Segments(brokenSegments{left: &left})
		w.must(20, o)
		sameTree(t, fmt.Sprintf("operation %d", n), tree(t, w.out), want)
		w.must(60, pipeline.RunOptions{})
		w.must(20, pipeline.RunOptions{})
		sameTree(t, fmt.Sprintf("after operation %d", n), tree(t, w.out), want)
		if t.Failed() {
			return
		}
		if left.Load() >= 0 {
			if n < 4 {
				t.Errorf("only %d operations", n)
			}
			return
		}
	}
}

func TestEveryDatabaseOperationFails(t *testing.T) {
	ref := newWorkplace(t)
	ref.picture("a.jpg", 1)
	ref.picture("b.png", 2)
	want := ref.fresh(0)
	failing := func(w workplace, n int) (ops int, err error) {
		o := pipeline.RunOptions{}
		o.FailSQL(func(string) error {
			ops++ // one committer: no race
			if ops == n {
				return errInjected
			}
			return nil
		})
		_, err = w.run(0, o, nil)
		return ops, err
	}
	most := 0
	for n := 1; ; n++ {
		w := workplace{t, ref.in, filepath.Join(t.TempDir(), "out")}
		ops, err := failing(w, n)
		most = max(most, ops)
		if ops < n {
			break
		}
		if err == nil {
			t.Errorf("operation %d failed and the run did not say so", n)
		}
		w.must(0, pipeline.RunOptions{})
		sameTree(t, fmt.Sprintf("operation %d", n), tree(t, w.out), want)
		if t.Failed() {
			return
		}
	}
	if most < 10 {
		t.Errorf("only %d operations of the database", most)
	}
}

// After a power loss, files that were renamed but not yet on disk can have
// other bytes than were written, also with the right size and time.
func TestAfterARebootOutputsAreVerified(t *testing.T) {
	w := newWorkplace(t)
	for i := range 4 {
		w.picture(fmt.Sprintf("%d.jpg", i), uint64(i))
	}
	want := w.fresh(0)
	// The run dies on the way: every operation from some rename on fails.
	count := fsys.FailAt(fsys.OS, 0, nil)
	if _, err := (workplace{t, w.in, filepath.Join(t.TempDir(), "out")}).run(0, pipeline.RunOptions{Checkpoint: time.Hour}, count); err != nil {
		t.Fatal(err)
	}
	faulty := fsys.FailAt(fsys.OS, count.Count()-6, errInjected)
	faulty.Sticky = true
	o := pipeline.RunOptions{Checkpoint: time.Hour}
	o.Boot("before")
	if _, err := w.run(0, o, faulty); err == nil {
		t.Fatal("the run did not die")
	}
	torn := 0
	for name := range tree(t, w.out) {
		if !strings.HasSuffix(name, ".png") {
			continue
		}
		path := filepath.Join(w.out, name)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, info.Size()), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, info.ModTime()); err != nil {
			t.Fatal(err)
		}
		torn++
	}
	if torn == 0 {
		t.Fatal("the run wrote nothing before it died")
	}
	o = pipeline.RunOptions{}
	o.Boot("after")
	w.must(0, o)
	sameTree(t, "after the reboot", tree(t, w.out), want)
	// Whether a file is torn or somebody's edit cannot be told: it is kept.
	if names := w.trashed(); len(names) != torn {
		t.Errorf("%d torn files, in the trash are %v", torn, names)
	}
}

func TestDryRunWritesNothingAndIsRight(t *testing.T) {
	w := newWorkplace(t)
	for i := range 6 {
		w.picture(fmt.Sprintf("%d.jpg", i), uint64(i))
	}
	forecast := func(threshold float64) *pipeline.Forecast {
		t.Helper()
		p, err := pipeline.Load(t.Context(), "tiles.yaml", []byte(w.yaml(threshold)), pipeline.Options{Registry: standard.Registry()})
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.Start(t.Context(), pipeline.RunOptions{DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Wait(); err != nil {
			t.Fatal(err)
		}
		return r.Forecast()
	}
	f := forecast(20)
	if _, err := os.Stat(w.out); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a dry run made the output folder: %v", err)
	}
	if f.Compute != 18 || f.Maybe != 18 || f.Write != 0 || f.Reuse != 0 {
		t.Errorf("before the first run: %+v", f)
	}
	w.must(20, pipeline.RunOptions{})
	before := tree(t, w.out)
	f = forecast(60)
	sameTree(t, "after a dry run", tree(t, w.out), before)
	s := w.must(60, pipeline.RunOptions{})
	// The manifest is written in a run and not forecast.
	if f.Compute != 0 || f.Reuse != s.Reused || f.Retract != s.Retracted || f.Write != s.Written-1 {
		t.Errorf("forecast %+v, then wrote %d, reused %d, retracted %d", f, s.Written, s.Reused, s.Retracted)
	}
}
