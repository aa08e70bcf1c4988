package imageio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
)

// Header is what a file says of itself before its pixels are decoded.
type Header struct {
	Format Format
	// Width and Height are those of the upright image.
	Width, Height int
	// Orientation is EXIF's, from 1 (upright as stored) to 8. From 5 on, width
	// and height are exchanged in the file.
	Orientation int
	// Palette says that the pixels are indices into one.
	Palette bool
	// Bytes is what the pixels that Decode returns occupy.
	Bytes int64
	// DecodePeak is the most that decoding occupies at once, the result
	// included and data not. It supposes that nothing is collected meanwhile.
	DecodePeak int64
}

// errShort is for our own walks, which end where the data end: the decoder says
// it better.
var errShort = io.ErrUnexpectedEOF

// raw is what a format's header tells of the image as it is stored.
type raw struct {
	width, height int64
	orientation   int
	palette       bool  // the result's pixels are indices
	bytes         int64 // the result
	scratch       int64 // what decoding needs besides
}

// ReadHeader reads the header of an image file and checks it against the limits
// first of all. It takes the whole file's data; where only a beginning is given
// it still succeeds if the header lies within, but an orientation further back
// is missed. It allocates next to nothing and never panics.
func ReadHeader(data []byte, lim Limits) (h Header, err error) {
	lim = lim.WithDefaults()
	if len(data) == 0 {
		return Header{}, errors.New("reading image header: the file is empty")
	}
	format, ok := Sniff(data)
	if !ok {
		return Header{}, errors.New("reading image header: this is not an image of a known format (jpeg, png, gif, webp, bmp, tiff)")
	}
	defer func() {
		if p := recover(); p != nil {
			h, err = Header{}, fmt.Errorf("reading %s header: the decoder panicked: %v", format, p)
		}
	}()
	if int64(len(data)) > lim.MaxFileBytes {
		return Header{}, &LimitError{fmt.Sprintf("reading %s header: the file has %d bytes, the limit is %d", format, len(data), lim.MaxFileBytes), "file_bytes"}
	}
	var r raw
	switch format {
	case JPEG:
		r, err = jpegHeader(data, lim)
	case PNG:
		r, err = pngHeader(data, lim)
	case GIF:
		r, err = gifHeader(data, lim)
	case WebP:
		r, err = webpHeader(data, lim)
	case BMP:
		r, err = bmpHeader(data, lim)
	case TIFF:
		r, err = tiffHeader(data, lim)
	default:
		err = fmt.Errorf("%s is %w", format, ErrUnsupported)
	}
	if err != nil {
		return Header{}, fmt.Errorf("reading %s header: %w", format, explain(err))
	}

	h = Header{
		Format: format, Width: int(r.width), Height: int(r.height), Orientation: max(r.orientation, 1),
		Palette: r.palette, Bytes: r.bytes, DecodePeak: r.bytes + r.scratch,
	}
	if h.Orientation != 1 {
		if h.Orientation >= 5 {
			h.Width, h.Height = h.Height, h.Width
		}
		h.DecodePeak += h.Bytes // turn makes another
	}
	return h, nil
}

// explain turns the decoders' own words into ours.
func explain(err error) error {
	var (
		formatErr jpeg.FormatError
		jpegErr   jpeg.UnsupportedError
		pngErr    png.UnsupportedError
		tiffErr   tiff.UnsupportedError
	)
	switch {
	case errors.Is(err, ErrUnsupported):
		return err
	case errors.As(err, &jpegErr), errors.As(err, &pngErr), errors.As(err, &tiffErr), errors.Is(err, bmp.ErrUnsupported):
		return unsupported(err.Error())
	case errors.As(err, &formatErr) && formatErr == "short Huffman data", errors.Is(err, io.EOF):
		return fmt.Errorf("the file is truncated: %w", io.ErrUnexpectedEOF)
	case errors.Is(err, io.ErrUnexpectedEOF): // which is not io.EOF
		return fmt.Errorf("the file is truncated: %w", err)
	}
	return err
}

func unsupported(what string) error { return fmt.Errorf("%s: %w", what, ErrUnsupported) }

// config checks the size that a decoder's DecodeConfig tells.
func (r *raw) config(c image.Config, err error, lim Limits) error {
	if err != nil {
		return err
	}
	r.width, r.height = int64(c.Width), int64(c.Height)
	return lim.check("header", r.width, r.height)
}

// flat is for a result in one buffer without padding.
func (r *raw) flat(pixel int64) { r.bytes = r.width * r.height * pixel }

func bmpHeader(data []byte, lim Limits) (raw, error) {
	var r raw
	c, err := bmp.DecodeConfig(bytes.NewReader(data))
	if err := r.config(c, err, lim); err != nil {
		return raw{}, err
	}
	// Bits per pixel, which DecodeConfig has found to be there and to be valid.
	if data[28] <= 8 {
		r.flat(1)
		r.palette = true
	} else {
		r.flat(4)
	}
	r.scratch = 4 * r.width
	return r, nil
}

// checkBMPSize sees to it that the pixels are there, which are never compressed
// in what x/image decodes.
func checkBMPSize(data []byte, size image.Point) error {
	row := (int64(size.X)*int64(binary.LittleEndian.Uint16(data[28:])) + 31) / 32 * 4
	if row*int64(size.Y) > int64(len(data)) {
		return tooSmall(len(data), size)
	}
	return nil
}
