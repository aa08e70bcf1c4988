package imageio_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

// bothDecoders runs a test through libturbojpeg, where there is one, and through
// the standard library.
func bothDecoders(t *testing.T, test func(t *testing.T, library bool)) {
	t.Helper()
	t.Run("libturbojpeg", func(t *testing.T) {
		needLibrary(t)
		test(t, true)
	})
	t.Run("image/jpeg", func(t *testing.T) {
		defer imageio.WithoutLibrary()()
		test(t, false)
	})
}

func needLibrary(t testing.TB) {
	t.Helper()
	if _, _, err := imageio.JPEGLibrary(); err != nil {
		t.Skip(err)
	}
}

func readFile(t testing.TB, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// golden reads a picture that testdata/jpeg/make.py had Pillow decode.
func golden(t testing.TB, name string) image.Image {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(readFile(t, "testdata", "jpeg", name+".png")))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// apart is by how many levels two pictures of 8 bits differ at most, and on
// average.
func apart(t testing.TB, a, b image.Image) (most int, mean float64) {
	t.Helper()
	if a.Bounds() != b.Bounds() {
		t.Fatalf("bounds %v and %v", a.Bounds(), b.Bounds())
	}
	sum := 0
	p, q := rgb8(a), rgb8(b)
	for i, v := range p {
		d := int(max(v, q[i]) - min(v, q[i]))
		most = max(most, d)
		sum += d
	}
	return most, float64(sum) / float64(len(p))
}

// rgb8 is red, green and blue of every pixel, as Pillow's convert("RGB") gives
// them.
func rgb8(img image.Image) []byte {
	b := img.Bounds()
	out := make([]byte, 0, 3*b.Dx()*b.Dy())
	switch m := img.(type) {
	case *image.RGBA:
		for i := 0; i < len(m.Pix); i += 4 {
			out = append(out, m.Pix[i], m.Pix[i+1], m.Pix[i+2])
		}
	case *image.Gray:
		for _, v := range m.Pix {
			out = append(out, v, v, v)
		}
	default:
		for y := b.Min.Y; y < b.Max.Y; y++ {
			for x := b.Min.X; x < b.Max.X; x++ {
				r, g, bl, _ := img.At(x, y).RGBA()
				out = append(out, byte(r>>8), byte(g>>8), byte(bl>>8))
			}
		}
	}
	return out
}

func TestJPEGEqualsPillow(t *testing.T) {
	// What the standard library may be off by: its inverse transform and its
	// conversion to RGB round otherwise, and YCCK chroma is not interpolated.
	tolerance := map[string]int{"ycck420": 255}
	for _, name := range []string{
		"444", "422", "420", "440", "411", "410", "narrow", "gray", "progressive", "restart", "rgb",
		"cmyk", "ycck", "ycck420",
	} {
		t.Run(name, func(t *testing.T) {
			data := readFile(t, "testdata", "jpeg", name+".jpg")
			want := golden(t, name)
			bothDecoders(t, func(t *testing.T, library bool) {
				h, img := decode(t, data)
				if got, want := fmt.Sprintf("%T", img), fmt.Sprintf("%T", want); got != want {
					t.Errorf("type %s, want %s", got, want)
				}
				if b := imageio.Bytes(img); b != h.Bytes {
					t.Errorf("occupies %d bytes, the header says %d", b, h.Bytes)
				}
				most, mean := apart(t, img, want)
				t.Logf("off by %d at most, %.4f on average", most, mean)
				limit := 0
				if !library {
					limit = 4
					if n, ok := tolerance[name]; ok {
						limit = n
					}
				}
				if most > limit {
					t.Errorf("off by %d, allowed are %d", most, limit)
				}
			})
		})
	}
}

func TestPhotographsEqualPillow(t *testing.T) {
	n := 0
	for line := range strings.Lines(string(readFile(t, "testdata", "jpeg", "photos.txt"))) {
		name, want, _ := strings.Cut(strings.TrimSpace(line), " ")
		t.Run(name, func(t *testing.T) {
			data := readFile(t, "..", "..", "testdata", "photos", name)
			needLibrary(t)
			_, img := decode(t, data)
			sum := sha256.Sum256(rgb8(img))
			if got := hex.EncodeToString(sum[:]); got != want {
				t.Errorf("other pixels than Pillow's")
			}
			// The standard library takes seconds under the race detector.
			if n++; n%6 != 1 {
				return
			}
			back := imageio.WithoutLibrary()
			defer back()
			_, plain := decode(t, data)
			most, mean := apart(t, img, plain)
			t.Logf("the two decoders differ by %d at most, %.4f on average", most, mean)
			if most > 4 || mean > 0.1 {
				t.Errorf("the two decoders differ by %d at most, %.4f on average", most, mean)
			}
		})
	}
}

func TestDecodeScaledEqualsPillow(t *testing.T) {
	lim := imageio.DefaultLimits()
	for _, name := range []string{"420", "gray", "progressive", "cmyk"} {
		for _, n := range []int{1, 2, 4} {
			t.Run(fmt.Sprint(name, " at ", n, "/8"), func(t *testing.T) {
				needLibrary(t)
				data := readFile(t, "testdata", "jpeg", name+".jpg")
				h, err := imageio.ReadHeader(data, lim)
				if err != nil {
					t.Fatal(err)
				}
				want := golden(t, fmt.Sprint(name, "@", n))
				img, err := imageio.DecodeScaled(data, h, lim, want.Bounds().Max)
				if err != nil {
					t.Fatal(err)
				}
				same(t, img, want)
			})
		}
	}
}

func TestDecodeScaledSizes(t *testing.T) {
	lim := imageio.DefaultLimits()
	ycc := []component{{1, 2, 2}, {2, 1, 1}, {3, 1, 1}}
	for _, o := range []int{1, 6} { // 6 exchanges the sides
		data := jpegWithEXIF(rawJPEG(163, 90, false, ycc...), exif(o, binary.LittleEndian))
		h, err := imageio.ReadHeader(data, lim)
		if err != nil {
			t.Fatal(err)
		}
		for _, least := range []image.Point{{1, 1}, {0, 0}, {21, 12}, {12, 21}, {22, 1}, {1, 22}, {81, 45}, {82, 46}, {90, 163}, {163, 90}, {500, 500}} {
			// The smallest of the sizes that libjpeg can make.
			want := image.Pt(h.Width, h.Height)
			for n := 8; n >= 1; n-- {
				s := image.Pt((h.Width*n+7)/8, (h.Height*n+7)/8)
				if s.X >= least.X && s.Y >= least.Y {
					want = s
				}
			}
			bothDecoders(t, func(t *testing.T, library bool) {
				img, err := imageio.DecodeScaled(data, h, lim, least)
				if err != nil {
					t.Fatal(err)
				}
				if !library {
					want = image.Pt(h.Width, h.Height)
				}
				if img.Bounds() != (image.Rectangle{Max: want}) {
					t.Errorf("orientation %d, at least %v: %v, want %v", o, least, img.Bounds(), want)
				}
			})
		}
	}
	// Other formats have no scales.
	data := encodePNG(t, noise(64, 64))
	h, err := imageio.ReadHeader(data, lim)
	if err != nil {
		t.Fatal(err)
	}
	if img, err := imageio.DecodeScaled(data, h, lim, image.Pt(8, 8)); err != nil || img.Bounds().Dx() != 64 {
		t.Errorf("png: %v, %v", img.Bounds(), err)
	}
}

// What libjpeg only warns of is an error where pixels are missing or wrong, and
// none where they are all there.
func TestJPEGDamage(t *testing.T) {
	good := readFile(t, "testdata", "jpeg", "420.jpg")
	restart := readFile(t, "testdata", "jpeg", "restart.jpg")
	scan := bytes.Index(good, []byte("\xff\xda"))
	quarter := scan + (len(good)-scan)/4
	afterSOI := func(junk string) []byte { return slices.Concat(good[:20], []byte(junk), good[20:]) }
	tests := []struct {
		name string
		data []byte
		want string // in the error; "" where the file is good
	}{
		{"no end", good[:len(good)-2], "truncated"},
		{"half", good[:len(good)/2], "truncated"},
		{"half with an end", slices.Concat(good[:quarter], []byte("\xff\xd9")), "corrupt|missing 0xff00"},
		{"half with an end, after junk between segments", slices.Concat(afterSOI("\x00\x00\x00")[:quarter], []byte("\xff\xd9")), "missing 0xff00"},
		{"half, after junk between segments", afterSOI("\x00\x00\x00")[:quarter], "truncated"},
		{"zeros between segments", afterSOI("\x00\x00\x00"), ""},
		{"fill bytes between segments", afterSOI("\xff\xff\xff"), ""},
		{"junk before the end", slices.Concat(good[:len(good)-2], []byte("\x00\x00\x00\x00\xff\xd9")), ""},
		{"junk after the end", slices.Concat(good, bytes.Repeat([]byte("junk"), 500)), ""},
		{"a restart marker changed", bytes.Replace(restart, []byte("\xff\xd3"), []byte("\xff\xd6"), 1), "corrupt|RST"},
		{"a restart marker lost", bytes.Replace(restart, []byte("\xff\xd3"), nil, 1), "corrupt|RST|Huffman|0xff00"},
		{"unknown Adobe transform", slices.Concat(good[:2], segment(0xee, []byte("Adobe\x00\x64\x00\x00\x00\x00\x09")), good[2:]), ""},
		{"a second frame", slices.Concat(good[:scan], segment(0xc0, []byte{8, 0, 9, 0, 9, 1, 1, 0x11, 0}), good[scan:]), "SOF"},
	}
	_, want := decode(t, good)
	lim := imageio.DefaultLimits()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bothDecoders(t, func(t *testing.T, _ bool) {
				h, err := imageio.ReadHeader(tt.data, lim)
				var img image.Image
				if err == nil {
					img, err = imageio.Decode(tt.data, h, lim)
				}
				if tt.want == "" {
					if err != nil {
						t.Fatal(err)
					}
					if most, _ := apart(t, img, want); most > 4 {
						t.Errorf("the pixels are off by %d", most)
					}
					return
				}
				if err == nil {
					t.Fatal("it was decoded")
				}
				for _, w := range strings.Split(tt.want, "|") {
					if strings.Contains(err.Error(), w) {
						return
					}
				}
				t.Errorf("%v, want %q in it", err, tt.want)
			})
		})
	}
}

// Both decoders follow libjpeg in what the components mean.
func TestJPEGColours(t *testing.T) {
	three := func(ids string) []byte {
		return rawJPEG(24, 16, false, component{ids[0], 1, 1}, component{ids[1], 1, 1}, component{ids[2], 1, 1})
	}
	with := func(data []byte, segments ...[]byte) []byte {
		return slices.Concat(data[:2], slices.Concat(segments...), data[2:])
	}
	jfif := segment(0xe0, []byte("JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"))
	jfxx := segment(0xe0, []byte("JFXX\x00\x10"))
	adobe := func(transform byte) []byte {
		return segment(0xee, append([]byte("Adobe\x00\x64\x00\x00\x00\x00"), transform))
	}
	_, rgb := decode(t, three("RGB"))
	_, ycc := decode(t, three("\x01\x02\x03"))
	if most, _ := apart(t, rgb, ycc); most < 50 {
		t.Fatal("the two do not tell the cases apart")
	}
	for _, tt := range []struct {
		name string
		data []byte
		want image.Image
	}{
		{"Adobe's RGB", with(three("\x01\x02\x03"), adobe(0)), rgb},
		{"Adobe's Y'CbCr", with(three("\x01\x02\x03"), adobe(1)), ycc},
		{"Adobe's Y'CbCr named RGB", with(three("RGB"), adobe(1)), ycc},
		{"JFIF named RGB", with(three("RGB"), jfif), ycc},
		{"JFIF before Adobe's RGB", with(three("\x01\x02\x03"), jfif, adobe(0)), ycc},
		{"JFIF with an extension, named RGB", with(three("RGB"), jfif, jfxx), ycc},
		{"neither", three("abc"), ycc},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bothDecoders(t, func(t *testing.T, _ bool) {
				_, img := decode(t, tt.data)
				if most, _ := apart(t, img, tt.want); most > 4 {
					t.Errorf("off by %d", most)
				}
			})
		})
	}
	t.Run("four without Adobe's segment", func(t *testing.T) {
		data := readFile(t, "testdata", "jpeg", "cmyk.jpg")
		at := bytes.Index(data, []byte("\xff\xee"))
		plain := slices.Concat(data[:at], data[at+2+int(binary.BigEndian.Uint16(data[at+2:])):])
		bothDecoders(t, func(t *testing.T, _ bool) {
			_, img := decode(t, plain)
			if most, _ := apart(t, img, golden(t, "cmyk")); most > 2 {
				t.Errorf("off by %d", most)
			}
		})
	})
}

func TestArithmeticJPEG(t *testing.T) {
	_, err := imageio.ReadHeader(readFile(t, "testdata", "jpeg", "arithmetic.jpg"), imageio.DefaultLimits())
	if !errors.Is(err, imageio.ErrUnsupported) || !strings.Contains(err.Error(), "arithmetic coding") {
		t.Errorf("got %v", err)
	}
}

// Handles of the library are not shared between goroutines.
func TestDecodeAtOnce(t *testing.T) {
	needLibrary(t)
	names := []string{"444", "420", "gray", "progressive", "cmyk", "410"}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 24 {
				name := names[(i+k)%len(names)]
				data := readFile(t, "testdata", "jpeg", name+".jpg")
				h, err := imageio.ReadHeader(data, imageio.Limits{})
				if err != nil {
					t.Error(err)
					return
				}
				if k%5 == 4 { // a failure in between
					if _, err := imageio.Decode(data[:len(data)-40], h, imageio.Limits{}); err == nil {
						t.Error("a truncated file was decoded")
					}
				}
				img, err := imageio.Decode(data, h, imageio.Limits{})
				if err != nil {
					t.Error(err)
					return
				}
				if most, _ := apart(t, img, golden(t, name)); most != 0 {
					t.Errorf("%s is off by %d", name, most)
				}
			}
		})
	}
	wg.Wait()
}

// megapixels12 is 4000 x 3000 pixels of photographs, as cameras write them.
func megapixels12(b *testing.B, o imageio.JPEGOptions) []byte {
	b.Helper()
	out := as(image.NewRGBA(image.Rect(0, 0, 4000, 3000)), image.Black)
	paths, err := filepath.Glob("../../testdata/photos/*.jpg")
	if err != nil {
		b.Fatal(err)
	}
	x, y, row := 0, 0, 0
	for i := 0; y < 3000; i++ {
		_, img := decode(b, readFile(b, paths[i%len(paths)]))
		s := img.Bounds()
		draw.Draw(out, s.Add(image.Pt(x, y)), img, s.Min, draw.Src)
		x += s.Dx()
		row = max(row, s.Dy())
		if x >= 4000 {
			x, y, row = 0, y+s.Dy(), 0
		}
	}
	var data bytes.Buffer
	if err := imageio.EncodeJPEG(&data, out, o); err != nil {
		b.Fatal(err)
	}
	return data.Bytes()
}

// BenchmarkDecodeJPEG tells megapixels per second of this process's CPU time.
func BenchmarkDecodeJPEG(b *testing.B) {
	data := megapixels12(b, imageio.JPEGOptions{Quality: 88, Subsampling: 420})
	lim := imageio.DefaultLimits()
	h, err := imageio.ReadHeader(data, lim)
	if err != nil {
		b.Fatal(err)
	}
	run := func(b *testing.B, least image.Point) {
		start := cpuTime(b)
		for b.Loop() {
			if _, err := imageio.DecodeScaled(data, h, lim, least); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(12*float64(b.N)/(cpuTime(b)-start).Seconds(), "MP/cpu-s")
	}
	full := image.Pt(h.Width, h.Height)
	b.Run("libturbojpeg", func(b *testing.B) { needLibrary(b); run(b, full) })
	b.Run("libturbojpeg half", func(b *testing.B) { needLibrary(b); run(b, full.Div(2)) })
	b.Run("libturbojpeg eighth", func(b *testing.B) { needLibrary(b); run(b, full.Div(8)) })
	b.Run("image/jpeg", func(b *testing.B) {
		defer imageio.WithoutLibrary()()
		run(b, full)
	})
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
