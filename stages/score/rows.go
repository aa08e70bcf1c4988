package score

import "github.com/forgepipe/forgepipe/internal/imageio"

// rows are the luma of one row of a picture and of its neighbours, which beyond
// the border repeat the row itself.
type rows struct {
	y                  int
	above, here, below []int32

	second  []int32 // laplacian's result
	secondY int     // and the row it is of
}

// pass shows all rows to the gauges, with three of them in memory.
func pass(p picture, luma *imageio.Luma, gauges []gauge) {
	w := p.width
	buf := make([]int32, 4*w)
	r := rows{above: buf[:w:w], here: buf[w : 2*w : 2*w], below: buf[2*w : 3*w : 3*w], second: buf[3*w:], secondY: -1}
	luma.Row(r.here, 0, 0)
	copy(r.above, r.here)
	for r.y = range p.height {
		if r.y+1 < p.height {
			luma.Row(r.below, 0, r.y+1)
		} else {
			copy(r.below, r.here)
		}
		for _, g := range gauges {
			g.row(&r)
		}
		r.above, r.here, r.below = r.here, r.below, r.above
	}
}

// laplacian is 4c-l-r-t-b for every pixel of the row, computed once for all
// gauges that ask.
func (r *rows) laplacian() []int32 {
	out := r.second
	if r.secondY == r.y {
		return out
	}
	r.secondY = r.y
	n := len(out)
	here, above, below := r.here[:n], r.above[:n], r.below[:n]
	left := here[0]
	for x := range n - 1 {
		c := here[x]
		out[x] = 4*c - left - here[x+1] - above[x] - below[x]
		left = c
	}
	c := here[n-1]
	out[n-1] = 4*c - left - c - above[n-1] - below[n-1]
	return out
}
