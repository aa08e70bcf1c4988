package sheet

import (
	"image"
	"image/color"
	"math"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/internal/resample"
)

// rows reads a part of a picture as if it had another size, each new pixel being the
// one at its centre: as RGBA of 16 bits, multiplied with alpha.
type rows struct {
	img  image.Image
	box  resample.Box
	size image.Point // of what is read

	at   []int    // for each new column, the one that it comes from, in line; nil: all in order
	line []uint16 // row last of img, from the leftmost column of the box
	left int
	out  []uint16
	last int
}

func newRows(img image.Image, box resample.Box, size image.Point) *rows {
	r := &rows{img: img, box: box, size: size, last: -1}
	r.left = int(math.Floor(box.X))
	right := min(int(math.Ceil(box.X+box.W)), img.Bounds().Dx())
	r.line = make([]uint16, 4*(right-r.left))
	if right-r.left == size.X {
		r.out = r.line
		return r
	}
	r.out = make([]uint16, 4*size.X)
	r.at = make([]int, size.X)
	for x := range r.at {
		r.at[x] = middle(x, size.X, box.X, box.W, img.Bounds().Dx()) - r.left
	}
	return r
}

// middle is the pixel at the centre of the new pixel i, of n along a side.
func middle(i, n int, from, length float64, side int) int {
	return min(int(from+(float64(i)+0.5)*length/float64(n)), side-1)
}

// row is row y, valid until the next call: 4 samples for each pixel.
func (r *rows) row(y int) []uint16 {
	sy := middle(y, r.size.Y, r.box.Y, r.box.H, r.img.Bounds().Dy())
	if sy == r.last {
		return r.out
	}
	r.last = sy
	readRow(r.line, r.img, r.left, sy)
	for x, from := range r.at {
		copy(r.out[4*x:4*x+4], r.line[4*from:4*from+4])
	}
	return r.out
}

// readRow reads as many pixels of row y as dst has room for, from column x on, both
// counted from the picture's upper left corner.
func readRow(dst []uint16, img image.Image, x, y int) {
	b := img.Bounds()
	x, y = x+b.Min.X, y+b.Min.Y
	n := len(dst) / 4
	switch m := img.(type) {
	case *image.RGBA:
		for i, v := range m.Pix[m.PixOffset(x, y):][:4*n] {
			dst[i] = uint16(v) * 0x101
		}
	case *image.NRGBA:
		pix := m.Pix[m.PixOffset(x, y):][:4*n]
		for i := 0; i < len(pix); i += 4 {
			if a := uint32(pix[i+3]); a != 0xff {
				for c := range 3 {
					dst[i+c] = uint16(uint32(pix[i+c]) * 0x101 * a / 0xff)
				}
				dst[i+3] = uint16(a * 0x101)
				continue
			}
			for c, v := range pix[i : i+4] {
				dst[i+c] = uint16(v) * 0x101
			}
		}
	case *image.Gray:
		for i, v := range m.Pix[m.PixOffset(x, y):][:n] {
			set(dst[4*i:], uint16(v)*0x101)
		}
	case *image.Gray16:
		for i := range n {
			set(dst[4*i:], m.Gray16At(x+i, y).Y)
		}
	case *image.Paletted:
		var colours [256]color.RGBA64
		for i, c := range m.Palette[:min(len(m.Palette), 256)] {
			colours[i] = color.RGBA64Model.Convert(c).(color.RGBA64)
		}
		for i, v := range m.Pix[m.PixOffset(x, y):][:n] {
			c := colours[v]
			dst[4*i], dst[4*i+1], dst[4*i+2], dst[4*i+3] = c.R, c.G, c.B, c.A
		}
	default:
		for i := range n {
			r, g, b, a := img.At(x+i, y).RGBA()
			dst[4*i], dst[4*i+1], dst[4*i+2], dst[4*i+3] = uint16(r), uint16(g), uint16(b), uint16(a)
		}
	}
}

func set(dst []uint16, gray uint16) { dst[0], dst[1], dst[2], dst[3] = gray, gray, gray, 0xffff }

// opaque reports whether no pixel of the picture is transparent, as far as that is
// known without looking at all of a kind that does not say so.
func opaque(img image.Image) bool {
	_, ok := img.(interface{ Opaque() bool })
	return ok && imageio.Opaque(img)
}
