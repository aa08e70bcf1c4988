package dedup

import (
	"crypto/sha256"
	"encoding/binary"
	"image"
	"image/color"
)

// samplesHash is the SHA-256 of a picture's size and samples in one form for
// all types of image: red, green, blue and alpha, not multiplied by alpha, row
// by row, of 8 bits where these hold every sample (16 bits v * 257 are v), else
// of 16.
func samplesHash(img image.Image) [32]byte {
	b := img.Bounds()
	write, depth := rows(img)
	row := make([]byte, depth*4*b.Dx())
	out := row
	if depth == 2 && narrow(b, row, write) {
		depth = 1
		out = make([]byte, 4*b.Dx())
	}
	h := sha256.New()
	head := binary.BigEndian.AppendUint32([]byte{byte(8 * depth)}, uint32(b.Dx()))
	h.Write(binary.BigEndian.AppendUint32(head, uint32(b.Dy())))
	for y := b.Min.Y; y < b.Max.Y; y++ {
		write(row, y)
		if len(out) < len(row) {
			for i := range out {
				out[i] = row[2*i]
			}
		}
		h.Write(out)
	}
	return [32]byte(h.Sum(nil))
}

// narrow reports whether 8 bits hold all samples of 16: then both bytes of each
// are the same.
func narrow(b image.Rectangle, row []byte, write func([]byte, int)) bool {
	for y := b.Min.Y; y < b.Max.Y; y++ {
		write(row, y)
		for i := 0; i < len(row); i += 2 {
			if row[i] != row[i+1] {
				return false
			}
		}
	}
	return true
}

// rows makes a function that writes the samples of row y, four per pixel of one
// byte each or of two, the higher first.
func rows(img image.Image) (write func(dst []byte, y int), depth int) {
	x0, w := img.Bounds().Min.X, img.Bounds().Dx()
	switch m := img.(type) {
	case *image.NRGBA:
		return func(dst []byte, y int) { copy(dst, m.Pix[m.PixOffset(x0, y):][:4*w]) }, 1
	case *image.RGBA:
		return func(dst []byte, y int) {
			copy(dst, m.Pix[m.PixOffset(x0, y):][:4*w])
			for p := dst; len(p) > 0; p = p[4:] {
				if p[3] != 0xff {
					put(p, color.NRGBAModel.Convert(color.RGBA{p[0], p[1], p[2], p[3]}).(color.NRGBA))
				}
			}
		}, 1
	case *image.Gray:
		return func(dst []byte, y int) {
			for x, v := range m.Pix[m.PixOffset(x0, y):][:w] {
				put(dst[4*x:], color.NRGBA{v, v, v, 0xff})
			}
		}, 1
	case *image.Paletted:
		var palette [256]color.NRGBA
		for i, c := range m.Palette[:min(len(m.Palette), len(palette))] {
			palette[i] = color.NRGBAModel.Convert(c).(color.NRGBA)
		}
		return func(dst []byte, y int) {
			for x, i := range m.Pix[m.PixOffset(x0, y):][:w] {
				put(dst[4*x:], palette[i])
			}
		}, 1
	case *image.YCbCr:
		return func(dst []byte, y int) {
			for x := range w {
				put(dst[4*x:], fromYCbCr(m.YCbCrAt(x0+x, y), 0xff))
			}
		}, 1
	case *image.NYCbCrA:
		return func(dst []byte, y int) {
			for x := range w {
				c := m.NYCbCrAAt(x0+x, y)
				put(dst[4*x:], fromYCbCr(c.YCbCr, c.A))
			}
		}, 1
	case *image.CMYK:
		return func(dst []byte, y int) {
			for x := range w {
				c := m.CMYKAt(x0+x, y)
				r, g, b := color.CMYKToRGB(c.C, c.M, c.Y, c.K)
				put(dst[4*x:], color.NRGBA{r, g, b, 0xff})
			}
		}, 1
	case *image.NRGBA64:
		return func(dst []byte, y int) { copy(dst, m.Pix[m.PixOffset(x0, y):][:8*w]) }, 2
	}
	return func(dst []byte, y int) {
		for x := range w {
			c := color.NRGBA64Model.Convert(img.At(x0+x, y)).(color.NRGBA64)
			for i, v := range [4]uint16{c.R, c.G, c.B, c.A} {
				binary.BigEndian.PutUint16(dst[8*x+2*i:], v)
			}
		}
	}, 2
}

func put(dst []byte, c color.NRGBA) { dst[0], dst[1], dst[2], dst[3] = c.R, c.G, c.B, c.A }

// fromYCbCr converts to 8 bits, as a decoder to RGB would; Color.RGBA gives
// fractions of them.
func fromYCbCr(c color.YCbCr, alpha uint8) color.NRGBA {
	r, g, b := color.YCbCrToRGB(c.Y, c.Cb, c.Cr)
	return color.NRGBA{r, g, b, alpha}
}
