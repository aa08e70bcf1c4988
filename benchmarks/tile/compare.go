package main

import (
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"

	"github.com/forgepipe/forgepipe/benchmarks/internal/photos"
)

// difference is what comparing a row's tiles with forgepipe's found.
type difference struct {
	files, same int     // files that were written; tiles of the grid whose pixels are equal
	tiles       int     // tiles of the grid
	max         int     // levels of 255
	mean        float64 // levels, over all samples
	bytes       int64   // of all files
}

// compare decodes the tiles that a row wrote and those of the reference. A tile
// of the grid that is missing is an error.
func compare(stems []string, ref *row, refOut string, r *row, out string) (difference, error) {
	var d difference
	var err error
	if d.files, d.bytes, err = written(out); err != nil {
		return d, err
	}
	var sum, samples int64
	for _, stem := range stems {
		for y := 0; y+size <= photos.Height; y += size {
			for x := 0; x+size <= photos.Width; x += size {
				a, err := readRGB(filepath.Join(refOut, ref.tile(stem, x, y)))
				if err != nil {
					return d, err
				}
				b, err := readRGB(filepath.Join(out, r.tile(stem, x, y)))
				if err != nil {
					return d, err
				}
				d.tiles++
				top, total := apart(a, b)
				if top == 0 {
					d.same++
				}
				d.max, sum, samples = max(d.max, top), sum+total, samples+int64(len(a))
			}
		}
	}
	d.mean = float64(sum) / float64(samples)
	return d, nil
}

// readRGB reads a tile's samples; it must be an opaque one in 8 bits.
func readRGB(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	rgba, ok := img.(*image.RGBA)
	if !ok || rgba.Rect.Size() != image.Pt(size, size) {
		return nil, fmt.Errorf("%s is a %T of %v: want RGB, %d x %d", file, img, img.Bounds().Size(), size, size)
	}
	return rgba.Pix, nil
}

// apart is the greatest difference of two samples, and the sum of all.
func apart(a, b []byte) (top int, total int64) {
	for i := range a {
		d := int(a[i]) - int(b[i])
		if d < 0 {
			d = -d
		}
		top, total = max(top, d), total+int64(d)
	}
	return top, total
}
