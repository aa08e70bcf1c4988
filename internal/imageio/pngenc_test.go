package imageio_test

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"image/png"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"weak"

	"pgregory.net/rapid"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

// strictPNG is a picture read by a decoder that is written from the PNG
// specification, third edition, and tolerates nothing that it does not demand.
// It knows only what our encoder should write: no interlacing, no chunks but
// those below, in their one order.
type strictPNG struct {
	size          image.Point
	depth, colour int
	palette       []color.NRGBA
	icc           []byte
	idat          []int  // the sizes of the chunks
	samples       []byte // unfiltered rows
	filters       [5]int // how often each was used
	row           int    // bytes
}

const (
	pngGray, pngRGB, pngPalette, pngRGBA = 0, 2, 3, 6
)

func (p *strictPNG) channels() int {
	return map[int]int{pngGray: 1, pngRGB: 3, pngPalette: 1, pngRGBA: 4}[p.colour]
}

// sample is one value as it is stored.
func (p *strictPNG) sample(x, y, channel int) int {
	row := p.samples[y*p.row:][:p.row]
	i := x*p.channels() + channel
	switch p.depth {
	case 16:
		return int(row[2*i])<<8 | int(row[2*i+1])
	case 8:
		return int(row[i])
	}
	bit := i * p.depth
	return int(row[bit/8]) >> (8 - p.depth - bit%8) & (1<<p.depth - 1)
}

// at is a pixel, not premultiplied, with its samples as they are stored: 8 bits
// are not spread to 16.
func (p *strictPNG) at(x, y int) [4]int {
	full := 1<<p.depth - 1
	s := func(channel int) int { return p.sample(x, y, channel) }
	switch p.colour {
	case pngGray:
		return [4]int{s(0), s(0), s(0), full}
	case pngRGB:
		return [4]int{s(0), s(1), s(2), full}
	case pngPalette:
		c := p.palette[s(0)]
		return [4]int{int(c.R), int(c.G), int(c.B), int(c.A)}
	}
	return [4]int{s(0), s(1), s(2), s(3)}
}

func readStrictPNG(data []byte) (*strictPNG, error) {
	p := &strictPNG{}
	rest, ok := bytes.CutPrefix(data, []byte("\x89PNG\r\n\x1a\n"))
	if !ok {
		return nil, errors.New("no signature")
	}
	order := []string{"IHDR", "iCCP", "PLTE", "tRNS", "IDAT", "IEND"}
	last, seen := -1, map[string]bool{}
	var idat []byte
	for len(rest) > 0 {
		if len(rest) < 12 {
			return nil, fmt.Errorf("%d bytes after the last chunk", len(rest))
		}
		n := binary.BigEndian.Uint32(rest)
		if n > math.MaxInt32 || int(n) > len(rest)-12 {
			return nil, fmt.Errorf("a chunk of %d bytes of %d", n, len(rest))
		}
		name, payload := string(rest[4:8]), rest[8:8+n]
		if sum := binary.BigEndian.Uint32(rest[8+n:]); sum != crc32.ChecksumIEEE(rest[4:8+n]) {
			return nil, fmt.Errorf("wrong sum of %s", name)
		}
		rest = rest[12+n:]
		at := slices.Index(order, name)
		if at < last || at == last && name != "IDAT" || at < 0 {
			return nil, fmt.Errorf("%s comes too late, twice, or not at all in a file like this", name)
		}
		last, seen[name] = at, true
		switch name {
		case "IHDR":
			if n != 13 || payload[10] != 0 || payload[11] != 0 || payload[12] != 0 {
				return nil, fmt.Errorf("header %v", payload)
			}
			p.size = image.Pt(int(binary.BigEndian.Uint32(payload)), int(binary.BigEndian.Uint32(payload[4:])))
			p.depth, p.colour = int(payload[8]), int(payload[9])
			allowed := map[int][]int{pngGray: {1, 2, 4, 8, 16}, pngRGB: {8, 16}, pngPalette: {1, 2, 4, 8}, pngRGBA: {8, 16}}
			if p.size.X < 1 || p.size.Y < 1 || !slices.Contains(allowed[p.colour], p.depth) {
				return nil, fmt.Errorf("header %v", payload)
			}
			p.row = (p.size.X*p.channels()*p.depth + 7) / 8
		case "iCCP":
			profile, compressed, _ := bytes.Cut(payload, []byte{0})
			if len(profile) < 1 || len(profile) > 79 || len(compressed) < 1 || compressed[0] != 0 {
				return nil, fmt.Errorf("profile %q", payload)
			}
			var err error
			if p.icc, err = inflate(compressed[1:]); err != nil {
				return nil, fmt.Errorf("profile: %w", err)
			}
		case "PLTE":
			if p.colour != pngPalette || n == 0 || n%3 != 0 || int(n)/3 > 1<<p.depth {
				return nil, fmt.Errorf("%d bytes of palette for type %d with %d bits", n, p.colour, p.depth)
			}
			for ; len(payload) > 0; payload = payload[3:] {
				p.palette = append(p.palette, color.NRGBA{R: payload[0], G: payload[1], B: payload[2], A: 0xff})
			}
		case "tRNS":
			if p.colour != pngPalette || int(n) > len(p.palette) || n == 0 {
				return nil, fmt.Errorf("%d bytes of transparency for type %d", n, p.colour)
			}
			for i, a := range payload {
				p.palette[i].A = a
			}
		case "IDAT":
			idat = append(idat, payload...)
			p.idat = append(p.idat, int(n))
		case "IEND":
			if n != 0 {
				return nil, errors.New("an end with data")
			}
		}
	}
	if !seen["IHDR"] || !seen["IDAT"] || !seen["IEND"] || p.colour == pngPalette && !seen["PLTE"] {
		return nil, fmt.Errorf("only %v", seen)
	}
	raw, err := inflate(idat)
	if err != nil {
		return nil, fmt.Errorf("pixels: %w", err)
	}
	if len(raw) != (p.row+1)*p.size.Y {
		return nil, fmt.Errorf("%d bytes of pixels, want %d rows of 1+%d", len(raw), p.size.Y, p.row)
	}
	return p, p.unfilter(raw)
}

// inflate reads a zlib stream, which must fill its data.
func inflate(data []byte) ([]byte, error) {
	r := bytes.NewReader(data)
	z, err := zlib.NewReader(r)
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(z) // also compares the sum
	if err == nil && r.Len() > 0 {
		err = fmt.Errorf("%d bytes after the stream", r.Len())
	}
	return out, err
}

func (p *strictPNG) unfilter(raw []byte) error {
	bpp := max(1, p.channels()*p.depth/8)
	p.samples = make([]byte, p.row*p.size.Y)
	get := func(x, y int) int {
		if x < 0 || y < 0 {
			return 0
		}
		return int(p.samples[y*p.row+x])
	}
	for y := range p.size.Y {
		filter, row := raw[0], raw[1:1+p.row]
		raw = raw[1+p.row:]
		if filter > 4 {
			return fmt.Errorf("filter %d", filter)
		}
		p.filters[filter]++
		for x, v := range row {
			a, b, c := get(x-bpp, y), get(x, y-1), get(x-bpp, y-1)
			add := 0
			switch filter {
			case 1:
				add = a
			case 2:
				add = b
			case 3:
				add = (a + b) / 2
			case 4:
				e := a + b - c
				pa, pb, pc := math.Abs(float64(e-a)), math.Abs(float64(e-b)), math.Abs(float64(e-c))
				switch {
				case pa <= pb && pa <= pc:
					add = a
				case pb <= pc:
					add = b
				default:
					add = c
				}
			}
			p.samples[y*p.row+x] = byte(int(v) + add)
		}
	}
	if p.colour != pngPalette {
		return nil
	}
	for y := range p.size.Y {
		for x := range p.size.X {
			if i := p.sample(x, y, 0); i >= len(p.palette) {
				return fmt.Errorf("colour %d of %d", i, len(p.palette))
			}
		}
		if used := p.size.X * p.depth % 8; used > 0 && p.samples[(y+1)*p.row-1]<<used != 0 {
			return errors.New("bits are set behind the last pixel")
		}
	}
	return nil
}

// expected is what a pixel should be in a PNG, with as many bits as the type has.
func expected(img image.Image, x, y int) [4]int {
	of := func(c color.NRGBA) [4]int { return [4]int{int(c.R), int(c.G), int(c.B), int(c.A)} }
	switch m := img.(type) {
	case *image.Gray16:
		v := int(m.Gray16At(x, y).Y)
		return [4]int{v, v, v, 0xffff}
	case *image.RGBA64, *image.NRGBA64:
		c := color.NRGBA64Model.Convert(img.At(x, y)).(color.NRGBA64)
		return [4]int{int(c.R), int(c.G), int(c.B), int(c.A)}
	case *image.NYCbCrA:
		c := m.NYCbCrAAt(x, y)
		r, g, b := color.YCbCrToRGB(c.Y, c.Cb, c.Cr)
		return of(color.NRGBA{R: r, G: g, B: b, A: c.A})
	}
	return of(color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA))
}

type croppable interface {
	image.Image
	SubImage(image.Rectangle) image.Image
}

// pngType is a type of picture, with the PNG that an opaque and a transparent one
// becomes.
type pngType struct {
	name                       string
	make                       func(r image.Rectangle, fill filler) croppable
	depth, opaque, translucent int
}

var pngTypes = []pngType{
	{"gray", func(r image.Rectangle, fill filler) croppable { m := image.NewGray(r); fill(m.Pix, 0); return m }, 8, pngGray, pngGray},
	{"gray 16", func(r image.Rectangle, fill filler) croppable { m := image.NewGray16(r); fill(m.Pix, 0); return m }, 16, pngGray, pngGray},
	{"nrgba", func(r image.Rectangle, fill filler) croppable { m := image.NewNRGBA(r); fill(m.Pix, 4); return m }, 8, pngRGB, pngRGBA},
	{"nrgba 16", func(r image.Rectangle, fill filler) croppable { m := image.NewNRGBA64(r); fill(m.Pix, 8); return m }, 16, pngRGB, pngRGBA},
	{"rgba", func(r image.Rectangle, fill filler) croppable {
		n, m := image.NewNRGBA(r), image.NewRGBA(r)
		fill(n.Pix, 4)
		draw.Draw(m, r, n, r.Min, draw.Src)
		return m
	}, 8, pngRGB, pngRGBA},
	{"rgba 16", func(r image.Rectangle, fill filler) croppable {
		n, m := image.NewNRGBA64(r), image.NewRGBA64(r)
		fill(n.Pix, 8)
		draw.Draw(m, r, n, r.Min, draw.Src)
		return m
	}, 16, pngRGB, pngRGBA},
	{"alpha", func(r image.Rectangle, fill filler) croppable { m := image.NewAlpha(r); fill(m.Pix, 1); return m }, 8, pngRGB, pngRGBA},
	{"cmyk", func(r image.Rectangle, fill filler) croppable { m := image.NewCMYK(r); fill(m.Pix, 0); return m }, 8, pngRGB, pngRGB},
	{"ycbcr", func(r image.Rectangle, fill filler) croppable {
		m := image.NewYCbCr(r, image.YCbCrSubsampleRatio420)
		fill(m.Y, 0)
		fill(m.Cb, 0)
		fill(m.Cr, 0)
		return m
	}, 8, pngRGB, pngRGB},
	{"nycbcra", func(r image.Rectangle, fill filler) croppable {
		m := image.NewNYCbCrA(r, image.YCbCrSubsampleRatio422)
		fill(m.Y, 0)
		fill(m.Cb, 0)
		fill(m.Cr, 0)
		fill(m.A, 1)
		return m
	}, 8, pngRGB, pngRGBA},
	{"other", func(r image.Rectangle, fill filler) croppable {
		m := image.NewNRGBA(r)
		fill(m.Pix, 4)
		return other{m}
	}, 8, pngRGB, pngRGBA},
}

// other is a type that the encoder does not know.
type other struct{ m *image.NRGBA }

func (o other) ColorModel() color.Model                { return o.m.ColorModel() }
func (o other) Bounds() image.Rectangle                { return o.m.Bounds() }
func (o other) At(x, y int) color.Color                { return o.m.At(x, y) }
func (o other) SubImage(r image.Rectangle) image.Image { return other{o.m.SubImage(r).(*image.NRGBA)} }

// copyOf is the same picture with nothing around it.
func copyOf(img image.Image) image.Image {
	b := img.Bounds()
	r := image.Rectangle{Max: b.Size()}
	rows := func(dst []byte, dstStride int, src []byte, stride, n int) {
		for y := range b.Dy() {
			copy(dst[y*dstStride:][:n], src[y*stride:])
		}
	}
	switch m := img.(type) {
	case *image.Gray:
		c := image.NewGray(r)
		rows(c.Pix, c.Stride, m.Pix, m.Stride, c.Stride)
		return c
	case *image.Gray16:
		c := image.NewGray16(r)
		rows(c.Pix, c.Stride, m.Pix, m.Stride, c.Stride)
		return c
	case *image.RGBA:
		c := image.NewRGBA(r)
		rows(c.Pix, c.Stride, m.Pix, m.Stride, c.Stride)
		return c
	case *image.NRGBA:
		c := image.NewNRGBA(r)
		rows(c.Pix, c.Stride, m.Pix, m.Stride, c.Stride)
		return c
	case *image.RGBA64:
		c := image.NewRGBA64(r)
		rows(c.Pix, c.Stride, m.Pix, m.Stride, c.Stride)
		return c
	case *image.NRGBA64:
		c := image.NewNRGBA64(r)
		rows(c.Pix, c.Stride, m.Pix, m.Stride, c.Stride)
		return c
	case *image.Paletted:
		c := image.NewPaletted(r, m.Palette)
		rows(c.Pix, c.Stride, m.Pix, m.Stride, c.Stride)
		return c
	}
	return nil
}

// A filler fills a buffer whose pixels have so many bytes, of which the last ones
// are alpha; 1 is alpha alone and 0 has none.
type filler func(pix []byte, pixel int)

// drawFill draws a filler: noise, slopes on which every filter finds its use, or
// one value.
func drawFill(t *rapid.T, opaque bool) filler {
	kind := rapid.SampledFrom([]string{"noise", "slope", "flat", "sparse"}).Draw(t, "pixels")
	seed := rapid.Uint64().Draw(t, "seed")
	return func(pix []byte, pixel int) {
		rnd := rand.New(rand.NewPCG(seed, uint64(len(pix))))
		v := byte(seed)
		for i := range pix {
			switch {
			case kind == "noise", kind == "sparse" && rnd.IntN(20) == 0:
				pix[i] = byte(rnd.Uint32())
			case kind == "slope":
				pix[i] = byte(i / 7)
			case kind == "flat":
				pix[i] = v
			}
		}
		for i := range pix {
			// Alpha is the last byte of a pixel, or the last two.
			if opaque && (pixel == 1 || pixel == 4 && i%4 == 3 || pixel == 8 && i%8 >= 6) {
				pix[i] = 0xff
			}
		}
	}
}

func drawSize(t *rapid.T) image.Point {
	return rapid.OneOf(
		rapid.Custom(func(t *rapid.T) image.Point {
			return image.Pt(rapid.IntRange(1, 40).Draw(t, "w"), rapid.IntRange(1, 40).Draw(t, "h"))
		}),
		rapid.SampledFrom([]image.Point{{X: 1, Y: 1}, {X: 4000, Y: 3}, {X: 3, Y: 4000}, {X: 1, Y: 700}, {X: 257, Y: 129}}),
	).Draw(t, "size")
}

func drawPaletted(t *rapid.T, r image.Rectangle) *image.Paletted {
	n := rapid.SampledFrom([]int{1, 2, 3, 4, 5, 15, 16, 17, 255, 256}).Draw(t, "colours")
	rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	transparent := rapid.Bool().Draw(t, "transparent")
	var p color.Palette
	for range n {
		c := color.NRGBA{R: byte(rnd.Uint32()), G: byte(rnd.Uint32()), B: byte(rnd.Uint32()), A: 0xff}
		if transparent && rnd.IntN(3) == 0 {
			c.A = byte(rnd.Uint32())
		}
		p = append(p, c)
	}
	m := image.NewPaletted(r, p)
	for i := range m.Pix {
		m.Pix[i] = byte(rnd.IntN(n))
	}
	return m
}

// Whatever the type, the size, the view and the options: two decoders give the
// picture's own pixels, in the smallest kind of PNG that holds them, and a crop
// is written like a copy of it.
func TestPNGIsReadBack(t *testing.T) {
	filters := [5]int{}
	check := func(t *rapid.T) {
		size := drawSize(t)
		margin := image.Pt(rapid.IntRange(0, 3).Draw(t, "left"), rapid.IntRange(0, 3).Draw(t, "top"))
		origin := image.Pt(rapid.IntRange(-5, 5).Draw(t, "x"), rapid.IntRange(-5, 5).Draw(t, "y"))
		whole := image.Rectangle{Max: size.Add(margin).Add(image.Pt(2, 1))}.Add(origin)
		crop := image.Rectangle{Min: whole.Min.Add(margin), Max: whole.Min.Add(margin).Add(size)}
		o := imageio.PNGOptions{
			Level:  rapid.SampledFrom([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}).Draw(t, "level"),
			Filter: rapid.SampledFrom([]imageio.PNGFilter{imageio.PNGUp, imageio.PNGAdaptive}).Draw(t, "filter"),
		}
		var img image.Image
		kind := rapid.IntRange(0, len(pngTypes)).Draw(t, "type")
		if kind == len(pngTypes) {
			img = drawPaletted(t, whole).SubImage(crop)
		} else {
			img = pngTypes[kind].make(whole, drawFill(t, rapid.Bool().Draw(t, "opaque"))).SubImage(crop)
		}
		var b bytes.Buffer
		if err := imageio.EncodePNG(&b, img, o); err != nil {
			t.Fatal(err)
		}
		p, err := readStrictPNG(b.Bytes())
		if err != nil {
			t.Fatalf("the strict decoder says: %v", err)
		}
		for i, n := range p.filters {
			filters[i] += n
		}
		if p.size != size {
			t.Fatalf("%v came back as %v", size, p.size)
		}
		if kind < len(pngTypes) {
			k := pngTypes[kind]
			want := k.translucent
			if o, ok := img.(interface{ Opaque() bool }); ok && o.Opaque() {
				want = k.opaque
			}
			if _, unknown := img.(other); unknown && img.(other).m.Opaque() {
				want = k.opaque
			}
			if p.colour != want || p.depth != k.depth {
				t.Fatalf("%s was written as type %d with %d bits, want %d with %d", k.name, p.colour, p.depth, want, k.depth)
			}
		}
		std, err := png.Decode(bytes.NewReader(b.Bytes()))
		if err != nil {
			t.Fatalf("image/png says: %v", err)
		}
		for y := range size.Y {
			for x := range size.X {
				want := expected(img, crop.Min.X+x, crop.Min.Y+y)
				if got := p.at(x, y); got != want {
					t.Fatalf("at %d, %d: %v, want %v", x, y, got, want)
				}
				if got := expected(std, x, y); got != want {
					t.Fatalf("at %d, %d: image/png reads %v, want %v", x, y, got, want)
				}
			}
		}
		if c := copyOf(img); c != nil {
			var again bytes.Buffer
			if err := imageio.EncodePNG(&again, c, o); err != nil || !bytes.Equal(b.Bytes(), again.Bytes()) {
				t.Fatalf("a copy of the crop gives other bytes (%v)", err)
			}
		}
	}
	rapid.Check(t, check)
	for i, n := range filters {
		if n == 0 {
			t.Errorf("filter %d was never used: the pictures are too simple", i)
		}
	}
}

// One pixel that is not quite opaque, wherever it is, gives an alpha channel.
func TestPNGSeesEveryTransparentPixel(t *testing.T) {
	type canvas interface {
		croppable
		draw.Image
	}
	const w, h = 5, 3
	r := image.Rect(0, 0, w, h)
	for _, img := range []canvas{image.NewRGBA(r), image.NewNRGBA(r), image.NewRGBA64(r), image.NewNRGBA64(r), image.NewNRGBA(r).SubImage(r).(canvas)} {
		white := color.NRGBA64{0xffff, 0xffff, 0xffff, 0xffff}
		draw.Draw(img, r, image.NewUniform(white), image.Point{}, draw.Src)
		for i := range 2 * w * h {
			x, y := i/2%w, i/2/w
			alpha := uint16(0xfeff)
			if _, _, _, a := img.ColorModel().Convert(color.NRGBA64{A: 0xfffe}).RGBA(); i%2 == 1 && a == 0xfffe {
				alpha = 0xfffe
			}
			img.Set(x, y, color.NRGBA64{0xffff, 0xffff, 0xffff, alpha})
			for crop, want := range map[image.Rectangle]int{
				r: pngRGBA, image.Rect(0, 0, x, h): pngRGB, image.Rect(x+1, 0, w, h): pngRGB, image.Rect(x, y, w, h): pngRGBA,
			} {
				if crop.Empty() {
					continue
				}
				var b bytes.Buffer
				if err := imageio.EncodePNG(&b, img.SubImage(crop), imageio.PNGOptions{}); err != nil {
					t.Fatal(err)
				}
				if p, err := readStrictPNG(b.Bytes()); err != nil || p.colour != want {
					t.Errorf("%T with a transparent pixel at %d, %d, of which %v: type %d, want %d (%v)", img, x, y, crop, p.colour, want, err)
				}
			}
			img.Set(x, y, white)
		}
	}
}

// Every size of palette, in the fewest bits.
func TestPNGPalettes(t *testing.T) {
	for n := 1; n <= 256; n++ {
		img := noisePaletted(61, 3, n)
		img.Pix[7] = byte(n - 1)
		var b bytes.Buffer
		if err := imageio.EncodePNG(&b, img, imageio.PNGOptions{}); err != nil {
			t.Fatal(err)
		}
		p, err := readStrictPNG(b.Bytes())
		if err != nil {
			t.Fatalf("%d colours: %v", n, err)
		}
		depth := 8
		for _, d := range []int{4, 2, 1} {
			if n <= 1<<d {
				depth = d
			}
		}
		if len(p.palette) != n || p.depth != depth {
			t.Errorf("%d colours came back as %d with %d bits, want %d", n, len(p.palette), p.depth, depth)
		}
		for i, v := range img.Pix {
			if p.sample(i%61, i/61, 0) != int(v) {
				t.Fatalf("%d colours: pixel %d has colour %d, want %d", n, i, p.sample(i%61, i/61, 0), v)
			}
		}
	}
}

// The bytes of a picture do not depend on what the same encoder, or others
// beside it, wrote before.
func TestPNGIsDeterministic(t *testing.T) {
	pictures := []image.Image{
		opaque(noise(300, 40)), noise(33, 70), noiseGray16(90, 90), noisePaletted(200, 30, 14),
		opaque16(noise16(120, 50)), photo(t).SubImage(image.Rect(100, 100, 400, 300)),
	}
	for level := 1; level <= 9; level++ {
		o := imageio.PNGOptions{Level: level, Filter: imageio.PNGFilter(level % 2)}
		first := make([][]byte, len(pictures))
		for i, m := range pictures {
			var b bytes.Buffer
			if err := imageio.EncodePNG(&b, m, o); err != nil {
				t.Fatal(err)
			}
			first[i] = b.Bytes()
		}
		var wg sync.WaitGroup
		for worker := range 4 {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(level), uint64(worker)))
				for range 3 {
					i := rnd.IntN(len(pictures))
					var b bytes.Buffer
					if err := imageio.EncodePNG(&b, pictures[i], o); err != nil || !bytes.Equal(b.Bytes(), first[i]) {
						t.Errorf("level %d: picture %d gave other bytes (%v)", level, i, err)
					}
				}
			})
		}
		wg.Wait()
	}
}

// A file's bytes are part of a run's fingerprint by the encoder's version alone.
// If this fails without a new version of klauspost/compress, raise
// pngWriterVersion with the sums.
func TestPNGBytes(t *testing.T) {
	img := as(image.NewRGBA(image.Rect(0, 0, 300, 200)), opaque(noise(300, 200)))
	for y := range 100 { // half noise, half a pattern
		for x := range 300 {
			img.SetRGBA(x, y, color.RGBA{R: uint8(x), G: uint8(y), B: uint8(x * y / 16), A: 0xff})
		}
	}
	for _, tt := range []struct {
		o    imageio.PNGOptions
		want string
	}{
		{imageio.PNGOptions{}, "71454845cf165d48"},
		{imageio.PNGOptions{Level: 6, Filter: imageio.PNGAdaptive}, "276a6c855258da28"},
	} {
		h := sha256.New()
		if err := imageio.EncodePNG(h, img, tt.o); err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(h.Sum(nil)[:8]); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.o, got, tt.want)
		}
	}
}

func photo(t testing.TB) *image.RGBA {
	t.Helper()
	data, err := os.ReadFile("../../testdata/photos/stream.jpg")
	if err != nil {
		t.Fatal(err)
	}
	m, err := jpeg.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return as(image.NewRGBA(image.Rectangle{Max: m.Bounds().Size()}), m)
}

func TestPNGOfExtremeShapes(t *testing.T) {
	for _, size := range []image.Point{{X: 65535, Y: 3}, {X: 3, Y: 65535}} {
		m := opaque(noise(size.X, size.Y))
		var b bytes.Buffer
		if err := imageio.EncodePNG(&b, m, imageio.PNGOptions{}); err != nil {
			t.Fatal(err)
		}
		p, err := readStrictPNG(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		last := size.Sub(image.Pt(1, 1))
		if got, want := p.at(last.X, last.Y), expected(m, last.X, last.Y); got != want {
			t.Errorf("%v ends with %v, want %v", size, got, want)
		}
		// Noise does not compress, so there is more than one chunk of pixels.
		if len(p.idat) < 3 || slices.Min(p.idat[:len(p.idat)-1]) < 64<<10 {
			t.Errorf("%v: chunks of %v bytes", size, p.idat)
		}
	}
}

func TestPNGErrors(t *testing.T) {
	wrongIndex := image.NewPaletted(image.Rect(0, 0, 3, 2), color.Palette{color.Black, color.White})
	wrongIndex.Pix[4] = 2
	huge := image.NewUniform(color.NRGBA{1, 2, 3, 4}) // 2e9 pixels a side
	for name, tt := range map[string]struct {
		img  image.Image
		o    imageio.PNGOptions
		want string
	}{
		"empty":            {image.NewGray(image.Rect(0, 0, 0, 5)), imageio.PNGOptions{}, "the picture is empty (0 x 5 pixels)"},
		"level too high":   {noise(2, 2), imageio.PNGOptions{Level: 10}, "there is no level 10"},
		"level too low":    {noise(2, 2), imageio.PNGOptions{Level: -1}, "there is no level -1"},
		"beyond a palette": {wrongIndex, imageio.PNGOptions{}, "the pixel at 1, 1 has colour 2 of a palette of 2"},
		"rows too long":    {huge, imageio.PNGOptions{}, "a row of 2000000000 pixels is too long"},
	} {
		var b bytes.Buffer
		err := imageio.EncodePNG(&b, tt.img, tt.o)
		if err == nil || !strings.HasPrefix(err.Error(), "encoding png: ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	// A failure leaves nothing behind that spoils the next picture.
	if err := imageio.EncodePNG(io.Discard, noise(9, 9), imageio.PNGOptions{}); err != nil {
		t.Error(err)
	}
}

// limited fails at its n-th byte, or lies about how many it took.
type limited struct {
	n   int
	err error
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.n)
	if l.n -= n; n < len(p) {
		return n, l.err
	}
	return n, nil
}

func TestPNGWriteErrors(t *testing.T) {
	m := opaque(noise(300, 300))
	var whole bytes.Buffer
	if err := imageio.EncodePNG(&whole, m, imageio.PNGOptions{}); err != nil {
		t.Fatal(err)
	}
	full := errors.New("disk full")
	for _, n := range []int{0, 7, 60, 64 << 10, 100_000, whole.Len() - 1} {
		if err := imageio.EncodePNG(&limited{n, full}, m, imageio.PNGOptions{}); !errors.Is(err, full) {
			t.Errorf("failing at byte %d of %d: %v", n, whole.Len(), err)
		}
		if err := imageio.EncodePNG(&limited{n, nil}, m, imageio.PNGOptions{}); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("a short write at byte %d: %v", n, err)
		}
		var again bytes.Buffer
		if err := imageio.EncodePNG(&again, m, imageio.PNGOptions{}); err != nil || !bytes.Equal(again.Bytes(), whole.Bytes()) {
			t.Errorf("after a failure at byte %d the next picture is another one (%v)", n, err)
		}
	}
}

func TestPNGProfile(t *testing.T) {
	// A profile's header, enough to tell for which colours it is.
	profile := func(colours string) []byte {
		p := make([]byte, 3000)
		for i := range p {
			p[i] = byte(i * i / 100)
		}
		copy(p[16:], colours)
		return p
	}
	rgb, gray, cmyk := profile("RGB "), profile("GRAY"), profile("CMYK")
	grayPicture := image.NewGray(image.Rect(0, 0, 4, 4))
	for name, tt := range map[string]struct {
		img  image.Image
		icc  []byte
		want []byte
	}{
		"none":                  {noise(4, 4), nil, nil},
		"colour":                {noise(4, 4), rgb, rgb},
		"palette":               {noisePaletted(4, 4, 4), rgb, rgb},
		"gray":                  {grayPicture, gray, gray},
		"of CMYK, on converted": {noise(4, 4), cmyk, nil},
		"of colour, on gray":    {grayPicture, rgb, nil},
		"of gray, on colour":    {noise(4, 4), gray, nil},
		"cut off":               {noise(4, 4), rgb[:100], nil},
	} {
		var b bytes.Buffer
		if err := imageio.EncodePNG(&b, tt.img, imageio.PNGOptions{ICC: tt.icc}); err != nil {
			t.Fatal(err)
		}
		p, err := readStrictPNG(b.Bytes())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(p.icc, tt.want) {
			t.Errorf("%s: a profile of %d bytes, want %d", name, len(p.icc), len(tt.want))
		}
		if got, want := p.at(3, 2), expected(tt.img, 3, 2); got != want {
			t.Errorf("%s: a pixel is %v, want %v", name, got, want)
		}
	}
}

// A frame whose lease has ended must be free, and a row is all that is copied.
func TestPNGKeepsNothing(t *testing.T) {
	img, w := as(image.NewRGBA(image.Rect(0, 0, 512, 512)), opaque(noise(512, 512))), &bytes.Buffer{}
	if err := imageio.EncodePNG(w, img, imageio.PNGOptions{}); err != nil {
		t.Fatal(err)
	}
	w.Reset()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := imageio.EncodePNG(w, img, imageio.PNGOptions{}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 2<<20 { // a new encoder, should the pool have lost the old one
		t.Errorf("it allocated %d bytes", n)
	}
	theImage, theWriter := weak.Make(img), weak.Make(w)
	runtime.GC() // what lies in pools survives one
	if theImage.Value() != nil || theWriter.Value() != nil {
		t.Error("the encoder holds on to the picture or the writer")
	}
}

func TestPNGEncoder(t *testing.T) {
	if a, b := imageio.PNGEncoder(imageio.PNGOptions{}), imageio.PNGEncoder(imageio.PNGOptions{Level: 1}); a != b {
		t.Errorf("%q and %q name the same encoder", a, b)
	}
	names := map[string]bool{}
	for level := 1; level <= 9; level++ {
		for _, f := range []imageio.PNGFilter{imageio.PNGUp, imageio.PNGAdaptive} {
			names[imageio.PNGEncoder(imageio.PNGOptions{Level: level, Filter: f})] = true
		}
	}
	if len(names) != 18 {
		t.Errorf("18 encoders have %d names", len(names))
	}
}

// photoTiles cuts the test photographs into tiles of 512x512.
func photoTiles(b *testing.B) []image.Image {
	var tiles []image.Image
	names, err := filepath.Glob("../../testdata/photos/*.jpg")
	if err != nil || len(names) == 0 {
		b.Fatal("no photographs:", err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		m, err := jpeg.Decode(bytes.NewReader(data))
		if err != nil {
			b.Fatal(err)
		}
		if _, ok := m.(*image.YCbCr); !ok {
			continue
		}
		rgb := as(image.NewRGBA(m.Bounds()), m)
		for y := 0; y+512 <= rgb.Rect.Dy(); y += 512 {
			for x := 0; x+512 <= rgb.Rect.Dx(); x += 512 {
				tiles = append(tiles, rgb.SubImage(image.Rect(x, y, x+512, y+512)))
			}
		}
	}
	return tiles
}

// BenchmarkPNG reports tiles of photographs per second and their size, beside
// the standard library.
func BenchmarkPNG(b *testing.B) {
	tiles := photoTiles(b)
	run := func(name string, encode func(w io.Writer, m image.Image) error) {
		b.Run(name, func(b *testing.B) {
			var w bytes.Buffer
			rounds, size := 0, 0
			for b.Loop() {
				size = 0
				for _, m := range tiles {
					w.Reset()
					if err := encode(&w, m); err != nil {
						b.Fatal(err)
					}
					size += w.Len()
				}
				rounds++
			}
			b.ReportMetric(float64(rounds*len(tiles))/b.Elapsed().Seconds(), "tiles/s")
			b.ReportMetric(float64(size)/float64(len(tiles))/1000, "KB/tile")
			b.ReportMetric(0, "ns/op")
		})
	}
	std := png.Encoder{CompressionLevel: png.BestSpeed}
	run("standard", std.Encode)
	for _, f := range []imageio.PNGFilter{imageio.PNGUp, imageio.PNGAdaptive} {
		for _, level := range []int{1, 6} {
			o := imageio.PNGOptions{Level: level, Filter: f}
			run(fmt.Sprintf("filter=%d/level=%d", f, level), func(w io.Writer, m image.Image) error {
				return imageio.EncodePNG(w, m, o)
			})
		}
	}
}
