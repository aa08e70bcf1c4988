package upscale

import (
	"context"
	"image"
	"sync"
	"sync/atomic"

	"github.com/forgepipe/forgepipe/internal/resample"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/stages/network"
)

// wider runs tiles in float32 for which float16 is too narrow: what a network computes
// overflows in some pictures, or becomes nothing. It is loaded when there is one.
type wider struct {
	*network.Stage
	of    *Network
	spec  model.Spec
	tiles atomic.Int64
	said  sync.Once
}

// newWider is for a network in float16, with the options of that.
func newWider(of *Network, o network.Options) (w *wider, err error) {
	f := of.file.As(model.Float32)
	w = &wider{of: of, spec: f.Spec.Unresized()}
	o.Fit = func(int64) (part image.Point, bytes int64) { // the same tiles
		part = image.Pt(of.across.tile, of.down.tile)
		return part, 2 * int64(part.X) * int64(part.Y) * of.plan.bytes
	}
	w.Stage, err = network.NewParts(of.env, f, o, nil)
	return w, err
}

// again runs a tile once more.
func (w *wider) again(ctx context.Context, t tile) (*model.Samples, error) {
	w.tiles.Add(1)
	w.said.Do(func() {
		w.of.env.Log.Warn("float16 is too narrow for a tile, which is computed again in float32, as others will be", "network", w.of.file.Path)
	})
	r := w.Infer(ctx, []model.Input{t.input(w.spec)})[0]
	if r.Err != nil {
		return nil, r.Err
	}
	return w.of.samples(w.spec, t, r.Outputs[0])
}

// lit tells whether anything of the tile's picture is not black.
func (t tile) lit() bool {
	r := resample.Read(t.img)
	in := t.Rect.Intersect(image.Rectangle{Max: t.img.Bounds().Size()})
	step := r.Channels * r.Depth / 8
	for y := in.Min.Y; y < in.Max.Y; y++ {
		for x, row := in.Min.X, r.Row(y); x < in.Max.X; x++ {
			pixel := row[x*step : (x+1)*step]
			if r.Channels > 1 {
				pixel = pixel[:step/4*3]
			}
			if t.Only > 0 {
				pixel = pixel[(t.Only-1)*step/4 : t.Only*step/4]
			}
			for _, v := range pixel {
				if v > 0 {
					return true
				}
			}
		}
	}
	return false
}
