package tile

import (
	"image"
	"image/draw"
	"image/jpeg"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

// photo repeats a photograph until it is of that size.
func photo(b *testing.B, w, h int) *image.RGBA {
	b.Helper()
	f, err := os.Open("../../testdata/photos/stream.jpg")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	img, err := jpeg.Decode(f)
	if err != nil {
		b.Fatal(err)
	}
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	size := img.Bounds().Size()
	for y := 0; y < h; y += size.Y {
		for x := 0; x < w; x += size.X {
			draw.Draw(out, image.Rect(x, y, x+size.X, y+size.Y), img, image.Point{}, draw.Src)
		}
	}
	return out
}

func BenchmarkPicker(b *testing.B) {
	noise := image.NewGray(image.Rect(0, 0, 4000, 3000))
	rnd := rand.New(rand.NewPCG(1, 1))
	for i := range noise.Pix {
		noise.Pix[i] = uint8(rnd.Uint32())
	}
	twelve, hundred := photo(b, 4000, 3000), photo(b, 12000, 8400)
	for _, bb := range []struct {
		name  string
		img   image.Image
		align int
	}{
		{"12MP/aligned", twelve, 8}, {"12MP/every pixel", twelve, 1}, {"12MP noise/every pixel", noise, 1},
		{"12MP flat/every pixel", image.NewGray(image.Rect(0, 0, 4000, 3000)), 1},
		{"100MP/aligned", hundred, 8}, {"100MP/every pixel", hundred, 1},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			size := bb.img.Bounds().Size()
			n := best{}.number(size, 512)
			for b.Loop() {
				p := newPicker(imageio.NewLuma(bb.img), size.X, size.Y, 512, bb.align, maxBlocks)
				for range n {
					if _, _, ok := p.next(); !ok {
						break
					}
				}
			}
			b.ReportMetric(float64(size.X)*float64(size.Y)/1e6*float64(b.N)/b.Elapsed().Seconds(), "MP/s")
		})
	}
}
