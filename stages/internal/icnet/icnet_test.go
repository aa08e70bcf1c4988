package icnet_test

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"math/rand/v2"
	"testing"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/stages/internal/icnet"
)

// reflected shows a picture as NumPy pads it with mode reflect, pixel by pixel.
type reflected struct {
	image.Image
	size image.Point
}

func (r reflected) Bounds() image.Rectangle { return image.Rectangle{Max: r.size} }

func (r reflected) At(x, y int) color.Color {
	b := r.Image.Bounds()
	at := func(i, n int) int {
		for n > 1 && (i < 0 || i >= n) {
			if i = max(i, -i); i >= n {
				i = 2*(n-1) - i
			}
		}
		return min(i, n-1)
	}
	return r.Image.At(b.Min.X+at(x-icnet.Margin, b.Dx()), b.Min.Y+at(y-icnet.Margin, b.Dy()))
}

// A picture of any type gets the margin that reading it pixel by pixel gives.
func TestFillReflects(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, size := range []image.Point{{70, 65}, {64, 128}, {9, 7}, {200, 2}, {31, 40}} {
		rect := image.Rectangle{Max: size}
		for _, img := range []draw.Image{
			image.NewGray(rect), image.NewGray16(rect), image.NewNRGBA(rect), image.NewNRGBA64(rect), image.NewRGBA(rect), image.NewRGBA64(rect),
		} {
			t.Run(fmt.Sprintf("%T of %v", img, size), func(t *testing.T) {
				for y := range size.Y {
					for x := range size.X {
						v := rnd.Uint64()
						img.Set(x, y, color.NRGBA64{R: uint16(v), G: uint16(v >> 16), B: uint16(v >> 32), A: 0xffff})
					}
				}
				spec := icnet.Spec
				padded := spec.OutputSize(icnet.WithMargin(size))
				if padded.X%64 != 0 || padded.Y%64 != 0 {
					t.Fatalf("the tensor is %v", padded)
				}
				want, got := make([]byte, spec.TensorBytes(padded)), make([]byte, spec.TensorBytes(padded))
				if err := spec.Fill(t.Context(), want, reflected{img, padded}); err != nil {
					t.Fatal(err)
				}
				if err := icnet.Fill(t.Context(), spec, got, img, size); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want) {
					t.Error("the tensor is another")
				}
			})
		}
	}
}

// Alpha is dropped, as with all networks: colours that cannot be seen count.
func TestFillDropsAlpha(t *testing.T) {
	size := image.Pt(20, 10)
	clear, solid := image.NewNRGBA(image.Rectangle{Max: size}), image.NewNRGBA(image.Rectangle{Max: size})
	for i := range clear.Pix {
		clear.Pix[i] = uint8(i * 5)
		if solid.Pix[i] = clear.Pix[i]; i%4 == 3 {
			clear.Pix[i], solid.Pix[i] = uint8(i%3), 255
		}
	}
	tensor := func(img image.Image) []byte {
		dst := make([]byte, icnet.Spec.TensorBytes(icnet.WithMargin(size)))
		if err := icnet.Fill(t.Context(), icnet.Spec, dst, img, size); err != nil {
			t.Fatal(err)
		}
		return dst
	}
	if !bytes.Equal(tensor(clear), tensor(solid)) {
		t.Error("what is transparent has other samples")
	}
}

// A picture that is too large goes in as one that was resized before.
func TestFillScales(t *testing.T) {
	img := image.NewNRGBA(image.Rect(0, 0, 150, 90))
	for i := range img.Pix {
		img.Pix[i] = uint8(i*i>>3) | uint8(i%4/3*255)
	}
	scaled := icnet.Scaled(img.Rect.Size(), 4000)
	if scaled != image.Pt(81, 48) {
		t.Fatalf("it is scaled to %v", scaled)
	}
	if own := icnet.Scaled(img.Rect.Size(), 150*90); own != img.Rect.Size() {
		t.Errorf("one with just as many pixels is scaled to %v", own)
	}
	resize := model.Spec{Layout: model.NCHW, Channels: model.RGB, Resize: model.Squash, Filter: "bilinear", Width: scaled.X, Height: scaled.Y}
	inner := make([]byte, resize.TensorBytes(scaled))
	if err := resize.Fill(t.Context(), inner, img); err != nil {
		t.Fatal(err)
	}
	spec := icnet.Spec
	size := spec.OutputSize(icnet.WithMargin(scaled))
	got := make([]byte, spec.TensorBytes(size))
	if err := icnet.Fill(t.Context(), spec, got, img, scaled); err != nil {
		t.Fatal(err)
	}
	for c := range 3 {
		for y := range scaled.Y {
			want := inner[4*(c*scaled.Y+y)*scaled.X:][:4*scaled.X]
			if !bytes.Equal(got[4*((c*size.Y+y+icnet.Margin)*size.X+icnet.Margin):][:4*scaled.X], want) {
				t.Fatalf("row %d of channel %d is another", y, c)
			}
		}
	}
}
