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

// Part says where in a picture that was decoded at a smaller scale the wanted
// one is: what is at (x, y) of it is at (X + x*Scale, Y + y*Scale), in pixels from
// the upper left corner.
type Part struct {
	X, Y, Scale float64
	Size        image.Point // at full scale
}

// Fill writes img into dst: the elements of one picture of a batch, in the
// machine's byte order, as many as TensorBytes tells for the size of img. Any
// number of calls may run at once, on parts of one tensor too; the work is done
// on the caller's goroutine. Nothing of dst or img is kept. When ctx ends, so
// does the work, with ctx's error. After an error dst holds anything.
//
// Up to the samples of 8 bits the result is that of Pillow and torchvision:
// convert("RGB"), or convert("L"), then Resize, CenterCrop. So alpha is dropped
// and not shown on a background, and what filtering gives is rounded to 8 bits.
// Gray pictures have the same sample in all channels. Samples of 16 bits are
// divided by 257 and rounded first. From there on, the arithmetic is torchvision's
// ToTensor and Normalize, in float32: (v/255 - mean) / std; for -1..1 there is
// Normalize(0.5, 0.5) between. Half floats are rounded from that, to even.
func (s Spec) Fill(ctx context.Context, dst []byte, img image.Image) error {
	return s.FillPart(ctx, dst, img, Part{Scale: 1, Size: img.Bounds().Size()})
}

// FillPart is Fill for a picture that was decoded at a smaller scale, see Least;
// dst has the bytes that TensorBytes tells for part.Size.
func (s Spec) FillPart(ctx context.Context, dst []byte, img image.Image, part Part) error {
	if err := s.Validate(); err != nil {
		return fmt.Errorf("preparing a picture: %w", err)
	}
	box, err := part.box(img.Bounds().Size())
	if err != nil {
		return fmt.Errorf("preparing a picture: %w", err)
	}
	s = s.applyDefaults()
	if want := s.TensorBytes(part.Size); int64(len(dst)) != want {
		size := s.OutputSize(part.Size)
		return fmt.Errorf("preparing a picture: %d bytes are given for it, and its %d x %d %s elements in %d channels need %d: make the tensor of TensorBytes",
			len(dst), size.X, size.Y, s.Element, s.Depth(), want)
	}
	resized := s.resized(part.Size)
	if s.Resize == NoResize && part.Scale != 1 {
		return errors.New("preparing a picture: it was decoded at a smaller scale, and is not to be resized: decode at least the size that Least tells")
	}
	window := s.window(resized)
	t := s.tensor(dst, part.Size)
	_, _, left := centred(resized.X, t.cropped.X)
	_, _, top := centred(resized.Y, t.cropped.Y)
	content := image.Rectangle{Max: window.Size()}.Add(image.Pt(left, top))
	err = resample.Rows(ctx, img, box, resized, window, resample.Named(s.Filter), s.Channels == Gray, func(y int, samples []uint8) error {
		t.put(content.Min.X, content.Min.Y+y-window.Min.Y, content.Dx(), samples)
		return nil
	})
	if err != nil {
		return fmt.Errorf("preparing a picture: %w", err)
	}
	whole := image.Rectangle{Max: t.cropped}
	t.pad(content, whole, Zero)
	t.pad(whole, image.Rectangle{Max: t.size}, s.Border)
	return nil
}

// box is the part of a picture of size have, in which rounding may have moved
// it by a little.
func (p Part) box(have image.Point) (resample.Box, error) {
	if have.X < 1 || have.Y < 1 || p.Size.X < 1 || p.Size.Y < 1 {
		return resample.Box{}, fmt.Errorf("it has %d x %d pixels: leave empty pictures out", min(have.X, p.Size.X), min(have.Y, p.Size.Y))
	}
	b := resample.Box{X: p.X, Y: p.Y, W: float64(p.Size.X) * p.Scale, H: float64(p.Size.Y) * p.Scale}
	const little = 1e-6
	if !(p.Scale > 0) || !(b.X >= 0) || !(b.Y >= 0) || !(b.X+b.W <= float64(have.X)+little) || !(b.Y+b.H <= float64(have.Y)+little) {
		return resample.Box{}, fmt.Errorf("the part of %d x %d pixels at %v, %v in the scale %v lies outside of the picture of %d x %d: take the place that came with the picture",
			p.Size.X, p.Size.Y, p.X, p.Y, p.Scale, have.X, have.Y)
	}
	b.W, b.H = min(b.W, float64(have.X)-b.X), min(b.H, float64(have.Y)-b.Y)
	return b, nil
}

// A tensor is the place of one picture in a batch.
type tensor struct {
	dst           []byte
	size, cropped image.Point // with and without the border of Multiple
	element       int         // bytes
	step          int         // bytes from a sample to the next of its channel
	rows          int         // bytes from a row to the next
	channels      [3]channel
	depth         int
}

// A channel is where one begins, and what its samples become.
type channel struct {
	begin int
	table [256]uint32 // the bits of the elements
}

const tableBytes = 3 * 256 * 4

func (s Spec) tensor(dst []byte, src image.Point) *tensor {
	t := &tensor{dst: dst, element: s.Element.size(), depth: s.Depth()}
	t.cropped = s.cropped(s.resized(src))
	t.size = s.padded(t.cropped)
	between := t.element
	t.step = t.element * t.depth
	if s.Layout == NCHW {
		t.step = t.element
		between = t.size.X * t.size.Y * t.element
	}
	t.rows = t.size.X * t.step
	for c := range t.channels[:t.depth] {
		at := c
		if s.Channels == BGR {
			at = 2 - c
		}
		t.channels[c].begin = at * between
		t.channels[c].fill(s.Range, float32(s.Mean[c]), float32(s.Std[c]), s.Element)
	}
	return t
}

func (c *channel) fill(r Range, mean, std float32, e Element) {
	for v := range c.table {
		x := float32(v)
		switch r {
		case ZeroToOne:
			x /= 255
		case MinusOneToOne:
			x = (x/255 - 0.5) / 0.5
		}
		x = (x - mean) / std
		if e == Float16 {
			c.table[v] = uint32(float16(x))
		} else {
			c.table[v] = math.Float32bits(x)
		}
	}
}

// float16 rounds to the nearest half float, to even between two.
func float16(x float32) uint16 {
	b := math.Float32bits(x)
	sign := uint16(b >> 16 & 0x8000)
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000:
		return sign | 0x7e00 // not a number
	case b >= 0x477ff000: // 65520, from where on it rounds to infinity
		return sign | 0x7c00
	case b < 0x38800000: // 2^-14: below it, steps are 2^-24
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(b))*(1<<24)))
	}
	// Rounding up carries on into the exponent, as it should.
	b += 0xfff + b>>13&1
	return sign | uint16(b>>13-(127-15)<<10)
}

// put writes n pixels of row y, from x on.
func (t *tensor) put(x, y, n int, samples []uint8) {
	depth := len(samples) / n // 1 for a gray picture, in whatever channels
	for c := range t.channels[:t.depth] {
		ch := &t.channels[c]
		dst := t.dst[ch.begin+y*t.rows+x*t.step:]
		from := samples[min(c, depth-1):]
		if t.element == 2 {
			put16(dst, t.step, from, depth, n, &ch.table)
		} else {
			put32(dst, t.step, from, depth, n, &ch.table)
		}
	}
}

func put32(dst []byte, step int, samples []uint8, depth, n int, table *[256]uint32) {
	if step == 4 { // a plane, in which all places are known
		dst = dst[:4*n]
		for at, from := 0, 0; at+4 <= len(dst); at, from = at+4, from+depth {
			binary.NativeEndian.PutUint32(dst[at:at+4], table[samples[from]])
		}
		return
	}
	for i, at, from := 0, 0, 0; i < n; i, at, from = i+1, at+step, from+depth {
		binary.NativeEndian.PutUint32(dst[at:], table[samples[from]])
	}
}

func put16(dst []byte, step int, samples []uint8, depth, n int, table *[256]uint32) {
	if step == 2 {
		dst = dst[:2*n]
		for at, from := 0, 0; at+2 <= len(dst); at, from = at+2, from+depth {
			binary.NativeEndian.PutUint16(dst[at:at+2], uint16(table[samples[from]]))
		}
		return
	}
	for i, at, from := 0, 0, 0; i < n; i, at, from = i+1, at+step, from+depth {
		binary.NativeEndian.PutUint16(dst[at:], uint16(table[samples[from]]))
	}
}

// pad fills what lies inside of whole and outside of content.
func (t *tensor) pad(content, whole image.Rectangle, b Border) {
	if content == whole {
		return
	}
	for c := range t.channels[:t.depth] {
		ch := &t.channels[c]
		plane := t.dst[ch.begin:]
		var black [4]byte
		if t.element == 2 {
			binary.NativeEndian.PutUint16(black[:], uint16(ch.table[0]))
		} else {
			binary.NativeEndian.PutUint32(black[:], ch.table[0])
		}
		set := func(x, y, fromX, fromY int) {
			to := plane[y*t.rows+x*t.step:][:t.element]
			if b == Zero {
				copy(to, black[:])
			} else {
				copy(to, plane[fromY*t.rows+fromX*t.step:])
			}
		}
		for y := whole.Min.Y; y < whole.Max.Y; y++ {
			inside := y >= content.Min.Y && y < content.Max.Y
			fromY := b.source(y-content.Min.Y, content.Dy()) + content.Min.Y
			for x := whole.Min.X; x < whole.Max.X; x++ {
				if inside && x == content.Min.X {
					x = content.Max.X - 1
					continue
				}
				set(x, y, b.source(x-content.Min.X, content.Dx())+content.Min.X, fromY)
			}
		}
	}
}

// source is which of the n samples of a line is shown at i, which may lie beyond
// either end.
func (b Border) source(i, n int) int {
	if b != Reflect || n == 1 {
		return min(max(i, 0), n-1)
	}
	period := 2 * (n - 1)
	i = (i%period + period) % period
	return min(i, period-i)
}
