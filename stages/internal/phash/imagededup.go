package phash

import (
	"image"
	"math"
	"slices"
)

// PHash computes the 64-bit hash that the Python package imagededup calls
// PHash: the picture is resized to 32 x 32, made gray and transformed; of the
// 8 x 8 lowest frequencies, those at or above the median of all but the constant
// are ones, row by row from the most significant bit.
//
// Alpha is ignored: a transparent pixel counts with the colour it has. Samples
// of 16 bits count with their upper 8.
func PHash(img image.Image) uint64 { return phashes(img, 1)[0] }

// phashes are the hashes of the first n orientations, of the picture of 32 x 32
// turned.
func phashes(img image.Image, n int) (hashes []uint64) {
	g := gray(img, 32, 32)
	for o := range n {
		hashes = append(hashes, phashBits(turned(g, o, 32, 32)))
	}
	return hashes
}

// phashBits is the hash of a gray picture of 32 x 32.
func phashBits(g []uint8) uint64 {
	const low = 8
	var c [low][low]float64
	for k := range c {
		var row [32]float64
		for y := range 32 {
			d := phashBasis[k][y]
			for x := range row {
				row[x] += float64(d * float64(g[32*y+x]))
			}
		}
		for j := range c[k] {
			for x, v := range row {
				c[k][j] += float64(v * phashBasis[j][x])
			}
		}
	}
	sorted := make([]float64, 0, low*low)
	for k := range c {
		sorted = append(sorted, c[k][:]...)
	}
	sorted = sorted[1:]
	slices.Sort(sorted)
	median := sorted[len(sorted)/2]
	var hash uint64
	for k := range c {
		for _, v := range c[k] {
			hash <<= 1
			if v >= median {
				hash |= 1
			}
		}
	}
	return hash
}

// phashBasis are the cosines of the frequencies 0 to 7.
var phashBasis = func() (d [8][32]float64) {
	for k := range d {
		for n := range d[k] {
			d[k][n] = math.Cos(math.Pi / 64 * float64(k*(2*n+1)))
		}
	}
	return d
}()

// DHash computes the 64-bit hash that the Python package imagededup calls
// DHash: the picture is resized to 9 x 8 and made gray; where it gets brighter
// from one pixel to the one on its right is a one, row by row from the most
// significant bit. A flat picture has the hash 0. Alpha and samples of 16 bits
// count as in PHash.
func DHash(img image.Image) uint64 { return dhashes(img, 1)[0] }

// dhashes are the hashes of the first n orientations, of the picture of 9 x 8
// turned, or of one of 8 x 9 for those that change width and height.
func dhashes(img image.Image, n int) (hashes []uint64) {
	img = opaque(img) // once for both
	g := gray(img, 9, 8)
	for o := range n {
		if o == transposed {
			g = gray(img, 8, 9)
		}
		hashes = append(hashes, dhashBits(turned(g, o, 9, 8)))
	}
	return hashes
}

// dhashBits is the hash of a gray picture of 9 x 8.
func dhashBits(g []uint8) uint64 {
	var hash uint64
	for y := range 8 {
		for x := range 8 {
			hash <<= 1
			if g[9*y+x+1] > g[9*y+x] {
				hash |= 1
			}
		}
	}
	return hash
}
