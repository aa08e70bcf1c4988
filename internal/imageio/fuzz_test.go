package imageio_test

import (
	"bytes"
	"encoding/binary"
	"image"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/image/tiff"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

// seeds are small good files of every format, with every feature that has code
// of its own.
func seeds(t testing.TB) [][]byte {
	t.Helper()
	var all [][]byte
	for _, s := range samples(t) {
		all = append(all, s.data)
	}
	for _, pattern := range []string{"testdata/jpeg/*.jpg", "testdata/files/*"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatal(pattern, err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := imageio.Sniff(data); ok {
				all = append(all, data)
			}
		}
	}
	return append(all, animatedWebP,
		jpegWithEXIF(rawJPEG(8, 8, false, component{1, 1, 1}), exif(6, binary.LittleEndian)),
		tiffWithOrientation(encodeTIFF(t, noise(3, 2), tiff.Deflate), 5),
		pngWith(encodePNG(t, noise(3, 2)), "eXIf", exif(8, binary.BigEndian)))
}

// check reads a file of which nothing is known, by every door.
func check(t *testing.T, data []byte, lim imageio.Limits) {
	t.Helper()
	imageio.ICCProfile(data)
	h, err := imageio.ReadHeader(data, lim)
	if err != nil {
		return
	}
	if h.Width <= 0 || h.Height <= 0 || int64(h.Width)*int64(h.Height) > lim.MaxPixels || h.Bytes <= 0 || h.DecodePeak < h.Bytes {
		t.Fatalf("header %+v", h)
	}
	img, err := imageio.Decode(data, h, lim)
	if (img == nil) != (err != nil) {
		t.Fatalf("image %v and error %v", img, err)
	}
	if err == nil && (img.Bounds() != image.Rect(0, 0, h.Width, h.Height) || imageio.Bytes(img) != h.Bytes) {
		t.Fatalf("%T of %v in %d bytes, header %+v", img, img.Bounds(), imageio.Bytes(img), h)
	}
	if h.Format != imageio.JPEG {
		return
	}
	least := image.Pt((h.Width+2)/3, (h.Height+2)/3)
	small, err := imageio.DecodeScaled(data, h, lim, least)
	if err == nil && (small.Bounds().Dx() < least.X || small.Bounds().Dy() < least.Y) {
		t.Fatalf("scaled to %v, at least %v was asked of %+v", small.Bounds(), least, h)
	}
}

func FuzzHeader(f *testing.F) {
	for _, data := range seeds(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		lim := imageio.Limits{MaxPixels: 1 << 16, MaxFileBytes: 1 << 20}
		h, err := imageio.ReadHeader(data, lim)
		if err == nil && (h.Width <= 0 || h.Height <= 0 || h.Width*h.Height > 1<<16 || h.Bytes <= 0 || h.DecodePeak < h.Bytes ||
			h.Orientation < 1 || h.Orientation > 8) {
			t.Errorf("header %+v", h)
		}
		if len(data) > 16 {
			a, ok := imageio.Sniff(data)
			if b, ok2 := imageio.Sniff(data[:16]); a != b || ok != ok2 {
				t.Errorf("16 bytes were not enough: %q and %q", a, b)
			}
		}
	})
}

// FuzzDecode goes through libturbojpeg, where there is one, and the standard
// library.
func FuzzDecode(f *testing.F) {
	for _, data := range seeds(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		lim := imageio.Limits{MaxPixels: 1 << 16, MaxFileBytes: 1 << 20}
		check(t, data, lim)
		if f, _ := imageio.Sniff(data); f == imageio.JPEG {
			defer imageio.WithoutLibrary()()
			check(t, data, lim)
		}
	})
}

// FuzzEXIF puts the data where EXIF stands in each format that has it.
func FuzzEXIF(f *testing.F) {
	for o := range 10 {
		f.Add(exif(o, binary.LittleEndian))
		f.Add(append([]byte("Exif\x00\x00"), exif(o, binary.BigEndian)...))
	}
	f.Add(tiffFile(binary.BigEndian, [][3]uint32{{274, 4, 6}, {34675, 7, 8}}, make([]byte, 20)))
	base, small := rawJPEG(8, 16, false, component{1, 1, 1}), encodePNG(f, noise(2, 1))
	lossless := vp8l(2, 1)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 60000 {
			return
		}
		var orientation [3]int
		for i, file := range [][]byte{jpegWithEXIF(base, data), pngWith(small, "eXIf", data), riff("VP8L", lossless, "EXIF", string(data))} {
			h, err := imageio.ReadHeader(file, imageio.DefaultLimits())
			if err != nil || h.Orientation < 1 || h.Orientation > 8 {
				t.Fatalf("damaged EXIF must not matter: %+v, %v", h, err)
			}
			orientation[i] = h.Orientation
			check(t, file, imageio.Limits{MaxPixels: 1 << 16, MaxFileBytes: 1 << 20})
		}
		// JPEG's own prefix comes first there, so that a second one is too many.
		if orientation[1] != orientation[2] {
			t.Errorf("orientations %v", orientation)
		}
		if _, ok := imageio.Sniff(data); ok { // a TIFF
			check(t, data, imageio.Limits{MaxPixels: 1 << 16, MaxFileBytes: 1 << 20})
		}
	})
}

// FuzzICC puts the data where the profile stands in each format that has one.
func FuzzICC(f *testing.F) {
	f.Add(profile(300, "RGB "), byte(1), byte(1))
	f.Add(profile(300, "GRAY"), byte(2), byte(3))
	f.Add([]byte(deflated(profile(300, "RGB "))), byte(0), byte(0))
	base, small := rawJPEG(8, 16, false, component{1, 1, 1}, component{2, 1, 1}, component{3, 1, 1}), encodePNG(f, opaque(noise(2, 1)))
	lossless := vp8l(2, 1)
	f.Fuzz(func(t *testing.T, data []byte, number, of byte) {
		if len(data) > 60000 {
			return
		}
		part := segment(0xe2, append([]byte{'I', 'C', 'C', '_', 'P', 'R', 'O', 'F', 'I', 'L', 'E', 0, number, of}, data...))
		for _, file := range [][]byte{
			bytes.Join([][]byte{base[:2], part, base[2:]}, nil),
			bytes.Join([][]byte{base[:2], part, part, base[2:]}, nil),
			pngWith(small, "iCCP", data),
			pngWith(small, "iCCP", append([]byte("x\x00\x00"), data...)),
			riff("VP8L", lossless, "ICCP", string(data)),
			data,
		} {
			icc := imageio.ICCProfile(file)
			if icc == nil {
				continue
			}
			if len(icc) < 132 || len(icc) > 4<<20 || string(icc[36:40]) != "acsp" || int(binary.BigEndian.Uint32(icc)) != len(icc) {
				t.Errorf("%d bytes pass for a profile", len(icc))
			}
		}
	})
}
