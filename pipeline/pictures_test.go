package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// half is every second pixel of every second row.
func half(img image.Image) *image.Gray {
	b := img.Bounds()
	out := image.NewGray(image.Rect(0, 0, b.Dx()/2, b.Dy()/2))
	for y := range b.Dy() / 2 {
		for x := range b.Dx() / 2 {
			out.Set(x, y, img.At(b.Min.X+2*x, b.Min.Y+2*y))
		}
	}
	return out
}

// pictureStages are pure stages that make pictures, and how often they were
// asked for one.
func pictureStages(calls *atomic.Int64) pipeline.Registry {
	each := func(f func(it *pipeline.Item, img image.Image) error) pipeline.Stage {
		return pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
			calls.Add(1)
			fr, err := it.Frame(ctx)
			if err != nil {
				return err
			}
			return f(it, fr.Image)
		})
	}
	stages := map[string]pipeline.Stage{
		"shrink": each(func(it *pipeline.Item, img image.Image) error { it.SetImage(half(img)); return nil }),
		"pairup": each(func(it *pipeline.Item, img image.Image) error { it.SetPair(half(img), 2); return nil }),
		"both": each(func(it *pipeline.Item, img image.Image) error {
			it.SetImages(half(img), half(half(img)))
			return nil
		}),
		"quarter": each(func(it *pipeline.Item, img image.Image) error {
			it.SetImage(half(img))
			it.SetPair(half(half(img)), 2)
			return nil
		}),
		"twins": batchStage(func(ctx context.Context, batch []*pipeline.Item) (out []*pipeline.Item, _ error) {
			for _, it := range batch {
				calls.Add(1)
				f, err := it.Frame(ctx)
				if err != nil {
					return nil, err
				}
				out = append(out, it.Derive("a", pipeline.FromImage(half(f.Image))), it.Derive("b", pipeline.FromImage(half(half(f.Image)))))
			}
			return out, nil
		}),
		"gather": &all{},
		// One of two pictures is given up before the other is wanted.
		"second": batchStage(func(ctx context.Context, batch []*pipeline.Item) (out []*pipeline.Item, _ error) {
			for _, it := range batch {
				calls.Add(1)
				f, err := it.Frame(ctx)
				if err != nil {
					return nil, err
				}
				first := it.Derive("a", pipeline.FromImage(half(f.Image)))
				if own, err := first.Frame(ctx); err != nil || own.Image.Bounds().Dx() != f.Image.Bounds().Dx()/2 {
					return nil, fmt.Errorf("the derived item's own frame: %w", err)
				}
				first.Reject("the first")
				out = append(out, it.Derive("b", pipeline.FromImage(half(f.Image))))
			}
			return out, nil
		}),
		// A crop of a pair gets a new picture of its own size, or two.
		"corner":  cornerStage(calls, false),
		"corners": cornerStage(calls, true),
		"heavy":   heavy{each(func(it *pipeline.Item, img image.Image) error { it.SetImage(half(img)); return nil })},
	}
	var infos []pipeline.Info
	for name, s := range stages {
		infos = append(infos, pipeline.Info{
			Name: name, Short: "Tests.", Pure: true, Version: 1, Derives: name == "twins" || name == "second" || strings.HasPrefix(name, "corner"),
			New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) { return s, nil },
		})
	}
	return standard.Registry().With(infos...)
}

func cornerStage(calls *atomic.Int64, both bool) pipeline.Stage {
	return batchStage(func(ctx context.Context, batch []*pipeline.Item) (out []*pipeline.Item, _ error) {
		for _, it := range batch {
			calls.Add(1)
			f, err := it.Frame(ctx)
			if err != nil {
				return nil, err
			}
			d := it.Derive("corner", pipeline.Crop(image.Rect(8, 4, 24, 16)))
			if both {
				d.SetImages(half(f.Image), half(half(f.Image)))
			} else {
				d.SetImage(half(half(f.Image)))
			}
			out = append(out, d)
		}
		return out, nil
	})
}

// heavy is a stage that fills a phase of its own.
type heavy struct{ pipeline.Stage }

func (heavy) Cost(pipeline.Device, []*pipeline.Item) pipeline.Cost {
	return pipeline.Cost{Resident: 150 << 20}
}

// A run over outputs that are there already computes no picture, one whose
// outputs have gone makes the very same ones again, with and without a barrier
// between, and a dry run makes none.
func TestPicturesAreMadeAgainOnlyWhenSomebodyLooks(t *testing.T) {
	for _, stages := range []string{
		"shrink", "pairup", "quarter", "twins", "shrink gather", "pairup gather", "quarter gather", "twins gather",
		"shrink shrink gather", "pairup both", "pairup both gather shrink2", "twins shrink gather", "shrink twins",
		"second", "second gather", "pairup corner", "pairup corners", "pairup corners gather", "heavy heavy",
	} {
		t.Run(stages, func(t *testing.T) {
			dir := t.TempDir()
			for i := range 3 {
				put(t, filepath.Join(dir, "in", fmt.Sprintf("%d.png", i)), pngBytes(t, 64, 48, speckle(i)))
			}
			var calls atomic.Int64
			var yaml strings.Builder
			fmt.Fprintf(&yaml, "memory: {host: {limit: 330MiB}}\nsource: {images: {path: %s/in}}\nstages:\n", dir)
			n := 0
			for name := range strings.FieldsSeq(stages) {
				if name == "shrink2" { // a pair's two pictures
					name = "both"
				}
				n++
				fmt.Fprintf(&yaml, "  - id: s%d\n    %s: {}\n", n, name)
			}
			fmt.Fprintf(&yaml, "  - write: {path: %s/out, format: png}\n", dir)
			run := func(o pipeline.RunOptions) (*pipeline.Summary, int64) {
				t.Helper()
				calls.Store(0)
				p, err := pipeline.Load(t.Context(), "p.yaml", []byte(yaml.String()), pipeline.Options{Registry: pictureStages(&calls)})
				if err != nil {
					t.Fatal(err)
				}
				o.Check = true
				s := mustRun(t, p, o)
				if s.Quarantined != 0 {
					t.Fatalf("quarantined %+v", s.Failed)
				}
				return s, calls.Load()
			}
			first, made := run(pipeline.RunOptions{})
			if made == 0 {
				t.Fatal("the first run made nothing")
			}
			before := outputs(t, filepath.Join(dir, "out"))
			if f := forecast(t, yaml.String(), pictureStages(&calls)); f.Reuse != first.Written || f.Write+f.Maybe+f.Compute != 0 {
				t.Errorf("with all %d files there, a dry run says %+v", first.Written, f)
			}

			put(t, filepath.Join(dir, "in", "3.png"), pngBytes(t, 64, 48, speckle(3)))
			if _, again := run(pipeline.RunOptions{}); again != made/3 && !strings.Contains(stages, "heavy") { // whose phase ends before anybody could look
				t.Errorf("with one more input beside 3 that are done: %d calls, want %d", again, made/3)
			}
			for name := range before {
				if err := os.Remove(filepath.Join(dir, "out", name)); err != nil {
					t.Fatal(err)
				}
			}
			if f := forecast(t, yaml.String(), pictureStages(&calls)); f.Retract != 0 || f.Write == 0 || f.Maybe != 0 {
				t.Errorf("with %d files gone, a dry run says %+v", len(before), f)
			}
			if s, dry := run(pipeline.RunOptions{DryRun: true}); dry != 0 || s.In != 4 {
				t.Errorf("a dry run made %d calls", dry)
			}
			s, again := run(pipeline.RunOptions{})
			if again == 0 || s.Written != first.Written {
				t.Errorf("outputs that had gone: %d calls, %d files written, want %d", again, s.Written, first.Written)
			}
			after := outputs(t, filepath.Join(dir, "out"))
			for name, want := range before {
				if !bytes.Equal(after[name], want) {
					t.Errorf("%s is not what it was", name)
				}
			}
		})
	}
}

func forecast(t *testing.T, yaml string, r pipeline.Registry) pipeline.Forecast {
	t.Helper()
	p, err := pipeline.Load(t.Context(), "p.yaml", []byte(yaml), pipeline.Options{Registry: r})
	if err != nil {
		t.Fatal(err)
	}
	run, err := p.Start(t.Context(), pipeline.RunOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run.Wait(); err != nil {
		t.Fatal(err)
	}
	return *run.Forecast()
}

// speckle is a pattern of input n.
func speckle(n int) func(x, y int) color.Color {
	return func(x, y int) color.Color { return color.Gray{Y: uint8(37*x + 101*y + 11*n + x*y)} }
}

// outputs reads the files of an output tree.
func outputs(t *testing.T, root string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for _, path := range everything(t, root) {
		rel, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.IsDir() || strings.HasPrefix(rel, ".forgepipe") {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[rel] = b
	}
	return files
}

func TestNewPicturesOfAPairMustFit(t *testing.T) {
	gray := func(w, h int) image.Image { return image.NewGray(image.Rect(0, 0, w, h)) }
	single := listed{{Name: "a.png", Image: gray(64, 32)}}
	pair := listed{{Name: "a.png", Image: gray(64, 32), Scale: 4, LQ: &pipeline.Input{Name: "a.png", Image: gray(16, 8)}}}
	for name, tt := range map[string]struct {
		source listed
		do     func(it *pipeline.Item)
		cause  string
		scale  int // of what comes out
	}{
		"a companion":                     {single, func(it *pipeline.Item) { it.SetPair(gray(32, 16), 2) }, "", 2},
		"a companion of the same size":    {single, func(it *pipeline.Item) { it.SetPair(gray(64, 32), 1) }, "", 1},
		"a companion that does not fit":   {single, func(it *pipeline.Item) { it.SetPair(gray(32, 15), 2) }, "64 x 32 is not 2 times 32 x 15", 0},
		"a scale that is none":            {single, func(it *pipeline.Item) { it.SetPair(gray(32, 16), -2) }, "is not -2 times", 0},
		"a second companion":              {pair, func(it *pipeline.Item) { it.SetPair(gray(32, 16), 2) }, "has a low-quality companion already", 0},
		"a cropped picture and companion": {single, func(it *pipeline.Item) { it.SetImage(gray(60, 30)); it.SetPair(gray(20, 10), 3) }, "", 3},
		"both":                            {pair, func(it *pipeline.Item) { it.SetImages(gray(128, 64), gray(32, 16)) }, "", 4},
		"both at another scale":           {pair, func(it *pipeline.Item) { it.SetImages(gray(128, 64), gray(64, 32)) }, "128 x 64 is not 4 times 64 x 32", 0},
		"both of a single picture":        {single, func(it *pipeline.Item) { it.SetImages(gray(64, 32), gray(16, 8)) }, "has no low-quality companion that could be replaced", 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := runIt(t, chain(t, tt.source, pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
				tt.do(it)
				return nil
			}), pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
				f, err := it.PairFrame(ctx)
				if err != nil {
					return err
				}
				if scale, _ := it.Pair(); scale != tt.scale || f.Image.Bounds().Size().Mul(scale) != it.Size() {
					t.Errorf("scale %d, %v beside %v", scale, it.Size(), f.Image.Bounds().Size())
				}
				return nil
			})))
			switch {
			case err != nil:
				t.Error(err)
			case tt.cause == "" && s.Out != 1:
				t.Errorf("quarantined %+v", s.Failed)
			case tt.cause != "" && (s.Quarantined != 1 || !strings.Contains(s.Failed[0].Cause, tt.cause)):
				t.Errorf("%d came out, quarantined %+v", s.Out, s.Failed)
			}
		})
	}
}

// twice is a barrier that looks at all before it decides, and does it wrong
// where it is told to.
type twice struct {
	holder
	passes  int
	emitIn  func(pass int) bool
	retries bool
}

func (b *twice) Flush(_ context.Context, held pipeline.HeldItems, emit func(*pipeline.Item) error) error {
	for pass := range b.passes {
		for it, err := range held {
			if err != nil {
				return err
			}
			if !b.emitIn(pass) {
				continue
			}
			if err := emit(it); err != nil {
				return err
			}
			if b.retries {
				return emit(it)
			}
		}
	}
	return nil
}

func TestABarrierMayGoOverItsItemsAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		barrier twice
		bug     string
	}{
		"emits in the first pass":  {twice{passes: 2, emitIn: func(p int) bool { return p == 0 }}, ""},
		"emits in the third pass":  {twice{passes: 3, emitIn: func(p int) bool { return p == 2 }}, ""},
		"emits in two passes":      {twice{passes: 2, emitIn: func(int) bool { return true }}, "in a second pass"},
		"emits in none":            {twice{passes: 2, emitIn: func(int) bool { return false }}, "held 40 items and emitted 0"},
		"emits one and once again": {twice{passes: 1, emitIn: func(int) bool { return true }, retries: true}, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := runIt(t, chain(t, inputs(40), &tt.barrier, pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
				_, err := it.Frame(ctx)
				return err
			})))
			if tt.bug == "" && (err != nil || s.Out != 40) {
				t.Errorf("%v, %+v", err, s)
			}
			if tt.bug != "" && (err == nil || !strings.Contains(err.Error(), tt.bug)) {
				t.Errorf("error %v, want %q", err, tt.bug)
			}
		})
	}
}

// What a barrier's Process found out about an item is cached like the result of
// any other pure stage.
func TestABarriersCallsAreCached(t *testing.T) {
	state := t.TempDir()
	var calls atomic.Int64
	run := func() {
		t.Helper()
		b := &counting{calls: &calls}
		r := pipeline.NewRegistry(pipeline.Info{
			Name: "count", Short: "Counts.", Pure: true, Version: 1,
			New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) { return b, nil },
		})
		p := pipeline.New("", pipeline.Options{})
		p.SetSource(inputs(20))
		if err := p.Use(t.Context(), r, "count", "count", nil); err != nil {
			t.Fatal(err)
		}
		add(t, p, pipeline.Step{ID: "look", Stage: pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
			if v, ok := it.Attr("seen"); !ok || v.String() != it.ID() {
				it.Fail(errors.New("it came without what Process had set"))
			}
			return nil
		})})
		if s := mustRun(t, p, pipeline.RunOptions{StateDir: state}); s.Out != 20 {
			t.Errorf("%+v", s)
		}
	}
	for range 3 {
		run()
	}
	if calls.Load() != 20 {
		t.Errorf("Process was called for %d items, want 20", calls.Load())
	}
}

type counting struct {
	all
	calls *atomic.Int64
}

func (c *counting) Process(_ context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	for _, it := range batch {
		c.calls.Add(1)
		it.SetAttr("seen", pipeline.String(it.ID()))
		it.Hold()
	}
	return nil, nil
}

// A duplicate's caption goes on with what stays, through a second barrier.
func TestSidecarsOfAnotherItem(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "in", "a.png"), gray(t, 16, 16, 1))
	put(t, filepath.Join(dir, "in", "b.png"), gray(t, 16, 16, 2))
	put(t, filepath.Join(dir, "in", "b.txt"), []byte("two"))
	p := fromYAML(t, "source: {images: {path: %s/in}}\nstages:\n  - write: {path: %s/elsewhere}\n", dir, dir)
	var sidecar pipeline.Sidecar
	add(t, p, pipeline.Step{ID: "merge", Workers: 1, Stage: &merging{&sidecar}})
	add(t, p, pipeline.Step{ID: "gather", Stage: &all{}})
	if err := p.Use(t.Context(), standard.Registry(), "write", "out", map[string]any{"path": filepath.Join(dir, "out")}); err != nil {
		t.Fatal(err)
	}
	s := mustRun(t, p, pipeline.RunOptions{})
	if s.Out != 1 || s.Rejected["merge"]["duplicate"] != 1 {
		t.Errorf("%+v", s)
	}
	holds(t, filepath.Join(dir, "out", "a.txt"), []byte("two"))
}

// merging gives b's sidecars to a.
type merging struct{ sidecar *pipeline.Sidecar }

func (*merging) Process(_ context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	for _, it := range batch {
		it.Hold()
	}
	return nil, nil
}

func (m *merging) Flush(_ context.Context, held pipeline.HeldItems, emit func(*pipeline.Item) error) error {
	for it, err := range held {
		if err != nil {
			return err
		}
		if it.ID() == "b.png" {
			*m.sidecar = it.Source().Sidecars[0]
		}
	}
	for it, err := range held {
		if err != nil {
			return err
		}
		if it.ID() == "b.png" {
			it.Reject("duplicate")
		} else {
			it.AddSidecar(*m.sidecar)
		}
		if err := emit(it); err != nil {
			return err
		}
	}
	return nil
}

// The pictures of one call come from one call again, also when a barrier has
// parked each by itself.
func TestOneCallMakesAllItsPicturesAgain(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "in", "a.png"), pngBytes(t, 64, 48, speckle(1)))
	var calls atomic.Int64
	run := func() int64 {
		t.Helper()
		calls.Store(0)
		p, err := pipeline.Load(t.Context(), "p.yaml", fmt.Appendf(nil, "source: {images: {path: %s/in}}\nstages:\n  - twins: {}\n  - gather: {}\n  - write: {path: %s/out}\n", dir, dir), pipeline.Options{Registry: pictureStages(&calls)})
		if err != nil {
			t.Fatal(err)
		}
		mustRun(t, p, pipeline.RunOptions{})
		return calls.Load()
	}
	run()
	for name := range outputs(t, filepath.Join(dir, "out")) {
		if err := os.Remove(filepath.Join(dir, "out", name)); err != nil {
			t.Fatal(err)
		}
	}
	if n := run(); n != 1 {
		t.Errorf("%d calls for the two pictures of one", n)
	}
}

// painter is a barrier that paints what it has counted.
type painter struct{ holder }

func (*painter) Flush(_ context.Context, held pipeline.HeldItems, emit func(*pipeline.Item) error) error {
	n := 0
	for _, err := range held {
		if err != nil {
			return err
		}
		n++
	}
	for it, err := range held {
		if err != nil {
			return err
		}
		img := image.NewGray(image.Rect(0, 0, 8, 8))
		for i := range img.Pix {
			img.Pix[i] = uint8(n)
		}
		it.SetImage(img)
		if err := emit(it); err != nil {
			return err
		}
	}
	return nil
}

// A picture that a barrier sets when it has seen everything depends on
// everything, and nothing that is made of it may be known by the item alone.
func TestAPictureSetInFlushIsNotKnownByItsItem(t *testing.T) {
	dir := t.TempDir()
	var calls atomic.Int64
	pure := func(name string, s pipeline.Stage) pipeline.Info {
		return pipeline.Info{
			Name: name, Short: "Tests.", Pure: true, Version: 1,
			New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) { return s, nil },
		}
	}
	run := func(n int) {
		t.Helper()
		put(t, filepath.Join(dir, "in", fmt.Sprintf("%d.png", n)), pngBytes(t, 64, 48, speckle(n)))
		r := pictureStages(&calls).With(pure("paint", &painter{}))
		p, err := pipeline.Load(t.Context(), "p.yaml", fmt.Appendf(nil, "source: {images: {path: %s/in}}\nstages:\n  - paint: {}\n  - shrink: {}\n  - write: {path: %s/out}\n", dir, dir), pipeline.Options{Registry: r})
		if err != nil {
			t.Fatal(err)
		}
		mustRun(t, p, pipeline.RunOptions{})
		img, err := png.Decode(bytes.NewReader(outputs(t, filepath.Join(dir, "out"))["1.png"]))
		if err != nil {
			t.Fatal(err)
		}
		if got := color.GrayModel.Convert(img.At(0, 0)).(color.Gray).Y; int(got) != n {
			t.Errorf("with %d inputs, 1.png shows %d", n, got)
		}
	}
	run(1)
	run(2)
}

// A sidecar that came from another item is copied again when the other item is
// another one, though size and time are the same.
func TestATakenSidecarIsKnownByItsFile(t *testing.T) {
	dir := t.TempDir()
	at := time.Unix(1_700_000_000, 0)
	run := func(caption string, other string) {
		t.Helper()
		put(t, filepath.Join(dir, "in", "a.png"), gray(t, 16, 16, 1))
		put(t, filepath.Join(dir, "in", other+".png"), gray(t, 16, 16, 1))
		txt := put(t, filepath.Join(dir, "in", other+".txt"), []byte(caption))
		if err := os.Chtimes(txt, at, at); err != nil {
			t.Fatal(err)
		}
		mustRun(t, fromYAML(t, "source: {images: {path: %s/in}}\nstages:\n  - dedup: {by: sha256, sidecars: merge}\n  - write: {path: %s/out}\n", dir, dir), pipeline.RunOptions{})
		holds(t, filepath.Join(dir, "out", "a.txt"), []byte(caption))
	}
	run("AAAA", "b")
	for _, name := range []string{"b.png", "b.txt"} {
		if err := os.Remove(filepath.Join(dir, "in", name)); err != nil {
			t.Fatal(err)
		}
	}
	run("BBBB", "c")
}

// A picture that a stage is done with makes room where nobody behind it looks at
// pictures; otherwise it stays, and either way it is there again when it is wanted.
func TestDoneGivesThePictureUpWhereNobodyLooksLater(t *testing.T) {
	for _, tt := range []struct {
		name, later string
		kept        bool
	}{
		{"nobody looks", "filter: {keep: 'width > 0'}", false},
		{"somebody looks", "look: {}", true},
		{"it is written", "write: {path: DIR/out}", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			const n = 12
			for i := range n { // large enough for their memory to be used again
				put(t, filepath.Join(dir, "in", fmt.Sprintf("%02d.jpg", i)), jpegBytes(t, 640, 480, speckle(i)))
			}
			at := func(img image.Image) (sum [4]uint32) {
				for y := range 480 {
					r, g, b, a := img.At(y, y).RGBA()
					sum = [4]uint32{sum[0]*31 + r, sum[1]*31 + g, sum[2]*31 + b, sum[3]*31 + a}
				}
				return sum
			}
			var kept atomic.Int64
			embed := batchStage(func(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
				sums := make([][4]uint32, len(batch))
				frames := make([]image.Image, len(batch))
				for i, it := range batch {
					f, err := it.Frame(ctx)
					if err != nil {
						return nil, err
					}
					sums[i], frames[i] = at(f.Image), f.Image
					it.Done()
				}
				for i, it := range batch {
					f, err := it.Frame(ctx)
					if err != nil {
						return nil, err
					}
					if at(f.Image) != sums[i] {
						return nil, fmt.Errorf("%s has other samples after Done", it.ID())
					}
					if f.Image == frames[i] {
						kept.Add(1)
					}
				}
				return batch, nil
			})
			look := pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
				_, err := it.Frame(ctx)
				return err
			})
			info := func(name string, s pipeline.Stage) pipeline.Info {
				return pipeline.Info{Name: name, Short: "Tests.", New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) { return s, nil }}
			}
			yaml := fmt.Sprintf("source: {images: {path: %s/in}}\nstages:\n  - embed: {}\n    workers: 1\n  - %s\n", dir, strings.ReplaceAll(tt.later, "DIR", dir))
			p, err := pipeline.Load(t.Context(), "p.yaml", []byte(yaml), pipeline.Options{Registry: standard.Registry().With(info("embed", embed), info("look", look))})
			if err != nil {
				t.Fatal(err)
			}
			if s := mustRun(t, p, pipeline.RunOptions{NoStore: true}); s.Out != n {
				t.Fatalf("%d of %d went through: %+v", s.Out, n, s)
			}
			want := int64(0)
			if tt.kept {
				want = n
			}
			if kept.Load() != want {
				t.Errorf("%d of %d pictures were kept, want %d", kept.Load(), n, want)
			}
		})
	}
}

func jpegBytes(t *testing.T, w, h int, at func(x, y int) color.Color) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.Set(x, y, at(x, y))
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
