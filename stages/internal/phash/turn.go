package phash

// Orientations are the ways in which a picture can be turned, upright included.
// They are numbered: orientation o is the picture transposed if o has the bit 4,
// then mirrored left to right if it has the bit 1 and top to bottom if it has the
// bit 2. So 3 is a half turn, 5 a quarter turn clockwise and 6 one
// counterclockwise.
const Orientations = 8

// The bits of an orientation.
const (
	mirrored   = 1
	flipped    = 2
	transposed = 4
)

// before is where in the upright picture that pixel lies which is (x, y) of the
// turned one, of w x h.
func before(o, x, y, w, h int) (int, int) {
	if o&mirrored != 0 {
		x = w - 1 - x
	}
	if o&flipped != 0 {
		y = h - 1 - y
	}
	if o&transposed != 0 {
		return y, x
	}
	return x, y
}

// turned is a picture in orientation o, in which it is w x h pixels.
func turned(g []uint8, o, w, h int) []uint8 {
	stride := w // of the upright picture
	if o&transposed != 0 {
		stride = h
	}
	t := make([]uint8, 0, w*h)
	for y := range h {
		for x := range w {
			fx, fy := before(o, x, y, w, h)
			t = append(t, g[fy*stride+fx])
		}
	}
	return t
}
