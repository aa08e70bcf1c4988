package pair_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/forgepipe/forgepipe/internal/resample"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/pair"
	"github.com/forgepipe/forgepipe/stages/score"
	"github.com/forgepipe/forgepipe/stages/tile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type values = map[string]any

func step(v values) stagetest.Step { return stagetest.Step{Info: pair.Info(), Values: v} }

// samples are the type and the samples of a picture, wherever it lies.
func samples(img image.Image) string {
	b := img.Bounds()
	out := fmt.Sprintf("%T %v", img, b.Size())
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			out += fmt.Sprint(img.At(x, y))
		}
	}
	return out
}

// companion is a low-quality image at the end of a chain.
type companion struct {
	scale int
	img   image.Image
}

func run(t *testing.T, o pipeline.RunOptions, src stagetest.Source, steps ...stagetest.Step) (*pipeline.Summary, map[string]stagetest.Seen, map[string]companion) {
	t.Helper()
	b := stagetest.New(t, src, steps...)
	var mu sync.Mutex
	lqs := map[string]companion{}
	look := pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		scale, _ := it.Pair()
		f, err := it.PairFrame(ctx)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		lqs[it.ID()] = companion{scale, f.Image}
		return nil
	})
	if err := b.Add(pipeline.Step{ID: "look", Stage: look}); err != nil {
		t.Fatal(err)
	}
	s, seen := b.Run(t, o)
	return s, seen, lqs
}

func TestCompanions(t *testing.T) {
	r := image.Rect(0, 0, 24, 16)
	clear := image.NewPaletted(r, color.Palette{color.NRGBA{R: 200, A: 255}, color.NRGBA{}})
	for i := range clear.Pix {
		clear.Pix[i] = uint8(i / 5 % 2)
	}
	for _, img := range []image.Image{
		stagetest.Gray(24, 16), stagetest.Noise(image.NewGray16(r)), stagetest.Noise(image.NewRGBA(r)), stagetest.Noise(image.NewNRGBA(r)), stagetest.Noise(image.NewNRGBA64(r)), clear,
	} {
		for _, v := range []values{{"scale": 4}, {"scale": 2, "filter": "box"}, {"scale": 8, "filter": "bicubic", "crop": true}} {
			_, seen, lqs := run(t, pipeline.RunOptions{NoStore: true}, stagetest.Source{stagetest.Picture("p", img)}, step(v))
			if seen["p"].Image != img {
				t.Errorf("%T: the image itself is another", img)
			}
			filter, _ := v["filter"].(string)
			if filter == "" {
				filter = "lanczos"
			}
			scale := v["scale"].(int)
			want := resample.Resize(img, image.Pt(24/scale, 16/scale), resample.Named(filter))
			if got := lqs["p"]; got.scale != scale || samples(got.img) != samples(want) {
				t.Errorf("%T, %v: scale %d, %v", img, v, got.scale, got.img)
			}
		}
	}
}

// TestBoxIsTheMean needs no reference.
func TestBoxIsTheMean(t *testing.T) {
	img := image.NewGray(image.Rect(0, 0, 4, 2))
	copy(img.Pix, []uint8{10, 20, 0, 255, 30, 40, 0, 255})
	_, _, lqs := run(t, pipeline.RunOptions{NoStore: true}, stagetest.Source{stagetest.Picture("p", img)}, step(values{"scale": 2, "filter": "box"}))
	if got := lqs["p"].img.(*image.Gray).Pix; !bytes.Equal(got, []byte{25, 128}) {
		t.Errorf("companion %v", got)
	}
}

func TestSides(t *testing.T) {
	tests := map[string]struct {
		w, h  int
		crop  bool
		want  image.Point // of the companion; zero when the item fails
		cause string
	}{
		"multiples":       {16, 8, false, image.Pt(4, 2), ""},
		"one":             {4, 4, false, image.Pt(1, 1), ""},
		"width is none":   {17, 8, false, image.Point{}, "17 x 8 is no multiple of the scale 4: set crop: true"},
		"height is none":  {16, 9, false, image.Point{}, "16 x 9 is no multiple of the scale 4: set crop: true"},
		"cropped":         {19, 11, true, image.Pt(4, 2), ""},
		"nothing to crop": {16, 8, true, image.Pt(4, 2), ""},
		"too narrow":      {3, 8, true, image.Point{}, "3 x 8 is too small for a companion at scale 4"},
		"too low":         {16, 1, false, image.Point{}, "16 x 1 is too small for a companion at scale 4"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			src := stagetest.Gray(tt.w, tt.h)
			s, seen, lqs := run(t, pipeline.RunOptions{NoStore: true}, stagetest.Source{stagetest.Picture("p", src)}, step(values{"scale": 4, "crop": tt.crop}))
			if tt.cause != "" {
				if len(seen) != 0 || len(s.Failed) != 1 || !strings.Contains(s.Failed[0].Cause, tt.cause) {
					t.Errorf("failed %v, want %q", s.Failed, tt.cause)
				}
				return
			}
			hq := src.(*image.Gray).SubImage(image.Rectangle{Max: tt.want.Mul(4)})
			if samples(seen["p"].Image) != samples(hq) {
				t.Errorf("item of %v", seen["p"].Size)
			}
			if samples(lqs["p"].img) != samples(resample.Resize(hq, tt.want, resample.Named("lanczos"))) {
				t.Errorf("companion %v", lqs["p"].img)
			}
		})
	}
}

func TestPairsHaveCompanionsAlready(t *testing.T) {
	b := stagetest.New(t, stagetest.Source{stagetest.Picture("p", stagetest.Gray(16, 16))}, step(values{"scale": 2}), step(values{"scale": 4}))
	s, seen := b.Run(t, pipeline.RunOptions{})
	if len(seen) != 0 || len(s.Failed) != 1 || !strings.Contains(s.Failed[0].Cause, "has a low-quality companion already") {
		t.Errorf("failed %v", s.Failed)
	}
}

// TestPairsMoveAsOne cuts tiles from a pair that was made, and makes pairs of
// tiles.
func TestPairsMoveAsOne(t *testing.T) {
	img := stagetest.Gray(64, 32)
	cut := stagetest.Step{Info: tile.Info(), Values: values{"size": 32}}
	box := step(values{"scale": 4, "filter": "box"}) // which does not look beyond a tile
	for name, steps := range map[string][]stagetest.Step{"pair first": {box, cut}, "tile first": {cut, box}} {
		_, _, lqs := run(t, pipeline.RunOptions{NoStore: true}, stagetest.Source{stagetest.Picture("p", img)}, steps...)
		small := resample.Resize(img, image.Pt(16, 8), resample.Named("box")).(*image.Gray)
		for x := range 2 {
			got := lqs[fmt.Sprintf("p@tile=32,%d,0", 32*x)]
			if want := small.SubImage(image.Rect(8*x, 0, 8*x+8, 8)); got.img == nil || samples(got.img) != samples(want) {
				t.Errorf("%s: tile %d has the companion %v", name, x, got.img)
			}
		}
	}
}

// TestAttributes stay, as they describe the image itself, unless it was cut.
func TestAttributes(t *testing.T) {
	laplacian := stagetest.Step{Info: score.Info(), Values: values{"metrics": []string{"laplacian"}}}
	_, seen, _ := run(t, pipeline.RunOptions{NoStore: true},
		stagetest.Source{stagetest.Picture("whole", stagetest.Gray(16, 16)), stagetest.Picture("cut", stagetest.Gray(17, 16))},
		laplacian, step(values{"scale": 4, "crop": true}))
	for name, want := range map[string]bool{"whole": true, "cut": false} {
		if _, ok := seen[name].Attributes["laplacian"]; ok != want {
			t.Errorf("%s has its laplacian: %t", name, ok)
		}
	}
}

func TestResultsAreCached(t *testing.T) {
	dir := t.TempDir()
	img := stagetest.Gray(17, 16)
	var first companion
	for i, cached := range []int64{0, 1} {
		s, seen, lqs := run(t, pipeline.RunOptions{StateDir: dir}, stagetest.Source{stagetest.Picture("p", img)}, step(values{"scale": 4, "crop": true}))
		if s.Cached != cached || seen["p"].Size != image.Pt(16, 16) || !seen["p"].Paired {
			t.Errorf("run %d took %d from the cache: %+v", i, s.Cached, seen["p"])
		}
		if first.img == nil {
			first = lqs["p"]
		}
		if lqs["p"].scale != first.scale || samples(lqs["p"].img) != samples(first.img) {
			t.Errorf("run %d: companion %v", i, lqs["p"])
		}
	}
}

// The message names this stage, which is not one that people suspect.
func TestBlockinessFailsAfterACrop(t *testing.T) {
	for name, tt := range map[string]struct {
		width int
		want  string
	}{
		"cropped": {65, "before pair with crop: true"}, "multiple": {64, ""},
	} {
		s, _ := stagetest.New(t, stagetest.Source{stagetest.Picture("p", stagetest.Gray(tt.width, 64))}, step(values{"scale": 4, "crop": true}),
			stagetest.Step{Info: score.Info(), Values: values{"metrics": []string{"blockiness"}}}).Run(t, pipeline.RunOptions{})
		cause := ""
		if len(s.Failed) == 1 {
			cause = s.Failed[0].Cause
		}
		if !strings.Contains(cause, tt.want) || (cause == "") != (tt.want == "") {
			t.Errorf("%s: cause %q, want %q", name, cause, tt.want)
		}
	}
}

func TestCost(t *testing.T) {
	tests := map[string]struct {
		w, h int
		crop bool
		want int64 // bytes
	}{
		"multiples":   {64, 32, true, 16 * 8},
		"cropped":     {65, 32, true, 16*8 + 64*32},
		"too small":   {64, 3, true, 0},
		"no multiple": {65, 32, false, 0},
	}
	for name, tt := range tests {
		cost, plan := stagetest.Cost(t, step(values{"scale": 4, "crop": tt.crop}), stagetest.Picture("p", stagetest.Gray(tt.w, tt.h)))
		if cost.Output != tt.want || (cost.Work > 0) != (tt.want > 0) {
			t.Errorf("%s: %+v, want %d", name, cost, tt.want)
		}
		if plan.Output != 4*1000*750 {
			t.Errorf("for planning, the cost is %+v", plan)
		}
	}
}

func TestWrongConfigurations(t *testing.T) {
	tests := map[string]struct {
		values values
		field  string
		want   string
	}{
		"no scale":  {values{}, "scale", "pair needs scale"},
		"one":       {values{"scale": 1}, "scale", "below the minimum, 2"},
		"too large": {values{"scale": 17}, "scale", "above the maximum, 16"},
		"unknown":   {values{"scale": 2, "filter": "lancos"}, "filter", `did you mean "lanczos"?`},
	}
	for name, tt := range tests {
		err := stagetest.Err(t, step(tt.values))
		var fe *pipeline.FieldError
		if !errors.As(err, &fe) || fe.Field != tt.field || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one of %s with %q", name, err, tt.field, tt.want)
		}
	}
}
