package imageio

import (
	"image"
	"image/color"
)

// Luma reads the exact brightness of a picture, in integers, so that sums over
// it are the same on every machine and whatever their order: ITU-R BT.601 luma,
// in thousandths of the picture's own sample steps. Y'CbCr gives its Y' as it is,
// full range as in JPEG. Alpha is ignored: a transparent pixel counts with the
// colour that it would have. (In types with premultiplied alpha that colour is
// darker.)
type Luma struct {
	// White is the luma of white: 255,000 for 8-bit gray, RGB and Y'CbCr,
	// 65,535,000 for all other pictures.
	White int32

	img   image.Image
	table [256]int32 // of a palette
}

// NewLuma prepares to read from img.
func NewLuma(img image.Image) *Luma {
	l := &Luma{White: 65535 * 1000, img: img}
	switch m := img.(type) {
	case *image.YCbCr, *image.NYCbCrA, *image.Gray, *image.RGBA, *image.NRGBA:
		l.White = 255 * 1000
	case *image.Paletted:
		for i, c := range m.Palette[:min(len(m.Palette), 256)] {
			l.table[i] = exactLuma(c)
		}
	}
	return l
}

// Row puts the luma of the pixels from (x, y) to the right, counted from the
// upper left corner of the picture's bounds, into dst.
func (l *Luma) Row(dst []int32, x, y int) {
	at := l.img.Bounds().Min.Add(image.Pt(x, y))
	n := len(dst)
	switch m := l.img.(type) {
	case *image.YCbCr:
		thousandths(dst, m.Y[m.YOffset(at.X, at.Y):])
	case *image.NYCbCrA:
		thousandths(dst, m.Y[m.YOffset(at.X, at.Y):])
	case *image.Gray:
		thousandths(dst, m.Pix[m.PixOffset(at.X, at.Y):])
	case *image.Gray16:
		p := m.Pix[m.PixOffset(at.X, at.Y):][:2*n]
		for i := range dst {
			dst[i] = 1000 * (int32(p[2*i])<<8 | int32(p[2*i+1]))
		}
	case *image.RGBA:
		exactLuma8(dst, m.Pix[m.PixOffset(at.X, at.Y):][:4*n])
	case *image.NRGBA:
		exactLuma8(dst, m.Pix[m.PixOffset(at.X, at.Y):][:4*n])
	case *image.RGBA64:
		exactLuma16(dst, m.Pix[m.PixOffset(at.X, at.Y):][:8*n])
	case *image.NRGBA64:
		exactLuma16(dst, m.Pix[m.PixOffset(at.X, at.Y):][:8*n])
	case *image.Paletted:
		for i, c := range m.Pix[m.PixOffset(at.X, at.Y):][:n] {
			dst[i] = l.table[c]
		}
	default:
		for i := range dst {
			dst[i] = exactLuma(l.img.At(at.X+i, at.Y))
		}
	}
}

func thousandths(dst []int32, src []uint8) {
	for i, v := range src[:len(dst)] {
		dst[i] = 1000 * int32(v)
	}
}

func exactLuma8(dst []int32, p []uint8) {
	for i := range dst {
		q := p[4*i : 4*i+3 : 4*i+3]
		dst[i] = 299*int32(q[0]) + 587*int32(q[1]) + 114*int32(q[2])
	}
}

func exactLuma16(dst []int32, p []uint8) {
	for i := range dst {
		q := p[8*i : 8*i+6 : 8*i+6]
		dst[i] = 299*(int32(q[0])<<8|int32(q[1])) + 587*(int32(q[2])<<8|int32(q[3])) + 114*(int32(q[4])<<8|int32(q[5]))
	}
}

func exactLuma(c color.Color) int32 {
	switch c := c.(type) {
	case color.NRGBA: // a conversion would go through alpha
		return 257 * (299*int32(c.R) + 587*int32(c.G) + 114*int32(c.B))
	case color.NRGBA64:
		return 299*int32(c.R) + 587*int32(c.G) + 114*int32(c.B)
	}
	r, g, b, _ := c.RGBA()
	return int32(299*r + 587*g + 114*b)
}
