package imageio

import (
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/draw"
)

// pngRows gives the rows of an image as PNG stores them, unfiltered.
type pngRows struct {
	colour, depth byte
	palette       color.Palette                 // of colour type 3, otherwise nil
	pixel         int                           // bytes from a sample to the same one of the next pixel
	size          int                           // bytes in a row
	read          func(dst []byte, y int) error // y is counted from the top
}

// pngRowsOf chooses colour type and depth for an image, so that nothing is lost
// and nothing is stored that it does not have.
func pngRowsOf(img image.Image) pngRows {
	b := img.Bounds()
	w, h := b.Dx(), b.Dy()
	switch m := img.(type) {
	case *image.Gray:
		return pngCopy(pngGray, 8, packed{m.Pix, m.Stride, 1}, w)
	case *image.Gray16:
		return pngCopy(pngGray, 16, packed{m.Pix, m.Stride, 2}, w)
	case *image.NRGBA:
		p := packed{m.Pix, m.Stride, 4}
		if p.opaque(w, h) {
			return pngConvert(pngRGB, 8, p, w, packRGB)
		}
		return pngCopy(pngRGBA, 8, p, w)
	case *image.NRGBA64:
		p := packed{m.Pix, m.Stride, 8}
		if p.opaque(w, h) {
			return pngConvert(pngRGB, 16, p, w, packRGB16)
		}
		return pngCopy(pngRGBA, 16, p, w)
	case *image.RGBA:
		p := packed{m.Pix, m.Stride, 4}
		if p.opaque(w, h) {
			return pngConvert(pngRGB, 8, p, w, packRGB)
		}
		return pngConvert(pngRGBA, 8, p, w, unpremultiply)
	case *image.RGBA64:
		p := packed{m.Pix, m.Stride, 8}
		if p.opaque(w, h) {
			return pngConvert(pngRGB, 16, p, w, packRGB16)
		}
		return pngConvert(pngRGBA, 16, p, w, unpremultiply16)
	case *image.Paletted:
		if n := len(m.Palette); n >= 1 && n <= 256 {
			return pngIndices(m)
		}
	case *image.YCbCr, *image.CMYK: // image/draw converts these fast
		row := image.NewRGBA(image.Rect(0, 0, w, 1))
		return newPNGRows(pngRGB, 8, w, func(dst []byte, y int) error {
			draw.Draw(row, row.Rect, img, image.Pt(b.Min.X, b.Min.Y+y), draw.Src)
			packRGB(dst, row.Pix)
			return nil
		})
	}
	return pngAny(img)
}

func newPNGRows(colour, depth byte, width int, read func(dst []byte, y int) error) pngRows {
	channels := map[byte]int{pngGray: 1, pngPalette: 1, pngRGB: 3, pngRGBA: 4}[colour]
	bits := channels * int(depth)
	return pngRows{colour: colour, depth: depth, pixel: max(1, bits/8), size: (bits*width + 7) / 8, read: read}
}

// pngCopy gives rows that lie in memory as PNG wants them.
func pngCopy(colour, depth byte, p packed, width int) pngRows {
	return pngConvert(colour, depth, p, width, func(dst, src []byte) { copy(dst, src) })
}

func pngConvert(colour, depth byte, p packed, width int, convert func(dst, src []byte)) pngRows {
	var since int
	return newPNGRows(colour, depth, width, func(dst []byte, y int) error {
		row := p.pix[y*p.stride:][:width*p.size]
		convert(dst, row)
		pass(row, &since)
		return nil
	})
}

// packRGB leaves out each fourth byte.
func packRGB(dst, src []byte) {
	const two = 0xffffff
	for len(src) >= 16 && len(dst) >= 12 {
		a, b := binary.LittleEndian.Uint64(src), binary.LittleEndian.Uint64(src[8:])
		a = a&two | a>>8&(two<<24)
		b = b&two | b>>8&(two<<24)
		binary.LittleEndian.PutUint64(dst, a|b<<48)
		binary.LittleEndian.PutUint32(dst[8:], uint32(b>>16))
		src, dst = src[16:], dst[12:]
	}
	for len(src) >= 4 && len(dst) >= 3 {
		dst[0], dst[1], dst[2] = src[0], src[1], src[2]
		src, dst = src[4:], dst[3:]
	}
}

// packRGB16 is packRGB for two bytes a channel.
func packRGB16(dst, src []byte) {
	for len(src) >= 8 && len(dst) >= 6 {
		copy(dst[:6], src[:6])
		src, dst = src[8:], dst[6:]
	}
}

// unpremultiply divides alpha out as color.NRGBAModel does it.
func unpremultiply(dst, src []byte) {
	for len(src) >= 4 && len(dst) >= 4 {
		switch a := uint32(src[3]); a {
		case 0:
			clear(dst[:4])
		case 0xff:
			copy(dst[:4], src[:4])
		default:
			for i, c := range src[:3] {
				dst[i] = uint8(uint32(c) * 0xffff / a >> 8)
			}
			dst[3] = uint8(a)
		}
		src, dst = src[4:], dst[4:]
	}
}

// unpremultiply16 divides alpha out as color.NRGBA64Model does it.
func unpremultiply16(dst, src []byte) {
	be := binary.BigEndian
	for len(src) >= 8 && len(dst) >= 8 {
		switch a := uint32(be.Uint16(src[6:])); a {
		case 0:
			clear(dst[:8])
		case 0xffff:
			copy(dst[:8], src[:8])
		default:
			for i := 0; i < 6; i += 2 {
				be.PutUint16(dst[i:], uint16(uint32(be.Uint16(src[i:]))*0xffff/a))
			}
			be.PutUint16(dst[6:], uint16(a))
		}
		src, dst = src[8:], dst[8:]
	}
}

// pngIndices gives the indices of a palette, in as few bits as the number of
// colours allows.
func pngIndices(m *image.Paletted) pngRows {
	colours, depth := len(m.Palette), byte(8)
	switch {
	case colours <= 2:
		depth = 1
	case colours <= 4:
		depth = 2
	case colours <= 16:
		depth = 4
	}
	width := m.Rect.Dx()
	r := newPNGRows(pngPalette, depth, width, func(dst []byte, y int) error {
		src := m.Pix[y*m.Stride:][:width]
		if depth < 8 {
			clear(dst)
		}
		for x, i := range src {
			if int(i) >= colours {
				return fmt.Errorf("the pixel at %d, %d has colour %d of a palette of %d", x, y, i, colours)
			}
			if depth == 8 {
				dst[x] = i
				continue
			}
			at := x * int(depth)
			dst[at/8] |= i << (8 - int(depth) - at%8)
		}
		return nil
	})
	r.palette = m.Palette
	return r
}

// pngAny reads any image pixel by pixel. Of 8 bits are those types whose colours
// have no more; all others get 16.
func pngAny(img image.Image) pngRows {
	b := img.Bounds()
	w := b.Dx()
	each := func(colour, depth byte, put func(dst []byte, c color.Color)) pngRows {
		r := newPNGRows(colour, depth, w, nil)
		r.read = func(dst []byte, y int) error {
			for x := range w {
				put(dst[x*r.pixel:][:r.pixel], img.At(b.Min.X+x, b.Min.Y+y))
			}
			return nil
		}
		return r
	}
	be := binary.BigEndian
	colour := byte(pngRGBA)
	if Opaque(img) {
		colour = pngRGB
	}
	switch img.ColorModel() {
	case color.GrayModel:
		return each(pngGray, 8, func(dst []byte, c color.Color) {
			dst[0] = color.GrayModel.Convert(c).(color.Gray).Y
		})
	case color.Gray16Model:
		return each(pngGray, 16, func(dst []byte, c color.Color) {
			be.PutUint16(dst, color.Gray16Model.Convert(c).(color.Gray16).Y)
		})
	case color.RGBAModel, color.NRGBAModel, color.AlphaModel, color.YCbCrModel, color.CMYKModel:
		return each(colour, 8, func(dst []byte, c color.Color) {
			n := color.NRGBAModel.Convert(c).(color.NRGBA)
			copy(dst, []byte{n.R, n.G, n.B, n.A})
		})
	case color.NYCbCrAModel:
		return each(colour, 8, func(dst []byte, c color.Color) {
			// Not by way of a colour that is multiplied by alpha and divided again.
			n := color.NYCbCrAModel.Convert(c).(color.NYCbCrA)
			r, g, b := color.YCbCrToRGB(n.Y, n.Cb, n.Cr)
			copy(dst, []byte{r, g, b, n.A})
		})
	}
	return each(colour, 16, func(dst []byte, c color.Color) {
		n := color.NRGBA64Model.Convert(c).(color.NRGBA64)
		var px [8]byte
		be.PutUint16(px[:], n.R)
		be.PutUint16(px[2:], n.G)
		be.PutUint16(px[4:], n.B)
		be.PutUint16(px[6:], n.A)
		copy(dst, px[:])
	})
}
