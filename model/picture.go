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
	img, err := s.picture(out, size)
	if err != nil {
		return nil, fmt.Errorf("making a picture of what the network gave: %w", err)
	}
	return img, nil
}

func (s Spec) picture(out *Tensor, size image.Point) (image.Image, error) {
	p, err := s.Samples(out)
	if err != nil {
		return nil, err
	}
	if size.X < 1 || size.Y < 1 || size.X > p.Width || size.Y > p.Height {
		return nil, fmt.Errorf("its output has the shape %v: %d x %d pixels, where %d x %d are expected", out.Shape, p.Width, p.Height, size.X, size.Y)
	}
	whole, line := image.Rectangle{Max: size}, make([]float32, p.Width)
	samples := func(c int, pix []uint8, stride, step int) error {
		for y := range size.Y {
			to := pix[y*stride:]
			for x, v := range p.Row(line, c, y)[:size.X] {
				if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
					return fmt.Errorf("the sample at %d, %d is %v: the picture may be prepared otherwise than it wants, or float16 is too narrow for it", x, y, v)
				}
				to[x*step] = uint8(min(max(v*255, 0), 255) + 0.5)
			}
		}
		return nil
	}
	if p.Channels == 1 {
		img := image.NewGray(whole)
		return img, samples(0, img.Pix, img.Stride, 1)
	}
	img := image.NewNRGBA(whole)
	for c := range 3 {
		if err := samples(c, img.Pix[c:], img.Stride, 4); err != nil {
			return nil, err
		}
	}
	for i := 3; i < len(img.Pix); i += 4 {
		img.Pix[i] = 255
	}
	return img, nil
}
