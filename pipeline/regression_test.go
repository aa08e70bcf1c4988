package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/color/palette"
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// Each test here tells of a bug that a strict reading found, and holds it off.

// fromYAML builds a pipeline as the command would.
func fromYAML(t testing.TB, format string, args ...any) *pipeline.Pipeline {
	t.Helper()
	p, err := pipeline.Load(t.Context(), "p.yaml", fmt.Appendf(nil, format, args...), pipeline.Options{Registry: standard.Registry()})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func add(t testing.TB, p *pipeline.Pipeline, s pipeline.Step) {
	t.Helper()
	if err := p.Add(s); err != nil {
		t.Fatal(err)
	}
}

// try runs the pipeline and waits at most a minute for its end.
func try(t testing.TB, p *pipeline.Pipeline, o pipeline.RunOptions) (*pipeline.Summary, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := p.Run(ctx, o)
	if ctx.Err() != nil {
		t.Fatalf("the run did not end: %+v", s)
	}
	if s != nil {
		if cerr := s.Check(); cerr != nil {
			t.Error(cerr)
		}
	}
	return s, err
}

func mustRun(t testing.TB, p *pipeline.Pipeline, o pipeline.RunOptions) *pipeline.Summary {
	t.Helper()
	s, err := try(t, p, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// put writes a file of a test.
func put(t testing.TB, path string, b []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// gray is a PNG of one shade.
func gray(t testing.TB, width, height int, shade uint8) []byte {
	t.Helper()
	return pngBytes(t, width, height, func(int, int) color.Color { return color.Gray{Y: shade} })
}

// holds checks a file's content.
func holds(t testing.TB, path string, want []byte) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil {
		t.Error(err)
	} else if !bytes.Equal(got, want) {
		t.Errorf("%s has other bytes than it should have", path)
	}
}

// everything is all files and folders below a folder, the state included.
func everything(t testing.TB, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// emitting is a source made of a function.
type emitting func(ctx context.Context, emit func(pipeline.Input) error) error

func (f emitting) Emit(ctx context.Context, emit func(pipeline.Input) error) error {
	return f(ctx, emit)
}

// gated offers its first inputs, and the rest when the gate is open.
func gated(gate <-chan struct{}, first, rest listed) emitting {
	return func(ctx context.Context, emit func(pipeline.Input) error) error {
		if err := first.Emit(ctx, emit); err != nil {
			return err
		}
		select {
		case <-gate:
			return rest.Emit(ctx, emit)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// A single file, or a list of files, may be written into the folder that it lies
// in: there is no input folder that lint could protect. The source then had the
// very bytes that were to be written, was entered as an output of the run, and
// went as one: with a fresh run it was deleted, with a stricter filter it went
// to the trash.
func TestASourceIsNeverAnOutput(t *testing.T) {
	a, b := gray(t, 40, 40, 9), gray(t, 60, 40, 90)
	for name, source := range map[string]string{"file": "path: %s/a.png", "list": "list: %s/list.txt"} {
		for _, overwrite := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/overwrite=%v", name, overwrite), func(t *testing.T) {
				dir := t.TempDir()
				put(t, filepath.Join(dir, "a.png"), a)
				put(t, filepath.Join(dir, "a.txt"), []byte("caption"))
				put(t, filepath.Join(dir, "b.png"), b)
				put(t, filepath.Join(dir, "list.txt"), []byte("a.png\nb.png\n"))
				want := tree(t, dir)
				run := func(what string, wider int, o pipeline.RunOptions) {
					t.Helper()
					s := mustRun(t, fromYAML(t, "source: {images: {"+source+"}}\nstages:\n"+
						"  - filter: {keep: \"width > %d\"}\n  - write: {path: %s, overwrite: %v}\n", dir, wider, dir, overwrite), o)
					if s.Quarantined != s.In-s.RejectedTotal() || s.Written != 0 || s.Reused != 0 {
						t.Errorf("%s: quarantined %d of %d, wrote %d, reused %d", what, s.Quarantined, s.In, s.Written, s.Reused)
					}
					for _, f := range s.Failed {
						if !overwrite && strings.Contains(f.Cause, "did not write") || strings.Contains(f.Cause, "source itself") {
							continue
						}
						t.Errorf("%s: %s failed with %s", what, f.ID, f.Cause)
					}
					sameTree(t, what, tree(t, dir), want)
					if names := (workplace{t, dir, dir}).trashed(); len(names) > 0 {
						t.Errorf("%s: the trash has %v", what, names)
					}
				}
				run("first", 10, pipeline.RunOptions{})
				run("again", 10, pipeline.RunOptions{})
				run("stricter", 50, pipeline.RunOptions{})
				run("fresh", 50, pipeline.RunOptions{Fresh: true})
				run("fresh and lax", 10, pipeline.RunOptions{Fresh: true})
			})
		}
	}
}

// gathering is a stage that lets items go on only when n of them are there, each
// in a call of its own: n pictures then hold the room that they need.
func gathering(n int) pipeline.Stage {
	var arrived sync.WaitGroup
	arrived.Add(n)
	return pipeline.Func(func(context.Context, *pipeline.Item) error {
		arrived.Done()
		arrived.Wait()
		return nil
	})
}

// Pictures that wait to be written held all that could be had, and the writer
// waited for the room of its call. Only decoded pictures were given up for that,
// and none was decoded: the run stood for ever.
func TestWritingLargePicturesUnderASmallLimitEnds(t *testing.T) {
	const n, side = 2, 3000 // two pictures of 9 MB and a call of 38 MB, where 53 MB can be had
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&b, image.NewPaletted(image.Rect(0, 0, side, side), palette.Plan9)); err != nil {
		t.Fatal(err)
	}
	for name, workers := range map[string]int{"the other waits in the queue": 1, "the other waits for room, too": 2} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for i := range n {
				put(t, filepath.Join(dir, "in", fmt.Sprintf("%d.png", i)), b.Bytes())
			}
			r := standard.Registry().With(pipeline.Info{
				Name: "gather", Short: "Waits.", Version: 1,
				New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) { return gathering(n), nil },
			})
			// A tile of the whole, as a picture that nothing was done to is copied.
			p, err := pipeline.Load(t.Context(), "p.yaml", fmt.Appendf(nil, `
memory: {host: {limit: 115MiB}}
source: {images: {path: %s/in}}
stages:
  - tile: {size: %d}
  - {workers: %d, batch: 1, gather: {}}
  - {workers: %d, batch: 1, write: {path: %s/out}}
`, dir, side, n, workers, dir), pipeline.Options{Registry: r})
			if err != nil {
				t.Fatal(err)
			}
			if s := mustRun(t, p, pipeline.RunOptions{}); s.Written != n {
				t.Errorf("wrote %d: %+v", s.Written, s.Failed)
			}
		})
	}
}

// painting replaces pictures with others of the same size, and says so.
type painting struct{}

func (painting) Cost(_ pipeline.Device, batch []*pipeline.Item) (c pipeline.Cost) {
	for _, it := range batch {
		c.Output += int64(it.Size().X) * int64(it.Size().Y)
	}
	return c
}

func (painting) Process(_ context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	for _, it := range batch {
		it.SetImage(image.NewGray(image.Rectangle{Max: it.Size()}))
	}
	return batch, nil
}

// New pixels wait for residency to leave. With the room full of pictures that
// wait for the stage that asks, and that are not to be had again, none ever left.
func TestRoomForNewPixelsIsHadInTheEnd(t *testing.T) {
	const n = 3 // of 8 MiB each, where 27 MiB can be had
	p := pipeline.New("paint", pipeline.Options{})
	p.HostLimit = pipeline.Amount{Bytes: 100 << 20}
	var in listed
	for i := range n {
		in = append(in, pipeline.Input{Name: fmt.Sprint(i), Image: image.NewGray(image.Rect(0, 0, 4096, 2048))})
	}
	p.SetSource(in)
	add(t, p, pipeline.Step{ID: "gather", Stage: gathering(n), Workers: n, Batch: 1})
	add(t, p, pipeline.Step{ID: "paint", Stage: painting{}, Workers: n, Batch: 1})
	if s := mustRun(t, p, pipeline.RunOptions{NoStore: true}); s.Out != n {
		t.Errorf("%d came out: %+v", s.Out, s.Failed)
	}
}

// Two items that want one path through two stages: the first run told them apart
// by who came first, and the second gave the path to the other, over the file of
// the first, which stayed recorded as written.
func TestTwoItemsOfOnePathThroughTwoStages(t *testing.T) {
	a, xa := gray(t, 40, 40, 9), gray(t, 40, 40, 90)
	other := map[string]string{"a.png": "xa.png", "xa.png": "a.png"}
	for name, order := range map[string][]string{ // who comes first, run by run
		"a": {"a.png", "a.png", "a.png"}, "xa": {"xa.png", "xa.png", "xa.png"}, "in turn": {"a.png", "xa.png", "xa.png", "a.png", "xa.png"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			bytesOf := map[string][]byte{"a.png": a, "xa.png": xa}
			inputs := map[string]pipeline.Input{}
			for name, b := range bytesOf {
				inputs[name] = pipeline.Input{Name: name, Path: put(t, filepath.Join(dir, "in", name), b)}
			}
			for i, first := range order {
				p := fromYAML(t, "source: {images: {path: %s/in}}\nstages:\n"+
					"  - write: {path: %s/out}\n  - write: {path: %s/out, name: \"{dir}x{stem}{ext}\"}\n", dir, dir, dir)
				gate := make(chan struct{})
				p.SetSource(gated(gate, listed{inputs[first]}, listed{inputs[other[first]]}))
				var once sync.Once
				ended := func() { once.Do(func() { close(gate) }) }
				add(t, p, pipeline.Step{ID: "through", Stage: pipeline.Func(func(context.Context, *pipeline.Item) error {
					ended()
					return nil
				})})
				s := mustRun(t, p, pipeline.RunOptions{OnEvent: func(e pipeline.Event) {
					if e.Kind == pipeline.EventFailed {
						ended()
					}
				}})
				if s.Quarantined != 1 {
					t.Fatalf("run %d: quarantined %+v", i, s.Failed)
				}
				loser := s.Failed[0].ID
				if i == 0 && loser == first {
					t.Errorf("%s came first and was quarantined", first)
				}
				holds(t, filepath.Join(dir, "out", "xa.png"), bytesOf[other[loser]])
				r, err := pipeline.Verify(t.Context(), filepath.Join(dir, "out", ".forgepipe"), nil)
				if err != nil || r.Right != r.Files || r.Files == 0 {
					t.Errorf("verify after run %d says %+v, %v", i, r, err)
				}
			}
		})
	}
}

// A stage got another id, the run with it broke before anything was taken back,
// and then the filter changed. Two rows now named the file; the one that was
// looked at was the other one's to explain, so the file stayed for ever.
func TestNoOrphanAfterAnInterruptedEdit(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "in", "a.png"), gray(t, 40, 40, 9))
	put(t, filepath.Join(dir, "in", "b.png"), gray(t, 140, 140, 9))
	load := func(wider int, id string) *pipeline.Pipeline {
		return fromYAML(t, "source: {images: {path: %s/in}}\nstages:\n"+
			"  - filter: {keep: \"width > %d\"}\n  - {id: %s, write: {path: %s/out, format: png}}\n", dir, wider, id, dir)
	}
	mustRun(t, load(1, "one"), pipeline.RunOptions{})

	p := load(1, "two")
	written := make(chan struct{})
	add(t, p, pipeline.Step{ID: "break", Workers: 2, Batch: 1, Stage: batchStage(func(_ context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
		if batch[0].ID() == "a.png" {
			close(written)
			return batch, nil
		}
		<-written
		return nil, errors.New("broken on purpose")
	})})
	if _, err := try(t, p, pipeline.RunOptions{}); err == nil {
		t.Fatal("the run did not break")
	}

	s := mustRun(t, load(100, "two"), pipeline.RunOptions{})
	if _, err := os.Stat(filepath.Join(dir, "out", "a.png")); !errors.Is(err, fs.ErrNotExist) || s.Retracted != 1 {
		t.Errorf("a.png is still there (%v); %d retracted", err, s.Retracted)
	}
	holds(t, filepath.Join(dir, "out", "b.png"), gray(t, 140, 140, 9))
}

const scoreAndWrite = `
source: {images: {path: %s/in}}
stages:
  - score: {metrics: [laplacian]}
  - write: {path: %s/out}
`

// A dry run opened the cached results of the state directory for writing: it
// cleared up what the run beside it was filling, and left files behind.
func TestADryRunLeavesNoTrace(t *testing.T) {
	dir := t.TempDir()
	var first, rest listed
	for i := range 20 {
		name := fmt.Sprintf("%02d.png", i)
		in := pipeline.Input{Name: name, Path: put(t, filepath.Join(dir, "in", name), gray(t, 40+i, 40, 9))}
		if i < 10 {
			first = append(first, in)
		} else {
			rest = append(rest, in)
		}
	}
	state := filepath.Join(dir, "out", ".forgepipe")
	dry := func(t *testing.T) {
		t.Helper()
		mustRun(t, fromYAML(t, scoreAndWrite, dir, dir), pipeline.RunOptions{DryRun: true, CacheDir: filepath.Join(dir, "cache")})
		if _, err := os.Stat(filepath.Join(dir, "cache")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a dry run made the shared cache: %v", err)
		}
	}

	t.Run("beside a run", func(t *testing.T) {
		p := fromYAML(t, scoreAndWrite, dir, dir)
		gate, through := make(chan struct{}), make(chan struct{})
		p.SetSource(gated(gate, first, rest))
		var seen atomic.Int64
		add(t, p, pipeline.Step{ID: "through", Stage: pipeline.Func(func(context.Context, *pipeline.Item) error {
			if seen.Add(1) == int64(len(first)) {
				close(through)
			}
			return nil
		})})
		run, err := p.Start(t.Context(), pipeline.RunOptions{Checkpoint: 10 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		<-through
		for i := 0; i < 500; i++ { // until a checkpoint has cached results on disk
			if found, _ := filepath.Glob(filepath.Join(state, "attributes", "*")); len(found) > 0 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		dry(t)
		close(gate)
		if s, err := run.Wait(); err != nil || s.Out != 20 {
			t.Errorf("the run beside it: %v, %+v", err, s)
		}
		if s := mustRun(t, fromYAML(t, scoreAndWrite, dir, dir), pipeline.RunOptions{}); s.Cached != 20 {
			t.Errorf("of 20 results %d were cached", s.Cached)
		}
	})
	t.Run("alone", func(t *testing.T) {
		before := everything(t, dir)
		dry(t)
		if after := everything(t, dir); !slices.Equal(after, before) {
			t.Errorf("before\n%s\nafter\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
		}
	})
}

// When a stage ended the run, the context of all calls ended, and what other
// stages then failed for that was quarantined as if the items were to blame.
func TestOthersAreNotToBlameForAStagesError(t *testing.T) {
	called := make(chan struct{})
	p := chain(t, inputs(2), pass)
	add(t, p, pipeline.Step{ID: "look", Workers: 2, Batch: 1, Stage: batchStage(func(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
		if batch[0].ID() == "dir/0000.png" {
			<-called
			return nil, errors.New("the model cannot be loaded")
		}
		close(called)
		<-ctx.Done()
		batch[0].Fail(ctx.Err())
		return nil, nil
	})})
	s, err := try(t, p, pipeline.RunOptions{StateDir: t.TempDir()})
	var se *pipeline.StageError
	if !errors.As(err, &se) || se.Stage != "look" || s.Quarantined != 0 || s.QuarantineFile != "" {
		t.Errorf("%v; quarantined %+v", err, s.Failed)
	}
}

// barred is a barrier that notes whether it was flushed.
type barred struct {
	holder
	flushed atomic.Bool
}

func (b *barred) Flush(ctx context.Context, held pipeline.HeldItems, emit func(*pipeline.Item) error) error {
	b.flushed.Store(true)
	return b.holder.Flush(ctx, held, emit)
}

// A source that failed closed the queue like one that was done. In the moment
// until the run was cancelled a barrier could be flushed with half of the items,
// and a manifest of half of them replaced the whole one.
func TestABarrierIsNotFlushedWhenTheSourceFails(t *testing.T) {
	for name, src := range map[string]emitting{
		"fails":    func(context.Context, func(pipeline.Input) error) error { return errors.New("the disk is gone") },
		"is empty": func(context.Context, func(pipeline.Input) error) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			for i := range 400 {
				b := &barred{}
				p := pipeline.New("", pipeline.Options{})
				p.SetSource(src)
				add(t, p, pipeline.Step{ID: "barrier", Stage: b, Workers: 1})
				if _, err := try(t, p, pipeline.RunOptions{NoStore: true}); err == nil || b.flushed.Load() {
					t.Fatalf("run %d: %v, flushed %v", i, err, b.flushed.Load())
				}
			}
		})
	}
}

// A source that the store knew unchanged was not read, and its limits were not
// looked at: lowered limits held for new files only.
func TestLimitsHoldForKnownSources(t *testing.T) {
	for _, limits := range []string{"pixels: 100", "file_bytes: 20B"} {
		t.Run(limits, func(t *testing.T) {
			dir := t.TempDir()
			put(t, filepath.Join(dir, "in", "a.png"), gray(t, 40, 40, 9))
			run := func(limits string) *pipeline.Summary {
				t.Helper()
				return mustRun(t, fromYAML(t, "limits: {%s}\nsource: {images: {path: %s/in}}\nstages:\n  - write: {path: %s/out}\n", limits, dir, dir), pipeline.RunOptions{})
			}
			if s := run("pixels: 10000"); s.Written != 1 {
				t.Fatalf("%+v", s)
			}
			for range 2 {
				if s := run(limits); s.Quarantined != 1 || s.Failed[0].Stage != "source" {
					t.Errorf("with a lower limit: %+v", s)
				}
			}
			if s := run("pixels: 10000"); s.Quarantined != 0 || s.Out != 1 {
				t.Errorf("with the limit raised again: %+v", s)
			}
		})
	}
}

// all is a barrier that holds everything and lets all of it go on.
type all struct{ holder }

func (*all) Flush(_ context.Context, held pipeline.HeldItems, emit func(*pipeline.Item) error) error {
	for it, err := range held {
		if err != nil {
			return err
		}
		if err := emit(it); err != nil {
			return err
		}
	}
	return nil
}

// Pixels that a barrier had spilled weighed nothing when they came back: queues
// took any number of them, and the ledger learned of each when it was too late.
func TestSpilledPixelsWeighWhatTheyWeigh(t *testing.T) {
	const n, side = 16, 1000 // 64 MB in all
	p := pipeline.New("", pipeline.Options{})
	p.HostLimit = pipeline.Amount{Bytes: 100 << 20}
	p.SetSource(inputs(n))
	add(t, p, pipeline.Step{ID: "grow", Workers: 1, Batch: 1, Stage: pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		it.SetImage(image.NewRGBA(image.Rect(0, 0, side, side)))
		return nil
	})})
	add(t, p, pipeline.Step{ID: "hold", Workers: 1, Batch: 1, Stage: &all{}})
	var read atomic.Int64
	everyone := make(chan struct{})
	add(t, p, pipeline.Step{ID: "read", Workers: 1, Batch: 1, Stage: pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		_, err := it.Frame(ctx)
		if read.Add(1) == n {
			close(everyone)
		}
		return err
	})})
	// Holds its first item until all have been read, for which there is no room.
	waited := false
	add(t, p, pipeline.Step{ID: "slow", Workers: 1, Batch: 1, Stage: pipeline.Func(func(context.Context, *pipeline.Item) error {
		if waited {
			return nil
		}
		waited = true
		select {
		case <-everyone:
		case <-time.After(500 * time.Millisecond):
		}
		return nil
	})})
	s := mustRun(t, p, pipeline.RunOptions{NoStore: true})
	if d := s.Devices[0]; d.Peak > d.Limit || s.Out != n {
		t.Errorf("%d came out; %d MiB were leased at once, the limit is %d MiB", s.Out, d.Peak>>20, d.Limit>>20)
	}
}

// A pair's picture could get another size without its companion, or be replaced
// by a derived one that left the companion behind: what came out as a pair was
// none.
func TestAPairKeepsItsCompanion(t *testing.T) {
	pair := listed{{
		Name: "a.png", Image: image.NewGray(image.Rect(0, 0, 64, 64)), Scale: 2,
		LQ: &pipeline.Input{Name: "a.png", Image: image.NewGray(image.Rect(0, 0, 32, 32))},
	}}
	derive := func(px pipeline.Pixels) pipeline.Stage {
		return batchStage(func(_ context.Context, batch []*pipeline.Item) (out []*pipeline.Item, _ error) {
			for _, it := range batch {
				out = append(out, it.Derive("x", px))
			}
			return out, nil
		})
	}
	set := func(side int) pipeline.Stage {
		return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
			it.SetImage(image.NewGray(image.Rect(0, 0, side, side)))
			return nil
		})
	}
	look := pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		f, err := it.PairFrame(ctx)
		if err != nil {
			return err
		}
		if scale, ok := it.Pair(); !ok || f.Image.Bounds().Size().Mul(scale) != it.Size() {
			t.Errorf("%s: %v beside %v", it.ID(), it.Size(), f.Image.Bounds())
		}
		return nil
	})
	for name, tt := range map[string]struct {
		stages []pipeline.Stage
		cause  string // empty: it comes out whole
	}{
		"enlarged, then cropped":      {[]pipeline.Stage{set(128), derive(pipeline.Crop(image.Rect(64, 64, 128, 128)))}, "cannot get another size without its companion"},
		"shrunk":                      {[]pipeline.Stage{set(32)}, "cannot get another size without its companion"},
		"derived from a new image":    {[]pipeline.Stage{derive(pipeline.FromImage(image.NewGray(image.Rect(0, 0, 64, 64))))}, "cannot be derived from a pair"},
		"another image, then cropped": {[]pipeline.Stage{set(64), derive(pipeline.Crop(image.Rect(32, 32, 64, 64)))}, ""},
		"cropped, then another image": {[]pipeline.Stage{derive(pipeline.Crop(image.Rect(32, 0, 64, 32))), set(32)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := runIt(t, chain(t, pair, append(tt.stages, look)...))
			switch {
			case err != nil:
				t.Error(err)
			case tt.cause == "" && s.Out != 1:
				t.Errorf("quarantined %+v", s.Failed)
			case tt.cause != "" && (s.Out != 0 || s.Quarantined != 1 || !strings.Contains(s.Failed[0].Cause, tt.cause)):
				t.Errorf("%d came out, quarantined %+v", s.Out, s.Failed)
			}
		})
	}
}

// The part of an output was set off from the lineage of its row by what a
// derivation key may hold as well: with the key "part=left", verify and all later
// runs looked for the file elsewhere.
func TestADerivationKeyLikeAPart(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "in", "a.png"), gray(t, 32, 16, 9))
	put(t, filepath.Join(dir, "in", "a.txt"), []byte("caption"))
	build := func(keys ...string) *pipeline.Pipeline {
		p := fromYAML(t, "name: parts\nsource: {images: {path: %s/in}}\nstages:\n  - tile: {size: 16}\n", dir)
		add(t, p, pipeline.Step{ID: "cut", Stage: cut(keys...)})
		if err := p.Use(t.Context(), standard.Registry(), "write", "write", map[string]any{"path": filepath.Join(dir, "out")}); err != nil {
			t.Fatal(err)
		}
		return p
	}
	keys := []string{"part=left", "@part=right", "@@part=x"}
	files := int64(2 * len(keys) * 2) // tiles, keys, picture and sidecar
	for i := range 2 {
		s := mustRun(t, build(keys...), pipeline.RunOptions{})
		if i == 0 && s.Written != files || i > 0 && s.Reused != files {
			t.Errorf("run %d wrote %d, reused %d, quarantined %+v", i, s.Written, s.Reused, s.Failed)
		}
		r, err := pipeline.Verify(t.Context(), filepath.Join(dir, "out", ".forgepipe"), nil)
		if err != nil || r.Files != files || r.Right != files {
			t.Errorf("verify after run %d says %+v, %v", i, r, err)
		}
	}
	if s := mustRun(t, build("else"), pipeline.RunOptions{}); s.Retracted != files {
		t.Errorf("retracted %d of %d", s.Retracted, files)
	}
}

// A sample run began with clearing the folder of the last one, also while that
// was at work in it.
func TestASecondSampleRunIsRefused(t *testing.T) {
	dir := t.TempDir()
	var in listed
	for i := range 6 {
		name := fmt.Sprintf("%d.png", i)
		in = append(in, pipeline.Input{Name: name, Path: put(t, filepath.Join(dir, "in", name), gray(t, 40+i, 40, 9))})
	}
	load := func() *pipeline.Pipeline {
		return fromYAML(t, "source: {images: {path: %s/in}}\nstages:\n  - write: {path: %s/out}\n", dir, dir)
	}
	p := load()
	gate := make(chan struct{})
	p.SetSource(gated(gate, in[:3], in[3:]))
	run, err := p.Start(t.Context(), pipeline.RunOptions{Sample: 6})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := try(t, load(), pipeline.RunOptions{Sample: 2}); !errors.Is(err, pipeline.ErrLocked) {
		t.Errorf("the second says %v", err)
	}
	close(gate)
	if s, err := run.Wait(); err != nil || s.Out != 6 || s.Written != 6 {
		t.Errorf("the first: %v, %+v", err, s)
	}
	if s := mustRun(t, load(), pipeline.RunOptions{Sample: 2}); s.Written != 2 {
		t.Errorf("the third wrote %d", s.Written)
	}
}

// Lint compared output paths as they were spelled, and nothing compared those of
// pipelines that were built in Go.
func TestOnePathSpelledTwiceIsOnePath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	put(t, filepath.Join(dir, "in", "a.png"), gray(t, 40, 40, 9))
	if err := os.Mkdir("out", 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("out", "link"); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ stages, want string }{
		"write":          {"  - write: {path: out}\n  - write: {path: DIR/out}\n", "write-2 writes to"},
		"write, by link": {"  - write: {path: link}\n  - write: {path: DIR/out/.}\n", "write-2 writes to"},
		"manifest":       {"  - manifest: {path: out/m}\n  - manifest: {path: DIR/out/m}\n", "manifest-2 writes to"},
		"the input":      {"  - write: {path: in}\n", "lies inside the input folder"},
	} {
		t.Run(name, func(t *testing.T) {
			yaml := strings.ReplaceAll("source: {images: {path: DIR/in}}\nstages:\n"+tt.stages, "DIR", dir)
			_, err := pipeline.Load(t.Context(), "p.yaml", []byte(yaml), pipeline.Options{Registry: standard.Registry()})
			var se *pipeline.SpecError
			if !errors.As(err, &se) || len(se.Problems) != 1 || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("lint says %v", err)
			}
		})
	}
	t.Run("in Go", func(t *testing.T) {
		p := fromYAML(t, "source: {images: {path: in}}\nstages:\n  - write: {path: out}\n")
		for path, want := range map[string]string{"in": "lies inside the input folder", filepath.Join(dir, "out"): "again writes to"} {
			err := p.Use(t.Context(), standard.Registry(), "write", "again", map[string]any{"path": path})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("a stage that writes to %s: %v", path, err)
			}
		}
	})
}

// Needs may name a vector. That was refused, as no stage makes an attribute of
// the name, and where it was not, the results of the stage were never cached.
func TestAStageMayNeedAVector(t *testing.T) {
	state := t.TempDir()
	run := func(version int, value float32) (calls, cached int64) {
		t.Helper()
		var used atomic.Int64
		embed := pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
			it.SetVector(pipeline.Vector{Name: "clip", Data: []float32{value, 2}})
			return nil
		})
		use := pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
			used.Add(1)
			v, ok := it.Vector("clip")
			if !ok {
				return errors.New("there is no vector")
			}
			it.SetAttr("first", pipeline.Float(float64(v.Data[0])))
			return nil
		})
		made := func(s pipeline.Stage) func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
			return func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) { return s, nil }
		}
		r := pipeline.NewRegistry(pipeline.Info{
			Name: "embed", Short: "Embeds.", Pure: true, Version: version, New: made(embed),
			Makes: func(pipeline.Config) []pipeline.Made { return []pipeline.Made{{Name: "clip", Vector: true}} },
		}, pipeline.Info{
			Name: "use", Short: "Uses.", Pure: true, Version: 1, New: made(use),
			Needs: func(pipeline.Config) []string { return []string{"clip"} },
		})
		p := pipeline.New("vectors", pipeline.Options{})
		p.SetSource(inputs(5))
		for _, name := range []string{"embed", "use"} {
			if err := p.Use(t.Context(), r, name, name, nil); err != nil {
				t.Fatal(err)
			}
		}
		add(t, p, pipeline.Step{ID: "look", Stage: pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
			if v, _ := it.Attr("first"); v.Float() != float64(value) {
				it.Fail(fmt.Errorf("first is %v, not %v", v, value))
			}
			return nil
		})})
		s := mustRun(t, p, pipeline.RunOptions{StateDir: state})
		if s.Out != 5 {
			t.Errorf("quarantined %+v", s.Failed)
		}
		return used.Load(), s.Cached
	}
	for _, tt := range []struct {
		what          string
		version       int
		value         float32
		calls, cached int64
	}{
		{"first", 1, 0.5, 5, 0},
		{"again", 1, 0.5, 0, 10},
		{"another version, the same vectors", 2, 0.5, 0, 5},
		{"another version, other vectors", 3, 0.25, 5, 0},
	} {
		if calls, cached := run(tt.version, tt.value); calls != tt.calls || cached != tt.cached {
			t.Errorf("%s: called for %d items, want %d; %d results were cached, want %d", tt.what, calls, tt.calls, cached, tt.cached)
		}
	}
}

// explosive panics where it is told to.
type explosive struct {
	batchStage
	open, close string
}

func (e explosive) Open(context.Context, pipeline.Device) error { return explode(e.open) }
func (e explosive) Close() error                                { return explode(e.close) }

func explode(message string) error {
	if message != "" {
		panic(message)
	}
	return nil
}

// Only Process was guarded: a panic in Emit, Open or Close took the program along
// that embeds the pipeline.
func TestPanicsEndTheRunAndNotTheProgram(t *testing.T) {
	same := batchStage(func(_ context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) { return batch, nil })
	for name, tt := range map[string]struct {
		src   pipeline.Source
		stage pipeline.Stage
	}{
		"Emit": {emitting(func(_ context.Context, emit func(pipeline.Input) error) error {
			if err := emit(input(0)); err != nil {
				return err
			}
			panic("panic in Emit")
		}), same},
		"Open":  {inputs(3), explosive{batchStage: same, open: "panic in Open"}},
		"Close": {inputs(3), explosive{batchStage: same, close: "panic in Close"}},
	} {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir()
			for range 2 { // the state directory is not left locked
				s, err := try(t, chain(t, tt.src, tt.stage, pass), pipeline.RunOptions{StateDir: state})
				if err == nil || !strings.Contains(err.Error(), "panic in "+name) || s == nil || s.State == "done" {
					t.Errorf("got %v, %+v", err, s)
				}
			}
		})
	}
}

// A folder that could not be listed for once looked like one whose files were
// gone: all that had been made of them was taken back.
func TestAFolderThatCannotBeListedTakesNothingBack(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) pipeline.Input {
		return pipeline.Input{Name: name, Path: put(t, filepath.Join(dir, "in", name), gray(t, 40, 40, uint8(len(name))))}
	}
	top, below, deep, beside := file("top.png"), file("sub/below.png"), file("sub/deep/down.png"), file("subway.png")
	out := filepath.Join(dir, "out")
	run := func(in ...pipeline.Input) *pipeline.Summary {
		t.Helper()
		p := pipeline.New("folders", pipeline.Options{})
		p.SetSource(listed(in))
		if err := p.Use(t.Context(), standard.Registry(), "write", "write", map[string]any{"path": out}); err != nil {
			t.Fatal(err)
		}
		return mustRun(t, p, pipeline.RunOptions{})
	}
	run(top, below, deep, beside)
	want := tree(t, out)

	delete(want, "subway.png") // that folder was listed
	for range 2 {
		s := run(top, pipeline.Input{Name: "sub/", Err: errors.New("reading the folder: permission denied")})
		if s.Quarantined != 1 || s.Failed[0].ID != "sub/" {
			t.Errorf("quarantined %+v", s.Failed)
		}
		sameTree(t, "not listed", tree(t, out), want)
	}
	delete(want, "sub/deep/down.png")
	delete(want, "sub/deep/")
	if s := run(top, below); s.Reused != 2 || s.Written != 0 {
		t.Errorf("listed again: wrote %d, reused %d", s.Written, s.Reused)
	}
	sameTree(t, "listed again", tree(t, out), want)
}

// A run that was asked to stop went on until everything that a barrier had held
// was through: minutes, or hours.
func TestDrainingStopsABarriersItems(t *testing.T) {
	state := t.TempDir()
	run := func(seen func(*pipeline.Run)) *pipeline.Summary {
		t.Helper()
		var r *pipeline.Run
		began, drained := make(chan struct{}), make(chan struct{})
		if seen == nil {
			close(began)
			close(drained)
		}
		var first sync.Once
		p := pipeline.New("", pipeline.Options{})
		p.SetSource(inputs(1000))
		add(t, p, pipeline.Step{ID: "gather", Stage: &all{}})
		add(t, p, pipeline.Step{ID: "slow", Workers: 1, Stage: pipeline.Func(func(context.Context, *pipeline.Item) error {
			if seen != nil {
				first.Do(func() { close(began) })
				<-drained
			}
			return nil
		})})
		r, err := p.Start(t.Context(), pipeline.RunOptions{StateDir: state})
		if err != nil {
			t.Fatal(err)
		}
		<-began
		if seen != nil {
			seen(r)
			close(drained)
		}
		s, err := r.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Check(); err != nil {
			t.Error(err)
		}
		return s
	}
	// The queue behind the barrier holds some hundreds.
	if s := run((*pipeline.Run).Drain); s.State != "interrupted" || s.Out == 0 || s.Out > 800 || s.Unfinished != 1000-s.Out {
		t.Errorf("state %s: %d came out, %d are unfinished", s.State, s.Out, s.Unfinished)
	}
	if s := run(nil); s.State != "done" || s.Out != 1000 {
		t.Errorf("afterwards: state %s, %d came out", s.State, s.Out)
	}
}
