package imageio_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	r := a.Bounds()
	sum := 0
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			var p, q [4]uint32
			p[0], p[1], p[2], p[3] = a.At(x, y).RGBA()
			q[0], q[1], q[2], q[3] = b.At(x, y).RGBA()
			for i := range p {
				d := max(p[i]>>8, q[i]>>8) - min(p[i]>>8, q[i]>>8)
				most = max(most, int(d))
				sum += int(d)
			}
		}
	}
	return most, float64(sum) / float64(4*r.Dx()*r.Dy())
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
	for line := range strings.Lines(string(readFile(t, "testdata", "jpeg", "photos.txt"))) {
		name, want, _ := strings.Cut(strings.TrimSpace(line), " ")
		t.Run(name, func(t *testing.T) {
			data := readFile(t, "..", "..", "testdata", "photos", name)
			needLibrary(t)
			_, img := decode(t, data)
			hash := sha256.New()
			switch m := img.(type) {
			case *image.RGBA:
				for i := 0; i < len(m.Pix); i += 4 {
					hash.Write(m.Pix[i : i+3])
				}
			case *image.Gray:
				for _, v := range m.Pix {
					hash.Write([]byte{v, v, v})
				}
			}
			if got := hex.EncodeToString(hash.Sum(nil)); got != want {
				t.Errorf("other pixels than Pillow's")
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
