package tile

import "github.com/forgepipe/forgepipe/internal/imageio"

// A stripe goes down a picture, between two columns, and tells how much detail
// each pixel has: |4c-l-r-t-b| of the exact luma, with the pixel's neighbours in
// the picture, also those outside of the stripe; the picture's border is
// replicated.
type stripe struct {
	luma               *imageio.Luma
	left, right        int // columns, right is the first outside
	width, height      int // of the picture
	y                  int // of the next row
	above, here, below []int32
	out                []int32
}

// newStripe begins at row y.
func newStripe(luma *imageio.Luma, width, height, left, right, y int) *stripe {
	n := right - left
	buf := make([]int32, 3*(n+2)+n)
	row := func(i int) []int32 { return buf[i*(n+2) : (i+1)*(n+2) : (i+1)*(n+2)] }
	s := &stripe{
		luma: luma, left: left, right: right, width: width, height: height, y: y,
		above: row(0), here: row(1), below: row(2), out: buf[3*(n+2):],
	}
	if n > 0 && y < height {
		s.read(s.above, max(y-1, 0))
		s.read(s.here, y)
	}
	return s
}

// read fills a row of luma with one pixel more on either side.
func (s *stripe) read(dst []int32, y int) {
	from, to := max(s.left-1, 0), min(s.right+1, s.width)
	first := from - (s.left - 1)
	s.luma.Row(dst[first:first+to-from], from, y)
	if first > 0 {
		dst[0] = dst[1]
	}
	if n := len(dst); to == s.right {
		dst[n-1] = dst[n-2]
	}
}

// next returns the next row, until the next call.
func (s *stripe) next() []int32 {
	n := len(s.out)
	if n == 0 {
		return nil
	}
	if s.y+1 < s.height {
		s.read(s.below, s.y+1)
	} else {
		copy(s.below, s.here)
	}
	out, above, below := s.out, s.above[1:n+1], s.below[1:n+1]
	left, c := s.here[0], s.here[1]
	for x, right := range s.here[2 : n+2] {
		d := 4*c - left - right - above[x] - below[x]
		out[x] = max(d, -d)
		left, c = c, right
	}
	s.above, s.here, s.below = s.here, s.below, s.above
	s.y++
	return out
}
