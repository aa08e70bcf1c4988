package resample

import (
	"context"
	"fmt"
	"image"

	"github.com/disintegration/imaging"
)

// Resize returns img scaled to size, in pixels, with bounds at (0, 0).
//
// The type is kept: Gray, Gray16, RGBA, NRGBA, RGBA64 and NRGBA64 stay what they
// are. What cannot be averaged in its own type becomes the nearest that can:
// YCbCr and CMYK become RGBA, NYCbCrA becomes NRGBA, Paletted becomes NRGBA when
// a colour of its palette is transparent and RGBA otherwise; any other type
// becomes NRGBA64.
//
// Transparent pixels count as much as they cover, so that their colour does not
// bleed into what is visible; where the result is fully transparent, it is
// black. A filter with a Support of 0, imaging.NearestNeighbor, takes for each
// new pixel the one at its centre. Where a side keeps its length, nothing is
// done along it. The absolute weights of a filter, which are scaled to the sum
// 1, must add up to less than 2, as those of imaging do.
//
// The picture and the size must not be empty.
func Resize(img image.Image, size image.Point, f imaging.ResampleFilter) image.Image {
	out, err := ResizeBox(context.Background(), img, Whole(img), size, f)
	if err != nil {
		panic("BUG: resizing ended early: " + err.Error())
	}
	return out
}

// Box is a part of a picture: its upper left corner, counted from that of the
// picture, and its size, in pixels and fractions of them.
type Box struct{ X, Y, W, H float64 }

// Whole is all of a picture.
func Whole(img image.Image) Box {
	s := img.Bounds().Size()
	return Box{W: float64(s.X), H: float64(s.Y)}
}

// ResizeBox is Resize for a part of img, which lies inside of it. As in Pillow,
// the filter reaches for pixels beyond the box, as far as img has some. A large
// result takes seconds: when ctx ends, so does the work, with ctx's error.
func ResizeBox(ctx context.Context, img image.Image, box Box, size image.Point, f imaging.ResampleFilter) (image.Image, error) {
	b := img.Bounds()
	if size.X < 1 || size.Y < 1 || !inside(box, b.Size()) {
		panic(fmt.Sprintf("BUG: %v of a picture of %v is resized to %v", box, b.Size(), size))
	}
	src := open(img)
	out, pix := src.form.canvas(size)
	x := axis{src: b.Dx(), dst: size.X, from: box.X, length: box.W}
	y := axis{src: b.Dy(), dst: size.Y, from: box.Y, length: box.H}
	_, same := x.kept()
	if same {
		_, same = y.kept()
	}
	var err error
	switch {
	case f.Support <= 0 || same:
		err = nearest(ctx, pix, x, y, src)
	case src.form.depth == 8:
		err = convolve8(ctx, pix, x, y, src, f)
	default:
		err = convolve16(ctx, pix, x, y, src, f)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Bytes is what Resize allocates at most for a picture whose result has that
// many bytes per pixel: for the result, and beside it while it works.
func Bytes(from, to image.Point, f imaging.ResampleFilter, pixel int64) (result, work int64) {
	result = int64(to.X) * int64(to.Y) * pixel
	work = int64(from.X)*(4+16) + int64(to.X)*8 // a row as it is read and as it is convolved
	if f.Support <= 0 || from == to {
		return result, work
	}
	across := axis{src: from.X, dst: to.X, length: float64(from.X)}
	down := axis{src: from.Y, dst: to.Y, length: float64(from.Y)}
	x, y := int64(across.span(f)), int64(down.span(f))
	work += int64(to.X)*(8*x+tapBytes) + int64(to.Y)*(8*y+tapBytes)
	work += (y + 1) * (int64(to.X)*pixel + 4*cacheLine)
	return result, work
}

// nearest takes the pixel at each new pixel's centre.
func nearest(ctx context.Context, pix []uint8, across, down axis, src source) error {
	n := src.form.bytes()
	at := make([]int, across.dst) // where in the row each pixel comes from
	for x := range at {
		at[x] = across.middle(x) * n
	}
	var row []uint8
	last := -1
	for y := range down.dst {
		if err := ctx.Err(); err != nil {
			return err
		}
		if sy := down.middle(y); sy != last {
			row, last = src.row(sy), sy
		}
		dst := pix[y*across.dst*n:][:across.dst*n]
		for x, from := range at {
			copy(dst[x*n:x*n+n], row[from:from+n])
		}
	}
	return nil
}
