package imageio_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/image/webp"
	"pgregory.net/rapid"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

func needWebP(t testing.TB) {
	t.Helper()
	if _, err := imageio.WebPLibrary(); err != nil {
		t.Skip(err)
	}
}

// encodeWebP encodes, and decodes again with a decoder that is not libwebp.
func encodeWebP(t testing.TB, img image.Image, o imageio.WebPOptions) ([]byte, image.Image) {
	t.Helper()
	var b bytes.Buffer
	if err := imageio.EncodeWebP(&b, img, o); err != nil {
		t.Fatal(err)
	}
	m, err := webp.Decode(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if m.Bounds().Size() != img.Bounds().Size() {
		t.Fatalf("%v came back as %v", img.Bounds().Size(), m.Bounds().Size())
	}
	return b.Bytes(), m
}

func TestLosslessWebPIsReadBack(t *testing.T) {
	needWebP(t)
	types := slices.DeleteFunc(slices.Clone(pngTypes), func(p pngType) bool { return p.depth == 16 })
	rapid.Check(t, func(t *rapid.T) {
		size := drawSize(t)
		margin := image.Pt(rapid.IntRange(0, 3).Draw(t, "left"), rapid.IntRange(0, 3).Draw(t, "top"))
		whole := image.Rectangle{Max: size.Add(margin).Add(image.Pt(2, 1))}
		crop := image.Rectangle{Min: margin, Max: margin.Add(size)}
		var img image.Image
		// Of 8 bits: one of 16 is refused, which has a test of its own.
		kind := rapid.IntRange(0, len(types)).Draw(t, "type")
		if kind == len(types) {
			img = drawPaletted(t, whole).SubImage(crop)
		} else {
			img = types[kind].make(whole, drawFill(t, rapid.Bool().Draw(t, "opaque"))).SubImage(crop)
		}
		var b, again bytes.Buffer
		if err := imageio.EncodeWebP(&b, img, imageio.WebPOptions{Lossless: true}); err != nil {
			t.Fatal(err)
		}
		m, err := webp.Decode(bytes.NewReader(b.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if m.Bounds().Size() != size {
			t.Fatalf("%v came back as %v", size, m.Bounds())
		}
		for y := range size.Y {
			for x := range size.X {
				if got, want := expected(m, x, y), expected(img, crop.Min.X+x, crop.Min.Y+y); got != want {
					t.Fatalf("at %d, %d: %v, want %v", x, y, got, want)
				}
			}
		}
		if c := copyOf(img); c != nil {
			if err := imageio.EncodeWebP(&again, c, imageio.WebPOptions{Lossless: true}); err != nil || !bytes.Equal(b.Bytes(), again.Bytes()) {
				t.Fatalf("a copy of the crop gives other bytes (%v)", err)
			}
		}
	})
}

// psnr compares the colours of two pictures, in dB.
func psnr(a, b image.Image) float64 {
	sum, n := 0.0, 0
	size, p, q := a.Bounds().Size(), a.Bounds().Min, b.Bounds().Min
	for y := range size.Y {
		for x := range size.X {
			va, vb := expected(a, p.X+x, p.Y+y), expected(b, q.X+x, q.Y+y)
			for i := range 3 {
				d := float64(va[i] - vb[i])
				sum += d * d
				n++
			}
		}
	}
	return 10 * math.Log10(255*255*float64(n)/sum)
}

func TestLossyWebP(t *testing.T) {
	needWebP(t)
	img := photo(t).SubImage(image.Rect(301, 203, 557, 402))
	fine, m := encodeWebP(t, img, imageio.WebPOptions{})
	at90 := psnr(img, m)
	coarse, m := encodeWebP(t, img, imageio.WebPOptions{Quality: 30})
	at30 := psnr(img, m)
	if at90 < 30 || at30 < 22 || at30 > at90-3 || len(coarse) > len(fine)/2 {
		t.Errorf("quality 90: %.1f dB in %d bytes; 30: %.1f dB in %d bytes", at90, len(fine), at30, len(coarse))
	}
	if named, _ := encodeWebP(t, img, imageio.WebPOptions{Quality: 90}); !bytes.Equal(named, fine) {
		t.Error("90 is not the default quality")
	}

	translucent := noise(40, 30)
	_, m = encodeWebP(t, translucent, imageio.WebPOptions{Quality: 50})
	for y := range 30 {
		for x := range 40 {
			if got, want := expected(m, x, y)[3], expected(translucent, x, y)[3]; got != want {
				t.Fatalf("alpha at %d, %d is %d, want %d: it is exact, whatever the quality", x, y, got, want)
			}
		}
	}
}

// 16 bits are rounded: 0x80ff is nearer to 0x81 than to 0x80.
func TestWebPOf16Bits(t *testing.T) {
	needWebP(t)
	deep, rounded := noise16(50, 20), image.NewNRGBA(image.Rect(0, 0, 50, 20))
	for i := range rounded.Pix {
		rounded.Pix[i] = uint8(math.Round(float64(binary.BigEndian.Uint16(deep.Pix[2*i:])) / 257))
	}
	a, _ := encodeWebP(t, deep, imageio.WebPOptions{})
	b, _ := encodeWebP(t, rounded, imageio.WebPOptions{})
	if !bytes.Equal(a, b) {
		t.Error("16 bits are not written like the nearest 8")
	}
	err := imageio.EncodeWebP(io.Discard, deep, imageio.WebPOptions{Lossless: true})
	if err == nil || !strings.Contains(err.Error(), "encoding webp: the picture has 16 bits a sample and WebP has 8") {
		t.Errorf("16 bits without loss: %v", err)
	}
}

func TestWebPProfile(t *testing.T) {
	needWebP(t)
	icc := make([]byte, 131) // an odd length is padded
	for i := range icc {
		icc[i] = byte(i)
	}
	copy(icc[16:], "RGB ")
	gray := bytes.Clone(icc)
	copy(gray[16:], "GRAY")
	for name, tt := range map[string]struct {
		img   image.Image
		o     imageio.WebPOptions
		flags byte
	}{
		"lossless":              {opaque(noise(300, 5)), imageio.WebPOptions{Lossless: true}, 0x20},
		"lossless, translucent": {noise(300, 5), imageio.WebPOptions{Lossless: true}, 0x30},
		"lossy":                 {opaque(noise(300, 5)), imageio.WebPOptions{}, 0x20},
		"lossy, translucent":    {noise(300, 5), imageio.WebPOptions{}, 0x30},
	} {
		tt.o.ICC = icc
		data, with := encodeWebP(t, tt.img, tt.o)
		le := binary.LittleEndian
		if n := le.Uint32(data[4:]); int(n) != len(data)-8 || len(data)%2 != 0 {
			t.Errorf("%s: the file says it has %d+8 bytes, and has %d", name, n, len(data))
		}
		want := append([]byte("VP8X\x0a\x00\x00\x00"), tt.flags, 0, 0, 0, 299&0xff, 299>>8, 0, 4, 0, 0)
		want = le.AppendUint32(append(want, "ICCP"...), uint32(len(icc)))
		want = append(append(want, icc...), 0)
		if got := data[12:][:len(want)]; !bytes.Equal(got, want) {
			t.Errorf("%s: begins with % x\nwant % x", name, got, want)
		}
		tt.o.ICC = nil
		plain, without := encodeWebP(t, tt.img, tt.o)
		if bytes.Contains(plain, []byte("ICCP")) {
			t.Errorf("%s: a profile out of nowhere", name)
		}
		for x := range 300 {
			if expected(with, x, 3) != expected(without, x, 3) {
				t.Fatalf("%s: the profile changes the pixels", name)
			}
		}
		tt.o.ICC = gray
		if data, _ := encodeWebP(t, tt.img, tt.o); !bytes.Equal(data, plain) {
			t.Errorf("%s: a profile for gray on RGB", name)
		}
	}
}

func TestWebPErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		img  image.Image
		o    imageio.WebPOptions
		want string
	}{
		"too wide":      {image.NewGray(image.Rect(0, 0, 16384, 1)), imageio.WebPOptions{}, "the picture has 16384 x 1 pixels, and the format ends at 16383 a side"},
		"too high":      {image.NewGray(image.Rect(0, 0, 1, 16384)), imageio.WebPOptions{}, "ends at 16383"},
		"empty":         {image.NewGray(image.Rect(0, 0, 3, 0)), imageio.WebPOptions{}, "the picture is empty"},
		"quality above": {noise(2, 2), imageio.WebPOptions{Quality: 101}, "there is no quality 101"},
		"quality below": {noise(2, 2), imageio.WebPOptions{Quality: -1}, "there is no quality -1"},
	} {
		err := imageio.EncodeWebP(io.Discard, tt.img, tt.o)
		if err == nil || !strings.HasPrefix(err.Error(), "encoding webp: ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	for wanted, want := range map[string]string{
		"off":              "libwebp is switched off: unset FORGEPIPE_LIBWEBP",
		"/nowhere/libx.so": "opening the libwebp that FORGEPIPE_LIBWEBP names: ",
		"libc.so.6":        "has no function WebPGetEncoderVersion",
	} {
		if err := imageio.OpenWebP(wanted); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", wanted, err, want)
		}
	}
	needWebP(t)
	full := errors.New("disk full")
	icc := make([]byte, 128)
	copy(icc[16:], "RGB ")
	for _, n := range []int{0, 100, 300} {
		if err := imageio.EncodeWebP(&limited{n, full}, noise(50, 50), imageio.WebPOptions{ICC: icc}); !errors.Is(err, full) {
			t.Errorf("failing at byte %d: %v", n, err)
		}
		if err := imageio.EncodeWebP(&limited{n, nil}, noise(50, 50), imageio.WebPOptions{ICC: icc}); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("a short write at byte %d: %v", n, err)
		}
	}
	wrong := image.NewPaletted(image.Rect(0, 0, 3, 2), color.Palette{color.Black})
	wrong.Pix[4] = 1
	if err := imageio.EncodeWebP(io.Discard, wrong, imageio.WebPOptions{}); err == nil {
		t.Error("a colour beyond the palette was written")
	}
	if _, err := imageio.WebPLibrary(); err != nil {
		t.Error(err)
	}
}

func TestWebPIsDeterministic(t *testing.T) {
	needWebP(t)
	pictures := []image.Image{photo(t).SubImage(image.Rect(0, 0, 200, 100)), noise(70, 40), noisePaletted(90, 20, 9)}
	options := []imageio.WebPOptions{{}, {Lossless: true}}
	first := map[[2]int][]byte{}
	for i, m := range pictures {
		for j, o := range options {
			first[[2]int{i, j}], _ = encodeWebP(t, m, o)
		}
	}
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(worker)))
			for range 8 {
				i, j := rnd.IntN(len(pictures)), rnd.IntN(len(options))
				var b bytes.Buffer
				if err := imageio.EncodeWebP(&b, pictures[i], options[j]); err != nil || !bytes.Equal(b.Bytes(), first[[2]int{i, j}]) {
					t.Errorf("picture %d gave other bytes (%v)", i, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestWebPEncoder(t *testing.T) {
	names := map[string]bool{}
	for _, o := range []imageio.WebPOptions{{}, {Quality: 89}, {Lossless: true}} {
		names[imageio.WebPEncoder(o)] = true
	}
	if len(names) != 3 || imageio.WebPEncoder(imageio.WebPOptions{Quality: 90}) != imageio.WebPEncoder(imageio.WebPOptions{}) {
		t.Errorf("names %v", names)
	}
}
