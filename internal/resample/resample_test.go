package resample_test

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/disintegration/imaging"

	"github.com/forgepipe/forgepipe/internal/resample"
)

// filters are those of the goldens, by Pillow's names.
var filters = map[string]imaging.ResampleFilter{
	"nearest": imaging.NearestNeighbor, "box": imaging.Box, "bilinear": imaging.Linear,
	"bicubic": imaging.CatmullRom, "lanczos": imaging.Lanczos,
}

func read(t *testing.T, name string) image.Image {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".png"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// samples are those of a picture as its type has them, row by row.
func samples(img image.Image) []int {
	var out []int
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			switch c := img.At(x, y).(type) {
			case color.Gray:
				out = append(out, int(c.Y))
			case color.Gray16:
				out = append(out, int(c.Y))
			case color.RGBA:
				out = append(out, int(c.R), int(c.G), int(c.B), int(c.A))
			case color.NRGBA:
				out = append(out, int(c.R), int(c.G), int(c.B), int(c.A))
			case color.RGBA64:
				out = append(out, int(c.R), int(c.G), int(c.B), int(c.A))
			case color.NRGBA64:
				out = append(out, int(c.R), int(c.G), int(c.B), int(c.A))
			default:
				panic(fmt.Sprintf("BUG: %T", c))
			}
		}
	}
	return out
}

// compare reports the largest difference of two pictures' samples.
func compare(t *testing.T, got, want image.Image) (most, differing int) {
	t.Helper()
	if g, w := fmt.Sprintf("%T %v", got, got.Bounds()), fmt.Sprintf("%T %v", want, want.Bounds()); g != w {
		t.Fatalf("%s, want %s", g, w)
	}
	a, b := samples(got), samples(want)
	for i := range a {
		d := max(a[i]-b[i], b[i]-a[i])
		if d > 0 {
			differing++
		}
		most = max(most, d)
	}
	return most, differing
}

// TestAsPillow resizes the sources of the goldens. Where Pillow is exact about
// what it does, so are we; it cuts off the fraction when it divides by alpha.
func TestAsPillow(t *testing.T) {
	tolerance := map[string]int{
		"gray": 0, "rgb": 0, "dot": 0, "column": 0, "strip": 0,
		"rgba": 1, "gray16": 1, "strip16": 1,
	}
	names, err := filepath.Glob("testdata/*-*-*x*.png")
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`^(\w+)-(\w+)-(\d+)x(\d+)\.png$`)
	seen := map[string]bool{}
	for _, name := range names {
		m := form.FindStringSubmatch(filepath.Base(name))
		if m == nil {
			continue // of rgba16
		}
		seen[m[1]] = true
		t.Run(m[0], func(t *testing.T) {
			var size image.Point
			fmt.Sscan(m[3], &size.X)
			fmt.Sscan(m[4], &size.Y)
			want := read(t, m[0][:len(m[0])-len(".png")])
			got := resample.Resize(read(t, m[1]), size, filters[m[2]])
			if p, ok := want.(*image.NRGBA); ok {
				blacken(p)
			}
			most, differing := compare(t, got, want)
			if most > tolerance[m[1]] {
				t.Errorf("up to %d levels off, in %d samples", most, differing)
			}
		})
	}
	if len(seen) != len(tolerance) {
		t.Errorf("goldens of %v", seen)
	}
}

// blacken sets what is fully transparent to black: there Pillow keeps what the
// filter has left.
func blacken(m *image.NRGBA) {
	for i := 0; i < len(m.Pix); i += 4 {
		if m.Pix[i+3] == 0 {
			copy(m.Pix[i:i+3], []uint8{0, 0, 0})
		}
	}
}

// TestAsPillowInSixteenBitColour builds from Pillow's gray pictures what it does
// not have. Colours that are nearly transparent have few levels left, whose
// rounding division by alpha makes large.
func TestAsPillowInSixteenBitColour(t *testing.T) {
	join := func(name string) *image.NRGBA64 {
		var planes [4]*image.Gray16
		for i, letter := range []string{"r", "g", "b", "a"} {
			planes[i] = read(t, name+"-"+letter).(*image.Gray16)
		}
		m := image.NewNRGBA64(planes[0].Rect)
		for i := range planes[0].Pix {
			for c, p := range planes {
				m.Pix[i/2*8+2*c+i%2] = p.Pix[i]
			}
		}
		return m
	}
	src := join("rgba16")
	for _, size := range []image.Point{{X: 13, Y: 11}, {X: 53, Y: 47}} {
		name := fmt.Sprintf("rgba16-lanczos-%dx%d", size.X, size.Y)
		got, want := resample.Resize(src, size, lanczos).(*image.NRGBA64), join(name)
		a, b := samples(got), samples(want)
		for i := range a {
			alpha := b[i|3]
			if d := max(a[i]-b[i], b[i]-a[i]); d > 1 && (alpha == 0 || d > 1+2*65535/alpha) {
				t.Fatalf("%s: sample %d of pixel %d is %d, want %d; alpha %d", name, i%4, i/4, a[i], b[i], alpha)
			}
		}
	}
	opaque := image.NewRGBA64(image.Rect(0, 0, 37, 29))
	draw.Draw(opaque, opaque.Rect, read(t, "gray16"), image.Point{}, draw.Src)
	for name := range filters {
		got := samples(resample.Resize(opaque, image.Pt(20, 61), filters[name]))
		want := samples(read(t, "gray16-"+name+"-20x61"))
		for i, v := range got {
			if w := append(want[i/4:i/4+1:i/4+1], 65535)[i%4/3]; max(v-w, w-v) > 1 {
				t.Fatalf("%s: sample %d of pixel %d is %d, want %d", name, i%4, i/4, v, w)
			}
		}
	}
}

// pictures are of all types, with content that depends on the place.
func pictures(r image.Rectangle) map[string]image.Image {
	rnd := rand.New(rand.NewPCG(1, 2))
	opaque := make(color.Palette, 256)
	for i := range opaque {
		opaque[i] = color.NRGBA{R: uint8(i), G: uint8(7 * i), B: uint8(255 - i), A: 255}
	}
	clear := append(append(color.Palette(nil), opaque[1:]...), color.NRGBA{R: 200, G: 10, B: 30, A: 40})
	ycbcr, nycbcra := image.NewYCbCr(r, image.YCbCrSubsampleRatio420), image.NewNYCbCrA(r, image.YCbCrSubsampleRatio422)
	for _, p := range [][]uint8{ycbcr.Y, ycbcr.Cb, ycbcr.Cr, nycbcra.Y, nycbcra.Cb, nycbcra.Cr, nycbcra.A} {
		for i := range p {
			p[i] = uint8(rnd.Uint32())
		}
	}
	out := map[string]image.Image{"ycbcr": ycbcr, "nycbcra": nycbcra}
	for name, m := range map[string]draw.Image{
		"gray": image.NewGray(r), "gray16": image.NewGray16(r), "rgba": image.NewRGBA(r), "nrgba": image.NewNRGBA(r),
		"rgba64": image.NewRGBA64(r), "nrgba64": image.NewNRGBA64(r), "cmyk": image.NewCMYK(r), "alpha": image.NewAlpha(r),
		"palette": image.NewPaletted(r, opaque), "clear palette": image.NewPaletted(r, clear),
	} {
		if p, ok := m.(*image.Paletted); ok {
			for i := range p.Pix {
				p.Pix[i] = uint8(rnd.Uint32())
			}
		} else {
			for y := r.Min.Y; y < r.Max.Y; y++ {
				for x := r.Min.X; x < r.Max.X; x++ {
					m.Set(x, y, color.NRGBA64{R: uint16(rnd.Uint32()), G: uint16(rnd.Uint32()), B: uint16(rnd.Uint32()), A: uint16(rnd.Uint32())})
				}
			}
		}
		out[name] = m
	}
	return out
}

// TestTypes resizes pictures of all types, and views into larger ones, and
// compares with what conversion to the result's type gives.
func TestTypes(t *testing.T) {
	want := map[string]draw.Image{
		"gray": &image.Gray{}, "gray16": &image.Gray16{}, "rgba": &image.RGBA{}, "nrgba": &image.NRGBA{},
		"rgba64": &image.RGBA64{}, "nrgba64": &image.NRGBA64{}, "cmyk": &image.RGBA{}, "ycbcr": &image.RGBA{},
		"nycbcra": &image.NRGBA{}, "palette": &image.RGBA{}, "clear palette": &image.NRGBA{}, "alpha": &image.NRGBA64{},
	}
	whole := image.Rect(-3, 5, 38, 40)
	inner := image.Rect(2, 8, 31, 30)
	all := pictures(whole)
	if len(all) != len(want) {
		t.Fatalf("%d types", len(all))
	}
	for name, img := range all {
		for _, f := range []string{"nearest", "bicubic"} {
			t.Run(name+" "+f, func(t *testing.T) {
				view := img.(interface {
					SubImage(image.Rectangle) image.Image
				}).SubImage(inner)
				for _, size := range []image.Point{{X: 11, Y: 9}, {X: 60, Y: 9}, inner.Size()} {
					got := resample.Resize(view, size, filters[f])
					if g, w := fmt.Sprintf("%T %v", got, got.Bounds()), fmt.Sprintf("%T %v", want[name], image.Rectangle{Max: size}); g != w {
						t.Fatalf("%s, want %s", g, w)
					}
					converted := canvas(want[name], inner.Size())
					for y := range inner.Dy() {
						for x := range inner.Dx() {
							converted.Set(x, y, straight(view.At(inner.Min.X+x, inner.Min.Y+y)))
						}
					}
					if most, _ := compare(t, got, resample.Resize(converted, size, filters[f])); most > 0 {
						t.Errorf("%v: up to %d levels off", size, most)
					}
				}
			})
		}
	}
}

// straight is a colour that is converted without a loss that its type does not
// have: NYCbCrA has no conversion to NRGBA of its own.
func straight(c color.Color) color.Color {
	if n, ok := c.(color.NYCbCrA); ok {
		r, g, b := color.YCbCrToRGB(n.Y, n.Cb, n.Cr)
		return color.NRGBA{R: r, G: g, B: b, A: n.A}
	}
	return c
}

// canvas is a picture of the type of like.
func canvas(like image.Image, size image.Point) draw.Image {
	r := image.Rectangle{Max: size}
	switch like.(type) {
	case *image.Gray:
		return image.NewGray(r)
	case *image.Gray16:
		return image.NewGray16(r)
	case *image.RGBA:
		return image.NewRGBA(r)
	case *image.NRGBA:
		return image.NewNRGBA(r)
	case *image.RGBA64:
		return image.NewRGBA64(r)
	}
	return image.NewNRGBA64(r)
}

// TestFlatStaysFlat is where weights that do not add up show.
func TestFlatStaysFlat(t *testing.T) {
	sizes := [][2]image.Point{
		{{X: 1, Y: 1}, {X: 300, Y: 2}}, {{X: 7, Y: 3}, {X: 5, Y: 11}}, {{X: 100, Y: 99}, {X: 33, Y: 98}},
		{{X: 64, Y: 2}, {X: 21, Y: 3}}, {{X: 32900, Y: 1}, {X: 1, Y: 1}}, {{X: 3, Y: 5000}, {X: 2, Y: 7}},
	}
	for _, size := range sizes {
		r := image.Rectangle{Max: size[0]}
		for _, img := range []draw.Image{image.NewGray(r), image.NewRGBA(r), image.NewNRGBA64(r)} {
			for _, c := range []color.Color{color.White, color.Gray{Y: 77}} {
				flat(img, c)
				for _, name := range resample.Names() {
					got := resample.Resize(img, size[1], resample.Named(name))
					if most, _ := compare(t, got, flat(canvas(img, size[1]), c)); most > 0 {
						t.Errorf("%s, %T %v to %v: %v is %d levels off", name, img, size[0], size[1], c, most)
					}
				}
			}
		}
	}
}

func flat(m draw.Image, c color.Color) image.Image {
	draw.Draw(m, m.Bounds(), image.NewUniform(c), image.Point{}, draw.Src)
	return m
}

// TestTransparentPixelsDoNotBleed puts red that nobody sees beside gray.
func TestTransparentPixelsDoNotBleed(t *testing.T) {
	r := image.Rect(0, 0, 40, 40)
	for img, red := range map[draw.Image]color.Color{image.NewNRGBA(r): color.NRGBA{R: 255}, image.NewNRGBA64(r): color.NRGBA64{R: 65535}} {
		for y := range 40 {
			for x := range 40 {
				img.Set(x, y, red)
			}
			for x := range 17 {
				img.Set(x, y, color.Gray{Y: 100})
			}
		}
		for _, name := range resample.Names() {
			for _, size := range []image.Point{{X: 13, Y: 9}, {X: 97, Y: 41}} {
				got := resample.Resize(img, size, resample.Named(name))
				visible := 0
				for y := range size.Y {
					for x := range size.X {
						c := color.NRGBA64Model.Convert(got.At(x, y)).(color.NRGBA64)
						if c.A == 0 {
							continue
						}
						visible++
						// Alpha that overshoots is clipped, and the colours are not.
						off := max(int(c.G)-100*257, 100*257-int(c.G))
						if c.R != c.G || c.G != c.B || c.A >= 0x8000 && off > 12*257 {
							t.Fatalf("%T, %s to %v: at %d, %d is %v", img, name, size, x, y, c)
						}
					}
				}
				if visible == 0 || visible == size.X*size.Y {
					t.Fatalf("%d visible pixels", visible)
				}
			}
		}
	}
}

// TestOvershootStaysWithinAlpha: a premultiplied colour above its alpha is none.
func TestOvershootStaysWithinAlpha(t *testing.T) {
	r := image.Rect(0, 0, 24, 24)
	for _, img := range []draw.Image{image.NewRGBA(r), image.NewRGBA64(r)} {
		for y := range 24 {
			for x := range 24 {
				c := color.NRGBA64{A: 0x8000}
				if (x/4+y/4)%2 == 0 {
					c.R, c.B = 0xffff, 0xffff
				}
				img.Set(x, y, c)
			}
		}
		got := samples(resample.Resize(img, image.Pt(61, 57), lanczos))
		for i := 0; i < len(got); i += 4 {
			if a := got[i+3]; max(got[i], got[i+1], got[i+2]) > a {
				t.Fatalf("%T: pixel %d is %v", img, i/4, got[i:i+4])
			}
		}
	}
}

// TestMemory holds what is allocated against what Bytes says. The rows of the
// large pictures are all the same memory.
func TestMemory(t *testing.T) {
	for _, pixel := range []int64{1, 4, 8} {
		if _, work := resample.Bytes(image.Pt(10000, 10000), image.Pt(512, 512), lanczos, pixel); work > 2<<20 {
			t.Errorf("100 megapixels of %d bytes need %d bytes", pixel, work)
		}
	}
	row := make([]uint8, 80000)
	tests := map[string]struct {
		img   image.Image
		to    image.Point
		pixel int64
		most  int64 // bytes beside the result
	}{
		"large":             {&image.Gray{Pix: row, Rect: image.Rect(0, 0, 10000, 1000)}, image.Pt(512, 51), 1, 1 << 20},
		"large, in colour":  {&image.NRGBA{Pix: row, Rect: image.Rect(0, 0, 10000, 500)}, image.Pt(512, 51), 4, 2 << 20},
		"large, in 16 bits": {&image.NRGBA64{Pix: row, Rect: image.Rect(0, 0, 10000, 300)}, image.Pt(256, 51), 8, 2 << 20},
		"enlarged":          {image.NewRGBA(image.Rect(0, 0, 100, 100)), image.Pt(800, 800), 4, 1 << 20},
		"a palette":         {image.NewPaletted(image.Rect(0, 0, 999, 50), color.Palette{color.White}), image.Pt(100, 40), 4, 1 << 20},
		"nearest":           {image.NewRGBA(image.Rect(0, 0, 100, 100)), image.Pt(80, 80), 4, 1 << 14},
		"very flat, 16 bit": {image.NewGray16(image.Rect(0, 0, 9000, 20)), image.Pt(8000, 2), 2, 3 << 20},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := lanczos
			if name == "nearest" {
				f = imaging.NearestNeighbor
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			resample.Resize(tt.img, tt.to, f)
			runtime.ReadMemStats(&after)
			got := int64(after.TotalAlloc - before.TotalAlloc)
			result, work := resample.Bytes(tt.img.Bounds().Size(), tt.to, f, tt.pixel)
			// Size classes round up by an eighth at most.
			if most := (result + work) * 9 / 8; got > most+4096 || work > tt.most {
				t.Errorf("allocated %d bytes, told %d + %d, at most %d beside the result", got, result, work, tt.most)
			}
			if result != int64(tt.to.X*tt.to.Y)*tt.pixel || got < result+work/4 {
				t.Errorf("told %d + %d bytes, allocated only %d", result, work, got)
			}
		})
	}
}

func TestEmptyPicturesAreBugs(t *testing.T) {
	for _, tt := range []struct{ from, to image.Point }{
		{image.Pt(0, 4), image.Pt(1, 1)}, {image.Pt(4, 4), image.Pt(0, 1)}, {image.Pt(4, 4), image.Pt(1, -1)},
	} {
		func() {
			defer func() {
				if p := recover(); p == nil || !strings.HasPrefix(fmt.Sprint(p), "BUG:") {
					t.Errorf("%v to %v: %v", tt.from, tt.to, p)
				}
			}()
			resample.Resize(image.NewGray(image.Rectangle{Max: tt.from}), tt.to, lanczos)
		}()
	}
}

var lanczos = imaging.Lanczos

func fill(m *image.RGBA) *image.RGBA {
	for i := range m.Pix {
		m.Pix[i] = uint8(i * i >> 7)
		if i%4 == 3 {
			m.Pix[i] = 255
		}
	}
	return m
}

// BenchmarkResize takes a photograph's size to a thumbnail's and to twice its
// size. Run it with -cpu 1: imaging takes what it gets.
func BenchmarkResize(b *testing.B) {
	big := fill(image.NewRGBA(image.Rect(0, 0, 4000, 3000)))
	small := fill(image.NewRGBA(image.Rect(0, 0, 512, 512)))
	gray := image.NewGray(big.Rect)
	deep := image.NewRGBA64(big.Rect)
	straight := &image.NRGBA{Pix: append([]uint8(nil), big.Pix...), Stride: big.Stride, Rect: big.Rect}
	for i := 3; i < len(straight.Pix); i += 4 {
		straight.Pix[i] = uint8(i)
	}
	thumb, twice := image.Pt(512, 384), image.Pt(1024, 1024)
	for _, c := range []struct {
		name string
		img  image.Image
		size image.Point
		f    imaging.ResampleFilter
	}{
		{"rgba/down/lanczos", big, thumb, lanczos}, {"rgba/down/bilinear", big, thumb, imaging.Linear},
		{"rgba/down/box", big, thumb, imaging.Box},
		{"rgba/up/lanczos", small, twice, lanczos}, {"nrgba/down/lanczos", straight, thumb, lanczos},
		{"gray/down/lanczos", gray, thumb, lanczos}, {"rgba64/down/lanczos", deep, thumb, lanczos},
	} {
		b.Run(c.name+"/forgepipe", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				resample.Resize(c.img, c.size, c.f)
			}
		})
		b.Run(c.name+"/imaging", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				imaging.Resize(c.img, c.size.X, c.size.Y, c.f)
			}
		})
	}
}

// TestBoxesKeepThePlace reads parts of a ramp, whose value says where it is.
func TestBoxesKeepThePlace(t *testing.T) {
	img := image.NewGray16(image.Rect(3, 4, 103, 104))
	for y := range 100 {
		for x := range 100 {
			img.SetGray16(3+x, 4+y, color.Gray16{Y: uint16(400*x + 200*y)})
		}
	}
	for _, box := range []resample.Box{
		{X: 20.375, Y: 30.625, W: 40.25, H: 30.125}, {X: 20, Y: 30, W: 12, H: 12}, {X: 20.5, Y: 30, W: 12, H: 6}, {X: 30, Y: 30, W: 9, H: 10.5},
	} {
		for name, f := range filters {
			size := image.Pt(12, 12)
			out, err := resample.ResizeBox(t.Context(), img, box, size, f)
			if err != nil {
				t.Fatal(err)
			}
			got := out.(*image.Gray16)
			for y := range size.Y {
				for x := range size.X {
					px := box.X + (float64(x)+0.5)*box.W/12 - 0.5
					py := box.Y + (float64(y)+0.5)*box.H/12 - 0.5
					near := 30.0                            // a twentieth of a pixel: the filters are sampled
					if name == "nearest" || name == "box" { // by less than a pixel
						near = 301 + 300
					}
					if d := float64(got.Gray16At(x, y).Y) - 400*px - 200*py; d > near || d < -near {
						t.Fatalf("%s of %v at %d, %d: off by %.1f", name, box, x, y, d)
					}
				}
			}
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a box that reaches beyond the picture is taken")
		}
	}()
	_, _ = resample.ResizeBox(t.Context(), img, resample.Box{X: 90, Y: 0, W: 10.125, H: 10}, image.Pt(5, 5), filters["box"])
}

// A resize that nobody wants any more ends before it is done.
func TestResizeEnds(t *testing.T) {
	for _, name := range []string{"nearest", "lanczos"} {
		for _, img := range []image.Image{image.NewRGBA(image.Rect(0, 0, 40, 30)), image.NewGray16(image.Rect(0, 0, 40, 30))} {
			ctx, cancel := context.WithCancel(t.Context())
			out, err := resample.ResizeBox(ctx, img, resample.Whole(img), image.Pt(80, 60), resample.Named(name))
			if err != nil || out.Bounds().Dx() != 80 {
				t.Errorf("%s: %v", name, err)
			}
			cancel()
			if out, err := resample.ResizeBox(ctx, img, resample.Whole(img), image.Pt(80, 60), resample.Named(name)); out != nil || !errors.Is(err, context.Canceled) {
				t.Errorf("%s after its context ended: %v, %v", name, out, err)
			}
		}
	}
}
