package sheet_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"math"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/internal/resample"
	"github.com/forgepipe/forgepipe/stages/compare/sheet"
)

var update = flag.Bool("update", false, "write the golden pictures anew")

// ramp is a smooth picture, with some of it added everywhere.
func ramp(w, h int, add uint8) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.SetNRGBA(x, y, color.NRGBA{uint8(x*200/w) + add, uint8(y*200/h) + add, uint8((x+y)*200/(w+h)) + add, 255})
		}
	}
	return m
}

func drawn[T draw.Image](dst T, src image.Image) T {
	draw.Draw(dst, dst.Bounds(), src, src.Bounds().Min, draw.Src)
	return dst
}

func gray(v uint8) *image.Gray {
	m := image.NewGray(image.Rect(0, 0, 8, 6))
	for i := range m.Pix {
		m.Pix[i] = v
	}
	return m
}

func TestCompare(t *testing.T) {
	translucent := func(c color.NRGBA) image.Image {
		m := image.NewNRGBA(image.Rect(0, 0, 8, 6))
		for i := range 8 * 6 { // image/draw would forget what is hidden
			m.SetNRGBA(i%8, i/8, c)
		}
		return m
	}
	deep := func(v uint16) image.Image {
		m := image.NewGray16(image.Rect(0, 0, 8, 6))
		draw.Draw(m, m.Rect, image.NewUniform(color.Gray16{Y: v}), image.Point{}, draw.Src)
		return m
	}
	one := gray(100)
	one.Pix[13] = 151 // of 48
	base := ramp(16, 12, 0)
	palette := image.NewPaletted(image.Rect(0, 0, 8, 6), color.Palette{color.Black, color.Gray{Y: 100}})
	for i := range palette.Pix {
		palette.Pix[i] = 1
	}
	inf := math.Inf(1)
	tests := map[string]struct {
		a, b            image.Image
		psnr, mean, max float64
		enlarged        bool
	}{
		"the same":                   {base, drawn(image.NewRGBA(base.Rect), base), inf, 0, 0, false},
		"the same in 16 bits":        {base, drawn(image.NewNRGBA64(base.Rect), base), inf, 0, 0, false},
		"gray and colour":            {gray(100), drawn(image.NewRGBA(image.Rect(0, 0, 8, 6)), gray(100)), inf, 0, 0, false},
		"a palette":                  {gray(100), palette, inf, 0, 0, false},
		"elsewhere":                  {ramp(16, 12, 0).SubImage(image.Rect(5, 5, 9, 9)), base.SubImage(image.Rect(5, 5, 9, 9)), inf, 0, 0, false},
		"all by ten":                 {gray(100), gray(110), 20 * math.Log10(255/10.), 10, 10, false},
		"all by ten, the other way":  {gray(110), gray(100), 20 * math.Log10(255/10.), 10, 10, false},
		"one pixel":                  {gray(100), one, 10 * math.Log10(255*255*48/(51*51.)), 51 / 48., 51, false},
		"less than a level":          {deep(0x8000), deep(0x8001), 20 * math.Log10(65535), 1 / 257., 1 / 257., false},
		"black and white":            {gray(0), gray(255), 0, 255, 255, false},
		"alpha":                      {translucent(color.NRGBA{0, 0, 0, 255}), translucent(color.NRGBA{0, 0, 0, 55}), 20 * math.Log10(255*2/200.), 50, 200, false},
		"nothing but what is hidden": {translucent(color.NRGBA{10, 20, 30, 0}), translucent(color.NRGBA{200, 0, 0, 0}), inf, 0, 0, false},
		"enlarged":                   {gray(100), resample.Resize(gray(100), image.Pt(24, 18), resample.Named("box")), inf, 0, 0, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d, err := sheet.Compare(t.Context(), tt.a, tt.b, sheet.Options{})
			if err != nil {
				t.Fatal(err)
			}
			near := func(a, b float64) bool { return a == b || math.Abs(a-b) < 1e-9*max(1, math.Abs(b)) }
			if !near(d.PSNR, tt.psnr) || !near(d.Mean, tt.mean) || !near(d.Max, tt.max) || d.Enlarged != tt.enlarged {
				t.Errorf("PSNR %v, mean %v, max %v, enlarged %v, want %v", d.PSNR, d.Mean, d.Max, d.Enlarged, tt)
			}
			if want := tt.max == 0 && !tt.enlarged; d.Equal() != want {
				t.Errorf("equal: %v", d.Equal())
			}
		})
	}
}

// A picture is compared with one of another size as if it had been resized before; also
// the region of it, which is counted in pixels of the larger one.
func TestSizesAndRegions(t *testing.T) {
	large, small := ramp(45, 36, 0), ramp(15, 12, 20)
	odd := ramp(13, 36, 3)
	for name, tt := range map[string]struct {
		a, b   image.Image
		filter string
		region image.Rectangle
	}{
		"nearest":           {small, large, "nearest", image.Rectangle{}},
		"bicubic":           {small, large, "bicubic", image.Rectangle{}},
		"larger first":      {large, small, "nearest", image.Rectangle{}},
		"another shape":     {odd, large, "nearest", image.Rectangle{}},
		"a region":          {small, large, "nearest", image.Rect(7, 4, 20, 29)},
		"over the border":   {small, large, "nearest", image.Rect(40, 30, 400, 400)},
		"a region, bicubic": {small, large, "bicubic", image.Rect(6, 3, 21, 30)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := sheet.Compare(t.Context(), tt.a, tt.b, sheet.Options{Filter: tt.filter, Region: tt.region})
			if err != nil {
				t.Fatal(err)
			}
			whole := func(m image.Image) image.Image {
				m = resample.Resize(m, image.Pt(45, 36), resample.Named(tt.filter))
				if tt.region.Empty() {
					return m
				}
				return m.(*image.NRGBA).SubImage(tt.region)
			}
			want, err := sheet.Compare(t.Context(), whole(tt.a), whole(tt.b), sheet.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got.PSNR != want.PSNR || got.Max != want.Max || !got.Enlarged {
				t.Errorf("%v (enlarged: %v), want %v", got, got.Enlarged, want)
			}
		})
	}
}

// at finds a picture on a sheet: its upper left corner.
func at(t *testing.T, on *image.RGBA, what image.Image) image.Point {
	t.Helper()
	m := drawn(image.NewRGBA(image.Rectangle{Max: what.Bounds().Size()}), what)
	for y := 0; y+m.Rect.Dy() <= on.Rect.Dy(); y++ {
	search:
		for x := 0; x+m.Rect.Dx() <= on.Rect.Dx(); x++ {
			for row := range m.Rect.Dy() {
				if !bytes.Equal(m.Pix[row*m.Stride:][:m.Stride], on.Pix[on.PixOffset(x, y+row):][:m.Stride]) {
					continue search
				}
			}
			return image.Pt(x, y)
		}
	}
	t.Fatalf("a picture of %v is nowhere on the sheet of %v", m.Rect.Size(), on.Rect.Size())
	return image.Point{}
}

func part(m *image.NRGBA, x0, y0, x1, y1 int) image.Image {
	return m.SubImage(image.Rect(x0, y0, x1, y1))
}

// On every sheet the pictures are as they are, pixel by pixel.
func TestLayouts(t *testing.T) {
	before, after := ramp(400, 300, 0), ramp(400, 300, 0)
	draw.Draw(after, image.Rect(100, 50, 110, 60), image.NewUniform(color.NRGBA{1, 2, 3, 255}), image.Point{}, draw.Src)
	make := func(layout sheet.Layout, o sheet.Options) *image.RGBA {
		o.Layout = layout
		m, _, err := sheet.Draw(t.Context(), sheet.Picture{Name: "a.png", Image: before}, sheet.Picture{Name: "b.png", Image: after}, o)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	t.Run("side", func(t *testing.T) {
		m := make(sheet.Side, sheet.Options{})
		p, q := at(t, m, before), at(t, m, after)
		if q.X < p.X+400 || q.Y != p.Y || q.X > p.X+440 {
			t.Errorf("before is at %v and after at %v", p, q)
		}
		if bare := make(sheet.Side, sheet.Options{NoLabels: true}); bare.Rect.Dy() >= m.Rect.Dy() || at(t, bare, after).Y > 12 {
			t.Errorf("without labels the sheet has %v, with them %v", bare.Rect.Size(), m.Rect.Size())
		}
	})
	t.Run("split", func(t *testing.T) {
		for position, x := range map[float64]int{0.5: 200, 0.25: 100} {
			m := make(sheet.Split, sheet.Options{Position: position})
			p, q := at(t, m, part(before, 0, 0, x-2, 300)), at(t, m, part(after, x+2, 0, 400, 300))
			if q.X != p.X+x+2 || q.Y != p.Y {
				t.Errorf("before is at %v and what is right of the line at %v", p, q)
			}
			if c := m.RGBAAt(p.X+x, p.Y+5); c != (color.RGBA{255, 255, 255, 255}) {
				t.Errorf("the line is %v", c)
			}
		}
	})
	t.Run("difference", func(t *testing.T) {
		m := make(sheet.Heat, sheet.Options{})
		black := image.NewNRGBA(image.Rect(0, 0, 400, 50))
		draw.Draw(black, black.Rect, image.Black, image.Point{}, draw.Src)
		p := at(t, m, black)
		for y := range 300 {
			for x := range 400 {
				is := m.RGBAAt(p.X+x, p.Y+y) != color.RGBA{0, 0, 0, 255}
				if want := image.Pt(x, y).In(image.Rect(100, 50, 110, 60)); is != want {
					t.Fatalf("at %d, %d it says that there is a difference: %v", x, y, is)
				}
			}
		}
	})
	t.Run("sheet", func(t *testing.T) {
		m := make(sheet.All, sheet.Options{})
		p, q := at(t, m, before), at(t, m, after)
		s := at(t, m, part(after, 202, 0, 400, 300))
		if s == q.Add(image.Pt(202, 0)) { // found in the picture after itself: look below
			s = at(t, m.SubImage(image.Rect(0, p.Y+300, m.Rect.Dx(), m.Rect.Dy())).(*image.RGBA), part(after, 202, 0, 400, 300))
		}
		if q.Y != p.Y || s == p {
			t.Errorf("before at %v, after at %v, split at %v", p, q, s)
		}
	})
}

// What is small is magnified, and what is large made smaller, where the map of
// differences keeps the largest.
func TestScales(t *testing.T) {
	small := ramp(50, 40, 0)
	m, _, err := sheet.Draw(t.Context(), sheet.Picture{Image: small}, sheet.Picture{Image: small}, sheet.Options{Layout: sheet.Side})
	if err != nil {
		t.Fatal(err)
	}
	at(t, m, resample.Resize(small, image.Pt(350, 280), resample.Named("nearest")))

	large, other := ramp(2000, 1000, 0), ramp(2000, 1000, 0)
	other.SetNRGBA(1234, 567, color.NRGBA{255, 255, 255, 255})
	m, d, err := sheet.Draw(t.Context(), sheet.Picture{Image: large}, sheet.Picture{Image: other}, sheet.Options{Layout: sheet.Heat, MaxSide: 200, NoLabels: true})
	if err != nil {
		t.Fatal(err)
	}
	hot := 0
	for y := range 100 {
		for x := range 200 {
			// In a column that is wider, for its scale, with a gap of 8 around it.
			if c := m.RGBAAt(8+4+x, 8+y); c.R > 200 && image.Pt(x, y) == image.Pt(123, 56) {
				hot++
			}
		}
	}
	if hot != 1 || m.Rect.Dx() != 16+208 || d.Max < 100 {
		t.Errorf("the one pixel that differs is not to be seen on the sheet of %v (largest difference %v)", m.Rect.Size(), d.Max)
	}
}

// Two sheets as they looked when people had looked at them.
func TestGolden(t *testing.T) {
	after := ramp(60, 40, 0)
	draw.Draw(after, image.Rect(10, 10, 30, 20), image.NewUniform(color.NRGBA{250, 240, 200, 255}), image.Point{}, draw.Src)
	before := resample.Resize(after, image.Pt(15, 10), resample.Named("box"))
	for file, o := range map[string]sheet.Options{"sheet.png": {}, "split.png": {Layout: sheet.Split, MaxSide: 64, Filter: "bicubic"}} {
		var b bytes.Buffer
		d, err := sheet.Encode(t.Context(), &b, sheet.Picture{Name: "lq/длинное-имя-写真-with-many-words-that-say-nothing-0001.png", Image: before}, sheet.Picture{Name: "hq/0001.png", Image: after}, o)
		if err != nil || d.PSNR < 10 {
			t.Fatal(d, err)
		}
		path := "testdata/" + file
		if *update {
			img, err := png.Decode(bytes.NewReader(b.Bytes()))
			if err != nil {
				t.Fatal(err)
			}
			var small bytes.Buffer
			if err := errors.Join((&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, img), os.WriteFile(path, small.Bytes(), 0o666)); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m, err := png.Decode(&b)
		if err != nil {
			t.Fatal(err)
		}
		golden, err := png.Decode(bytes.NewReader(want))
		if err != nil {
			t.Fatal(err)
		}
		if d, err := sheet.Compare(t.Context(), golden, m, sheet.Options{}); err != nil || d.PSNR < 45 || d.Enlarged {
			t.Errorf("%s: %v (sizes differ: %v, %v): look at it, and run the test with -update", file, d, d.Enlarged, err)
		}
	}
}

func TestErrors(t *testing.T) {
	base := sheet.Picture{Image: ramp(10, 10, 0)}
	full := errors.New("disk full")
	for name, tt := range map[string]struct {
		o    sheet.Options
		w    io.Writer
		want string
	}{
		"layout":           {sheet.Options{Layout: "three"}, io.Discard, `there is no layout "three": use sheet, side, split, difference`},
		"format":           {sheet.Options{Format: "jpeg"}, io.Discard, `there is no format "jpeg"`},
		"filter":           {sheet.Options{Filter: "sharp"}, io.Discard, `there is no filter "sharp"`},
		"transition":       {sheet.Options{Transition: "cube"}, io.Discard, `there is no transition "cube"`},
		"small":            {sheet.Options{MaxSide: 63}, io.Discard, "the longest side is 63, and must be from 64 to 8192"},
		"fps":              {sheet.Options{FPS: 51}, io.Discard, "the number of frames in a second is 51"},
		"speed":            {sheet.Options{Speed: math.NaN()}, io.Discard, "the speed is NaN"},
		"outside":          {sheet.Options{Region: image.Rect(10, 0, 20, 10)}, io.Discard, "the region 10,0,10,10 lies outside of the picture, which has 10 x 10 pixels"},
		"a full disk":      {sheet.Options{}, failing{full}, "disk full"},
		"a full disk, gif": {sheet.Options{Format: sheet.GIF}, failing{full}, "encoding gif: disk full"},
	} {
		_, err := sheet.Encode(t.Context(), tt.w, base, base, tt.o)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if _, err := sheet.Compare(t.Context(), base.Image, image.NewGray(image.Rect(0, 0, 0, 3)), sheet.Options{}); err == nil {
		t.Error("an empty picture is compared")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, f := range []sheet.Format{sheet.PNG, sheet.GIF} {
		if _, err := sheet.Encode(ended, io.Discard, base, base, sheet.Options{Format: f}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: after the end: %v", f, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestParseRegion(t *testing.T) {
	if r, err := sheet.ParseRegion("1, 2,30,40"); err != nil || r != image.Rect(1, 2, 31, 42) {
		t.Errorf("%v, %v", r, err)
	}
	for _, text := range []string{"1,2,3", "1,2,3,4,5", "1,2,0,4", "-1,2,3,4", "a,2,3,4", "1,2,3,99999999999", ""} {
		if r, err := sheet.ParseRegion(text); err == nil {
			t.Errorf("%q is %v", text, r)
		}
	}
}

// What is leased is enough: everything that is allocated, had it all been kept.
func TestBytes(t *testing.T) {
	a, b := ramp(300, 200, 0), ramp(900, 600, 3)
	for name, o := range map[string]sheet.Options{
		"sheet": {}, "side": {Layout: sheet.Side}, "split": {Layout: sheet.Split}, "difference": {Layout: sheet.Heat},
		"bicubic": {Filter: "bicubic", MaxSide: 2048}, "gif": {Format: sheet.GIF, FPS: 2}, "webp": {Format: sheet.WebP, FPS: 2},
	} {
		if _, err := imageio.WebPLibrary(); err != nil && o.Format == sheet.WebP {
			continue
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := sheet.Encode(t.Context(), io.Discard, sheet.Picture{Image: a}, sheet.Picture{Image: b}, o); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		took, said := int64(after.TotalAlloc-before.TotalAlloc), o.Bytes(a.Rect.Size(), b.Rect.Size())
		t.Logf("%s: allocated %d KiB of %d", name, took>>10, said>>10)
		if took > said || o.Format == sheet.PNG && said > 4*took {
			t.Errorf("%s: %d bytes were allocated, and %d are said to be needed", name, took, said)
		}
	}
}
