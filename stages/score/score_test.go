package score_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"image/png"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/score"
	"github.com/forgepipe/forgepipe/stages/tile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var laplacian = stagetest.Step{Info: score.Info(), Values: map[string]any{"metrics": []string{"laplacian"}}}

// reference is the metric as its description says it, pixel by pixel and in
// float64.
func reference(img image.Image, luma func(color.Color) float64) float64 {
	b := img.Bounds()
	at := func(x, y int) float64 {
		return luma(img.At(min(max(x, b.Min.X), b.Max.X-1), min(max(y, b.Min.Y), b.Max.Y-1)))
	}
	var sum float64
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			sum += math.Abs(4*at(x, y) - at(x-1, y) - at(x+1, y) - at(x, y-1) - at(x, y+1))
		}
	}
	return sum / float64(b.Dx()*b.Dy())
}

func bt601(c color.Color) float64 {
	if n, ok := c.(color.NRGBA); ok { // a conversion would go through alpha
		return 0.299*float64(n.R) + 0.587*float64(n.G) + 0.114*float64(n.B)
	}
	n := color.NRGBA64Model.Convert(c).(color.NRGBA64)
	return (0.299*float64(n.R) + 0.587*float64(n.G) + 0.114*float64(n.B)) / 257
}

func yOf(c color.Color) float64 { return float64(c.(color.YCbCr).Y) }

func measured(t *testing.T, img image.Image, before ...stagetest.Step) map[string]float64 {
	t.Helper()
	b := stagetest.New(t, stagetest.Source{stagetest.Picture("p", img)}, append(before, laplacian)...)
	_, seen := b.Run(t, pipeline.RunOptions{})
	out := map[string]float64{}
	for id, s := range seen {
		v, ok := s.Attributes["laplacian"]
		if !ok || v.Type() != pipeline.TypeFloat {
			t.Fatalf("%s: laplacian is %v", id, v)
		}
		out[id] = v.Float()
	}
	return out
}

func TestLaplacianIsWhatItSays(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	random := func(p []byte) {
		for i := range p {
			p[i] = byte(rnd.Uint32())
		}
	}
	for _, size := range []image.Point{{X: 1, Y: 1}, {X: 1, Y: 9}, {X: 9, Y: 1}, {X: 2, Y: 2}, {X: 3, Y: 2}, {X: 31, Y: 17}} {
		r := image.Rectangle{Max: size}
		gray, gray16, nrgba, nrgba64 := image.NewGray(r), image.NewGray16(r), image.NewNRGBA(r), image.NewNRGBA64(r)
		ycbcr := image.NewYCbCr(r, image.YCbCrSubsampleRatio420)
		for _, p := range [][]byte{gray.Pix, gray16.Pix, nrgba.Pix, nrgba64.Pix, ycbcr.Y, ycbcr.Cb, ycbcr.Cr} {
			random(p)
		}
		for i := range nrgba.Pix { // whatever alpha is, colours count as they are
			if i%4 == 3 {
				nrgba.Pix[i] |= 128
			}
		}
		for i := 6; i < len(nrgba64.Pix); i += 8 {
			nrgba64.Pix[i] |= 128
		}
		tests := []struct {
			name string
			img  image.Image
			luma func(color.Color) float64
			tol  float64
		}{
			{"gray", gray, bt601, 0}, {"ycbcr", ycbcr, yOf, 0},
			{"gray16", gray16, bt601, 1e-9}, {"nrgba", nrgba, bt601, 1e-9}, {"nrgba64", nrgba64, bt601, 1e-9},
		}
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s %v", tt.name, size), func(t *testing.T) {
				got, want := measured(t, tt.img)["p"], reference(tt.img, tt.luma)
				if math.Abs(got-want) > tt.tol+1e-9*want {
					t.Errorf("laplacian %v, want %v", got, want)
				}
			})
		}
	}
}

func TestKnownValues(t *testing.T) {
	r := image.Rect(0, 0, 64, 64)
	checker := image.NewGray(r)
	ramp := image.NewGray(r)
	dot := image.NewGray(r)
	dot.SetGray(20, 30, color.Gray{Y: 100})
	for y := range 64 {
		for x := range 64 {
			checker.SetGray(x, y, color.Gray{Y: uint8(255 * ((x + y) % 2))})
			ramp.SetGray(x, y, color.Gray{Y: uint8(2 * x)})
		}
	}
	tests := map[string]struct {
		img  image.Image
		want float64
	}{
		"flat": {image.NewUniform(color.Gray{Y: 77}), 0},
		// 255 for each neighbour of the other colour: 4 inside, 3 at the border, 2
		// in a corner.
		"checkerboard": {checker, 255 * float64(62*62*4+4*62*3+4*2) / 4096},
		// A straight ramp has no second derivative but at its ends.
		"ramp": {ramp, 2 * 2 * 64.0 / 4096},
		// 4c in the middle, c in each neighbour.
		"dot": {dot, 800.0 / 4096},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			img := tt.img
			if u, ok := img.(*image.Uniform); ok {
				g := image.NewGray(r)
				for i := range g.Pix {
					g.Pix[i] = u.C.(color.Gray).Y
				}
				img = g
			}
			if got := measured(t, img)["p"]; got != tt.want {
				t.Errorf("laplacian %v, want %v", got, tt.want)
			}
		})
	}
}

func TestCropsAreMeasuredByThemselves(t *testing.T) {
	img := image.NewGray(image.Rect(0, 0, 48, 48))
	rnd := rand.New(rand.NewPCG(5, 6))
	for i := range img.Pix {
		img.Pix[i] = byte(rnd.Uint32())
	}
	got := measured(t, img, stagetest.Step{Info: tile.Info(), Values: map[string]any{"size": 16}})
	if len(got) != 9 {
		t.Fatalf("%d tiles", len(got))
	}
	for id, v := range got {
		var n, x, y int
		fmt.Sscanf(id, "p@tile=%d,%d,%d", &n, &x, &y)
		if want := reference(img.SubImage(image.Rect(x, y, x+16, y+16)), bt601); math.Abs(v-want) > 1e-9*want {
			t.Errorf("%s: %v, want %v", id, v, want)
		}
	}
}

// fixture is an input that is a file, since only those have a lattice.
func fixture(name string) pipeline.Input {
	return pipeline.Input{Name: name, Path: filepath.Join("testdata", name)}
}

var all = []string{"laplacian", "blockiness", "sharpness", "entropy", "brightness", "contrast", "saturation", "noise"}

func step(metrics ...string) stagetest.Step {
	return stagetest.Step{Info: score.Info(), Values: map[string]any{"metrics": metrics}}
}

// cut passes on rectangles of its items, named after their upper left corners.
func cut(crops ...image.Rectangle) stagetest.Step {
	return stagetest.Step{Info: pipeline.Info{
		Name: "cut", Short: "Cuts.", Derives: true,
		New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
			return cutter(crops), nil
		},
	}}
}

type cutter []image.Rectangle

func (c cutter) Process(_ context.Context, batch []*pipeline.Item) (out []*pipeline.Item, _ error) {
	for _, it := range batch {
		for _, r := range c {
			out = append(out, it.Derive(fmt.Sprintf("%d,%d", r.Min.X, r.Min.Y), pipeline.Crop(r)))
		}
	}
	return out, nil
}

func near(got, want float64) bool { return math.Abs(got-want) <= 1e-6*math.Abs(want) }

// The numbers are those of the packages that people use; see
// testdata/reference.py.
func TestMetricsEqualTheReference(t *testing.T) {
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden map[string]map[string]float64
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	for name, want := range golden {
		t.Run(name, func(t *testing.T) {
			file, offset, isCrop := strings.Cut(name, "@")
			var steps []stagetest.Step
			if isCrop {
				var x, y int
				fmt.Sscanf(offset, "%d,%d", &x, &y)
				steps = append(steps, cut(image.Rect(x, y, 96, 72)))
			} else if len(want) != len(all) {
				t.Errorf("%d metrics are recorded, there are %d", len(want), len(all))
			}
			_, seen := stagetest.New(t, stagetest.Source{fixture(file)}, append(steps, step(all...))...).Run(t, pipeline.RunOptions{})
			for metric, w := range want {
				if got := seen[name].Attributes[metric].Float(); !near(got, w) {
					t.Errorf("%s is %v, want %v", metric, got, w)
				}
			}
		})
	}
}

// A crop must be measured like a copy of it, wherever it lies and whatever else
// is measured: the same to the last bit.
func TestPlaceAndCompanyDoNotMatter(t *testing.T) {
	file, err := os.Open("testdata/flower-rgb.png")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	whole, err := png.Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	r := image.Rect(16, 8, 64, 56)
	small := image.NewRGBA(r.Sub(r.Min))
	draw.Draw(small, small.Rect, whole, r.Min, draw.Src)
	name := filepath.Join(t.TempDir(), "flower-rgb.png")
	out, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(png.Encode(out, small), out.Close()); err != nil {
		t.Fatal(err)
	}
	_, crops := stagetest.New(t, stagetest.Source{fixture("flower-rgb.png")}, cut(r), step(all...)).Run(t, pipeline.RunOptions{})
	crop := crops["flower-rgb.png@16,8"].Attributes
	for _, metric := range all {
		_, copies := stagetest.New(t, stagetest.Source{{Name: "copy.png", Path: name}}, step(metric)).Run(t, pipeline.RunOptions{})
		if got, want := crop[metric].Float(), copies["copy.png"].Attributes[metric].Float(); got != want || got == 0 {
			t.Errorf("%s of the crop is %v, of a copy %v", metric, got, want)
		}
	}
}

// Every type of picture is measured with the same colours as its copy in 16
// bits without alpha.
func TestTypesOfPictures(t *testing.T) {
	r := image.Rect(3, 5, 40, 30)
	rnd := rand.New(rand.NewPCG(9, 9))
	random := func(p []byte) {
		for i := range p {
			p[i] = byte(rnd.Uint32())
		}
	}
	opaque := func(p []byte, size, bytes int) {
		for i := range p {
			if i%size >= size-bytes {
				p[i] = 255
			}
		}
	}
	gray, gray16, rgba, nrgba := image.NewGray(r), image.NewGray16(r), image.NewRGBA(r), image.NewNRGBA(r)
	rgba64, nrgba64, cmyk := image.NewRGBA64(r), image.NewNRGBA64(r), image.NewCMYK(r)
	ycbcr, withAlpha := image.NewYCbCr(r, image.YCbCrSubsampleRatio420), image.NewNYCbCrA(r, image.YCbCrSubsampleRatio422)
	palette := image.NewPaletted(r, color.Palette{color.NRGBA{R: 250, G: 3, B: 77, A: 255}, color.Black, color.White, color.NRGBA{G: 99, B: 98, A: 255}})
	for _, p := range [][]byte{gray.Pix, gray16.Pix, rgba.Pix, nrgba.Pix, rgba64.Pix, nrgba64.Pix, cmyk.Pix, palette.Pix, ycbcr.Y, ycbcr.Cb, ycbcr.Cr, withAlpha.Y, withAlpha.Cb, withAlpha.Cr} {
		random(p)
	}
	opaque(rgba.Pix, 4, 1)
	opaque(rgba64.Pix, 8, 2)
	opaque(withAlpha.A, 1, 1)
	for i := range palette.Pix {
		palette.Pix[i] %= 4
	}
	tests := map[string]image.Image{
		"gray": gray, "gray16": gray16, "rgba": rgba, "nrgba": nrgba, "rgba64": rgba64, "nrgba64": nrgba64,
		"cmyk": cmyk, "palette": palette, "ycbcr": ycbcr, "nycbcra": withAlpha,
	}
	// Of Y'CbCr, the luma is Y' and not what RGB gives after clipping.
	metrics := map[bool][]string{false: {"laplacian", "sharpness", "entropy", "brightness", "contrast", "saturation", "noise"}, true: {"saturation"}}
	for name, img := range tests {
		t.Run(name, func(t *testing.T) {
			want := image.NewNRGBA64(r)
			for y := r.Min.Y; y < r.Max.Y; y++ {
				for x := r.Min.X; x < r.Max.X; x++ {
					c := color.NRGBA64Model.Convert(img.At(x, y)).(color.NRGBA64)
					eight := func(r, g, b uint8) { c = color.NRGBA64{R: uint16(r) * 257, G: uint16(g) * 257, B: uint16(b) * 257} }
					switch n := img.At(x, y).(type) {
					case color.NRGBA: // a conversion would go through alpha
						eight(n.R, n.G, n.B)
					case color.YCbCr:
						eight(color.YCbCrToRGB(n.Y, n.Cb, n.Cr))
					case color.NYCbCrA:
						eight(color.YCbCrToRGB(n.Y, n.Cb, n.Cr))
					}
					c.A = 65535
					want.SetNRGBA64(x, y, c)
				}
			}
			names := metrics[name == "ycbcr" || name == "nycbcra"]
			_, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("a", img), stagetest.Picture("b", want)}, step(names...)).Run(t, pipeline.RunOptions{})
			for _, metric := range names {
				got, want := seen["a"].Attributes[metric].Float(), seen["b"].Attributes[metric].Float()
				if math.Abs(got-want) > 1e-9*want {
					t.Errorf("%s is %v, of the copy %v", metric, got, want)
				}
			}
		})
	}
}

func TestExtremes(t *testing.T) {
	r := image.Rect(0, 0, 40, 40)
	flat, halves, levels, red := image.NewGray16(r), image.NewGray(r), image.NewGray(image.Rect(0, 0, 16, 16)), image.NewNRGBA(r)
	for y := range 40 {
		for x := range 40 {
			flat.SetGray16(x, y, color.Gray16{Y: 12345})
			halves.SetGray(x, y, color.Gray{Y: uint8(x / 20 * 255)})
			red.SetNRGBA(x, y, color.NRGBA{R: uint8(1 + x), A: uint8(y)})
		}
	}
	for i := range levels.Pix {
		levels.Pix[i] = uint8(i)
	}
	tests := map[string]struct {
		img  image.Image
		want map[string]float64
	}{
		"flat":       {flat, map[string]float64{"laplacian": 0, "sharpness": 0, "entropy": 0, "brightness": 12345.0 / 257, "contrast": 0, "saturation": 0, "noise": 0}},
		"halves":     {halves, map[string]float64{"entropy": 1, "brightness": 127.5, "contrast": 127.5, "saturation": 0}},
		"all levels": {levels, map[string]float64{"entropy": 8, "brightness": 127.5}},
		"one colour": {red, map[string]float64{"saturation": 1}},
		"black":      {image.NewNRGBA(r), map[string]float64{"saturation": 0, "entropy": 0, "brightness": 0}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", tt.img)}, step(slices.Collect(maps.Keys(tt.want))...)).Run(t, pipeline.RunOptions{})
			for metric, want := range tt.want {
				if got := seen["p"].Attributes[metric].Float(); got != want || math.Signbit(got) {
					t.Errorf("%s is %v, want %v", metric, got, want)
				}
			}
		})
	}
}

func TestNoiseFindsItsStandardDeviation(t *testing.T) {
	img := image.NewGray16(image.Rect(0, 0, 256, 256))
	rnd := rand.New(rand.NewPCG(1, 2))
	for y := range 256 {
		for x := range 256 {
			img.SetGray16(x, y, color.Gray16{Y: uint16(257 * (60 + float64(x+y)/4 + 5*rnd.NormFloat64()))})
		}
	}
	_, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", img)}, step("noise")).Run(t, pipeline.RunOptions{})
	if got := seen["p"].Attributes["noise"].Float(); math.Abs(got-5) > 0.1 {
		t.Errorf("noise of standard deviation 5 reads %v", got)
	}
}

func TestPicturesThatCannotBeMeasured(t *testing.T) {
	repaint := stagetest.Step{Info: pipeline.Info{
		Name: "shrink", Short: "Shrinks.",
		New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
			return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
				it.SetImage(image.NewGray(image.Rect(0, 0, 50, 50)))
				return nil
			}), nil
		},
	}}
	const gone, small = "put score before whatever resizes", "reject small pictures before score"
	tests := map[string]struct {
		before stagetest.Step
		metric string
		want   string
	}{
		"resized":              {repaint, "blockiness", gone},
		"31 at any offset":     {cut(image.Rect(0, 0, 31, 31), image.Rect(1, 1, 32, 32), image.Rect(4, 4, 35, 35), image.Rect(7, 7, 38, 38)), "blockiness", ""},
		"28 on the lattice":    {cut(image.Rect(8, 8, 36, 36)), "blockiness", ""},
		"27 on the lattice":    {cut(image.Rect(8, 8, 35, 36)), "blockiness", small},
		"30 off the lattice":   {cut(image.Rect(1, 1, 32, 31)), "blockiness", small},
		"too narrow for noise": {cut(image.Rect(8, 8, 10, 36)), "noise", small},
		"too low for noise":    {cut(image.Rect(8, 8, 36, 10)), "noise", small},
		"least for noise":      {cut(image.Rect(8, 8, 11, 11)), "noise", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, _ := stagetest.New(t, stagetest.Source{fixture("gray.png")}, tt.before, step(tt.metric)).Run(t, pipeline.RunOptions{})
			if tt.want == "" && len(s.Failed) > 0 || tt.want != "" && (len(s.Failed) != 1 || !strings.HasPrefix(s.Failed[0].Cause, "measuring: "+tt.metric) || !strings.Contains(s.Failed[0].Cause, tt.want)) {
				t.Errorf("failed %v, want %q", s.Failed, tt.want)
			}
		})
	}
}

func TestResultsAreCached(t *testing.T) {
	dir := t.TempDir()
	img := image.NewGray(image.Rect(0, 0, 32, 32))
	img.Pix[100] = 200
	run := func(values map[string]any) *pipeline.Summary {
		b := stagetest.New(t, stagetest.Source{stagetest.Picture("p", img)}, stagetest.Step{Info: score.Info(), Values: values})
		s, seen := b.Run(t, pipeline.RunOptions{StateDir: dir})
		if got := seen["p"].Attributes["laplacian"].Float(); got != 1600.0/1024 {
			t.Errorf("laplacian %v", got)
		}
		return s
	}
	if s := run(laplacian.Values); s.Cached != 0 {
		t.Errorf("the first run took %d from the cache", s.Cached)
	}
	if s := run(laplacian.Values); s.Cached != 1 {
		t.Errorf("the second run took %d from the cache", s.Cached)
	}
}

func TestPictureThatCannotBeDecoded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "half.png")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := imageio.EncodePNG(f, image.NewGray(image.Rect(0, 0, 200, 200)), imageio.PNGOptions{}); err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(info.Size()-20), f.Close()); err != nil {
		t.Fatal(err)
	}
	s, seen := stagetest.New(t, stagetest.Source{
		{Name: "half.png", Path: file}, stagetest.Picture("whole", image.NewGray(image.Rect(0, 0, 8, 8))),
	}, laplacian).Run(t, pipeline.RunOptions{})
	if s.Quarantined != 1 || !slices.Equal(stagetest.IDs(seen), []string{"whole"}) || !strings.HasPrefix(s.Failed[0].Cause, "measuring: decoding") {
		t.Errorf("seen %v, failed %v", stagetest.IDs(seen), s.Failed)
	}
}

func TestWrongConfigurations(t *testing.T) {
	tests := map[string]struct {
		values map[string]any
		want   string
	}{
		"none":    {map[string]any{}, "name at least one metric, or a model"},
		"empty":   {map[string]any{"metrics": []string{}}, "at least one"},
		"unknown": {map[string]any{"metrics": []string{"laplacien"}}, `did you mean "laplacian"?`},
		"twice":   {map[string]any{"metrics": []string{"laplacian", "laplacian"}}, "named twice"},
	}
	for name, tt := range tests {
		err := stagetest.Err(t, stagetest.Step{Info: score.Info(), Values: tt.values})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
	}
}

// One pass over a tile of a photograph that is decoded already.
func BenchmarkMetric(b *testing.B) {
	whole, err := os.ReadFile("../../testdata/photos/boats.jpg")
	if err != nil {
		b.Fatal(err)
	}
	photo, err := jpeg.Decode(bytes.NewReader(whole))
	if err != nil {
		b.Fatal(err)
	}
	rgba := image.NewRGBA(image.Rect(0, 0, 512, 512))
	draw.Draw(rgba, rgba.Rect, photo, image.Pt(64, 64), draw.Src)
	file := filepath.Join(b.TempDir(), "p.png")
	f, err := os.Create(file)
	if err != nil {
		b.Fatal(err)
	}
	if err := errors.Join(png.Encode(f, rgba), f.Close()); err != nil {
		b.Fatal(err)
	}
	for _, metrics := range append([][]string{all}, singles()...) {
		name := metrics[0]
		if len(metrics) > 1 {
			name = "all"
		}
		b.Run(name, func(b *testing.B) {
			stage, err := score.Info().New(b.Context(), config(b, metrics), pipeline.Env{})
			if err != nil {
				b.Fatal(err)
			}
			var took time.Duration
			timed := pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
				if _, err := it.Frame(ctx); err != nil {
					return err
				}
				start := time.Now()
				for range b.N {
					if _, err := stage.Process(ctx, []*pipeline.Item{it}); err != nil {
						return err
					}
				}
				took = time.Since(start)
				return nil
			})
			p := pipeline.New("", pipeline.Options{})
			p.SetSource(stagetest.Source{{Name: "p.png", Path: file}})
			if err := p.Add(pipeline.Step{ID: "timed", Stage: timed}); err != nil {
				b.Fatal(err)
			}
			if s, err := p.Run(b.Context(), pipeline.RunOptions{NoStore: true}); err != nil || s.Out != 1 {
				b.Fatal(err, s)
			}
			b.ReportMetric(float64(b.N)*512*512/1e6/took.Seconds(), "MP/s")
		})
	}
}

func singles() (out [][]string) {
	for _, m := range all {
		out = append(out, []string{m})
	}
	return out
}

func config(b *testing.B, metrics []string) pipeline.Config {
	b.Helper()
	c, err := pipeline.NewConfig(score.Info(), map[string]any{"metrics": metrics})
	if err != nil {
		b.Fatal(err)
	}
	return c
}
