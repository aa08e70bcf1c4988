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
