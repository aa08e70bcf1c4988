package tile_test

import (
	"fmt"
	"image"
	"image/color"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/tile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func step(size int, edge string) stagetest.Step {
	return stagetest.Step{Info: tile.Info(), Values: map[string]any{"size": size, "edge": edge}}
}

func TestGrid(t *testing.T) {
	tests := map[string]struct {
		w, h   int
		edge   string
		want   map[string]image.Point // size by key
		reject int64
		note   string
	}{
		"exact":             {64, 32, "drop", map[string]image.Point{"32,0,0": {X: 32, Y: 32}, "32,32,0": {X: 32, Y: 32}}, 0, ""},
		"one":               {32, 32, "drop", map[string]image.Point{"32,0,0": {X: 32, Y: 32}}, 0, ""},
		"rest dropped":      {70, 40, "drop", map[string]image.Point{"32,0,0": {X: 32, Y: 32}, "32,32,0": {X: 32, Y: 32}}, 0, "26.9% of the area lies outside of whole tiles and was dropped"},
		"too narrow":        {31, 64, "drop", nil, 1, ""},
		"too low":           {64, 31, "drop", nil, 1, ""},
		"rest partial":      {70, 33, "partial", map[string]image.Point{"32,0,0": {X: 32, Y: 32}, "32,32,0": {X: 32, Y: 32}, "32,64,0": {X: 6, Y: 32}, "32,0,32": {X: 32, Y: 1}, "32,32,32": {X: 32, Y: 1}, "32,64,32": {X: 6, Y: 1}}, 0, ""},
		"partial and exact": {32, 32, "partial", map[string]image.Point{"32,0,0": {X: 32, Y: 32}}, 0, ""},
		"small and partial": {10, 20, "partial", map[string]image.Point{"32,0,0": {X: 10, Y: 20}}, 0, ""},
		"rest padded":       {33, 40, "pad", map[string]image.Point{"32,0,0": {X: 32, Y: 32}, "32,32,0": {X: 32, Y: 32}, "32,0,32": {X: 32, Y: 32}, "32,32,32": {X: 32, Y: 32}}, 0, ""},
		"small and padded":  {1, 1, "pad", map[string]image.Point{"32,0,0": {X: 32, Y: 32}}, 0, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			src := stagetest.Gray(tt.w, tt.h)
			b := stagetest.New(t, stagetest.Source{stagetest.Picture("a/p.png", src)})
			stage, err := tile.Info().New(t.Context(), config(t, 32, tt.edge), pipeline.Env{})
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Add(pipeline.Step{ID: "tile", Stage: stage, Info: tile.Info(), Config: config(t, 32, tt.edge)}); err != nil {
				t.Fatal(err)
			}
			s, seen := b.Run(t, pipeline.RunOptions{})
			if s.Derived != int64(len(tt.want)) || s.Rejected["tile"]["too small"] != tt.reject {
				t.Errorf("derived %d, rejected %v, want %d and %d", s.Derived, s.Rejected, len(tt.want), tt.reject)
			}
			for key, size := range tt.want {
				got, ok := seen["a/p.png@tile="+key]
				if !ok || got.Size != size {
					t.Errorf("tile %s: there %t, size %v, want %v", key, ok, got.Size, size)
					continue
				}
				var n, x, y int
				fmt.Sscanf(key, "%d,%d,%d", &n, &x, &y)
				if err := stagetest.Same(got.Image, replicated(src, image.Rectangle{Min: image.Pt(x, y), Max: image.Pt(x, y).Add(size)})); err != nil {
					t.Errorf("tile %s: %v", key, err)
				}
			}
			if note := stage.(interface{ Note() string }).Note(); note != tt.note {
				t.Errorf("note %q, want %q", note, tt.note)
			}
			if tt.reject > 0 {
				if got := b.Messages(pipeline.EventRejected)["a/p.png"]; got != fmt.Sprintf("too small: width %d, height %d", tt.w, tt.h) {
					t.Errorf("rejected with %q", got)
				}
			}
		})
	}
}

func config(t *testing.T, size int, edge string) pipeline.Config {
	t.Helper()
	c, err := pipeline.NewConfig(tile.Info(), map[string]any{"size": size, "edge": edge})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// replicated is what padding means: r in the picture's coordinates, with the
// picture's own colours.
func replicated(src image.Image, r image.Rectangle) image.Image { return padded{src, r} }

type padded struct {
	src image.Image
	r   image.Rectangle
}

func (p padded) Bounds() image.Rectangle { return p.r }
func (p padded) ColorModel() color.Model { return p.src.ColorModel() }
func (p padded) At(x, y int) color.Color {
	b := p.src.Bounds()
	return p.src.At(min(x, b.Max.X-1), min(y, b.Max.Y-1))
}

// odd is an image type that is nobody's.
type odd struct{ *image.RGBA64 }

func (o odd) SubImage(r image.Rectangle) image.Image {
	return odd{o.RGBA64.SubImage(r).(*image.RGBA64)}
}

func TestPaddingKeepsThePixelType(t *testing.T) {
	r := image.Rect(0, 0, 37, 29)
	ycbcr := func(ratio image.YCbCrSubsampleRatio) *image.YCbCr {
		m := image.NewYCbCr(r, ratio)
		rnd := rand.New(rand.NewPCG(2, uint64(ratio)))
		for _, p := range [][]byte{m.Y, m.Cb, m.Cr} {
			for i := range p {
				p[i] = byte(rnd.Uint32())
			}
		}
		return m
	}
	withAlpha := image.NewNYCbCrA(r, image.YCbCrSubsampleRatio420)
	withAlpha.YCbCr = *ycbcr(image.YCbCrSubsampleRatio420)
	for i := range withAlpha.A {
		withAlpha.A[i] = byte(i * 7)
	}
	tests := map[string]image.Image{
		"gray": stagetest.Noise(image.NewGray(r)), "gray16": stagetest.Noise(image.NewGray16(r)), "rgba": stagetest.Noise(image.NewRGBA(r)), "nrgba": stagetest.Noise(image.NewNRGBA(r)),
		"rgba64": stagetest.Noise(image.NewRGBA64(r)), "nrgba64": stagetest.Noise(image.NewNRGBA64(r)), "cmyk": stagetest.Noise(image.NewCMYK(r)),
		"palette": stagetest.Noise(image.NewPaletted(r, color.Palette{color.Black, color.White, color.NRGBA{R: 200, A: 255}})),
		"444":     ycbcr(image.YCbCrSubsampleRatio444), "422": ycbcr(image.YCbCrSubsampleRatio422), "420": ycbcr(image.YCbCrSubsampleRatio420),
		"440": ycbcr(image.YCbCrSubsampleRatio440), "411": ycbcr(image.YCbCrSubsampleRatio411), "410": ycbcr(image.YCbCrSubsampleRatio410),
		"420 with alpha": withAlpha,
	}
	for name, src := range tests {
		// An odd size cuts 2x2 blocks of chroma in two.
		for _, size := range []int{16, 17} {
			t.Run(fmt.Sprint(name, " ", size), func(t *testing.T) {
				_, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", src)}, step(size, "pad")).Run(t, pipeline.RunOptions{})
				if want := ((37 + size - 1) / size) * ((29 + size - 1) / size); len(seen) != want {
					t.Fatalf("%d tiles, want %d", len(seen), want)
				}
				for id, got := range seen {
					if got, want := fmt.Sprintf("%T", got.Image), fmt.Sprintf("%T", src); got != want {
						t.Errorf("%s is a %s, its source a %s", id, got, want)
					}
					var n, x, y int
					fmt.Sscanf(id, "p@tile=%d,%d,%d", &n, &x, &y)
					if err := stagetest.Same(got.Image, replicated(src, image.Rect(x, y, x+size, y+size))); err != nil {
						t.Errorf("%s: %v", id, err)
					}
				}
			})
		}
	}
	t.Run("any other", func(t *testing.T) {
		src := odd{stagetest.Noise(image.NewRGBA64(r)).(*image.RGBA64)}
		_, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", src)}, step(32, "pad")).Run(t, pipeline.RunOptions{})
		got := seen["p@tile=32,32,0"]
		m, ok := got.Image.(*image.NRGBA64)
		if !ok {
			t.Fatalf("a %T, want 16 bits", got.Image)
		}
		for y := range 32 {
			for x := range 32 {
				want := color.NRGBA64Model.Convert(src.At(min(32+x, 36), min(y, 28)))
				if c := m.NRGBA64At(m.Rect.Min.X+x, m.Rect.Min.Y+y); c != want {
					t.Fatalf("at %d, %d: %v, want %v", x, y, c, want)
				}
			}
		}
	})
}

func TestTilesOfTiles(t *testing.T) {
	src := stagetest.Gray(100, 100)
	_, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", src)}, step(64, "pad"), step(32, "partial")).Run(t, pipeline.RunOptions{})
	if len(seen) != 16 {
		t.Fatalf("%d tiles of tiles: %v", len(seen), stagetest.IDs(seen))
	}
	for id, got := range seen {
		var n, x, y, m, dx, dy int
		fmt.Sscanf(id, "p@tile=%d,%d,%d@tile=%d,%d,%d", &n, &x, &y, &m, &dx, &dy)
		if err := stagetest.Same(got.Image, replicated(src, image.Rect(x+dx, y+dy, x+dx+32, y+dy+32))); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// file writes a PNG, since only the pictures of files have a lattice.
func file(t *testing.T, img image.Image) pipeline.Input {
	t.Helper()
	name := filepath.Join(t.TempDir(), "p.png")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := imageio.EncodePNG(f, img, imageio.PNGOptions{}); err != nil {
		t.Fatal(err)
	}
	return pipeline.Input{Name: "p.png", Path: name}
}

func TestOnlyPaddingDecodes(t *testing.T) {
	for _, edge := range []string{"drop", "partial", "pad"} {
		t.Run(edge, func(t *testing.T) {
			in := file(t, stagetest.Gray(70, 70))
			p := pipeline.New("", pipeline.Options{})
			p.SetSource(stagetest.Source{in})
			if err := p.Use(t.Context(), pipeline.NewRegistry(tile.Info()), "tile", "tile", map[string]any{"size": 32, "edge": edge}); err != nil {
				t.Fatal(err)
			}
			s, err := p.Run(t.Context(), pipeline.RunOptions{StateDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			want := int64(0)
			if edge == "pad" {
				want = 1
			}
			if s.Decoded != want {
				t.Errorf("%d pictures were decoded, want %d", s.Decoded, want)
			}
		})
	}
}

func TestPictureThatCannotBeDecoded(t *testing.T) {
	in := file(t, stagetest.Gray(70, 70))
	data, err := os.ReadFile(in.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in.Path, data[:len(data)/2], 0o666); err != nil {
		t.Fatal(err)
	}
	s, _ := stagetest.New(t, stagetest.Source{in, stagetest.Picture("whole", stagetest.Gray(40, 40))}, step(32, "pad")).Run(t, pipeline.RunOptions{})
	if s.Quarantined != 1 || s.Derived != 4 || !strings.HasPrefix(s.Failed[0].Cause, "decoding png: ") {
		t.Errorf("quarantined %d, derived %d, failed %v", s.Quarantined, s.Derived, s.Failed)
	}
}

func TestPairs(t *testing.T) {
	pair := func(w, h, scale int) pipeline.Input {
		in := stagetest.Picture("p", stagetest.Gray(w, h))
		lq := stagetest.Picture("p", stagetest.Gray(w/scale, h/scale))
		in.LQ, in.Scale = &lq, scale
		return in
	}
	tests := map[string]struct {
		in    pipeline.Input
		edge  string
		tiles int64
		cause string
	}{
		"cut alike":            {pair(64, 64, 4), "drop", 4, ""},
		"partial":              {pair(72, 64, 4), "partial", 6, ""},
		"scale does not fit":   {pair(63, 63, 3), "drop", 0, "make the size a multiple of 3"},
		"nothing to pad":       {pair(64, 64, 4), "pad", 4, ""},
		"padding is not known": {pair(72, 64, 4), "pad", 0, "edge: pad cannot fill up the tiles of a pair"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, seen := stagetest.New(t, stagetest.Source{tt.in}, step(32, tt.edge)).Run(t, pipeline.RunOptions{})
			if s.Derived != tt.tiles {
				t.Errorf("%d tiles, want %d", s.Derived, tt.tiles)
			}
			for id, got := range seen {
				if !got.Paired {
					t.Errorf("%s has lost its companion", id)
				}
			}
			if tt.cause != "" && (len(s.Failed) != 1 || !strings.Contains(s.Failed[0].Cause, tt.cause)) {
				t.Errorf("failed %v, want %q", s.Failed, tt.cause)
			}
		})
	}
}

func TestTheLatticeTravels(t *testing.T) {
	_, seen := stagetest.New(t, stagetest.Source{file(t, stagetest.Gray(60, 60))}, step(20, "drop")).Run(t, pipeline.RunOptions{})
	if got, want := seen["p.png@tile=20,20,40"].Grid, (pipeline.Grid{X: 4, Y: 0, Known: true}); got != want {
		t.Errorf("lattice %+v, want %+v", got, want)
	}
}

func TestNoteCountsEachRunAnew(t *testing.T) {
	stage, err := tile.Info().New(t.Context(), config(t, 32, "drop"), pipeline.Env{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		w    int
		want string
	}{
		{33, "3.0% of the area lies outside of whole tiles and was dropped"},
		{32, ""},
		{32*2000 + 1, "less than 0.1% of the area lies outside of whole tiles and was dropped"},
	} {
		p := pipeline.New("", pipeline.Options{})
		p.SetSource(stagetest.Source{
			stagetest.Picture("p", image.NewGray(image.Rect(0, 0, tt.w, 32))),
			stagetest.Picture("small", image.NewGray(image.Rect(0, 0, 8, 8))),
		})
		if err := p.Add(pipeline.Step{ID: "tile", Stage: stage, Info: tile.Info()}); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Run(t.Context(), pipeline.RunOptions{StateDir: t.TempDir()}); err != nil {
			t.Fatal(err)
		}
		if got := stage.(interface{ Note() string }).Note(); got != tt.want {
			t.Errorf("width %d: note %q, want %q", tt.w, got, tt.want)
		}
	}
}

func TestCostOfPadding(t *testing.T) {
	r := image.Rect(0, 0, 70, 40)
	const pixels = 4 * 32 * 32 // of 6 tiles, of which 2 are whole
	for want, img := range map[int64]image.Image{8 * pixels: image.NewNRGBA64(r), pixels: image.NewGray(r)} {
		cost, plan := stagetest.Cost(t, step(32, "pad"), stagetest.Picture("p", img))
		if cost.Output != want || plan.Output <= 0 {
			t.Errorf("%T: %+v, want %d; for planning %+v", img, cost, want, plan)
		}
	}
}

func TestWrongConfigurations(t *testing.T) {
	for name, values := range map[string]map[string]any{
		"no size": {}, "too small": {"size": 15}, "too large": {"size": 65536}, "edge": {"size": 32, "edge": "crop"},
	} {
		if err := stagetest.Err(t, stagetest.Step{Info: tile.Info(), Values: values}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
