package upscale

import (
	"context"
	"fmt"
	"image"

	"github.com/disintegration/imaging"

	"github.com/forgepipe/forgepipe/internal/resample"
	"github.com/forgepipe/forgepipe/pipeline"
)

// Filter makes items larger with a resampling filter.
type Filter struct {
	refusal
	scale  int
	filter imaging.ResampleFilter
	env    pipeline.Env
}

var (
	_ pipeline.Stage   = (*Filter)(nil)
	_ pipeline.Coster  = (*Filter)(nil)
	_ pipeline.Batcher = (*Filter)(nil)
)

// Process replaces the items' pictures.
func (s *Filter) Process(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	return pipeline.Func(s.enlarge).Process(ctx, batch)
}

func (s *Filter) enlarge(ctx context.Context, it *pipeline.Item) error {
	if err := s.check(it, s.scale); err != nil {
		return err
	}
	f, err := it.Frame(ctx)
	if err != nil {
		return fmt.Errorf("upscaling: %w", err)
	}
	large, err := s.larger(ctx, it, f.Image)
	if err != nil {
		return err
	}
	if _, paired := it.Pair(); !paired {
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

func (s *Filter) larger(ctx context.Context, it *pipeline.Item, img image.Image) (image.Image, error) {
	large, err := it.NewImage(ctx, resample.Model(img), img.Bounds().Size().Mul(s.scale))
	if err != nil {
		return nil, err
	}
	return large, resample.ResizeInto(ctx, large, img, resample.Whole(img), s.filter)
}

// Cost is that of the new pixels, and of the filter. What is refused costs
// nothing.
func (s *Filter) Cost(_ pipeline.Device, batch []*pipeline.Item) pipeline.Cost {
	var c pipeline.Cost
	if len(batch) == 0 {
		c.Output, c.Work = s.bytes(image.Pt(4000, 3000), 4)
	}
	for _, it := range batch {
		if s.refused(it, s.scale) {
			continue
		}
		pixel := it.PixelBytes()
		output, work := s.bytes(it.Size(), pixel)
		if scale, paired := it.Pair(); paired {
			lq, _ := s.bytes(it.Size().Div(scale), pixel)
			output += lq
		}
		c.Output += output
		c.Work = max(c.Work, work)
	}
	return c
}

func (s *Filter) bytes(size image.Point, pixel int64) (output, work int64) {
	_, work = resample.Bytes(size, size.Mul(s.scale), s.filter, pixel)
	return s.env.ImageBytes(size.Mul(s.scale), pixel), work
}

// Batch keeps batches at one image, as a call takes long and its pixels are
// many.
func (s *Filter) Batch() pipeline.BatchSpec { return pipeline.BatchSpec{Size: 1} }
