package resample

import (
	"context"
	"encoding/binary"
	"fmt"
	"image"

	"github.com/disintegration/imaging"
)

// Rows resizes the part of img that box says to size, and calls row with each
// row of the part of the result that lies in window, from the top: its y in the
// result, and its samples of 8 bits, red, green and blue in turn, or one gray
// sample for each pixel where img is gray or luma asks for it. The samples are
// row's to read until it returns; an error of row ends the work, and is returned
// as it is. Only what window needs is computed, and its samples are those that
// it has in the whole result.
//
// Before anything is averaged, the pixels become what Pillow's convert("RGB")
// makes of them: alpha is dropped, and the colours below it stay as they are,
// where they were multiplied with it after a division. Samples of 16 bits are
// divided by 257 and rounded, which Pillow does not do. luma is Pillow's
// convert("L"), after BT.601. From there on, the result is that of Pillow 13,
// which is Resize's for an opaque picture, save that the vertical pass goes first
// where more than twice as many rows go as columns do; up to Pillow 12 it never
// does, and samples differ by a level or a few.
//
// Box, size and window must not be empty; window lies inside the result.
func Rows(ctx context.Context, img image.Image, box Box, size image.Point, window image.Rectangle, f imaging.ResampleFilter, luma bool, row func(y int, samples []uint8) error) error {
	b := img.Bounds()
	if !inside(box, b.Size()) || window.Empty() || !window.In(image.Rectangle{Max: size}) {
		panic(fmt.Sprintf("BUG: %v of %v is wanted of %v of a picture of %v", window, size, box, b.Size()))
	}
	x := axis{src: b.Dx(), dst: size.X, from: box.X, length: box.W}
	y := axis{src: b.Dy(), dst: size.Y, from: box.Y, length: box.H}
	_, same := x.kept()
	if same {
		_, same = y.kept()
	}
	r := opaque{source: open(img), luma: luma}
	if f.Support <= 0 || same {
		return r.nearest(ctx, x, y, window, row)
	}
	return r.convolve(ctx, x, y, window, f, row)
}

// inside reports whether a box is a part of a picture.
func inside(box Box, size image.Point) bool {
	return box.X >= 0 && box.Y >= 0 && box.W > 0 && box.H > 0 && box.X+box.W <= float64(size.X) && box.Y+box.H <= float64(size.Y)
}

// RowsBytes is what Rows occupies at most while it works for a picture of the
// size from, of which a part of the length by scale becomes to, with a window of
// that size.
func RowsBytes(from, to, window image.Point, f imaging.ResampleFilter) int64 {
	across := axis{src: from.X, dst: to.X, length: float64(from.X)}
	down := axis{src: from.Y, dst: to.Y, length: float64(from.Y)}
	// A line of a source that is converted, two lines of it as bytes, and one of
	// pairs, in whole size classes.
	work := int64(from.X)*8 + 2*classBytes(int64(from.X)*4) + classBytes(int64(from.X)*pairBytes)
	if f.Support <= 0 || from == to {
		return work + int64(window.X)*(8+4)
	}
	x, y := int64(across.span(f)), int64(down.span(f))
	work += int64(window.X)*(8*x+tapBytes) + int64(window.Y)*(8*y+tapBytes) + 8*(x+y)
	stride := int64(ringStride(3 * window.X))
	if down.first(across) {
		stride = int64(ringStride(4 * from.X))
		work += classBytes(3 * int64(window.X))
	}
	return work + classBytes((y+2)*stride) + classBytes(stride)
}

// opaque reads a picture as gray or opaque colours of 8 bits.
type opaque struct {
	source
	luma bool
}

// gray reports whether a pixel has one byte; else it has four, of which the last
// means nothing.
func (o *opaque) gray() bool { return o.luma || o.form.channels == 1 }

// samples is how many a pixel of the result has.
func (o *opaque) samples() int {
	if o.gray() {
		return 1
	}
	return 3
}

// read returns the pixels of row y from the column begin up to end: in place, or
// in buf, which has 4 bytes for each. They are valid until buf is used again.
func (o *opaque) read(y, begin, end int, buf []uint8) []uint8 {
	n := o.form.bytes()
	in := o.row(y)[begin*n : end*n]
	buf = buf[:4*(end-begin)]
	switch {
	case o.form == gray:
		return in
	case o.form == gray16:
		buf = buf[:end-begin]
		for x := range buf {
			buf[x] = narrow(uint32(binary.BigEndian.Uint16(in[2*x:])))
		}
		return buf
	case o.form.depth == 16:
		straighten16(buf, in, o.form.straight)
		in = buf
	case !o.form.straight && !covers(in):
		straighten8(buf, in)
		in = buf
	}
	if o.luma {
		buf = buf[:end-begin]
		lumaOf(buf, in)
		return buf
	}
	if o.line && o.form.depth == 8 {
		copy(buf, in)
		return buf
	}
	return in
}

// narrow divides 16 bits by 257, and rounds.
func narrow(v uint32) uint8 { return uint8((v*255 + 32895) >> 16) }

// covers reports whether all pixels are opaque.
func covers(in []uint8) bool {
	all := ^uint64(0)
	for ; len(in) >= 32; in = in[32:] {
		all &= binary.LittleEndian.Uint64(in) & binary.LittleEndian.Uint64(in[8:]) & binary.LittleEndian.Uint64(in[16:]) & binary.LittleEndian.Uint64(in[24:])
	}
	for ; len(in) >= 8; in = in[8:] {
		all &= binary.LittleEndian.Uint64(in)
	}
	if len(in) >= 4 {
		all &= uint64(binary.LittleEndian.Uint32(in)) | 0xff<<56
	}
	return all&(0xff000000_ff000000) == 0xff000000_ff000000
}

// straighten8 divides colours by their alpha.
func straighten8(out, in []uint8) {
	for i := 0; i+4 <= len(out) && i+4 <= len(in); i += 4 {
		p, q := in[i:i+4:i+4], out[i:i+4:i+4]
		a := uint32(p[3])
		if a == 255 || a == 0 {
			copy(q, p)
			continue
		}
		for c, v := range p[:3] {
			q[c] = uint8(min((uint32(v)*255+a/2)/a, 255))
		}
	}
}

// straighten16 divides colours by their alpha if they are not straight, and
// makes them 8 bits.
func straighten16(out, in []uint8, straight bool) {
	for i := 0; i+4 <= len(out); i += 4 {
		p, q := in[2*i:2*i+8:2*i+8], out[i:i+4:i+4]
		a := uint32(binary.BigEndian.Uint16(p[6:]))
		for c := range 3 {
			v := uint32(binary.BigEndian.Uint16(p[2*c:]))
			if !straight && a != 0 && a != 65535 {
				v = min((v*65535+a/2)/a, 65535)
			}
			q[c] = narrow(v)
		}
	}
}

// lumaOf is Pillow's conversion to gray; out may be where in begins.
func lumaOf(out, in []uint8) {
	in = in[:4*len(out)]
	for x := range out {
		p := in[4*x : 4*x+4 : 4*x+4]
		out[x] = uint8((uint32(p[0])*19595 + uint32(p[1])*38470 + uint32(p[2])*7471 + 0x8000) >> 16)
	}
}

// nearest hands over the pixel at each new pixel's centre.
func (o *opaque) nearest(ctx context.Context, x, y axis, window image.Rectangle, row func(y int, samples []uint8) error) error {
	begin, end := x.middle(window.Min.X), x.middle(window.Max.X-1)+1
	line := bytePool.get(4 * (end - begin))
	defer bytePool.put(line)
	samples := o.samples()
	out := bytePool.get(samples * window.Dx())
	defer bytePool.put(out)
	_, kept := x.kept()
	var at []int // where in the row each pixel comes from
	if !kept {
		at = make([]int, window.Dx())
		for i := range at {
			at[i] = x.middle(window.Min.X+i) - begin
		}
	}
	last := -1
	for i := window.Min.Y; i < window.Max.Y; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if sy := y.middle(i); sy != last {
			in := o.read(sy, begin, end, *line)
			switch {
			case samples == 1 && kept:
				copy(*out, in)
			case samples == 1:
				for x, from := range at {
					(*out)[x] = in[from]
				}
			case kept:
				pack(*out, in)
			default:
				for x, from := range at {
					copy((*out)[3*x:3*x+3], in[4*from:4*from+3])
				}
			}
			last = sy
		}
		if err := row(i, *out); err != nil {
			return err
		}
	}
	return nil
}

// pack leaves out every fourth byte.
func pack(out, in []uint8) {
	for i, j := 0, 0; i+3 <= len(out) && j+4 <= len(in); i, j = i+3, j+4 {
		p, q := in[j:j+4:j+4], out[i:i+3:i+3]
		q[0], q[1], q[2] = p[0], p[1], p[2]
	}
}

// A pair is two pixels of three samples, one above the other, ready for the
// multiplication: with three products instead of four.
type pair struct {
	upper, lower uint64 // red and blue, 32 bits apart
	green        uint64 // of both
}

const pairBytes = 24

func (o *opaque) convolve(ctx context.Context, x, y axis, window image.Rectangle, f imaging.ResampleFilter, row func(y int, samples []uint8) error) error {
	across := x.tapsOf(f, bits8, window.Min.X, window.Max.X)
	down := y.tapsOf(f, bits8, window.Min.Y, window.Max.Y)
	begin, end := reach(across)
	for i := range across {
		across[i].first -= begin
	}
	if y.first(x) {
		return o.verticalFirst(ctx, across, down, begin, end, window.Min.Y, row)
	}
	_, bottom := reach(down)
	slots := 0
	for _, t := range down {
		slots = max(slots, len(t.weights)+1) // and the row that is read ahead
	}

	n := window.Dx() * o.samples()
	stride := ringStride(n)
	lines := bytePool.get(8 * (end - begin))
	defer bytePool.put(lines)
	buf := bytePool.get(slots * stride)
	defer bytePool.put(buf)
	out := bytePool.get(stride)
	defer bytePool.put(out)
	pairs := pairPool.get(end - begin)
	defer pairPool.put(pairs)
	first, second := (*lines)[:4*(end-begin)], (*lines)[4*(end-begin):]
	r := ring[uint8]{buf: *buf, stride: stride, slots: slots}

	next := 0
	for i, t := range down {
		// Here for those that are made larger, and below for those made smaller.
		if err := ctx.Err(); err != nil {
			return err
		}
		for next = max(next, t.first); next < t.first+len(t.weights); next += 2 {
			if err := ctx.Err(); err != nil {
				return err
			}
			below := min(next+1, bottom-1)
			a := o.read(next, begin, end, first)
			upper, lower := r.buf[r.at(next):][:n], r.buf[r.at(below):][:n]
			b := a
			if below != next {
				b = o.read(below, begin, end, second)
			}
			if o.gray() {
				horizontalGray8(upper, a, across)
				horizontalGray8(lower, b, across)
				continue
			}
			loadPairs(*pairs, a, b)
			horizontalPairs(upper, lower, *pairs, across)
		}
		vertical8(*out, &r, t)
		if err := row(window.Min.Y+i, (*out)[:n]); err != nil {
			return err
		}
	}
	return nil
}

// first reports whether Pillow, from 13 on, averages along the axis y before it
// does along x: when more than twice as many rows go as columns.
func (y axis) first(x axis) bool {
	rows, columns := y.src-y.dst, x.src-x.dst
	return rows > 0 && rows > 2*columns
}

// verticalFirst is convolve in the other order, which gives other samples, as
// there is rounding after each.
func (o *opaque) verticalFirst(ctx context.Context, across, down []tap, begin, end, top int, row func(y int, samples []uint8) error) error {
	pixel := 4
	if o.gray() {
		pixel = 1
	}
	slots := 0
	for _, t := range down {
		slots = max(slots, len(t.weights))
	}
	n := pixel * (end - begin)
	stride := ringStride(n)
	line := bytePool.get(4 * (end - begin))
	defer bytePool.put(line)
	buf := bytePool.get(slots * stride)
	defer bytePool.put(buf)
	between := bytePool.get(stride)
	defer bytePool.put(between)
	pairs := pairPool.get(end - begin)
	defer pairPool.put(pairs)
	out := bytePool.get(len(across) * o.samples())
	defer bytePool.put(out)
	r := ring[uint8]{buf: *buf, stride: stride, slots: slots}

	next := 0
	for i, t := range down {
		// Here for those that are made larger, and below for those made smaller.
		if err := ctx.Err(); err != nil {
			return err
		}
		for next = max(next, t.first); next < t.first+len(t.weights); next++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			copy(r.buf[r.at(next):], o.read(next, begin, end, *line))
		}
		vertical8(*between, &r, t)
		if o.gray() {
			horizontalGray8(*out, *between, across)
		} else {
			loadPairs(*pairs, *between, *between)
			horizontalPairs(*out, *out, *pairs, across)
		}
		if err := row(top+i, *out); err != nil {
			return err
		}
	}
	return nil
}

// reach is what taps are made of.
func reach(taps []tap) (begin, end int) {
	begin = taps[0].first
	for _, t := range taps {
		begin, end = min(begin, t.first), max(end, t.first+len(t.weights))
	}
	return begin, end
}

func loadPairs(line []pair, a, b []uint8) {
	a, b = a[:4*len(line)], b[:4*len(line)]
	for x := range line {
		v := uint64(binary.LittleEndian.Uint32(a[4*x : 4*x+4]))
		w := uint64(binary.LittleEndian.Uint32(b[4*x : 4*x+4]))
		p := &line[x]
		p.upper, p.lower = (v|v<<16)&laneMask, (w|w<<16)&laneMask
		p.green = (v>>8 | w<<24) & laneMask
	}
}

func horizontalPairs(upper, lower []uint8, line []pair, across []tap) {
	upper, lower = upper[:3*len(across)], lower[:3*len(across)]
	for x := range across {
		t := &across[x]
		weights := t.weights
		near := line[t.first:][:len(weights)]
		u, l, g := uint64(laneHalf), uint64(laneHalf), uint64(laneHalf)
		for ; len(weights) >= 4 && len(near) >= 4; weights, near = weights[4:], near[4:] {
			w0, w1, w2, w3 := uint64(weights[0]), uint64(weights[1]), uint64(weights[2]), uint64(weights[3])
			p0, p1, p2, p3 := &near[0], &near[1], &near[2], &near[3]
			u += p0.upper*w0 + p1.upper*w1 + p2.upper*w2 + p3.upper*w3
			l += p0.lower*w0 + p1.lower*w1 + p2.lower*w2 + p3.lower*w3
			g += p0.green*w0 + p1.green*w1 + p2.green*w2 + p3.green*w3
		}
		near = near[:len(weights)]
		for i, w := range weights {
			p := &near[i]
			u += p.upper * uint64(w)
			l += p.lower * uint64(w)
			g += p.green * uint64(w)
		}
		a, b := upper[3*x:3*x+3:3*x+3], lower[3*x:3*x+3:3*x+3]
		a[0], a[2] = unlane(u)
		b[0], b[2] = unlane(l)
		a[1], b[1] = unlane(g)
	}
}
