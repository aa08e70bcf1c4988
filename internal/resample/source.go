package resample

import (
	"image"
	"image/color"
	"image/draw"
)

// A form is how the samples of a picture lie in its rows: those of package
// image's types, 16 bits with the higher byte first.
type form struct {
	channels int  // 1 or 4
	depth    int  // bits, 8 or 16
	straight bool // colours are not multiplied with alpha
}

var (
	gray    = form{channels: 1, depth: 8}
	gray16  = form{channels: 1, depth: 16}
	rgba    = form{channels: 4, depth: 8}
	nrgba   = form{channels: 4, depth: 8, straight: true}
	rgba64  = form{channels: 4, depth: 16}
	nrgba64 = form{channels: 4, depth: 16, straight: true}
)

// bytes is how many a pixel has.
func (f form) bytes() int { return f.channels * f.depth / 8 }

// canvas makes a picture of that form, and returns its bytes too.
func (f form) canvas(size image.Point) (image.Image, []uint8) {
	r := image.Rectangle{Max: size}
	switch f {
	case gray:
		m := image.NewGray(r)
		return m, m.Pix
	case gray16:
		m := image.NewGray16(r)
		return m, m.Pix
	case rgba:
		m := image.NewRGBA(r)
		return m, m.Pix
	case nrgba:
		m := image.NewNRGBA(r)
		return m, m.Pix
	case rgba64:
		m := image.NewRGBA64(r)
		return m, m.Pix
	}
	m := image.NewNRGBA64(r)
	return m, m.Pix
}

// A source is a picture whose rows can be read in one of the forms.
type source struct {
	form form
	size image.Point
	row  func(y int) []uint8 // row y, from 0; not to be changed, and valid until the next call
	line bool                // rows are converted into one line, which the next call overwrites
}

// open makes a picture readable.
func open(img image.Image) source {
	b := img.Bounds()
	s := source{size: b.Size(), line: true}
	w := s.size.X
	switch m := img.(type) {
	case *image.Gray:
		s.form, s.row = gray, rows(m.Pix[m.PixOffset(b.Min.X, b.Min.Y):], m.Stride, w)
	case *image.Gray16:
		s.form, s.row = gray16, rows(m.Pix[m.PixOffset(b.Min.X, b.Min.Y):], m.Stride, 2*w)
	case *image.RGBA:
		s.form, s.row = rgba, rows(m.Pix[m.PixOffset(b.Min.X, b.Min.Y):], m.Stride, 4*w)
	case *image.NRGBA:
		s.form, s.row = nrgba, rows(m.Pix[m.PixOffset(b.Min.X, b.Min.Y):], m.Stride, 4*w)
	case *image.RGBA64:
		s.form, s.row = rgba64, rows(m.Pix[m.PixOffset(b.Min.X, b.Min.Y):], m.Stride, 8*w)
	case *image.NRGBA64:
		s.form, s.row = nrgba64, rows(m.Pix[m.PixOffset(b.Min.X, b.Min.Y):], m.Stride, 8*w)
	case *image.Paletted:
		s.form, s.row = palette(m)
	case *image.YCbCr, *image.CMYK:
		line := image.NewRGBA(image.Rect(0, 0, w, 1))
		s.form, s.row = rgba, func(y int) []uint8 {
			draw.Draw(line, line.Rect, m, b.Min.Add(image.Pt(0, y)), draw.Src)
			return line.Pix
		}
	case *image.NYCbCrA:
		line := image.NewRGBA(image.Rect(0, 0, w, 1))
		s.form, s.row = nrgba, func(y int) []uint8 {
			draw.Draw(line, line.Rect, &m.YCbCr, b.Min.Add(image.Pt(0, y)), draw.Src)
			for x, a := range m.A[m.AOffset(b.Min.X, b.Min.Y+y):][:w] {
				line.Pix[4*x+3] = a
			}
			return line.Pix
		}
	default:
		line := image.NewNRGBA64(image.Rect(0, 0, w, 1))
		s.form, s.row = nrgba64, func(y int) []uint8 {
			for x := range w {
				line.SetNRGBA64(x, 0, color.NRGBA64Model.Convert(img.At(b.Min.X+x, b.Min.Y+y)).(color.NRGBA64))
			}
			return line.Pix
		}
	}
	switch img.(type) {
	case *image.Gray, *image.Gray16, *image.RGBA, *image.NRGBA, *image.RGBA64, *image.NRGBA64:
		s.line = false
	}
	return s
}

// rows reads a picture where it lies; n are the bytes of a row.
func rows(pix []uint8, stride, n int) func(y int) []uint8 {
	return func(y int) []uint8 { return pix[y*stride:][:n] }
}

// palette reads a picture through its palette.
func palette(m *image.Paletted) (form, func(y int) []uint8) {
	var colours [256][4]uint8
	f := rgba
	for i, c := range m.Palette[:min(len(m.Palette), 256)] {
		n := color.NRGBAModel.Convert(c).(color.NRGBA)
		colours[i] = [4]uint8{n.R, n.G, n.B, n.A}
		if n.A != 255 {
			f = nrgba
		}
	}
	w := m.Rect.Dx()
	line := make([]uint8, 4*w)
	return f, func(y int) []uint8 {
		for x, i := range m.Pix[m.PixOffset(m.Rect.Min.X, m.Rect.Min.Y+y):][:w] {
			copy(line[4*x:4*x+4], colours[i][:])
		}
		return line
	}
}
