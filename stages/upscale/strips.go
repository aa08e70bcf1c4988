package upscale

import (
	"context"
	"image"
	"image/draw"
	"math"

	"github.com/forgepipe/forgepipe/internal/resample"
)

// strips resize what a network makes where the result is to have another scale than its
// own, as it becomes final: what is kept of it is a window of as many rows as the tiles of
// a row and the filter need. Its places are source rows, which both scales have whole.
type strips struct {
	result draw.Image
	margin int // how far the filter looks
	top    int // the window's first row
	done   int // the rows of the result
}

// marginOf is how far the filter looks, in source rows.
func (s *Network) marginOf() int {
	reach := s.filter.Support*max(1, float64(s.scale)/float64(s.to)) + 1
	return int(math.Ceil(reach / float64(s.scale)))
}

// next is what becomes of the window when all above bottom is final: up to where the
// result is made, and where the window then begins.
func (s *strips) next(bottom, rows int) (end, top int) {
	end = bottom
	if bottom < rows {
		end = max(bottom-s.margin, s.done)
	}
	return end, max(end-s.margin, s.top)
}

// windowRows is how many source rows the window has at most for a picture of so many, cut
// into these pieces.
func (s *Network) windowRows(rows int, pieces []piece) (most int) {
	w := strips{margin: s.marginOf()}
	for _, y := range pieces {
		bottom := y.to - y.out
		most = max(most, bottom-w.top)
		w.done, w.top = w.next(bottom, rows)
	}
	return most
}

// resize makes what can be made of the result when all above bottom is final, and moves
// the window on.
func (w *work) resize(ctx context.Context, bottom int) error {
	s := w.strips
	end, top := s.next(bottom, w.size.Y)
	window := partOf(w.canvas.image, image.Rect(0, 0, w.canvas.size.X, (bottom-s.top)*w.scale))
	if end > s.done {
		part := partOf(s.result, image.Rect(0, s.done*w.to, w.size.X*w.to, end*w.to))
		box := resample.Box{Y: float64((s.done - s.top) * w.scale), W: float64(w.canvas.size.X), H: float64((end - s.done) * w.scale)}
		if err := resample.ResizeInto(ctx, part, window, box, w.filter); err != nil {
			return err
		}
	}
	stride := w.canvas.stride
	copy(w.canvas.pix, w.canvas.pix[(top-s.top)*w.scale*stride:(bottom-s.top)*w.scale*stride])
	s.done, s.top = end, top
	w.canvas.first = top * w.scale
	return nil
}

// partOf is a part of a picture of a type that NewImage makes.
func partOf(img image.Image, r image.Rectangle) image.Image {
	return img.(interface {
		SubImage(image.Rectangle) image.Image
	}).SubImage(r)
}
