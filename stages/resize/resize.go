// Package resize is the stage "resize": it gives images another size, with filters that
// are applied as Pillow does. Gray stays gray and 16 bits stay 16 bits. Attributes described the pixels
// that were, and are gone.
package resize

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"

	"github.com/disintegration/imaging"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/internal/resample"
	"github.com/forgepipe/forgepipe/pipeline"
)

const (
	applySingle  = "single"
	applyBoth    = "both"
	decodeExact  = "exact"
	decodeScaled = "scaled"
)

// Info declares the stage.
func Info() pipeline.Info {
	return pipeline.Info{
		Name:  "resize",
		Short: "Gives images another size.",
		Long: `Gives every image another size, with a resampling filter as Pillow applies it. The size is said in one way: width or height (the other side follows), width and height together, longest or shortest (the side that is longer or shorter gets that length), or scale (a factor). Sides that follow are rounded to whole pixels.

Of width and height together, fit says what becomes of images of another shape: exact stretches them, inside makes them as large as fits into the box, outside as small as fills it, and cover cuts the largest part of the box's shape from the middle and makes it the box's size.

An image that would have to grow in any direction is passed on untouched, unless enlarge: true. One that has the size already is passed on untouched too, so that write can copy its file. Gray, 16-bit and transparent images stay what they are; palettes become colours. Attributes describe pixels, so those of an image that was resized are gone.

The filters are: ` + resample.FiltersDoc + `

A pair fails unless apply: both, which gives both of its images another size. Then sizes are those of the high-quality image; those that are given must be multiples of the pair's scale, and those that follow are rounded to such.`,
		Examples: []pipeline.Example{
			{Doc: "At most 1024 pixels on the longer side; what is smaller stays as it is.", YAML: "resize: {longest: 1024}"},
			{Doc: "Squares from the middle of each image.", YAML: "resize: {width: 512, height: 512, fit: cover}"},
			{Doc: "Half the size, of both images of a pair.", YAML: "resize: {scale: 0.5, filter: bicubic, apply: both}"},
		},
		Fields: []pipeline.Field{
			side("width", "Width of the new image; alone, the height follows.", "512"),
			side("height", "Height of the new image; alone, the width follows.", "512"),
			side("longest", "Length of the side that is longer.", "1024"),
			side("shortest", "Length of the side that is shorter.", "512"),
			{
				Name: "scale", Type: pipeline.FieldFloat, Unit: "times", Min: 0.001, Max: 64,
				Doc:      "Factor for both sides.",
				Examples: []string{"0.5"},
			},
			{
				Name: "fit", Type: pipeline.FieldEnum, Enum: []string{fitExact, fitInside, fitOutside, fitCover}, Default: fitExact,
				Doc: "What becomes of images of another shape than width x height.",
			},
			{
				Name: "filter", Type: pipeline.FieldEnum, Enum: resample.Names(), Default: "lanczos",
				Doc: "The filter that new pixels are computed with.",
			},
			{
				Name: "enlarge", Type: pipeline.FieldBool, Default: "false",
				Doc: "Resize also images that have to grow for it.",
			},
			{
				Name: "decode", Type: pipeline.FieldEnum, Enum: []string{decodeExact, decodeScaled}, Default: decodeExact,
				Doc: "How JPEG files are decoded: exact decodes all pixels and filters them; scaled has the decoder make an image of at least twice the new size first, which is faster by far and gives slightly other pixels.",
			},
			{
				Name: "apply", Type: pipeline.FieldEnum, Enum: []string{applySingle, applyBoth}, Default: applySingle,
				Doc: "What to resize: single images only, where a pair fails, or also both images of a pair.",
			},
		},
		Pure:    true,
		Version: 1,
		New: func(_ context.Context, c pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
			return newStage(c, e)
		},
	}
}

func side(name, doc, example string) pipeline.Field {
	return pipeline.Field{Name: name, Type: pipeline.FieldInt, Unit: "px", Min: 1, Max: 65535, Doc: doc, Examples: []string{example}}
}

// Stage resizes items.
type Stage struct {
	wanted    wanted
	filter    imaging.ResampleFilter
	enlarge   bool
	scaled    bool // decoding
	both      bool // images of a pair
	maxPixels int64
	env       pipeline.Env
}

var (
	_ pipeline.Stage   = (*Stage)(nil)
	_ pipeline.Coster  = (*Stage)(nil)
	_ pipeline.Batcher = (*Stage)(nil)
)

func newStage(c pipeline.Config, e pipeline.Env) (*Stage, error) {
	if err := checkSize(c); err != nil {
		return nil, err
	}
	return &Stage{
		wanted: wanted{
			width: int(c.Int("width")), height: int(c.Int("height")),
			longest: int(c.Int("longest")), shortest: int(c.Int("shortest")),
			scale: c.Float("scale"), fit: c.String("fit"),
		},
		filter:    resample.Named(c.String("filter")),
		enlarge:   c.Bool("enlarge"),
		scaled:    c.String("decode") == decodeScaled,
		both:      c.String("apply") == applyBoth,
		maxPixels: e.Limits.MaxPixels,
		env:       e,
	}, nil
}

// checkSize reports a configuration that says no size, or two.
func checkSize(c pipeline.Config) error {
	said := ""
	for _, name := range []string{"width", "height", "longest", "shortest", "scale"} {
		switch {
		case !c.IsSet(name), said == "width" && name == "height":
		case said == "":
			said = name
		default:
			return c.Errorf(name, 0, "the size is said by %s already: leave one of them out", said)
		}
	}
	switch {
	case said == "":
		return &pipeline.FieldError{Field: "width", Missing: true, Err: errors.New("resize needs a size: width, height, longest, shortest or scale")}
	case c.IsSet("fit") && (!c.IsSet("width") || !c.IsSet("height")):
		return c.Errorf("fit", 0, "says how width and height go together: give both, or leave fit out")
	case c.Float("scale") > 1 && !c.Bool("enlarge"):
		return c.Errorf("scale", 0, "%v makes images larger: add enlarge: true", c.Float("scale"))
	}
	return nil
}

// Process replaces the pictures of the items whose size is another.
func (s *Stage) Process(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	return pipeline.Func(s.resize).Process(ctx, batch)
}

func (s *Stage) resize(ctx context.Context, it *pipeline.Item) error {
	if scale, paired := it.Pair(); paired {
		return s.resizePair(ctx, it, scale)
	}
	size := it.Size()
	to := s.wanted.of(size)
	if !s.changes(size, to) {
		return nil
	}
	if err := s.check(to); err != nil {
		return err
	}
	f, place, err := s.frame(ctx, it)
	if err != nil {
		return fmt.Errorf("resizing: %w", err)
	}
	box, whole := placed(s.wanted.part(size), place)
	img, err := imageio.Crop(f.Image, whole)
	if err != nil {
		return err
	}
	resized, err := s.resized(ctx, it, img, box, to)
	if err != nil {
		return err
	}
	it.SetImage(resized)
	return nil
}

// resized is a part of a picture in its new size.
func (s *Stage) resized(ctx context.Context, it *pipeline.Item, img image.Image, box resample.Box, to image.Point) (image.Image, error) {
	out, err := it.NewImage(ctx, resample.Model(img), to)
	if err != nil {
		return nil, err
	}
	return out, resample.ResizeInto(ctx, out, img, box, s.filter)
}

// frame decodes the item.
func (s *Stage) frame(ctx context.Context, it *pipeline.Item) (*pipeline.Frame, pipeline.Part, error) {
	if !s.scaled {
		f, err := it.Frame(ctx)
		return f, pipeline.Part{Scale: 1}, err
	}
	return it.ScaledFrame(ctx, s.least(it.Size()))
}

// least is the size that a scaled decode of a picture must have.
func (s *Stage) least(size image.Point) image.Point {
	w := s.wanted
	if w.fit == fitCover {
		w.fit = fitOutside
	}
	return w.of(size).Mul(2)
}

// placed is where a part of the item lies in the frame: in the rectangle of whole
// pixels that it touches, and the box in that.
func placed(r image.Rectangle, p pipeline.Part) (resample.Box, image.Rectangle) {
	x0, y0 := p.X+float64(r.Min.X)*p.Scale, p.Y+float64(r.Min.Y)*p.Scale
	w, h := float64(r.Dx())*p.Scale, float64(r.Dy())*p.Scale
	left, top := math.Floor(x0), math.Floor(y0)
	whole := image.Rect(int(left), int(top), int(math.Ceil(x0+w)), int(math.Ceil(y0+h)))
	return resample.Box{X: x0 - left, Y: y0 - top, W: w, H: h}, whole
}

// resizePair computes with the sizes of the low-quality image, of which those
// of the other are multiples.
func (s *Stage) resizePair(ctx context.Context, it *pipeline.Item, scale int) error {
	if !s.both {
		return errors.New("the item is a pair: set apply: both to resize both of its images")
	}
	wanted, ok := s.wanted.divided(scale)
	if !ok {
		return fmt.Errorf("the size is no multiple of the pair's scale: make it a multiple of %d", scale)
	}
	size := it.Size().Div(scale)
	to := wanted.of(size)
	if !s.changes(size, to) {
		return nil
	}
	if err := s.check(to.Mul(scale)); err != nil {
		return err
	}
	hq, err := it.Frame(ctx)
	if err != nil {
		return fmt.Errorf("resizing: %w", err)
	}
	lq, err := it.PairFrame(ctx)
	if err != nil {
		return fmt.Errorf("resizing the low-quality image: %w", err)
	}
	from := wanted.part(size)
	small, err := imageio.Crop(lq.Image, from)
	if err != nil {
		return err
	}
	large, err := imageio.Crop(hq.Image, image.Rectangle{Min: from.Min.Mul(scale), Max: from.Max.Mul(scale)})
	if err != nil {
		return err
	}
	if large, err = s.resized(ctx, it, large, resample.Whole(large), to.Mul(scale)); err != nil {
		return err
	}
	if small, err = s.resized(ctx, it, small, resample.Whole(small), to); err != nil {
		return err
	}
	it.SetImages(large, small)
	return nil
}

// changes reports whether an image gets another size at all.
func (s *Stage) changes(size, to image.Point) bool {
	return to != size && (s.enlarge || to.X <= size.X && to.Y <= size.Y)
}

// check holds a new size against the limit.
func (s *Stage) check(to image.Point) error {
	if !s.allowed(to) {
		return fmt.Errorf("%d x %d is more than the %d pixels that limits.pixels allows", to.X, to.Y, s.maxPixels)
	}
	return nil
}

// allowed forms no product that could overflow.
func (s *Stage) allowed(to image.Point) bool { return int64(to.X) <= s.maxPixels/int64(to.Y) }

// Cost is that of the new pixels, and of the filter. What is passed on or
// refused costs nothing. A scaled decode is made beside the item's own pixels,
// whose room may have shrunk to what they are.
func (s *Stage) Cost(_ pipeline.Device, batch []*pipeline.Item) pipeline.Cost {
	var c pipeline.Cost
	if len(batch) == 0 {
		size := image.Pt(4000, 3000)
		c.Output, c.Work = s.bytes(s.wanted, size, 1, 4)
	}
	for _, it := range batch {
		pixel := it.PixelBytes()
		scale, paired := it.Pair()
		if !paired {
			output, work := s.bytes(s.wanted, it.Size(), 1, pixel)
			if s.scaled && output > 0 {
				decoded := it.ScaledSize(s.least(it.Size()))
				work += 4 * int64(decoded.X) * int64(decoded.Y)
			}
			c.Output += output
			c.Work = max(c.Work, work)
			continue
		}
		wanted, ok := s.wanted.divided(scale)
		if !ok || !s.both {
			continue
		}
		size := it.Size().Div(scale)
		hq, work := s.bytes(wanted, size, scale, pixel)
		lq, _ := s.bytes(wanted, size, 1, pixel)
		c.Output += hq + lq
		c.Work = max(c.Work, work)
	}
	return c
}

// bytes is what a picture takes that is unit times as large as size, and is
// made unit times as large as is wanted.
func (s *Stage) bytes(w wanted, size image.Point, unit int, pixel int64) (output, work int64) {
	to := w.of(size)
	if !s.changes(size, to) || !s.allowed(to.Mul(unit)) {
		return 0, 0
	}
	_, work = resample.Bytes(size.Mul(unit), to.Mul(unit), s.filter, pixel)
	return s.env.ImageBytes(to.Mul(unit), pixel), work
}

// Batch keeps batches at one image, as a call takes long.
func (s *Stage) Batch() pipeline.BatchSpec { return pipeline.BatchSpec{Size: 1} }
