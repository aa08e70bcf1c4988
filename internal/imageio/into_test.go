package imageio_test

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"testing"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

// A JPEG is decoded into samples that are there as it is by itself.
func TestDecodeInto(t *testing.T) {
	if _, _, err := imageio.JPEGLibrary(); err != nil {
		t.Skip(err)
	}
	r := image.Rect(0, 0, 37, 23)
	for name, tt := range map[string]struct {
		img   image.Image
		model color.Model
	}{
		"gray":   {fill(image.NewGray(r)), color.GrayModel},
		"colour": {fill(image.NewYCbCr(r, image.YCbCrSubsampleRatio420)), color.RGBAModel},
	} {
		var b bytes.Buffer
		if err := jpeg.Encode(&b, tt.img, nil); err != nil {
			t.Fatal(err)
		}
		h, err := imageio.ReadHeader(b.Bytes(), imageio.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if !h.DecodesInto() || h.Model() != tt.model {
			t.Fatalf("%s: %+v", name, h)
		}
		want, err := imageio.Decode(b.Bytes(), h, imageio.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		pix := make([]byte, h.Bytes)
		got, err := imageio.DecodeInto(pix, b.Bytes(), h, imageio.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if got.ColorModel() != tt.model || want.ColorModel() != tt.model {
			t.Errorf("%s: %T and %T", name, got, want)
		}
		for y := range r.Dy() {
			for x := range r.Dx() {
				if g, w := got.At(x, y), want.At(x, y); g != w {
					t.Fatalf("%s: at %d, %d: %v, want %v", name, x, y, g, w)
				}
			}
		}
		if bytes.Equal(pix, make([]byte, len(pix))) {
			t.Errorf("%s: nothing is in the samples", name)
		}
		short := b.Bytes()[:b.Len()*2/3]
		if _, err := imageio.DecodeInto(pix, short, h, imageio.Limits{}); err == nil {
			t.Errorf("%s: a part of the file was decoded", name)
		}
		turned := h
		turned.Orientation = 6
		if png := (imageio.Header{Format: imageio.PNG, Orientation: 1}); turned.DecodesInto() || png.DecodesInto() {
			t.Errorf("%s: one that is turned, or a PNG, is decoded in place", name)
		}
	}
}
