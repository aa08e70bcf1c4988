package dedup

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"image"
	"image/color"
)

// samplesHash is the SHA-256 of a picture's size and samples in one form for
// all types of image: red, green, blue and alpha, not multiplied by alpha, row
// by row, of 8 bits where these hold every sample (16 bits v * 257 are v), else
// of 16.
func samplesHash(img image.Image) [32]byte {
	s := newSamples(img)
	h := s.start(s.size)
	for y := range s.size.Y {
		h.Write(s.row(y))
	}
	return [32]byte(h.Sum(nil))
}

// orientedSamplesHash are the hashes that samplesHash has for the picture turned,
// one after another: mirrored left to right, or all 7 orientations other than
// upright, in the order of [phash.Orientations].
func orientedSamplesHash(img image.Image, all bool) []byte {
	s := newSamples(img)
	mirrored := s.start(s.size)
	var flipped, half hash.Hash
	if all {
		flipped, half = s.start(s.size), s.start(s.size)
	}
	line := make([]byte, s.size.X*s.pixel)
	for y := range s.size.Y {
		s.reverse(line, s.row(y))
		mirrored.Write(line)
	}
	if !all {
		return mirrored.Sum(nil)
	}
	for y := s.size.Y - 1; y >= 0; y-- {
		flipped.Write(s.row(y))
		s.reverse(line, s.row(y))
		half.Write(line)
	}
	across := image.Pt(s.size.Y, s.size.X)
	transposed, clockwise, counter, transverse := s.start(across), s.start(across), s.start(across), s.start(across)
	line = make([]byte, s.size.Y*s.pixel)
	for x := range s.size.X {
		s.reverse(line, s.column(x))
		transposed.Write(s.column(x))
		clockwise.Write(line)
	}
	for x := s.size.X - 1; x >= 0; x-- {
		s.reverse(line, s.column(x))
		counter.Write(s.column(x))
		transverse.Write(line)
	}
	var out []byte
	for _, h := range []hash.Hash{mirrored, flipped, half, transposed, clockwise, counter, transverse} {
		out = h.Sum(out)
	}
	return out
}

// stripBytes is how much of a picture is kept to go through it by columns.
const stripBytes = 4 << 20

// orientedPixelWork is what orientedSamplesHash allocates at most for a picture of
// that size: lines in samples of 16 bits, and a strip.
func orientedPixelWork(size image.Point, all bool) int64 {
	work := 3 * 8 * int64(size.X)
	if all {
		work += 8*int64(size.Y) + max(stripBytes, 8*int64(size.Y))
	}
	return work
}

// samples are those of a picture in the form that samplesHash hashes.
type samples struct {
	img    image.Image
	size   image.Point
	pixel  int  // bytes of one
	halved bool // the picture's samples are of 16 bits and those hashed of 8
	write  func(dst []byte, y int)
	line   []byte // as written, and what is returned of it

	strip       []byte // some columns, one after another
	first, last int    // of them; last is one beyond
}

func newSamples(img image.Image) *samples {
	b := img.Bounds()
	write, depth := rows(img, b.Min.X, b.Dx())
	s := &samples{img: img, size: b.Size(), pixel: 4 * depth, write: write, line: make([]byte, 4*depth*b.Dx())}
	if depth == 2 && narrow(b, s.line, write) {
		s.halved, s.pixel = true, 4
	}
	return s
}

// start begins a hash with the form and the size.
func (s *samples) start(size image.Point) hash.Hash {
	h := sha256.New()
	head := binary.BigEndian.AppendUint32([]byte{byte(2 * s.pixel)}, uint32(size.X))
	h.Write(binary.BigEndian.AppendUint32(head, uint32(size.Y)))
	return h
}

// row is row y from the top, until the next call.
func (s *samples) row(y int) []byte {
	s.write(s.line, s.img.Bounds().Min.Y+y)
	return s.narrowed(s.line)
}

// narrowed makes 8 bits of 16 in place where they are enough.
func (s *samples) narrowed(line []byte) []byte {
	if !s.halved {
		return line
	}
	line8 := line[:len(line)/2]
	for i := range line8 {
		line8[i] = line[2*i]
	}
	return line8
}

// column is column x from the left, until the next call. The picture is read in
// strips of columns, so that it need not be in memory a second time.
func (s *samples) column(x int) []byte {
	high := s.size.Y * s.pixel
	if x < s.first || x >= s.last {
		n := max(1, stripBytes/high)
		s.first = x / n * n
		s.last = min(s.first+n, s.size.X)
		if s.strip == nil {
			s.strip = make([]byte, min(n, s.size.X)*high)
		}
		b := s.img.Bounds()
		write, depth := rows(s.img, b.Min.X+s.first, s.last-s.first)
		part := s.line[:4*depth*(s.last-s.first)]
		for y := range s.size.Y {
			write(part, b.Min.Y+y)
			line := s.narrowed(part)
			for i := range s.last - s.first {
				copy(s.strip[i*high+y*s.pixel:][:s.pixel], line[i*s.pixel:])
			}
		}
	}
	return s.strip[(x-s.first)*high:][:high]
}

// reverse writes the pixels of a line in reverse order.
func (s *samples) reverse(dst, line []byte) {
	for i := 0; i < len(line); i += s.pixel {
		copy(dst[len(line)-s.pixel-i:], line[i:i+s.pixel])
	}
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

// rows makes a function that writes the samples of w pixels from column x0 on of
// row y, four per pixel of one byte each or of two, the higher first.
func rows(img image.Image, x0, w int) (write func(dst []byte, y int), depth int) {
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
