package phash

import (
	"math"
	"slices"
)

// side is the width and height of the picture that PDQ is computed from.
const side = 64

// An axis tells, for the columns or the rows of a picture, what each of them
// contributes to the side samples that the Jarosz filter leaves.
//
// PDQ blurs with a box filter, twice along each axis, and keeps one sample in
// the middle of each of the 64 parts of an axis. All of this is linear, and what
// happens along one axis does not depend on the other. So there is no need to
// blur pixels that are not sampled: a sample is a weighted sum, whose weights are
// two boxes one after the other, and its reach of 2*window-1 pixels is about the
// distance between samples. A pixel counts for one or two of them.
type axis [side]tap

// A tap is the weights of one sample: weight[i] is that of the pixel first+i.
// They are whole numbers that add up to the axis's one, so that sums are exact
// and the same on every machine, and a flat picture stays flat.
type tap struct {
	first  int
	weight []uint64
}

// last is the last pixel of a sample.
func (t tap) last() int { return t.first + len(t.weight) - 1 }

// mirrored is where the samples of the mirrored picture lie in the upright one, of
// n pixels, in its order. They are not the same: pixels are whole, so that samples
// and boxes cannot lie symmetrically.
func (a axis) mirrored(n int) (m axis) {
	for s, t := range a {
		w := slices.Clone(t.weight)
		slices.Reverse(w)
		m[side-1-s] = tap{first: n - 1 - t.last(), weight: w}
	}
	return m
}

// newAxis makes the taps for n pixels.
//
// The box is ceil(n/128) pixels wide, reaches one pixel further to the right
// when its width is even, and takes the mean of the pixels that exist where the
// border cuts it off.
func newAxis(n int, one uint64) axis {
	const boxes = 2 * side
	window := (n + boxes - 1) / boxes
	before, after := (window-1)/2, window/2
	box := func(i int) (lo, hi int) { return max(0, i-before), min(n-1, i+after) }

	var a axis
	for s := range a {
		lo, hi := box((2*s + 1) * n / (2 * side))
		first, _ := box(lo)
		_, last := box(hi)
		// The mean over the box of means over boxes. The i-th difference is by how
		// much pixel first+i weighs more than the one before, and the running sum
		// of the weights is rounded, not the weights, so that no error adds up.
		difference := make([]float64, last-first+2)
		for i := lo; i <= hi; i++ {
			from, to := box(i)
			w := 1 / (float64(hi-lo+1) * float64(to-from+1))
			difference[from-first] += w
			difference[to-first+1] -= w
		}
		t := tap{first: first, weight: make([]uint64, last-first+1)}
		var weight, sum float64
		var given uint64
		for i := range t.weight {
			weight += difference[i]
			sum += weight
			upTo := min(uint64(math.Round(float64(sum*float64(one)))), one)
			t.weight[i] = upTo - given
			given = upTo
		}
		t.weight[len(t.weight)-1] += one - given
		a[s] = t
	}
	return a
}
