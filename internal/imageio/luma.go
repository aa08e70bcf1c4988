package imageio

import (
	"image"
	"image/color"
)

// LumaRow puts the brightness of row y of img, counted from the top of its
// bounds, into the first Dx elements of dst: ITU-R BT.601 luma from 0 to 255,
// where 16-bit pixels give fractions. Y'CbCr gives its Y' as it is, full range
// as in JPEG. Alpha is ignored: a transparent pixel counts with the colour that
// it would have. (In types with premultiplied alpha that colour is darker.)
func LumaRow(dst []float32, img image.Image, y int) {
	b := img.Bounds()
	w := b.Dx()
	dst = dst[:w]
	at := b.Min.Add(image.Pt(0, y))
	switch m := img.(type) {
	case *image.YCbCr:
		lumaBytes(dst, m.Y[m.YOffset(at.X, at.Y):])
	case *image.NYCbCrA:
		lumaBytes(dst, m.Y[m.YOffset(at.X, at.Y):])
	case *image.Gray:
		lumaBytes(dst, m.Pix[m.PixOffset(at.X, at.Y):])
	case *image.Gray16:
		p := m.Pix[m.PixOffset(at.X, at.Y):][:2*w]
		for x := range dst {
			dst[x] = float32(uint32(p[2*x])<<8|uint32(p[2*x+1])) / 257
		}
	case *image.RGBA:
		luma8(dst, m.Pix[m.PixOffset(at.X, at.Y):][:4*w])
	case *image.NRGBA:
		luma8(dst, m.Pix[m.PixOffset(at.X, at.Y):][:4*w])
	case *image.RGBA64:
		luma16(dst, m.Pix[m.PixOffset(at.X, at.Y):][:8*w])
	case *image.NRGBA64:
		luma16(dst, m.Pix[m.PixOffset(at.X, at.Y):][:8*w])
	case *image.Paletted:
		var table [256]float32
		for i, c := range m.Palette[:min(len(m.Palette), 256)] {
			table[i] = lumaOf(c)
		}
		for x, i := range m.Pix[m.PixOffset(at.X, at.Y):][:w] {
			dst[x] = table[i]
		}
	default:
		for x := range dst {
			dst[x] = lumaOf(img.At(at.X+x, at.Y))
		}
	}
}

func lumaBytes(dst []float32, src []uint8) {
	for x, v := range src[:len(dst)] {
		dst[x] = float32(v)
	}
}

// The weights are applied in integers, whose sum is exact: floating point sums
// would differ between machines that fuse multiplication and addition and those
// that do not, and white would not be 255.

func luma8(dst []float32, p []uint8) {
	for x := range dst {
		q := p[4*x : 4*x+3 : 4*x+3]
		dst[x] = float32(299*uint32(q[0])+587*uint32(q[1])+114*uint32(q[2])) / 1000
	}
}

func luma16(dst []float32, p []uint8) {
	for x := range dst {
		q := p[8*x : 8*x+6 : 8*x+6]
		r := uint32(q[0])<<8 | uint32(q[1])
		g := uint32(q[2])<<8 | uint32(q[3])
		b := uint32(q[4])<<8 | uint32(q[5])
		dst[x] = weigh16(r, g, b)
	}
}

func weigh16(r, g, b uint32) float32 {
	return float32(float64(299*r+587*g+114*b) / 257000)
}

func lumaOf(c color.Color) float32 {
	switch c := c.(type) {
	case color.NRGBA:
		return weigh16(uint32(c.R)*257, uint32(c.G)*257, uint32(c.B)*257)
	case color.NRGBA64:
		return weigh16(uint32(c.R), uint32(c.G), uint32(c.B))
	}
	r, g, b, _ := c.RGBA()
	return weigh16(r, g, b)
}

// Luma reads the exact brightness of a picture, in integers, so that sums over
// it are the same on every machine and whatever their order. It is the luma of
// [LumaRow], in thousandths of the picture's own sample steps.
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
