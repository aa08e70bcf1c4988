package imageio

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
)

// JPEGOptions say how EncodeJPEG writes. The zero value is the default.
type JPEGOptions struct {
	// Quality is from 1 to 100, as libjpeg counts it; 0 means 95.
	Quality int
	// Subsampling is how many pixels share a chroma sample: 444 (none do, the
	// default), 422 or 420. Without libturbojpeg there is only 420. Gray images
	// have no chroma.
	Subsampling int
	// ICC is the picture's colour profile, or nil. One that is not for the
	// colours that are written is left out.
	ICC []byte
}

func (o JPEGOptions) applyDefaults() JPEGOptions {
	if o.Quality == 0 {
		o.Quality = 95
	}
	if o.Subsampling == 0 {
		o.Subsampling = 444
	}
	return o
}

// Check tells whether EncodeJPEG can do what is asked on this machine, before
// there is a picture.
func (o JPEGOptions) Check() error {
	o = o.applyDefaults()
	if o.Quality < 1 || o.Quality > 100 {
		return fmt.Errorf("jpeg quality %d is not from 1 to 100", o.Quality)
	}
	switch o.Subsampling {
	case 444, 422:
		if _, err := turboLibrary(); err != nil {
			return noLibrary{fmt.Errorf("without libturbojpeg there is no jpeg with %d chroma: choose 4:2:0 or mend this: %w", o.Subsampling, err)}
		}
	case 420:
	default:
		return fmt.Errorf("jpeg chroma subsampling %d is none of 444, 422 and 420", o.Subsampling)
	}
	if n := len(o.ICC); n > maxICC {
		return fmt.Errorf("the colour profile has %d bytes, a jpeg takes at most %d", n, maxICC)
	}
	return nil
}

// JPEGEncoder names the JPEG encoder with its version and options, for
// fingerprints: another version may give other bytes for the same pixels.
func JPEGEncoder(o JPEGOptions) string {
	o = o.applyDefaults()
	name, _, _ := JPEGLibrary()
	return fmt.Sprintf("%s quality %d subsampling %d", name, o.Quality, o.Subsampling)
}

// EncodeJPEG writes img as a baseline JPEG. Gray stays gray, 16 bits are rounded
// to 8, Y'CbCr and CMYK go through RGB. JPEG has no alpha: an image that is not
// opaque everywhere is an error. The same pixels give the same bytes.
func EncodeJPEG(w io.Writer, img image.Image, o JPEGOptions) error {
	if err := encodeJPEG(w, img, o); err != nil {
		return fmt.Errorf("encoding jpeg: %w", err)
	}
	return nil
}

func encodeJPEG(w io.Writer, img image.Image, o JPEGOptions) error {
	b := img.Bounds()
	_, gray := img.(*image.Gray)
	if _, ok := img.(*image.Gray16); ok {
		gray = true
	}
	if gray {
		o.Subsampling = 420 // of no meaning, and possible everywhere
	}
	if !fitsICC(o.ICC, gray) {
		o.ICC = nil
	}
	if err := o.Check(); err != nil {
		return err
	}
	o = o.applyDefaults()
	if b.Empty() {
		return errors.New("the image has no pixels")
	}
	if b.Dx() > turboMaxSide || b.Dy() > turboMaxSide {
		return fmt.Errorf("a jpeg has at most %d pixels a side and the image is %d x %d: choose png", turboMaxSide, b.Dx(), b.Dy())
	}
	if !Opaque(img) {
		return errors.New("jpeg has no alpha, and the image is transparent somewhere: choose png or webp")
	}
	pix, pitch := eightBits(img, gray)
	t, err := turboLibrary()
	if err != nil {
		var m image.Image = &image.RGBA{Pix: pix, Stride: pitch, Rect: image.Rect(0, 0, b.Dx(), b.Dy())}
		if gray {
			m = &image.Gray{Pix: pix, Stride: pitch, Rect: image.Rect(0, 0, b.Dx(), b.Dy())}
		}
		var out bytes.Buffer
		if err := jpeg.Encode(&out, m, &jpeg.Options{Quality: o.Quality}); err != nil {
			return err
		}
		return writeWithICC(w, out.Bytes(), o.ICC)
	}
	format, subsampling := int32(turboRGBA), map[int]int32{444: 0, 422: 1, 420: 2}[o.Subsampling]
	if gray {
		format, subsampling = turboGray, 3
	}
	return t.compress(pix, b.Dx(), pitch, b.Dy(), format, subsampling, int32(o.Quality), func(data []byte) error {
		return writeWithICC(w, data, o.ICC)
	})
}

// eightBits returns the pixels of an opaque image, gray or RGBA of 8 bits, from
// its upper left: its own where it has such, else copies.
func eightBits(img image.Image, gray bool) (pix []uint8, pitch int) {
	b := img.Bounds()
	w, h := b.Dx(), b.Dy()
	if gray {
		if m, ok := img.(*image.Gray); ok {
			return m.Pix[m.PixOffset(b.Min.X, b.Min.Y):], m.Stride
		}
		m := img.(*image.Gray16)
		pix = make([]uint8, w*h)
		for y := range h {
			narrow(pix[y*w:][:w], m.Pix[m.PixOffset(b.Min.X, b.Min.Y+y):][:2*w])
		}
		return pix, w
	}
	switch m := img.(type) {
	case *image.RGBA:
		return m.Pix[m.PixOffset(b.Min.X, b.Min.Y):], m.Stride
	case *image.NRGBA:
		return m.Pix[m.PixOffset(b.Min.X, b.Min.Y):], m.Stride
	}
	pitch = 4 * w
	pix = make([]uint8, pitch*h)
	for y := range h {
		row := pix[y*pitch:][:pitch]
		switch m := img.(type) {
		case *image.RGBA64:
			narrow(row, m.Pix[m.PixOffset(b.Min.X, b.Min.Y+y):][:2*pitch])
		case *image.NRGBA64:
			narrow(row, m.Pix[m.PixOffset(b.Min.X, b.Min.Y+y):][:2*pitch])
		default:
			for x := range w {
				c := color.NRGBA64Model.Convert(img.At(b.Min.X+x, b.Min.Y+y)).(color.NRGBA64)
				p := row[4*x:][:4]
				p[0], p[1], p[2], p[3] = narrowed(uint32(c.R)), narrowed(uint32(c.G)), narrowed(uint32(c.B)), 0xff
			}
		}
	}
	return pix, pitch
}

// narrow rounds big-endian samples of 16 bits.
func narrow(dst, src []uint8) {
	for i := range dst {
		dst[i] = narrowed(uint32(src[2*i])<<8 | uint32(src[2*i+1]))
	}
}

func narrowed(v uint32) uint8 { return uint8((v*255 + 32767) / 65535) }

// iccPerSegment is what an APP2 segment has room for (ICC.1:2010, annex B.4).
const iccPerSegment = 65535 - 2 - len(iccPrefix) - 2

// writeWithICC writes a JPEG with the profile behind its JFIF segment, if it has
// one.
func writeWithICC(w io.Writer, data, icc []byte) error {
	at := 2
	if len(data) >= 6 && data[2] == 0xff && data[3] == 0xe0 {
		at = 4 + int(data[4])<<8 + int(data[5])
	}
	if at > len(data) {
		panic("BUG: imageio: the jpeg encoder gave no jpeg")
	}
	if _, err := w.Write(data[:at]); err != nil {
		return err
	}
	parts := (len(icc) + iccPerSegment - 1) / iccPerSegment
	for i := range parts {
		part := icc[i*iccPerSegment : min((i+1)*iccPerSegment, len(icc))]
		n := 2 + len(iccPrefix) + 2 + len(part)
		head := append([]byte{0xff, 0xe2, byte(n >> 8), byte(n)}, iccPrefix...)
		head = append(head, byte(i+1), byte(parts))
		if _, err := w.Write(append(head, part...)); err != nil {
			return err
		}
	}
	_, err := w.Write(data[at:])
	return err
}
