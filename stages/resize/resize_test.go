package resize_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/internal/resample"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/pair"
	"github.com/forgepipe/forgepipe/stages/resize"
	"github.com/forgepipe/forgepipe/stages/tile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type values = map[string]any

func step(v values) stagetest.Step { return stagetest.Step{Info: resize.Info(), Values: v} }

func TestSizes(t *testing.T) {
	photo := image.Pt(300, 200)
	tests := map[string]struct {
		from   image.Point
		values values
		want   image.Point
	}{
		"width":              {photo, values{"width": 100}, image.Pt(100, 67)},
		"height":             {photo, values{"height": 100}, image.Pt(150, 100)},
		"both":               {photo, values{"width": 100, "height": 90}, image.Pt(100, 90)},
		"longest":            {photo, values{"longest": 150}, image.Pt(150, 100)},
		"longest, upright":   {image.Pt(200, 300), values{"longest": 150}, image.Pt(100, 150)},
		"shortest":           {photo, values{"shortest": 50}, image.Pt(75, 50)},
		"shortest, upright":  {image.Pt(200, 300), values{"shortest": 50}, image.Pt(50, 75)},
		"square":             {image.Pt(90, 90), values{"longest": 30}, image.Pt(30, 30)},
		"scale":              {photo, values{"scale": 0.5}, image.Pt(150, 100)},
		"scale, rounded":     {image.Pt(5, 3), values{"scale": 0.5}, image.Pt(3, 2)},
		"scale to nothing":   {image.Pt(30, 20), values{"scale": 0.001}, image.Pt(1, 1)},
		"inside, by width":   {photo, values{"width": 90, "height": 90, "fit": "inside"}, image.Pt(90, 60)},
		"inside, by height":  {photo, values{"width": 90, "height": 30, "fit": "inside"}, image.Pt(45, 30)},
		"outside, by width":  {photo, values{"width": 90, "height": 30, "fit": "outside"}, image.Pt(90, 60)},
		"outside, by height": {photo, values{"width": 90, "height": 90, "fit": "outside"}, image.Pt(135, 90)},
		"cover":              {photo, values{"width": 90, "height": 90, "fit": "cover"}, image.Pt(90, 90)},
		"cover, flat":        {photo, values{"width": 200, "height": 10, "fit": "cover"}, image.Pt(200, 10)},
		"a line":             {image.Pt(1000, 1), values{"longest": 10}, image.Pt(10, 1)},
		"to one pixel":       {photo, values{"width": 1, "height": 1}, image.Pt(1, 1)},

		// what stays as it is
		"has the size":       {photo, values{"width": 300}, photo},
		"would grow":         {photo, values{"width": 301}, photo},
		"would grow by one":  {photo, values{"width": 100, "height": 201}, photo},
		"is inside":          {photo, values{"width": 400, "height": 400, "fit": "inside"}, photo},
		"does not cover":     {photo, values{"width": 100, "height": 300, "fit": "cover"}, photo},
		"one to one":         {photo, values{"scale": 1, "enlarge": true}, photo},
		"rounds to the same": {image.Pt(3, 3), values{"scale": 0.9}, image.Pt(3, 3)},

		"enlarged":         {photo, values{"width": 450, "enlarge": true}, image.Pt(450, 300)},
		"enlarged inside":  {photo, values{"width": 600, "height": 600, "fit": "inside", "enlarge": true}, image.Pt(600, 400)},
		"one pixel":        {image.Pt(1, 1), values{"width": 30, "height": 20, "enlarge": true}, image.Pt(30, 20)},
		"enlarged by half": {image.Pt(3, 2), values{"scale": 1.5, "enlarge": true}, image.Pt(5, 3)},
		"enlarged cover":   {image.Pt(3, 2), values{"width": 40, "height": 40, "fit": "cover", "enlarge": true}, image.Pt(40, 40)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			src := stagetest.Gray(tt.from.X, tt.from.Y)
			_, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", src)}, step(tt.values)).Run(t, pipeline.RunOptions{NoStore: true})
			got, ok := seen["p"]
			if !ok || got.Size != tt.want {
				t.Fatalf("there %t, size %v, want %v", ok, got.Size, tt.want)
			}
			if untouched := got.Image == image.Image(src); untouched != (tt.want == tt.from) {
				t.Errorf("untouched %t", untouched)
			}
		})
	}
}

func TestTypesAndFilters(t *testing.T) {
	r := image.Rect(0, 0, 60, 40)
	imgs := map[string]draw.Image{}
	var src stagetest.Source
	for _, img := range []draw.Image{
		image.NewGray(r), image.NewGray16(r), image.NewRGBA(r), image.NewNRGBA(r), image.NewRGBA64(r), image.NewNRGBA64(r),
	} {
		name := fmt.Sprintf("%T", img)
		imgs[name] = stagetest.Noise(img)
		src = append(src, stagetest.Picture(name, img))
	}
	madeBy := map[string]string{} // filter, by content
	for _, filter := range resample.Names() {
		_, seen := stagetest.New(t, src, step(values{"width": 37, "height": 31, "filter": filter})).Run(t, pipeline.RunOptions{NoStore: true})
		for name, img := range imgs {
			got := seen[name].Image
			if fmt.Sprintf("%T", got) != name {
				t.Fatalf("%s has become %T", name, got)
			}
			if err := stagetest.Same(got, resample.Resize(img, image.Pt(37, 31), resample.Named(filter))); err != nil {
				t.Errorf("%s, %s: %v", name, filter, err)
			}
			content := name + fmt.Sprint(got)
			if other := madeBy[content]; other != "" {
				t.Errorf("%s: %s and %s give the same", name, other, filter)
			}
			madeBy[content] = filter
		}
	}
}

// TestFilterIsLanczosUnlessSaid also looks at crops, whose bounds begin
// somewhere.
func TestFilterIsLanczosUnlessSaid(t *testing.T) {
	img := stagetest.Noise(image.NewRGBA(image.Rect(0, 0, 64, 64)))
	cut := stagetest.Step{Info: tile.Info(), Values: values{"size": 32}}
	_, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", img)}, cut, step(values{"width": 20})).Run(t, pipeline.RunOptions{})
	if len(seen) != 4 {
		t.Fatalf("%d tiles", len(seen))
	}
	for id, got := range seen {
		var n, x, y int
		fmt.Sscanf(id, "p@tile=%d,%d,%d", &n, &x, &y)
		part := img.(*image.RGBA).SubImage(image.Rect(x, y, x+32, y+32))
		if err := stagetest.Same(got.Image, resample.Resize(part, image.Pt(20, 20), resample.Named("lanczos"))); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// TestCoverCutsTheMiddle resizes a flag of three colours to what lies within the
// one in the middle.
func TestCoverCutsTheMiddle(t *testing.T) {
	flag := image.NewRGBA(image.Rect(0, 0, 90, 30))
	for i, c := range []color.RGBA{{R: 255, A: 255}, {G: 255, A: 255}, {B: 255, A: 255}} {
		draw.Draw(flag, image.Rect(30*i, 0, 30*i+30, 30), image.NewUniform(c), image.Point{}, draw.Src)
	}
	upright := image.NewRGBA(image.Rect(0, 0, 30, 90))
	for y := range 90 {
		for x := range 30 {
			upright.Set(x, y, flag.At(y, x))
		}
	}
	for _, img := range []*image.RGBA{flag, upright} {
		_, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", img)},
			step(values{"width": 12, "height": 12, "fit": "cover"})).Run(t, pipeline.RunOptions{})
		for y := range 12 {
			for x := range 12 {
				if c := seen["p"].Image.At(x, y); c != (color.RGBA{G: 255, A: 255}) {
					t.Fatalf("%v: at %d, %d is %v", img.Rect, x, y, c)
				}
			}
		}
	}
}

// companions watches the low-quality images at the end of a chain.
func companions(t *testing.T, b *stagetest.Bench) map[string]image.Image {
	t.Helper()
	var mu sync.Mutex
	lqs := map[string]image.Image{}
	look := pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		if scale, ok := it.Pair(); ok {
			f, err := it.PairFrame(ctx)
			if err != nil {
				return err
			}
			if f.Image.Bounds().Size().Mul(scale) != it.Size() {
				return fmt.Errorf("%v is not %d times %v", it.Size(), scale, f.Image.Bounds())
			}
			mu.Lock()
			defer mu.Unlock()
			lqs[it.ID()] = f.Image
		}
		return nil
	})
	if err := b.Add(pipeline.Step{ID: "companions", Stage: look}); err != nil {
		t.Fatal(err)
	}
	return lqs
}

func TestPairs(t *testing.T) {
	hq, lq := stagetest.Gray(120, 80), stagetest.Gray(30, 20)
	in := stagetest.Picture("p", hq)
	companion := stagetest.Picture("p", lq)
	in.LQ, in.Scale = &companion, 4

	whole := image.Rect(0, 0, 30, 20)
	tests := map[string]struct {
		values values
		part   image.Rectangle // of the companion
		want   image.Point     // its new size; zero when the item fails
		cause  string
	}{
		"refused":           {values{"width": 60}, whole, image.Point{}, "set apply: both"},
		"width":             {values{"width": 60, "apply": "both"}, whole, image.Pt(15, 10), ""},
		"what follows":      {values{"width": 100, "apply": "both"}, whole, image.Pt(25, 17), ""}, // 100 x 66.7
		"scale":             {values{"scale": 0.24, "apply": "both"}, whole, image.Pt(7, 5), ""},
		"no multiple":       {values{"width": 62, "apply": "both"}, whole, image.Point{}, "make it a multiple of 4"},
		"no multiple, high": {values{"height": 62, "apply": "both"}, whole, image.Point{}, "make it a multiple of 4"},
		"no multiple, long": {values{"longest": 62, "apply": "both"}, whole, image.Point{}, "make it a multiple of 4"},
		"cover":             {values{"width": 40, "height": 40, "fit": "cover", "apply": "both"}, image.Rect(5, 0, 25, 20), image.Pt(10, 10), ""},
		"would grow":        {values{"width": 160, "apply": "both"}, whole, image.Pt(30, 20), ""},
		"grows":             {values{"width": 160, "enlarge": true, "apply": "both"}, whole, image.Pt(40, 27), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := stagetest.New(t, stagetest.Source{in}, step(tt.values))
			lqs := companions(t, b)
			s, seen := b.Run(t, pipeline.RunOptions{})
			if tt.cause != "" {
				if len(seen) != 0 || len(s.Failed) != 1 || !strings.Contains(s.Failed[0].Cause, tt.cause) {
					t.Errorf("failed %v, want %q", s.Failed, tt.cause)
				}
				return
			}
			if got := seen["p"]; !got.Paired || got.Size != tt.want.Mul(4) {
				t.Fatalf("paired %t, size %v, failed %v", got.Paired, got.Size, s.Failed)
			}
			part := func(img image.Image, r image.Rectangle) image.Image { return img.(*image.Gray).SubImage(r) }
			large := image.Rectangle{Min: tt.part.Min.Mul(4), Max: tt.part.Max.Mul(4)}
			lanczos := resample.Named("lanczos")
			if err := stagetest.Same(lqs["p"], resample.Resize(part(lq, tt.part), tt.want, lanczos)); err != nil {
				t.Errorf("companion: %v", err)
			}
			if err := stagetest.Same(seen["p"].Image, resample.Resize(part(hq, large), tt.want.Mul(4), lanczos)); err != nil {
				t.Errorf("item: %v", err)
			}
		})
	}
}

func TestSingleImagesWithApplyBoth(t *testing.T) {
	_, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", stagetest.Gray(64, 64))},
		step(values{"width": 33, "apply": "both"})).Run(t, pipeline.RunOptions{})
	if seen["p"].Size != image.Pt(33, 33) {
		t.Errorf("size %v", seen["p"].Size)
	}
}

func TestTooManyPixels(t *testing.T) {
	makePair := stagetest.Step{Info: pair.Info(), Values: values{"scale": 2}}
	for name, steps := range map[string][]stagetest.Step{
		"single": {step(values{"scale": 40, "enlarge": true})},
		"pair":   {makePair, step(values{"scale": 40, "enlarge": true, "apply": "both"})},
	} {
		b := stagetest.New(t, stagetest.Source{stagetest.Picture("p", stagetest.Gray(600, 500))}, steps...)
		s, _ := b.Run(t, pipeline.RunOptions{})
		if len(s.Failed) != 1 || !strings.Contains(s.Failed[0].Cause, "24000 x 20000 is more than the 250000000 pixels that limits.pixels allows") {
			t.Errorf("%s: failed %v", name, s.Failed)
		}
	}
}

// TestScaledDecode compares a photograph with what exact decoding gives.
func TestScaledDecode(t *testing.T) {
	file, err := filepath.Abs("../../testdata/photos/boats.jpg")
	if err != nil {
		t.Fatal(err)
	}
	run := func(v values) image.Image {
		t.Helper()
		s, seen := stagetest.New(t, stagetest.Source{{Name: "boats.jpg", Path: file}}, step(v)).Run(t, pipeline.RunOptions{})
		if len(seen) != 1 {
			t.Fatalf("failed %v", s.Failed)
		}
		return seen["boats.jpg"].Image
	}
	for name, v := range map[string]values{
		"longest": {"longest": 101}, "stretched": {"width": 30, "height": 90}, "cover": {"width": 60, "height": 90, "fit": "cover"},
	} {
		exact := run(v)
		v["decode"] = "scaled"
		scaled := run(v)
		if exact.Bounds() != scaled.Bounds() {
			t.Fatalf("%s: %v and %v", name, exact.Bounds(), scaled.Bounds())
		}
		if got := psnr(exact, scaled); got < 35 {
			t.Errorf("%s: %.1f dB", name, got)
		}
	}
}

// smooth writes a photograph of soft waves as a JPEG file that EXIF turns.
func smooth(t *testing.T, w, h, orientation int) string {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.Pix[y*img.Stride+x] = uint8(128 + 60*math.Sin(float64(x)/17) + 60*math.Sin(float64(y)/13))
		}
	}
	var file bytes.Buffer
	if err := jpeg.Encode(&file, img, &jpeg.Options{Quality: 98}); err != nil {
		t.Fatal(err)
	}
	// Exif with one entry, the orientation.
	tag := "\xff\xe1\x00\x22Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00" + string(rune(orientation)) + "\x00\x00\x00\x00\x00\x00"
	data := file.String()
	name := filepath.Join(t.TempDir(), "a.jpg")
	if err := os.WriteFile(name, []byte(data[:2]+tag+data[2:]), 0o666); err != nil {
		t.Fatal(err)
	}
	return name
}

// difference is the mean one of two gray pictures, the second one moved.
func difference(a, b image.Image, dx, dy int) float64 {
	sum, n := 0, 0
	for y := 1; y < a.Bounds().Dy()-1; y++ {
		for x := 1; x < a.Bounds().Dx()-1; x++ {
			v, w := int(a.(*image.Gray).GrayAt(x, y).Y), int(b.(*image.Gray).GrayAt(x+dx, y+dy).Y)
			sum += max(v-w, w-v)
			n++
		}
	}
	return float64(sum) / float64(n)
}

// TestScaledDecodeKeepsThePlace resizes pictures whose sides are no multiples of
// 8, so that the decoder rounds them up, at all four borders.
func TestScaledDecodeKeepsThePlace(t *testing.T) {
	for _, size := range []image.Point{{600, 481}, {641, 479}} {
		for _, orientation := range []int{1, 2, 3, 4, 5, 6, 7, 8} {
			file := smooth(t, size.X, size.Y, orientation)
			for name, v := range map[string]values{
				"stretched": {"width": 120, "height": 90}, "longest": {"longest": 101}, "cover": {"width": 70, "height": 90, "fit": "cover"},
			} {
				t.Run(fmt.Sprint(size, orientation, name), func(t *testing.T) {
					run := func(decode string) image.Image {
						v["decode"] = decode
						s, seen := stagetest.New(t, stagetest.Source{{Name: "a.jpg", Path: file}}, step(v)).Run(t, pipeline.RunOptions{NoStore: true})
						if len(seen) != 1 {
							t.Fatalf("failed %v", s.Failed)
						}
						return seen["a.jpg"].Image
					}
					exact, scaled := run("exact"), run("scaled")
					if exact.Bounds() != scaled.Bounds() {
						t.Fatalf("%v and %v", exact.Bounds(), scaled.Bounds())
					}
					least := difference(exact, scaled, 0, 0)
					if least > 0.7 {
						t.Errorf("%.2f levels", least)
					}
					for _, by := range []image.Point{{1, 0}, {-1, 0}, {0, 1}, {0, -1}} {
						if d := difference(exact, scaled, by.X, by.Y); d < 4*least {
							t.Errorf("%.2f levels, moved by %v %.2f", least, by, d)
						}
					}
					// The outermost pixels are where rounding up shows most.
					b := exact.Bounds()
					for _, at := range []image.Point{{}, {b.Max.X - 1, 0}, {0, b.Max.Y - 1}, {b.Max.X - 1, b.Max.Y - 1}} {
						v, w := int(exact.(*image.Gray).GrayAt(at.X, at.Y).Y), int(scaled.(*image.Gray).GrayAt(at.X, at.Y).Y)
						if max(v-w, w-v) > 6 {
							t.Errorf("at %v: %d and %d", at, v, w)
						}
					}
				})
			}
		}
	}
}

// TestCostOfScaledDecode decodes 225 x 181 pixels, 3/8, for a picture of 101.
func TestCostOfScaledDecode(t *testing.T) {
	file := smooth(t, 600, 481, 1)
	in := pipeline.Input{Name: "a.jpg", Path: file}
	exact, _ := measured(t, in, resize.Info(), values{"longest": 101})
	scaled, allocated := measured(t, in, resize.Info(), values{"longest": 101, "decode": "scaled"})
	full, _ := measured(t, in, resize.Info(), values{"longest": 400, "decode": "scaled"})
	plain, _ := measured(t, in, resize.Info(), values{"longest": 400})
	want := int64(4 * 225 * 181)
	if _, _, err := imageio.JPEGLibrary(); err != nil {
		want = 0 // nothing is scaled
	}
	if scaled.Work-exact.Work != want || allocated < scaled.Output {
		t.Errorf("work %d bytes, of exact decoding %d, want %d more", scaled.Work, exact.Work, want)
	}
	if full != plain {
		t.Errorf("at full size %+v, and of exact decoding %+v", full, plain)
	}
}

func psnr(a, b image.Image) float64 {
	var sum float64
	r := a.Bounds()
	for y := range r.Dy() {
		for x := range r.Dx() {
			ar, ag, ab, _ := a.At(x, y).RGBA()
			br, bg, bb, _ := b.At(x, y).RGBA()
			for _, d := range []float64{float64(ar) - float64(br), float64(ag) - float64(bg), float64(ab) - float64(bb)} {
				sum += d * d / 257 / 257
			}
		}
	}
	return 10 * math.Log10(255*255*3*float64(r.Dx()*r.Dy())/sum)
}

func TestResultsAreCached(t *testing.T) {
	dir := t.TempDir()
	img := stagetest.Gray(64, 48)
	var first image.Image
	for i, cached := range []int64{0, 1} {
		s, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", img)}, step(values{"width": 32})).
			Run(t, pipeline.RunOptions{StateDir: dir})
		if s.Cached != cached || seen["p"].Size != image.Pt(32, 24) {
			t.Errorf("run %d took %d from the cache, size %v", i, s.Cached, seen["p"].Size)
		}
		if first == nil {
			first = seen["p"].Image
		}
		if err := stagetest.Same(first, seen["p"].Image); err != nil {
			t.Errorf("run %d: %v", i, err)
		}
	}
}

// measured calls a stage on one item, and tells what it costs and allocates.
func measured(t *testing.T, in pipeline.Input, info pipeline.Info, v values) (cost pipeline.Cost, allocated int64) {
	t.Helper()
	c, err := pipeline.NewConfig(info, v)
	if err != nil {
		t.Fatal(err)
	}
	b := stagetest.New(t, stagetest.Source{in})
	err = b.Add(pipeline.Step{ID: "measured", Stage: pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		stage, err := info.New(ctx, c, pipeline.Env{Limits: b.Limits})
		if err != nil {
			return err
		}
		cost = stage.(pipeline.Coster).Cost(pipeline.Host, []*pipeline.Item{it})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err = stage.Process(ctx, []*pipeline.Item{it})
		runtime.ReadMemStats(&after)
		allocated = int64(after.TotalAlloc - before.TotalAlloc)
		return err
	})})
	if err != nil {
		t.Fatal(err)
	}
	// Readings of the host allocate too, and must not be counted.
	quiet := memory.NewManager(memory.Options{Every: time.Hour})
	defer func() { _ = quiet.Close() }()
	b.Run(t, pipeline.RunOptions{NoStore: true, Memory: quiet})
	return cost, allocated
}

func TestCost(t *testing.T) {
	deep := stagetest.Picture("p", image.NewNRGBA64(image.Rect(0, 0, 500, 400)))
	paired := stagetest.Picture("p", image.NewNRGBA64(image.Rect(0, 0, 500, 400)))
	lq := stagetest.Picture("lq", image.NewNRGBA64(image.Rect(0, 0, 125, 100)))
	paired.LQ, paired.Scale = &lq, 4
	tests := map[string]struct {
		in     pipeline.Input
		values values
		output int64
	}{
		"smaller":        {deep, values{"width": 250}, 250 * 200 * 8},
		"larger":         {deep, values{"width": 600, "enlarge": true}, 600 * 480 * 8},
		"cover":          {deep, values{"width": 200, "height": 200, "fit": "cover"}, 200 * 200 * 8},
		"untouched":      {deep, values{"width": 600}, 0},
		"too many":       {deep, values{"scale": 60, "enlarge": true}, 0},
		"a pair":         {paired, values{"width": 200, "apply": "both"}, (200*160 + 50*40) * 8},
		"a pair refused": {paired, values{"width": 200}, 0},
		"no multiple":    {paired, values{"width": 202, "apply": "both"}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cost, allocated := measured(t, tt.in, resize.Info(), tt.values)
			if cost.Output != tt.output {
				t.Errorf("output %d bytes, want %d", cost.Output, tt.output)
			}
			// A pair's pictures are made one after the other, and work is the peak.
			if told := cost.Output + cost.Work; allocated > told*5/4+1<<16 || tt.output > 0 && allocated < told*3/4 {
				t.Errorf("told %+v, allocated %d", cost, allocated)
			}
		})
	}
	for _, v := range []values{{"width": 512}, {"scale": 2, "enlarge": true}} {
		c, err := pipeline.NewConfig(resize.Info(), v)
		if err != nil {
			t.Fatal(err)
		}
		stage, err := resize.Info().New(t.Context(), c, pipeline.Env{Limits: pipeline.New("", pipeline.Options{}).Limits})
		if err != nil {
			t.Fatal(err)
		}
		if c := stage.(pipeline.Coster).Cost(pipeline.Host, nil); c.Output <= 0 || c.Work <= 0 {
			t.Errorf("%v: for planning, the cost is %+v", v, c)
		}
	}
}

func TestWrongConfigurations(t *testing.T) {
	tests := map[string]struct {
		values values
		field  string
		want   string
	}{
		"no size":            {values{"filter": "box"}, "width", "resize needs a size"},
		"width and longest":  {values{"width": 5, "longest": 5}, "longest", "said by width already"},
		"both and scale":     {values{"width": 5, "height": 5, "scale": 0.5}, "scale", "said by width already"},
		"longest, shortest":  {values{"longest": 5, "shortest": 5}, "shortest", "said by longest already"},
		"shortest and scale": {values{"shortest": 5, "scale": 0.5}, "scale", "said by shortest already"},
		"fit without height": {values{"width": 5, "fit": "inside"}, "fit", "give both"},
		"fit without width":  {values{"longest": 5, "fit": "exact"}, "fit", "give both"},
		"scale enlarges":     {values{"scale": 1.5}, "scale", "add enlarge: true"},
		"no width":           {values{"width": 0}, "width", "below the minimum, 1 px"},
		"too wide":           {values{"width": 65536}, "width", "above the maximum, 65535 px"},
		"unknown filter":     {values{"width": 5, "filter": "lanczos3"}, "filter", `did you mean "lanczos"?`},
	}
	for name, tt := range tests {
		err := stagetest.Err(t, step(tt.values))
		var fe *pipeline.FieldError
		if !errors.As(err, &fe) || fe.Field != tt.field || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one of %s with %q", name, err, tt.field, tt.want)
		}
	}
}
