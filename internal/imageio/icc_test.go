package imageio_test

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"image"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

// profile is the least that passes for one: noise, and zeros when it is long.
func profile(size int, space string) []byte {
	p := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size)}).Read(p[:min(size, 200000)])
	binary.BigEndian.PutUint32(p, uint32(size))
	copy(p[16:], space)
	copy(p[36:], "acsp")
	return p
}

func deflated(p []byte) string {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	w.Write(p)
	w.Close()
	return b.String()
}

func TestICCProfile(t *testing.T) {
	rgb, gray := profile(1000, "RGB "), profile(600, "GRAY")
	base := rawJPEG(16, 16, false, component{1, 1, 1}, component{2, 1, 1}, component{3, 1, 1})
	grayBase := rawJPEG(16, 16, false, component{1, 1, 1})
	part := func(number, of byte, p []byte) []byte {
		return segment(0xe2, append([]byte{'I', 'C', 'C', '_', 'P', 'R', 'O', 'F', 'I', 'L', 'E', 0, number, of}, p...))
	}
	with := func(data []byte, segments ...[]byte) []byte {
		return slices.Concat(data[:2], slices.Concat(segments...), data[2:])
	}
	rgbPNG, grayPNG := encodePNG(t, opaque(noise(4, 4))), encodePNG(t, image.NewGray(image.Rect(0, 0, 4, 4)))
	iccp := func(data []byte, head string, p []byte) []byte {
		return pngWith(data, "iCCP", []byte(head+deflated(p)))
	}
	wrong := func(at int, b byte) []byte {
		p := bytes.Clone(rgb)
		p[at] = b
		return p
	}
	// A TIFF's profile lies behind its directory's entry of type UNDEFINED.
	tiffWith := func(photometric uint32, p []byte, count int) []byte {
		data := tiffFile(binary.LittleEndian, [][3]uint32{{262, 3, photometric}, {34675, 7, 8}}, p)
		at := bytes.Index(data[8+len(p):], []byte{0x73, 0x87}) + 8 + len(p)
		binary.LittleEndian.PutUint32(data[at+4:], uint32(count))
		return data
	}
	cmyk := rawJPEG(16, 16, false, component{1, 1, 1}, component{2, 1, 1}, component{3, 1, 1}, component{4, 1, 1})
	for _, tt := range []struct {
		name string
		data []byte
		want []byte
	}{
		{"jpeg", with(base, part(1, 1, rgb)), rgb},
		{"jpeg in parts", with(base, part(1, 3, rgb[:300]), part(2, 3, rgb[300:301]), part(3, 3, rgb[301:])), rgb},
		{"jpeg in shuffled parts", with(base, part(3, 3, rgb[301:]), part(1, 3, rgb[:300]), part(2, 3, rgb[300:301])), rgb},
		{"jpeg with a part missing", with(base, part(1, 3, rgb[:300]), part(3, 3, rgb[300:])), nil},
		{"jpeg with a part twice", with(base, part(1, 2, rgb[:300]), part(1, 2, rgb[:300]), part(2, 2, rgb[300:])), nil},
		{"jpeg with the whole twice", with(base, part(1, 2, rgb), part(1, 2, rgb)), nil},
		{"jpeg with counts that differ", with(base, part(1, 2, rgb[:300]), part(2, 3, rgb[300:])), nil},
		{"jpeg with part 0", with(base, part(0, 1, rgb)), nil},
		{"jpeg with a part beyond", with(base, part(2, 1, rgb)), nil},
		{"jpeg gray", with(grayBase, part(1, 1, gray)), gray},
		{"jpeg gray with a colour profile", with(grayBase, part(1, 1, rgb)), nil},
		{"jpeg with a gray profile", with(base, part(1, 1, gray)), nil},
		{"jpeg cmyk", with(cmyk, part(1, 1, profile(500, "CMYK"))), nil},
		{"jpeg after the scan", slices.Concat(base[:len(base)-2], part(1, 1, rgb), base[len(base)-2:]), nil},
		{"too short", with(base, part(1, 1, profile(131, "RGB "))), nil},
		{"padded", with(base, part(1, 1, append(bytes.Clone(rgb), 0, 0, 0))), rgb},
		{"larger than it is", with(base, part(1, 1, wrong(2, 9))), nil},
		{"no signature", with(base, part(1, 1, wrong(36, 'x'))), nil},
		{"png", iccp(rgbPNG, "sRGB\x00\x00", rgb), rgb},
		{"png gray", iccp(grayPNG, "x\x00\x00", gray), gray},
		{"png gray with a transparent value", pngWith(iccp(grayPNG, "x\x00\x00", gray), "tRNS", []byte{0, 1}), nil},
		{"png with another method", iccp(rgbPNG, "x\x00\x01", rgb), nil},
		{"png without a name", iccp(rgbPNG, "\x00\x00", rgb), nil},
		{"png with a broken stream", pngWith(rgbPNG, "iCCP", []byte("x\x00\x00"+deflated(rgb)[:200])), nil},
		{"png that inflates beyond", iccp(rgbPNG, "x\x00\x00", profile(4<<20+1, "RGB ")), nil},
		{"png of 4 MiB", iccp(rgbPNG, "x\x00\x00", profile(4<<20, "RGB ")), profile(4<<20, "RGB ")},
		{"webp", riff("VP8X", "\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00", "ICCP", string(rgb), "VP8L", vp8l(1, 1)), rgb},
		{"webp with a gray profile", riff("ICCP", string(gray), "VP8L", vp8l(1, 1)), nil},
		{"tiff", tiffWith(2, rgb, len(rgb)), rgb},
		{"tiff gray", tiffWith(1, gray, len(gray)), gray},
		{"tiff with a palette", tiffWith(3, rgb, len(rgb)), rgb},
		{"tiff beyond its end", tiffWith(2, rgb, len(rgb)+1e6), nil},
		{"gif", encodeGIF(t, 4, 4, noisePaletted(4, 4, 4)), nil},
		{"text", []byte("no image at all, but text"), nil},
		{"nothing", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := imageio.ICCProfile(tt.data); !bytes.Equal(got, tt.want) || (got == nil) != (tt.want == nil) {
				t.Errorf("%d bytes, want %d", len(got), len(tt.want))
			}
		})
	}
}
