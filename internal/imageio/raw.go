package imageio

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"io"
)

// The raw form keeps a decoded picture on disk for a while, sample by sample and
// in its own type, so that it comes back as it was. It is private to a run:
// nothing of it is meant to outlive the program that wrote it.

var rawMagic = [4]byte{'f', 'p', 'r', '1'}

const (
	rawYCbCr byte = iota
	rawGray
	rawGray16
	rawRGBA
	rawNRGBA
	rawRGBA64
	rawNRGBA64
	rawCMYK
	rawPaletted
)

// WriteRaw writes the picture's samples. A type that is not one of package
// image's is written as NRGBA64, which holds all that it can say.
func WriteRaw(w io.Writer, img image.Image) error {
	b := img.Bounds()
	kind, pix, stride, bpp := rawPlane(img)
	if y, ok := img.(*image.YCbCr); ok {
		return writeRawYCbCr(w, y)
	}
	if pix == nil {
		c := image.NewNRGBA64(image.Rectangle{Max: b.Size()})
		draw.Draw(c, c.Rect, img, b.Min, draw.Src)
		kind, pix, stride, bpp = rawNRGBA64, c.Pix, c.Stride, 8
	}
	bw := bufio.NewWriterSize(w, 64<<10)
	writeRawHeader(bw, kind, 0, b.Size())
	if p, ok := img.(*image.Paletted); ok {
		bw.WriteByte(byte(len(p.Palette) - 1))
		for _, c := range p.Palette {
			n := color.NRGBA64Model.Convert(c).(color.NRGBA64)
			for _, v := range [4]uint16{n.R, n.G, n.B, n.A} {
				bw.Write([]byte{byte(v >> 8), byte(v)})
			}
		}
	}
	for y := range b.Dy() {
		bw.Write(pix[y*stride : y*stride+b.Dx()*bpp])
	}
	return bw.Flush()
}

func writeRawHeader(w *bufio.Writer, kind, ratio byte, size image.Point) {
	w.Write(rawMagic[:])
	w.Write([]byte{kind, ratio})
	var n [8]byte
	binary.LittleEndian.PutUint32(n[:], uint32(size.X))
	binary.LittleEndian.PutUint32(n[4:], uint32(size.Y))
	w.Write(n[:])
}

// rawPlane returns the samples of a single-plane picture, from its upper left.
func rawPlane(img image.Image) (kind byte, pix []byte, stride, bpp int) {
	b := img.Bounds()
	if b.Empty() {
		return 0, nil, 0, 0
	}
	x, y := b.Min.X, b.Min.Y
	switch m := img.(type) {
	case *image.Gray:
		return rawGray, m.Pix[m.PixOffset(x, y):], m.Stride, 1
	case *image.Gray16:
		return rawGray16, m.Pix[m.PixOffset(x, y):], m.Stride, 2
	case *image.RGBA:
		return rawRGBA, m.Pix[m.PixOffset(x, y):], m.Stride, 4
	case *image.NRGBA:
		return rawNRGBA, m.Pix[m.PixOffset(x, y):], m.Stride, 4
	case *image.RGBA64:
		return rawRGBA64, m.Pix[m.PixOffset(x, y):], m.Stride, 8
	case *image.NRGBA64:
		return rawNRGBA64, m.Pix[m.PixOffset(x, y):], m.Stride, 8
	case *image.CMYK:
		return rawCMYK, m.Pix[m.PixOffset(x, y):], m.Stride, 4
	case *image.Paletted:
		if len(m.Palette) > 0 && len(m.Palette) <= 256 {
			return rawPaletted, m.Pix[m.PixOffset(x, y):], m.Stride, 1
		}
	}
	return 0, nil, 0, 0
}

// writeRawYCbCr writes the three planes. A crop that starts inside a chroma
// sample cannot be written as planes of its own and is converted.
func writeRawYCbCr(w io.Writer, m *image.YCbCr) error {
	b := m.Rect
	whole := image.NewYCbCr(image.Rectangle{Max: b.Size()}, m.SubsampleRatio)
	cw, ch := whole.CStride, len(whole.Cb)/max(1, whole.CStride)
	even := image.NewYCbCr(image.Rect(0, 0, 8, 8), m.SubsampleRatio)
	fx, fy := 8/even.CStride, 8*even.CStride/len(even.Cb)
	if b.Min.X%fx != 0 || b.Min.Y%fy != 0 {
		c := image.NewRGBA(image.Rectangle{Max: b.Size()})
		draw.Draw(c, c.Rect, m, b.Min, draw.Src)
		return WriteRaw(w, c)
	}
	bw := bufio.NewWriterSize(w, 64<<10)
	writeRawHeader(bw, rawYCbCr, byte(m.SubsampleRatio), b.Size())
	for y := range b.Dy() {
		o := m.YOffset(b.Min.X, b.Min.Y+y)
		bw.Write(m.Y[o : o+b.Dx()])
	}
	for _, plane := range [2][]byte{m.Cb, m.Cr} {
		o := m.COffset(b.Min.X, b.Min.Y)
		for y := range ch {
			bw.Write(plane[o+y*m.CStride : o+y*m.CStride+cw])
		}
	}
	return bw.Flush()
}

// ReadRaw reads what WriteRaw wrote.
func ReadRaw(r io.Reader) (image.Image, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	var h [14]byte
	if _, err := io.ReadFull(br, h[:]); err != nil {
		return nil, fmt.Errorf("reading raw pixels: %w", err)
	}
	if [4]byte(h[:4]) != rawMagic {
		return nil, errors.New("reading raw pixels: they are not what was written")
	}
	size := image.Rect(0, 0, int(binary.LittleEndian.Uint32(h[6:])), int(binary.LittleEndian.Uint32(h[10:])))
	if int64(size.Dx())*int64(size.Dy()) > 1<<36 {
		return nil, errors.New("reading raw pixels: they are not what was written")
	}
	img, planes := newRaw(h[4], image.YCbCrSubsampleRatio(h[5]), size)
	if img == nil {
		return nil, errors.New("reading raw pixels: they are not what was written")
	}
	if p, ok := img.(*image.Paletted); ok {
		n, err := br.ReadByte()
		if err != nil {
			return nil, fmt.Errorf("reading raw pixels: %w", err)
		}
		for range int(n) + 1 {
			var c [8]byte
			if _, err := io.ReadFull(br, c[:]); err != nil {
				return nil, fmt.Errorf("reading raw pixels: %w", err)
			}
			p.Palette = append(p.Palette, color.NRGBA64{
				R: binary.BigEndian.Uint16(c[0:]), G: binary.BigEndian.Uint16(c[2:]),
				B: binary.BigEndian.Uint16(c[4:]), A: binary.BigEndian.Uint16(c[6:]),
			})
		}
	}
	for _, p := range planes {
		if _, err := io.ReadFull(br, p); err != nil {
			return nil, fmt.Errorf("reading raw pixels: %w", err)
		}
	}
	return img, nil
}

func newRaw(kind byte, ratio image.YCbCrSubsampleRatio, r image.Rectangle) (image.Image, [][]byte) {
	switch kind {
	case rawYCbCr:
		m := image.NewYCbCr(r, ratio)
		return m, [][]byte{m.Y, m.Cb, m.Cr}
	case rawGray:
		m := image.NewGray(r)
		return m, [][]byte{m.Pix}
	case rawGray16:
		m := image.NewGray16(r)
		return m, [][]byte{m.Pix}
	case rawRGBA:
		m := image.NewRGBA(r)
		return m, [][]byte{m.Pix}
	case rawNRGBA:
		m := image.NewNRGBA(r)
		return m, [][]byte{m.Pix}
	case rawRGBA64:
		m := image.NewRGBA64(r)
		return m, [][]byte{m.Pix}
	case rawNRGBA64:
		m := image.NewNRGBA64(r)
		return m, [][]byte{m.Pix}
	case rawCMYK:
		m := image.NewCMYK(r)
		return m, [][]byte{m.Pix}
	case rawPaletted:
		m := image.NewPaletted(r, nil)
		return m, [][]byte{m.Pix}
	}
	return nil, nil
}
