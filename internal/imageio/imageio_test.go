package imageio_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/image/tiff"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

func decode(t testing.TB, data []byte) (imageio.Header, image.Image) {
	t.Helper()
	lim := imageio.DefaultLimits()
	h, err := imageio.ReadHeader(data, lim)
	if err != nil {
		t.Fatal(err)
	}
	img, err := imageio.Decode(data, h, lim)
	if err != nil {
		t.Fatal(err)
	}
	return h, img
}

// same compares two images pixel by pixel.
func same(t *testing.T, got, want image.Image) {
	t.Helper()
	gb, wb := got.Bounds(), want.Bounds()
	if gb.Size() != wb.Size() {
		t.Fatalf("size %v, want %v", gb.Size(), wb.Size())
	}
	for y := range gb.Dy() {
		for x := range gb.Dx() {
			r, g, b, a := got.At(gb.Min.X+x, gb.Min.Y+y).RGBA()
			r2, g2, b2, a2 := want.At(wb.Min.X+x, wb.Min.Y+y).RGBA()
			if r != r2 || g != g2 || b != b2 || a != a2 {
				t.Fatalf("at %d,%d: %v, want %v", x, y, got.At(gb.Min.X+x, gb.Min.Y+y), want.At(wb.Min.X+x, wb.Min.Y+y))
			}
		}
	}
}

func TestDecode(t *testing.T) {
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			h, img := decode(t, s.data)
			if typ := fmt.Sprintf("%T", img); typ != s.typ {
				t.Errorf("type %s, want %s", typ, s.typ)
			}
			if img.Bounds() != image.Rect(0, 0, h.Width, h.Height) {
				t.Errorf("bounds %v, header %+v", img.Bounds(), h)
			}
			if got := imageio.Bytes(img); got != h.Bytes || h.DecodePeak < h.Bytes {
				t.Errorf("occupies %d bytes, the header says %+v", got, h)
			}
			if format, _, _ := strings.Cut(s.name, " "); string(h.Format) != format || h.Orientation != 1 {
				t.Errorf("header %+v", h)
			}
			if s.want != nil {
				same(t, img, s.want)
			}
		})
	}
}

// reference turns by the definition of EXIF's tag 274: which side of the shown
// image the stored row 0 and column 0 lie on.
func reference(src image.Image, o int) image.Image {
	w, h := src.Bounds().Dx(), src.Bounds().Dy()
	size := image.Rect(0, 0, w, h)
	if o >= 5 {
		size = image.Rect(0, 0, h, w)
	}
	dst := &canvas{size, make([]color.Color, w*h)}
	for y := range h {
		for x := range w {
			var p image.Point
			switch o {
			case 1: // row 0 at the top, column 0 at the left
				p = image.Pt(x, y)
			case 2: // top, right
				p = image.Pt(w-1-x, y)
			case 3: // bottom, right
				p = image.Pt(w-1-x, h-1-y)
			case 4: // bottom, left
				p = image.Pt(x, h-1-y)
			case 5: // left, top
				p = image.Pt(y, x)
			case 6: // right, top
				p = image.Pt(h-1-y, x)
			case 7: // right, bottom
				p = image.Pt(h-1-y, w-1-x)
			case 8: // left, bottom
				p = image.Pt(y, w-1-x)
			}
			dst.pix[p.Y*size.Dx()+p.X] = src.At(x, y)
		}
	}
	return dst
}

// canvas keeps colours as they are; those of the standard library multiply by
// alpha and divide again.
type canvas struct {
	rect image.Rectangle
	pix  []color.Color
}

func (c *canvas) ColorModel() color.Model { return color.NRGBA64Model }
func (c *canvas) Bounds() image.Rectangle { return c.rect }
func (c *canvas) At(x, y int) color.Color { return c.pix[y*c.rect.Dx()+x] }

func TestOrientation(t *testing.T) {
	ycc := func(h, v byte) []component { return []component{{1, h, v}, {2, 1, 1}, {3, 1, 1}} }
	type kind struct {
		name string
		make func(w, h, o int) []byte
	}
	pngOf := func(m func(w, h int) image.Image) func(w, h, o int) []byte {
		return func(w, h, o int) []byte {
			return pngWith(encodePNG(t, m(w, h)), "eXIf", exif(o, binary.BigEndian))
		}
	}
	jpegOf := func(progressive bool, c ...component) func(w, h, o int) []byte {
		return func(w, h, o int) []byte {
			return jpegWithEXIF(rawJPEG(w, h, progressive, c...), exif(o, binary.LittleEndian))
		}
	}
	kinds := []kind{
		{"png gray", pngOf(func(w, h int) image.Image { return as(image.NewGray(image.Rect(0, 0, w, h)), opaque(noise(w, h))) })},
		{"png gray 16", pngOf(func(w, h int) image.Image { return noiseGray16(w, h) })},
		{"png rgb", pngOf(func(w, h int) image.Image { return opaque(noise(w, h)) })},
		{"png rgba", pngOf(func(w, h int) image.Image { return noise(w, h) })},
		{"png rgb 16", pngOf(func(w, h int) image.Image { return opaque16(noise16(w, h)) })},
		{"png rgba 16", pngOf(func(w, h int) image.Image { return noise16(w, h) })},
		{"png palette", pngOf(func(w, h int) image.Image { return noisePaletted(w, h, 99) })},
		{"tiff rgb", func(w, h, o int) []byte {
			return tiffWithOrientation(encodeTIFF(t, opaque(noise(w, h)), tiff.Deflate), o)
		}},
		{"webp lossless", func(w, h, o int) []byte {
			return riff("VP8L", vp8l(w, h), "EXIF", string(exif(o, binary.LittleEndian)))
		}},
		{"jpeg gray", jpegOf(false, component{1, 1, 1})},
		{"jpeg 444", jpegOf(false, ycc(1, 1)...)},
		{"jpeg 422", jpegOf(false, ycc(2, 1)...)},
		{"jpeg 420", jpegOf(false, ycc(2, 2)...)},
		{"jpeg 440", jpegOf(false, ycc(1, 2)...)},
		{"jpeg 411", jpegOf(false, ycc(4, 1)...)},
		{"jpeg 410", jpegOf(true, ycc(4, 2)...)},
		{"jpeg rgb", jpegOf(false, component{'R', 1, 1}, component{'G', 1, 1}, component{'B', 1, 1})},
		{"jpeg cmyk", jpegOf(false, component{1, 1, 1}, component{2, 1, 1}, component{3, 1, 1}, component{4, 1, 1})},
	}
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			for _, size := range []image.Point{{20, 12}, {21, 12}, {20, 13}, {21, 13}, {1, 1}, {70, 33}} {
				_, upright := decode(t, k.make(size.X, size.Y, 1))
				for o := 1; o <= 8; o++ {
					h, img := decode(t, k.make(size.X, size.Y, o))
					if h.Orientation != o {
						t.Fatalf("orientation %d read as %d", o, h.Orientation)
					}
					if got := imageio.Bytes(img); got != h.Bytes {
						t.Errorf("%v orientation %d: %T occupies %d bytes, the header says %d", size, o, img, got, h.Bytes)
					}
					if img.Bounds() != image.Rect(0, 0, h.Width, h.Height) {
						t.Errorf("bounds %v, header %+v", img.Bounds(), h)
					}
					same(t, img, reference(upright, o))
					if a, b := fmt.Sprintf("%T", img), fmt.Sprintf("%T", upright); a != b {
						t.Errorf("%v orientation %d: type %s, want %s", size, o, a, b)
					}
				}
			}
		})
	}
}

func TestEXIFDamage(t *testing.T) {
	base := rawJPEG(32, 16, false, component{1, 1, 1})
	for name, e := range map[string][]byte{
		"empty":           {},
		"text":            []byte("not exif at all"),
		"out of range":    exif(9, binary.LittleEndian),
		"zero":            exif(0, binary.LittleEndian),
		"cut off":         exif(6, binary.LittleEndian)[:15],
		"far directory":   []byte("II*\x00\xff\xff\xff\x7f"),
		"many entries":    []byte("MM\x00*\x00\x00\x00\x08\xff\xff"),
		"a string":        tiffFile(binary.LittleEndian, [][3]uint32{{274, 2, 6}}, nil),
		"far value":       append([]byte("II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\xff\xff\xff\xff"), 0xff, 0xff, 0xff, 0xff),
		"none of the tag": tiffFile(binary.LittleEndian, [][3]uint32{{271, 3, 6}}, nil),
	} {
		h, err := imageio.ReadHeader(jpegWithEXIF(base, e), imageio.DefaultLimits())
		if err != nil || h.Orientation != 1 {
			t.Errorf("%s: %+v, %v; want it taken as upright", name, h, err)
		}
	}
	// A LONG is not what the standard says, and is written.
	h, err := imageio.ReadHeader(jpegWithEXIF(base, tiffFile(binary.BigEndian, [][3]uint32{{274, 4, 6}}, nil)), imageio.DefaultLimits())
	if err != nil || h.Orientation != 6 || h.Width != 16 {
		t.Errorf("as LONG: %+v, %v", h, err)
	}
}

// A file that ends anywhere too early is an error, unless all that is missing
// is what nobody reads, such as a TIFF's resolution behind its directory.
func TestTruncated(t *testing.T) {
	lim := imageio.DefaultLimits()
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			for n := range len(s.data) {
				cut := s.data[:n]
				h, err := imageio.ReadHeader(cut, lim)
				if err != nil {
					continue
				}
				img, err := imageio.Decode(cut, h, lim)
				if err != nil {
					continue
				}
				if h.Format != imageio.TIFF {
					t.Fatalf("the first %d of %d bytes were decoded", n, len(s.data))
				}
				_, whole := decode(t, s.data)
				same(t, img, whole)
			}
		})
	}
}

// Whatever is changed in a file, it ends as an image of the size announced or
// as an error.
func TestCorrupt(t *testing.T) {
	lim := imageio.Limits{MaxPixels: 1 << 20}
	for _, s := range samples(t) {
		for i := 0; i < len(s.data); i += 1 + i/64 { // every byte of the header, some of the rest
			bad := bytes.Clone(s.data)
			bad[i] ^= 1 << (i % 8)
			check(t, bad, lim)
		}
	}
}

func TestLimits(t *testing.T) {
	// A PNG header that announces 60000 x 60000.
	huge := bytes.Clone(encodePNG(t, noise(1, 1)))
	ihdr := append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 60000), 60000), 8, 6, 0, 0, 0)
	copy(huge[8:], chunk("IHDR", ihdr))
	hugeGIF := bytes.Clone(encodeGIF(t, 4, 4, noisePaletted(4, 4, 4)))
	copy(hugeGIF[6:], "\xff\xff\xff\xff")
	smallScreen := bytes.Clone(encodeGIF(t, 4, 4, noisePaletted(4, 4, 4)))
	copy(smallScreen[6:], "\x03\x00\x04\x00")
	tiffOf := func(entries ...[3]uint32) []byte { return tiffFile(binary.LittleEndian, entries, make([]byte, 64)) }
	gray := func(w, h uint32, more ...[3]uint32) []byte {
		return tiffOf(append([][3]uint32{{256, 4, w}, {257, 4, h}, {258, 3, 8}, {259, 3, 1}, {262, 3, 1}}, more...)...)
	}
	tests := []struct {
		name string
		data []byte
		lim  imageio.Limits
		want string
	}{
		{"png", huge, imageio.Limits{}, "header says 60000 x 60000 = 3600 MP, the limit is 250 MP: raise limits.pixels"},
		{"few pixels", encodePNG(t, noise(11, 10)), imageio.Limits{MaxPixels: 100}, "header says 11 x 10 = 110 pixels, the limit is 100 pixels"},
		{"just over", encodePNG(t, image.NewGray(image.Rect(0, 0, 1001, 1001))), imageio.Limits{MaxPixels: 1e6}, "= 1002001 pixels, the limit is 1000000 pixels"},
		{"file size", encodePNG(t, noise(11, 10)), imageio.Limits{MaxFileBytes: 50}, "the limit is 50: raise limits.file_bytes"},
		{"gif screen", hugeGIF, imageio.Limits{}, "65535 x 65535"},
		{"gif frame", smallScreen, imageio.Limits{}, "larger than its screen"},
		{"webp", riff("VP8L", vp8l(1, 1)[:1]+"\xff\xff\xff\x0f"), imageio.Limits{}, "16384 x 16384"},
		{"tiff", gray(1<<31, 1<<31), imageio.Limits{}, "header says 2147483648 x 2147483648"},
		{"tiff nothing", gray(0, 5), imageio.Limits{}, "header says 0 x 5 pixels"},
		{"tiff tiles", gray(10, 10, [3]uint32{322, 4, 1 << 31}, [3]uint32{323, 4, 1 << 31}, [3]uint32{324, 4, 8}, [3]uint32{325, 4, 8}),
			imageio.Limits{}, "tile size says 2147483648 x 2147483648"},
		{"tiff tile fringe", gray(1000, 8, [3]uint32{322, 4, 8}, [3]uint32{323, 4, 1000}, [3]uint32{324, 4, 8}, [3]uint32{325, 4, 8}),
			imageio.Limits{MaxPixels: 10000}, "tiles together says 1000 x 1000"},
		{"tiff strips", gray(10, 1e6, [3]uint32{273, 4, 8}, [3]uint32{278, 4, 1}, [3]uint32{279, 4, 8}),
			imageio.Limits{}, "1000000 strips or tiles and a table (tag 273) for 1"},
		{"tiff no strips", gray(10, 10), imageio.Limits{}, "table (tag 273) for 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := imageio.ReadHeader(tt.data, tt.lim)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if errors.Is(err, imageio.ErrUnsupported) {
				t.Errorf("%v counts as unsupported", err)
			}
		})
	}
}

// A small file that says it is large is refused before there is room for it.
func TestTooSmallForItsPixels(t *testing.T) {
	bigPNG := bytes.Clone(encodePNG(t, opaque(noise(4, 4))))
	ihdr := append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 15000), 15000), 8, 2, 0, 0, 0)
	copy(bigPNG[8:], chunk("IHDR", ihdr))
	bigBMP := bytes.Clone(encodeBMP(t, opaque(noise(4, 4))))
	binary.LittleEndian.PutUint32(bigBMP[18:], 15000)
	binary.LittleEndian.PutUint32(bigBMP[22:], 15000)
	bigJPEG := rawJPEG(16, 16, false, component{1, 1, 1}, component{2, 1, 1}, component{3, 1, 1})
	copy(bigJPEG[bytes.Index(bigJPEG, []byte("\xff\xc0"))+5:], "\x3a\x98\x3a\x98")
	lim := imageio.DefaultLimits()
	for name, data := range map[string][]byte{"png": bigPNG, "bmp": bigBMP, "jpeg": bigJPEG} {
		h, err := imageio.ReadHeader(data, lim)
		if err != nil || h.Width != 15000 || h.Height != 15000 {
			t.Fatalf("%s: %+v, %v", name, h, err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err = imageio.Decode(data, h, lim)
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), "are too few for 15000 x 15000 pixels") {
			t.Errorf("%s: %v", name, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%s: allocated %d bytes", name, n)
		}
	}
	// What compresses best is not refused.
	decode(t, encodePNG(t, image.NewGray(image.Rect(0, 0, 1000, 1000))))
	decode(t, encodeJPEG(t, image.NewGray(image.Rect(0, 0, 1000, 1000))))
}

func TestUnsupported(t *testing.T) {
	rgb := encodeTIFF(t, opaque(noise(4, 4)), tiff.Uncompressed)
	// x/image/tiff writes entries of 12 bytes; find one and change its value.
	change := func(tag, value uint16) []byte {
		b := bytes.Clone(rgb)
		at := int(binary.LittleEndian.Uint32(b[4:]))
		for i := range int(binary.LittleEndian.Uint16(b[at:])) {
			if e := b[at+2+12*i:]; binary.LittleEndian.Uint16(e) == tag {
				binary.LittleEndian.PutUint16(e[8:], value)
				return b
			}
		}
		// Not there: turn ResolutionUnit (296), which comes later and is of no
		// use to anybody, into it, or YResolution (283) before that.
		for i := range int(binary.LittleEndian.Uint16(b[at:])) {
			e := b[at+2+12*i:]
			if got := binary.LittleEndian.Uint16(e); got == 296 && tag > 283 || got == 283 && tag < 283 {
				binary.LittleEndian.PutUint16(e, tag)
				binary.LittleEndian.PutUint16(e[2:], 3)
				binary.LittleEndian.PutUint32(e[4:], 1)
				binary.LittleEndian.PutUint32(e[8:], uint32(value))
				return b
			}
		}
		t.Fatalf("no room for tag %d", tag)
		return nil
	}
	for name, data := range map[string][]byte{
		"avif":                 []byte("\x00\x00\x00\x1cftypavif\x00\x00\x00\x00"),
		"heic":                 []byte("\x00\x00\x00\x18ftypheic\x00\x00\x00\x00"),
		"jxl":                  []byte("\xff\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		"jxl container":        []byte("\x00\x00\x00\x0cJXL \r\n\x87\n\x00\x00\x00\x00"),
		"bigtiff":              []byte("II+\x00\x08\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00"),
		"animated webp":        animatedWebP,
		"jpeg with 12 bits":    bytes.Replace(rawJPEG(8, 8, false, component{1, 1, 1}), []byte("\xff\xc0\x00\x0b\x08"), []byte("\xff\xc1\x00\x0b\x0c"), 1),
		"jpeg lossless":        bytes.Replace(rawJPEG(8, 8, false, component{1, 1, 1}), []byte("\xff\xc0"), []byte("\xff\xc3"), 1),
		"tiff separate planes": change(284, 2),
		"tiff compression":     change(259, 7),
		"tiff predictor":       change(317, 3),
	} {
		_, err := imageio.ReadHeader(data, imageio.DefaultLimits())
		if !errors.Is(err, imageio.ErrUnsupported) || !strings.Contains(err.Error(), "convert it to PNG or JPEG first") {
			t.Errorf("%s: got %v, want ErrUnsupported", name, err)
		}
	}
}

// A progressive JPEG of thousands of scans keeps a decoder busy for hours.
func TestTooManyScans(t *testing.T) {
	data := rawJPEG(16, 16, true, component{1, 1, 1})
	at := bytes.Index(data, []byte("\xff\xda"))
	bomb := slices.Concat(data[:at], bytes.Repeat(data[at:len(data)-2], 600), data[len(data)-2:])
	lim := imageio.DefaultLimits()
	h, err := imageio.ReadHeader(bomb, lim)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := imageio.Decode(bomb, h, lim); err == nil || !strings.Contains(err.Error(), "scans") {
		t.Errorf("got %v", err)
	}
}

// image/jpeg leaves a component that never comes at zero, which shows as green.
func TestMissingComponent(t *testing.T) {
	data := rawJPEG(16, 16, false, component{1, 1, 1}, component{2, 1, 1}, component{3, 1, 1})
	// The scan names component 1 only.
	at := bytes.Index(data, []byte("\xff\xda"))
	bad := slices.Concat(data[:at], segment(0xda, []byte{1, 1, 0, 0, 63, 0}), data[at+14:])
	lim := imageio.DefaultLimits()
	h, err := imageio.ReadHeader(bad, lim)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := imageio.Decode(bad, h, lim); err == nil || !strings.Contains(err.Error(), "component 2 has no scan") {
		t.Errorf("got %v", err)
	}
}

func TestDecodeChecksHeader(t *testing.T) {
	data := encodePNG(t, noise(4, 5))
	lim := imageio.DefaultLimits()
	h, err := imageio.ReadHeader(data, lim)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := imageio.Decode(encodePNG(t, noise(5, 5)), h, lim); err == nil || !strings.Contains(err.Error(), "changed") {
		t.Errorf("another file: %v", err)
	}
	if _, err := imageio.Decode(data, imageio.Header{}, lim); err == nil {
		t.Error("an empty header was taken")
	}
	if _, err := imageio.Decode(data, h, imageio.Limits{MaxPixels: 19}); err == nil {
		t.Error("a limit was passed over")
	}
}

func TestNotAnImage(t *testing.T) {
	for name, data := range map[string][]byte{"empty": nil, "text": []byte("hello, world, this is text"), "short": {0xff, 0xd8}} {
		if _, err := imageio.ReadHeader(data, imageio.DefaultLimits()); err == nil {
			t.Errorf("%s was taken for an image", name)
		}
	}
}

func TestKnownExtension(t *testing.T) {
	for _, name := range []string{"a.jpg", "b/A.JPEG", "x.jfif", "x.jpe", "x.png", "x.gif", "x.webp", "x.bmp", "x.tif", "x.TIFF", "x.avif", "x.heic", "x.heif", "x.jxl"} {
		if !imageio.KnownExtension(name) {
			t.Errorf("%s is not known", name)
		}
	}
	for _, name := range []string{"", "jpg", "a.txt", "a.jpg.txt", "a.png/b", "a."} {
		if imageio.KnownExtension(name) {
			t.Errorf("%s is known", name)
		}
	}
}

// DecodePeak covers what the standard library really takes, of a progressive file
// all its coefficients beside its pixels, and not much more: half as much again
// for libturbojpeg's.
func TestPeakOfProgressive(t *testing.T) {
	defer imageio.WithoutLibrary()()
	c := []component{{1, 2, 2}, {2, 1, 1}, {3, 1, 1}}
	lim := imageio.DefaultLimits()
	for _, progressive := range []bool{false, true} {
		data := rawJPEG(512, 512, progressive, c...)
		h, err := imageio.ReadHeader(data, lim)
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := imageio.Decode(data, h, lim); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		took := int64(after.TotalAlloc - before.TotalAlloc)
		if took < h.DecodePeak*7/10 || took > h.DecodePeak {
			t.Errorf("progressive %v: allocated %d, DecodePeak says %d", progressive, took, h.DecodePeak)
		}
	}
}

func TestEncodePNG(t *testing.T) {
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			_, img := decode(t, s.data)
			var first bytes.Buffer
			if err := imageio.EncodePNG(&first, img, imageio.PNGOptions{}); err != nil {
				t.Fatal(err)
			}
			var again bytes.Buffer
			if err := imageio.EncodePNG(&again, img, imageio.PNGOptions{}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(first.Bytes(), again.Bytes()) {
				t.Error("other bytes for the same pixels")
			}
			_, back := decode(t, first.Bytes())
			same(t, back, img)

			// A crop gives its own pixels.
			crop := image.Rect(0, 0, img.Bounds().Dx(), img.Bounds().Dy())
			if crop.Dx() > 8 {
				crop = image.Rect(3, 2, crop.Dx()-1, crop.Dy()-2)
			}
			type subImager interface {
				SubImage(image.Rectangle) image.Image
			}
			first.Reset()
			if err := imageio.EncodePNG(&first, img.(subImager).SubImage(crop), imageio.PNGOptions{}); err != nil {
				t.Fatal(err)
			}
			_, back = decode(t, first.Bytes())
			same(t, back, img.(subImager).SubImage(crop))
		})
	}
	if err := imageio.EncodePNG(&bytes.Buffer{}, image.NewGray(image.Rect(0, 0, 0, 5)), imageio.PNGOptions{}); err == nil {
		t.Error("an empty image was encoded")
	}
	failed := errors.New("disk full")
	if err := imageio.EncodePNG(failing{failed}, noise(300, 300), imageio.PNGOptions{}); !errors.Is(err, failed) {
		t.Errorf("a failed write: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// The kind of PNG: 16 bits, gray and missing alpha are kept.
func TestEncodePNGKeepsType(t *testing.T) {
	for _, s := range samples(t) {
		if !strings.HasPrefix(s.name, "png") && !strings.HasPrefix(s.name, "jpeg") || strings.Contains(s.name, "tRNS") {
			continue
		}
		_, img := decode(t, s.data)
		var b bytes.Buffer
		if err := imageio.EncodePNG(&b, img, imageio.PNGOptions{}); err != nil {
			t.Fatal(err)
		}
		c, err := png.DecodeConfig(&b)
		if err != nil {
			t.Fatal(err)
		}
		want := img.ColorModel()
		if _, ok := want.(color.Palette); !ok && c.ColorModel != want {
			t.Errorf("%s: %T came back with another colour model", s.name, img)
		}
	}
}

func TestLuma(t *testing.T) {
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			_, whole := decode(t, s.data)
			type subImager interface {
				SubImage(image.Rectangle) image.Image
			}
			b := whole.Bounds()
			img := whole.(subImager).SubImage(image.Rect(b.Dx()/4, b.Dy()/4, b.Dx(), b.Dy()))
			b = img.Bounds()
			luma := imageio.NewLuma(img)
			row := make([]int32, b.Dx()+3)
			row[b.Dx()] = -1
			for y := range b.Dy() {
				luma.Row(row[:b.Dx()], 0, y)
				right := make([]int32, b.Dx()/2)
				if luma.Row(right, b.Dx()-len(right), y); !slices.Equal(right, row[b.Dx()-len(right):b.Dx()]) {
					t.Fatalf("the right half of row %d is not that of the whole row", y)
				}
				for x := range b.Dx() {
					var want float64
					switch m := img.(type) {
					case *image.YCbCr:
						want = float64(m.YCbCrAt(b.Min.X+x, b.Min.Y+y).Y)
					case *image.NYCbCrA:
						want = float64(m.NYCbCrAAt(b.Min.X+x, b.Min.Y+y).Y)
					default:
						var r, g, bl float64
						switch c := img.At(b.Min.X+x, b.Min.Y+y).(type) {
						case color.NRGBA:
							r, g, bl = float64(c.R)*257, float64(c.G)*257, float64(c.B)*257
						case color.NRGBA64:
							r, g, bl = float64(c.R), float64(c.G), float64(c.B)
						default:
							r16, g16, b16, _ := c.RGBA()
							r, g, bl = float64(r16), float64(g16), float64(b16)
						}
						want = (0.299*r + 0.587*g + 0.114*bl) / 257
					}
					if got := 255 * float64(row[x]) / float64(luma.White); math.Abs(got-want) > 1e-9 {
						t.Fatalf("at %d,%d: %v, want %v", x, y, got, want)
					}
				}
			}
			if row[b.Dx()] != -1 {
				t.Error("it wrote beyond the row")
			}
		})
	}
	white := image.NewRGBA(image.Rect(0, 0, 1, 1))
	draw.Draw(white, white.Rect, image.White, image.Point{}, draw.Src)
	row, luma := make([]int32, 1), imageio.NewLuma(white)
	if luma.Row(row, 0, 0); row[0] != luma.White || luma.White != 255_000 {
		t.Errorf("white is %d of %d", row[0], luma.White)
	}
}

func TestNames(t *testing.T) {
	if d := imageio.Decoder(); !strings.Contains(d, "image/jpeg go1.") || !strings.Contains(d, "; x/image ") {
		t.Errorf("Decoder() = %q", d)
	}
	if e := imageio.Encoder(); !strings.Contains(e, "png 2 runs up") {
		t.Errorf("Encoder() = %q", e)
	}
}

func BenchmarkEncodePNG(b *testing.B) {
	m := as(image.NewRGBA(image.Rect(0, 0, 512, 512)), opaque(noise(512, 512)))
	b.ReportAllocs()
	for b.Loop() {
		if err := imageio.EncodePNG(io.Discard, m, imageio.PNGOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTurn(b *testing.B) {
	data := jpegWithEXIF(rawJPEG(2048, 2048, false, component{1, 2, 2}, component{2, 1, 1}, component{3, 1, 1}), exif(6, binary.LittleEndian))
	lim := imageio.DefaultLimits()
	h, err := imageio.ReadHeader(data, lim)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := imageio.Decode(data, h, lim); err != nil {
			b.Fatal(err)
		}
	}
}
