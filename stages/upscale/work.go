package upscale

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"path/filepath"

	"github.com/forgepipe/forgepipe/internal/resample"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/network"
)

// work is one picture on its way through the network.
type work struct {
	*Network
	src  source
	size image.Point // of the picture

	columns, rows tiling

	passes []pass
	canvas canvas
	strips *strips      // nil: the result is what the network makes
	line   [3][]float32 // rows of what the network gave
}

// pass is one of the times that a tile goes through the network.
type pass struct {
	img   image.Image
	only  int // colour, see model.Window
	plane int // of the result that it makes; -1: all colours
}

func (s *Network) newWork(ctx context.Context, it *pipeline.Item, img image.Image) (*work, error) {
	src, err := newSource(ctx, it, img, s.alpha == alphaDrop)
	if err != nil {
		return nil, err
	}
	size := img.Bounds().Size()
	w := &work{Network: s, src: src, size: size, columns: s.across.of(size.X), rows: s.down.of(size.Y)}
	switch {
	case src.gray:
		w.passes = []pass{{img: src.colours}}
	case s.spec.Depth() == 1:
		for c := range 3 {
			w.passes = append(w.passes, pass{img: src.colours, only: c + 1, plane: c})
		}
	default:
		w.passes = []pass{{img: src.colours, plane: -1}}
	}
	if src.alpha != nil && s.alpha == alphaUpscale {
		w.passes = append(w.passes, pass{img: src.alpha, plane: 3})
	}
	large := w.size.Mul(s.scale)
	if s.to != s.scale {
		large.Y = s.scale * s.windowRows(size.Y, w.rows.pieces(size.Y))
	}
	result, err := s.newLarge(ctx, it, s.model(src), large)
	if err != nil {
		return nil, err
	}
	if s.to != s.scale {
		w.strips = &strips{margin: s.marginOf()}
		if w.strips.result, err = it.NewImage(ctx, s.model(src), w.size.Mul(s.to)); err != nil {
			return nil, err
		}
	}
	w.canvas = canvas{pixels: pixelsOf(result), scale: s.scale, across: w.columns.ramp * s.scale, down: w.rows.ramp * s.scale}
	return w, nil
}

// newLarge makes the picture that tiles are put on. Where it is not the result limits.pixels
// does not hold for it, as long as it is in memory.
func (s *Network) newLarge(ctx context.Context, it *pipeline.Item, m color.Model, size image.Point) (image.Image, error) {
	if s.to == s.scale || int64(size.X) <= s.maxPixels/int64(size.Y) {
		return it.NewImage(ctx, m, size)
	}
	pixel, fresh := int64(4), func(r image.Rectangle) image.Image { return image.NewNRGBA(r) }
	switch m {
	case color.GrayModel:
		pixel, fresh = 1, func(r image.Rectangle) image.Image { return image.NewGray(r) }
	case color.Gray16Model:
		pixel, fresh = 2, func(r image.Rectangle) image.Image { return image.NewGray16(r) }
	case color.NRGBA64Model:
		pixel, fresh = 8, func(r image.Rectangle) image.Image { return image.NewNRGBA64(r) }
	}
	if s.env.ImageBytes(size, pixel) < pixel*int64(size.X)*int64(size.Y) {
		return nil, fmt.Errorf("%d x %d pixels are needed at once of what is then resized to %d times, and limits.pixels allows %d: set a smaller tile, cut the image into tiles first, or raise limits.pixels", size.X, size.Y, s.to, s.maxPixels)
	}
	return fresh(image.Rectangle{Max: size}), nil
}

// model is the type of a picture's result.
func (s *Network) model(src source) color.Model {
	deep := s.depth == "16" || s.depth == depthKeep && src.deep
	switch {
	case src.gray && deep:
		return color.Gray16Model
	case src.gray:
		return color.GrayModel
	case deep:
		return color.NRGBA64Model
	}
	return color.NRGBAModel
}

// parts yields the tiles row by row, each in all its passes, and says whether all were
// wanted.
func (w *work) parts(ctx context.Context, yield func(network.Part) bool) bool {
	columns := w.columns.pieces(w.size.X)
	for _, y := range w.rows.pieces(w.size.Y) {
		for i, x := range columns {
			for k, p := range w.passes {
				part := w.part(ctx, p, x, y)
				if i == len(columns)-1 && k == len(w.passes)-1 {
					take := part.Take
					part.Take = func(out []*model.Tensor) error {
						if err := take(out); err != nil {
							return err
						}
						return w.finish(ctx, y)
					}
				}
				if !yield(part) {
					return false
				}
			}
		}
	}
	return true
}

// part is one pass of a tile.
func (w *work) part(ctx context.Context, p pass, x, y piece) network.Part {
	t := tile{img: p.img, Window: model.Window{Rect: image.Rect(x.at, y.at, x.at+x.size, y.at+y.size), Only: p.only}}
	return network.Part{
		Input: t.input(w.spec),
		Take: func(out []*model.Tensor) error {
			w.got.Add(int64(x.size) * int64(y.size))
			made, err := w.made(ctx, t, out[0])
			if err == nil {
				w.put(made, p, x, y)
			}
			return err
		},
	}
}

// tile is a part of a picture as the network gets it.
type tile struct {
	img image.Image
	model.Window
}

// input is its tensor.
func (t tile) input(s model.Spec) model.Input {
	return model.Input{
		Shape: s.Shape(1, t.Rect.Size())[1:],
		Fill:  func(ctx context.Context, dst []byte) error { return s.FillWindow(ctx, dst, t.img, t.Window) },
	}
}

// made is what the network made of a tile, in float32 if float16 was too narrow.
func (s *Network) made(ctx context.Context, t tile, out *model.Tensor) (*model.Samples, error) {
	made, err := s.samples(s.spec, t, out)
	if err != nil {
		return nil, err
	}
	finite, lit := made.Check()
	if s.wide != nil && (!finite || !lit && t.lit()) {
		if made, err = s.wide.again(ctx, t); err != nil {
			return nil, err
		}
		finite, _ = made.Check()
	}
	if !finite {
		return nil, errOdd
	}
	return made, nil
}

// samples are those of an output, if it is of the right size.
func (s *Network) samples(spec model.Spec, t tile, out *model.Tensor) (*model.Samples, error) {
	made, err := spec.Samples(out)
	if err != nil {
		return nil, fmt.Errorf("%s makes no pictures: %w", filepath.Base(s.file.Path), err)
	}
	if got := image.Pt(made.Width, made.Height); got != t.Rect.Size().Mul(s.scale) {
		return nil, s.mismatched(t.Rect.Size(), got)
	}
	return made, nil
}

// put puts what was made of a tile where it belongs.
func (w *work) put(made *model.Samples, p pass, x, y piece) {
	for c := range made.Channels {
		w.line[c] = grown(w.line[c], made.Width)
	}
	row := func(c int) func(int) []float32 {
		return func(y int) []float32 { return made.Row(w.line[c], c, y) }
	}
	luma := func(y int) []float32 {
		red, green, blue := made.Row(w.line[0], 0, y), made.Row(w.line[1], 1, y), made.Row(w.line[2], 2, y)
		luma := w.line[0][:len(red)]
		for x, r := range red {
			luma[x] = 0.299*r + 0.587*green[x] + 0.114*blue[x]
		}
		return luma
	}
	switch {
	case p.plane < 0:
		for c := range made.Channels {
			if w.src.luma {
				w.canvas.put(c, x, y, luma)
			} else {
				w.canvas.put(c, x, y, row(c))
			}
		}
	case made.Channels == 1:
		w.canvas.put(p.plane, x, y, row(0))
	default: // what was gray becomes gray again
		w.canvas.put(p.plane, x, y, luma)
	}
}

// alphaStrip is how many rows of alpha are resized at a time.
const alphaStrip = 64

// finish ends the rows of the result that the tiles of y were the last to reach.
func (w *work) finish(ctx context.Context, y piece) error {
	top, bottom := y.from*w.scale, (y.to-y.out)*w.scale
	switch {
	case w.canvas.planes == 1:
	case w.src.alpha == nil:
		w.canvas.opaque(top, bottom)
	case w.alpha == alphaResize:
		for ; top < bottom; top = min(top+alphaStrip, bottom) {
			end := min(top+alphaStrip, bottom)
			box := resample.Box{Y: float64(top) / float64(w.scale), W: float64(w.size.X), H: float64(end-top) / float64(w.scale)}
			strip, err := resample.ResizeBox(ctx, w.src.alpha, box, image.Pt(w.canvas.size.X, end-top), resample.Named("bicubic"))
			if err != nil {
				return err
			}
			w.canvas.setAlpha(top, strip)
		}
	}
	if w.strips != nil {
		return w.resize(ctx, y.to-y.out)
	}
	return ctx.Err()
}

// result is the finished picture, in its size.
func (w *work) result() image.Image {
	w.own.Add(int64(w.size.X) * int64(w.size.Y) * int64(len(w.passes)))
	if w.strips != nil {
		return w.strips.result
	}
	return w.canvas.image
}
