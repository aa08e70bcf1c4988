// Package upscale is the stage "upscale": it makes images larger by a whole factor, with
// a neural network or with the filters of package resize.
package upscale

import (
	"context"
	"errors"
	"fmt"
	"image"
	"strconv"

	"github.com/forgepipe/forgepipe/internal/resample"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/network"
)

const (
	applySingle = "single"
	applyBoth   = "both"

	alphaResize  = "resize"
	alphaUpscale = "upscale"
	alphaDrop    = "drop"

	depthKeep = "keep"

	precisionFile = "file"
)

// Info declares the stage.
func Info() pipeline.Info {
	words := func(list ...string) []string { return list }
	return pipeline.Info{
		Name:  "upscale",
		Short: "Makes images larger by a whole factor, with a network or a filter.",
		Long: `Makes every image scale times as wide and as high: with model, by a neural network (an ONNX file that makes pictures of pictures); with method, by a resampling filter. Gray, 16-bit and transparent images stay what they are; palettes become colours.

How many times a network enlarges, how far it looks and what sides it can take is read from its file. Images go through it in tiles, and an image that is smaller than a tile goes whole. Where tiles meet, both have seen overlap pixels beyond: if the network looks no farther, the result is that of the whole image; if it does, they pass into each other over a ramp, without a seam. On a GPU all tiles are of one size, so that those of several images share batches; on the CPU they are as much smaller as lets an image need no more of them. By default tiles are as large as memory.host.limit and the card allow, up to the size from which on a larger one would save little. The summary says how large they were, and what overlaps took of the work. The result is written row by row, so that it may be larger than memory.

Networks see all 16 bits of an image that has them. A gray image goes to a network of three channels as three equal ones, and what comes back becomes gray again (BT.601 luma); a network of one channel gets red, green and blue one after the other. Colours below fully transparent pixels, which mostly are chance, are replaced by those of the nearest visible ones before. A float16 network that gives nothing but black, or what is no number, for a tile computes it again in float32.

The filters are: ` + resample.FiltersDoc + `

Attributes describe pixels, so those set before are gone. An image that would have more pixels than limits.pixels allows fails. So does a pair, unless apply: both enlarges both of its images, whose scale to each other then stays.`,
		Examples: []pipeline.Example{
			{Doc: "With a network, on the GPUs that can be used and else on the CPU.", YAML: "upscale: {model: ./4x.onnx}"},
			{Doc: "Twice as wide and as high, with a filter.", YAML: "upscale: {scale: 2, method: lanczos}"},
			{Doc: "Twice as large with a network that enlarges four times, in small tiles, and opaque.", YAML: "upscale: {model: ./4x.onnx, scale: 2, tile: 256, alpha: drop}"},
		},
		Fields: []pipeline.Field{
			modelField(),
			{Name: "method", Type: pipeline.FieldEnum, Enum: resample.Names(), Doc: "The filter that new pixels are computed with.", Examples: words("lanczos", "bicubic")},
			{
				Name: "scale", Type: pipeline.FieldInt, Unit: "times", Min: 1, Max: mostScale,
				Doc:      "How many times as wide and as high the image gets: 2 to 8 with method, which needs it. With model it is the network's own scale by default; another one is come to by resizing what the network makes.",
				Examples: words("2", "4"),
			},
			{
				Name: "apply", Type: pipeline.FieldEnum, Enum: words(applySingle, applyBoth), Default: applySingle,
				Doc: "What to enlarge: single images only, where a pair fails, or also both images of a pair.",
			},
			{Name: "tile", Type: pipeline.FieldInt, Unit: "px", Min: leastTile, Max: 1 << 14, Doc: "How long the sides of the tiles are that the network gets, at most, rounded up to what they must be multiples of. By default as large as is worth it and the memory limits allow."},
			{Name: "overlap", Type: pipeline.FieldInt, Unit: "px", Min: 0, Max: 1 << 12, Doc: "How far a tile reaches beyond its own part into its neighbours. By default as far as the network looks, up to " + strconv.Itoa(mostOverlap) + " and a quarter of the tile."},
			{Name: "multiple", Type: pipeline.FieldInt, Unit: "px", Min: 1, Max: 1 << 10, Doc: "What both sides must be multiples of, where the network's file does not tell: a mirrored border makes them so, and is cut off again."},
			{Name: "alpha", Type: pipeline.FieldEnum, Enum: words(alphaResize, alphaUpscale, alphaDrop), Default: alphaResize, Doc: "What becomes of transparency: it is resized (bicubic), goes through the network as a gray image, or is dropped."},
			{Name: "depth", Type: pipeline.FieldEnum, Enum: words(depthKeep, "8", "16"), Default: depthKeep, Doc: "The bits of a sample of the result: those of the image, 8 or 16."},
			{Name: "filter", Type: pipeline.FieldEnum, Enum: resample.Names(), Default: "lanczos", Doc: "The filter that resizes what the network makes, where scale is not the network's own."},
			{Name: "precision", Type: pipeline.FieldEnum, Enum: words(precisionFile, string(model.Float32), string(model.Float16)), Default: precisionFile, Doc: "What the network computes in: what its file says, or the other one, which it is rewritten to when it is loaded. float16 takes half the memory of a GPU, and is faster there and not on the CPU."},
			{Name: "output", Type: pipeline.FieldString, Doc: "Which of the network's outputs, where it has several."},
			{Name: "layout", Type: pipeline.FieldEnum, Enum: words(string(model.NCHW), string(model.NHWC)), Doc: "The order of the network's axes, where the file leaves it open."},
			{Name: "channels", Type: pipeline.FieldEnum, Enum: words(string(model.RGB), string(model.BGR), string(model.Gray)), Doc: "The network's channels and their order."},
			{Name: "range", Type: pipeline.FieldEnum, Enum: words(string(model.ZeroToOne), string(model.MinusOneToOne), string(model.ZeroTo255)), Doc: "What black and white are for the network, on both sides of it; 0..1 by default."},
			{Name: "mean", Type: pipeline.FieldStrings, Doc: "Taken from each sample, and added again to what the network gives: one number, or one each for red, green and blue.", Examples: words("[0.4488, 0.4371, 0.4040]")},
			{Name: "std", Type: pipeline.FieldStrings, Doc: "What each sample is divided by, after mean, and multiplied with again.", Examples: words("[0.229, 0.224, 0.225]")},
			{Name: "infer_batch", Type: pipeline.FieldInt, Unit: "tiles", Min: 1, Max: 4096, Cosmetic: true, Doc: "How many tiles one run of the network takes, at most. By default the governor finds out on a GPU, and on the CPU it is one tile, or as many small images as have its pixels."},
			{Name: "threads", Type: pipeline.FieldInt, Unit: "threads", Min: 0, Max: 1024, Default: "0", Cosmetic: true, Doc: "How many threads compute on the CPU; 0 is one for each core. They run a tile each, or several one where memory is short."},
			{Name: "library", Type: pipeline.FieldPath, Cosmetic: true, Doc: "Another ONNX Runtime than the one that forgepipe brings: the path of libonnxruntime.so."},
		},
		Pure:    true,
		Waits:   true,
		Version: 1,
		New: func(_ context.Context, c pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
			return newStage(c, e)
		},
	}
}

const (
	// filterScales is how many times filters enlarge at most, and mostScale networks.
	filterScales = 8
	mostScale    = 16
)

// newStage makes the stage of one way or the other.
func newStage(c pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
	byModel, byMethod := c.IsSet("model"), c.IsSet("method")
	switch {
	case byModel && byMethod:
		return nil, c.Errorf("method", 0, "model and method are two ways to enlarge: leave one of them out")
	case byModel:
		return newNetwork(c, e)
	case !byMethod:
		return nil, missing("model", "upscale needs model or method: a network's file, or a filter such as lanczos")
	}
	for _, f := range Info().Fields {
		switch f.Name {
		case "method", "scale", "apply":
		default:
			if c.IsSet(f.Name) {
				return nil, c.Errorf(f.Name, 0, "it belongs to model, and has no meaning with method: leave it out")
			}
		}
	}
	scale := int(c.Int("scale"))
	switch {
	case !c.IsSet("scale"):
		return nil, missing("scale", "upscale needs scale with method: how many times as wide and as high the image gets")
	case scale < 2:
		return nil, c.Errorf("scale", 0, "%d is below the minimum, 2", scale)
	case scale > filterScales:
		return nil, c.Errorf("scale", 0, "%d is above the maximum, %d", scale, filterScales)
	}
	return &Filter{
		scale: scale, filter: resample.Named(c.String("method")),
		refusal: refusal{both: c.String("apply") == applyBoth, maxPixels: e.Limits.MaxPixels}, env: e,
	}, nil
}

// modelField is the network's.
func modelField() pipeline.Field {
	f := network.ModelField("./4x.onnx", "./4x.pth", "realesrgan-x4plus")
	f.Required = false
	f.Doc += " Either model or method is needed."
	return f
}

// missing is the error of a field that is needed.
func missing(field, text string) error {
	return &pipeline.FieldError{Field: field, Missing: true, Err: errors.New(text)}
}

// refusal says what items are not enlarged.
type refusal struct {
	both      bool // images of a pair
	maxPixels int64
}

// check refuses an item that would become scale times as large.
func (r refusal) check(it *pipeline.Item, scale int) error {
	if _, paired := it.Pair(); paired && !r.both {
		return errors.New("the item is a pair: set apply: both to enlarge both of its images")
	}
	if size := it.Size(); !r.allowed(size, scale) {
		return fmt.Errorf("%d times %d x %d would have more than the %d pixels that limits.pixels allows: use a smaller scale or cut the image into tiles first", scale, size.X, size.Y, r.maxPixels)
	}
	return nil
}

// allowed holds the new size against the limit without forming a product that
// could overflow.
func (r refusal) allowed(size image.Point, scale int) bool {
	return int64(size.X) <= r.maxPixels/int64(scale*scale)/int64(size.Y)
}

// refused is check for estimates: what is refused costs nothing.
func (r refusal) refused(it *pipeline.Item, scale int) bool {
	_, paired := it.Pair()
	return paired && !r.both || !r.allowed(it.Size(), scale)
}
