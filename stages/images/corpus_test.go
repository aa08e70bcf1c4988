package images_test

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/images"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/tile"
	"github.com/forgepipe/forgepipe/stages/write"
)

const testdata = "../../testdata"

// fromFolder is a pipeline that begins with the images of a folder.
func fromFolder(t *testing.T, folder string, steps ...stagetest.Step) *stagetest.Bench {
	t.Helper()
	b := stagetest.New(t, nil, steps...)
	if err := b.UseSource(t.Context(), pipeline.NewRegistry(images.Info()), "images", map[string]any{"path": folder}); err != nil {
		t.Fatal(err)
	}
	return b
}

// readJSON reads one of the files that testdata/make.py describes.
func readJSON(t *testing.T, name string, to any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(testdata, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, to); err != nil {
		t.Fatal(err)
	}
}

// expected is what testdata/make.py says of a file in testdata/formats.
type expected struct {
	Width, Height int
	Mode          string // gray, rgb, rgba
	Bits          int
	ICC           string
	SHA256        string
	Pixels        string
	Most          float64
	Mean          *float64
}

// Every kind of file comes out of a pipeline as it went in: upright, with its
// bits, its alpha and its profile, and exact where its format is.
func TestFormats(t *testing.T) {
	var files map[string]expected
	readJSON(t, "formats/expected.json", &files)
	out := t.TempDir()
	// The pictures are smaller than a tile, so each becomes one tile, which has to
	// be encoded where the file as it is would be copied.
	b := fromFolder(t, testdata+"/formats",
		stagetest.Step{Info: tile.Info(), Values: map[string]any{"size": 64, "edge": "partial"}},
		stagetest.Step{Info: write.Info(), Values: map[string]any{"path": out, "format": "png"}},
	)
	s, seen := b.Run(t, pipeline.RunOptions{StateDir: t.TempDir()})
	if s.In != int64(len(files)) || s.Out != s.In || s.Quarantined != 0 {
		t.Errorf("in %d, out %d, failed %v; want %d files, all of them out", s.In, s.Out, s.Failed, len(files))
	}
	for id, it := range seen {
		name, _, _ := strings.Cut(id, "@")
		t.Run(name, func(t *testing.T) {
			want, ok := files[name]
			if !ok || len(it.Outputs) != 1 {
				t.Fatalf("expected: %v; outputs %q", ok, it.Outputs)
			}
			want.check(t, "decoded", it.Image)
			data, err := os.ReadFile(it.Outputs[0])
			if err != nil {
				t.Fatal(err)
			}
			written, err := png.Decode(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			want.check(t, "written", written)
			want.checkHeader(t, data)
		})
	}
}

// check compares pixels.
func (want *expected) check(t *testing.T, what string, img image.Image) {
	t.Helper()
	if img == nil {
		t.Fatalf("%s: no picture", what)
	}
	if size := img.Bounds().Size(); size != image.Pt(want.Width, want.Height) {
		t.Fatalf("%s: %v, want %d x %d, upright", what, size, want.Width, want.Height)
	}
	got := samples(img, want.Bits)
	if want.SHA256 != "" {
		if sum := sha256.Sum256(got); hex.EncodeToString(sum[:]) != want.SHA256 {
			t.Errorf("%s as %T: the pixels are not exact", what, img)
		}
		return
	}
	f, err := os.Open(filepath.Join(testdata, "formats-pixels", want.Pixels))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	reference, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	most, sum := 0.0, 0.0
	for i, v := range samples(reference, 8) {
		d := float64(max(v, got[i]) - min(v, got[i]))
		most, sum = max(most, d), sum+d
	}
	mean := sum / float64(len(got))
	if most > want.Most {
		t.Errorf("%s as %T: a sample is %g from Pillow's, want at most %g (the mean is %.2f)", what, img, most, want.Most, mean)
	}
	if want.Mean != nil && mean > *want.Mean {
		t.Errorf("%s as %T: samples are on average %.2f from Pillow's, want at most %g", what, img, mean, *want.Mean)
	}
}

// samples are the pixels as R, G, B and A, not multiplied by alpha, in 8 bits or
// in 16, big endian.
func samples(img image.Image, bits int) []byte {
	var out []byte
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			var v [4]uint16
			switch c := img.At(x, y).(type) {
			case color.NRGBA:
				v = [4]uint16{uint16(c.R) * 257, uint16(c.G) * 257, uint16(c.B) * 257, uint16(c.A) * 257}
			case color.NRGBA64:
				v = [4]uint16{c.R, c.G, c.B, c.A}
			case color.NYCbCrA: // its colours survive where nothing is to be seen
				r, g, b := color.YCbCrToRGB(c.Y, c.Cb, c.Cr)
				v = [4]uint16{uint16(r) * 257, uint16(g) * 257, uint16(b) * 257, uint16(c.A) * 257}
			default:
				c64 := color.NRGBA64Model.Convert(c).(color.NRGBA64)
				v = [4]uint16{c64.R, c64.G, c64.B, c64.A}
			}
			for _, s := range v {
				if bits == 16 {
					out = binary.BigEndian.AppendUint16(out, s)
				} else {
					out = append(out, byte(s>>8))
				}
			}
		}
	}
	return out
}

// checkHeader looks at how a PNG was written.
func (want *expected) checkHeader(t *testing.T, data []byte) {
	t.Helper()
	chunks := pngChunks(t, data)
	bits, colour := int(chunks["IHDR"][8]), chunks["IHDR"][9]
	if (bits == 16) != (want.Bits == 16) {
		t.Errorf("written with %d bits, want %d", bits, want.Bits)
	}
	// 0 is gray, 2 RGB, 3 a palette, 4 gray with alpha, 6 RGB with alpha.
	if allowed := map[string][]byte{"gray": {0}, "rgb": {2, 3}, "rgba": {3, 4, 6}}[want.Mode]; !slices.Contains(allowed, colour) {
		t.Errorf("written with colour type %d, want one of %d", colour, allowed)
	}
	icc := ""
	if c, ok := chunks["iCCP"]; ok {
		_, rest, _ := bytes.Cut(c, []byte{0})
		z, err := zlib.NewReader(bytes.NewReader(rest[1:]))
		if err != nil {
			t.Fatal(err)
		}
		profile, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		icc = fmt.Sprintf("%x", sha256.Sum256(profile))
	}
	if icc != want.ICC {
		t.Errorf("written with the profile %.8q, want %.8q", icc, want.ICC)
	}
}

// pngChunks are the first chunks of each kind.
func pngChunks(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	chunks := map[string][]byte{}
	for at := 8; at+12 <= len(data); {
		n := int(binary.BigEndian.Uint32(data[at:]))
		if kind := string(data[at+4 : at+8]); chunks[kind] == nil {
			chunks[kind] = data[at+8 : at+8+n]
		}
		at += 12 + n
	}
	return chunks
}

// Every broken file is quarantined with its cause, and nothing else comes of it.
func TestBrokenFiles(t *testing.T) {
	const unsupported = "not supported yet"
	causes := map[string]string{
		"empty.png": "the file is empty", "folder.png": "it is a folder", "text.jpg": "not an image", "error-page.jpg": "not an image",
		"truncated.bmp": "truncated", "truncated.gif": "truncated", "truncated.jpg": "truncated", "truncated.png": "truncated", "truncated.tif": "truncated", "truncated.webp": "truncated",
		"truncated-header.bmp": "truncated", "truncated-header.gif": "truncated", "truncated-header.jpg": "truncated", "truncated-header.png": "truncated",
		"truncated-header.tif": "truncated", "truncated-header.webp": "truncated", "truncated-progressive.jpg": "truncated",
		"wrong-crc.png": "checksum", "wrong-depth.png": "bit depth 7", "more-than-said.png": "too much pixel data", "less-than-said.png": "not enough pixel data", "no-data.png": "",
		"huge.png": "60000 x 60000", "huge.gif": "65535 x 65535", "huge.jpg": "65535 x 65535", "huge-tiles.tif": "limits.pixels", "huge.bmp": "",
		"no-width.png": "0 x 48", "no-size.gif": "0 x 0", "no-height.jpg": "65535 x 0", "no-table.jpg": "",
		"directory-outside.tif": "truncated", "unknown-chunk.webp": "", "scans.jpg": "scans",
		"unsupported.avif": "avif is " + unsupported, "unsupported.heic": "heic is " + unsupported, "unsupported.jxl": "jxl is " + unsupported, "unsupported-stream.jxl": "jxl is " + unsupported,
		"animated.webp": "an animation: " + unsupported, "rle.bmp": unsupported, "jpeg-inside.tif": "compression 7: " + unsupported, "cmyk.tif": unsupported,
	}
	var names []string
	entries, err := os.ReadDir(testdata + "/broken")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, slices.Sorted(maps.Keys(causes))) {
		t.Errorf("the table and the folder differ:\n%q\n%q", slices.Sorted(maps.Keys(causes)), names)
	}
	out := t.TempDir()
	b := fromFolder(t, testdata+"/broken", stagetest.Step{Info: write.Info(), Values: map[string]any{"path": out, "format": "png"}})
	s, seen := b.Run(t, pipeline.RunOptions{StateDir: t.TempDir()})
	if n := int64(len(causes)); s.In != n || s.Quarantined != n || s.Out != 0 || len(seen) != 0 || s.Ignored != 1 {
		t.Errorf("in %d, quarantined %d, out %d (%q), ignored %d; want %d quarantined", s.In, s.Quarantined, s.Out, stagetest.IDs(seen), s.Ignored, n)
	}
	got := b.Messages(pipeline.EventFailed)
	for name, want := range causes {
		if cause := got[name]; cause == "" || !strings.Contains(cause, want) || strings.Contains(cause, "panic") {
			t.Errorf("%s failed with %q, want %q", name, cause, want)
		}
	}
	err = filepath.WalkDir(out, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			t.Errorf("%s was written", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// The near-duplicates are what their description says, for the tests that
// compare pictures.
func TestDuplicatesAreAsDescribed(t *testing.T) {
	var described struct {
		Files map[string]struct {
			SHA256 string `json:"sha256"`
		}
	}
	readJSON(t, "duplicates/expected.json", &described)
	_, seen := fromFolder(t, testdata+"/duplicates").Run(t, pipeline.RunOptions{})
	if got, want := stagetest.IDs(seen), slices.Sorted(maps.Keys(described.Files)); !slices.Equal(got, want) {
		t.Errorf("images %q\nwant   %q", got, want)
	}
	for name, f := range described.Files {
		data, err := os.ReadFile(filepath.Join(testdata, "duplicates", name))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(data)); got != f.SHA256 {
			t.Errorf("%s has the hash %s, want %s: run testdata/make.py", name, got, f.SHA256)
		}
	}
}
