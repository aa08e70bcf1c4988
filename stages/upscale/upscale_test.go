package upscale_test

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/draw"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/internal/resample"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/upscale"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type values = map[string]any

func step(v values) stagetest.Step { return stagetest.Step{Info: upscale.Info(), Values: v} }

// alike reports whether two pictures have the same type and samples.
func alike(a, b image.Image) bool {
	return fmt.Sprintf("%T %v", a, a) == fmt.Sprintf("%T %v", b, b)
}

func TestPicturesGetLarger(t *testing.T) {
	r := image.Rect(0, 0, 9, 7)
	for _, img := range []draw.Image{
		image.NewGray(r), image.NewGray16(r), image.NewRGBA(r), image.NewNRGBA(r), image.NewNRGBA64(r), image.NewGray(image.Rect(0, 0, 1, 1)),
	} {
		stagetest.Noise(img)
		for _, method := range []string{"nearest", "lanczos"} {
			for _, scale := range []int{2, 3, 8} {
				_, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", img)},
					step(values{"scale": scale, "method": method})).Run(t, pipeline.RunOptions{NoStore: true})
				want := resample.Resize(img, img.Bounds().Size().Mul(scale), resample.Named(method))
				if got := seen["p"]; !alike(got.Image, want) || got.Grid.Known {
					t.Errorf("%T %v times %d, %s: %v", img, img.Bounds(), scale, method, got)
				}
			}
		}
	}
}

// TestNearestRepeatsPixels needs no reference.
func TestNearestRepeatsPixels(t *testing.T) {
	img := stagetest.Noise(image.NewNRGBA(image.Rect(0, 0, 5, 4)))
	_, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", img)},
		step(values{"scale": 3, "method": "nearest"})).Run(t, pipeline.RunOptions{NoStore: true})
	for y := range 12 {
		for x := range 15 {
			if got, want := seen["p"].Image.At(x, y), img.At(x/3, y/3); got != want {
				t.Fatalf("at %d, %d: %v, want %v", x, y, got, want)
			}
		}
	}
}

func TestPairs(t *testing.T) {
	hq, lq := stagetest.Noise(image.NewGray(image.Rect(0, 0, 16, 8))), stagetest.Noise(image.NewGray(image.Rect(0, 0, 4, 2)))
	in := stagetest.Picture("p", hq)
	companion := stagetest.Picture("lq", lq)
	in.LQ, in.Scale = &companion, 4

	s, seen := stagetest.New(t, stagetest.Source{in}, step(values{"scale": 2, "method": "bicubic"})).Run(t, pipeline.RunOptions{})
	if len(seen) != 0 || len(s.Failed) != 1 || !strings.Contains(s.Failed[0].Cause, "set apply: both") {
		t.Errorf("failed %v", s.Failed)
	}

	b := stagetest.New(t, stagetest.Source{in}, step(values{"scale": 2, "method": "bicubic", "apply": "both"}))
	look := pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		f, err := it.PairFrame(ctx)
		if err != nil {
			return err
		}
		if scale, _ := it.Pair(); scale != 4 || !alike(f.Image, resample.Resize(lq, image.Pt(8, 4), resample.Named("bicubic"))) {
			return fmt.Errorf("scale %d, companion %v", scale, f.Image)
		}
		return nil
	})
	if err := b.Add(pipeline.Step{ID: "look", Stage: look}); err != nil {
		t.Fatal(err)
	}
	_, seen = b.Run(t, pipeline.RunOptions{})
	if got := seen["p"]; !got.Paired || !alike(got.Image, resample.Resize(hq, image.Pt(32, 16), resample.Named("bicubic"))) {
		t.Errorf("paired %t, %v", got.Paired, got.Size)
	}
}

func TestTooManyPixels(t *testing.T) {
	for _, tt := range []struct {
		max    int64
		failed bool
	}{{18*14 - 1, true}, {18 * 14, false}} {
		b := stagetest.New(t, stagetest.Source{stagetest.Picture("p", image.NewGray(image.Rect(0, 0, 9, 7)))})
		b.Limits = imageio.Limits{MaxPixels: tt.max, MaxFileBytes: 1 << 20}
		if err := b.Use(t.Context(), pipeline.NewRegistry(upscale.Info()), "upscale", "upscale", values{"scale": 2, "method": "box"}); err != nil {
			t.Fatal(err)
		}
		s, _ := b.Run(t, pipeline.RunOptions{})
		if failed := len(s.Failed) == 1 && strings.Contains(s.Failed[0].Cause, "2 times 9 x 7 would have more than the 251 pixels that limits.pixels allows"); failed != tt.failed {
			t.Errorf("limit %d: failed %v", tt.max, s.Failed)
		}
	}
}

func TestResultsAreCached(t *testing.T) {
	dir := t.TempDir()
	img := stagetest.Noise(image.NewGray(image.Rect(0, 0, 9, 7)))
	want := resample.Resize(img, image.Pt(18, 14), resample.Named("lanczos"))
	for i, cached := range []int64{0, 1} {
		s, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", img)}, step(values{"scale": 2, "method": "lanczos"})).
			Run(t, pipeline.RunOptions{StateDir: dir})
		if s.Cached != cached || !alike(seen["p"].Image, want) {
			t.Errorf("run %d took %d from the cache: %v", i, s.Cached, seen["p"])
		}
	}
}

// TestGrayPicturesNeedAByteAPixel runs what takes 61 MiB with a quarter of the
// room that 8 bytes a pixel would take.
func TestGrayPicturesNeedAByteAPixel(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.png")
	if err := stagetest.WritePicture(file, image.Pt(1000, 1000)); err != nil {
		t.Fatal(err)
	}
	b := stagetest.New(t, stagetest.Source{{Name: "a.png", Path: file}}, step(values{"scale": 8, "method": "nearest"}))
	b.HostLimit = pipeline.Amount{Bytes: 300 << 20}
	s, seen := b.Run(t, pipeline.RunOptions{NoStore: true})
	if got := seen["a.png"]; got.Size != image.Pt(8000, 8000) {
		t.Errorf("%v, failed %v", got.Size, s.Failed)
	}
}

func TestCost(t *testing.T) {
	single := stagetest.Picture("p", image.NewGray16(image.Rect(0, 0, 40, 20)))
	paired, lq := single, stagetest.Picture("lq", image.NewGray16(image.Rect(0, 0, 10, 5)))
	paired.LQ, paired.Scale = &lq, 4
	huge := stagetest.Picture("p", image.NewGray(image.Rect(0, 0, 8000, 1000)))
	tests := map[string]struct {
		in    pipeline.Input
		apply string
		want  int64 // bytes
	}{
		"single":         {single, "single", 2 * 320 * 160},
		"a pair":         {paired, "both", 2 * (320*160 + 80*40)},
		"a pair refused": {paired, "single", 0},
		"too many":       {huge, "single", 0},
	}
	for name, tt := range tests {
		cost, plan := stagetest.Cost(t, step(values{"scale": 8, "method": "lanczos", "apply": tt.apply}), tt.in)
		if cost.Output != tt.want || (cost.Work > 0) != (tt.want > 0) {
			t.Errorf("%s: %+v, want %d", name, cost, tt.want)
		}
		if plan.Output != 4*32000*24000 {
			t.Errorf("for planning, the cost is %+v", plan)
		}
	}
}

// What is copied of a picture, and the result of a pair, are counted at what they can take.
func TestCostWithANetwork(t *testing.T) {
	v := values{"model": saved(t, repeater(2, 3, 0, nil)), "tile": 32, "apply": "both"}
	of := func(in pipeline.Input) pipeline.Cost {
		cost, _ := stagetest.Cost(t, step(v), in)
		return cost
	}
	small, large := image.NewRGBA(image.Rect(0, 0, 100, 100)), image.NewRGBA(image.Rect(0, 0, 200, 100))
	// Colours of 16 bits, what is transparent in them, and alpha.
	if got := of(stagetest.Picture("p", large)).Work - of(stagetest.Picture("p", small)).Work; got != (8+2+1)*100*100 {
		t.Errorf("a call works with %d bytes for 10,000 pixels more", got)
	}
	single, lq := stagetest.Picture("p", image.NewGray(image.Rect(0, 0, 40, 20))), stagetest.Picture("lq", image.NewNRGBA64(image.Rect(0, 0, 10, 5)))
	paired := single
	paired.LQ, paired.Scale = &lq, 4
	if got := of(paired).Output - of(single).Output; got != 4*8*10*5 {
		t.Errorf("the low-quality image's result takes %d bytes", got)
	}
}

// A card has room for the network in float32 too, which tiles may need.
func TestCostOfFloat16OnAGPU(t *testing.T) {
	file := saved(t, testnet.Compact(2, 8, 1))
	of := func(precision string) pipeline.Cost {
		s := step(values{"model": file, "tile": 32, "infer_batch": 1, "precision": precision})
		c, err := pipeline.NewConfig(s.Info, s.Values)
		if err != nil {
			t.Fatal(err)
		}
		stage, err := s.Info.New(t.Context(), c, pipeline.Env{})
		if err != nil {
			t.Fatal(err)
		}
		return stage.(pipeline.Coster).Cost("gpu:0", nil)
	}
	if half, full := of("float16"), of("float32"); half.Work <= full.Resident+full.Work {
		t.Errorf("in float16 %+v, in float32 alone %+v", half, full)
	}
}

func TestWrongConfigurations(t *testing.T) {
	tests := map[string]struct {
		values values
		field  string
		want   string
	}{
		"no method": {values{"scale": 2}, "model", "upscale needs model or method"},
		"no scale":  {values{"method": "lanczos"}, "scale", "upscale needs scale with method"},
		"a half":    {values{"scale": 1.5, "method": "lanczos"}, "scale", "wants a whole number"},
		"too small": {values{"scale": 1, "method": "lanczos"}, "scale", "below the minimum, 2"},
		"too large": {values{"scale": 9, "method": "lanczos"}, "scale", "above the maximum, 8"},
		"both":      {values{"model": "4x.onnx", "method": "lanczos"}, "method", "two ways to enlarge"},
		"a tile":    {values{"scale": 2, "method": "lanczos", "tile": 256}, "tile", "has no meaning with method"},
		"unknown":   {values{"scale": 2, "method": "bicubix"}, "method", `did you mean "bicubic"?`},
	}
	for name, tt := range tests {
		err := stagetest.Err(t, step(tt.values))
		var fe *pipeline.FieldError
		if !errors.As(err, &fe) || fe.Field != tt.field || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one of %s with %q", name, err, tt.field, tt.want)
		}
	}
}
