// Package tile is the stage "tile": it cuts images into squares of one size.
//
// A grid begins in the upper left corner and goes row by row. A tile is a view
// of its source and not a copy, so that cutting decodes nothing; only the edge
// "pad" makes pixels of its own, for the tiles at the right and lower border.
package tile

import (
	"context"
	"fmt"
	"image"
	"sync/atomic"

	"github.com/forgepipe/forgepipe/pipeline"
)

// Info declares the stage.
func Info() pipeline.Info {
	return pipeline.Info{
		Name:  "tile",
		Short: "Cuts images into square tiles.",
		Long: `Cuts every image into a grid of size x size pixels, from the upper left corner, row by row. Each tile becomes an item of its own, named after its place: photo.jpg@tile=512,1024,0 is the tile of 512 px at x 1024, y 0. Sidecars travel with every tile.

Where the image is no multiple of the size, edge says what becomes of the rest: drop leaves it out, and the share of the area that was lost is reported; partial makes smaller tiles of it; pad makes full tiles by repeating the outermost pixels. An image with a side smaller than a tile has no whole tile: with drop it is rejected as "too small".

The tiles of a pair are cut from both images at the same place, so the size must be a multiple of the pair's scale. Padding pairs is not possible.`,
		Fields: []pipeline.Field{
			{
				Name: "size", Type: pipeline.FieldInt, Unit: "px", Min: 16, Max: 65535, Required: true,
				Doc:      "Width and height of a tile.",
				Examples: []string{"512", "256"},
			},
			{
				Name: "edge", Type: pipeline.FieldEnum, Enum: []string{edgeDrop, edgePartial, edgePad}, Default: edgeDrop,
				Doc: "What becomes of the rest at the right and lower border: left out, cut as smaller tiles, or filled up to whole tiles with its outermost pixels.",
			},
		},
		Derives: true,
		Version: 1,
		New: func(_ context.Context, c pipeline.Config, _ pipeline.Env) (pipeline.Stage, error) {
			return &Stage{size: int(c.Int("size")), edge: c.String("edge")}, nil
		},
	}
}

const (
	edgeDrop    = "drop"
	edgePartial = "partial"
	edgePad     = "pad"
)

// Stage cuts items into tiles.
type Stage struct {
	size int // px
	edge string

	area, lost atomic.Int64 // px of the images that were cut, and of them outside of tiles
}

var (
	_ pipeline.Stage  = (*Stage)(nil)
	_ pipeline.Opener = (*Stage)(nil)
	_ pipeline.Coster = (*Stage)(nil)
)

// Open begins a new count of the area that is lost.
func (s *Stage) Open(context.Context, pipeline.Device) error {
	s.area.Store(0)
	s.lost.Store(0)
	return nil
}

// Process returns the tiles in place of the items.
func (s *Stage) Process(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	var out []*pipeline.Item
	for _, it := range batch {
		tiles, err := s.cut(ctx, it)
		if err != nil {
			it.Fail(err)
			continue
		}
		out = append(out, tiles...)
	}
	return out, nil
}

func (s *Stage) cut(ctx context.Context, it *pipeline.Item) ([]*pipeline.Item, error) {
	size := it.Size()
	if scale, ok := it.Pair(); ok && s.size%scale != 0 {
		return nil, fmt.Errorf("tiles of %d px cannot be cut from a pair with scale %d: make the size a multiple of %d", s.size, scale, scale)
	}
	whole := image.Rectangle{Max: size}
	cells := image.Pt(size.X/s.size, size.Y/s.size)
	if s.edge == edgeDrop {
		if cells.X == 0 || cells.Y == 0 {
			it.Reject("too small",
				pipeline.Attribute{Name: "width", Value: pipeline.Int(int64(size.X))},
				pipeline.Attribute{Name: "height", Value: pipeline.Int(int64(size.Y))})
			return nil, nil
		}
		s.count(size, cells)
	} else {
		cells = image.Pt(ceil(size.X, s.size), ceil(size.Y, s.size))
	}
	tiles := make([]*pipeline.Item, 0, cells.X*cells.Y)
	for y := range cells.Y {
		for x := range cells.X {
			r := image.Rect(0, 0, s.size, s.size).Add(image.Pt(x*s.size, y*s.size))
			key := fmt.Sprintf("tile=%d,%d,%d", s.size, r.Min.X, r.Min.Y)
			px := pipeline.Crop(r.Intersect(whole))
			if s.edge == edgePad && !r.In(whole) {
				var err error
				if px, err = s.padded(ctx, it, r); err != nil {
					return nil, err
				}
			}
			tiles = append(tiles, it.Derive(key, px))
		}
	}
	return tiles, nil
}

func ceil(n, by int) int { return (n + by - 1) / by }

// padded is the tile r, which reaches beyond the item's picture.
func (s *Stage) padded(ctx context.Context, it *pipeline.Item, r image.Rectangle) (pipeline.Pixels, error) {
	if _, ok := it.Pair(); ok {
		return pipeline.Pixels{}, fmt.Errorf("edge: pad cannot fill up the tiles of a pair: use drop or partial, or images whose sides are multiples of %d", s.size)
	}
	f, err := it.Frame(ctx)
	if err != nil {
		return pipeline.Pixels{}, err
	}
	img, err := replicate(f.Image, r.Add(f.Image.Bounds().Min))
	if err != nil {
		return pipeline.Pixels{}, err
	}
	return pipeline.FromImage(img), nil
}

func (s *Stage) count(size, cells image.Point) {
	area := int64(size.X) * int64(size.Y)
	used := int64(cells.X) * int64(cells.Y) * int64(s.size) * int64(s.size)
	s.area.Add(area)
	s.lost.Add(area - used)
}

// Note says how much of the images that were cut lies in no tile; it is empty
// when all does.
func (s *Stage) Note() string {
	area, lost := s.area.Load(), s.lost.Load()
	if lost == 0 {
		return ""
	}
	share := 100 * float64(lost) / float64(area)
	if share < 0.1 {
		return "less than 0.1% of the area lies outside of whole tiles and was dropped"
	}
	return fmt.Sprintf("%.1f%% of the area lies outside of whole tiles and was dropped", share)
}

// Cost counts the padded tiles, whose pixels are new.
func (s *Stage) Cost(_ pipeline.Device, batch []*pipeline.Item) pipeline.Cost {
	var c pipeline.Cost
	if s.edge != edgePad {
		return c
	}
	if len(batch) == 0 {
		c.Output = s.padding(image.Pt(4000, 3000), 8)
	}
	for _, it := range batch {
		pixel := int64(8)
		if it.Source().Format == "jpeg" { // which has 8 bits and at most 4 channels
			pixel = 4
		}
		c.Output += s.padding(it.Size(), pixel)
	}
	return c
}

// padding is what the padded tiles of an image of that size occupy.
func (s *Stage) padding(size image.Point, pixel int64) int64 {
	all := int64(ceil(size.X, s.size)) * int64(ceil(size.Y, s.size))
	whole := int64(size.X/s.size) * int64(size.Y/s.size)
	return (all - whole) * int64(s.size) * int64(s.size) * pixel
}

// Batch keeps batches at one image: the work of a call is in what it derives,
// and a run that is asked to stop soon finishes the images it has begun.
func (s *Stage) Batch() pipeline.BatchSpec { return pipeline.BatchSpec{Size: 1} }
