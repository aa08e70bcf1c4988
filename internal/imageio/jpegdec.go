package imageio

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"strings"
)

// decodeJPEG decodes to gray or opaque RGBA, scaled by eighths/8 where the
// library does it; into samples that are there, unless they are nil. libturbojpeg and image/jpeg differ by a few levels, because
// they round differently.
func decodeJPEG(data []byte, lim Limits, n int, into []byte) (image.Image, error) {
	j, err := readJPEG(data, lim)
	if err != nil {
		return nil, err
	}
	if err := checkJPEGScans(data); err != nil {
		return nil, err
	}
	// Each block takes a bit at least, in the scan of its DC coefficient.
	if blocks := int64(j.size.X+7) / 8 * int64((j.size.Y+7)/8); blocks/8 > int64(len(data)) {
		return nil, tooSmall(len(data), j.size)
	}
	t, err := turboLibrary()
	if err != nil || !j.turbo() {
		return decodePlainJPEG(data, &j)
	}
	return t.decode(data, &j, n, into)
}

// turbo tells whether libturbojpeg takes a file of this kind.
func (j *jpegInfo) turbo() bool { return j.size.X <= turboMaxSide && j.size.Y <= turboMaxSide }

func (t *turbo) decode(data []byte, j *jpegInfo, n int, into []byte) (image.Image, error) {
	size := image.Pt(eighths(j.size.X, n), eighths(j.size.Y, n))
	rect := image.Rectangle{Max: size}
	var img image.Image
	var pix []uint8
	format := int32(turboRGBA)
	switch j.comps {
	case 1:
		if pix = into; pix == nil {
			pix = make([]uint8, size.X*size.Y)
		}
		img, format = &image.Gray{Pix: pix, Stride: size.X, Rect: rect}, turboGray
	case 4:
		format = turboCMYK
		fallthrough
	default:
		if pix = into; pix == nil {
			pix = samples(4 * size.X * size.Y)
		}
		img = &image.RGBA{Pix: pix, Stride: 4 * size.X, Rect: rect}
	}
	err := t.decompress(pix, data, j.size, size, format, turboStrict)
	var said *turboError
	if errors.As(err, &said) && said.warning {
		err = damage(said)
		if err == nil {
			err = t.decodeWarned(pix, data, j, size, format, said)
		}
	}
	if err != nil {
		return nil, err
	}
	if format == turboCMYK {
		for i := 0; i < len(pix); i += 4 {
			inksToRGBA(pix[i:i+4:i+4], pix[i], pix[i+1], pix[i+2], pix[i+3])
		}
	}
	return img, nil
}

// decodeWarned decodes a file with a harmless warning. The library tells only the
// first of its warnings, so that image/jpeg is the judge of what comes after it.
func (t *turbo) decodeWarned(pix, data []byte, j *jpegInfo, size image.Point, format int32, first *turboError) error {
	if _, err := jpeg.Decode(j.reader(data)); err != nil {
		return fmt.Errorf("%w (libturbojpeg: %s)", err, first.text)
	}
	err := t.decompress(pix, data, j.size, size, format, 0)
	var said *turboError
	if errors.As(err, &said) && said.warning {
		return nil
	}
	return err
}

// inksToRGBA puts a pixel of four inks into p. JPEG files have them inverted, as
// Adobe writes them: 255 is no ink.
func inksToRGBA(p []uint8, c, m, y, k uint8) {
	p[0], p[1], p[2], p[3] = k-under(255-c, k), k-under(255-m, k), k-under(255-y, k), 0xff
}

// under is ink x light / 255, rounded.
func under(ink, light uint8) uint8 {
	t := uint32(ink)*uint32(light) + 128
	return uint8((t + t>>8) >> 8)
}

// reader gives the file to image/jpeg, which reads the colours of some files
// otherwise than libjpeg does, with a segment more that settles them.
func (j *jpegInfo) reader(data []byte) io.Reader {
	var more string
	switch {
	case j.comps == 4 && !j.adobe:
		more = "\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
	case j.comps == 3 && !j.rgb() && !j.lastJFIF:
		more = "\xff\xe0\x00\x07JFIF\x00"
	default:
		return bytes.NewReader(data)
	}
	return io.MultiReader(bytes.NewReader(data[:j.frame]), strings.NewReader(more), bytes.NewReader(data[j.frame:]))
}

// decodePlainJPEG decodes with the standard library.
func decodePlainJPEG(data []byte, j *jpegInfo) (image.Image, error) {
	img, err := jpeg.Decode(j.reader(data))
	if err != nil {
		return nil, err
	}
	if b := img.Bounds(); b.Min != (image.Point{}) || b.Max != j.size {
		return nil, fmt.Errorf("the header says %v and the pixels are %v: the file is corrupt", j.size, b)
	}
	switch m := img.(type) {
	case *image.Gray: // padded to whole blocks
		out := image.NewGray(m.Rect)
		for y := range j.size.Y {
			copy(out.Pix[y*out.Stride:][:out.Stride], m.Pix[y*m.Stride:])
		}
		return out, nil
	case *image.YCbCr:
		return &image.RGBA{Pix: planesToRGB(m, jpegPlanes), Stride: 4 * j.size.X, Rect: m.Rect}, nil
	case *image.CMYK:
		p := m.Pix
		for i := 0; i < len(p); i += 4 {
			inksToRGBA(p[i:i+4:i+4], 255-p[i], 255-p[i+1], 255-p[i+2], 255-p[i+3])
		}
		return &image.RGBA{Pix: p, Stride: m.Stride, Rect: m.Rect}, nil
	}
	return img, nil // Adobe's RGB
}
