package sheet

import (
	"context"
	"errors"
	"image"
	"math"
	"strconv"
)

// A Difference says how far two pictures are apart. Differences are in levels of 8
// bits, from 0 to 255, also those of pictures of 16 bits, which have fractions of
// them. They are taken over red, green and blue, multiplied with alpha, and over
// alpha itself where one of the pictures is transparent somewhere.
type Difference struct {
	// PSNR is the peak signal-to-noise ratio in dB: 10 log10(255² / mean of the
	// squared differences). It is +Inf where there is no difference.
	PSNR float64
	Mean float64 // of the absolute differences
	Max  float64 // the largest absolute difference
	// Enlarged says that the pictures have different sizes, and that the smaller one
	// was enlarged before.
	Enlarged bool
}

// Equal reports whether the pictures have the same size and look the same: what is
// under full transparency does not count.
func (d Difference) Equal() bool { return d.Max == 0 && !d.Enlarged }

// level is one of 8 bits.
const level = 257

// String is for people: the three figures.
func (d Difference) String() string {
	if d.Max == 0 {
		return "no difference"
	}
	return "PSNR " + decibels(d.PSNR) + ", mean difference " + levels(d.Mean) + ", largest " + levels(d.Max)
}

func decibels(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) + " dB" }

// levels writes a difference with as many digits as tell something.
func levels(v float64) string {
	digits := 2
	if v < 0.1 {
		digits = 4
	}
	return strconv.FormatFloat(math.Round(v*math.Pow10(digits))/math.Pow10(digits), 'f', -1, 64)
}

// Compare measures how far two pictures are apart. Of different sizes, the smaller
// one is enlarged with the filter; see [Options.Filter], [Options.Region].
func Compare(ctx context.Context, before, after image.Image, o Options) (Difference, error) {
	o = o.WithDefaults()
	v, err := newView(ctx, before, after, o)
	if err != nil {
		return Difference{}, err
	}
	d, _, err := v.measure(ctx, image.Point{})
	return d, err
}

// A heat is where two pictures differ: for each pixel of a grid the largest
// difference, of 16 bits, in what it stands for.
type heat struct {
	size  image.Point
	most  []uint16
	scale uint16 // what is drawn in the last colour
	over  bool   // some differences are larger than that
}

// measure compares the pictures row by row; grid is the size of the heat map, which
// is not made when it is empty.
func (v *view) measure(ctx context.Context, grid image.Point) (Difference, *heat, error) {
	a, b := v.before.rows(v.size), v.after.rows(v.size)
	channels := 3
	if !opaque(v.before.img) || !opaque(v.after.img) {
		channels = 4
	}
	h := &heat{size: grid, most: make([]uint16, grid.X*grid.Y)}
	column := make([]int, v.size.X) // of the grid
	for x := range column {
		column[x] = x * grid.X / v.size.X
	}
	var sum, squares uint64
	var counts [1 << 16]uint64
	for y := range v.size.Y {
		if err := ctx.Err(); err != nil {
			return Difference{}, nil, err
		}
		var cells []uint16
		if grid != (image.Point{}) {
			cells = h.most[y*grid.Y/v.size.Y*grid.X:][:grid.X]
		}
		ra, rb := a.row(y), b.row(y)
		for x, cell := range column {
			p, q := ra[4*x:4*x+4], rb[4*x:4*x+4]
			var most uint16
			for c := range channels {
				d := p[c] - q[c]
				if p[c] < q[c] {
					d = -d
				}
				sum += uint64(d)
				squares += uint64(d) * uint64(d)
				most = max(most, d)
			}
			counts[most]++
			if cells != nil && most > cells[cell] {
				cells[cell] = most
			}
		}
	}
	n := float64(channels) * float64(v.size.X) * float64(v.size.Y)
	d := Difference{PSNR: math.Inf(1), Mean: float64(sum) / n / level, Enlarged: v.enlarged}
	if squares > 0 {
		d.PSNR = 10 * math.Log10(math.MaxUint16*math.MaxUint16*n/float64(squares))
	}
	for most := range counts {
		if counts[most] > 0 {
			d.Max = float64(most) / level
		}
	}
	h.fit(&counts)
	return d, h, nil
}

// fit sets the scale: the power of two, in levels of 8 bits, under which all but one
// in a thousand of the pixels lie that differ at all.
func (h *heat) fit(counts *[1 << 16]uint64) {
	var differ uint64
	largest := 0
	for d, n := range counts {
		if d > 0 && n > 0 {
			differ += n
			largest = d
		}
	}
	if largest == 0 {
		h.scale = level
		return
	}
	rest, at := differ/1000, largest
	for at > 1 && counts[at] <= rest {
		rest -= counts[at]
		at--
	}
	scale := level / 256.
	for scale < float64(at) {
		scale *= 2
	}
	h.scale = uint16(min(math.Ceil(scale), math.MaxUint16))
	h.over = largest > int(h.scale)
}

// errEmpty is for pictures without pixels.
var errEmpty = errors.New("a picture is empty")
