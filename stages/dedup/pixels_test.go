package dedup

import (
	"bytes"
	"fmt"
	"image"
	"math/rand/v2"
	"runtime"
	"testing"
)

// turned is the part of a picture in orientation o, pixel by pixel.
func turned(pix []byte, stride, pixel int, size image.Point, o int) (out []byte, to image.Point) {
	to = size
	if o&4 != 0 {
		to.X, to.Y = size.Y, size.X
	}
	for y := range to.Y {
		for x := range to.X {
			fx, fy := x, y
			if o&1 != 0 {
				fx = to.X - 1 - fx
			}
			if o&2 != 0 {
				fy = to.Y - 1 - fy
			}
			if o&4 != 0 {
				fx, fy = fy, fx
			}
			out = append(out, pix[fy*stride+fx*pixel:][:pixel]...)
		}
	}
	return out, to
}

// The hashes of the upright picture turned are those of the turned picture.
func TestOrientedSamplesHash(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	doubled := random(8 * 40 * 30)
	for i := 0; i < len(doubled); i += 2 {
		doubled[i+1] = doubled[i]
	}
	type kind struct {
		pixel int
		make  func(pix []byte, stride int, r image.Rectangle) image.Image
	}
	nrgba := kind{4, func(p []byte, stride int, r image.Rectangle) image.Image {
		return &image.NRGBA{Pix: p, Stride: stride, Rect: r}
	}}
	wide := kind{8, func(p []byte, stride int, r image.Rectangle) image.Image {
		return &image.NRGBA64{Pix: p, Stride: stride, Rect: r}
	}}
	gray := kind{1, func(p []byte, stride int, r image.Rectangle) image.Image {
		return &image.Gray{Pix: p, Stride: stride, Rect: r}
	}}
	own := kind{1, func(p []byte, stride int, r image.Rectangle) image.Image {
		return struct{ image.Image }{&image.Gray{Pix: p, Stride: stride, Rect: r}}
	}}
	for name, tt := range map[string]struct {
		kind
		pix  []byte
		size image.Point
	}{
		"nrgba":                    {nrgba, random(4 * 40 * 30), image.Pt(37, 30)},
		"one pixel":                {nrgba, random(4 * 4), image.Pt(1, 1)},
		"16 bits":                  {wide, random(8 * 40 * 30), image.Pt(37, 30)},
		"16 bits that are 8":       {wide, doubled, image.Pt(37, 30)},
		"gray":                     {gray, random(40 * 30), image.Pt(37, 30)},
		"a type of its own":        {own, random(40 * 30), image.Pt(37, 30)},
		"several strips":           {wide, random(8 * 40 * 30_000), image.Pt(37, 30_000)},
		"strips of a column, gray": {own, random(5 * 600_000), image.Pt(2, 600_000)},
	} {
		t.Run(name, func(t *testing.T) {
			stride := (tt.size.X + 3) * tt.pixel
			img := tt.make(tt.pix, stride, image.Rectangle{Max: tt.size}.Add(image.Pt(-3, 5)))
			all := orientedSamplesHash(img, true)
			if len(all) != 7*32 {
				t.Fatalf("%d bytes", len(all))
			}
			for o := 1; o < 8; o++ {
				pix, to := turned(tt.pix, stride, tt.pixel, tt.size, o)
				want := samplesHash(tt.make(pix, to.X*tt.pixel, image.Rectangle{Max: to}))
				if !bytes.Equal(all[32*(o-1):][:32], want[:]) {
					t.Errorf("orientation %d has another hash than the turned picture", o)
				}
			}
			if !bytes.Equal(orientedSamplesHash(img, false), all[:32]) {
				t.Error("mirrored is not the first of all")
			}
		})
	}
}

func TestOrientedSamplesHashMemory(t *testing.T) {
	for _, size := range []image.Point{{3000, 1000}, {2, 600_000}, {600_000, 2}} {
		for _, all := range []bool{false, true} {
			t.Run(fmt.Sprint(size, all), func(t *testing.T) {
				img := image.NewNRGBA64(image.Rectangle{Max: size})
				img.Pix[0] = 1
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				orientedSamplesHash(img, all)
				runtime.ReadMemStats(&after)
				if n, most := int64(after.TotalAlloc-before.TotalAlloc), orientedPixelWork(size, all); n > most+64<<10 {
					t.Errorf("%d bytes allocated, and at most %d said", n, most)
				}
			})
		}
	}
}
