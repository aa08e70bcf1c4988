package imageio

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"sync"
)

// EncodePNG writes img as PNG, without loss where PNG has its pixel type: gray,
// palettes, 8 and 16 bits with and without alpha. Opaque images get no alpha
// channel. Y'CbCr and CMYK are converted to RGB. The same pixels give the same
// bytes.
func EncodePNG(w io.Writer, img image.Image) error {
	enc := png.Encoder{CompressionLevel: png.BestSpeed, BufferPool: &pngBuffers}
	if err := enc.Encode(w, forPNG(img)); err != nil {
		return fmt.Errorf("encoding png: %w", err)
	}
	return nil
}

// forPNG converts what the encoder would otherwise read pixel by pixel, and
// write with 16 bits.
func forPNG(img image.Image) image.Image {
	switch m := img.(type) {
	case *image.YCbCr, *image.CMYK:
		b := img.Bounds()
		out := image.NewRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
		draw.Draw(out, out.Rect, img, b.Min, draw.Src)
		return out
	case *image.NYCbCrA:
		// Not through image/draw, which would multiply by alpha and divide again.
		b := m.Rect
		out := image.NewNRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
		for y := b.Min.Y; y < b.Max.Y; y++ {
			p := out.Pix[(y-b.Min.Y)*out.Stride:]
			for x := b.Min.X; x < b.Max.X; x++ {
				yi, ci := m.YOffset(x, y), m.COffset(x, y)
				p[0], p[1], p[2] = color.YCbCrToRGB(m.Y[yi], m.Cb[ci], m.Cr[ci])
				p[3] = m.A[m.AOffset(x, y)]
				p = p[4:]
			}
		}
		return out
	}
	return img
}

var pngBuffers bufferPool

// bufferPool keeps the encoder's buffers: without it every image costs a new
// zlib writer of over a megabyte.
type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) Get() *png.EncoderBuffer {
	b, _ := p.pool.Get().(*png.EncoderBuffer)
	return b
}

func (p *bufferPool) Put(b *png.EncoderBuffer) {
	// A buffer holds on to the image and the writer it was last used with.
	// Encoding one pixel makes it let go, for a few microseconds, so that a
	// frame whose lease has ended is really free.
	enc := png.Encoder{CompressionLevel: png.BestSpeed, BufferPool: single{b}}
	if err := enc.Encode(io.Discard, onePixel); err == nil {
		p.pool.Put(b)
	}
}

// onePixel is what a buffer is made to forget its last image with.
var onePixel image.Image = image.NewGray(image.Rect(0, 0, 1, 1))

// single is a pool of one.
type single struct{ b *png.EncoderBuffer }

func (s single) Get() *png.EncoderBuffer { return s.b }
func (s single) Put(*png.EncoderBuffer)  {}
