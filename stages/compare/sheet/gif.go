package sheet

import (
	"bufio"
	"compress/lzw"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
	"iter"
	"math"
	"time"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

// hundredth is the unit in which GIF says how long a frame is shown.
const hundredth = 10 * time.Millisecond

const gifVersion = 1

// encodeGIF writes an animation that repeats for ever (GIF89a, and Netscape's
// application extension), frame by frame: package image/gif wants all at once. Of a
// frame only what is not as in the one before is written.
func encodeGIF(w io.Writer, frames iter.Seq2[imageio.AnimationFrame, error], p *palette) error {
	g := &gifWriter{w: bufio.NewWriter(w), palette: p}
	for f, err := range frames {
		if err != nil {
			return err
		}
		if err := g.add(f); err != nil {
			return fmt.Errorf("encoding gif: %w", err)
		}
	}
	_ = g.w.WriteByte(0x3b)
	if err := g.w.Flush(); err != nil {
		return fmt.Errorf("encoding gif: %w", err)
	}
	return nil
}

type gifWriter struct {
	w       *bufio.Writer // its first error stays
	palette *palette
	last    *image.RGBA
	row     []byte
}

func (g *gifWriter) add(f imageio.AnimationFrame) error {
	m := f.Image
	part := m.Rect
	if g.last == nil {
		if m.Rect.Dx() > math.MaxUint16 || m.Rect.Dy() > math.MaxUint16 {
			return errors.New("a side is longer than the 65535 pixels that GIF can have")
		}
		g.head(m.Rect.Size())
	} else {
		part = imageio.Changed(g.last, m)
	}
	g.last = m
	const keep = 1 << 2 // what is drawn stays for the next frame
	g.w.Write([]byte{0x21, 0xf9, 4, keep})
	g.short(int(f.Shown / hundredth))
	g.w.Write([]byte{0, 0, 0x2c})
	for _, v := range []int{part.Min.X, part.Min.Y, part.Dx(), part.Dy()} {
		g.short(v)
	}
	g.w.Write([]byte{0, 8}) // the palette of all frames, and codes of 8 bits
	blocks := &gifBlocks{w: g.w}
	z := lzw.NewWriter(blocks, lzw.LSB, 8)
	g.row = append(g.row[:0], make([]byte, part.Dx())...)
	for y := part.Min.Y; y < part.Max.Y; y++ {
		pix := m.Pix[m.PixOffset(part.Min.X, y):]
		for x := range g.row {
			g.row[x] = g.palette.index(pix[4*x], pix[4*x+1], pix[4*x+2], part.Min.X+x, y)
		}
		if _, err := z.Write(g.row); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	return blocks.close()
}

func (g *gifWriter) short(v int) { g.w.Write(binary.LittleEndian.AppendUint16(nil, uint16(v))) }

// head is what comes before the first frame.
func (g *gifWriter) head(size image.Point) {
	g.w.WriteString("GIF89a")
	g.short(size.X)
	g.short(size.Y)
	g.w.Write([]byte{0xf7, 0, 0}) // a palette of 256 colours, 8 bits a channel
	for _, c := range g.palette.colours {
		g.w.Write([]byte{byte(c[0]), byte(c[1]), byte(c[2])})
	}
	g.w.WriteString("\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")
}

// gifBlocks divides data into blocks of up to 255 bytes.
type gifBlocks struct {
	w *bufio.Writer
	b []byte
}

func (b *gifBlocks) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		take := min(255-len(b.b), len(p))
		b.b, p = append(b.b, p[:take]...), p[take:]
		if len(b.b) == 255 {
			if err := b.flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

func (b *gifBlocks) flush() error {
	if len(b.b) == 0 {
		return nil
	}
	b.w.WriteByte(byte(len(b.b)))
	_, err := b.w.Write(b.b)
	b.b = b.b[:0]
	return err
}

// close writes what is left, and the empty block that ends the data.
func (b *gifBlocks) close() error {
	if err := b.flush(); err != nil {
		return err
	}
	return b.w.WriteByte(0)
}
