package imageio

import (
	"encoding/binary"
	"image"
	"sync/atomic"
)

// passedBytes is after how many bytes of a picture OnPassed's function is called: half of
// the least that counts as in memory of one that lies in a file.
const passedBytes = 512 << 10

var onPassed atomic.Pointer[func(samples []byte)]

// OnPassed sets what is called while a whole picture is gone through, in Opaque and in
// EncodePNG, from time to time with samples that were just looked at. What maps pictures
// into memory puts them out of it there: a scan goes over several GB a second, which
// nothing that looks at the clock can follow.
func OnPassed(f func(samples []byte)) { onPassed.Store(&f) }

// pass counts the bytes of the rows that were looked at, in *since.
func pass(row []byte, since *int) {
	if *since += len(row); *since < passedBytes {
		return
	}
	*since = 0
	if f := onPassed.Load(); f != nil {
		(*f)(row)
	}
}

// Opaque tells whether each pixel of an image has full alpha. Images of a type that does
// not say so itself are looked at pixel by pixel.
func Opaque(img image.Image) bool {
	size := img.Bounds().Size()
	switch m := img.(type) {
	case *image.NRGBA:
		return packed{m.Pix, m.Stride, 4}.opaque(size.X, size.Y)
	case *image.NRGBA64:
		return packed{m.Pix, m.Stride, 8}.opaque(size.X, size.Y)
	case *image.RGBA:
		return packed{m.Pix, m.Stride, 4}.opaque(size.X, size.Y)
	case *image.RGBA64:
		return packed{m.Pix, m.Stride, 8}.opaque(size.X, size.Y)
	case interface{ Opaque() bool }:
		return m.Opaque()
	}
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			if _, _, _, a := img.At(x, y).RGBA(); a != 0xffff {
				return false
			}
		}
	}
	return true
}

// opaque tells whether each pixel, of four channels, has full alpha.
func (p packed) opaque(width, height int) bool {
	alpha := uint64(0xff000000_ff000000)
	if p.size == 8 {
		alpha = 0xffff0000_00000000
	}
	var since int
	for y := range height {
		row := p.pix[y*p.stride:][:width*p.size]
		pass(row, &since)
		all := alpha
		for len(row) >= 8 {
			all &= binary.LittleEndian.Uint64(row)
			row = row[8:]
		}
		if len(row) > 0 { // one pixel of 8 bits
			all &= uint64(binary.LittleEndian.Uint32(row)) | 0xff000000_00000000
		}
		if all != alpha {
			return false
		}
	}
	return true
}
