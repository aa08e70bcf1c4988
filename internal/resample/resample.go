package resample

import (
	"context"
	"fmt"
	"image"
	"image/color"

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
	if size.X < 1 || size.Y < 1 {
		panic(fmt.Sprintf("BUG: a picture is resized to %v", size))
	}
	src := open(img)
	out := src.form.make(size)
	if err := resizeInto(ctx, out, src, img.Bounds().Size(), box, f); err != nil {
		return nil, err
	}
	return out, nil
}

// Model tells the type that Resize makes of img, by its color model: GrayModel for
// *image.Gray, and so on.
func Model(img image.Image) color.Model { return open(img).form.model() }

// ResizeInto is ResizeBox into a picture that is there, which tells the size, and has
// the type that Model tells: for a result that is larger than memory, or a part of
// another one. It is drawn row by row, from the top, and holds the same samples that
// ResizeBox makes.
func ResizeInto(ctx context.Context, dst, img image.Image, box Box, f imaging.ResampleFilter) error {
	return resizeInto(ctx, dst, open(img), img.Bounds().Size(), box, f)
}

// resizeInto fills dst with a part of a picture of that size.
func resizeInto(ctx context.Context, dst image.Image, src source, from image.Point, box Box, f imaging.ResampleFilter) error {
	to, ok := canvasOf(dst, src.form)
	if !ok || !inside(box, from) || dst.Bounds().Empty() {
		panic(fmt.Sprintf("BUG: %v of a picture of %v is resized into %T of %v", box, from, dst, dst.Bounds()))
	}
	x := axis{src: from.X, dst: to.size.X, from: box.X, length: box.W}
	y := axis{src: from.Y, dst: to.size.Y, from: box.Y, length: box.H}
	_, same := x.kept()
	if same {
		_, same = y.kept()
	}
	switch {
	case f.Support <= 0 || same:
		return nearest(ctx, to, x, y, src)
	case src.form.depth == 8:
		return convolve8(ctx, to, x, y, src, f)
	}
	return convolve16(ctx, to, x, y, src, f)
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
func nearest(ctx context.Context, to canvas, across, down axis, src source) error {
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
		dst := to.row(y)
		for x, from := range at {
			copy(dst[x*n:x*n+n], row[from:from+n])
		}
	}
	return nil
}
