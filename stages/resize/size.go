package resize

import (
	"image"
	"math"
)

// wanted is the size that the pipeline asks for, in one of its forms: what is
// not given is 0.
type wanted struct {
	width, height     int // px
	longest, shortest int // px
	scale             float64
	fit               string // of width and height together
}

// fit says what becomes of images of another shape than width x height.
const (
	fitExact   = "exact"
	fitInside  = "inside"
	fitOutside = "outside"
	fitCover   = "cover"
)

// of is the new size of an image. Sides that follow from others are rounded to
// the nearest pixel, and are never 0.
func (w wanted) of(size image.Point) image.Point {
	wide := size.X >= size.Y
	switch {
	case w.scale > 0:
		return image.Pt(scaled(size.X, w.scale), scaled(size.Y, w.scale))
	case w.longest > 0 && wide, w.shortest > 0 && !wide:
		return byWidth(size, max(w.longest, w.shortest))
	case w.longest > 0 || w.shortest > 0:
		return byHeight(size, max(w.longest, w.shortest))
	case w.height == 0:
		return byWidth(size, w.width)
	case w.width == 0:
		return byHeight(size, w.height)
	case w.fit == fitInside && flatter(size, w.box()), w.fit == fitOutside && !flatter(size, w.box()):
		return byWidth(size, w.width)
	case w.fit == fitInside || w.fit == fitOutside:
		return byHeight(size, w.height)
	}
	return w.box()
}

func (w wanted) box() image.Point { return image.Pt(w.width, w.height) }

// part is what of an image becomes the picture of the new size: all of it, or
// with cover the largest part of the new shape, from the middle.
func (w wanted) part(size image.Point) image.Rectangle {
	p := size
	if w.fit == fitCover {
		if flatter(size, w.box()) {
			p.X = min(size.X, proportion(w.width, size.Y, w.height))
		} else {
			p.Y = min(size.Y, proportion(w.height, size.X, w.width))
		}
	}
	from := size.Sub(p).Div(2)
	return image.Rectangle{Min: from, Max: from.Add(p)}
}

// divided is what is wanted of the low-quality images of pairs; false when the
// sides that are given are no multiples of the scale.
func (w wanted) divided(scale int) (wanted, bool) {
	d := w
	for _, side := range []*int{&d.width, &d.height, &d.longest, &d.shortest} {
		if *side%scale != 0 {
			return wanted{}, false
		}
		*side /= scale
	}
	return d, true
}

func byWidth(size image.Point, width int) image.Point {
	return image.Pt(width, proportion(size.Y, width, size.X))
}

func byHeight(size image.Point, height int) image.Point {
	return image.Pt(proportion(size.X, height, size.Y), height)
}

// flatter reports whether an image is wider than a box, for its height.
func flatter(size, box image.Point) bool {
	return int64(size.X)*int64(box.Y) > int64(size.Y)*int64(box.X)
}

// proportion is a*b/c, rounded, and at least 1.
func proportion(a, b, c int) int {
	return int(max(1, (2*int64(a)*int64(b)+int64(c))/(2*int64(c))))
}

func scaled(side int, by float64) int { return int(max(1, math.Round(float64(side)*by))) }
