package sheet

import (
	"context"
	"image"
	"image/draw"
	"io"
	"iter"
	"math"
	"time"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

// A scene is what an animation shows: two pictures with their labels, of one size.
type scene struct {
	o             Options
	before, after *image.RGBA
	picture       image.Rectangle // the part below the labels that changes bit by bit
}

// animate writes an animation, and measures.
func animate(ctx context.Context, w io.Writer, before, after Picture, o Options) (Difference, error) {
	v, err := newView(ctx, before.Image, after.Image, o)
	if err != nil {
		return Difference{}, err
	}
	diff, _, err := v.measure(ctx, image.Point{})
	if err != nil {
		return Difference{}, err
	}
	s, err := newScene(ctx, v, before, after, o)
	if err != nil {
		return Difference{}, err
	}
	if o.Format == WebP {
		web := webpOptions
		web.ICC = shared(before, after)
		return diff, imageio.EncodeWebPAnimation(w, s.frames(ctx, time.Millisecond), web)
	}
	return diff, encodeGIF(w, s.frames(ctx, hundredth), s.palette())
}

// newScene draws the two pictures.
func newScene(ctx context.Context, v *view, before, after Picture, o Options) (*scene, error) {
	d := &drawer{o: o, before: before, after: after, view: v, frame: fitted(v.size, o.MaxSide), columns: 1}
	if err := d.prepare(!o.NoLabels); err != nil {
		return nil, err
	}
	size, gap := d.frame.drawn(), 0
	if !o.NoLabels {
		gap = d.gap()
	}
	s := &scene{o: o}
	one := func(side *side, name string) (*image.RGBA, error) {
		dst := image.NewRGBA(image.Rect(0, 0, d.column, gap+d.labels()+size.Y))
		draw.Draw(dst, dst.Rect, image.NewUniform(background), image.Point{}, draw.Src)
		if !o.NoLabels {
			d.label(dst, image.Rect(gap/2, gap/2, d.column-gap/2, gap/2), cell{title: [2]string{name}, detail: [2]string{d.about(side)}})
		}
		at := image.Pt((d.column-size.X)/2, gap+d.labels())
		s.picture = image.Rectangle{Max: size}.Add(at)
		return dst, side.draw(ctx, dst, at, d.frame)
	}
	var err error
	if s.before, err = one(&v.before, before.Name); err != nil {
		return nil, err
	}
	s.after, err = one(&v.after, after.Name)
	return s, err
}

// A quarter of the loop shows before, in the next one it becomes after, which is shown
// for a quarter, and becomes before again. A cut takes no time.
func (s *scene) mixed(i, n int) float64 {
	at := 4 * float64(i) / float64(n)
	if s.o.Transition == Cut {
		if at < 2 {
			return 0
		}
		return 1
	}
	share := 0.
	switch {
	case at < 1:
	case at < 2:
		share = at - 1
	case at < 3:
		share = 1
	default:
		share = 4 - at
	}
	if s.o.Transition == Fade {
		return share * share * (3 - 2*share) // begins and ends gently
	}
	return share
}

// frames makes the frames, which are valid until the next but one. Each is shown for
// whole units.
func (s *scene) frames(ctx context.Context, unit time.Duration) iter.Seq2[imageio.AnimationFrame, error] {
	return func(yield func(imageio.AnimationFrame, error) bool) {
		n, loop := s.o.frames()
		var made [2]*image.RGBA // who looks at one may still compare it with the one before
		for i := range made {
			made[i] = image.NewRGBA(s.before.Rect)
		}
		for i := range n {
			if err := ctx.Err(); err != nil {
				yield(imageio.AnimationFrame{}, err)
				return
			}
			m := made[i%2]
			s.frame(m, s.mixed(i, n))
			if !yield(imageio.AnimationFrame{Image: m, Shown: shown(i, n, loop, unit)}, nil) {
				return
			}
		}
	}
}

// frame draws the frame in which so much of the way from before to after is gone.
func (s *scene) frame(dst *image.RGBA, mixed float64) {
	base, other := s.before, s.after
	if mixed >= 0.5 {
		base, other = other, base
	}
	copy(dst.Pix, base.Pix)
	switch {
	case mixed == 0 || mixed == 1:
	case s.o.Transition == Fade:
		s.blend(dst, uint32(math.Round(mixed*256)))
	default: // after is on the right of the line, as it is in a split, and comes in from there
		x := int(math.Round((1 - mixed) * float64(s.picture.Dx())))
		part := s.picture
		if mixed < 0.5 {
			part.Min.X += x
		} else {
			part.Max.X = part.Min.X + x
		}
		draw.Draw(dst, part, other, part.Min, draw.Src)
		line(dst, s.picture, x)
	}
}

// blend mixes the pictures: k of 256 parts are after.
func (s *scene) blend(dst *image.RGBA, k uint32) {
	for y := s.picture.Min.Y; y < s.picture.Max.Y; y++ {
		from := dst.PixOffset(s.picture.Min.X, y)
		a, b, to := s.before.Pix[from:], s.after.Pix[from:], dst.Pix[from:][:4*s.picture.Dx()]
		for i := range to {
			to[i] = uint8((uint32(a[i])*(256-k) + uint32(b[i])*k + 128) >> 8)
		}
	}
}

// palette is one for all frames.
func (s *scene) palette() *palette {
	h := newHistogram()
	h.add(s.before)
	h.add(s.after)
	if s.o.Transition == Fade {
		mixed := image.NewRGBA(s.before.Rect)
		copy(mixed.Pix, s.before.Pix)
		for _, k := range []uint32{64, 128, 192} {
			s.blend(mixed, k)
			h.add(mixed)
		}
	}
	return h.palette(background, bright, dim, color100, color200)
}
