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

// model is that of the pictures of this form.
func (f form) model() color.Model {
	switch f {
	case gray:
		return color.GrayModel
	case gray16:
		return color.Gray16Model
	case rgba:
		return color.RGBAModel
	case nrgba:
		return color.NRGBAModel
	case rgba64:
		return color.RGBA64Model
	}
	return color.NRGBA64Model
}

// make makes a picture of that form.
func (f form) make(size image.Point) image.Image {
	r := image.Rectangle{Max: size}
	switch f {
	case gray:
		return image.NewGray(r)
	case gray16:
		return image.NewGray16(r)
	case rgba:
		return image.NewRGBA(r)
	case nrgba:
		return image.NewNRGBA(r)
	case rgba64:
		return image.NewRGBA64(r)
	}
	return image.NewNRGBA64(r)
}

// A canvas is a picture that is drawn row by row.
type canvas struct {
	size   image.Point
	pix    []uint8 // from the upper left on
	stride int
	bytes  int // of a row
}

// row is row y, from 0.
func (c canvas) row(y int) []uint8 { return c.pix[y*c.stride:][:c.bytes] }

// canvasOf makes a picture ready to be drawn; ok when it has the form.
func canvasOf(img image.Image, f form) (c canvas, ok bool) {
	s, pix, stride := stored(img)
	if s != f || pix == nil {
		return canvas{}, false
	}
	size := img.Bounds().Size()
	return canvas{size, pix, stride, size.X * f.bytes()}, true
}

// stored are the samples of a picture whose rows lie in memory in one of the forms,
// from its upper left on; nil for others.
func stored(img image.Image) (f form, pix []uint8, stride int) {
	at := img.Bounds().Min
	switch m := img.(type) {
	case *image.Gray:
		return gray, m.Pix[m.PixOffset(at.X, at.Y):], m.Stride
	case *image.Gray16:
		return gray16, m.Pix[m.PixOffset(at.X, at.Y):], m.Stride
	case *image.RGBA:
		return rgba, m.Pix[m.PixOffset(at.X, at.Y):], m.Stride
	case *image.NRGBA:
		return nrgba, m.Pix[m.PixOffset(at.X, at.Y):], m.Stride
	case *image.RGBA64:
		return rgba64, m.Pix[m.PixOffset(at.X, at.Y):], m.Stride
	case *image.NRGBA64:
		return nrgba64, m.Pix[m.PixOffset(at.X, at.Y):], m.Stride
	}
	return form{}, nil, 0
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
	if f, pix, stride := stored(img); pix != nil {
		n := w * f.bytes()
		s.form, s.line, s.row = f, false, func(y int) []uint8 { return pix[y*stride:][:n] }
		return s
	}
	switch m := img.(type) {
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
	return s
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
