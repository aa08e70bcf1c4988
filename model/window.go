package model

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"math"

	"github.com/forgepipe/forgepipe/internal/resample"
)

// Window is a part of a picture that a network gets at the picture's own size, with
// all the depth of its samples: a tile.
type Window struct {
	// Rect is the part, in pixels from the picture's upper left corner, in which it
	// begins. What lies beyond the right and the lower edge is the picture, mirrored:
	// its last row and column are not repeated.
	Rect image.Rectangle
	// Only gives all channels of the network one colour of the picture, red (1), green
	// (2) or blue (3); 0: each has its own.
	Only int
}

// Unresized is a copy of the Spec for pictures that go to the network at their own
// size: nothing of it resizes, crops or pads.
func (s Spec) Unresized() Spec {
	s.Resize, s.Filter, s.Crop, s.Border = NoResize, "", NoCrop, ""
	s.Shorter, s.Width, s.Height, s.Multiple = 0, 0, 0, 0
	return s
}

// FillWindow writes a part of img into dst, the elements of one tensor, as many as
// TensorBytes of the Unresized Spec tells for the size of the window. It does nothing
// but what Layout, Channels, Element, Range, Mean and Std say. Samples of 16 bits are
// divided by 65535, where Fill rounds them to 8 bits; for those of 8 bits it is Fill.
// Alpha is dropped, and colours that are multiplied with it stay so. A gray picture is
// gray in all channels; a network of one channel gets a gray picture, or Only one colour
// of another. As with Fill, any number of calls may run at once.
func (s Spec) FillWindow(ctx context.Context, dst []byte, img image.Image, w Window) error {
	if err := s.fillWindow(ctx, dst, img, w); err != nil {
		return fmt.Errorf("preparing a part of a picture: %w", err)
	}
	return nil
}

func (s Spec) fillWindow(ctx context.Context, dst []byte, img image.Image, w Window) error {
	s = s.Unresized()
	if err := s.Validate(); err != nil {
		return err
	}
	s = s.applyDefaults()
	size := w.Rect.Size()
	if want := s.TensorBytes(size); int64(len(dst)) != want || want == 0 {
		return fmt.Errorf("%d bytes are given for %d x %d pixels, which need %d", len(dst), size.X, size.Y, want)
	}
	b := img.Bounds()
	inside := w.Rect.Intersect(image.Rectangle{Max: b.Size()})
	if inside.Empty() || inside.Min != w.Rect.Min {
		return fmt.Errorf("%v does not begin inside of a picture of %v", w.Rect, b.Size())
	}
	begin := inside.Min // in what is read
	if part, ok := img.(interface {
		SubImage(r image.Rectangle) image.Image
	}); ok { // or whole rows would be converted
		img, begin = part.SubImage(inside.Add(b.Min)), image.Point{}
	}
	r := resample.Read(img)
	t := s.tensor(dst, size)
	if t.depth == 1 && r.Channels > 1 && w.Only == 0 {
		return errors.New("the network takes one channel, and the picture has colours: give it one of them (Only)")
	}
	var wide [3]deep
	if r.Depth == 16 {
		for c := range wide {
			wide[c] = s.deep(c)
		}
	}
	for y := range inside.Dy() {
		if err := ctx.Err(); err != nil {
			return err
		}
		row := r.Row(begin.Y + y)[begin.X*r.Channels*r.Depth/8:]
		for c := range t.channels[:t.depth] {
			ch := &t.channels[c]
			from := 0
			if r.Channels > 1 {
				from = c
				if w.Only > 0 {
					from = w.Only - 1
				}
			}
			to := t.dst[ch.begin+y*t.rows:]
			switch {
			case r.Depth == 8 && t.element == 2:
				put16(to, t.step, row[from:], r.Channels, inside.Dx(), &ch.table)
			case r.Depth == 8:
				put32(to, t.step, row[from:], r.Channels, inside.Dx(), &ch.table)
			default:
				wide[c].put(to, t.step, t.element, row[2*from:], 2*r.Channels, inside.Dx())
			}
		}
	}
	content := image.Rectangle{Max: inside.Size()}
	t.pad(content, image.Rectangle{Max: size}, Reflect)
	return nil
}

// deep is what samples of 16 bits become: v*scale + zero.
type deep struct{ scale, zero float32 }

func (s Spec) deep(c int) deep {
	white, black := 1.0, 0.0
	switch s.Range {
	case MinusOneToOne:
		black = -1
	case ZeroTo255:
		white = 255
	}
	return deep{float32((white - black) / 65535 / s.Std[c]), float32((black - s.Mean[c]) / s.Std[c])}
}

// put writes n elements, step bytes apart, of samples that are each from bytes apart.
func (d deep) put(dst []byte, step, element int, samples []uint8, from, n int) {
	for i, at, in := 0, 0, 0; i < n; i, at, in = i+1, at+step, in+from {
		x := float32(binary.BigEndian.Uint16(samples[in:]))*d.scale + d.zero
		if element == 2 {
			binary.NativeEndian.PutUint16(dst[at:], float16(x))
		} else {
			binary.NativeEndian.PutUint32(dst[at:], math.Float32bits(x))
		}
	}
}
