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
	rawNYCbCrA
)

// WriteRaw writes the picture's samples. A type that is not one of package
// image's is written as NRGBA64, which holds all that it can say.
func WriteRaw(w io.Writer, img image.Image) error {
	b := img.Bounds()
	switch m := img.(type) {
	case *image.YCbCr:
		return writeRawYCbCr(w, rawYCbCr, m, nil)
	case *image.NYCbCrA:
		return writeRawYCbCr(w, rawNYCbCrA, &m.YCbCr, m)
	}
	kind, pix, stride, bpp := rawPlane(img)
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

// RawBytes is what the picture occupies when ReadRaw has read it. That of a crop can be
// much less than what the crop reaches.
func RawBytes(img image.Image) int64 {
	size := img.Bounds().Size()
	if p, ok := packedOf(img); ok {
		return int64(p.size) * int64(size.X) * int64(size.Y)
	}
	return Bytes(img)
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

// writeRawYCbCr writes the planes. A crop may begin inside a chroma sample: then
// that sample is written whole, with zeros for the luma that is not part of the
// crop, and the header says how many to pass over.
func writeRawYCbCr(w io.Writer, kind byte, m *image.YCbCr, alpha *image.NYCbCrA) error {
	probe := image.NewYCbCr(image.Rect(0, 0, 8, 8), m.SubsampleRatio)
	fx, fy := 8/probe.CStride, 8*probe.CStride/len(probe.Cb)
	b := m.Rect
	skip := image.Pt(b.Min.X%fx, b.Min.Y%fy)
	outer := b.Size().Add(skip)
	whole := image.NewYCbCr(image.Rectangle{Max: outer}, m.SubsampleRatio)
	cw, ch := whole.CStride, len(whole.Cb)/max(1, whole.CStride)
	bw := bufio.NewWriterSize(w, 64<<10)
	writeRawHeader(bw, kind, byte(m.SubsampleRatio), outer)
	bw.Write([]byte{byte(skip.X), byte(skip.Y)})
	luma := func(pix []byte, stride int) {
		bw.Write(make([]byte, skip.Y*outer.X))
		for y := range b.Dy() {
			bw.Write(make([]byte, skip.X))
			bw.Write(pix[y*stride : y*stride+b.Dx()])
		}
	}
	luma(m.Y[m.YOffset(b.Min.X, b.Min.Y):], m.YStride)
	for _, plane := range [2][]byte{m.Cb, m.Cr} {
		o := m.COffset(b.Min.X, b.Min.Y)
		for y := range ch {
			bw.Write(plane[o+y*m.CStride : o+y*m.CStride+cw])
		}
	}
	if alpha != nil {
		luma(alpha.A[alpha.AOffset(b.Min.X, b.Min.Y):], alpha.AStride)
	}
	return bw.Flush()
}

// ReadRaw reads what WriteRaw wrote. The bounds begin at (0, 0) or, for a crop
// that began inside a chroma sample, a few pixels further.
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
	var skip [2]byte
	if h[4] == rawYCbCr || h[4] == rawNYCbCrA {
		if _, err := io.ReadFull(br, skip[:]); err != nil {
			return nil, fmt.Errorf("reading raw pixels: %w", err)
		}
	}
	for _, p := range planes {
		if _, err := io.ReadFull(br, p); err != nil {
			return nil, fmt.Errorf("reading raw pixels: %w", err)
		}
	}
	size.Min = image.Pt(int(skip[0]), int(skip[1]))
	switch m := img.(type) {
	case *image.YCbCr:
		return m.SubImage(size), nil
	case *image.NYCbCrA:
		return m.SubImage(size), nil
	}
	return img, nil
}

func newRaw(kind byte, ratio image.YCbCrSubsampleRatio, r image.Rectangle) (image.Image, [][]byte) {
	switch kind {
	case rawYCbCr:
		m := image.NewYCbCr(r, ratio)
		return m, [][]byte{m.Y, m.Cb, m.Cr}
	case rawNYCbCrA:
		m := image.NewNYCbCrA(r, ratio)
		return m, [][]byte{m.Y, m.Cb, m.Cr, m.A}
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
