package resample_test

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"testing"

	"github.com/forgepipe/forgepipe/internal/resample"
)

// A picture is resized into a part of another one as it is by itself, and nothing around
// it changes.
func TestResizeInto(t *testing.T) {
	box := resample.Box{X: 1.5, Y: 0.25, W: 12, H: 9.5}
	for name, img := range pictures(image.Rect(0, 0, 17, 11)) {
		for _, filter := range []string{"lanczos", "nearest"} {
			for _, size := range []image.Point{{40, 31}, {5, 4}} {
				t.Run(fmt.Sprint(name, filter, size), func(t *testing.T) {
					f := resample.Named(filter)
					want, err := resample.ResizeBox(t.Context(), img, box, size, f)
					if err != nil {
						t.Fatal(err)
					}
					if m := resample.Model(img); m != want.ColorModel() {
						t.Fatalf("the model is %v, and the result %T", m, want)
					}
					around := image.Rect(0, 0, 50, 50)
					mark := color.Gray{Y: 77}
					whole := canvas(want, around.Max)
					draw.Draw(whole, around, image.NewUniform(mark), image.Point{}, draw.Src)
					at := image.Rectangle{Max: size}.Add(image.Pt(7, 9))
					part := whole.(interface {
						SubImage(r image.Rectangle) image.Image
					}).SubImage(at)
					if err := resample.ResizeInto(t.Context(), part, img, box, f); err != nil {
						t.Fatal(err)
					}
					marked := want.ColorModel().Convert(mark)
					for y := range around.Dy() {
						for x := range around.Dx() {
							expected := marked
							if p := image.Pt(x, y); p.In(at) {
								expected = want.At(x-at.Min.X, y-at.Min.Y)
							}
							if got := whole.At(x, y); got != expected {
								t.Fatalf("at %d, %d: %v, want %v", x, y, got, expected)
							}
						}
					}
				})
			}
		}
	}
}

func TestResizeIntoEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	img := image.NewGray(image.Rect(0, 0, 8, 8))
	if err := resample.ResizeInto(ctx, image.NewGray(image.Rect(0, 0, 16, 16)), img, resample.Whole(img), resample.Named("lanczos")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestResizeIntoAnotherTypeIsABug(t *testing.T) {
	img := image.NewGray(image.Rect(0, 0, 8, 8))
	for _, dst := range []image.Image{image.NewRGBA(image.Rect(0, 0, 4, 4)), image.NewCMYK(image.Rect(0, 0, 4, 4)), image.NewGray(image.Rectangle{})} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("into %T of %v nothing panicked", dst, dst.Bounds())
				}
			}()
			_ = resample.ResizeInto(t.Context(), dst, img, resample.Whole(img), resample.Named("box"))
		}()
	}
}
