package imageio_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

func jpegOf(t testing.TB, img image.Image, o imageio.JPEGOptions) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := imageio.EncodeJPEG(&b, img, o); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Pillow writes the same file at the same settings, both being libjpeg-turbo.
func TestEncodeJPEGEqualsPillow(t *testing.T) {
	needLibrary(t)
	for line := range strings.Lines(string(readFile(t, "testdata", "jpeg", "encoded.txt"))) {
		var kind, want string
		var quality, subsampling int
		if _, err := fmt.Sscan(line, &kind, &quality, &subsampling, &want); err != nil {
			t.Fatal(err)
		}
		t.Run(fmt.Sprint(kind, quality, "/", subsampling), func(t *testing.T) {
			data := jpegOf(t, golden(t, kind), imageio.JPEGOptions{Quality: quality, Subsampling: subsampling})
			sum := sha256.Sum256(data)
			if got := hex.EncodeToString(sum[:]); got != want {
				t.Errorf("%d bytes, which are not Pillow's", len(data))
			}
		})
	}
}

func TestEncodeJPEGTypes(t *testing.T) {
	const w, h = 37, 29
	r := image.Rect(0, 0, w, h)
	// 16-bit samples, and by hand what they are with 8.
	rnd := rand.New(rand.NewPCG(5, 5))
	deep, gray16 := image.NewNRGBA64(r), image.NewGray16(r)
	flat, gray := image.NewRGBA(r), image.NewGray(r)
	for y := range h {
		for x := range w {
			base := 1000*x + 500*y
			v := func() (uint16, uint8) {
				n := base + rnd.IntN(3000)
				return uint16(n), uint8(float64(n)/257 + 0.5)
			}
			r16, r8 := v()
			g16, g8 := v()
			b16, b8 := v()
			deep.SetNRGBA64(x, y, color.NRGBA64{R: r16, G: g16, B: b16, A: 0xffff})
			flat.SetRGBA(x, y, color.RGBA{R: r8, G: g8, B: b8, A: 0xff})
			gray16.SetGray16(x, y, color.Gray16{Y: g16})
			gray.SetGray(x, y, color.Gray{Y: g8})
		}
	}
	big := image.NewNRGBA(image.Rect(0, 0, 60, 50))
	draw.Draw(big, r.Add(image.Pt(11, 7)), flat, image.Point{}, draw.Src)
	crop := big.SubImage(r.Add(image.Pt(11, 7)))
	bigGray := image.NewGray(image.Rect(0, 0, 60, 50))
	draw.Draw(bigGray, r.Add(image.Pt(11, 7)), gray, image.Point{}, draw.Src)
	bigDeep := image.NewNRGBA64(image.Rect(0, 0, 60, 50))
	for y := range h {
		for x := range w {
			bigDeep.SetNRGBA64(x+11, y+7, deep.NRGBA64At(x, y))
		}
	}
	palette := image.NewPaletted(r, nil)
	for i := range 20 {
		palette.Palette = append(palette.Palette, color.RGBA{uint8(12 * i), uint8(250 - 12*i), 100, 0xff})
	}
	for i := range palette.Pix {
		palette.Pix[i] = uint8(i % w / 2)
	}
	bothDecoders(t, func(t *testing.T, _ bool) {
		o := imageio.JPEGOptions{Subsampling: 420}
		for _, tt := range []struct {
			name      string
			img, like image.Image
		}{
			{"nrgba", as(image.NewNRGBA(r), flat), flat},
			{"crop", crop, flat},
			{"crop of 16 bits", bigDeep.SubImage(r.Add(image.Pt(11, 7))), flat},
			{"16 bits", deep, flat},
			{"16 bits, premultiplied", as(image.NewRGBA64(r), deep), flat},
			{"gray 16", gray16, gray},
			{"crop of gray", bigGray.SubImage(r.Add(image.Pt(11, 7))), gray},
			{"palette", palette, as(image.NewRGBA(r), palette)},
			{"a type of one's own", &canvas{r, colours(flat)}, flat},
		} {
			got, want := jpegOf(t, tt.img, o), jpegOf(t, tt.like, o)
			if !bytes.Equal(got, want) {
				t.Errorf("%s: not the bytes of the same picture in another type", tt.name)
			}
			if again := jpegOf(t, tt.img, o); !bytes.Equal(got, again) {
				t.Errorf("%s: other bytes the second time", tt.name)
			}
			_, back := decode(t, got)
			if _, mean := apart(t, back, tt.like); mean > 12 {
				t.Errorf("%s: off by %.1f on average", tt.name, mean)
			}
			if _, ok := tt.like.(*image.Gray); ok {
				if _, ok := back.(*image.Gray); !ok {
					t.Errorf("%s: came back as %T", tt.name, back)
				}
			}
		}
	})
}

func colours(img image.Image) (c []color.Color) {
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			c = append(c, img.At(x, y))
		}
	}
	return c
}

func TestEncodeJPEGRefuses(t *testing.T) {
	opaqueOne := opaque(noise(4, 4))
	huge := make([]byte, 5<<20)
	copy(huge[16:], "RGB ")
	for _, tt := range []struct {
		name string
		img  image.Image
		o    imageio.JPEGOptions
		want string
	}{
		{"alpha", noise(4, 4), imageio.JPEGOptions{}, "jpeg has no alpha, and the image is transparent somewhere: choose png or webp"},
		{"no pixels", image.NewRGBA(image.Rect(3, 3, 3, 9)), imageio.JPEGOptions{}, "no pixels"},
		{"too wide", image.NewGray(image.Rect(0, 0, 65501, 1)), imageio.JPEGOptions{}, "at most 65500 pixels a side"},
		{"quality", opaqueOne, imageio.JPEGOptions{Quality: 101}, "quality 101 is not from 1 to 100"},
		{"negative quality", opaqueOne, imageio.JPEGOptions{Quality: -1}, "quality -1 is not from 1 to 100"},
		{"subsampling", opaqueOne, imageio.JPEGOptions{Subsampling: 411}, "none of 444, 422 and 420"},
		{"profile", opaqueOne, imageio.JPEGOptions{ICC: huge}, "the colour profile has 5242880 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bothDecoders(t, func(t *testing.T, library bool) {
				if !library && tt.o.Subsampling == 0 {
					tt.o.Subsampling = 420
				}
				var b bytes.Buffer
				err := imageio.EncodeJPEG(&b, tt.img, tt.o)
				if err == nil || !strings.Contains(err.Error(), tt.want) || b.Len() != 0 {
					t.Errorf("got %v and %d bytes, want %q", err, b.Len(), tt.want)
				}
			})
		})
	}
	bothDecoders(t, func(t *testing.T, _ bool) {
		failed := errors.New("disk full")
		if err := imageio.EncodeJPEG(failing{failed}, opaqueOne, imageio.JPEGOptions{Subsampling: 420}); !errors.Is(err, failed) {
			t.Errorf("a failed write: %v", err)
		}
	})
	// What only the library can do is refused without it, before there is a picture.
	bothDecoders(t, func(t *testing.T, library bool) {
		for subsampling, always := range map[int]bool{0: false, 444: false, 422: false, 420: true} {
			err := imageio.JPEGOptions{Subsampling: subsampling}.Check()
			if (err == nil) != (library || always) {
				t.Errorf("%d: %v", subsampling, err)
			}
			if err != nil && !errors.Is(err, imageio.ErrNoLibrary) {
				t.Errorf("%d: %v", subsampling, err)
			}
		}
	})
}

func TestEncodeJPEGCarriesProfile(t *testing.T) {
	img := opaque(noise(16, 16))
	gray := image.NewGray(image.Rect(0, 0, 16, 16))
	bothDecoders(t, func(t *testing.T, _ bool) {
		for _, size := range []int{132, 65519, 65520, 200000} {
			icc := profile(size, "RGB ")
			data := jpegOf(t, img, imageio.JPEGOptions{Subsampling: 420, ICC: icc})
			if got := imageio.ICCProfile(data); !bytes.Equal(got, icc) {
				t.Errorf("a profile of %d bytes came back with %d", size, len(got))
			}
			_, with := decode(t, data)
			_, without := decode(t, jpegOf(t, img, imageio.JPEGOptions{Subsampling: 420}))
			same(t, with, without)
		}
		icc := profile(500, "GRAY")
		if got := imageio.ICCProfile(jpegOf(t, gray, imageio.JPEGOptions{ICC: icc})); !bytes.Equal(got, icc) {
			t.Errorf("gray: %d bytes of a profile", len(got))
		}
	})
}

func TestEncodeJPEGSubsampling(t *testing.T) {
	needLibrary(t)
	for subsampling, want := range map[int]byte{0: 0x11, 444: 0x11, 422: 0x21, 420: 0x22} {
		data := jpegOf(t, opaque(noise(32, 32)), imageio.JPEGOptions{Subsampling: subsampling})
		at := bytes.Index(data, []byte("\xff\xc0"))
		if got := data[at+11]; got != want { // of the first component
			t.Errorf("%d: sampling factors %#x, want %#x", subsampling, got, want)
		}
	}
}
