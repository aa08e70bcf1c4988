package sheet

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"math"

	"github.com/disintegration/imaging"

	"github.com/forgepipe/forgepipe/internal/resample"
)

// magnified is how long the longer side of a small picture is made, by a whole number
// of times, so that its pixels can be seen.
const magnified = 320

// A view is two pictures as they are compared: both with the size of the larger one,
// or of the region of it that was asked for.
type view struct {
	before, after side
	size          image.Point // of what is compared
	enlarged      bool        // the two have different sizes
}

// A side is one of the two pictures.
type side struct {
	img    image.Image
	full   image.Point // its own size
	box    resample.Box
	filter imaging.ResampleFilter
}

func newView(ctx context.Context, before, after image.Image, o Options) (*view, error) {
	a, b := before.Bounds().Size(), after.Bounds().Size()
	if before.Bounds().Empty() || after.Bounds().Empty() {
		return nil, errEmpty
	}
	region, err := o.region(a, b)
	if err != nil {
		return nil, err
	}
	whole := larger(a, b)
	v := &view{
		before: newSide(before, whole, region, o.Filter), after: newSide(after, whole, region, o.Filter),
		size: region.Size(), enlarged: a != b,
	}
	for _, s := range []*side{&v.before, &v.after} {
		if err := s.enlarge(ctx, v.size); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// larger is the size with more pixels.
func larger(a, b image.Point) image.Point {
	if int64(a.X)*int64(a.Y) >= int64(b.X)*int64(b.Y) {
		return a
	}
	return b
}

// region is the part of the larger picture that is looked at.
func (o Options) region(a, b image.Point) (image.Rectangle, error) {
	whole := image.Rectangle{Max: larger(a, b)}
	if o.Region.Empty() {
		return whole, nil
	}
	r := o.Region.Intersect(whole)
	if r.Empty() {
		return r, fmt.Errorf("the region %d,%d,%d,%d lies outside of the picture, which has %d x %d pixels",
			o.Region.Min.X, o.Region.Min.Y, o.Region.Dx(), o.Region.Dy(), whole.Dx(), whole.Dy())
	}
	return r, nil
}

func newSide(img image.Image, whole image.Point, region image.Rectangle, filter string) side {
	s := side{img: img, full: img.Bounds().Size(), filter: resample.Named(filter)}
	x, y := float64(s.full.X)/float64(whole.X), float64(s.full.Y)/float64(whole.Y)
	s.box = resample.Box{X: float64(region.Min.X) * x, Y: float64(region.Min.Y) * y, W: float64(region.Dx()) * x, H: float64(region.Dy()) * y}
	// Products of fractions may end a hair beyond the border.
	s.box.W = min(s.box.W, float64(s.full.X)-s.box.X)
	s.box.H = min(s.box.H, float64(s.full.Y)-s.box.Y)
	return s
}

// same reports whether the side has the pixels that are compared as they are.
func (s *side) same(size image.Point) bool {
	return s.box.W == float64(size.X) && s.box.H == float64(size.Y)
}

// enlarge computes the pixels that a filter makes. Those of nearest are looked up.
func (s *side) enlarge(ctx context.Context, size image.Point) error {
	if s.same(size) || s.filter.Support <= 0 {
		return nil
	}
	img, err := resample.ResizeBox(ctx, s.img, s.box, size, s.filter)
	if err != nil {
		return err
	}
	s.img, s.box = img, resample.Whole(img)
	return nil
}

func (s *side) rows(size image.Point) *rows { return newRows(s.img, s.box, size) }

// A frame is how large pictures are drawn: size is what they are made smaller to, and
// zoom how many times as large that is then drawn.
type frame struct {
	size image.Point
	zoom int
}

// drawn is the size on the sheet.
func (f frame) drawn() image.Point { return f.size.Mul(f.zoom) }

// fitted is the frame of pictures of that size.
func fitted(size image.Point, most int) frame {
	longest := max(size.X, size.Y)
	if longest > most {
		f := float64(most) / float64(longest)
		scaled := func(n int) int { return max(int(math.Round(float64(n)*f)), 1) }
		return frame{image.Pt(scaled(size.X), scaled(size.Y)), 1}
	}
	zoom := (magnified + longest - 1) / longest
	return frame{size, max(min(zoom, most/longest), 1)}
}

// draw draws a side on dst, with its upper left corner at p.
func (s *side) draw(ctx context.Context, dst *image.RGBA, p image.Point, f frame) error {
	filter := s.filter
	if s.box.W >= float64(f.size.X) && s.box.H >= float64(f.size.Y) {
		filter = imaging.Box // the mean of what a pixel stands for
	}
	img, err := resample.ResizeBox(ctx, s.img, s.box, f.size, filter)
	if err != nil {
		return err
	}
	if f.zoom > 1 {
		if img, err = resample.ResizeBox(ctx, img, resample.Whole(img), f.drawn(), imaging.NearestNeighbor); err != nil {
			return err
		}
	}
	at := image.Rectangle{Max: f.drawn()}.Add(p)
	if !opaque(img) {
		checkered(dst, at)
	}
	draw.Draw(dst, at, img, img.Bounds().Min, draw.Over)
	return nil
}

// checkered is what shows through where a picture is transparent.
func checkered(dst *image.RGBA, r image.Rectangle) {
	const square = 8
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			v := uint8(0x99)
			if ((x-r.Min.X)/square+(y-r.Min.Y)/square)%2 != 0 {
				v = 0x66
			}
			dst.SetRGBA(x, y, color.RGBA{v, v, v, 0xff})
		}
	}
}
