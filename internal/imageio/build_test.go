package imageio_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/draw"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"testing"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
)

// The files that the tests read are made here.

func noise(w, h int) *image.NRGBA {
	rnd := rand.New(rand.NewPCG(uint64(w), uint64(h)))
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range m.Pix {
		m.Pix[i] = uint8(rnd.Uint32())
	}
	return m
}

func opaque(m *image.NRGBA) *image.NRGBA {
	for i := 3; i < len(m.Pix); i += 4 {
		m.Pix[i] = 0xff
	}
	return m
}

// as copies noise into another type.
func as[T draw.Image](dst T, src image.Image) T {
	draw.Draw(dst, dst.Bounds(), src, src.Bounds().Min, draw.Src)
	return dst
}

func noise16(w, h int) *image.NRGBA64 {
	rnd := rand.New(rand.NewPCG(uint64(w), 16))
	m := image.NewNRGBA64(image.Rect(0, 0, w, h))
	for i := range m.Pix {
		m.Pix[i] = uint8(rnd.Uint32())
	}
	return m
}

func opaque16(m *image.NRGBA64) *image.NRGBA64 {
	for i := 6; i < len(m.Pix); i += 8 {
		m.Pix[i], m.Pix[i+1] = 0xff, 0xff
	}
	return m
}

func noiseGray16(w, h int) *image.Gray16 {
	return as(image.NewGray16(image.Rect(0, 0, w, h)), opaque16(noise16(w, h)))
}

func noisePaletted(w, h, colours int) *image.Paletted {
	rnd := rand.New(rand.NewPCG(uint64(w), uint64(colours)))
	p := make(color.Palette, colours)
	for i := range p {
		p[i] = color.RGBA{uint8(rnd.Uint32()), uint8(rnd.Uint32()), uint8(rnd.Uint32()), 0xff}
	}
	m := image.NewPaletted(image.Rect(0, 0, w, h), p)
	for i := range m.Pix {
		m.Pix[i] = uint8(rnd.IntN(colours))
	}
	return m
}

func encodePNG(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func encodeJPEG(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func encodeBMP(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := bmp.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func encodeTIFF(t testing.TB, m image.Image, c tiff.CompressionType) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := tiff.Encode(&b, m, &tiff.Options{Compression: c, Predictor: c == tiff.Deflate}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// encodeGIF puts frames on a screen of w x h.
func encodeGIF(t testing.TB, w, h int, frames ...*image.Paletted) []byte {
	t.Helper()
	g := &gif.GIF{Image: frames, Delay: make([]int, len(frames)), Config: image.Config{Width: w, Height: h}}
	var b bytes.Buffer
	if err := gif.EncodeAll(&b, g); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// exif is EXIF data with nothing but an orientation.
func exif(orientation int, order binary.ByteOrder) []byte {
	return tiffFile(order, [][3]uint32{{274, 3, uint32(orientation)}}, nil)
}

// tiffFile makes a TIFF of entries {tag, type, value}, each with one value,
// followed by data, which begin at offset 8.
func tiffFile(order binary.ByteOrder, entries [][3]uint32, data []byte) []byte {
	b := []byte("II*\x00")
	if order == binary.BigEndian {
		b = []byte("MM\x00*")
	}
	app := order.(binary.AppendByteOrder)
	b = app.AppendUint32(b, uint32(8+len(data)))
	b = append(b, data...)
	b = app.AppendUint16(b, uint16(len(entries)))
	for _, e := range entries {
		b = app.AppendUint16(b, uint16(e[0]))
		b = app.AppendUint16(b, uint16(e[1]))
		b = app.AppendUint32(b, 1)
		if e[1] == 3 {
			b = app.AppendUint16(b, uint16(e[2]))
			b = app.AppendUint16(b, 0)
		} else {
			b = app.AppendUint32(b, e[2])
		}
	}
	return app.AppendUint32(b, 0)
}

func segment(marker byte, payload []byte) []byte {
	b := []byte{0xff, marker}
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)+2))
	return append(b, payload...)
}

func jpegWithEXIF(data, exif []byte) []byte {
	out := append([]byte(nil), data[:2]...)
	out = append(out, segment(0xe1, append([]byte("Exif\x00\x00"), exif...))...)
	return append(out, data[2:]...)
}

func chunk(name string, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))
	b = append(b, name...)
	b = append(b, payload...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:]))
}

// pngWith inserts a chunk after the header.
func pngWith(data []byte, name string, payload []byte) []byte {
	out := append([]byte(nil), data[:33]...)
	out = append(out, chunk(name, payload)...)
	return append(out, data[33:]...)
}

// tiffWithOrientation rewrites the directory of what x/image/tiff wrote.
func tiffWithOrientation(data []byte, o int) []byte {
	le := binary.LittleEndian
	at := int(le.Uint32(data[4:]))
	n := int(le.Uint16(data[at:]))
	out := append([]byte(nil), data...)
	dir := len(out)
	out = le.AppendUint16(out, uint16(n+1))
	added := false
	for i := range n {
		e := data[at+2+12*i:][:12]
		if !added && le.Uint16(e) > 274 {
			added = true
			out = le.AppendUint16(out, 274)
			out = le.AppendUint16(out, 3)
			out = le.AppendUint32(out, 1)
			out = le.AppendUint32(out, uint32(o))
		}
		out = append(out, e...)
	}
	out = le.AppendUint32(out, 0)
	le.PutUint32(out[4:], uint32(dir))
	return out
}

// A component of a rawJPEG: its id and sampling factors.
type component struct{ id, h, v byte }

// rawJPEG makes a JPEG of random flat 8x8 blocks, in sampling ratios that the
// standard library cannot write. Each coefficient but the first is zero: 4 bits
// of Huffman code give the size of the difference, and one bit ends a block.
func rawJPEG(w, h int, progressive bool, comps ...component) []byte {
	rnd := rand.New(rand.NewPCG(uint64(w), uint64(len(comps))))
	out := []byte{0xff, 0xd8}
	dqt := make([]byte, 65)
	for i := range dqt[1:] {
		dqt[1+i] = 8
	}
	out = append(out, segment(0xdb, dqt)...)
	sof := []byte{8, byte(h >> 8), byte(h), byte(w >> 8), byte(w), byte(len(comps))}
	sos := []byte{byte(len(comps))}
	for _, c := range comps {
		sof = append(sof, c.id, c.h<<4|c.v, 0)
		sos = append(sos, c.id, 0)
	}
	if len(comps) == 4 {
		out = append(out, segment(0xee, []byte("Adobe\x00\x64\x00\x00\x00\x00\x02"))...)
	}
	marker, end := byte(0xc0), byte(63)
	if progressive {
		marker, end = 0xc2, 0
	}
	out = append(out, segment(marker, sof)...)
	dc := append([]byte{0x00}, make([]byte, 16)...)
	dc[4] = 12
	for i := range 12 {
		dc = append(dc, byte(i))
	}
	out = append(out, segment(0xc4, dc)...)
	ac := append([]byte{0x10}, make([]byte, 16)...)
	ac[1] = 1
	out = append(out, segment(0xc4, append(ac, 0))...)
	out = append(out, segment(0xda, append(sos, 0, end, 0))...)

	var acc, n uint32
	put := func(v, bits uint32) {
		acc, n = acc<<bits|v, n+bits
		for n >= 8 {
			c := byte(acc >> (n - 8))
			out = append(out, c)
			if c == 0xff {
				out = append(out, 0)
			}
			n -= 8
			acc &= 1<<n - 1
		}
	}
	hMax, vMax := int(comps[0].h), int(comps[0].v)
	if len(comps) == 1 {
		hMax, vMax = 1, 1
	}
	mcus := ((w + 8*hMax - 1) / (8 * hMax)) * ((h + 8*vMax - 1) / (8 * vMax))
	last := make([]int, len(comps))
	for range mcus {
		for i, c := range comps {
			blocks := int(c.h) * int(c.v)
			if len(comps) == 1 {
				blocks = 1
			}
			for range blocks {
				v := rnd.IntN(200) - 100
				d := v - last[i]
				last[i] = v
				size, mag := uint32(0), d
				if mag < 0 {
					mag = -mag
				}
				for ; mag > 0; mag >>= 1 {
					size++
				}
				put(size, 4)
				if d < 0 {
					d += 1<<size - 1
				}
				if size > 0 {
					put(uint32(d), size)
				}
				if !progressive {
					put(0, 1)
				}
			}
		}
	}
	put(0x7f, 7)
	return append(out, 0xff, 0xd9)
}

// riff makes a WebP of chunks, given as name, payload, name, payload.
func riff(chunks ...string) []byte {
	var body []byte
	for i := 0; i < len(chunks); i += 2 {
		body = append(body, chunks[i]...)
		body = binary.LittleEndian.AppendUint32(body, uint32(len(chunks[i+1])))
		body = append(body, chunks[i+1]...)
		if len(chunks[i+1])%2 != 0 {
			body = append(body, 0)
		}
	}
	b := binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(4+len(body)))
	b = append(b, "WEBP"...)
	return append(b, body...)
}

// vp8l is a lossless WebP bitstream: random green bits on a flat colour.
func vp8l(w, h int) string {
	var out []byte
	var acc uint64
	var n uint
	put := func(v uint64, bits uint) {
		acc |= v << n
		for n += bits; n >= 8; n -= 8 {
			out = append(out, byte(acc))
			acc >>= 8
		}
	}
	put(0x2f, 8)
	put(uint64(w-1), 14)
	put(uint64(h-1), 14)
	put(1, 1) // alpha is used
	put(0, 3)
	put(0, 1) // no transform
	put(0, 1) // no colour cache
	put(0, 1) // one Huffman group
	two := func(a, b uint64) { put(1, 1); put(1, 1); put(1, 1); put(a, 8); put(b, 8) }
	one := func(a uint64) { put(1, 1); put(0, 1); put(1, 1); put(a, 8) }
	two(40, 200) // green
	one(100)     // red
	one(50)      // blue
	one(255)     // alpha
	one(0)       // distance
	rnd := rand.New(rand.NewPCG(uint64(w), uint64(h)))
	for range w * h {
		put(uint64(rnd.IntN(2)), 1)
	}
	put(0, 7)
	return string(out)
}

func fromBase64(s string) []byte {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// One-pixel files of Modernizr's feature tests.
var (
	lossyWebP    = fromBase64("UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA")
	alphaWebP    = fromBase64("UklGRkoAAABXRUJQVlA4WAoAAAAQAAAAAAAAAAAAQUxQSAwAAAARBxAR/Q9ERP8DAABWUDggGAAAABQBAJ0BKgEAAQAAAP4AAA3AAP7mtQAAAA==")
	animatedWebP = fromBase64("UklGRlIAAABXRUJQVlA4WAoAAAASAAAAAAAAAAAAQU5JTQYAAAD/////AABBTk1GJgAAAAAAAAAAAAAAAAAAAGQAAABWUDhMDQAAAC8AAAAQBxAREYiI/gcA")
)

// sample is a good file of each kind, with what should come out of it.
type sample struct {
	name string
	data []byte
	want image.Image // nil where the bytes are made by hand
	typ  string
}

func samples(t testing.TB) []sample {
	const w, h = 21, 13
	gray := as(image.NewGray(image.Rect(0, 0, w, h)), opaque(noise(w, h)))
	rgba := as(image.NewRGBA(image.Rect(0, 0, w, h)), opaque(noise(w, h)))
	frame := noisePaletted(10, 6, 7)
	frame.Rect = frame.Rect.Add(image.Pt(3, 4))
	full := noisePaletted(10, 6, 256)
	full.Rect = full.Rect.Add(image.Pt(3, 4))
	ycc := func(h, v byte) []component { return []component{{1, h, v}, {2, 1, 1}, {3, 1, 1}} }
	cmyk := []component{{1, 1, 1}, {2, 1, 1}, {3, 1, 1}, {4, 1, 1}}
	return []sample{
		{"png gray", encodePNG(t, gray), gray, "*image.Gray"},
		{"png gray 16", encodePNG(t, noiseGray16(w, h)), noiseGray16(w, h), "*image.Gray16"},
		{"png rgb", encodePNG(t, rgba), rgba, "*image.RGBA"},
		{"png rgba", encodePNG(t, noise(w, h)), noise(w, h), "*image.NRGBA"},
		{"png rgb 16", encodePNG(t, opaque16(noise16(w, h))), opaque16(noise16(w, h)), "*image.RGBA64"},
		{"png rgba 16", encodePNG(t, noise16(w, h)), noise16(w, h), "*image.NRGBA64"},
		{"png palette", encodePNG(t, noisePaletted(w, h, 16)), noisePaletted(w, h, 16), "*image.Paletted"},
		{"png gray tRNS", pngWith(encodePNG(t, gray), "tRNS", []byte{0, 7}), nil, "*image.NRGBA"},
		{"png gray 16 tRNS", pngWith(encodePNG(t, noiseGray16(w, h)), "tRNS", []byte{0, 7}), nil, "*image.NRGBA64"},
		{"png rgb tRNS", pngWith(encodePNG(t, rgba), "tRNS", make([]byte, 6)), nil, "*image.NRGBA"},
		{"gif", encodeGIF(t, w, h, noisePaletted(w, h, 256)), noisePaletted(w, h, 256), "*image.Paletted"},
		{"gif animated", encodeGIF(t, w, h, noisePaletted(w, h, 8), frame), noisePaletted(w, h, 8), "*image.Paletted"},
		{"gif small frame", encodeGIF(t, w, h, frame), as(image.NewNRGBA(image.Rect(0, 0, w, h)), shifted(frame, w, h)), "*image.Paletted"},
		{"gif small frame, all colours used", encodeGIF(t, w, h, full), as(image.NewNRGBA(image.Rect(0, 0, w, h)), shifted(full, w, h)), "*image.NRGBA"},
		{"bmp rgb", encodeBMP(t, rgba), rgba, "*image.RGBA"},
		// A BMP with the short header has no alpha, whatever its fourth byte says.
		{"bmp rgba", encodeBMP(t, noise(w, h)), opaque(noise(w, h)), "*image.NRGBA"},
		{"bmp gray", encodeBMP(t, gray), gray, "*image.Paletted"},
		{"tiff gray", encodeTIFF(t, gray, tiff.Uncompressed), gray, "*image.Gray"},
		{"tiff gray 16", encodeTIFF(t, noiseGray16(w, h), tiff.Deflate), noiseGray16(w, h), "*image.Gray16"},
		{"tiff rgb", encodeTIFF(t, rgba, tiff.Deflate), rgba, "*image.RGBA"},
		{"tiff rgba", encodeTIFF(t, noise(w, h), tiff.Deflate), noise(w, h), "*image.NRGBA"},
		{"tiff rgba 16", encodeTIFF(t, noise16(w, h), tiff.Uncompressed), noise16(w, h), "*image.NRGBA64"},
		{"tiff palette", encodeTIFF(t, noisePaletted(w, h, 256), tiff.Uncompressed), noisePaletted(w, h, 256), "*image.Paletted"},
		{"webp lossless", riff("VP8L", vp8l(w, h)), nil, "*image.NRGBA"},
		{"webp lossy", lossyWebP, nil, "*image.RGBA"},
		{"webp lossy alpha", alphaWebP, nil, "*image.NRGBA"},
		{"jpeg gray", encodeJPEG(t, gray), nil, "*image.Gray"},
		{"jpeg 420", encodeJPEG(t, rgba), nil, "*image.RGBA"},
		{"jpeg 444", rawJPEG(w, h, false, ycc(1, 1)...), nil, "*image.RGBA"},
		{"jpeg 422", rawJPEG(w, h, false, ycc(2, 1)...), nil, "*image.RGBA"},
		{"jpeg 440", rawJPEG(w, h, false, ycc(1, 2)...), nil, "*image.RGBA"},
		{"jpeg 411", rawJPEG(w, h, false, ycc(4, 1)...), nil, "*image.RGBA"},
		{"jpeg 410", rawJPEG(w, h, false, ycc(4, 2)...), nil, "*image.RGBA"},
		{"jpeg progressive", rawJPEG(w, h, true, ycc(2, 2)...), nil, "*image.RGBA"},
		{"jpeg progressive gray", rawJPEG(w, h, true, component{1, 2, 2}), nil, "*image.Gray"},
		{"jpeg rgb", rawJPEG(w, h, false, component{'R', 1, 1}, component{'G', 1, 1}, component{'B', 1, 1}), nil, "*image.RGBA"},
		{"jpeg cmyk", rawJPEG(w, h, false, cmyk...), nil, "*image.RGBA"},
	}
}

// shifted shows a frame on a transparent screen.
func shifted(m *image.Paletted, w, h int) image.Image {
	out := image.NewNRGBA(image.Rect(0, 0, w, h))
	draw.Draw(out, m.Rect, m, m.Rect.Min, draw.Src)
	return out
}
