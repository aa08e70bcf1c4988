package resample_test

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"regexp"
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
