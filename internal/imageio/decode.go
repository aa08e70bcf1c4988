package imageio

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
	"golang.org/x/image/webp"
)

// Decode decodes the image, of an animation the first frame, in the type that
// its decoder gives, turned upright. h is what ReadHeader told of the same data;
// data that have changed since, that end early or that decode to another size
// are errors, and so is a panic in a decoder.
func Decode(data []byte, h Header, lim Limits) (img image.Image, err error) {
	// Reading the header again costs nothing beside decoding, and nobody can then
	// exchange a file between the check and the work.
	now, err := ReadHeader(data, lim)
	if err != nil {
		return nil, err
	}
	if now != h {
		return nil, fmt.Errorf("decoding %s: the file has changed since its header was read: read it again", now.Format)
	}
	defer func() {
		if p := recover(); p != nil {
			img, err = nil, fmt.Errorf("decoding %s: the decoder panicked: %v", h.Format, p)
		}
	}()
	img, err = decode(data, h)
	if err != nil {
		return nil, fmt.Errorf("decoding %s: %w", h.Format, explain(err))
	}
	return img, nil
}

func decode(data []byte, h Header) (image.Image, error) {
	width, height := h.Width, h.Height
	if h.Orientation >= 5 {
		width, height = height, width
	}
	var img image.Image
	var err error
	r := bytes.NewReader(data)
	switch h.Format {
	case JPEG:
		if err = checkJPEGScans(data); err == nil {
			img, err = jpeg.Decode(r)
		}
	case PNG:
		img, err = png.Decode(r)
	case GIF:
		if err = checkGIFEnd(data); err == nil {
			img, err = gif.Decode(r)
		}
		if m, ok := img.(*image.Paletted); ok && err == nil {
			img = onScreen(m, width, height)
		}
	case WebP:
		if err = checkWebPEnd(data); err == nil {
			img, err = webp.Decode(r)
		}
	case BMP:
		img, err = bmp.Decode(r)
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
	if b := img.Bounds(); b != image.Rect(0, 0, width, height) {
		return nil, fmt.Errorf("the header says %d x %d and the pixels are %v: the file is corrupt", width, height, b)
	}
	return turn(img, h.Orientation), nil
}
