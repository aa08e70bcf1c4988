package resample

import (
	"context"
	"encoding/binary"

	"github.com/disintegration/imaging"
)

// The sums of 8-bit samples with weights of 22 bits after the point fit into 32
// bits with their sign, as in Pillow. So two of them are computed at once, in
// the halves of a 64-bit number: a product of two samples that are 32 bits apart
// with one weight is both products, and when the lower sum is negative, what it
// borrowed from the upper one is known at the end.

const bits8 = 22

// lanes is a pixel of four samples, ready for the multiplication: red and blue,
// green and alpha, 32 bits apart.
type lanes struct{ rb, ga uint64 }

const (
	laneMask = 0x000000ff_000000ff
	laneHalf = 1<<(bits8-1) | 1<<(bits8-1+32)
)

// unlane rounds and clips the two sums.
func unlane(sums uint64) (lower, upper uint8) {
	lo := int32(uint32(sums))
	hi := int32(uint32((sums - uint64(int64(lo))) >> 32))
	return uint8(min(max(lo>>bits8, 0), 255)), uint8(min(max(hi>>bits8, 0), 255))
}

func convolve8(ctx context.Context, to canvas, x, y axis, src source, f imaging.ResampleFilter) error {
	across := x.taps(f, bits8)
	p := passes[uint8]{vertical: vertical8}
	if src.form.channels == 1 {
		p.horizontal = func(dst, row []uint8) { horizontalGray8(dst, row, across) }
		p.finish = func(dst, row []uint8) { copy(dst, row) }
	} else {
		line := make([]lanes, src.size.X)
		load, finish := loadPremultiplied8, finishPremultiplied8
		if src.form.straight {
			load, finish = loadStraight8, finishStraight8
		}
		p.horizontal = func(dst, row []uint8) {
			load(line, row)
			horizontal8(dst, line, across)
		}
		p.finish = finish
	}
	return p.run(ctx, to, src, y.taps(f, bits8))
}

func loadPremultiplied8(line []lanes, row []uint8) {
	row = row[:4*len(line)]
	for x := range line {
		line[x] = spread(uint64(binary.LittleEndian.Uint32(row[4*x : 4*x+4])))
	}
}

// spread moves the bytes of a pixel apart.
func spread(v uint64) lanes {
	return lanes{rb: (v | v<<16) & laneMask, ga: (v>>8 | v<<8) & laneMask}
}

// loadStraight8 multiplies the colours with alpha, rounding to 8 bits.
func loadStraight8(line []lanes, row []uint8) {
	row = row[:4*len(line)]
	for x := range line {
		v := uint64(binary.LittleEndian.Uint32(row[4*x : 4*x+4]))
		l := spread(v)
		if a := v >> 24; a != 255 {
			rb := l.rb * a
			r, b, g := div255(rb&0xffff), div255(rb>>32), div255((l.ga&0xff)*a)
			l = lanes{rb: r | b<<32, ga: g | a<<32}
		}
		line[x] = l
	}
}

// div255 is v/255, rounded, for products of two bytes.
func div255(v uint64) uint64 {
	v += 128
	return (v + v>>8) >> 8
}

func horizontal8(dst []uint8, line []lanes, across []tap) {
	dst = dst[:4*len(across)]
	for x := range across {
		t := &across[x]
		weights := t.weights
		near := line[t.first:][:len(weights)]
		rb, ga := uint64(laneHalf), uint64(laneHalf)
		i := 0
		for ; i+4 <= len(weights); i += 4 {
			w, l := weights[i:i+4:i+4], near[i:i+4:i+4]
			rb += l[0].rb*uint64(w[0]) + l[1].rb*uint64(w[1]) + l[2].rb*uint64(w[2]) + l[3].rb*uint64(w[3])
			ga += l[0].ga*uint64(w[0]) + l[1].ga*uint64(w[1]) + l[2].ga*uint64(w[2]) + l[3].ga*uint64(w[3])
		}
		for ; i < len(weights); i++ {
			rb += near[i].rb * uint64(weights[i])
			ga += near[i].ga * uint64(weights[i])
		}
		d := dst[4*x : 4*x+4 : 4*x+4]
		d[0], d[2] = unlane(rb)
		d[1], d[3] = unlane(ga)
	}
}

func horizontalGray8(dst, row []uint8, across []tap) {
	dst = dst[:len(across)]
	for x := range across {
		t := &across[x]
		weights := t.weights
		near := row[t.first:][:len(weights)]
		sum := int64(1 << (bits8 - 1))
		for i, w := range weights {
			sum += int64(near[i]) * w
		}
		dst[x] = uint8(min(max(sum>>bits8, 0), 255))
	}
}

// vertical8 goes over the columns in blocks of 8 bytes, whatever channels they
// are. The rows, and dst, reach to the end of a block.
func vertical8(dst []uint8, r *ring[uint8], down tap) {
	begin := r.at(down.first)
	buf, stride, weights := r.buf, r.stride, down.weights
	for x := 0; x+8 <= len(dst); x += 8 {
		at := begin + x
		a, b, c, d := uint64(laneHalf), uint64(laneHalf), uint64(laneHalf), uint64(laneHalf)
		for _, weight := range weights {
			w := uint64(weight)
			v := binary.LittleEndian.Uint64(buf[at:])
			a += v & laneMask * w
			b += v >> 8 & laneMask * w
			c += v >> 16 & laneMask * w
			d += v >> 24 & laneMask * w
			if at += stride; at >= len(buf) {
				at -= len(buf)
			}
		}
		o := dst[x : x+8 : x+8]
		o[0], o[4] = unlane(a)
		o[1], o[5] = unlane(b)
		o[2], o[6] = unlane(c)
		o[3], o[7] = unlane(d)
	}
}

// finishPremultiplied8 keeps colours within alpha, which a filter that
// overshoots may lift them above.
func finishPremultiplied8(dst, row []uint8) {
	copy(dst, row)
	for i := 0; i+4 <= len(dst); i += 4 {
		if p := dst[i : i+4 : i+4]; p[3] != 255 {
			p[0], p[1], p[2] = min(p[0], p[3]), min(p[1], p[3]), min(p[2], p[3])
		}
	}
}

// finishStraight8 divides the colours by alpha.
func finishStraight8(dst, row []uint8) {
	finishPremultiplied8(dst, row)
	for i := 0; i+4 <= len(dst); i += 4 {
		if p := dst[i : i+4 : i+4]; p[3] != 255 && p[3] != 0 {
			a := uint32(p[3])
			for c, v := range p[:3] {
				p[c] = uint8((uint32(v)*255 + a/2) / a)
			}
		}
	}
}
