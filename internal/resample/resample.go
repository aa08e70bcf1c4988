package resample

import (
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
	b := img.Bounds()
	if b.Empty() || size.X < 1 || size.Y < 1 {
		panic(fmt.Sprintf("BUG: a picture of %v is resized to %v", b.Size(), size))
	}
	src := open(img)
	out, pix := src.form.canvas(size)
	switch {
	case f.Support <= 0 || size == src.size:
		nearest(pix, size, src)
	case src.form.depth == 8:
		convolve8(pix, size, src, f)
	default:
		convolve16(pix, size, src, f)
	}
	return out
}

// Bytes is what Resize allocates at most for a picture whose result has that
// many bytes per pixel: for the result, and beside it while it works.
func Bytes(from, to image.Point, f imaging.ResampleFilter, pixel int64) (result, work int64) {
	result = int64(to.X) * int64(to.Y) * pixel
	work = int64(from.X)*(4+16) + int64(to.X)*8 // a row as it is read and as it is convolved
	if f.Support <= 0 || from == to {
		return result, work
	}
	x, y := int64(span(from.X, to.X, f)), int64(span(from.Y, to.Y, f))
	work += int64(to.X)*(8*x+tapBytes) + int64(to.Y)*(8*y+tapBytes)
	work += (y + 1) * (int64(to.X)*pixel + 4*cacheLine)
	return result, work
}

// nearest takes the pixel at each new pixel's centre.
func nearest(pix []uint8, size image.Point, src source) {
	n := src.form.bytes()
	at := make([]int, size.X) // where in the row each pixel comes from
	for x := range at {
		at[x] = middle(x, src.size.X, size.X) * n
	}
	var row []uint8
	last := -1
	for y := range size.Y {
		if sy := middle(y, src.size.Y, size.Y); sy != last {
			row, last = src.row(sy), sy
		}
		dst := pix[y*size.X*n:][:size.X*n]
		for x, from := range at {
			copy(dst[x*n:x*n+n], row[from:from+n])
		}
	}
}

// middle is the old sample at the centre of the new sample i.
func middle(i, src, dst int) int { return (2*i + 1) * src / (2 * dst) }
