package upscale

import (
	"encoding/binary"
	"image"
)

// canvas is a picture in the making. Tiles are put on it row by row, from the left, each
// plane by itself. What a tile shows passes over a ramp from the tile on its left and
// from those above, and is final where no further tile reaches. So that is all that is
// kept of tiles: the right ramp of the last one, and the lower ramps of a row of them.
type canvas struct {
	pixels
	scale int // of what is put
	ramp  int // in source pixels

	right [4][]float32 // of each plane, ramp x scale for each row of the last tile
	lower [4][]float32 // as wide as the canvas, ramp x scale rows
	line  []float32
}

// put sets what is shown of a tile in one plane: row gives row y of what the network made
// of the tile.
func (c *canvas) put(plane int, x, y piece, row func(y int) []float32) {
	s, ramp := c.scale, c.ramp*c.scale
	begin, width := (x.from-x.at)*s, (x.to-x.from)*s
	top, high := y.from*s, (y.to-y.from)*s
	for i := range high {
		line, left := row((y.from-y.at)*s + i)[begin:begin+width], x.from*s
		if c.ramp > 0 {
			c.line = append(c.line[:0], line...) // it is the network's
			line = c.line
		}
		if x.in > 0 {
			fadeIn(line, c.right[plane][i*ramp:][:ramp])
		}
		if x.out > 0 {
			c.right[plane] = grown(c.right[plane], (i+1)*ramp)
			copy(c.right[plane][i*ramp:], line[width-ramp:])
			line = line[:width-ramp]
		}
		if y.in > 0 && i < ramp {
			mix(line, c.lower[plane][i*c.width()+left:], (float32(i)+0.5)/float32(ramp))
		}
		if j := i - (high - ramp); y.out > 0 && j >= 0 {
			c.lower[plane] = grown(c.lower[plane], ramp*c.width())
			copy(c.lower[plane][j*c.width()+left:], line)
			continue
		}
		c.set(plane, left, top+i, line)
	}
}

// width is that of the canvas.
func (c *canvas) width() int { return c.size.X }

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
		to := p.pix[y*p.stride+x*p.planes+plane:]
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
	to := p.pix[y*p.stride+x*step+2*plane:]
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

// opaque makes the rows from top to bottom opaque.
func (p *pixels) opaque(top, bottom int) {
	step := p.planes
	if p.deep {
		step *= 2
	}
	for y := top; y < bottom; y++ {
		row := p.pix[y*p.stride:][:p.size.X*step]
		for i := step - step/4; i < len(row); i += step {
			row[i] = 255
			if p.deep {
				row[i+1] = 255
			}
		}
	}
}
