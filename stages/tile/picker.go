package tile

import (
	"image"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

// maxBlocks bounds what a picker keeps: 10 bytes for each block, 20 MiB.
const maxBlocks = 2 << 20

// A picker finds the squares of one size in which a picture has the most detail,
// one after the other, none overlapping another: each time the one with the
// largest sum among all positions that are left; of equals the uppermost and
// then the leftmost. Sums are integers, so the answer is exact.
//
// Going once down the picture with the sums of its columns, it meets the sum at
// every position. A picture can have as many of those as pixels, so positions
// are grouped into square blocks, of which it keeps the best position and its
// sum. A square that is taken forbids all positions less than its size away.
// Blocks that it covers whole are out; what is kept of one that it covers in
// part may no longer be free, but it is no less than what is: when such a block
// is the best of all, and only then, its free positions are measured again,
// which takes no more than the strips by which their squares differ.
type picker struct {
	luma          *imageio.Luma
	width, height int
	size, align   int // of the squares; of their positions
	plan

	best  []int64  // for each block the sum of its best position, -1 when none is free
	at    []uint16 // and where in the block that is, by rows
	rows  []int    // for each row of blocks the best block, -1 when none is left
	taken []image.Point
}

// plan says how positions are grouped.
type plan struct {
	across, down  int  // positions
	shift         uint // a block has 1<<shift positions in both directions
	columns, rows int  // blocks
}

func newPlan(width, height, size, align, limit int) plan {
	p := plan{across: (width-size)/align + 1, down: (height-size)/align + 1}
	for {
		side := 1 << p.shift
		p.columns, p.rows = ceil(p.across, side), ceil(p.down, side)
		// The squares of a block must have a part in common, for refresh.
		if p.columns*p.rows <= limit || (2*side-1)*align > size || p.shift == 8 {
			return p
		}
		p.shift++
	}
}

// bytes is what a picker occupies, refreshing included.
func (p plan) bytes(width, size, align int) int64 {
	blocks := int64(p.columns) * int64(p.rows) * (8 + 2)
	stripes := 2 * 4 * 4 * int64(width+8)
	sums := 8 * (int64(width) + int64(p.across) + int64(p.rows))
	if once(size, align) {
		sums += 8 * int64(size/align) * int64(p.across)
	}
	return blocks + stripes + sums + 64<<10 // for what a large allocation is rounded up to
}

// newPicker goes through the picture. It must be at least of the squares' size.
func newPicker(luma *imageio.Luma, width, height, size, align, limit int) *picker {
	p := &picker{luma: luma, width: width, height: height, size: size, align: align, plan: newPlan(width, height, size, align, limit)}
	n := p.columns * p.plan.rows
	p.best, p.at, p.rows = make([]int64, n), make([]uint16, n), make([]int, p.plan.rows)
	for i := range p.best {
		p.best[i] = -1
	}
	if once(size, align) {
		p.scanOnce()
	} else {
		p.scanTwice()
	}
	for r := range p.rows {
		p.rank(r)
	}
	return p
}

// once says whether scanOnce serves, and in little memory.
func once(size, align int) bool { return align >= 4 && size%align == 0 }

// scanOnce goes down the picture with the sums of its columns from the top, and
// remembers what they were a square's height ago: a sum for each position along
// a row, for as many rows of positions as a square is high.
func (p *picker) scanOnce() {
	rows := newStripe(p.luma, p.width, p.height, 0, p.width, 0)
	columns := make([]int64, p.width)
	above := make([]int64, p.size/p.align*p.across) // a ring
	sums := make([]int64, p.across)
	n := p.size / p.align
	for j := range p.down + n {
		then := above[j%n*p.across:][:p.across]
		p.slide(sums, columns)
		if j >= n {
			for i, v := range sums {
				then[i] = v - then[i]
			}
			p.offer(j-n, then)
		}
		copy(then, sums)
		if j+1 == p.down+n {
			break
		}
		for range p.align {
			for x, v := range rows.next() {
				columns[x] += int64(v)
			}
		}
	}
}

// scanTwice goes down the picture with the sums of its columns over the height
// of a square. It computes each row a second time when it leaves the square,
// because the rows of a square can be large: those of 512 px in a picture of 100
// megapixels occupy 24 MB.
func (p *picker) scanTwice() {
	enter := newStripe(p.luma, p.width, p.height, 0, p.width, 0)
	leave := newStripe(p.luma, p.width, p.height, 0, p.width, 0)
	columns := make([]int64, p.width)
	sums := make([]int64, p.across)
	for y := range (p.down-1)*p.align + p.size {
		for x, v := range enter.next() {
			columns[x] += int64(v)
		}
		top := y - p.size + 1
		if top < 0 {
			continue
		}
		if top%p.align == 0 {
			p.slide(sums, columns)
			p.offer(top/p.align, sums)
		}
		for x, v := range leave.next() {
			columns[x] -= int64(v)
		}
	}
}

// slide adds up as many columns as a square is wide, at each position.
func (p *picker) slide(sums, columns []int64) {
	var sum int64
	for _, v := range columns[:p.size] {
		sum += v
	}
	sums[0] = sum
	for i := range sums[1:] {
		x := i * p.align
		out, in := columns[x:x+p.align], columns[x+p.size:][:p.align]
		for k, v := range out {
			sum += in[k] - v
		}
		sums[i+1] = sum
	}
}

// offer takes in the sums at the positions of row j.
func (p *picker) offer(j int, sums []int64) {
	mask := 1<<p.shift - 1
	row := (j >> p.shift) * p.columns
	best, at := p.best[row:row+p.columns], p.at[row:row+p.columns]
	first := (j & mask) << p.shift
	for i, sum := range sums {
		if b := i >> p.shift; sum > best[b] {
			best[b], at[b] = sum, uint16(first+i&mask)
		}
	}
}

// position is where the kept square of a block lies in the picture.
func (p *picker) position(block int) image.Point {
	at := int(p.at[block])
	return image.Pt(
		((block%p.columns)<<p.shift+at&(1<<p.shift-1))*p.align,
		((block/p.columns)<<p.shift+at>>p.shift)*p.align)
}

// rank finds the best block of a row.
func (p *picker) rank(r int) {
	best, found := int64(-1), -1
	first := r * p.columns
	for c, v := range p.best[first : first+p.columns] {
		b := first + c
		if v > best || v == best && found >= 0 && p.at[b]>>p.shift < p.at[found]>>p.shift {
			best, found = v, b // at equal sums it lies further up
		}
	}
	p.rows[r] = found
}

// next takes the best square that is free. It returns its upper left corner and
// its sum, or false when there is none.
func (p *picker) next() (corner image.Point, sum int64, ok bool) {
	for {
		found := -1
		for _, b := range p.rows {
			if b >= 0 && (found < 0 || p.best[b] > p.best[found]) {
				found = b
			}
		}
		if found < 0 {
			return image.Point{}, 0, false
		}
		corner, sum = p.position(found), p.best[found]
		if p.free(corner, p.taken) {
			p.take(corner)
			return corner, sum, true
		}
		p.refresh(found)
		p.rank(found / p.columns)
	}
}

// free says whether a square there overlaps none of the others.
func (p *picker) free(corner image.Point, others []image.Point) bool {
	for _, t := range others {
		if p.overlap(corner.X, t.X) && p.overlap(corner.Y, t.Y) {
			return false
		}
	}
	return true
}

func (p *picker) overlap(a, b int) bool { return a-b < p.size && b-a < p.size }

// take forbids everything that overlaps a square there.
func (p *picker) take(corner image.Point) {
	p.taken = append(p.taken, corner)
	from, to := p.reach(corner.X, p.columns)
	top, bottom := p.reach(corner.Y, p.plan.rows)
	for r := top; r < bottom; r++ {
		y0, y1 := p.span(r, p.down)
		for c := from; c < to; c++ {
			x0, x1 := p.span(c, p.across)
			if p.overlap(x0, corner.X) && p.overlap(x1, corner.X) && p.overlap(y0, corner.Y) && p.overlap(y1, corner.Y) {
				p.best[r*p.columns+c] = -1
			}
		}
		p.rank(r)
	}
}

// reach is the range of blocks, in one direction in which there are so many,
// that have positions which overlap a square at that place.
func (p *picker) reach(place, blocks int) (from, to int) {
	side := p.align << p.shift
	return max(place-p.size, 0) / side, min((place+p.size)/side+1, blocks)
}

// span is where the first and the last positions of a block lie, in one
// direction in which the picture has so many.
func (p *picker) span(block, positions int) (first, last int) {
	first = block << p.shift
	return first * p.align, (min(first+1<<p.shift, positions) - 1) * p.align
}
