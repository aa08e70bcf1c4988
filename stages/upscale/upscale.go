// Package upscale is the stage "upscale": it makes images larger by a whole
// factor, with the filters of package resize.
package upscale

import (
	"context"
	"errors"
	"fmt"
	"image"

	"github.com/disintegration/imaging"

	"github.com/forgepipe/forgepipe/internal/resample"
	"github.com/forgepipe/forgepipe/pipeline"
)

const (
	applySingle = "single"
	applyBoth   = "both"
)

// Info declares the stage.
func Info() pipeline.Info {
	return pipeline.Info{
		Name:  "upscale",
		Short: "Makes images larger by a whole factor.",
		Long: `Makes every image scale times as wide and as high with a resampling filter. Gray, 16-bit and transparent images stay what they are; palettes become colours.

The filters are: ` + resample.FiltersDoc + `

Attributes describe pixels, so those set before are gone. An image that would have more pixels than limits.pixels allows fails. So does a pair, unless apply: both enlarges both of its images, whose scale to each other then stays.`,
		Examples: []pipeline.Example{
			{Doc: "Twice as wide and as high.", YAML: "upscale: {scale: 2, method: lanczos}"},
		},
		Fields: []pipeline.Field{
			{
				Name: "scale", Type: pipeline.FieldInt, Unit: "times", Min: 2, Max: 8, Required: true,
				Doc:      "How many times as wide and as high the image gets.",
				Examples: []string{"2", "4"},
			},
			{
				Name: "method", Type: pipeline.FieldEnum, Enum: resample.Names(), Required: true,
				Doc:      "The filter that new pixels are computed with.",
				Examples: []string{"lanczos", "bicubic"},
			},
			{
				Name: "apply", Type: pipeline.FieldEnum, Enum: []string{applySingle, applyBoth}, Default: applySingle,
				Doc: "What to enlarge: single images only, where a pair fails, or also both images of a pair.",
			},
		},
		Pure:    true,
		Version: 1,
		New: func(_ context.Context, c pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
			return &Stage{
				scale: int(c.Int("scale")), filter: resample.Named(c.String("method")),
				both: c.String("apply") == applyBoth, maxPixels: e.Limits.MaxPixels, env: e,
			}, nil
		},
	}
}

// Stage makes items larger.
type Stage struct {
	scale     int
	filter    imaging.ResampleFilter
	both      bool
	maxPixels int64
	env       pipeline.Env
}

var (
	_ pipeline.Stage   = (*Stage)(nil)
	_ pipeline.Coster  = (*Stage)(nil)
	_ pipeline.Batcher = (*Stage)(nil)
)

// Process replaces the items' pictures.
func (s *Stage) Process(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	return pipeline.Func(s.enlarge).Process(ctx, batch)
}

func (s *Stage) enlarge(ctx context.Context, it *pipeline.Item) error {
	_, paired := it.Pair()
	if paired && !s.both {
		return errors.New("the item is a pair: set apply: both to enlarge both of its images")
	}
	if size := it.Size(); !s.allowed(size) {
		return fmt.Errorf("%d times %d x %d would have more than the %d pixels that limits.pixels allows: use a smaller scale or cut the image into tiles first", s.scale, size.X, size.Y, s.maxPixels)
	}
	f, err := it.Frame(ctx)
	if err != nil {
		return fmt.Errorf("upscaling: %w", err)
	}
	large, err := s.larger(ctx, it, f.Image)
	if err != nil {
		return err
	}
	if !paired {
		it.SetImage(large)
		return nil
	}
	lq, err := it.PairFrame(ctx)
	if err != nil {
		return fmt.Errorf("upscaling the low-quality image: %w", err)
	}
	small, err := s.larger(ctx, it, lq.Image)
	if err != nil {
		return err
	}
	it.SetImages(large, small)
	return nil
}

func (s *Stage) larger(ctx context.Context, it *pipeline.Item, img image.Image) (image.Image, error) {
	large, err := it.NewImage(ctx, resample.Model(img), img.Bounds().Size().Mul(s.scale))
	if err != nil {
		return nil, err
	}
	return large, resample.ResizeInto(ctx, large, img, resample.Whole(img), s.filter)
}

// allowed holds the new size against the limit without forming a product that
// could overflow.
func (s *Stage) allowed(size image.Point) bool {
	return int64(size.X) <= s.maxPixels/int64(s.scale*s.scale)/int64(size.Y)
}

// Cost is that of the new pixels, and of the filter. What is refused costs
// nothing.
func (s *Stage) Cost(_ pipeline.Device, batch []*pipeline.Item) pipeline.Cost {
	var c pipeline.Cost
	if len(batch) == 0 {
		c.Output, c.Work = s.bytes(image.Pt(4000, 3000), 4)
	}
	for _, it := range batch {
		pixel := it.PixelBytes()
		scale, paired := it.Pair()
		if !s.allowed(it.Size()) || paired && !s.both {
			continue
		}
		output, work := s.bytes(it.Size(), pixel)
		if paired {
			lq, _ := s.bytes(it.Size().Div(scale), pixel)
			output += lq
		}
		c.Output += output
		c.Work = max(c.Work, work)
	}
	return c
}

func (s *Stage) bytes(size image.Point, pixel int64) (output, work int64) {
	_, work = resample.Bytes(size, size.Mul(s.scale), s.filter, pixel)
	return s.env.ImageBytes(size.Mul(s.scale), pixel), work
}

// Batch keeps batches at one image, as a call takes long and its pixels are
// many.
func (s *Stage) Batch() pipeline.BatchSpec { return pipeline.BatchSpec{Size: 1} }
