package resample_test

import (
	"context"
	"errors"
	"image"
	"testing"

	"github.com/forgepipe/forgepipe/internal/resample"
)

// TestRows compares the rows of parts of pictures with those of the whole.
func TestRows(t *testing.T) {
	src := read(t, "rgb")
	for name, f := range filters {
		for size, box := range map[image.Point]resample.Box{
			{X: 13, Y: 11}: {X: 1.5, Y: 2, W: 30.25, H: 26.5}, {X: 53, Y: 47}: {X: 1.5, Y: 2, W: 30.25, H: 26.5},
			{X: 30, Y: 11}: {X: 1, Y: 2, W: 30, H: 26.5}, {X: 13, Y: 20}: {X: 1, Y: 2, W: 30, H: 20}, // one side is kept
		} {
			out, err := resample.ResizeBox(t.Context(), src, box, size, f)
			if err != nil {
				t.Fatal(err)
			}
			whole := out.(*image.RGBA)
			window := image.Rect(3, 2, 11, 9)
			next := window.Min.Y
			err = resample.Rows(t.Context(), src, box, size, window, f, false, func(y int, samples []uint8) error {
				if y != next || len(samples) != 3*window.Dx() {
					t.Fatalf("row %d of %d samples, want row %d", y, len(samples), next)
				}
				next++
				for i, v := range samples {
					if want := whole.Pix[whole.PixOffset(window.Min.X+i/3, y)+i%3]; v != want {
						t.Fatalf("%s to %v: sample %d of row %d is %d, want %d", name, size, i, y, v, want)
					}
				}
				return nil
			})
			if err != nil || next != window.Max.Y {
				t.Errorf("%s: %v, after row %d", name, err, next)
			}
		}
	}
}

// TestRowsEnd: with the error of the one who takes them, or with their context.
func TestRowsEnd(t *testing.T) {
	full := errors.New("full")
	for name, size := range map[string]image.Point{"rows first": {X: 13, Y: 11}, "vertical first": {X: 37, Y: 2}, "as they are": {X: 37, Y: 29}} {
		for _, img := range []image.Image{read(t, "rgb"), read(t, "gray")} {
			window := image.Rectangle{Max: size}
			calls := 0
			err := resample.Rows(t.Context(), img, resample.Whole(img), size, window, lanczos, false, func(int, []uint8) error {
				calls++
				return full
			})
			if err != full || calls != 1 { //nolint:errorlint // it is to be the same, not wrapped
				t.Errorf("%s: %v after %d rows", name, err, calls)
			}
			ctx, cancel := context.WithCancel(t.Context())
			calls = 0
			err = resample.Rows(ctx, img, resample.Whole(img), size, window, lanczos, false, func(int, []uint8) error {
				calls++
				cancel()
				return nil
			})
			if !errors.Is(err, context.Canceled) || calls > 1 {
				t.Errorf("%s: %v, %d rows after its context ended", name, err, calls)
			}
		}
	}
}

func TestRowsOutsideAreBugs(t *testing.T) {
	img := image.NewGray(image.Rect(0, 0, 4, 4))
	for name, window := range map[string]image.Rectangle{"empty": {}, "outside": image.Rect(0, 0, 3, 2)} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: a window is taken", name)
				}
			}()
			_ = resample.Rows(t.Context(), img, resample.Whole(img), image.Pt(2, 2), window, lanczos, false, func(int, []uint8) error { return nil })
		}()
	}
}
