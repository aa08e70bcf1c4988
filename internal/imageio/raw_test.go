package imageio_test

import (
	"bytes"
	"image"
	"image/color"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

// fill gives every sample plane random bytes.
func fill(img image.Image) image.Image {
	r := rand.New(rand.NewPCG(1, 2))
	v := reflect.ValueOf(img).Elem()
	for _, name := range []string{"Pix", "Y", "Cb", "Cr", "A"} {
		if f := v.FieldByName(name); f.IsValid() && f.Type() == reflect.TypeFor[[]byte]() {
			for i := range f.Len() {
				f.Index(i).SetUint(uint64(r.UintN(256)))
			}
		}
	}
	return img
}

func TestRawKeepsEverySample(t *testing.T) {
	r := image.Rect(0, 0, 13, 9)
	pal := image.NewPaletted(r, color.Palette{color.NRGBA{1, 2, 3, 4}, color.Gray16{777}})
	for i := range pal.Pix {
		pal.Pix[i] = byte(i % 2)
	}
	pictures := map[string]image.Image{
		"gray": fill(image.NewGray(r)), "gray16": fill(image.NewGray16(r)), "rgba64": fill(image.NewRGBA64(r)),
		"nrgba": fill(image.NewNRGBA(r)), "nrgba64": fill(image.NewNRGBA64(r)), "cmyk": fill(image.NewCMYK(r)),
		"420":     fill(image.NewYCbCr(r, image.YCbCrSubsampleRatio420)),
		"422":     fill(image.NewYCbCr(r, image.YCbCrSubsampleRatio422)),
		"440":     fill(image.NewYCbCr(r, image.YCbCrSubsampleRatio440)),
		"444":     fill(image.NewYCbCr(r, image.YCbCrSubsampleRatio444)),
		"webp":    fill(image.NewNYCbCrA(r, image.YCbCrSubsampleRatio420)),
		"palette": pal,
	}
	type cropper interface {
		SubImage(image.Rectangle) image.Image
	}
	for name, img := range pictures {
		for _, crop := range []image.Rectangle{r, image.Rect(2, 2, 11, 7), image.Rect(3, 1, 8, 8), image.Rect(4, 4, 5, 5)} {
			t.Run(name+crop.String(), func(t *testing.T) {
				want := img.(cropper).SubImage(crop)
				var b bytes.Buffer
				if err := imageio.WriteRaw(&b, want); err != nil {
					t.Fatal(err)
				}
				got, err := imageio.ReadRaw(&b)
				if err != nil {
					t.Fatal(err)
				}
				_, planes := got.(*image.YCbCr)
				if _, alpha := got.(*image.NYCbCrA); alpha {
					planes = true
				}
				told, is := imageio.RawBytes(want), imageio.Bytes(got)
				if is > told || is < told && !planes {
					t.Errorf("it has %d bytes, told were %d", is, told)
				}
				at := got.Bounds().Min
				if got.Bounds().Size() != crop.Size() {
					t.Fatalf("bounds %v", got.Bounds())
				}
				for y := range crop.Dy() {
					for x := range crop.Dx() {
						w := color.NRGBA64Model.Convert(want.At(crop.Min.X+x, crop.Min.Y+y))
						if g := color.NRGBA64Model.Convert(got.At(at.X+x, at.Y+y)); g != w {
							t.Fatalf("pixel %d, %d is %v, was %v", x, y, g, w)
						}
					}
				}
			})
		}
	}
}

func TestRawRefusesWhatItDidNotWrite(t *testing.T) {
	var b bytes.Buffer
	if err := imageio.WriteRaw(&b, fill(image.NewYCbCr(image.Rect(0, 0, 5, 5), image.YCbCrSubsampleRatio420))); err != nil {
		t.Fatal(err)
	}
	for n := range b.Len() {
		if _, err := imageio.ReadRaw(bytes.NewReader(b.Bytes()[:n])); err == nil {
			t.Fatalf("the first %d bytes were read as a picture", n)
		}
	}
	bad := bytes.Clone(b.Bytes())
	bad[4] = 99
	if _, err := imageio.ReadRaw(bytes.NewReader(bad)); err == nil {
		t.Error("an unknown kind was read as a picture")
	}
}
