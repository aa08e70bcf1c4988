package imageio

import "encoding/binary"

// pngFilterer filters rows (PNG specification, section 9). What its methods
// return, the filter's type and the filtered row, is valid until the next call.
type pngFilterer struct {
	pixel      int    // bytes from a sample to that on its left
	out, spare []byte // of a row's size and 1
}

const (
	filterNone = iota
	filterSub
	filterUp
	filterAverage
	filterPaeth
)

func (f *pngFilterer) none(row []byte) []byte {
	f.out[0] = filterNone
	copy(f.out[1:], row)
	return f.out
}

func (f *pngFilterer) sub(row []byte) []byte {
	f.out[0] = filterSub
	n := copy(f.out[1:], row[:f.pixel])
	subtract(f.out[1+n:], row[n:], row)
	return f.out
}

func (f *pngFilterer) up(row, above []byte) []byte {
	f.out[0] = filterUp
	subtract(f.out[1:], row, above)
	return f.out
}

func (f *pngFilterer) average(row, above []byte) []byte {
	f.out[0] = filterAverage
	out := f.out[1:]
	for i := range f.pixel {
		out[i] = row[i] - above[i]/2
	}
	out, left, row, above := out[f.pixel:], row, row[f.pixel:], above[f.pixel:]
	for len(out) >= 8 && len(left) >= 8 && len(row) >= 8 && len(above) >= 8 {
		l, a := binary.LittleEndian.Uint64(left), binary.LittleEndian.Uint64(above)
		mean := l&a + (l^a)>>1&low7
		binary.LittleEndian.PutUint64(out, subtract8(binary.LittleEndian.Uint64(row), mean))
		out, left, row, above = out[8:], left[8:], row[8:], above[8:]
	}
	for i := range out {
		out[i] = row[i] - uint8((int(left[i])+int(above[i]))/2)
	}
	return f.out
}

func (f *pngFilterer) paeth(row, above []byte) []byte {
	f.out[0] = filterPaeth
	out := f.out[1:]
	subtract(out[:f.pixel], row, above)
	out, left, corner, row, above := out[f.pixel:], row, above, row[f.pixel:], above[f.pixel:]
	left, corner, row, above = left[:len(out)], corner[:len(out)], row[:len(out)], above[:len(out)]
	for i := range out {
		a, b, c := int(left[i]), int(above[i]), int(corner[i])
		// How far a+b-c is from each of them.
		da, db := abs(b-c), abs(a-c)
		dc := abs(a + b - 2*c)
		switch {
		case da <= db && da <= dc:
		case db <= dc:
			a = b
		default:
			a = c
		}
		out[i] = row[i] - uint8(a)
	}
	return f.out
}

// adaptive returns the row under the filter that leaves the least sum of
// absolute differences, the first of them where several do.
func (f *pngFilterer) adaptive(row, above []byte) []byte {
	best := -1
	for _, filter := range []func(){
		func() { f.up(row, above) },
		func() { f.sub(row) },
		func() { f.average(row, above) },
		func() { f.paeth(row, above) },
		func() { f.none(row) },
	} {
		filter()
		if n := distance(f.out[1:]); best < 0 || n < best {
			best = n
			f.out, f.spare = f.spare, f.out
		}
	}
	f.out, f.spare = f.spare, f.out
	return f.out
}

// distance sums the bytes' absolute values as signed numbers.
func distance(row []byte) int {
	n := 0
	for _, v := range row {
		n += abs(int(int8(v)))
	}
	return n
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}

// subtract makes dst[i] = a[i] - b[i] for all of dst.
func subtract(dst, a, b []byte) {
	for len(dst) >= 8 && len(a) >= 8 && len(b) >= 8 {
		binary.LittleEndian.PutUint64(dst, subtract8(binary.LittleEndian.Uint64(a), binary.LittleEndian.Uint64(b)))
		dst, a, b = dst[8:], a[8:], b[8:]
	}
	for i := range dst {
		dst[i] = a[i] - b[i]
	}
}

const (
	low7  = 0x7f7f7f7f_7f7f7f7f
	high1 = 0x80808080_80808080
)

// subtract8 subtracts eight bytes from eight without borrowing between them: the
// highest bits are kept out of it and added without carry.
func subtract8(a, b uint64) uint64 {
	return (a | high1) - b&low7 ^ (a^^b)&high1
}
