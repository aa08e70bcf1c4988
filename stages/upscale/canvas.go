package upscale

import (
	"encoding/binary"
	"image"

	"github.com/forgepipe/forgepipe/internal/resample"
)

// canvas is a picture in the making. Tiles are put on it row by row, from the left, each
// plane by itself. What a tile shows passes over a ramp from the tile on its left and
// from those above, and is final where no further tile reaches. So that is all that is
// kept of tiles: the right ramp of the last one, and the lower ramps of a row of them.
type canvas struct {
	pixels
	scale        int // of what is put
	across, down int // the ramps, in pixels of the canvas

	right [4][]float32 // of each plane, the ramp for each row of the last tile
	lower [4][]float32 // as wide as the canvas
	line  []float32
}

// put sets what is shown of a tile in one plane: row gives row y of what the network made
// of the tile.
func (c *canvas) put(plane int, x, y piece, row func(y int) []float32) {
	s := c.scale
	left, width := x.from*s, (x.to-x.from)*s
	top, high := y.from*s, (y.to-y.from)*s
	for i := range high {
		line := row((y.from-y.at)*s + i)[(x.from-x.at)*s:][:width]
		if c.across+c.down > 0 {
			c.line = append(c.line[:0], line...) // it is the network's
			line = c.line
		}
		if x.in > 0 {
			fadeIn(line, c.right[plane][i*c.across:][:c.across])
		}
		if x.out > 0 {
			c.right[plane] = grown(c.right[plane], high*c.across)
			copy(c.right[plane][i*c.across:], line[width-c.across:])
			line = line[:width-c.across]
		}
		if y.in > 0 && i < c.down {
			mix(line, c.lower[plane][i*c.size.X+left:], (float32(i)+0.5)/float32(c.down))
		}
		if k := i - (high - c.down); y.out > 0 && k >= 0 {
			c.lower[plane] = grown(c.lower[plane], c.down*c.size.X)
			copy(c.lower[plane][k*c.size.X+left:], line)
			continue
		}
		c.set(plane, left, top+i, line)
	}
}

// grown is a slice of at least n elements that has what s has.
func grown(s []float32, n int) []float32 {
	if n <= len(s) {
		return s
	}
	if n <= cap(s) {
		return s[:n]
	}
	return append(s, make([]float32, n-len(s))...)
}

// fadeIn passes over from other to the beginning of line.
func fadeIn(line, other []float32) {
	step := 1 / float32(len(other))
	for x, v := range other {
		line[x] = v + (line[x]-v)*(float32(x)+0.5)*step
	}
}

// mix passes over from other to line by a share.
func mix(line, other []float32, share float32) {
	other = other[:len(line)]
	for x, v := range other {
		line[x] = v + (line[x]-v)*share
	}
}

// pixels are those of a picture that is written.
type pixels struct {
	image  image.Image
	size   image.Point
	pix    []uint8
	stride int
	first  int // the row that the picture begins with, where it is a part of a larger one
	planes int // samples of a pixel: 1, gray, or 4
	deep   bool
}

// pixelsOf are those of one of the types that a result can have.
func pixelsOf(img image.Image) pixels {
	p := pixels{image: img, size: img.Bounds().Size(), planes: 1}
	switch m := img.(type) {
	case *image.Gray:
		p.pix, p.stride = m.Pix, m.Stride
	case *image.Gray16:
		p.pix, p.stride, p.deep = m.Pix, m.Stride, true
	case *image.NRGBA:
		p.pix, p.stride, p.planes = m.Pix, m.Stride, 4
	case *image.NRGBA64:
		p.pix, p.stride, p.planes, p.deep = m.Pix, m.Stride, 4, true
	default:
		panic("BUG: a picture that is no result")
	}
	return p
}

// set writes samples of one plane, from 0 to 1, from (x, y) to the right.
func (p *pixels) set(plane, x, y int, line []float32) {
	if !p.deep {
		to := p.pix[(y-p.first)*p.stride+x*p.planes+plane:]
		for i, v := range line {
			v = v*255 + 0.5
			var sample uint8
			if v >= 255 {
				sample = 255
			} else if v > 0 {
				sample = uint8(int32(v))
			}
			to[i*p.planes] = sample
		}
		return
	}
	step := 2 * p.planes
	to := p.pix[(y-p.first)*p.stride+x*step+2*plane:]
	for i, v := range line {
		v = v*65535 + 0.5
		var sample uint16
		if v >= 65535 {
			sample = 65535
		} else if v > 0 {
			sample = uint16(int32(v))
		}
		binary.BigEndian.PutUint16(to[i*step:], sample)
	}
}

// setAlpha sets the alpha of the rows from top on to the samples of a gray picture, and
// makes black what cannot be seen then.
func (p *pixels) setAlpha(top int, gray image.Image) {
	r := resample.Read(gray)
	step := 4
	if p.deep {
		step = 8
	}
	for y := range gray.Bounds().Dy() {
		row, to := r.Row(y), p.pix[(top+y-p.first)*p.stride:]
		for x := range p.size.X {
			a := uint16(row[x*r.Depth/8]) * 257
			if r.Depth == 16 {
				a = binary.BigEndian.Uint16(row[2*x:])
			}
			pixel := to[x*step : x*step+step]
			switch {
			case !p.deep && a < 128 || a == 0:
				clear(pixel)
			case p.deep:
				binary.BigEndian.PutUint16(pixel[6:], a)
			default:
				pixel[3] = uint8((uint32(a) + 128) / 257)
			}
		}
	}
}

// opaque makes the rows from top to bottom opaque.
func (p *pixels) opaque(top, bottom int) {
	step := p.planes
	if p.deep {
		step *= 2
	}
	for y := top; y < bottom; y++ {
		row := p.pix[(y-p.first)*p.stride:][:p.size.X*step]
		for i := step - step/4; i < len(row); i += step {
			row[i] = 255
			if p.deep {
				row[i+1] = 255
			}
		}
	}
}
