package score_test

import (
	"errors"
	"fmt"
	"image"
	"image/color"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
			{"gray16", gray16, bt601, 1e-4}, {"nrgba", nrgba, bt601, 1e-4}, {"nrgba64", nrgba64, bt601, 1e-4},
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
		"none":    {map[string]any{}, "needs metrics"},
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

func BenchmarkLaplacian(b *testing.B) {
	for name, img := range map[string]image.Image{
		"ycbcr": image.NewYCbCr(image.Rect(0, 0, 512, 512), image.YCbCrSubsampleRatio420), "rgba": image.NewRGBA(image.Rect(0, 0, 512, 512)),
	} {
		b.Run(name, func(b *testing.B) {
			in := make(stagetest.Source, b.N)
			for i := range in {
				in[i] = pipeline.Input{Name: fmt.Sprint(i), Image: img}
			}
			p := pipeline.New("", pipeline.Options{})
			p.SetSource(in)
			if err := p.Use(b.Context(), pipeline.NewRegistry(score.Info()), "score", "score", laplacian.Values); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(512 * 512)
			b.ResetTimer()
			if _, err := p.Run(b.Context(), pipeline.RunOptions{NoStore: true}); err != nil {
				b.Fatal(err)
			}
		})
	}
}
