package score

import (
	"cmp"
	"context"
	"fmt"
	"image"
	"iter"
	"slices"

	"github.com/disintegration/imaging"

	"github.com/forgepipe/forgepipe/internal/resample"
	"github.com/forgepipe/forgepipe/model"
)

// regions are pieces of a picture.
type regions struct {
	size  image.Point // of a piece, in pixels
	crops bool        // a grid of crops, or all tiles
	grid  int         // crops in each direction
	// published says that crops lie as those of pyiqa's uniform_crop, which HyperIQA is
	// run on: the last ones end before the picture does, and pictures of a crop's size are
	// made larger, too.
	published bool
	combine   string
}

// places are where the pieces of a picture begin, row by row.
func (r regions) places(size image.Point) iter.Seq[image.Point] {
	columns, rows := r.along(size.X, r.size.X), r.along(size.Y, r.size.Y)
	return func(yield func(image.Point) bool) {
		for _, y := range rows {
			for _, x := range columns {
				if !yield(image.Pt(x, y)) {
					return
				}
			}
		}
	}
}

// along is where they begin along one side, which is no shorter than a piece.
func (r regions) along(side, piece int) []int {
	var at []int
	left := side - piece
	switch {
	case !r.crops:
		for i := range side / piece {
			at = append(at, i*piece)
		}
	case left == 0:
		at = append(at, 0) // all crops would be the same
	case r.published:
		for i := range r.grid {
			at = append(at, i*(left/r.grid))
		}
	case r.grid == 1:
		at = append(at, left/2)
	default:
		for i := range r.grid {
			at = append(at, i*left/(r.grid-1))
		}
	}
	return at
}

// fitted is the size that a picture must have for a piece to fit: its own, or a larger
// one of the same shape.
func (r regions) fitted(src image.Point) image.Point {
	least := r.size
	if r.published {
		least = least.Add(image.Pt(1, 1))
	}
	switch {
	case src.X >= least.X && src.Y >= least.Y:
		return src
	case int64(least.X)*int64(src.Y) >= int64(least.Y)*int64(src.X): // the width lacks more
		return image.Pt(least.X, int(int64(src.Y)*int64(least.X)/int64(src.X)))
	}
	return image.Pt(int(int64(src.X)*int64(least.Y)/int64(src.Y)), least.Y)
}

// fitting is the picture in its fitted size.
func (s *Pieces) fitting(ctx context.Context, img image.Image) (image.Image, image.Point, error) {
	src := img.Bounds().Size()
	if src.X < 1 || src.Y < 1 {
		return nil, src, fmt.Errorf("the picture has %d x %d pixels", src.X, src.Y)
	}
	to := s.fitted(src)
	if to == src {
		return img, src, nil
	}
	if n := int64(to.X) * int64(to.Y); s.maxPixels > 0 && n > s.maxPixels {
		return nil, to, fmt.Errorf("it has %d x %d pixels, and would have %d x %d for a piece of %d x %d to fit: more than the %d pixels that limits.pixels allows", src.X, src.Y, to.X, to.Y, s.size.X, s.size.Y, s.maxPixels)
	}
	large, err := enlarged(ctx, img, to, s.spec)
	return large, to, err
}

// enlarged is the picture in another size, as Pillow makes it of convert("RGB"), or of
// convert("L") where the network wants gray.
func enlarged(ctx context.Context, img image.Image, to image.Point, spec model.Spec) (image.Image, error) {
	var gray *image.Gray
	var colours *image.NRGBA
	whole := image.Rectangle{Max: to}
	err := resample.Rows(ctx, img, resample.Whole(img), to, whole, filter(spec.Filter), spec.Channels == model.Gray, func(y int, samples []uint8) error {
		if len(samples) == to.X {
			if gray == nil {
				gray = image.NewGray(whole)
			}
			copy(gray.Pix[y*gray.Stride:], samples)
			return nil
		}
		if colours == nil {
			colours = image.NewNRGBA(whole)
		}
		row := colours.Pix[y*colours.Stride:]
		for x := range to.X {
			copy(row[4*x:4*x+3], samples[3*x:3*x+3])
			row[4*x+3] = 255
		}
		return nil
	})
	if gray != nil {
		return gray, err
	}
	return colours, err
}

// filter is the one of that name.
func filter(name string) imaging.ResampleFilter { return resample.Named(cmp.Or(name, "bicubic")) }

// enlargedBytes is what a picture takes that is made larger.
func (r regions) enlargedBytes(src image.Point, name string) int64 {
	if src.X < 1 || src.Y < 1 {
		return 0
	}
	to := r.fitted(src)
	if to == src {
		return 0
	}
	return 4*int64(to.X)*int64(to.Y) + resample.RowsBytes(src, to, to, filter(name))
}

// combinations are the ways in which scores come together, the usual one first.
func combinations() []string { return []string{"mean", "min", "max", "median"} }

// together is one score of several, of which there is at least one.
func (r regions) together(scores []float64) float64 {
	switch r.combine {
	case "min":
		return slices.Min(scores)
	case "max":
		return slices.Max(scores)
	case "median":
		slices.Sort(scores)
		n := len(scores)
		return (scores[(n-1)/2] + scores[n/2]) / 2
	}
	var sum float64
	for _, v := range scores {
		sum += v
	}
	return sum / float64(len(scores))
}
