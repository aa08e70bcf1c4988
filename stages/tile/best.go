package tile

import (
	"cmp"
	"context"
	"fmt"
	"image"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/pipeline"
)

// best configures pick: best.
type best struct {
	by        string
	count     int     // tiles of an image, 0: by its area
	threshold float64 // of the mean over a tile
	align     int     // px, 0: by default
}

// number is how many tiles an image of that size may give.
func (b best) number(size image.Point, tile int) int {
	switch area, one := int64(size.X)*int64(size.Y), int64(tile)*int64(tile); {
	case b.count > 0:
		return b.count
	case area > 4*one:
		return int(area / (2 * one))
	}
	return 1
}

// step is what the positions of an item's tiles are multiples of.
func (b best) step(it *pipeline.Item) (int, error) {
	scale, ok := it.Pair()
	if !ok {
		scale = 1
	}
	if b.align == 0 {
		return 8 / gcd(8, scale) * scale, nil
	}
	if b.align%scale != 0 {
		return 0, fmt.Errorf("align: %d would place tiles between the pixels of the low-quality image of a pair with scale %d: make it a multiple of %d or leave it out", b.align, scale, scale)
	}
	return b.align, nil
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// check tells how the tiles of an item are placed. small says that it has no room for
// one, and is rejected.
func (s *Stage) check(it *pipeline.Item) (step int, small bool, err error) {
	if err := s.paired(it); err != nil {
		return 0, false, err
	}
	if size := it.Size(); size.X < s.size || size.Y < s.size {
		tooSmall(it)
		return 0, true, nil
	}
	step, err = s.best.step(it)
	return step, false, err
}

// pick cuts the best tiles.
func (s *Stage) pick(ctx context.Context, it *pipeline.Item) ([]*pipeline.Item, error) {
	step, small, err := s.check(it)
	if err != nil || small {
		return nil, err
	}
	f, err := it.Frame(ctx)
	if err != nil {
		return nil, err
	}
	size := it.Size()
	luma := imageio.NewLuma(f.Image)
	// The sum of a tile of which every pixel has one level of the metric.
	level := float64(luma.White) / 255 * float64(s.size) * float64(s.size)
	p := newPicker(luma, size.X, size.Y, s.size, step, maxBlocks)
	return s.derive(it, "", func() (image.Point, float64, bool) {
		corner, sum, ok := p.next()
		return corner, float64(sum) / level, ok
	}), nil
}

// derive makes the tiles of an item at the places that next finds, the best first, with
// the mean of the metric over each. The tiles get that as an attribute, where it has a
// name.
func (s *Stage) derive(it *pipeline.Item, attribute string, next func() (corner image.Point, mean float64, ok bool)) []*pipeline.Item {
	var tiles []*pipeline.Item
	for range s.best.number(it.Size(), s.size) {
		corner, mean, ok := next()
		if !ok {
			break
		}
		if mean < s.best.threshold {
			if len(tiles) == 0 {
				it.Reject("below threshold",
					pipeline.Attribute{Name: cmp.Or(attribute, s.best.by), Value: pipeline.Float(mean)},
					pipeline.Attribute{Name: "threshold", Value: pipeline.Float(s.best.threshold)})
			}
			break
		}
		r := image.Rect(0, 0, s.size, s.size).Add(corner)
		t := it.Derive(key(s.size, corner), pipeline.Crop(r))
		if attribute != "" {
			t.SetAttr(attribute, pipeline.Float(mean))
		}
		tiles = append(tiles, t)
	}
	return tiles
}

// room is what picking from an image of that size occupies beside its pixels.
func (s *Stage) room(size image.Point, step int) int64 {
	if size.X < s.size || size.Y < s.size {
		return 0
	}
	return newPlan(size.X, size.Y, s.size, step, maxBlocks).bytes(size.X, s.size, step)
}
