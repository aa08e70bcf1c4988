package sheet

import (
	"cmp"
	"image"
	"image/color"
	"slices"
)

// GIF has 256 colours. One palette serves all frames, and which of them a pixel gets
// depends on its colour and its place alone, so that nothing flickers that does not
// change. Colours are told apart by their upper 6 bits.
const (
	bits   = 6
	bins   = 1 << (3 * bits)
	mixing = 16 // colours of the palette that together stand for another

	// paletteBytes is what a histogram, the list of its colours and a palette take.
	paletteBytes = bins*4 + bins*24 + bins*2 + 1<<16*mixing
)

// Letters have edges of colours between those of text and background.
var (
	color100 = color.RGBA{101, 101, 101, 255}
	color200 = color.RGBA{203, 203, 203, 255}
)

func binOf(r, g, b uint8) int {
	return int(r)>>(8-bits)<<(2*bits) | int(g)>>(8-bits)<<bits | int(b)>>(8-bits)
}

// colourOf is the colour that a bin stands for: of those that it holds, one that is
// spread over all 8 bits, so that black and white are themselves.
func colourOf(bin int) [3]int32 {
	wide := func(v int) int32 {
		v &= 1<<bits - 1
		return int32(v<<(8-bits) | v>>(2*bits-8))
	}
	return [3]int32{wide(bin >> (2 * bits)), wide(bin >> bits), wide(bin)}
}

// A histogram counts colours.
type histogram struct{ counts []uint32 }

func newHistogram() *histogram { return &histogram{make([]uint32, bins)} }

// add counts the pixels of a picture, of a large one every few of them.
func (h *histogram) add(m *image.RGBA) {
	const enough = 1 << 20
	step := 1
	for m.Rect.Dx()*m.Rect.Dy()/(step*step) > enough {
		step++
	}
	for y := 0; y < m.Rect.Dy(); y += step {
		row := m.Pix[y*m.Stride:][:4*m.Rect.Dx()]
		for x := 0; x < len(row); x += 4 * step {
			h.counts[binOf(row[x], row[x+1], row[x+2])]++
		}
	}
}

// A palette is what colours become. It is for one goroutine.
type palette struct {
	colours [256][3]int32
	mixed   []uint16        // where a bin's colours are in mixes, from 1; 0: not made yet
	mixes   [][mixing]uint8 // for a bin, colours that are near it on the mean, from dark to bright
}

// palette chooses colours by median cut (P. Heckbert, Color Image Quantization for
// Frame Buffer Display, 1982), and moves each to the mean of those that it is nearest
// to. The fixed ones are among them.
func (h *histogram) palette(fixed ...color.RGBA) *palette {
	var all []weighted
	for bin, n := range h.counts {
		if n > 0 {
			all = append(all, weighted{colourOf(bin), int64(n)})
		}
	}
	p := &palette{mixed: make([]uint16, bins)}
	free := p.colours[len(fixed):]
	boxes := cut(all, len(free))
	for i, c := range fixed {
		p.colours[i] = [3]int32{int32(c.R), int32(c.G), int32(c.B)}
	}
	for i, b := range boxes {
		free[i] = mean(b)
	}
	free = free[:len(boxes)]
	const rounds = 2
	for range rounds {
		p.settle(all, free)
	}
	return p
}

// weighted is a colour that so many pixels have.
type weighted struct {
	colour [3]int32
	n      int64
}

// cut divides colours into so many groups, or as many as there are colours.
func cut(all []weighted, groups int) [][]weighted {
	if len(all) == 0 {
		return nil
	}
	type box struct {
		of   []weighted
		axis int
		cost float64 // how much would be won by dividing it
	}
	boxOf := func(of []weighted) box {
		b := box{of: of}
		m := mean(of)
		var spread [3]float64
		for _, w := range of {
			for c := range 3 {
				d := float64(w.colour[c] - m[c])
				spread[c] += d * d * float64(w.n)
			}
		}
		for c, weight := range [3]float64{2, 4, 3} { // as in distance
			if s := spread[c] * weight; s > b.cost {
				b.axis, b.cost = c, s
			}
		}
		if len(of) < 2 {
			b.cost = 0
		}
		return b
	}
	boxes := []box{boxOf(all)}
	for len(boxes) < groups {
		widest := 0
		for i := range boxes {
			if boxes[i].cost > boxes[widest].cost {
				widest = i
			}
		}
		b := boxes[widest]
		if b.cost == 0 {
			break
		}
		slices.SortStableFunc(b.of, func(v, w weighted) int { return cmp.Compare(v.colour[b.axis], w.colour[b.axis]) })
		var total, seen int64
		for _, w := range b.of {
			total += w.n
		}
		at := 0
		for at < len(b.of)-1 && (at == 0 || 2*seen < total) {
			seen += b.of[at].n
			at++
		}
		boxes[widest] = boxOf(b.of[:at])
		boxes = append(boxes, boxOf(b.of[at:]))
	}
	out := make([][]weighted, len(boxes))
	for i, b := range boxes {
		out[i] = b.of
	}
	return out
}

func mean(all []weighted) (m [3]int32) {
	var sum [3]int64
	var n int64
	for _, w := range all {
		for c := range 3 {
			sum[c] += int64(w.colour[c]) * w.n
		}
		n += w.n
	}
	for c := range 3 {
		m[c] = int32((sum[c] + n/2) / n)
	}
	return m
}

// settle moves the free colours.
func (p *palette) settle(all []weighted, free [][3]int32) {
	var sums [256]struct {
		colour [3]int64
		n      int64
	}
	for _, w := range all {
		s := &sums[p.nearest(w.colour)]
		for c := range 3 {
			s.colour[c] += int64(w.colour[c]) * w.n
		}
		s.n += w.n
	}
	first := len(p.colours) - cap(free)
	for i := range free {
		if s := sums[first+i]; s.n > 0 {
			for c := range 3 {
				free[i][c] = int32((s.colour[c] + s.n/2) / s.n)
			}
		}
	}
}

// nearest is the colour of the palette that is most like c.
func (p *palette) nearest(c [3]int32) uint8 {
	best, at := int32(1<<30), 0
	for i := range p.colours {
		q := &p.colours[i]
		r, g, b := c[0]-q[0], c[1]-q[1], c[2]-q[2]
		if d := 2*r*r + 4*g*g + 3*b*b; d < best {
			best, at = d, i
		}
	}
	return uint8(at)
}

// thresholds order the places of a square by when they become bright (Bayer 1973).
var thresholds = [4][4]uint8{{0, 8, 2, 10}, {12, 4, 14, 6}, {3, 11, 1, 9}, {15, 7, 13, 5}}

// index is the palette's colour for a pixel at that place.
func (p *palette) index(r, g, b uint8, x, y int) uint8 {
	bin := binOf(r, g, b)
	if p.mixed[bin] == 0 {
		if len(p.mixes) == 1<<16-1 { // more than there are in nearly all pictures
			return p.nearest(colourOf(bin))
		}
		p.mixes = append(p.mixes, p.mix(colourOf(bin)))
		p.mixed[bin] = uint16(len(p.mixes))
	}
	return p.mixes[p.mixed[bin]-1][thresholds[y&3][x&3]]
}

// mix finds colours that are near c on the mean: pattern dithering, as T. Knoll
// describes it in US patent 6606166, which has ended. Less than all of what is still
// missing is made up for, since colours far from c would be seen as grain.
func (p *palette) mix(c [3]int32) (out [mixing]uint8) {
	var missing [3]int32
	for i := range out {
		want := c
		for k := range 3 {
			want[k] = min(max(c[k]+missing[k]*3/4, 0), 255)
		}
		n := p.nearest(want)
		out[i] = n
		for k := range 3 {
			missing[k] += c[k] - p.colours[n][k]
		}
	}
	slices.SortStableFunc(out[:], func(a, b uint8) int {
		return cmp.Compare(brightness(p.colours[a]), brightness(p.colours[b]))
	})
	return out
}

func brightness(c [3]int32) int32 { return 2*c[0] + 5*c[1] + c[2] }
