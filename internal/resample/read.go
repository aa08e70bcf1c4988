package resample

import "image"

// Reader reads the rows of a picture as they are, in the form that Resize would
// keep: see there what becomes of types that cannot be averaged.
type Reader struct {
	// Channels is how many samples a pixel has: 1, gray, or 4, red, green, blue and
	// alpha. Depth is how many bits a sample has: 8, or 16 with the higher byte first.
	Channels, Depth int
	// Straight says that colours are not multiplied with alpha.
	Straight bool
	// Row gives row y, counted from 0. It is not to be changed, and valid until the next
	// call.
	Row func(y int) []uint8
}

// Read begins to read a picture. One goroutine may use the Reader at a time.
func Read(img image.Image) Reader {
	s := open(img)
	return Reader{Channels: s.form.channels, Depth: s.form.depth, Straight: s.form.straight, Row: s.row}
}
