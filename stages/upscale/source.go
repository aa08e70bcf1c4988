package upscale

import (
	"context"
	"image"
	"image/color"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/internal/resample"
	"github.com/forgepipe/forgepipe/pipeline"
)

// source is a picture as a network gets it.
type source struct {
	// colours are gray, or not multiplied with alpha: the network must not see edges where
	// the picture becomes transparent.
	colours image.Image
	gray    bool
	// luma says that the colours are gray though they have three samples: a gray picture
	// with alpha is decoded so.
	luma  bool
	deep  bool        // its samples have 16 bits
	alpha image.Image // gray; nil: the picture is opaque
}

// newSource prepares a picture. Of an opaque one, and of one that is to be, nothing is
// copied, unless its colours have to be divided by alpha.
func newSource(ctx context.Context, it *pipeline.Item, img image.Image, drop bool) (source, error) {
	r := resample.Read(img)
	s := source{colours: img, gray: r.Channels == 1, deep: r.Depth == 16}
	if s.gray || imageio.Opaque(img) {
		return s, nil
	}
	size := img.Bounds().Size()
	s.luma = isGray(r, size.Y)
	if drop && r.Straight {
		return s, nil
	}
	colours, alpha := color.NRGBA64Model, color.GrayModel // a division gives more than 8 bits
	if r.Depth == 8 && r.Straight {
		colours = color.NRGBAModel
	}
	if s.deep {
		alpha = color.Gray16Model
	}
	var err error
	if s.colours, err = it.NewImage(ctx, colours, size); err != nil {
		return s, err
	}
	c := copied{pix: pixelsOf(s.colours).pix, size: size, step: 4}
	if colours == color.NRGBA64Model {
		c.step = 8
	}
	var plane []uint8
	if !drop {
		if s.alpha, err = it.NewImage(ctx, alpha, size); err != nil {
			return s, err
		}
		plane = pixelsOf(s.alpha).pix
	}
	for y := range size.Y {
		row := r.Row(y)
		c.row(y, row, r)
		if !drop {
			takeAlpha(plane[y*size.X*r.Depth/8:], row, r.Depth)
		}
	}
	if drop {
		return s, nil
	}
	far, err := it.NewImage(ctx, color.Gray16Model, size)
	if err != nil {
		return s, err
	}
	c.extend(pixelsOf(far).pix)
	return s, nil
}

// isGray tells whether red, green and blue are the same in all pixels.
func isGray(r resample.Reader, rows int) bool {
	n := r.Depth / 8
	for y := range rows {
		for row := r.Row(y); len(row) > 0; row = row[4*n:] {
			if row[0] != row[n] || row[0] != row[2*n] || row[n-1] != row[2*n-1] || row[n-1] != row[3*n-1] {
				return false
			}
		}
	}
	return true
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
// into what can be seen. The nearest one is found with a chamfer distance, which is a few
// per cent off (Borgefors 1986); far has room for it, two bytes for each pixel.
func (c *copied) extend(far []uint8) {
	const straight, diagonal, none = 3, 4, 1<<16 - 1
	w, n := c.size.X, c.size.X*c.size.Y
	hidden := 0
	for i := range n {
		if c.hidden(i) {
			put16(far[2*i:], none)
			hidden++
		}
	}
	if hidden == 0 || hidden == n {
		return
	}
	colour := c.step / 4 * 3
	look := func(i, from int, by uint32) {
		if d := get16(far[2*from:]) + by; d < get16(far[2*i:]) {
			put16(far[2*i:], d)
			copy(c.pix[i*c.step:][:colour], c.pix[from*c.step:][:colour])
		}
	}
	// near looks at those on one side and in the row beside: from the left and above, and
	// then from the right and below.
	near := func(i, side int, first, last, begun bool) {
		if get16(far[2*i:]) == 0 {
			return
		}
		if !first {
			look(i, i-side, straight)
		}
		if begun {
			above := i - side*w
			look(i, above, straight)
			if !first {
				look(i, above-side, diagonal)
			}
			if !last {
				look(i, above+side, diagonal)
			}
		}
	}
	for i := range n {
		near(i, 1, i%w == 0, i%w == w-1, i >= w)
	}
	for i := n - 1; i >= 0; i-- {
		near(i, -1, i%w == w-1, i%w == 0, i < n-w)
	}
}

// hidden tells whether pixel i is fully transparent.
func (c *copied) hidden(i int) bool {
	p := c.pix[i*c.step:][:c.step]
	return p[c.step-1] == 0 && (c.step == 4 || p[c.step-2] == 0)
}
