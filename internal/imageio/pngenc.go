package imageio

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"io"
	"math"
	"sync"

	"github.com/klauspost/compress/zlib"
)

// PNGOptions say how a PNG is written. None of them changes the pixels.
type PNGOptions struct {
	// Level is zlib's, from 2 to 9, the smallest. 1 is faster still: Huffman codes
	// and runs of one byte alone. 0 is 1.
	Level int
	// Filter is what is done to the rows before they are compressed.
	Filter PNGFilter
	// ICC is the picture's colour profile, or nil. One that is not for the
	// colours that are written (RGB, or gray for gray pictures) is left out.
	ICC []byte
}

// PNGFilter is a way to choose among PNG's row filters.
type PNGFilter int

const (
	// PNGUp subtracts the row above, the fastest filter that serves photographs.
	PNGUp PNGFilter = iota
	// PNGAdaptive tries all filters on each row, and takes that with the least
	// sum of absolute differences.
	PNGAdaptive
)

const pngWriterVersion = 2

// PNGEncoder names the PNG writer with its version and options, for
// fingerprints: what differs in it may give other bytes for the same pixels.
func PNGEncoder(o PNGOptions) string {
	filter := "up"
	if o.Filter == PNGAdaptive {
		filter = "adaptive"
	}
	if o.level() == 1 {
		return fmt.Sprintf("png %d runs %s", pngWriterVersion, filter)
	}
	return fmt.Sprintf("png %d klauspost/compress %s level %d %s", pngWriterVersion, klauspostVersion(), o.level(), filter)
}

var klauspostVersion = sync.OnceValue(func() string { return moduleVersion("github.com/klauspost/compress") })

func (o PNGOptions) level() int {
	if o.Level == 0 {
		return 1
	}
	return o.Level
}

// EncodePNG writes img as PNG, without loss where PNG has its pixel type: gray,
// palettes, 8 and 16 bits with and without alpha. Opaque images get no alpha
// channel; premultiplied alpha is divided out again, as package color does it.
// Y'CbCr and CMYK are converted to RGB. The same pixels give the same bytes,
// also as part of a larger picture. It works row by row and keeps nothing of
// img or w. An error of w is wrapped.
func EncodePNG(w io.Writer, img image.Image, o PNGOptions) error {
	if err := encodePNG(w, img, o); err != nil {
		return fmt.Errorf("encoding png: %w", err)
	}
	return nil
}

func encodePNG(w io.Writer, img image.Image, o PNGOptions) error {
	if err := checkEncodable(img, math.MaxInt32); err != nil {
		return err
	}
	level := o.level()
	if level < 1 || level > 9 {
		return fmt.Errorf("there is no level %d: use 1 to 9", level)
	}
	if n := 8 * int64(img.Bounds().Dx()); n >= math.MaxInt32 {
		return fmt.Errorf("a row of %d pixels is too long for one buffer: cut the picture into tiles", img.Bounds().Dx())
	}
	src := pngRowsOf(img)

	enc := newPNGEncoder(w, level)
	enc.out.header(src, img.Bounds().Size())
	if fitsICC(o.ICC, src.colour == pngGray) {
		enc.profile(o.ICC)
	}
	enc.out.palette(src.palette)
	err := enc.pixels(src, img.Bounds().Dy(), o.Filter)
	if err == nil {
		enc.out.begin("IEND")
		enc.out.end()
		enc.out.flush()
		err = enc.out.err
	}
	enc.release(level)
	return err
}

// pngEncoder is what one picture at a time is encoded with. It is large, a
// megabyte of the compressor's tables, and used again.
type pngEncoder struct {
	out  pngChunks
	zlib compressor // writes to out
	buf  []byte     // rows
}

// compressor is a writer of the zlib format.
type compressor interface {
	io.WriteCloser
	Reset(io.Writer)
}

var pngEncoders [10]sync.Pool // by level

func newPNGEncoder(w io.Writer, level int) *pngEncoder {
	e, ok := pngEncoders[level].Get().(*pngEncoder)
	if !ok {
		e = &pngEncoder{zlib: newCompressor(level)}
	}
	e.out = pngChunks{w: w, buf: e.out.buf[:0]}
	return e
}

func newCompressor(level int) compressor {
	if level == 1 {
		return &runWriter{}
	}
	z, err := zlib.NewWriterLevel(nil, level)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return z
}

// release puts the encoder back, without the writer it has served.
func (e *pngEncoder) release(level int) {
	e.out.w, e.out.err = nil, nil
	pngEncoders[level].Put(e)
}

// profile writes the colour profile.
func (e *pngEncoder) profile(icc []byte) {
	e.out.begin("iCCP")
	_, _ = e.out.Write([]byte("ICC profile\x00\x00")) // its name, and deflate as the method
	e.zlib.Reset(&e.out)
	_, _ = e.zlib.Write(icc) // out keeps the error
	_ = e.zlib.Close()
	e.out.end()
}

// pixels filters, compresses and writes the rows.
func (e *pngEncoder) pixels(src pngRows, height int, filter PNGFilter) error {
	if need := 4 * (src.size + 1); cap(e.buf) < need {
		e.buf = make([]byte, need)
	}
	buf := e.buf
	take := func(n int) []byte {
		b := buf[:n:n]
		buf = buf[n:]
		return b
	}
	f := pngFilterer{pixel: src.pixel, out: take(src.size + 1), spare: take(src.size + 1)}
	row, above := take(src.size), take(src.size)
	clear(above)
	e.out.begin("IDAT")
	e.zlib.Reset(&e.out)
	for y := range height {
		if err := src.read(row, y); err != nil {
			return err
		}
		var filtered []byte
		switch {
		case src.palette != nil: // neighbouring indices say nothing about each other
			filtered = f.none(row)
		case filter == PNGAdaptive:
			filtered = f.adaptive(row, above)
		case y == 0: // there is no row above
			filtered = f.sub(row)
		default:
			filtered = f.up(row, above)
		}
		if _, err := e.zlib.Write(filtered); err != nil {
			return err
		}
		row, above = above, row
	}
	if err := e.zlib.Close(); err != nil {
		return err
	}
	e.out.end()
	return nil
}

// pngChunks puts chunks together and writes them, some at once. What is written
// to it between begin and end is the data of a chunk; IDAT is split into several.
type pngChunks struct {
	w     io.Writer
	err   error  // the first of w
	buf   []byte // complete chunks, then the current one
	start int    // of the current chunk in buf
}

// idatSize is how much of the compressed pixels a chunk holds, and about how
// much is written at once.
const idatSize = 64 << 10

func (c *pngChunks) begin(name string) {
	c.start = len(c.buf)
	c.buf = append(c.buf, 0, 0, 0, 0) // the length, which is not known yet
	c.buf = append(c.buf, name...)
}

func (c *pngChunks) Write(p []byte) (int, error) {
	n := len(p)
	if string(c.buf[c.start+4:c.start+8]) == "IDAT" {
		for room := c.start + 8 + idatSize - len(c.buf); len(p) > room; room = idatSize {
			c.buf = append(c.buf, p[:room]...)
			p = p[room:]
			c.end()
			c.flush()
			c.begin("IDAT")
		}
	}
	c.buf = append(c.buf, p...)
	return n, c.err
}

func (c *pngChunks) end() {
	chunk := c.buf[c.start:]
	binary.BigEndian.PutUint32(chunk, uint32(len(chunk)-8))
	c.buf = binary.BigEndian.AppendUint32(c.buf, crc32.ChecksumIEEE(chunk[4:]))
}

// flush writes the chunks that are complete.
func (c *pngChunks) flush() {
	if c.err != nil {
		c.buf = c.buf[:0]
		return
	}
	n, err := c.w.Write(c.buf)
	if err == nil && n < len(c.buf) {
		err = io.ErrShortWrite
	}
	c.buf, c.err = c.buf[:0], err
}

// The colour types.
const (
	pngGray    = 0
	pngRGB     = 2
	pngPalette = 3
	pngRGBA    = 6
)

func (c *pngChunks) header(src pngRows, size image.Point) {
	c.buf = append(c.buf, "\x89PNG\r\n\x1a\n"...)
	c.begin("IHDR")
	c.buf = binary.BigEndian.AppendUint32(c.buf, uint32(size.X))
	c.buf = binary.BigEndian.AppendUint32(c.buf, uint32(size.Y))
	c.buf = append(c.buf, src.depth, src.colour, 0, 0, 0) // deflate, the five filters, not interlaced
	c.end()
}

// palette writes the colours, and their alpha up to the last that has any.
func (c *pngChunks) palette(p color.Palette) {
	if p == nil {
		return
	}
	var alpha []byte
	c.begin("PLTE")
	for i, v := range p {
		n := color.NRGBAModel.Convert(v).(color.NRGBA)
		c.buf = append(c.buf, n.R, n.G, n.B)
		if n.A < 0xff {
			for len(alpha) < i {
				alpha = append(alpha, 0xff)
			}
			alpha = append(alpha, n.A)
		}
	}
	c.end()
	if alpha != nil {
		c.begin("tRNS")
		c.buf = append(c.buf, alpha...)
		c.end()
	}
}
