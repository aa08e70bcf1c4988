package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// listed is a source of given inputs.
type listed []pipeline.Input

func (l listed) Emit(_ context.Context, emit func(pipeline.Input) error) error {
	for _, in := range l {
		if err := emit(in); err != nil {
			return err
		}
	}
	return nil
}

func pngBytes(t testing.TB, w, h int, at func(x, y int) color.Color) []byte {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.Set(x, y, at(x, y))
		}
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func writeFile(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func gradient(x, y int) color.Color { return color.NRGBA{uint8(x), uint8(y), uint8(x ^ y), 255} }

func TestAFileThatVanishesOrChanges(t *testing.T) {
	decode := pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		if _, err := it.Frame(ctx); err != nil {
			it.Fail(err)
		}
		return nil
	})
	t.Run("vanished before it was opened", func(t *testing.T) {
		s, err := runIt(t, chain(t, listed{{Name: "gone.png", Path: filepath.Join(t.TempDir(), "gone.png")}, input(1)}, decode))
		if err != nil || s.Quarantined != 1 || s.Out != 1 || !strings.Contains(s.Failed[0].Cause, "no such file") {
			t.Errorf("%v, %+v", err, s)
		}
	})
	t.Run("touched while it is read", func(t *testing.T) {
		path := writeFile(t, "busy.png", append(pngBytes(t, 64, 64, gradient), make([]byte, 40<<20)...))
		stop := make(chan struct{})
		var writer sync.WaitGroup
		writer.Go(func() {
			for i := time.Duration(0); ; i++ {
				select {
				case <-stop:
					return
				default:
					_ = os.Chtimes(path, time.Time{}, time.Unix(1_700_000_000, 0).Add(i*time.Millisecond))
				}
			}
		})
		s, err := runIt(t, chain(t, listed{{Name: "busy.png", Path: path}, input(1)}, decode))
		close(stop)
		writer.Wait()
		if err != nil || s.Quarantined != 1 || s.Out != 1 || !strings.Contains(s.Failed[0].Cause, "changed while it was being read") {
			t.Errorf("%v, %+v", err, s)
		}
	})
	t.Run("changed between hashing and decoding", func(t *testing.T) {
		content := pngBytes(t, 64, 64, gradient)
		path := writeFile(t, "late.png", content)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		h := &holder{} // parks the item, so that its file is read again
		p := chain(t, listed{{Name: "late.png", Path: path}}, pipeline.Func(func(context.Context, *pipeline.Item) error {
			content[len(content)-20] ^= 1 // same size, same time
			if err := os.WriteFile(path, content, 0o666); err != nil {
				return err
			}
			return os.Chtimes(path, time.Time{}, info.ModTime())
		}), h, decode)
		s, err := runIt(t, p)
		if err != nil || s.Quarantined != 1 || !strings.Contains(s.Failed[0].Cause, "changed while it was being read") {
			t.Errorf("%v, %+v", err, s)
		}
	})
}

func TestTwoInputsOfOneName(t *testing.T) {
	a, b := input(1), input(2)
	b.Name = a.Name
	s, err := runIt(t, chain(t, listed{a, b, input(3)}, pass))
	if err != nil || s.Quarantined != 1 || s.Out != 2 || !strings.Contains(s.Failed[0].Cause, "same name") {
		t.Errorf("%v, %+v", err, s)
	}
}

func TestPairsMoveAsOne(t *testing.T) {
	const scale = 2
	hq := writeFile(t, "hq.png", pngBytes(t, 64, 32, gradient))
	lq := writeFile(t, "lq.png", pngBytes(t, 32, 16, func(x, y int) color.Color { return gradient(x*scale, y*scale) }))
	wrong := writeFile(t, "wrong.png", pngBytes(t, 30, 16, gradient))
	pair := func(name, low string) pipeline.Input {
		return pipeline.Input{Name: name, Path: hq, Scale: scale, LQ: &pipeline.Input{Name: name, Path: low}}
	}
	tiles := batchStage(func(_ context.Context, b []*pipeline.Item) (out []*pipeline.Item, _ error) {
		for _, it := range b {
			for _, r := range []image.Rectangle{image.Rect(0, 0, 16, 16), image.Rect(32, 16, 48, 32), image.Rect(1, 0, 17, 16)} {
				out = append(out, it.Derive(fmt.Sprintf("tile=16,%d,%d", r.Min.X, r.Min.Y), pipeline.Crop(r)))
			}
		}
		return out, nil
	})
	look := pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		h, err := it.Frame(ctx)
		if err != nil {
			return err
		}
		l, err := it.PairFrame(ctx)
		if err != nil {
			return err
		}
		if s, ok := it.Pair(); !ok || s != scale || l.Image.Bounds().Dx()*scale != h.Image.Bounds().Dx() {
			it.Fail(fmt.Errorf("scale %d, %v beside %v", s, l.Image.Bounds(), h.Image.Bounds()))
			return nil
		}
		hm, lm := h.Image.Bounds().Min, l.Image.Bounds().Min
		for y := range l.Image.Bounds().Dy() {
			for x := range l.Image.Bounds().Dx() {
				if a, b := h.Image.At(hm.X+x*scale, hm.Y+y*scale), l.Image.At(lm.X+x, lm.Y+y); a != b {
					it.Fail(fmt.Errorf("%d, %d: %v beside %v", x, y, b, a))
					return nil
				}
			}
		}
		return nil
	})
	for name, stages := range map[string][]pipeline.Stage{
		"straight": {tiles, look}, "through a barrier": {tiles, &holder{}, look}, "held whole": {&holder{}, tiles, look},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := runIt(t, chain(t, listed{pair("a.png", lq), pair("b.png", wrong)}, stages...))
			if err != nil {
				t.Fatal(err)
			}
			// b does not fit; of a's tiles one is not aligned.
			if s.Quarantined != 2 {
				t.Errorf("quarantined %+v", s.Failed)
			}
			for _, f := range s.Failed {
				if !strings.Contains(f.Cause, "pair does not fit") && !strings.Contains(f.Cause, "not aligned to the pair's scale 2") {
					t.Errorf("%s: %s", f.ID, f.Cause)
				}
			}
		})
	}
}

func TestTheBlockLatticeIsCarriedAlong(t *testing.T) {
	path := writeFile(t, "a.png", pngBytes(t, 64, 64, gradient))
	var mu sync.Mutex
	got := map[string]pipeline.Grid{}
	p := chain(t, listed{{Name: "a.png", Path: path}}, batchStage(func(_ context.Context, b []*pipeline.Item) (out []*pipeline.Item, _ error) {
		for _, it := range b {
			out = append(out, it, it.Derive("c", pipeline.Crop(image.Rect(3, 18, 43, 58))))
		}
		return out, nil
	}), batchStage(func(_ context.Context, b []*pipeline.Item) (out []*pipeline.Item, _ error) {
		for _, it := range b {
			out = append(out, it, it.Derive("d", pipeline.Crop(image.Rect(6, 6, 20, 20))))
		}
		return out, nil
	}), &holder{}, pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		if it.ID() == "a.png" {
			f, err := it.Frame(ctx)
			if err != nil {
				return err
			}
			small := image.NewNRGBA(image.Rect(0, 0, 32, 32))
			draw.Draw(small, small.Rect, f.Image, image.Point{}, draw.Src)
			it.SetImage(small)
		}
		return nil
	}), pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		mu.Lock()
		defer mu.Unlock()
		got[it.ID()] = it.Grid()
		return nil
	}))
	if _, err := runIt(t, p); err != nil {
		t.Fatal(err)
	}
	want := map[string]pipeline.Grid{
		"a.png": {}, "a.png@c@d": {X: 1, Y: 0, Known: true},
	}
	for id, w := range want {
		if g, ok := got[id]; !ok || g != w {
			t.Errorf("%s: %+v, want %+v (of %v)", id, g, w, got)
		}
	}
}

// Attributes describe pixels: a crop has none of its parent's, and a new
// picture none of the old one's.
func TestAttributesBelongToPixels(t *testing.T) {
	p := chain(t, inputs(1), pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		it.SetAttr("score", pipeline.Float(1))
		it.SetVector(pipeline.Vector{Name: "v", Data: []float32{1, 2}})
		return nil
	}), batchStage(func(_ context.Context, b []*pipeline.Item) (out []*pipeline.Item, _ error) {
		for _, it := range b {
			out = append(out, it, it.Derive("crop", pipeline.Crop(image.Rect(0, 0, 4, 4))))
		}
		return out, nil
	}), pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		_, has := it.Attr("score")
		_, hasVector := it.Vector("v")
		if derived := it.Lineage() != ""; has == derived || hasVector == derived {
			it.Fail(fmt.Errorf("attribute %v, vector %v", has, hasVector))
		}
		if w, _ := it.Attr("source.width"); w.Int() != 16 {
			it.Fail(errors.New("source.width is gone"))
		}
		it.SetImage(image.NewGray(image.Rect(0, 0, 2, 3)))
		return nil
	}), pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		if _, has := it.Attr("score"); has || len(it.Vectors()) > 0 {
			it.Fail(errors.New("the old picture's attributes are still there"))
		}
		if h, _ := it.Attr("height"); h.Int() != 3 {
			it.Fail(fmt.Errorf("height %d", h.Int()))
		}
		return nil
	}))
	s, err := runIt(t, p)
	if err != nil || s.Quarantined != 0 || s.Out != 2 {
		t.Errorf("%v, %+v", err, s)
	}
}

// A picture that a stage made cannot be had from the source again: a barrier
// spills it and gives it back as it was.
func TestReplacedPixelsSurviveABarrier(t *testing.T) {
	p := chain(t, inputs(9), pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		img := image.NewGray16(image.Rect(0, 0, 5, 5))
		for i := range img.Pix {
			img.Pix[i] = byte(i) ^ it.ID()[len("dir/000")]
		}
		it.SetImage(img)
		return nil
	}), &holder{}, pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		f, err := it.Frame(ctx)
		if err != nil {
			return err
		}
		g, ok := f.Image.(*image.Gray16)
		if !ok {
			it.Fail(fmt.Errorf("came back as %T", f.Image))
			return nil
		}
		for i := range g.Pix {
			if g.Pix[i] != byte(i)^it.ID()[len("dir/000")] {
				it.Fail(fmt.Errorf("sample %d differs", i))
			}
		}
		return nil
	}))
	s, err := runIt(t, p)
	if err != nil || s.Quarantined != 0 || s.Out != 5 {
		t.Errorf("%v, %+v", err, s)
	}
}

// The outcome depends on the inputs alone: not on their order, the number of
// workers, or how items are batched.
func TestOrderWorkersAndBatchesDoNotMatter(t *testing.T) {
	w := newWorkplace(t)
	var in listed
	for i := range 12 {
		name := fmt.Sprintf("%d/%d.jpg", i%3, i)
		w.picture(name, uint64(i))
		in = append(in, pipeline.Input{Name: name, Path: filepath.Join(w.in, name)})
	}
	var want map[string]string
	for i, o := range []struct{ workers, batch, turn int }{{1, 1, 0}, {8, 1, 3}, {1, 64, 7}, {8, 64, 11}, {3, 5, 1}} {
		out := filepath.Join(t.TempDir(), "out")
		p := pipeline.New("order", pipeline.Options{})
		p.SetSource(append(append(listed{}, in[o.turn:]...), in[:o.turn]...))
		for _, s := range []struct {
			name   string
			values map[string]any
		}{
			{"tile", map[string]any{"size": 32}}, {"score", map[string]any{"metrics": []string{"laplacian"}}},
			{"filter", map[string]any{"keep": "laplacian >= 20"}}, {"write", map[string]any{"path": out, "format": "png"}},
			{"manifest", map[string]any{"path": filepath.Join(out, "manifest.jsonl")}},
		} {
			if err := p.Use(t.Context(), standard.Registry(), s.name, s.name, s.values); err != nil {
				t.Fatal(err)
			}
		}
		p.Pin(o.workers, o.batch)
		if _, err := p.Run(t.Context(), pipeline.RunOptions{Check: true}); err != nil {
			t.Fatal(err)
		}
		got := tree(t, out)
		if i == 0 {
			want = got
			if len(want) < 12 {
				t.Fatalf("only %v", want)
			}
			continue
		}
		sameTree(t, fmt.Sprintf("%+v", o), got, want)
	}
}
