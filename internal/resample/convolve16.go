package resample

import (
	"context"
	"encoding/binary"

	"github.com/disintegration/imaging"
)

// With 40 bits after the point the rounded weights of the longest filter still
// add up to one within a fraction of a 16-bit level, and a sum has 7 bits left.
const bits16 = 40

// unfix rounds and clips a sum.
func unfix(sum int64) uint16 {
	return uint16(min(max((sum+1<<(bits16-1))>>bits16, 0), 65535))
}

func convolve16(ctx context.Context, to canvas, x, y axis, src source, f imaging.ResampleFilter) error {
	across := x.taps(f, bits16)
	p := passes[uint16]{vertical: vertical16}
	if src.form.channels == 1 {
		line := make([]uint16, src.size.X)
		p.horizontal = func(dst []uint16, row []uint8) {
			for x := range line {
				line[x] = binary.BigEndian.Uint16(row[2*x:])
			}
			horizontalGray16(dst, line, across)
		}
		p.finish = finishGray16
	} else {
		line := make([][4]uint16, src.size.X)
		straight := src.form.straight
		p.horizontal = func(dst []uint16, row []uint8) {
			load16(line, row, straight)
			horizontal16(dst, line, across)
		}
		p.finish = func(dst []uint8, row []uint16) { finish16(dst, row, straight) }
	}
	return p.run(ctx, to, src, y.taps(f, bits16))
}

// load16 reads a row, and multiplies straight colours with alpha.
func load16(line [][4]uint16, row []uint8, straight bool) {
	row = row[:8*len(line)]
	for x := range line {
		v := binary.BigEndian.Uint64(row[8*x : 8*x+8])
		p := &line[x]
		p[0], p[1], p[2], p[3] = uint16(v>>48), uint16(v>>32), uint16(v>>16), uint16(v)
		if a := uint32(p[3]); straight && a != 65535 {
			for c, v := range p[:3] {
				p[c] = uint16((uint32(v)*a + 32767) / 65535)
			}
		}
	}
}

func horizontal16(dst []uint16, line [][4]uint16, across []tap) {
	dst = dst[:4*len(across)]
	for x := range across {
		t := &across[x]
		weights := t.weights
		near := line[t.first:][:len(weights)]
		var r, g, b, a int64
		for i, w := range weights {
			p := &near[i]
			r += int64(p[0]) * w
			g += int64(p[1]) * w
			b += int64(p[2]) * w
			a += int64(p[3]) * w
		}
		d := dst[4*x : 4*x+4 : 4*x+4]
		d[0], d[1], d[2], d[3] = unfix(r), unfix(g), unfix(b), unfix(a)
	}
}

func horizontalGray16(dst, line []uint16, across []tap) {
	dst = dst[:len(across)]
	for x := range across {
		t := &across[x]
		weights := t.weights
		near := line[t.first:][:len(weights)]
		var sum int64
		for i, w := range weights {
			sum += int64(near[i]) * w
		}
		dst[x] = unfix(sum)
	}
}

// vertical16 goes over the columns four at a time, whatever channels they are.
func vertical16(dst []uint16, r *ring[uint16], down tap) {
	begin := r.at(down.first)
	buf, stride, weights := r.buf, r.stride, down.weights
	for x := 0; x+4 <= len(dst); x += 4 {
		at := begin + x
		var a, b, c, d int64
		for _, w := range weights {
			v := buf[at : at+4 : at+4]
			a += int64(v[0]) * w
			b += int64(v[1]) * w
			c += int64(v[2]) * w
			d += int64(v[3]) * w
			if at += stride; at >= len(buf) {
				at -= len(buf)
			}
		}
		o := dst[x : x+4 : x+4]
		o[0], o[1], o[2], o[3] = unfix(a), unfix(b), unfix(c), unfix(d)
	}
}

func finishGray16(dst []uint8, row []uint16) {
	for x, v := range row {
		binary.BigEndian.PutUint16(dst[2*x:], v)
	}
}

// finish16 keeps colours within alpha, which a filter that overshoots may lift
// them above, and divides straight ones by it.
func finish16(dst []uint8, row []uint16, straight bool) {
	for i := 0; i+4 <= len(row); i += 4 {
		p := row[i : i+4 : i+4]
		a := p[3]
		for c := range 3 {
			v := min(p[c], a)
			if straight && a != 0 && a != 65535 {
				v = uint16((uint32(v)*65535 + uint32(a)/2) / uint32(a))
			}
			binary.BigEndian.PutUint16(dst[2*(i+c):], v)
		}
		binary.BigEndian.PutUint16(dst[2*(i+3):], a)
	}
}
