package imageio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
	"iter"
	"time"
)

// AnimationFrame is a picture of an animation. All of one animation have the size of
// the first.
type AnimationFrame struct {
	Image *image.RGBA   // opaque
	Shown time.Duration // whole milliseconds
}

// EncodeWebPAnimation writes an animation that repeats for ever, encoded by libwebp,
// which must be installed, in the container of RFC 9649. What a frame has in common
// with the one before is not written again. The quality is that of each frame, and
// the profile that of all of them. The encoded frames are kept until all are there,
// since the file begins with its length. An error of frames ends the work and is
// returned as it is; one of w is wrapped.
func EncodeWebPAnimation(w io.Writer, frames iter.Seq2[AnimationFrame, error], o WebPOptions) error {
	a := webpAnimation{options: o}
	a.options.ICC = nil // the file's, and not each frame's
	for f, err := range frames {
		if err != nil {
			return err
		}
		if err := a.add(f); err != nil {
			return fmt.Errorf("encoding webp: %w", err)
		}
	}
	if err := a.write(w, o.ICC); err != nil {
		return fmt.Errorf("encoding webp: %w", err)
	}
	return nil
}

// webpAnimation gathers the chunks ANMF.
type webpAnimation struct {
	options WebPOptions
	last    *image.RGBA
	chunks  bytes.Buffer
}

func (a *webpAnimation) add(f AnimationFrame) error {
	size := f.Image.Rect.Size()
	part := f.Image.Rect
	if a.last != nil {
		if a.last.Rect.Size() != size {
			return fmt.Errorf("a frame has %v pixels and the one before %v", size, a.last.Rect.Size())
		}
		part = evenCorner(Changed(a.last, f.Image))
	}
	var b bytes.Buffer
	if err := encodeWebP(&b, f.Image.SubImage(part), a.options); err != nil {
		return err
	}
	a.last = f.Image
	// An opaque picture is one chunk, VP8 or VP8L, behind RIFF, the length and WEBP.
	data := b.Bytes()[12:]
	const doNotBlend = 1 << 1 // and leave it for the next frame
	shown := f.Shown.Milliseconds()
	if shown < 0 || shown >= 1<<24 {
		return fmt.Errorf("a frame cannot be shown for %v", f.Shown)
	}
	a.chunks.WriteString("ANMF")
	a.chunks.Write(binary.LittleEndian.AppendUint32(nil, uint32(16+len(data))))
	at := part.Min.Sub(f.Image.Rect.Min)
	for _, v := range []int{at.X / 2, at.Y / 2, part.Dx() - 1, part.Dy() - 1, int(shown)} {
		a.chunks.Write([]byte{byte(v), byte(v >> 8), byte(v >> 16)})
	}
	a.chunks.WriteByte(doNotBlend)
	a.chunks.Write(data)
	return nil
}

func (a *webpAnimation) write(w io.Writer, icc []byte) error {
	if a.last == nil {
		return errors.New("the animation has no frame")
	}
	const (
		flagAnimation = 1 << 1
		flagICC       = 1 << 5
	)
	flags := byte(flagAnimation)
	if !fitsICC(icc, false) {
		icc = nil
	}
	if icc != nil {
		flags |= flagICC
	}
	le := binary.LittleEndian
	head := append([]byte("RIFF"), 0, 0, 0, 0)
	head = append(head, "WEBPVP8X\x0a\x00\x00\x00"...)
	head = append(head, flags, 0, 0, 0)
	for _, side := range []int{a.last.Rect.Dx() - 1, a.last.Rect.Dy() - 1} {
		head = append(head, byte(side), byte(side>>8), byte(side>>16))
	}
	if icc != nil {
		head = append(head, "ICCP"...)
		head = le.AppendUint32(head, uint32(len(icc)))
		head = append(head, icc...)
		if len(icc)%2 != 0 {
			head = append(head, 0)
		}
	}
	// The background is black, and the animation is repeated for ever (0).
	head = append(head, "ANIM\x06\x00\x00\x00\x00\x00\x00\xff\x00\x00"...)
	all := int64(len(head)) - 8 + int64(a.chunks.Len())
	if all >= 1<<32 {
		return errors.New("the animation would be larger than the 4 GiB that WebP can hold: make it smaller or shorter")
	}
	le.PutUint32(head[4:], uint32(all))
	if err := writeAll(w, head); err != nil {
		return err
	}
	return writeAll(w, a.chunks.Bytes())
}

// Changed is the smallest rectangle of now that holds every pixel in which it is not
// as before, which has the same size; where there is none, the first pixel.
func Changed(before, now *image.RGBA) image.Rectangle {
	size := now.Rect.Size()
	row := func(m *image.RGBA, y int) []byte { return m.Pix[y*m.Stride:][:4*size.X] }
	top, bottom := 0, size.Y
	for top < bottom && bytes.Equal(row(before, top), row(now, top)) {
		top++
	}
	if top == bottom {
		return image.Rectangle{Max: image.Pt(1, 1)}.Add(now.Rect.Min)
	}
	for bytes.Equal(row(before, bottom-1), row(now, bottom-1)) {
		bottom--
	}
	left, right := size.X, 0
	for y := top; y < bottom; y++ {
		a, b := row(before, y), row(now, y)
		x := 0
		for x < left && [4]byte(a[4*x:]) == [4]byte(b[4*x:]) {
			x++
		}
		left = x
		x = size.X
		for x > max(right, left) && [4]byte(a[4*x-4:]) == [4]byte(b[4*x-4:]) {
			x--
		}
		right = x
	}
	return image.Rect(left, top, right, bottom).Add(now.Rect.Min)
}

// evenCorner moves the upper left corner to even coordinates: others cannot be
// written.
func evenCorner(r image.Rectangle) image.Rectangle {
	r.Min.X &^= 1
	r.Min.Y &^= 1
	return r
}
