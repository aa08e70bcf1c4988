package tile

import "image"

// refresh finds the best free position of a block again. It knows the sum at the
// position that was best. All squares of the block share a core of columns; to
// its left and right lie the columns that only some of them have:
//
//	left  |  core  | right
//
// So it sums up the columns of those two strips, and moves up and down by rows.
func (p *picker) refresh(block int) {
	x0, x1 := p.span(block%p.columns, p.across)
	y0, y1 := p.span(block/p.columns, p.down)
	w := window{picker: p, x0: x0, x1: x1, left: make([]int64, x1-x0), right: make([]int64, x1-x0)}

	old := p.position(block)
	w.strip(w.left, x0, old.Y)
	w.strip(w.right, x0+p.size, old.Y)
	w.core = p.best[block]
	for _, v := range w.left[old.X-x0:] {
		w.core -= v
	}
	for _, v := range w.right[:old.X-x0] {
		w.core -= v
	}
	w.move(y0+p.size, y0, old.Y-y0)

	var near []image.Point
	for _, t := range p.taken {
		if t.X > x0-p.size && t.X < x1+p.size && t.Y > y0-p.size && t.Y < y1+p.size {
			near = append(near, t)
		}
	}
	best, at := int64(-1), 0
	for y := y0; ; y += p.align {
		sum := w.core
		for _, v := range w.left {
			sum += v
		}
		for x := x0; ; x += p.align {
			if sum > best && p.free(image.Pt(x, y), near) {
				best, at = sum, (y-y0)/p.align<<p.shift+(x-x0)/p.align
			}
			if x == x1 {
				break
			}
			for k := x - x0; k < x-x0+p.align; k++ {
				sum += w.right[k] - w.left[k]
			}
		}
		if y == y1 {
			break
		}
		w.move(y, y+p.size, p.align)
	}
	p.best[block], p.at[block] = best, uint16(at)
}

// window holds the sums of the squares of a block that lie at one height.
type window struct {
	*picker
	x0, x1      int     // first and last position
	left, right []int64 // sums of columns, from x0 and from x0+size on
	core        int64
}

// strip sums up columns from x on, as high as a square at y.
func (w *window) strip(columns []int64, x, y int) {
	s := newStripe(w.luma, w.width, w.height, x, x+len(columns), y)
	for range w.size {
		for i, v := range s.next() {
			columns[i] += int64(v)
		}
	}
}

// move takes n rows from out on off the sums, and adds n rows from in on.
func (w *window) move(out, in, n int) {
	w.add(out, n, -1)
	w.add(in, n, 1)
}

func (w *window) add(y, n int, sign int64) {
	if n == 0 {
		return
	}
	s := newStripe(w.luma, w.width, w.height, w.x0, w.x1+w.size, y)
	for range n {
		row := s.next()
		for i := range w.left {
			w.left[i] += sign * int64(row[i])
			w.right[i] += sign * int64(row[w.size+i])
		}
		for _, v := range row[w.x1-w.x0 : w.size] {
			w.core += sign * int64(v)
		}
	}
}
