package phash

import (
	"image"
	"math"
	"slices"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

// MinSide is the least width and height, in pixels, of a picture that PDQ
// hashes.
const MinSide = 5

// PDQ computes the PDQ hash of a picture and its quality (Facebook, "The
// TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm", 2019).
//
// The quality, 0 to 100, measures how much there is to see at the scale of the
// hash. Below 50 the hash is no verdict on the picture: most of its bits are
// noise, and pictures that share nothing may be near each other. It says nothing
// about whether the picture is good. A picture narrower or lower than MinSide
// has no hash: all zeros, with quality 0.
//
// Unrelated pictures differ in about 128 bits; 31 or fewer are taken for the
// same picture. Bits and bytes are in the order of the reference tools: in
// hexadecimal the hash is theirs.
//
// Luma is that of [imageio.Luma]: alpha is ignored, and a transparent pixel
// counts with the colour it has. No copy is made of the picture: see PDQBytes.
func PDQ(img image.Image) (hash [32]byte, quality int) {
	hashes, quality := pdqHashes(img, 1)
	return [32]byte(hashes), quality
}

// pdqHashes are the hashes of the first n orientations, one after another, and
// the quality of the upright picture.
func pdqHashes(img image.Image, n int) (hashes []byte, quality int) {
	if size := img.Bounds().Size(); size.X < MinSide || size.Y < MinSide {
		return make([]byte, 32*n), 0
	}
	grids := downsample(img, n)
	for o := range n {
		from := o & (mirrored | flipped)
		if o&transposed != 0 {
			from = o&mirrored<<1 | o&flipped>>1 // columns of the turned picture are rows of the upright one
		}
		t := grids[from].turned(o)
		h := pdqBits(pdqDCT(&t))
		hashes = append(hashes, h[:]...)
	}
	return hashes, pdqQuality(&grids[0])
}

// grid is a picture of 64 x 64 luma values, 0 to 255, by rows.
type grid [side][side]float64

func (g *grid) turned(o int) (t grid) {
	for y := range t {
		for x := range t[y] {
			fx, fy := before(o, x, y, side, side)
			t[y][x] = g[fy][fx]
		}
	}
	return t
}

// The sum over a row is made of luma in thousandths (18 bits) times weights of
// 24 bits in total; of that, 32 bits are kept and weighed by the row's 30 bits.
const (
	columnOne = 1 << 24
	rowShift  = 10
	rowOne    = 1 << 30
	gridOne   = 1000 * (columnOne >> rowShift) * rowOne
)

// downsample applies the Jarosz filter and takes the 64 x 64 samples, for each
// way to mirror the picture that the first n orientations have: none, left to
// right, top to bottom, both. All grids are upright.
func downsample(img image.Image, n int) []grid {
	size := img.Bounds().Size()
	columns, rows := []axis{newAxis(size.X, columnOne)}, []axis{newAxis(size.Y, rowOne)}
	if n > mirrored {
		columns = append(columns, columns[0].mirrored(size.X))
	}
	if n > flipped {
		rows = append(rows, rows[0].mirrored(size.Y))
	}
	line := newLiner(img)
	sums := make([][side][side]uint64, len(rows)*len(columns))
	from := make([]int, len(rows)) // samples before this one are complete
	for y := range size.Y {
		wanted := false
		for r := range rows {
			for from[r] < side && rows[r][from[r]].last() < y {
				from[r]++
			}
			// Else it is beyond the last sample, or between the reaches of two.
			wanted = wanted || from[r] < side && rows[r][from[r]].first <= y
		}
		if !wanted {
			continue
		}
		for c := range columns {
			var sampled [side]uint64
			line.sample(&sampled, &columns[c], y)
			for r := range rows {
				to := &sums[r*len(columns)+c]
				for s := from[r]; s < side && rows[r][s].first <= y; s++ {
					if i := y - rows[r][s].first; i < len(rows[r][s].weight) {
						w := rows[r][s].weight[i]
						for x, v := range sampled {
							to[s][x] += w * v
						}
					}
				}
			}
		}
	}
	grids := make([]grid, len(sums))
	for i := range sums {
		for y := range grids[i] {
			for x := range grids[i][y] {
				grids[i][y][x] = float64(sums[i][y][x]) / gridOne
			}
		}
	}
	return grids
}

// A liner takes the samples of one row after another.
type liner struct {
	img image.Image
	// For the types of image that have no way of their own:
	luma *imageio.Luma
	row  []int32
}

func newLiner(img image.Image) liner {
	l := liner{img: img}
	switch img.(type) {
	case *image.RGBA, *image.NRGBA:
	default:
		l.luma, l.row = imageio.NewLuma(img), make([]int32, img.Bounds().Dx())
	}
	return l
}

// sample puts the samples of row y, counted from the top of the bounds, into
// dst: luma in thousandths times columnOne, shifted by rowShift.
func (l liner) sample(dst *[side]uint64, columns *axis, y int) {
	b := l.img.Bounds()
	switch m := l.img.(type) {
	case *image.RGBA:
		sample4(dst, columns, m.Pix[m.PixOffset(b.Min.X, b.Min.Y+y):])
	case *image.NRGBA:
		sample4(dst, columns, m.Pix[m.PixOffset(b.Min.X, b.Min.Y+y):])
	default:
		l.luma.Row(l.row, 0, y)
		step := uint64(l.luma.White / 255_000) // of 16 bits, 257
		for s, t := range columns {
			var sum uint64
			row := l.row[t.first:][:len(t.weight)]
			for i, w := range t.weight {
				sum += w * ((uint64(row[i]) + step/2) / step)
			}
			dst[s] = (sum + 1<<(rowShift-1)) >> rowShift
		}
	}
}

// sample4 weighs the channels by themselves and makes luma of the sums: three
// multiplications per pixel in place of four.
func sample4(dst *[side]uint64, columns *axis, pix []uint8) {
	for s, t := range columns {
		row := pix[4*t.first:][:4*len(t.weight)]
		var r, g, b uint64
		for _, w := range t.weight {
			p := (*[4]uint8)(row)
			r += w * uint64(p[0])
			g += w * uint64(p[1])
			b += w * uint64(p[2])
			row = row[4:]
		}
		dst[s] = (299*r + 587*g + 114*b + 1<<(rowShift-1)) >> rowShift
	}
}

// pdqQuality adds up the steps between neighbours, each cut down to whole
// percents of the range.
func pdqQuality(g *grid) int {
	sum := 0
	for y := range g {
		for x := range g[y] {
			if x > 0 {
				sum += percent(g[y][x] - g[y][x-1])
			}
			if y > 0 {
				sum += percent(g[y][x] - g[y-1][x])
			}
		}
	}
	return min(sum/90, 100)
}

func percent(step float64) int { return int(math.Abs(step) * 100 / 255) }

// pdqSide is the width and height of the part of the spectrum that is hashed.
const pdqSide = 16

// pdqBasis are the cosines of the frequencies 1 to 16; the constant is left
// out, so that brightness does not count.
var pdqBasis = func() (d [pdqSide][side]float64) {
	for k := range d {
		for n := range d[k] {
			d[k][n] = math.Sqrt(2./side) * math.Cos(math.Pi/(2*side)*float64((k+1)*(2*n+1)))
		}
	}
	return d
}()

// pdqDCT is the low part of the spectrum: row by vertical and column by
// horizontal frequency.
func pdqDCT(g *grid) (c [pdqSide][pdqSide]float64) {
	// The constant does not count, and without it a flat picture gives exact
	// zeros and not the rounding errors of large numbers.
	base := g[0][0]
	for k := range c {
		var row [side]float64
		for y := range g {
			d := pdqBasis[k][y]
			for x, v := range g[y] {
				row[x] += float64(d * (v - base))
			}
		}
		for j := range c[k] {
			for x, v := range row {
				c[k][j] += float64(v * pdqBasis[j][x])
			}
		}
	}
	return c
}

// pdqBits sets the bits of the coefficients above the median. Coefficient (i,
// j) is bit 16i+j, counted from the least significant one of a number with 256
// bits, which is written most significant byte first.
func pdqBits(c [pdqSide][pdqSide]float64) (hash [32]byte) {
	var sorted [pdqSide * pdqSide]float64
	for i := range c {
		copy(sorted[pdqSide*i:], c[i][:])
	}
	slices.Sort(sorted[:])
	median := sorted[len(sorted)/2-1] // the lower one, so that half of the bits are set
	for i := range c {
		for j, v := range c[i] {
			if v > median {
				k := pdqSide*i + j
				hash[31-k/8] |= 1 << (k % 8)
			}
		}
	}
	return hash
}

// PDQBytes is what PDQ allocates at most for a picture of that size, also for
// all orientations.
func PDQBytes(size image.Point) int64 {
	return 320<<10 + 44*int64(size.X) + 40*int64(size.Y)
}
