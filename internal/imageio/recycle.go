package imageio

import (
	"image"
	"sync"
)

// recycled has the samples of pictures that nobody needs any more. Fresh memory is
// zeroed, page by page brought in by the system, and collected after: for a JPEG of
// 12 megapixels that is a tenth of decoding it. The collector empties the pool.
var recycled sync.Pool // of *[]uint8

// Recycle takes the memory of a decoded picture for the next one. Nobody may look at
// it any more, nor at a part of it. It tells whether it took it: of other kinds than
// JPEGs become, and of small ones, the memory is garbage.
func Recycle(img image.Image) bool {
	m, ok := img.(*image.RGBA)
	if !ok || len(m.Pix) < leastRecycled {
		return false
	}
	recycled.Put(&m.Pix)
	return true
}

const (
	// leastRecycled is the least that is worth it, in bytes.
	leastRecycled = 1 << 20
	// mostSpare bounds what a picture holds beyond what it needs, as a multiple.
	mostSpare = 2
)

// samples is memory for n samples, which the caller writes all of.
func samples(n int) []uint8 {
	if n >= leastRecycled {
		if p, _ := recycled.Get().(*[]uint8); p != nil && n <= cap(*p) && cap(*p) <= mostSpare*n {
			return (*p)[:n]
		}
	}
	return make([]uint8, n)
}
