// Package pair is the stage "pair": it gives images a low-quality companion, by
// making them smaller by a whole factor, with the filters of package resize.
package pair

import (
	"context"
	"errors"
	"fmt"
	"image"

	"github.com/disintegration/imaging"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/internal/resample"
	"github.com/forgepipe/forgepipe/pipeline"
)

// Info declares the stage.
func Info() pipeline.Info {
	return pipeline.Info{
		Name:  "pair",
		Short: "Makes low-quality companions.",
		Long: `Makes a pair of every image: the image itself is the high-quality one, and a copy that is scale times smaller in both directions becomes its low-quality companion. From there on the two move as one: tiles are cut from both at the same place, and what drops one drops the other.

Gray, 16-bit and transparent images have companions of their own kind; those of images with a palette have colours. The filters are: ` + resample.FiltersDoc + `

The sides of an image must be multiples of scale, or it fails; crop: true cuts off what is too much at the right and the lower border, at most scale - 1 pixels, from an image that then counts as a new one: its attributes are gone, and where its JPEG blocks lie is no longer known, so that score with blockiness must stand before. An image that has a companion already fails.`,
		Examples: []pipeline.Example{
			{Doc: "Companions four times smaller, of images of any size.", YAML: "pair: {scale: 4, filter: bicubic, crop: true}"},
		},
		Fields: []pipeline.Field{
			{
				Name: "scale", Type: pipeline.FieldInt, Unit: "times", Min: 2, Max: 16, Required: true,
				Doc:      "How many times smaller the companion is.",
				Examples: []string{"4", "2"},
			},
			{
				Name: "filter", Type: pipeline.FieldEnum, Enum: resample.Names(), Default: "lanczos",
				Doc: "The filter that the companion is computed with.",
			},
			{
				Name: "crop", Type: pipeline.FieldBool, Default: "false",
				Doc: "Cut images to multiples of scale instead of failing those that are none.",
			},
		},
		Pure:    true,
		Version: 1,
		New: func(_ context.Context, c pipeline.Config, _ pipeline.Env) (pipeline.Stage, error) {
			return &Stage{scale: int(c.Int("scale")), filter: resample.Named(c.String("filter")), crop: c.Bool("crop")}, nil
		},
	}
}

// Stage gives items companions.
type Stage struct {
	scale  int
	filter imaging.ResampleFilter
	crop   bool
}

var (
	_ pipeline.Stage   = (*Stage)(nil)
	_ pipeline.Coster  = (*Stage)(nil)
	_ pipeline.Batcher = (*Stage)(nil)
)

// Process makes the companions.
func (s *Stage) Process(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	return pipeline.Func(s.pair).Process(ctx, batch)
}

func (s *Stage) pair(ctx context.Context, it *pipeline.Item) error {
	if _, paired := it.Pair(); paired {
		return errors.New("the item has a low-quality companion already")
	}
	size := it.Size()
	small := size.Div(s.scale)
	fits := small.Mul(s.scale) == size
	switch {
	case small.X == 0 || small.Y == 0:
		return fmt.Errorf("%d x %d is too small for a companion at scale %d", size.X, size.Y, s.scale)
	case !fits && !s.crop:
		return fmt.Errorf("%d x %d is no multiple of the scale %d: set crop: true, or cut tiles of a size that is one before this stage", size.X, size.Y, s.scale)
	}
	f, err := it.Frame(ctx)
	if err != nil {
		return fmt.Errorf("making a companion: %w", err)
	}
	img := f.Image
	if !fits {
		if img, err = imageio.Crop(img, image.Rectangle{Max: small.Mul(s.scale)}); err != nil {
			return err
		}
		it.SetImage(img)
	}
	lq, err := resample.ResizeBox(ctx, img, resample.Whole(img), small, s.filter)
	if err != nil {
		return err
	}
	it.SetPair(lq, s.scale)
	return nil
}

// Cost is that of the companions, of the images that are cut for them, and of
// the filter.
func (s *Stage) Cost(_ pipeline.Device, batch []*pipeline.Item) pipeline.Cost {
	var c pipeline.Cost
	if len(batch) == 0 {
		size := image.Pt(4000, 3000)
		c.Output, c.Work = resample.Bytes(size, size.Div(s.scale), s.filter, 4)
	}
	for _, it := range batch {
		pixel := it.PixelBytes()
		size, small := it.Size(), it.Size().Div(s.scale)
		cut := small.Mul(s.scale)
		_, paired := it.Pair()
		if paired || small.X == 0 || small.Y == 0 || cut != size && !s.crop {
			continue // it fails
		}
		output, work := resample.Bytes(size, small, s.filter, pixel)
		if cut != size {
			output += int64(cut.X) * int64(cut.Y) * pixel
		}
		c.Output += output
		c.Work = max(c.Work, work)
	}
	return c
}

// Batch keeps batches at one image, as a call takes long.
func (s *Stage) Batch() pipeline.BatchSpec { return pipeline.BatchSpec{Size: 1} }
