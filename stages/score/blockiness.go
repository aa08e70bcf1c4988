package score

import (
	"errors"
	"fmt"
	"math"
)

var blockiness = metric{
	name: "blockiness",
	doc: "traces of the 8x8 blocks of JPEG compression (Bhardwaj and Pankajakshan, A JPEG blocking artifact detector for image forensics, 2018). The gray image, rounded to whole levels, is cut into blocks of 8x8 pixels, and each is transformed with the orthonormal DCT. For each of the 64 coefficients, V is the mean of sqrt((l+r-2c)^2 + (t+b-2c)^2) over all blocks c that have all four neighbours l, r, t, b inside the image; V' is the same on the blocks shifted by 4 pixels in both directions; the result is the sum of |V' - V| / (V + 1e-8). " +
		"Uncompressed photographs read about 1 to 3, JPEG of quality 90 about 5 to 45, of quality 30 above 150; 30 is the usual limit (Ohtani et al. 2024; BHI). " +
		"The blocks are those of the source file: of a tile or a turned photograph they lie where the file's blocks lie, because on any other grid blocks hardly show. So score must stand before resize, and before pair with crop: true, which makes a new image of what it cuts; an item whose blocks are no longer known fails, as does one with fewer than 3 x 3 whole blocks on either grid (31 x 31 pixels are always enough). Images of other formats are measured from their upper left corner: they may have been JPEG before.",
	begin: newBlockiness,
}

// blockinessBytes is what blockiness occupies for each pixel of a row: the
// coefficients of three rows of blocks on two grids, and the gray row.
const blockinessBytes = 2*3*8*8 + 8

type blockinessGauge struct {
	level           float64
	gray            []float64
	blocks, shifted *blockRows
}

func newBlockiness(p picture) (gauge, error) {
	if !p.grid.Known {
		return nil, errors.New("blockiness needs the 8x8 blocks of the source file, and those are gone: put score before whatever resizes, pads or paints the picture, and before pair with crop: true")
	}
	x, y := (8-p.grid.X%8)%8, (8-p.grid.Y%8)%8
	g := &blockinessGauge{
		level:   p.level(),
		gray:    make([]float64, p.width),
		blocks:  newBlockRows(x, y, p.width, p.height),
		shifted: newBlockRows((x+4)%8, (y+4)%8, p.width, p.height),
	}
	if !g.blocks.enough() || !g.shifted.enough() {
		return nil, fmt.Errorf("blockiness needs 3 x 3 whole blocks of 8x8 pixels on both grids, and a picture of %d x %d is too small: reject small pictures before score (31 x 31 are always enough)", p.width, p.height)
	}
	return g, nil
}

func (g *blockinessGauge) row(r *rows) {
	for x, v := range r.here {
		g.gray[x] = float64(rounded(v, g.level))
	}
	g.blocks.row(r.y, g.gray)
	g.shifted.row(r.y, g.gray)
}

func (g *blockinessGauge) value() float64 {
	v, shifted := g.blocks.mean(), g.shifted.mean()
	var sum float64
	for k := range v {
		sum += math.Abs(shifted[k]-v[k]) / (v[k] + 1e-8)
	}
	return sum
}

// blockRows goes down a picture in blocks and keeps the coefficients of three
// rows of them.
type blockRows struct {
	x, y          int // of the first whole block
	columns, rows int // of whole blocks

	above, here, below []block
	done               int // rows of blocks
	sum                block
}

// A block is the 8x8 coefficients of a block, a row for each vertical frequency.
type block [64]float64

func newBlockRows(x, y, width, height int) *blockRows {
	b := &blockRows{x: x, y: y, columns: max(width-x, 0) / 8, rows: max(height-y, 0) / 8}
	b.above, b.here, b.below = make([]block, b.columns), make([]block, b.columns), make([]block, b.columns)
	return b
}

func (b *blockRows) enough() bool { return b.columns >= 3 && b.rows >= 3 }

// row takes in the picture's row y.
func (b *blockRows) row(y int, gray []float64) {
	y -= b.y
	if y < 0 || y >= 8*b.rows {
		return
	}
	gray = gray[b.x:]
	for i := range b.below {
		dct8((*[8]float64)(b.below[i][8*(y%8):]), (*[8]float64)(gray[8*i:]))
	}
	if y%8 < 7 {
		return
	}
	for i := range b.below {
		b.below[i].columns()
	}
	if b.done++; b.done >= 3 {
		for i := 1; i < b.columns-1; i++ {
			b.sum.add(&b.here[i], &b.here[i-1], &b.here[i+1], &b.above[i], &b.below[i])
		}
	}
	b.above, b.here, b.below = b.here, b.below, b.above
}

// add adds how far each coefficient of c lies from the straight lines through
// its neighbours. Products are rounded before they are added, on machines that
// could fuse the two as well.
func (s *block) add(c, left, right, top, bottom *block) {
	for k := range s {
		h := left[k] + right[k] - float64(2*c[k])
		v := top[k] + bottom[k] - float64(2*c[k])
		s[k] += math.Sqrt(float64(h*h) + float64(v*v))
	}
}

// mean is V.
func (b *blockRows) mean() block {
	v := b.sum
	n := float64(b.columns-2) * float64(b.rows-2)
	for k := range v {
		v[k] /= n
	}
	return v
}
