package model

import (
	"fmt"
	"image"
	"math"
)

// Picture makes a picture of what a network gave, for networks that make pictures: it
// undoes what Fill does to samples. out is the output for one picture, float32 or
// float16, of the Spec's layout and channels: [C H W] or, in the layout NHWC, [H W C].
// Mean, Std and Range are undone, and samples rounded to 8 bits and cut off at black and
// white. size is that of the picture, in pixels: what lies to the right of it and below
// came of the border that Multiple adds, and is left out.
//
// It is an *image.NRGBA without transparency, or an *image.Gray where the network has one
// channel. The error says what about out does not fit, or that it is not finite.
func (s Spec) Picture(out *Tensor, size image.Point) (image.Image, error) {
	s = s.applyDefaults()
	p, err := s.planes(out, size)
	if err != nil {
		return nil, fmt.Errorf("making a picture of what the network gave: %w", err)
	}
	whole := image.Rectangle{Max: size}
	if p.depth == 1 {
		img := image.NewGray(whole)
		err = p.samples(0, size, func(x, y int, v uint8) { img.Pix[y*img.Stride+x] = v })
		return img, err
	}
	img := image.NewNRGBA(whole)
	for c := range 3 {
		if err := p.samples(c, size, func(x, y int, v uint8) { img.Pix[y*img.Stride+4*x+c] = v }); err != nil {
			return nil, err
		}
	}
	for i := 3; i < len(img.Pix); i += 4 {
		img.Pix[i] = 255
	}
	return img, nil
}

// planes is where the samples of a tensor are, and what they become.
type planes struct {
	data        []float32
	depth       int
	step, rows  int    // numbers from a sample to the next of its row, and of its column
	begin       [3]int // of red, green and blue
	scale, zero [3]float64
}

func (s Spec) planes(out *Tensor, size image.Point) (*planes, error) {
	p := &planes{depth: s.Depth()}
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
	switch {
	case depth != p.depth:
		return nil, fmt.Errorf("its output has the shape %v: %d channels, where %d are expected", out.Shape, depth, p.depth)
	case size.X < 1 || size.Y < 1 || size.X > width || size.Y > height:
		return nil, fmt.Errorf("its output has the shape %v: %d x %d pixels, where %d x %d are expected", out.Shape, width, height, size.X, size.Y)
	}
	if p.data = out.Numbers(); len(p.data) != depth*height*width {
		return nil, fmt.Errorf("its output has %d numbers, which are not %v", len(p.data), out.Shape)
	}
	for c := range p.depth {
		at := c
		if s.Channels == BGR {
			at = 2 - c
		}
		p.begin[c] = at * between
		// What Fill does, solved for the sample of 0 to 255.
		p.scale[c], p.zero[c] = s.Std[c], s.Mean[c]
		switch s.Range {
		case ZeroToOne:
			p.scale[c], p.zero[c] = 255*p.scale[c], 255*p.zero[c]
		case MinusOneToOne:
			p.scale[c], p.zero[c] = 127.5*p.scale[c], 127.5*(p.zero[c]+1)
		}
	}
	return p, nil
}

// samples sets those of one channel.
func (p *planes) samples(c int, size image.Point, set func(x, y int, v uint8)) error {
	for y := range size.Y {
		at := p.begin[c] + y*p.rows
		for x := range size.X {
			v := float64(p.data[at])*p.scale[c] + p.zero[c]
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("making a picture of what the network gave: the sample at %d, %d is %v: the picture may be prepared otherwise than it wants, or float16 is too narrow for it", x, y, v)
			}
			set(x, y, uint8(min(max(v, 0), 255)+0.5))
			at += p.step
		}
	}
	return nil
}
