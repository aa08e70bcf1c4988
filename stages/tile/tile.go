// Package tile is the stage "tile": it cuts images into squares of one size.
//
// A grid begins in the upper left corner and goes row by row; instead, the tiles
// with the most detail can be picked. A tile is a view of its source and not a
// copy, so that cutting a grid decodes nothing; only the edge "pad" makes pixels
// of its own, for the tiles at the right and lower border.
package tile

import (
	"context"
	"fmt"
	"image"
	"slices"
	"sync/atomic"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/network"
)

// Info declares the stage.
func Info() pipeline.Info {
	return pipeline.Info{
		Name:  "tile",
		Short: "Cuts images into square tiles.",
		Long: `Cuts tiles of size x size pixels out of every image: all of a grid, or with pick: best those with the most detail. Each tile becomes an item of its own, named after its place: photo.jpg@tile=512,1024,0 is the tile of 512 px at x 1024, y 0. Sidecars travel with every tile.

The grid begins in the upper left corner and goes row by row. Where the image is no multiple of the size, edge says what becomes of the rest: drop leaves it out, and the share of the area that was lost is reported; partial makes smaller tiles of it; pad makes full tiles by repeating the outermost pixels. An image with a side smaller than a tile has no whole tile: with drop it is rejected as "too small".

With pick: best, the tile with the highest mean of the metric named by "by" is taken, then the best of those that do not overlap it, and so on; of equals the uppermost, then the leftmost. The search is exact: it compares all positions that are multiples of align, not samples of them. An image of more than four times a tile's area gives at most its area / (2 x size x size) tiles, a smaller one gives one, unless count says otherwise. It ends when the best that is left lies below threshold; when already the first does, the image is rejected as "below threshold". An image with a side smaller than a tile is rejected as "too small". The mean takes a pixel's neighbours from the image, also those outside of the tile, so it differs a little from what score reads on the tile.

With by: ic9600 the mean is that of a map of complexity, in 0..1, which the network IC9600 (ICNet, Feng et al. 2022) draws of the whole image at an eighth of its size, in one run: at the image's own size, with a mirrored margin of 32 px and sides that are then made multiples of 64, in 0..1 without mean and std. Each tile has it as the attribute ic9600_map. That is not the score of IC9600, which another part of the network, its head, tells from features of the image. A checkpoint also gives that, as the attribute ic9600: the head alone gets what of the image's features belongs to the tile, and the image goes through the rest of the network once. It knows what lies around the tile and sees it without mean and std, so it differs from what score says of the tile as an image; where a tile or the image's scale divide a point of the features, the tile gets the nearest whole ones. An ONNX file has no head of its own, and gives ic9600_map alone. Where size, align or the image's scale divide a point of the map, its parts count. The network is the one called ic9600 in the store (forgepipe models fetch ic9600), or that of model. ` + network.Devices + `

The tiles of a pair are cut from both images at the same place, so size and align must be multiples of the pair's scale; the high-quality image decides which are best. Padding pairs is not possible.`,
		Examples: []pipeline.Example{
			{Doc: "All tiles of a grid.", YAML: "tile: {size: 512}"},
			{Doc: "At most four tiles of each image, those with the most detail, and none that is nearly flat.", YAML: "tile: {size: 512, pick: best, by: laplacian, count: 4, threshold: 4}"},
			{Doc: "The tiles that IC9600 finds the most complex.", YAML: "tile: {size: 512, pick: best, by: ic9600, threshold: 0.3}"},
		},
		Fields: slices.Concat([]pipeline.Field{
			{
				Name: "size", Type: pipeline.FieldInt, Unit: "px", Min: 16, Max: 65535, Required: true,
				Doc:      "Width and height of a tile.",
				Examples: []string{"512", "256"},
			},
			{
				Name: "pick", Type: pipeline.FieldEnum, Enum: []string{pickGrid, pickBest}, Default: pickGrid,
				Doc: "Which tiles are cut: all of a grid, or the best.",
			},
			{
				Name: "edge", Type: pipeline.FieldEnum, Enum: []string{edgeDrop, edgePartial, edgePad}, Default: edgeDrop,
				Doc: "What becomes of the rest at the right and lower border: left out, cut as smaller tiles, or filled up to whole tiles with its outermost pixels. Only for pick: grid.",
			},
			{
				Name: "by", Type: pipeline.FieldEnum, Enum: []string{laplacian, ic9600}, Default: laplacian,
				Doc: "What makes a tile good: laplacian is the mean of |4c-l-r-t-b| of the gray image, as in score; ic9600 that of the map of complexity that the network IC9600 draws. Only for pick: best.",
			},
			{
				Name: "count", Type: pipeline.FieldInt, Unit: "tiles", Min: 1, Max: 1e6,
				Doc:      "How many tiles an image gives at most, instead of a number that follows from its area. Only for pick: best.",
				Examples: []string{"1"},
			},
			{
				Name: "threshold", Type: pipeline.FieldFloat, Unit: "of the metric", Min: 0, Max: 1e6,
				Doc:      "The least mean of the metric that a tile must have: in levels of gray for laplacian, in 0..1 for ic9600. Only for pick: best.",
				Examples: []string{"4", "0.3"},
			},
			{
				Name: "align", Type: pipeline.FieldInt, Unit: "px", Min: 1, Max: 65535,
				Doc:      "Tiles are placed at multiples of it, in both directions. Without it, that is the least common multiple of 8 and the pair's scale, so that tiles keep the blocks of JPEG files in place, except of turned photographs with a side that is no multiple of 8; 1 tries every pixel, which takes longer. Only for pick: best.",
				Examples: []string{"1", "16"},
			},
		}, mapFields()),
		Makes: func(c pipeline.Config) []pipeline.Made {
			if !mapped(c) {
				return nil
			}
			made := []pipeline.Made{{Name: mapAttribute, Type: pipeline.TypeFloat, Doc: "the mean of IC9600's map over the tile, 0 (simple) to 1 (complex)"}}
			if scored(c) {
				made = append(made, pipeline.Made{Name: ic9600, Type: pipeline.TypeFloat, Doc: "IC9600's score of the tile, 0 (simple) to 1 (complex), from the features of the image; not with a model that is an ONNX file"})
			}
			return made
		},
		Derives: true,
		Version: 1,
		Waits:   true,
		WaitsIf: mapped,
		Pure:    true,
		// A grid costs nothing to cut, and is to say every time what it lost.
		PureIf: func(c pipeline.Config) bool { return c.String("pick") == pickBest },
		New: func(_ context.Context, c pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
			s, err := newStage(c)
			if err != nil {
				return nil, err
			}
			if mapped(c) {
				return newMapped(c, e, s)
			}
			return s, nil
		},
	}
}

const (
	pickGrid = "grid"
	pickBest = "best"

	laplacian = "laplacian"

	edgeDrop    = "drop"
	edgePartial = "partial"
	edgePad     = "pad"
)

// Stage cuts items into tiles.
type Stage struct {
	size int // px
	edge string
	best *best // nil for a grid

	area, lost atomic.Int64 // px of the images that were cut, and of them outside of tiles
}

func newStage(c pipeline.Config) (*Stage, error) {
	s := &Stage{size: int(c.Int("size")), edge: c.String("edge")}
	other, fields := pickBest, []string{"by", "count", "threshold", "align"}
	if c.String("pick") == pickBest {
		other, fields = pickGrid, []string{"edge"}
		s.best = &best{by: c.String("by"), count: int(c.Int("count")), threshold: c.Float("threshold"), align: int(c.Int("align"))}
	}
	for _, f := range fields {
		if c.IsSet(f) {
			return nil, c.Errorf(f, 0, "only pick: %s has %s: leave it out, or say pick: %s", other, f, other)
		}
	}
	for _, f := range mapFields() {
		if c.IsSet(f.Name) && !mapped(c) {
			return nil, c.Errorf(f.Name, 0, "it is for the network that places tiles: leave %s out, or say pick: best and by: ic9600", f.Name)
		}
	}
	return s, nil
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
	if s.best != nil {
		return s.pick(ctx, it)
	}
	if err := s.paired(it); err != nil {
		return nil, err
	}
	size := it.Size()
	whole := image.Rectangle{Max: size}
	cells := image.Pt(size.X/s.size, size.Y/s.size)
	if s.edge == edgeDrop {
		if cells.X == 0 || cells.Y == 0 {
			tooSmall(it)
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
			px := pipeline.Crop(r.Intersect(whole))
			if s.edge == edgePad && !r.In(whole) {
				var err error
				if px, err = s.padded(ctx, it, r); err != nil {
					return nil, err
				}
			}
			tiles = append(tiles, it.Derive(key(s.size, r.Min), px))
		}
	}
	return tiles, nil
}

// paired refuses a pair that tiles of the size cannot be cut from.
func (s *Stage) paired(it *pipeline.Item) error {
	if scale, ok := it.Pair(); ok && s.size%scale != 0 {
		return fmt.Errorf("tiles of %d px cannot be cut from a pair with scale %d: make the size a multiple of %d", s.size, scale, scale)
	}
	return nil
}

func tooSmall(it *pipeline.Item) {
	it.Reject("too small",
		pipeline.Attribute{Name: "width", Value: pipeline.Int(int64(it.Size().X))},
		pipeline.Attribute{Name: "height", Value: pipeline.Int(int64(it.Size().Y))})
}

// key names a tile within its item.
func key(size int, corner image.Point) string {
	return fmt.Sprintf("tile=%d,%d,%d", size, corner.X, corner.Y)
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

// Cost counts the padded tiles, whose pixels are new, and what picking the best
// tiles keeps of one image.
func (s *Stage) Cost(_ pipeline.Device, batch []*pipeline.Item) pipeline.Cost {
	var c pipeline.Cost
	if s.best != nil {
		if len(batch) == 0 {
			c.Work = s.room(image.Pt(4000, 3000), max(s.best.align, 1))
		}
		for _, it := range batch { // one after the other
			if step, err := s.best.step(it); err == nil {
				c.Work = max(c.Work, s.room(it.Size(), step))
			}
		}
		return c
	}
	if s.edge != edgePad {
		return c
	}
	if len(batch) == 0 {
		c.Output = s.padding(image.Pt(4000, 3000), 4)
	}
	for _, it := range batch {
		c.Output += s.padding(it.Size(), it.PixelBytes())
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
