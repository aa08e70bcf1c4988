package model

import (
	"encoding/binary"
	"fmt"
	"math"

	half "github.com/x448/float16"

	"github.com/forgepipe/forgepipe/internal/ort"
)

// Samples are what a network gave for one picture, for networks that make pictures: rows
// of samples, in which what the Spec's Mean, Std and Range do is undone: 0 is black and 1
// is white, and a network may go beyond both.
type Samples struct {
	Width, Height int // of the picture, in pixels
	Channels      int // 3: red, green and blue, or 1

	out        *Tensor
	floats     []float32 // of out, where it has such
	step, rows int       // elements from a sample to the next of its row, and of its column
	begin      [3]int    // of the channels
	scale      [3]float32
	zero       [3]float32
}

// Samples looks at the output for one picture, float32 or float16, of the Spec's layout
// and channels: [C H W] or, in the layout NHWC, [H W C]. The error says what about it is
// no picture.
func (s Spec) Samples(out *Tensor) (*Samples, error) {
	s = s.applyDefaults()
	p := &Samples{Channels: s.Depth(), out: out}
	if len(out.Shape) != 3 {
		return nil, fmt.Errorf("its output has the shape %v, and a picture has three axes", out.Shape)
	}
	depth, height, width := int(out.Shape[0]), int(out.Shape[1]), int(out.Shape[2])
	between := height * width
	p.step, p.rows = 1, width
	if s.Layout == NHWC {
		height, width, depth = depth, height, width
		between, p.step, p.rows = 1, depth, width*depth
	}
	p.Width, p.Height = width, height
	if depth != p.Channels {
		return nil, fmt.Errorf("its output has the shape %v: %d channels, where %d are expected", out.Shape, depth, p.Channels)
	}
	n := len(out.Data) / 2
	switch out.Type {
	case ort.Float16:
	case ort.Float32:
		p.floats = out.Float32s()
		n = len(p.floats)
	default:
		return nil, fmt.Errorf("its output has elements of type %v, and a picture has float32 or float16", out.Type)
	}
	if n != depth*height*width {
		return nil, fmt.Errorf("its output has %d numbers, which are not %v", n, out.Shape)
	}
	for c := range p.Channels {
		at := c
		if s.Channels == BGR {
			at = 2 - c
		}
		p.begin[c] = at * between
		// What FillWindow does, solved for the sample of 0 to 1.
		scale, zero := s.Std[c], s.Mean[c]
		switch s.Range {
		case MinusOneToOne:
			scale, zero = scale/2, (zero+1)/2
		case ZeroTo255:
			scale, zero = scale/255, zero/255
		}
		p.scale[c], p.zero[c] = float32(scale), float32(zero)
	}
	return p, nil
}

// Row gives the samples of channel c in row y. They are in dst, which has room for Width
// of them, or where they already lie, and are not to be changed then.
func (p *Samples) Row(dst []float32, c, y int) []float32 {
	at := p.begin[c] + y*p.rows
	scale, zero := p.scale[c], p.zero[c]
	dst = dst[:p.Width]
	switch {
	case p.floats == nil:
		for x := range dst {
			dst[x] = half.Frombits(binary.NativeEndian.Uint16(p.out.Data[2*at:])).Float32()*scale + zero
			at += p.step
		}
	case p.step > 1:
		for x := range dst {
			dst[x] = p.floats[at]*scale + zero
			at += p.step
		}
	case scale == 1 && zero == 0:
		return p.floats[at : at+p.Width : at+p.Width]
	default:
		for x, v := range p.floats[at : at+p.Width] {
			dst[x] = v*scale + zero
		}
	}
	return dst
}

// Check tells whether all samples are finite numbers, and whether any is above black.
func (p *Samples) Check() (finite, lit bool) {
	line := make([]float32, p.Width)
	var odd uint32
	for c := range p.Channels {
		for y := range p.Height {
			for _, v := range p.Row(line, c, y) {
				// Adding one to an exponent of nothing but ones carries into the sign.
				odd |= math.Float32bits(v)&0x7f800000 + 0x00800000
				if v > 0 {
					lit = true
				}
			}
		}
	}
	return odd&0x80000000 == 0, lit
}
