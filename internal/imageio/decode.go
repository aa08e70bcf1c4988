package imageio

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/png"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
)

// Decode decodes the image, of an animation the first frame, turned upright.
// JPEG becomes gray or opaque RGBA, lossy WebP RGBA or NRGBA; others keep the
// type that their decoder gives, 16 bits included. h is what ReadHeader told of the same data; data that have
// changed since, that end early or that decode to another size are errors, and
// so is a panic in a decoder.
func Decode(data []byte, h Header, lim Limits) (image.Image, error) {
	return decodeAt(data, h, lim, turboEighths, nil)
}

// DecodesInto tells whether DecodeInto takes the file: JPEGs that are stored upright, where
// libturbojpeg is there.
func (h Header) DecodesInto() bool {
	_, err := turboLibrary()
	return err == nil && h.Format == JPEG && h.Orientation == 1 && max(h.Width, h.Height) <= turboMaxSide
}

// Model is that of the picture that DecodeInto makes: color.GrayModel or color.RGBAModel.
func (h Header) Model() color.Model {
	if h.Bytes == int64(h.Width)*int64(h.Height) {
		return color.GrayModel
	}
	return color.RGBAModel
}

// DecodeInto is Decode into samples that are there, h.Bytes of them: for a picture that is
// larger than memory.
func DecodeInto(pix, data []byte, h Header, lim Limits) (image.Image, error) {
	if !h.DecodesInto() || int64(len(pix)) != h.Bytes {
		panic("BUG: imageio: a file is decoded into samples that are not for it")
	}
	return decodeAt(data, h, lim, turboEighths, pix)
}

// DecodeScaled decodes like Decode, but a JPEG at the smallest scale n/8 at which
// neither side of the upright image is smaller than least, which is faster and
// needs less memory. It scales in the frequency domain, about as good as a box
// filter. Where even the full size is smaller, for other formats, and without
// libturbojpeg, it decodes at full size.
func DecodeScaled(data []byte, h Header, lim Limits, least image.Point) (image.Image, error) {
	return decodeAt(data, h, lim, h.Eighths(least), nil)
}

// Eighths is the n of the scale n/8 at which DecodeScaled decodes; 8 is the full
// size.
func (h Header) Eighths(least image.Point) int {
	if h.Format != JPEG || max(h.Width, h.Height) > turboMaxSide {
		return turboEighths
	}
	if _, err := turboLibrary(); err != nil {
		return turboEighths
	}
	n := 1
	for n < turboEighths {
		if s := h.Scaled(n); s.X >= least.X && s.Y >= least.Y {
			break
		}
		n++
	}
	return n
}

// Scaled is the size of the upright image at the scale n/8, rounded up.
func (h Header) Scaled(n int) image.Point { return image.Pt(eighths(h.Width, n), eighths(h.Height, n)) }

// Flipped tells whether the columns and the rows of the upright image run
// backwards in the file: what a scale rounds up then is its first, not its last.
func (h Header) Flipped() (x, y bool) {
	x, y, swap := flips(h.Orientation)
	if swap {
		return y, x
	}
	return x, y
}

// eighths is what is left of a side at n/8, as libjpeg rounds it.
func eighths(side, n int) int { return (side*n + turboEighths - 1) / turboEighths }

// decodeAt decodes at n/8, a JPEG into the samples, unless they are nil.
func decodeAt(data []byte, h Header, lim Limits, n int, into []byte) (img image.Image, err error) {
	lim = lim.WithDefaults()
	// Reading the header again costs nothing beside decoding, and nobody can then
	// exchange a file between the check and the work.
	now, err := ReadHeader(data, lim)
	if err != nil {
		return nil, err
	}
	now.DecodePeak = h.DecodePeak // which is the decoder's, not the file's
	if now != h {
		return nil, fmt.Errorf("decoding %s: the file has changed since its header was read: read it again", now.Format)
	}
	defer func() {
		if p := recover(); p != nil {
			img, err = nil, fmt.Errorf("decoding %s: the decoder panicked: %v", h.Format, p)
		}
	}()
	img, err = decode(data, h, lim, n, into)
	if err != nil {
		return nil, fmt.Errorf("decoding %s: %w", h.Format, explain(err))
	}
	return img, nil
}

func decode(data []byte, h Header, lim Limits, n int, into []byte) (image.Image, error) {
	size := image.Pt(h.Width, h.Height)
	if h.Orientation >= 5 {
		size.X, size.Y = size.Y, size.X
	}
	var img image.Image
	var err error
	r := bytes.NewReader(data)
	switch h.Format {
	case JPEG:
		img, err = decodeJPEG(data, lim, n, into)
	case PNG:
		if err = checkPNGSize(data, size); err == nil {
			img, err = png.Decode(r)
		}
	case GIF:
		if err = checkGIFEnd(data); err == nil {
			img, err = gif.Decode(r)
		}
		if m, ok := img.(*image.Paletted); ok && err == nil {
			img = onScreen(m, size.X, size.Y)
		}
	case WebP:
		img, err = decodeWebP(data)
	case BMP:
		if err = checkBMPSize(data, size); err == nil {
			img, err = bmp.Decode(r)
		}
	case TIFF:
		img, err = tiff.Decode(r)
	default:
		err = ErrUnsupported
	}
	if err != nil {
		return nil, err
	}
	if img == nil {
		return nil, errors.New("the decoder gave no image")
	}
	// A JPEG's decoder has seen to its size, which may be a scaled one.
	if b := img.Bounds(); h.Format != JPEG && b != (image.Rectangle{Max: size}) {
		return nil, fmt.Errorf("the header says %v and the pixels are %v: the file is corrupt", size, b)
	}
	return turn(img, h.Orientation), nil
}

// tooSmall says that a file cannot hold its pixels, before a decoder makes room
// for them.
func tooSmall(have int, size image.Point) error {
	return fmt.Errorf("%d bytes are too few for %d x %d pixels: %w", have, size.X, size.Y, errShort)
}
