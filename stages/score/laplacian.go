package score

import (
	"image"
	"math"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

var laplacian = metric{
	name: "laplacian",
	doc: "Mean absolute response of the 4-neighbour Laplacian, |4c-l-r-t-b| over all pixels, of the ITU-R BT.601 gray image from 0 to 255 (16-bit images are scaled down, the border is replicated). " +
		"0 for a flat image, at most 1020 for a checkerboard; tiles of photographs lie between about 1 (sky, out of focus) and 40 (water, foliage). Noise counts as detail.",
	measure: measureLaplacian,
}

// measureLaplacian goes through the rows with three of them in memory. The
// terms are float32, whose operations here are exact or rounded the same way on
// every machine; they are added up as float64 in the order of the pixels.
func measureLaplacian(img image.Image) float64 {
	size := img.Bounds().Size()
	w, h := size.X, size.Y
	if w == 0 || h == 0 {
		return 0
	}
	buf := make([]float32, 3*w)
	above, here, below := buf[:w:w], buf[w:2*w:2*w], buf[2*w:]
	imageio.LumaRow(here, img, 0)
	copy(above, here)
	var sum float64
	for y := range h {
		if y+1 < h {
			imageio.LumaRow(below, img, y+1)
		} else {
			copy(below, here)
		}
		sum += laplacianRow(above, here, below)
		above, here, below = here, below, above
	}
	return sum / (float64(w) * float64(h))
}

// laplacianRow adds up one row.
func laplacianRow(above, here, below []float32) float64 {
	w := len(here)
	above, below = above[:w], below[:w]
	at := func(x int, left, right float32) float64 {
		return math.Abs(float64(4*here[x] - left - right - above[x] - below[x]))
	}
	if w == 1 {
		return at(0, here[0], here[0])
	}
	sum := at(0, here[0], here[1])
	for x := 1; x < w-1; x++ {
		sum += math.Abs(float64(4*here[x] - here[x-1] - here[x+1] - above[x] - below[x]))
	}
	return sum + at(w-1, here[w-2], here[w-1])
}
