package score

import (
	"context"
	"image"
	"image/color"
	"math"

	"github.com/forgepipe/forgepipe/internal/resample"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/readout"
	"github.com/forgepipe/forgepipe/stages/network"
)

// The modes of ic9600.
const (
	paper  = "paper"
	native = "native"
)

const (
	nativeMargin = 32      // px around the picture, mirrored
	nativeSides  = 64      // px that sides are made multiples of
	nativeMost   = 4 << 20 // px of a picture that is not made smaller
	nativeBytes  = 300     // that a run takes at its peak for each pixel
)

// Native scores whole pictures in their own size. What runs the network is a
// network.Stage.
type Native struct {
	*network.Stage
	spec   model.Spec
	name   string
	number readout.Number
}

var (
	_ pipeline.Stage  = (*Native)(nil)
	_ pipeline.Coster = (*Native)(nil)
)

// nativeSpec is how the authors' tool for native sizes prepares pictures: no mean is taken
// off.
var nativeSpec = model.Spec{Layout: model.NCHW, Channels: model.RGB, Resize: model.NoResize, Multiple: nativeSides}

// checkMode refuses what has no meaning beside mode.
func checkMode(c pipeline.Config, m *network.Model) error {
	if !c.IsSet("mode") {
		return nil
	}
	if m.Preset != ic9600 {
		return c.Errorf("mode", 0, "it is for IC9600: set preset: ic9600, or leave mode out")
	}
	if c.String("mode") == paper {
		return nil
	}
	for _, f := range append(network.PreparationFields(), pipeline.Field{Name: "regions"}) {
		if c.IsSet(f.Name) && f.Name != "preset" {
			return c.Errorf(f.Name, 0, "mode: native says how pictures are prepared: leave %s out", f.Name)
		}
	}
	if c.String("decode") == "fast" {
		return c.Errorf("decode", 0, "mode: native takes pictures at their full scale: leave decode out")
	}
	return nil
}

func newNative(e pipeline.Env, f *model.File, o network.Options, name string, n readout.Number) (*Native, error) {
	s := &Native{spec: f.Spec, name: name, number: n}
	var err error
	s.Stage, err = network.NewParts(e, f, o, s.begin)
	return s, err
}

func (s *Native) begin(_ context.Context, it *pipeline.Item) (network.Job, error) {
	scaled := nativeSize(it.Size())
	part := network.Part{
		Input: model.Input{Shape: s.spec.Shape(1, withMargin(scaled))[1:]},
		Take: func(out []*model.Tensor) error {
			v, err := s.number.Of(out[0])
			if err == nil {
				it.SetAttr(s.name, v)
			}
			return err
		},
	}
	part.Fill = func(ctx context.Context, dst []byte) error {
		f, err := it.Frame(ctx)
		if err != nil {
			return err
		}
		defer it.Done()
		img := f.Image
		if scaled != img.Bounds().Size() {
			small := s.spec
			small.Filter = "bilinear"
			if img, err = enlarged(ctx, img, scaled, small); err != nil {
				return err
			}
		}
		return s.spec.Fill(ctx, dst, mirror{img, s.spec.OutputSize(withMargin(scaled))})
	}
	return network.Job{Parts: func(yield func(network.Part) bool) { yield(part) }}, nil
}

// Cost is that of the network's weights, and for each picture of its tensor, of the one
// that is made smaller, and of what the network makes of it.
func (s *Native) Cost(d pipeline.Device, batch []*pipeline.Item) pipeline.Cost {
	c := pipeline.Cost{Resident: s.Stage.Cost(d, nil).Resident}
	add := func(src image.Point) {
		scaled := nativeSize(src)
		padded := s.spec.OutputSize(withMargin(scaled))
		if c.Resident > 0 { // it computes here
			c.Work += nativeBytes * int64(padded.X) * int64(padded.Y)
		}
		if d != pipeline.Host {
			return
		}
		c.Work += s.spec.TensorBytes(padded)
		if scaled != src {
			c.Work += 4*int64(scaled.X)*int64(scaled.Y) + resample.RowsBytes(src, scaled, scaled, filter("bilinear"))
		}
	}
	for _, it := range batch {
		add(it.Size())
	}
	if len(batch) == 0 {
		add(image.Pt(4000, 3000))
	}
	return c
}

// nativeSize is the picture's own, or that of one with so many pixels that the network has
// room.
func nativeSize(src image.Point) image.Point {
	area := float64(src.X) * float64(src.Y)
	if area <= nativeMost {
		return src
	}
	by := math.Sqrt(nativeMost / area)
	return image.Pt(max(int(float64(src.X)*by), 1), max(int(float64(src.Y)*by), 1))
}

func withMargin(size image.Point) image.Point {
	return size.Add(image.Pt(2*nativeMargin, 2*nativeMargin))
}

// A mirror shows a picture with a mirrored margin: on all sides of nativeMargin, and what
// is missing of its size at the right and at the bottom.
type mirror struct {
	image.Image
	size image.Point
}

// Bounds are those with the margin.
func (m mirror) Bounds() image.Rectangle { return image.Rectangle{Max: m.size} }

// At is the pixel that is shown there.
func (m mirror) At(x, y int) color.Color {
	b := m.Image.Bounds()
	return m.Image.At(b.Min.X+mirrored(x-nativeMargin, b.Dx()), b.Min.Y+mirrored(y-nativeMargin, b.Dy()))
}

// mirrored is which of n samples is shown at i, which may lie beyond either end: the
// outermost are not repeated.
func mirrored(i, n int) int {
	if n == 1 {
		return 0
	}
	period := 2 * (n - 1)
	i = (i%period + period) % period
	return min(i, period-i)
}
