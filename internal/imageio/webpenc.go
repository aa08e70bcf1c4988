package imageio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
)

// WebPOptions say how a WebP is written.
type WebPOptions struct {
	// Quality is libwebp's, from 1 to 100; 0 is 90. Lossless pictures have none.
	Quality int
	// Lossless keeps every sample of 8 bits, also under full transparency.
	Lossless bool
	// ICC is the picture's colour profile, or nil. WebP holds RGB, so that any
	// other kind is left out.
	ICC []byte
}

// webpSide is the longest side that a WebP can have.
const webpSide = 16383

// WebPBytesPerPixel is what the library takes at most beside the picture, measured
// on noise with alpha (libwebp 1.2.4). Photographs take 6, without loss 21.
const WebPBytesPerPixel = 36

const webpWriterVersion = 1

// WebPEncoder names the WebP encoder with its version and options, for
// fingerprints: what differs in it may give other bytes for the same pixels.
func WebPEncoder(o WebPOptions) string {
	library := "none"
	if l, err := webpLibrary(); err == nil {
		library = l.version
	}
	how := fmt.Sprintf("quality %d", o.quality())
	if o.Lossless {
		how = "lossless"
	}
	return fmt.Sprintf("webp %d libwebp %s %s", webpWriterVersion, library, how)
}

func (o WebPOptions) quality() int {
	if o.Quality == 0 {
		return 90
	}
	return o.Quality
}

// EncodeWebP writes img as WebP with libwebp, which must be installed; see
// [WebPLibrary]. WebP has RGB of 8 bits, with alpha, and sides of up to 16383
// pixels: gray is written as RGB, and samples of 16 bits are rounded, which
// Lossless refuses. Lossy pictures have half the resolution in colour (4:2:0);
// their alpha is exact. The same pixels give the same bytes with one version of
// the library. An error of w is wrapped.
func EncodeWebP(w io.Writer, img image.Image, o WebPOptions) error {
	if err := encodeWebP(w, img, o); err != nil {
		return fmt.Errorf("encoding webp: %w", err)
	}
	return nil
}

func encodeWebP(w io.Writer, img image.Image, o WebPOptions) error {
	if err := checkEncodable(img, webpSide); err != nil {
		return err
	}
	if q := o.quality(); q < 1 || q > 100 {
		return fmt.Errorf("there is no quality %d: use 1 to 100", q)
	}
	rows := pngRowsOf(img)
	if rows.depth == 16 && o.Lossless {
		return errors.New("the picture has 16 bits a sample and WebP has 8: write it as PNG, or do not ask for lossless")
	}
	lib, err := webpLibrary()
	if err != nil {
		return err
	}
	size := img.Bounds().Size()
	row := make([]byte, rows.size)
	unpack := webpUnpacker(rows)
	return lib.encode(size, o, func(dst []uint32, y int) error {
		if err := rows.read(row, y); err != nil {
			return err
		}
		unpack(dst, row)
		return nil
	}, func(data []byte) error {
		return writeWebP(w, data, size, o.ICC)
	})
}

// webpUnpacker makes pixels as libwebp takes them, 0xAARRGGBB, of the rows of a
// PNG.
func webpUnpacker(src pngRows) func(dst []uint32, row []byte) {
	if src.palette != nil {
		var table [256]uint32
		for i, c := range src.palette {
			n := color.NRGBAModel.Convert(c).(color.NRGBA)
			table[i] = argb(n.R, n.G, n.B, n.A)
		}
		depth := int(src.depth)
		return func(dst []uint32, row []byte) {
			for x := range dst {
				bit := x * depth
				dst[x] = table[row[bit/8]>>(8-depth-bit%8)&(1<<depth-1)]
			}
		}
	}
	step, sample := src.pixel, func(p []byte, channel int) uint8 { return p[channel] }
	if src.depth == 16 {
		sample = func(p []byte, channel int) uint8 {
			return narrowed(uint32(binary.BigEndian.Uint16(p[2*channel:])))
		}
	}
	return func(dst []uint32, row []byte) {
		for x := range dst {
			p := row[x*step:][:step]
			switch src.colour {
			case pngGray:
				v := sample(p, 0)
				dst[x] = argb(v, v, v, 0xff)
			case pngRGB:
				dst[x] = argb(sample(p, 0), sample(p, 1), sample(p, 2), 0xff)
			default:
				dst[x] = argb(sample(p, 0), sample(p, 1), sample(p, 2), sample(p, 3))
			}
		}
	}
}

func argb(r, g, b, a uint8) uint32 {
	return uint32(a)<<24 | uint32(r)<<16 | uint32(g)<<8 | uint32(b)
}

// writeWebP writes what libwebp made, with the profile, if any, put in by the
// extended file format (RFC 9649, section 2.7).
func writeWebP(w io.Writer, data []byte, size image.Point, icc []byte) error {
	if !fitsICC(icc, false) {
		return writeAll(w, data)
	}
	const (
		flagICC   = 1 << 5
		flagAlpha = 1 << 4
	)
	chunks := data[12:] // behind RIFF, the length and WEBP
	var flags byte = flagICC
	switch string(chunks[:4]) {
	case "VP8X": // there is alpha beside a lossy picture
		flags |= chunks[8]
		chunks = chunks[18:]
	case "VP8L":
		if chunks[12]&0x10 != 0 { // behind the signature, two sides of 14 bits, and then alpha
			flags |= flagAlpha
		}
	}
	le := binary.LittleEndian
	head := append([]byte("RIFF"), 0, 0, 0, 0)
	head = append(head, "WEBPVP8X\x0a\x00\x00\x00"...)
	head = append(head, flags, 0, 0, 0)
	for _, side := range []int{size.X - 1, size.Y - 1} {
		head = append(head, byte(side), byte(side>>8), byte(side>>16))
	}
	head = append(head, "ICCP"...)
	head = le.AppendUint32(head, uint32(len(icc)))
	head = append(head, icc...)
	if len(icc)%2 != 0 {
		head = append(head, 0)
	}
	le.PutUint32(head[4:], uint32(len(head)-8+len(chunks)))
	if err := writeAll(w, head); err != nil {
		return err
	}
	return writeAll(w, chunks)
}

// writeAll writes all of p or says why not.
func writeAll(w io.Writer, p []byte) error {
	n, err := w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return err
}
