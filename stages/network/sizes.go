package network

import (
	"image"

	"github.com/forgepipe/forgepipe/model"
)

// usual is the size of the picture by which it is told what those of all sizes take. Its
// sides are multiples of what networks want sides to be multiples of.
var usual = image.Pt(768, 512)

// Arena is how many bytes the runtime's arena has at most for one that tensors need: it
// keeps regions that are too small for what comes next. With networks of the kinds of
// Compact, RRDB, SPAN and U-Net it was 1.0 to 2.1.
const Arena = 2

// sizes is what a run takes of which the network's nodes tell it: for tensors of that
// many bytes each.
type sizes struct{ in, out, peak int64 }

// measure follows the network for the largest part, or for the usual picture where
// pictures come in their own sizes. A stage that cuts pictures into any parts says itself
// what comes out.
func (s *Stage) measure() {
	if s.o.Fit != nil {
		return
	}
	shape := s.file.Spec.Shape(1, usual)[1:]
	if s.sized {
		shape = s.shape()
	}
	m := sizes{in: s.tensorBytes(shape)}
	told := s.file.Sizes(shape)
	m.peak = told.Peak
	for i, n := range told.Outputs {
		if n < 0 { // as large as the picture that it may show, of as many channels as are told
			n = m.in / int64(s.file.Spec.Depth()) * s.channels(i) * s.area()
		}
		m.out += n
	}
	s.sizes = m
}

// channels are those of an output of which nothing else is told.
func (s *Stage) channels(i int) int64 {
	shape := s.file.Outputs[i].Shape
	axis := 1
	if s.file.Spec.Layout == model.NHWC {
		axis = 3
	}
	if len(shape) == 4 && shape[axis] > 0 {
		return shape[axis]
	}
	return int64(s.file.Spec.Depth())
}

// area is how many pixels come out for each that goes in.
func (s *Stage) area() int64 { return int64(max(s.o.Scale*s.o.Scale, 1)) }

// tensorBytes is what a tensor of that shape takes that goes in.
func (s *Stage) tensorBytes(shape []int64) int64 {
	n := int64(s.file.ElementType().Size())
	for _, d := range shape {
		n *= d
	}
	return n
}

// outOf is what comes out, in bytes, where a tensor of so many goes in.
func (s *Stage) outOf(in int64) int64 {
	if s.sizes.in == 0 {
		return s.area() * in
	}
	return share(s.sizes.out, in, s.sizes.in)
}

// runOf is what a run of a picture at its own size takes beside the weights.
func (s *Stage) runOf(in int64) int64 {
	run := ownSize*in + s.outOf(in)
	if s.sizes.in > 0 {
		run = max(run, share(Arena*s.sizes.peak, in, s.sizes.in))
	}
	return run
}

// share is n times a / b, rounded up.
func share(n, a, b int64) int64 { return int64(float64(n)*float64(a)/float64(b) + 0.999999) }

// Numbers are how many numbers the outputs that were chosen have for a picture, in their
// order; 0: that depends on the picture, or cannot be told.
func (s *Stage) Numbers() []int {
	numbers := make([]int, len(s.file.Outputs))
	if !s.sized {
		return numbers
	}
	for i, bytes := range s.file.Sizes(s.shape()).Outputs {
		numbers[i] = int(max(bytes, 0)) / s.file.ElementType().Size()
	}
	return numbers
}
