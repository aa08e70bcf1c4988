package tile

import (
	"errors"
	"image"
	"math"
)

const (
	// cellParts is into how many parts a cell of a map is divided: places in a picture
	// that is no whole number of cells wide are rounded to them.
	cellParts = 256
	// mapOne is what a value of 1 is in the sums, which are whole numbers: so equals are
	// equal, however they were added up.
	mapOne = 1 << 20
)

// A grid is how the cells of a map lie in a picture: the sides of this picture, in
// pixels, are cells.X/parts and cells.Y/parts wide.
type grid struct {
	picture image.Point // px
	scaled  image.Point // px of the picture that the map was made of
}

// place is where a length along one axis, in pixels, ends in the map, in parts of a cell.
func place(px, picture, scaled int) int {
	const parts = cellParts / mapCell
	return (2*px*scaled*parts + picture) / (2 * picture)
}

// places finds the squares of one size over which a map has the largest mean, one after
// the other, none overlapping another: each time the one with the largest sum among all
// positions that are left; of equals the uppermost and then the leftmost. A cell that
// lies in a square in part counts with that part.
//
// Of each row of positions it keeps the best. When that is no longer free, the row is
// looked at again, and only when it is the best of all.
type places struct {
	grid
	size, align  int // of the squares; of their positions; px
	wide, high   int // squares, in parts of a cell
	across, down int // positions

	columns int     // cells in a row
	sums    []int64 // of all cells above and to the left, (columns+1) for each row of cells
	line    []int64 // of one row of squares: of all cells to the left that it covers

	best  []int64 // for each row of positions the sum of the best, -1 when none is free
	at    []int   // and its column, px
	taken []image.Point
}

// newPlaces takes a map of rows with stride values each, of which those of the picture
// begin at origin. The picture must be at least of the squares' size.
func newPlaces(g grid, size, align int, values []float32, stride int, origin image.Point) (*places, error) {
	p := &places{
		grid: g, size: size, align: align,
		wide: max(place(size, g.picture.X, g.scaled.X), 1), high: max(place(size, g.picture.Y, g.scaled.Y), 1),
		across: (g.picture.X-size)/align + 1, down: (g.picture.Y-size)/align + 1,
	}
	// Where places are rounded, the last square may end a part of a cell after the picture.
	rows := ceil(g.scaled.Y, mapCell) + 1
	p.columns = ceil(g.scaled.X, mapCell) + 1
	if stride < origin.X+p.columns || len(values) < stride*(origin.Y+rows) {
		return nil, errors.New("its map is smaller than the picture: it must have a value for each 8 x 8 pixels")
	}
	n := p.columns + 1
	p.sums, p.line = make([]int64, n*(rows+1)), make([]int64, n)
	for y := range rows {
		row := values[(origin.Y+y)*stride+origin.X:][:p.columns]
		above, here := p.sums[y*n:][:n], p.sums[(y+1)*n:][:n]
		var sum int64
		for x, v := range row {
			if !(v >= 0 && v <= 1) {
				return nil, errors.New("its map has values outside of 0 to 1: it is not the one of IC9600")
			}
			sum += int64(math.Round(float64(v) * mapOne))
			here[x+1] = above[x+1] + sum
		}
	}
	p.best, p.at = make([]int64, p.down), make([]int, p.down)
	for row := range p.down {
		p.look(row)
	}
	return p, nil
}

// placesBytes is what places occupy, for a picture of that size.
func placesBytes(g grid, size, align int) int64 {
	cells := int64(ceil(g.scaled.X, mapCell)+2) * int64(ceil(g.scaled.Y, mapCell)+2)
	return 8*cells + 16*int64((g.picture.Y-size)/align+1)
}

// look finds the best free position of a row.
func (p *places) look(row int) {
	y := row * p.align
	top := place(y, p.picture.Y, p.scaled.Y)
	n := p.columns + 1
	for x := range p.line {
		p.line[x] = between(p.sums[x:], n, top+p.high) - between(p.sums[x:], n, top)
	}
	var near []image.Point
	for _, t := range p.taken {
		if t.Y-y < p.size && y-t.Y < p.size {
			near = append(near, t)
		}
	}
	p.best[row] = -1
	for x := 0; x <= p.picture.X-p.size; x += p.align {
		if after, ok := p.covered(x, near); ok {
			x = ceil(after, p.align)*p.align - p.align
			continue
		}
		left := place(x, p.picture.X, p.scaled.X)
		if sum := between(p.line, 1, left+p.wide) - between(p.line, 1, left); sum > p.best[row] {
			p.best[row], p.at[row] = sum, x
		}
	}
}

// covered tells whether a square at x overlaps one of the others, which are near it, and
// where the first place after that one is.
func (p *places) covered(x int, near []image.Point) (after int, ok bool) {
	for _, t := range near {
		if t.X-x < p.size && x-t.X < p.size {
			return t.X + p.size, true
		}
	}
	return 0, false
}

// between is what is at a place in parts of a cell, times cellParts, of sums of which
// each step-th is one.
func between(sums []int64, step, place int) int64 {
	i, part := place/cellParts, int64(place%cellParts)
	v := sums[i*step] * cellParts
	if part > 0 {
		v += (sums[(i+1)*step] - sums[i*step]) * part
	}
	return v
}

// next takes the best square that is free. It returns its upper left corner and the mean
// of the map over it, or false when there is none.
func (p *places) next() (corner image.Point, mean float64, ok bool) {
	for {
		row := 0
		for i, sum := range p.best {
			if sum > p.best[row] {
				row = i
			}
		}
		if p.best[row] < 0 {
			return image.Point{}, 0, false
		}
		corner = image.Pt(p.at[row], row*p.align)
		if p.free(corner) {
			p.taken = append(p.taken, corner)
			return corner, float64(p.best[row]) / (float64(p.wide) * float64(p.high) * mapOne), true
		}
		p.look(row)
	}
}

func (p *places) free(corner image.Point) bool {
	for _, t := range p.taken {
		d := corner.Sub(t)
		if max(d.X, -d.X) < p.size && max(d.Y, -d.Y) < p.size {
			return false
		}
	}
	return true
}
