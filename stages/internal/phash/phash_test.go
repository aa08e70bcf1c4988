package phash_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/phash"
)

// goldens are what testdata/goldens.py found with pdqhash and imagededup. Each
// has the hashes of the eight transforms of a picture.
type golden struct {
	File   string
	X, Y   int // how often pixels are repeated
	Fade   uint8
	Hashes [8]string
}

func goldens(t testing.TB) (g struct{ Photos, Pictures []golden }) {
	t.Helper()
	data, err := os.ReadFile("testdata/goldens.json")
	if err == nil {
		err = json.Unmarshal(data, &g)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Photos) != 18 || len(g.Pictures) != 72 {
		t.Fatalf("%d photographs and %d pictures", len(g.Photos), len(g.Pictures))
	}
	return g
}

// hashes are those of one picture.
type hashes struct {
	pdq          [32]byte
	quality      int
	phash, dhash uint64
}

func parse(t testing.TB, golden string) (h hashes) {
	t.Helper()
	var pdq string
	if _, err := fmt.Sscanf(golden, "%s %d %x %x", &pdq, &h.quality, &h.phash, &h.dhash); err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(pdq)
	if err != nil {
		t.Fatal(err)
	}
	h.pdq = [32]byte(raw)
	return h
}

func hash(img image.Image) (h hashes) {
	h.pdq, h.quality = phash.PDQ(img)
	h.phash, h.dhash = phash.PHash(img), phash.DHash(img)
	return h
}

func distance(a, b [32]byte) (d int) {
	for i := range a {
		d += bits.OnesCount8(a[i] ^ b[i])
	}
	return d
}

func photo(t testing.TB, name string) image.Image {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../../../testdata/photos", name))
	if err != nil {
		t.Fatal(err)
	}
	lim := imageio.DefaultLimits()
	h, err := imageio.ReadHeader(data, lim)
	if err != nil {
		t.Fatal(err)
	}
	img, err := imageio.Decode(data, h, lim)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func picture(t testing.TB, name string) image.Image {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func rgba(img image.Image) *image.RGBA {
	out := image.NewRGBA(image.Rectangle{Max: img.Bounds().Size()})
	draw.Draw(out, out.Rect, img, img.Bounds().Min, draw.Src)
	return out
}

// dihedral is the k-th transform of the script: of the picture, and from 4 on
// of its transpose, turned counterclockwise k times by 90 degrees.
//
//go:norace
func dihedral(img *image.RGBA, k int) *image.RGBA {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	at, right, down := 0, 1, w // in the picture: of pixel (0, 0), from a pixel to the next, from a row to the next
	if k >= 4 {
		w, h, right, down = h, w, down, right
	}
	for range k % 4 {
		at += (w - 1) * right // the upper right corner comes to the upper left
		w, h, right, down = h, w, down, -right
	}
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		row := out.Pix[y*out.Stride:][:4*w]
		from := 4 * (at + y*down)
		for x := 0; x < len(row); x += 4 {
			*(*[4]uint8)(row[x:]) = [4]uint8(img.Pix[from+x*right:])
		}
	}
	return out
}

// orientation is the number that package phash has for the transforms of the script.
var orientation = [8]int{0, 6, 3, 5, 4, 2, 7, 1}

// The hashes are those of pdqhash and, but for a few bits, of imagededup also
// where the JPEG decoder is another one than Pillow's, which changes pixels by a
// level or two. To hash a whole photograph takes its time: each is hashed in two
// of its transforms, and in all of them with one look at its pixels.
func TestHashesOfPhotographs(t *testing.T) {
	var bitsApart [11]int
	for i, g := range goldens(t).Photos {
		img := rgba(photo(t, g.File))
		turned := phash.PDQKind.Oriented(img, true)
		for k := range 8 {
			want := parse(t, g.Hashes[k])
			if o := orientation[k]; o > 0 && want.quality >= 80 {
				if d := distance([32]byte(turned[32*(o-1):]), want.pdq); d > 10 {
					t.Errorf("%s: the hash of orientation %d is %d bits from the golden", g.File, o, d)
				}
			}
			if k != 0 && k != 1+i%7 {
				continue
			}
			pdq, quality := phash.PDQ(dihedral(img, k))
			if o := orientation[k]; o > 0 {
				if d := distance([32]byte(turned[32*(o-1):]), pdq); d > 2 {
					t.Errorf("%s: the hash of orientation %d is %d bits from that of the turned picture", g.File, o, d)
				}
			}
			d := distance(pdq, want.pdq)
			if d > 10 && want.quality >= 80 || quality-want.quality > 2 || want.quality-quality > 2 {
				t.Errorf("%s, transform %d: %d bits from the golden, quality %d, want %d", g.File, k, d, quality, want.quality)
			}
			bitsApart[min(d, 10)]++
			if k > 0 { // which take their time, and have no other way to their pixels
				continue
			}
			p, q := bits.OnesCount64(phash.PHash(img)^want.phash), bits.OnesCount64(phash.DHash(img)^want.dhash)
			if p > 4 || q > 4 {
				t.Errorf("%s: pHash %d bits from the golden, dHash %d", g.File, p, q)
			}
			if p+q > 0 {
				t.Logf("%s: pHash %d bits from the golden, dHash %d", g.File, p, q)
			}
		}
	}
	t.Logf("bits apart, 0 to 10 and more: %v (%s)", bitsApart, imageio.Decoder())
}

// Of the same pixels, pHash and dHash are those of imagededup and PDQ is that
// of pdqhash but for its rounding errors.
func TestHashesOfTheSamePixels(t *testing.T) {
	var bitsApart [3]int
	for _, g := range goldens(t).Pictures {
		small := picture(t, g.File)
		large := enlarged(opaqueRGBA(small), g)
		for k := range 8 {
			want := parse(t, g.Hashes[k])
			img := small
			if k > 0 || g.X*g.Y > 1 || g.Fade > 1 {
				img = dihedral(large, k)
			}
			got, name := hash(img), fmt.Sprintf("%s x%d,%d fade %d transform %d", g.File, g.X, g.Y, g.Fade, k)
			if d := distance(got.pdq, want.pdq); d > 2 {
				t.Errorf("%s: PDQ is %d bits from the golden", name, d)
			} else {
				bitsApart[d]++
			}
			// Where pixels have few different values, a step can be a whole number of
			// percents, of which rounding errors make one less.
			if d := got.quality - want.quality; d < -1 || d > 1 || d != 0 && g.Fade == 1 {
				t.Errorf("%s: quality %d, want %d", name, got.quality, want.quality)
			}
			if got.phash != want.phash || got.dhash != want.dhash {
				t.Errorf("%s: pHash %016x and dHash %016x, want %016x and %016x", name, got.phash, got.dhash, want.phash, want.dhash)
			}
		}
	}
	t.Logf("PDQ bits apart, 0 to 2: %v", bitsApart)
}

// The hashes of the upright picture turned are those of the turned picture. Where
// width and height change places, pHash and dHash are a few bits away, as the
// passes of the resizing do, between which it rounds.
func TestOrientations(t *testing.T) {
	for _, g := range goldens(t).Pictures {
		if g.Fade > 8 {
			continue // rounding is much of such a picture
		}
		img := enlarged(opaqueRGBA(picture(t, g.File)), g)
		pdq, p, d := phash.PDQKind.Oriented(img, true), phash.PHashKind.Oriented(img, true), phash.DHashKind.Oriented(img, true)
		if len(pdq) != 7*32 || len(p) != 7*8 || len(d) != 7*8 {
			t.Fatalf("%d, %d and %d bytes", len(pdq), len(p), len(d))
		}
		for k := 1; k < 8; k++ {
			want, at := parse(t, g.Hashes[k]), orientation[k]-1
			name := fmt.Sprintf("%s x%d,%d fade %d orientation %d", g.File, g.X, g.Y, g.Fade, at+1)
			if n := distance([32]byte(pdq[32*at:]), want.pdq); n > 2 {
				t.Errorf("%s: PDQ is %d bits from that of the turned picture", name, n)
			}
			pBits := bits.OnesCount64(want.phash ^ binary.BigEndian.Uint64(p[8*at:]))
			dBits := bits.OnesCount64(want.dhash ^ binary.BigEndian.Uint64(d[8*at:]))
			most := 0
			if at+1 >= 4 {
				most = 2 * int(g.Fade)
			}
			if pBits > most || dBits > most {
				t.Errorf("%s: pHash is %d bits from that of the turned picture, dHash %d", name, pBits, dBits)
			}
		}
	}
}

func TestOrientedAttributes(t *testing.T) {
	img := opaqueRGBA(picture(t, "boats.png"))
	mirrored := dihedral(img, 7)
	for _, k := range []phash.Kind{phash.PDQKind, phash.PHashKind, phash.DHashKind} {
		for _, all := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s all %t", k.Name, all), func(t *testing.T) {
				it, like := &pipeline.Item{}, &pipeline.Item{}
				k.SetOriented(it, img, all)
				k.Set(like, mirrored)
				got, _ := it.Attr(k.OrientedMade(all).Name)
				want, _ := like.Attr(k.Name)
				if n := k.Bytes * map[bool]int{false: 1, true: 7}[all]; len(got.Hash()) != n {
					t.Errorf("%d bytes, want %d", len(got.Hash()), n)
				}
				if !bytes.HasPrefix(got.Hash(), want.Hash()) || !bytes.Equal(got.Hash(), k.Oriented(img, all)) {
					t.Errorf("%s begins otherwise than %s, the hash of the mirrored picture", got, want)
				}
				k.Set(like, img)
				for _, m := range k.Makes {
					got, _ := it.Attr(m.Name)
					if want, _ := like.Attr(m.Name); got != want {
						t.Errorf("%s is %s, want %s", m.Name, got, want)
					}
				}

				// What is there stays, with the quality that it came without.
				own := pipeline.Hash(make([]byte, k.Bytes))
				it = &pipeline.Item{}
				it.SetAttr(k.Name, own)
				k.SetOriented(it, img, all)
				if got, _ := it.Attr(k.Name); got != own {
					t.Errorf("%s was replaced by %s", k.Name, got)
				}
				if _, ok := it.Attr("pdq_quality"); ok {
					t.Error("a quality was set that is not of the hash that is there")
				}
			})
		}
	}
}

// opaqueRGBA drops alpha, pixel by pixel.
func opaqueRGBA(img image.Image) *image.RGBA {
	out := image.NewRGBA(image.Rectangle{Max: img.Bounds().Size()})
	for y := range out.Rect.Dy() {
		for x := range out.Rect.Dx() {
			c := color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)
			out.SetRGBA(x, y, color.RGBA{R: c.R, G: c.G, B: c.B, A: 255})
		}
	}
	return out
}

//go:norace
func enlarged(img *image.RGBA, g golden) *image.RGBA {
	out := image.NewRGBA(image.Rect(0, 0, g.X*img.Rect.Dx(), g.Y*img.Rect.Dy()))
	for y := range out.Rect.Dy() {
		for x := range out.Rect.Dx() {
			c := img.RGBAAt(x/g.X, y/g.Y)
			out.SetRGBA(x, y, color.RGBA{R: c.R / g.Fade, G: c.G / g.Fade, B: c.B / g.Fade, A: 255})
		}
	}
	return out
}

// pdq is the paper's way: the whole picture is filtered, twice along each axis,
// and then sampled.
func pdq(luma [][]float64) (hash [32]byte) {
	transposed := func(m [][]float64) [][]float64 {
		out := make([][]float64, len(m[0]))
		for x := range out {
			for y := range m {
				out[x] = append(out[x], m[y][x])
			}
		}
		return out
	}
	for range 4 { // along x, y, x, y
		n := len(luma[0])
		window := int(math.Ceil(float64(n) / 128))
		for y, row := range luma {
			blurred := make([]float64, n)
			for x := range blurred {
				box := row[max(0, x-(window-1)/2):min(n, x+window/2+1)]
				for _, v := range box {
					blurred[x] += v / float64(len(box))
				}
			}
			luma[y] = blurred
		}
		luma = transposed(luma)
	}
	var cosine [256]float64 // of multiples of pi/128
	for i := range cosine {
		cosine[i] = math.Cos(math.Pi / 128 * float64(i))
	}
	var c [256]float64
	for y := range 64 {
		for x := range 64 {
			v := luma[int((float64(y)+0.5)*float64(len(luma))/64)][int((float64(x)+0.5)*float64(len(luma[0]))/64)]
			for k := range c {
				c[k] += v * cosine[(k/16+1)*(2*y+1)%256] * cosine[(k%16+1)*(2*x+1)%256]
			}
		}
	}
	sorted := slices.Sorted(slices.Values(c[:]))
	for k, v := range c {
		if v > sorted[127] {
			hash[31-k/8] |= 1 << (k % 8)
		}
	}
	return hash
}

// Below 64 pixels many coefficients are equal but for rounding errors.
func TestPDQOfAllSizes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, h := rapid.IntRange(64, 400).Draw(t, "width"), rapid.IntRange(64, 400).Draw(t, "height")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		// A part of a larger picture, so that reading beyond the borders shows.
		img := image.NewRGBA(image.Rect(-3, -2, w+2, h+4))
		for i := range img.Pix {
			img.Pix[i] = uint8(r.Uint32())
		}
		luma := make([][]float64, h)
		for y := range luma {
			for x := range w {
				c := img.RGBAAt(x, y)
				luma[y] = append(luma[y], 0.299*float64(c.R)+0.587*float64(c.G)+0.114*float64(c.B))
			}
		}
		got, _ := phash.PDQ(img.SubImage(image.Rect(0, 0, w, h)))
		// Two coefficients beside the median may change places.
		if d := distance(got, pdq(luma)); d > 2 {
			t.Fatalf("%d x %d: %d bits from the reference", w, h, d)
		}
	})
}

// The same picture in other types has the same hashes. Of what is transparent,
// the colour counts.
func TestTypesOfImages(t *testing.T) {
	small := rgba(picture(t, "boats.png"))
	size := small.Rect
	at := func(x, y int) color.NRGBA { return color.NRGBA(small.RGBAAt(x, y)) }
	fill := func(m draw.Image, c func(x, y int) color.Color) image.Image {
		for y := range size.Dy() {
			for x := range size.Dx() {
				m.Set(m.Bounds().Min.X+x, m.Bounds().Min.Y+y, c(x, y))
			}
		}
		return m
	}
	alpha := func(x, y int) color.Color {
		c := at(x, y)
		c.A = uint8(3 * x)
		return c
	}
	wide := func(x, y int) color.Color {
		c := at(x, y)
		return color.NRGBA64{R: uint16(c.R) * 257, G: uint16(c.G) * 257, B: uint16(c.B) * 257, A: uint16(700 * x)}
	}
	fewAt := func(x, y int) color.NRGBA {
		c := at(x, y)
		return color.NRGBA{R: c.R &^ 63, G: c.G &^ 63, B: c.B &^ 63, A: 255}
	}
	palette := make(color.Palette, 64)
	for i := range palette {
		palette[i] = color.NRGBA{R: uint8(i&3) << 6, G: uint8(i>>2&3) << 6, B: uint8(i>>4) << 6, A: uint8(i * 4)}
	}
	paletted := image.NewPaletted(size, palette)
	for y := range size.Dy() {
		for x := range size.Dx() {
			c := at(x, y)
			paletted.SetColorIndex(x, y, c.R>>6|c.G>>6<<2|c.B>>6<<4)
		}
	}
	colours := fill(image.NewRGBA(size), func(x, y int) color.Color { return at(x, y) })
	few := fill(image.NewRGBA(size), func(x, y int) color.Color { return fewAt(x, y) })
	grays := fill(image.NewGray(size), func(x, y int) color.Color { return at(x, y) })
	grayAt := func(x, y int) uint8 { return grays.(*image.Gray).GrayAt(x, y).Y }

	larger := fill(image.NewNRGBA(size.Inset(-7).Add(image.Pt(40, 50))), func(x, y int) color.Color { return color.White }).(*image.NRGBA)
	part := larger.SubImage(size.Add(image.Pt(40, 50))).(*image.NRGBA)
	full := image.NewNYCbCrA(size, image.YCbCrSubsampleRatio444)
	for y := range size.Dy() {
		for x := range size.Dx() {
			full.Y[full.YOffset(x, y)] = grayAt(x, y)
			full.Cb[full.COffset(x, y)], full.Cr[full.COffset(x, y)] = 128, 128
			full.A[full.AOffset(x, y)] = uint8(2 * x)
		}
	}
	tests := []struct {
		name      string
		img, like image.Image
	}{
		{"nrgba", fill(image.NewNRGBA(size), func(x, y int) color.Color { return at(x, y) }), colours},
		{"nrgba with alpha", fill(image.NewNRGBA(size), alpha), colours},
		{"part of nrgba with alpha", fill(part, alpha), colours},
		{"nrgba64 with alpha", fill(image.NewNRGBA64(size), wide), colours},
		{"paletted with alpha", paletted, few},
		{"gray as colours", fill(image.NewRGBA(size), func(x, y int) color.Color { return color.Gray{Y: grayAt(x, y)} }), grays},
		{"gray16", fill(image.NewGray16(size), func(x, y int) color.Color { return color.Gray16{Y: uint16(grayAt(x, y)) * 257} }), grays},
		{"ycbcr", &full.YCbCr, grays},
		{"nycbcra", full, grays},
		{"a type of its own", struct{ image.Image }{colours}, colours},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, want := hash(tt.img), hash(tt.like)
			if d := distance(got.pdq, want.pdq); d > 2 || got.quality != want.quality {
				t.Errorf("PDQ is %d bits away, quality %d, want %d", d, got.quality, want.quality)
			}
			// In 16 bits, the means are rounded otherwise.
			if p, d := bits.OnesCount64(got.phash^want.phash), bits.OnesCount64(got.dhash^want.dhash); p > 2 || d > 1 {
				t.Errorf("pHash is %d bits away, dHash %d", p, d)
			}
		})
	}
}

func TestPicturesWithoutAVerdict(t *testing.T) {
	flat := image.NewRGBA(image.Rect(0, 0, 333, 222))
	for i := range flat.Pix {
		flat.Pix[i] = 77
	}
	noise := image.NewGray(image.Rect(0, 0, 9, 9))
	r := rand.New(rand.NewPCG(1, 1))
	for i := range noise.Pix {
		noise.Pix[i] = uint8(r.Uint32())
	}
	for name, img := range map[string]image.Image{
		"flat": flat, "one pixel": flat.SubImage(image.Rect(5, 5, 6, 6)),
		"too narrow": noise.SubImage(image.Rect(0, 0, 4, 9)), "too low": noise.SubImage(image.Rect(0, 0, 9, 4)),
	} {
		t.Run(name, func(t *testing.T) {
			if pdq, quality := phash.PDQ(img); quality != 0 || pdq != [32]byte{} {
				t.Errorf("PDQ %x, quality %d", pdq, quality)
			}
		})
	}
	if h := hash(flat); h.dhash != 0 {
		t.Errorf("dHash of a flat picture: %016x", h.dhash)
	}
	if _, quality := phash.PDQ(noise.SubImage(image.Rect(0, 0, 5, 5))); quality == 0 {
		t.Error("a picture of 5 x 5 has no quality")
	}
}

//go:norace
func ramp(img *image.Gray) {
	for y := range img.Rect.Dy() {
		for x := range img.Rect.Dx() {
			img.Pix[y*img.Stride+x] = uint8((x + y) >> 10)
		}
	}
}

// However long a picture is, the filter takes a time in proportion.
func TestVeryLongPictures(t *testing.T) {
	for _, size := range []image.Point{{1_000_000, 5}, {5, 1_000_000}} {
		img := image.NewGray(image.Rectangle{Max: size})
		ramp(img)
		if _, quality := phash.PDQ(img); quality == 0 {
			t.Errorf("%v: quality 0", size)
		}
	}
}

func TestMemoryIsWhatBytesSays(t *testing.T) {
	r := image.Rect(0, 0, 300, 700)
	clear := image.NewNRGBA(r)
	clear.Pix[3] = 1
	wide := image.NewNRGBA64(r)
	wide.Pix[7] = 1
	for _, tt := range []struct {
		img   image.Image
		pixel int64
		alpha bool
	}{
		{image.NewRGBA(r), 4, false}, {image.NewYCbCr(r, image.YCbCrSubsampleRatio420), 4, false},
		{clear, 4, true}, {wide, 8, true}, {image.NewPaletted(r, color.Palette{color.Transparent}), 4, true},
	} {
		for name, f := range map[string]func(){
			"PDQ":   func() { phash.PDQ(tt.img) },
			"PHash": func() { phash.PHash(tt.img) },
			"DHash": func() { phash.DHash(tt.img) },

			"PDQ of all orientations":   func() { phash.PDQKind.Oriented(tt.img, true) },
			"PHash of all orientations": func() { phash.PHashKind.Oriented(tt.img, true) },
			"DHash of all orientations": func() { phash.DHashKind.Oriented(tt.img, true) },
		} {
			most := phash.Bytes(r.Size(), tt.pixel, tt.alpha)
			if strings.HasPrefix(name, "PDQ") {
				most = phash.PDQBytes(r.Size())
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			f()
			runtime.ReadMemStats(&after)
			if n := int64(after.TotalAlloc - before.TotalAlloc); n > most+32<<10 {
				t.Errorf("%s of %T: %d bytes allocated, and at most %d said", name, tt.img, n, most)
			}
		}
	}
}

func BenchmarkHashes(b *testing.B) {
	r := image.Rect(0, 0, 4000, 3000)
	rgba := image.NewRGBA(r)
	for i := range rgba.Pix {
		rgba.Pix[i] = uint8(i * i >> 8)
	}
	for _, img := range []image.Image{rgba, image.NewGray(r)} {
		for name, f := range map[string]func(image.Image){
			"PDQ":   func(img image.Image) { phash.PDQ(img) },
			"PHash": func(img image.Image) { phash.PHash(img) },
			"DHash": func(img image.Image) { phash.DHash(img) },
		} {
			b.Run(fmt.Sprintf("%s/%T", name, img), func(b *testing.B) {
				b.SetBytes(int64(r.Dx() * r.Dy())) // so that MB/s are megapixels per second
				for b.Loop() {
					f(img)
				}
			})
		}
	}
}
