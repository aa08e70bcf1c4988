package model_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"sync"
	"testing"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/internal/resample"
	"github.com/forgepipe/forgepipe/model"
)

func read(t testing.TB, name string) image.Image {
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

// tensor makes room for a picture and fills it.
func tensor(t testing.TB, s model.Spec, img image.Image) []byte {
	t.Helper()
	dst := bytes.Repeat([]byte{0xa5}, int(s.TensorBytes(img.Bounds().Size()))) // as a batch before this one left it
	if err := s.Fill(t.Context(), dst, img); err != nil {
		t.Fatal(err)
	}
	return dst
}

// floats are the elements of a float32 tensor.
func floats(b []byte) []float32 {
	out := make([]float32, len(b)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.NativeEndian.Uint32(b[4*i:]))
	}
	return out
}

// samples are the 8-bit samples that s gives, pixel by pixel.
func samples(t testing.TB, s model.Spec, img image.Image) []int {
	t.Helper()
	s.Layout, s.Range = model.NHWC, model.ZeroTo255
	var out []int
	for _, v := range floats(tensor(t, s, img)) {
		out = append(out, int(v))
	}
	return out
}

// TestAsPillow compares all photographs and noise with what Pillow and
// torchvision's sizes make of them, sample by sample.
func TestAsPillow(t *testing.T) {
	f, err := os.Open("testdata/cases.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	golden, at := map[string]*image.Gray{}, map[string]int{}
	lines, total := bufio.NewScanner(f), 0
	for lines.Scan() {
		var name, kind, mode string
		var s model.Spec
		if _, err := fmt.Sscan(lines.Text(), &name, &kind, &s.Filter, &mode, &s.Width, &s.Height, &s.Shorter); err != nil {
			t.Fatal(err)
		}
		switch kind {
		case "squash":
			s.Resize = model.Squash
		case "shortest":
			s.Resize = model.Shortest
		case "crop":
			s.Resize, s.Crop = model.Shortest, model.Centre
		case "centre":
			s.Resize, s.Crop = model.NoResize, model.Centre
		}
		if mode == "L" {
			s.Channels = model.Gray
		}
		if golden[name] == nil {
			golden[name] = read(t, name+".golden").(*image.Gray)
		}
		got := samples(t, s, read(t, name))
		pix := golden[name].Pix[at[name]:]
		most, differing := 0, 0
		for i, v := range got {
			d := max(v-int(pix[i]), int(pix[i])-v)
			most = max(most, d)
			if d > 0 {
				differing++
			}
		}
		at[name] += len(got)
		total += len(got)
		if most > 0 {
			t.Errorf("%s: %d of %d samples are off, by up to %d", lines.Text(), differing, len(got), most)
		}
	}
	photos, err := filepath.Glob("../testdata/photos/*.jpg")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range photos {
		if name := strings.TrimSuffix(filepath.Base(p), ".jpg"); golden[name] == nil {
			t.Errorf("%s has no golden: run testdata/make_goldens.py", p)
		}
	}
	for name, g := range golden {
		if left := len(g.Pix) - at[name]; left < 0 || left >= g.Stride {
			t.Errorf("%s: %d samples of its golden are left", name, left)
		}
	}
	if total < 500000 {
		t.Errorf("only %d samples were compared", total)
	}
}

// all has every sample once in each channel.
func all() *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, 16, 16))
	for i := range 256 {
		copy(m.Pix[4*i:], []uint8{uint8(i), uint8(i), uint8(i), uint8(7 * i)})
	}
	return m
}

// TestAsNormalize compares with NumPy's float32 and float16, bit by bit.
func TestAsNormalize(t *testing.T) {
	clip, _ := model.Preset("clip")
	s := model.Spec{Mean: clip.Mean, Std: clip.Std}
	for _, e := range []model.Element{model.Float32, model.Float16} {
		s.Element = e
		want, err := os.ReadFile("testdata/clip." + string(e))
		if err != nil {
			t.Fatal(err)
		}
		size := len(want) / (3 * 256)
		got := tensor(t, s, all())
		for i := 0; i < len(want); i += size {
			g, w := word(got[i:i+size], binary.NativeEndian), word(want[i:i+size], binary.LittleEndian)
			if g != w {
				t.Fatalf("%s: sample %d of channel %d is %#x, want %#x", e, i/size%256, i/size/256, g, w)
			}
		}
	}
}

func word(b []byte, o binary.ByteOrder) uint32 {
	if len(b) == 2 {
		return uint32(o.Uint16(b))
	}
	return o.Uint32(b)
}

// TestHalfFloats holds the rounding of half floats against the definition: the
// nearest of all of them, the even one of two that are as near.
func TestHalfFloats(t *testing.T) {
	for _, scale := range []float64{1, 3.7e-5, 1.1e-7, 251, 300, 0.0123, -0.77, 1 << 14, 1. / (1 << 24)} {
		s := model.Spec{Range: model.ZeroTo255, Element: model.Float16, Mean: [3]float64{100, 100, 100}, Std: [3]float64{1 / scale, 1 / scale, 1 / scale}}
		if scale < 0 {
			s.Mean, s.Std = [3]float64{}, [3]float64{-1 / scale, -1 / scale, -1 / scale}
		}
		got := tensor(t, s, all())
		s.Element = model.Float32
		for i, x := range floats(tensor(t, s, all()))[:256] {
			h := binary.NativeEndian.Uint16(got[2*i:])
			if want := nearestHalf(float64(x)); h != want {
				t.Fatalf("%v became %#04x, want %#04x", x, h, want)
			}
		}
	}
}

// nearestHalf looks for x among all half floats.
func nearestHalf(x float64) uint16 {
	value := func(h int) float64 {
		e, m := h>>10, float64(h&0x3ff)
		if e == 0 {
			return math.Ldexp(m, -24)
		}
		return math.Ldexp(1024+m, e-25) // and 65536 in place of infinity
	}
	var sign uint16
	if math.Signbit(x) {
		sign, x = 0x8000, -x
	}
	above := sort.Search(0x7c00, func(h int) bool { return value(h) >= x })
	if above > 0 {
		switch up, down := value(above)-x, x-value(above-1); {
		case down < up, down == up && above%2 == 1:
			above--
		}
	}
	return sign | uint16(above)
}

// TestLayouts compares all orders, ranges and types with one plain loop.
func TestLayouts(t *testing.T) {
	img := read(t, "noise").(*image.RGBA)
	size := img.Rect.Size()
	for _, layout := range []model.Layout{model.NCHW, model.NHWC} {
		for _, channels := range []model.Channels{model.RGB, model.BGR, model.Gray} {
			for _, r := range []model.Range{model.ZeroToOne, model.MinusOneToOne, model.ZeroTo255} {
				s := model.Spec{Layout: layout, Channels: channels, Range: r, Mean: [3]float64{0.1, 0.2, 0.3}, Std: [3]float64{0.5, 0.25, 2}}
				got := floats(tensor(t, s, img))
				depth := s.Depth()
				if len(got) != size.X*size.Y*depth {
					t.Fatalf("%d elements", len(got))
				}
				for y := range size.Y {
					for x := range size.X {
						p := img.Pix[img.PixOffset(x, y):]
						for c := range depth {
							v, of := p[c], c
							if channels == model.BGR {
								v, of = p[2-c], 2-c
							}
							if channels == model.Gray {
								v = uint8((int(p[0])*19595 + int(p[1])*38470 + int(p[2])*7471 + 32768) / 65536)
							}
							w := float32(v)
							switch r {
							case model.ZeroToOne:
								w /= 255
							case model.MinusOneToOne:
								w = (w/255 - 0.5) / 0.5
							}
							w = (w - float32(s.Mean[of])) / float32(s.Std[of])
							i := (c*size.Y+y)*size.X + x
							if layout == model.NHWC {
								i = (y*size.X+x)*depth + c
							}
							if got[i] != w {
								t.Fatalf("%s %s %s: %d, %d, %d is %v, want %v", layout, channels, r, x, y, c, got[i], w)
							}
						}
					}
				}
			}
		}
	}
}

// TestCropIsPartOfTheWhole: what is left out of the work changes nothing.
func TestCropIsPartOfTheWhole(t *testing.T) {
	for _, name := range []string{"noise", "noise-gray", "noise-alpha", "boats"} {
		img := read(t, name)
		for _, filter := range resample.Names() {
			for _, shorter := range []int{11, 30, 95} {
				for _, crop := range []image.Point{{X: 1, Y: 2}, {X: 10, Y: 11}, {X: 8, Y: 9}} {
					s := model.Spec{Resize: model.Shortest, Shorter: shorter, Filter: filter}
					whole, all := s.OutputSize(img.Bounds().Size()), samples(t, s, img)
					s.Crop, s.Width, s.Height = model.Centre, crop.X, crop.Y
					got := samples(t, s, img)
					left, top := int(math.RoundToEven(float64(whole.X-crop.X)/2)), int(math.RoundToEven(float64(whole.Y-crop.Y)/2))
					for y := range crop.Y {
						for i := range 3 * crop.X {
							if want := all[3*((top+y)*whole.X+left)+i]; got[3*y*crop.X+i] != want {
								t.Fatalf("%s %s %d %v: sample %d of row %d is %d, want %d", name, filter, shorter, crop, i, y, got[3*y*crop.X+i], want)
							}
						}
					}
				}
			}
		}
	}
}

// TestBorders reads the borders of a picture whose samples say where they are.
func TestBorders(t *testing.T) {
	at := func(w, h int) image.Image {
		m := image.NewGray(image.Rect(0, 0, w, h))
		for i := range m.Pix {
			m.Pix[i] = uint8(10*(i/w) + i%w + 1)
		}
		return m
	}
	tests := map[string]struct {
		spec model.Spec
		img  image.Image
		want string
	}{
		"reflect":        {model.Spec{Multiple: 4}, at(3, 2), "1 2 3 2 / 11 12 13 12 / 1 2 3 2 / 11 12 13 12"},
		"reflect, again": {model.Spec{Multiple: 7}, at(2, 1), "1 2 1 2 1 2 1 / 1 2 1 2 1 2 1 / 1 2 1 2 1 2 1 / 1 2 1 2 1 2 1 / 1 2 1 2 1 2 1 / 1 2 1 2 1 2 1 / 1 2 1 2 1 2 1"},
		"edge":           {model.Spec{Multiple: 4, Border: model.Edge}, at(3, 2), "1 2 3 3 / 11 12 13 13 / 11 12 13 13 / 11 12 13 13"},
		"zero":           {model.Spec{Multiple: 2, Border: model.Zero}, at(3, 1), "1 2 3 0 / 0 0 0 0"},
		"nothing to add": {model.Spec{Multiple: 2}, at(2, 2), "1 2 / 11 12"},
		// The crop of two rows of five begins at round(1.5) = 2, to even.
		"too small for a crop":  {model.Spec{Resize: model.NoResize, Crop: model.Centre, Width: 5, Height: 2}, at(2, 5), "0 21 22 0 0 / 0 31 32 0 0"},
		"crop and then reflect": {model.Spec{Resize: model.NoResize, Crop: model.Centre, Width: 3, Height: 1, Multiple: 2}, at(1, 1), "0 1 0 1 / 0 1 0 1"},
	}
	for name, tt := range tests {
		for _, layout := range []model.Layout{model.NCHW, model.NHWC} {
			for _, channels := range []model.Channels{model.RGB, model.Gray} {
				for _, element := range []model.Element{model.Float32, model.Float16} {
					s := tt.spec
					s.Layout, s.Channels, s.Element, s.Range = layout, channels, element, model.ZeroTo255
					s.Mean = [3]float64{-1, -1, -1} // so that black is not 0
					size, depth := s.OutputSize(tt.img.Bounds().Size()), s.Depth()
					got := tensor(t, s, tt.img)
					for c := range depth {
						var text strings.Builder
						for y := range size.Y {
							for x := range size.X {
								i := (c*size.Y+y)*size.X + x
								if layout == model.NHWC {
									i = (y*size.X+x)*depth + c
								}
								sep := " "
								if x == 0 {
									sep = " / "
								}
								fmt.Fprint(&text, sep, element1(got, element, i)-1)
							}
						}
						if g := strings.TrimPrefix(text.String(), " / "); g != tt.want {
							t.Errorf("%s, %s %s %s:\n%s, want\n%s", name, layout, channels, element, g, tt.want)
						}
					}
				}
			}
		}
	}
}

// element1 is an element that is a small whole number.
func element1(b []byte, e model.Element, i int) int {
	if e == model.Float16 {
		h := binary.NativeEndian.Uint16(b[2*i:])
		if h == 0 {
			return 0
		}
		return int(math.Ldexp(float64(1024+int(h&0x3ff)), int(h>>10)-25))
	}
	return int(floats(b)[i])
}

// TestTypes gives one picture in all types that there are, and views of larger
// ones: what is seen is its straight colours in 8 bits.
func TestTypes(t *testing.T) {
	whole, inner := image.Rect(-2, 3, 43, 40), image.Rect(1, 6, 40, 35)
	rnd := rand.New(rand.NewPCG(3, 4))
	palette := make(color.Palette, 256)
	for i := range palette {
		palette[i] = color.NRGBA{R: uint8(i), G: uint8(7 * i), B: uint8(255 - i), A: uint8(rnd.Uint32() | 1)}
	}
	paletted := image.NewPaletted(whole, palette)
	ycbcr, nycbcra := image.NewYCbCr(whole, image.YCbCrSubsampleRatio420), image.NewNYCbCrA(whole, image.YCbCrSubsampleRatio420)
	for _, p := range [][]uint8{paletted.Pix, ycbcr.Y, ycbcr.Cb, ycbcr.Cr, nycbcra.Y, nycbcra.Cb, nycbcra.Cr, nycbcra.A} {
		for i := range p {
			p[i] = uint8(rnd.Uint32())
		}
	}
	pictures := []image.Image{paletted, ycbcr, nycbcra}
	for _, m := range []draw.Image{
		image.NewGray(whole), image.NewGray16(whole), image.NewRGBA(whole), image.NewNRGBA(whole),
		image.NewRGBA64(whole), image.NewNRGBA64(whole), image.NewCMYK(whole),
	} {
		for y := whole.Min.Y; y < whole.Max.Y; y++ {
			for x := whole.Min.X; x < whole.Max.X; x++ {
				a := uint16(65535)
				if (x+y)%3 == 0 {
					a = uint16(rnd.Uint32())
				}
				m.Set(x, y, color.NRGBA64{R: uint16(rnd.Uint32()), G: uint16(rnd.Uint32()), B: uint16(rnd.Uint32()), A: a})
			}
		}
		pictures = append(pictures, m)
	}
	for _, img := range pictures {
		view := img.(interface {
			SubImage(image.Rectangle) image.Image
		}).SubImage(inner)
		plain := image.NewNRGBA(image.Rectangle{Max: inner.Size()})
		for y := range inner.Dy() {
			for x := range inner.Dx() {
				plain.SetNRGBA(x, y, straight(view.At(inner.Min.X+x, inner.Min.Y+y)))
			}
		}
		for _, s := range []model.Spec{
			{}, {Channels: model.Gray}, {Width: 13, Height: 11}, {Width: 13, Height: 11, Channels: model.Gray},
			{Width: 60, Height: 11, Filter: "nearest"}, {Width: 60, Height: 81, Filter: "lanczos"}, {Shorter: 12, Crop: model.Centre, Width: 6, Height: 5},
		} {
			got, want := samples(t, s, view), samples(t, s, plain)
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("%T, %+v: sample %d is %d, want %d", img, s, i, got[i], want[i])
				}
			}
		}
	}
}

// straight is a colour without its alpha, in 8 bits.
func straight(c color.Color) color.NRGBA {
	eight := func(v, a uint32) uint8 {
		if a != 0 && a != 65535 {
			v = min((v*65535+a/2)/a, 65535)
		}
		return uint8(math.Round(float64(v) / 257))
	}
	switch c := c.(type) {
	case color.NRGBA:
		return c
	case color.NRGBA64:
		return color.NRGBA{eight(uint32(c.R), 65535), eight(uint32(c.G), 65535), eight(uint32(c.B), 65535), 255}
	case color.NYCbCrA:
		return straight(c.YCbCr)
	case color.YCbCr: // its RGBA has more than 8 bits
		r, g, b := color.YCbCrToRGB(c.Y, c.Cb, c.Cr)
		return color.NRGBA{r, g, b, 255}
	case color.CMYK:
		r, g, b := color.CMYKToRGB(c.C, c.M, c.Y, c.K)
		return color.NRGBA{r, g, b, 255}
	case color.RGBA: // of 8 bits, which divided twice would be rounded twice
		if c.A == 0 {
			return color.NRGBA{}
		}
		d := func(v uint8) uint8 { return uint8(math.Floor(float64(v)*255/float64(c.A) + 0.5)) }
		return color.NRGBA{d(c.R), d(c.G), d(c.B), 255}
	}
	r, g, b, a := c.RGBA()
	return color.NRGBA{eight(r, a), eight(g, a), eight(b, a), 255}
}

// TestParts prepares a picture that was decoded at half its size.
func TestParts(t *testing.T) {
	img := read(t, "boats")
	size := img.Bounds().Size() // stands for one of twice the size, less one
	s := model.Spec{Width: 20, Height: 10, Filter: "bilinear", Layout: model.NHWC, Range: model.ZeroTo255}
	full := image.Pt(2*size.X-1, 2*size.Y-1)
	dst := make([]byte, s.TensorBytes(full))
	if err := s.FillPart(t.Context(), dst, img, model.Part{X: 0.5, Y: 0.5, Scale: 0.5, Size: full}); err != nil {
		t.Fatal(err)
	}
	out, err := resample.ResizeBox(t.Context(), img, resample.Box{X: 0.5, Y: 0.5, W: float64(size.X) - 0.5, H: float64(size.Y) - 0.5}, image.Pt(20, 10), resample.Named("bilinear"))
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range floats(dst) {
		if want := out.(*image.RGBA).Pix[i/3*4+i%3]; int(v) != int(want) {
			t.Fatalf("sample %d is %v, want %d", i, v, want)
		}
	}
	for name, p := range map[string]model.Part{
		"right": {X: 1, Scale: 0.5, Size: full}, "low": {Y: 1.5, Scale: 0.5, Size: full}, "left": {X: -1, Scale: 0.5, Size: full},
		"no scale": {Size: full}, "large": {Scale: 1, Size: full}, "empty": {Scale: 1}, "odd": {X: math.NaN(), Scale: 0.5, Size: full},
	} {
		if err := s.FillPart(t.Context(), dst[:s.TensorBytes(p.Size)], img, p); err == nil {
			t.Errorf("%s: a part outside of the picture is taken", name)
		}
	}
	native := model.Spec{}
	if err := native.FillPart(t.Context(), make([]byte, native.TensorBytes(full)), img, model.Part{Scale: 0.5, Size: full}); err == nil {
		t.Error("a scaled picture passes for one of native size")
	}
}

func TestErrors(t *testing.T) {
	img := image.NewRGBA(image.Rect(0, 0, 30, 20))
	s := model.Spec{Width: 8, Height: 9}
	n := int(s.TensorBytes(img.Rect.Size()))
	if n != 8*9*3*4 {
		t.Errorf("%d bytes", n)
	}
	for _, d := range []int{-n, -1, 1} {
		if err := s.Fill(t.Context(), make([]byte, n+d), img); err == nil || !strings.Contains(err.Error(), "864") {
			t.Errorf("%d bytes: %v", n+d, err)
		}
	}
	if err := s.Fill(t.Context(), nil, image.NewRGBA(image.Rect(3, 3, 3, 5))); err == nil {
		t.Error("an empty picture is taken")
	}
	if err := (model.Spec{Filter: "sharp"}).Fill(t.Context(), make([]byte, 30*20*3*4), img); err == nil || !strings.Contains(err.Error(), `"sharp"`) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, s := range []model.Spec{{}, s, {Width: 8, Height: 9, Filter: "nearest"}} {
		if err := s.Fill(ctx, make([]byte, s.TensorBytes(img.Rect.Size())), img); !errors.Is(err, context.Canceled) {
			t.Errorf("after its context ended: %v", err)
		}
	}
}

// TestHostileSizes: none panics, or computes what nobody sees.
func TestHostileSizes(t *testing.T) {
	one := make([]uint8, 4)
	for name, tt := range map[string]struct {
		spec model.Spec
		img  image.Image
	}{
		"one pixel":           {model.Spec{Width: 224, Height: 224}, image.NewRGBA(image.Rect(0, 0, 1, 1))},
		"to one pixel":        {model.Spec{Width: 1, Height: 1}, image.NewRGBA(image.Rect(0, 0, 300, 500))},
		"a column":            {model.Spec{Width: 224, Height: 224}, image.NewRGBA(image.Rect(0, 0, 1, 10000))},
		"a row":               {model.Spec{Width: 224, Height: 224, Channels: model.Gray}, image.NewNRGBA64(image.Rect(0, 0, 10000, 1))},
		"the middle of one":   {model.Spec{Shorter: 256, Crop: model.Centre, Width: 224, Height: 224}, image.NewRGBA(image.Rect(0, 0, 1, 10000))},
		"of a very long one":  {model.Spec{Shorter: 65536, Crop: model.Centre, Width: 3, Height: 4}, &image.RGBA{Pix: one, Rect: image.Rect(0, 0, 1, 1<<40)}},
		"of a very large one": {model.Spec{Shorter: 4, Crop: model.Centre, Width: 3, Height: 4, Filter: "nearest"}, &image.RGBA{Pix: one, Rect: image.Rect(0, 0, 1, 1<<30)}},
		"a wide border":       {model.Spec{Multiple: 512}, image.NewGray(image.Rect(0, 0, 1, 1))},
	} {
		t.Run(name, func(t *testing.T) {
			size := tt.img.Bounds().Size()
			if b := tt.spec.Bytes(size); b > 64<<20 {
				t.Errorf("%d bytes", b)
			}
			tensor(t, tt.spec, tt.img)
		})
	}
	huge := model.Spec{Resize: model.Shortest, Shorter: 65536}
	if n := huge.TensorBytes(image.Pt(1, math.MaxInt32)); n <= 1<<40 {
		t.Errorf("%d bytes", n)
	}
	if err := huge.Fill(t.Context(), make([]byte, 100), &image.RGBA{Pix: one, Rect: image.Rect(0, 0, 1, math.MaxInt32)}); err == nil {
		t.Error("a tensor that nobody could have is filled")
	}
}

// TestAtOnce fills a batch from many goroutines.
func TestAtOnce(t *testing.T) {
	names := []string{"boats", "noise", "noise-gray", "noise-alpha", "hills", "dot"}
	s, _ := model.Preset("clip")
	each := s.TensorBytes(image.Pt(1, 1))
	const n = 24
	batch := make([]byte, n*each)
	var wg sync.WaitGroup
	for i := range n {
		img := read(t, names[i%len(names)])
		wg.Go(func() {
			if err := s.Fill(t.Context(), batch[int64(i)*each:][:each], img); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range n {
		if want := tensor(t, s, read(t, names[i%len(names)])); string(batch[int64(i)*each:][:each]) != string(want) {
			t.Errorf("picture %d of the batch differs from what it is alone", i)
		}
	}
}

// TestMemory holds what a call allocates against what Bytes says.
func TestMemory(t *testing.T) {
	for name, tt := range map[string]struct {
		spec model.Spec
		img  image.Image
		most int64
	}{
		"large":            {model.Spec{Width: 224, Height: 224}, image.NewRGBA(image.Rect(0, 0, 4000, 1000)), 3 << 20},
		"large, converted": {model.Spec{Width: 224, Height: 224}, image.NewYCbCr(image.Rect(0, 0, 4000, 300), image.YCbCrSubsampleRatio420), 2 << 20},
		"enlarged":         {model.Spec{Width: 1000, Height: 900, Filter: "lanczos"}, image.NewNRGBA(image.Rect(0, 0, 50, 60)), 1 << 20},
		"vertical first":   {model.Spec{Width: 1900, Height: 100}, image.NewRGBA(image.Rect(0, 0, 2000, 1000)), 3 << 20},
		"native":           {model.Spec{}, image.NewNRGBA(image.Rect(0, 0, 500, 600)), 1 << 16},
		"nearest":          {model.Spec{Width: 224, Height: 224, Filter: "nearest"}, image.NewNRGBA64(image.Rect(0, 0, 500, 600)), 1 << 16},
	} {
		t.Run(name, func(t *testing.T) {
			size := tt.img.Bounds().Size()
			told := tt.spec.Bytes(size)
			dst := make([]byte, tt.spec.TensorBytes(size))
			var before, after runtime.MemStats
			runtime.GC() // empties the pools,
			runtime.GC() // and what they keep for a second time
			runtime.ReadMemStats(&before)
			if err := tt.spec.Fill(t.Context(), dst, tt.img); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			if got := int64(after.TotalAlloc - before.TotalAlloc); got > told*9/8+4096 || told > tt.most || got < told/8 {
				t.Errorf("allocated %d bytes, told %d, of at most %d", got, told, tt.most)
			}
		})
	}
}

func BenchmarkFill(b *testing.B) {
	big := image.NewRGBA(image.Rect(0, 0, 4000, 3000))
	for i := range big.Pix {
		big.Pix[i] = uint8(i*i>>7) | uint8(i%4/3*255)
	}
	f, err := os.ReadFile("../testdata/photos/flower.jpg")
	if err != nil {
		b.Fatal(err)
	}
	h, err := imageio.ReadHeader(f, imageio.DefaultLimits())
	if err != nil {
		b.Fatal(err)
	}
	photo, err := imageio.Decode(f, h, imageio.DefaultLimits())
	if err != nil {
		b.Fatal(err)
	}
	clip, _ := model.Preset("clip")
	for _, c := range []struct {
		name string
		img  image.Image
		s    model.Spec
	}{
		{"12MP to 224 bicubic", big, model.Spec{Width: 224, Height: 224, Filter: "bicubic"}},
		{"12MP to 224 bilinear", big, model.Spec{Width: 224, Height: 224, Filter: "bilinear"}},
		{"12MP to 224 lanczos", big, model.Spec{Width: 224, Height: 224, Filter: "lanczos"}},
		{"12MP to clip", big, clip}, {"2MP to clip", photo, clip}, {"2MP to clip in float16", photo, half(clip)}, {"512 native", big.SubImage(image.Rect(9, 9, 521, 521)), model.Spec{}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			dst := make([]byte, c.s.TensorBytes(c.img.Bounds().Size()))
			for b.Loop() {
				if err := c.s.Fill(b.Context(), dst, c.img); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func half(s model.Spec) model.Spec {
	s.Element = model.Float16
	return s
}
