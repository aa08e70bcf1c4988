package upscale

import (
	"image"

	"github.com/forgepipe/forgepipe/internal/resample"
)

// source is a picture as a network gets it.
type source struct {
	// colours are gray, or not multiplied with alpha: the network must not see edges where
	// the picture becomes transparent.
	colours image.Image
	gray    bool
	deep    bool        // its samples have 16 bits
	alpha   image.Image // gray; nil: the picture is opaque
}

// newSource prepares a picture. Of an opaque one, and of one that is to be, nothing is
// copied, unless its colours have to be divided by alpha.
func newSource(img image.Image, drop bool) source {
	r := resample.Read(img)
	s := source{colours: img, gray: r.Channels == 1, deep: r.Depth == 16}
	if m, ok := img.(interface{ Opaque() bool }); s.gray || drop && r.Straight || ok && m.Opaque() {
		return s
	}
	whole := image.Rectangle{Max: img.Bounds().Size()}
	c := copied{size: whole.Max, step: 4}
	if r.Depth == 8 && r.Straight {
		m := image.NewNRGBA(whole)
		s.colours, c.pix = m, m.Pix
	} else { // a division gives more than 8 bits
		m := image.NewNRGBA64(whole)
		s.colours, c.pix, c.step = m, m.Pix, 8
	}
	var alpha []uint8
	if !drop {
		if s.deep {
			m := image.NewGray16(whole)
			s.alpha, alpha = m, m.Pix
		} else {
			m := image.NewGray(whole)
			s.alpha, alpha = m, m.Pix
		}
	}
	for y := range whole.Max.Y {
		c.row(y, r.Row(y), r)
		if alpha != nil {
			takeAlpha(alpha[y*whole.Max.X*r.Depth/8:], r.Row(y), r.Depth)
		}
	}
	if !drop {
		c.extend()
	}
	return s
}

// takeAlpha copies the alpha samples of a row.
func takeAlpha(dst, row []uint8, depth int) {
	if depth == 8 {
		for x := range len(row) / 4 {
			dst[x] = row[4*x+3]
		}
		return
	}
	for x := range len(row) / 8 {
		dst[2*x], dst[2*x+1] = row[8*x+6], row[8*x+7]
	}
}

// copied is a copy of a picture with alpha, whose colours are not multiplied with it.
type copied struct {
	pix  []uint8
	size image.Point
	step int // bytes of a pixel
}

// row sets row y.
func (c *copied) row(y int, row []uint8, r resample.Reader) {
	dst := c.pix[y*c.size.X*c.step:][:c.size.X*c.step]
	switch {
	case r.Straight: // and as many bits
		copy(dst, row)
	case r.Depth == 8:
		for x := range c.size.X {
			p, a := row[4*x:4*x+4], uint32(row[4*x+3])
			for i, v := range p[:3] {
				put16(dst[8*x+2*i:], divided(257*uint32(v), 257*a))
			}
			put16(dst[8*x+6:], 257*a)
		}
	default:
		for x := range c.size.X {
			p := row[8*x : 8*x+8]
			a := get16(p[6:])
			for i := range 3 {
				put16(dst[8*x+2*i:], divided(get16(p[2*i:]), a))
			}
			put16(dst[8*x+6:], a)
		}
	}
}

// divided is a colour that was multiplied with alpha, both of 16 bits.
func divided(v, a uint32) uint32 {
	if a == 0 {
		return 0
	}
	return min((v*65535+a/2)/a, 65535)
}

func get16(b []uint8) uint32 { return uint32(b[0])<<8 | uint32(b[1]) }

func put16(b []uint8, v uint32) { b[0], b[1] = uint8(v>>8), uint8(v) }

// extend gives pixels of which nothing can be seen the colour of the nearest one of which
// something can. What colour they have is mostly chance, and a network would carry it
// into what can be seen. The nearest one is found with a chamfer distance, which is up to
// a tenth off (Borgefors 1986).
func (c *copied) extend() {
	const straight, diagonal, none = 3, 4, 1<<16 - 1
	w, h := c.size.X, c.size.Y
	far := make([]uint16, w*h)
	hidden := 0
	for i := range far {
		if c.hidden(i) {
			far[i] = none
			hidden++
		}
	}
	if hidden == 0 || hidden == len(far) {
		return
	}
	colour := c.step / 4 * 3
	look := func(i, from int, by uint16) {
		if d := far[from]; d < none-by && d+by < far[i] {
			far[i] = d + by
			copy(c.pix[i*c.step:][:colour], c.pix[from*c.step:][:colour])
		}
	}
	for i := range far { // from the left and from above
		if far[i] == 0 {
			continue
		}
		x, y := i%w, i/w
		if x > 0 {
			look(i, i-1, straight)
		}
		if y > 0 {
			look(i, i-w, straight)
			if x > 0 {
				look(i, i-w-1, diagonal)
			}
			if x < w-1 {
				look(i, i-w+1, diagonal)
			}
		}
	}
	for i := len(far) - 1; i >= 0; i-- { // and from the right and from below
		if far[i] == 0 {
			continue
		}
		x, y := i%w, i/w
		if x < w-1 {
			look(i, i+1, straight)
		}
		if y < h-1 {
			look(i, i+w, straight)
			if x < w-1 {
				look(i, i+w+1, diagonal)
			}
			if x > 0 {
				look(i, i+w-1, diagonal)
			}
		}
	}
}

// hidden tells whether pixel i is fully transparent.
func (c *copied) hidden(i int) bool {
	p := c.pix[i*c.step:][:c.step]
	return p[c.step-1] == 0 && (c.step == 4 || p[c.step-2] == 0)
}
