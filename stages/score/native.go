package score

import (
	"context"
	"image"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/icnet"
	"github.com/forgepipe/forgepipe/stages/internal/readout"
	"github.com/forgepipe/forgepipe/stages/network"
)

// The modes of ic9600.
const (
	paper  = "paper"
	native = "native"
)

const (
	nativeMost  = 4 << 20 // px of a picture that is not made smaller
	nativeBytes = 300     // that a run takes at its peak for each pixel
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
	scaled := icnet.Scaled(it.Size(), nativeMost)
	part := network.Part{
		Input: model.Input{Shape: s.spec.Shape(1, icnet.WithMargin(scaled))[1:]},
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
		return icnet.Fill(ctx, s.spec, dst, f.Image, scaled)
	}
	return network.Job{Parts: func(yield func(network.Part) bool) { yield(part) }}, nil
}

// Identity is that of the network. The first version read transparent pixels by way of
// colours that are multiplied with alpha, and lost some of them.
func (s *Native) Identity() string { return "2 " + s.Stage.Identity() }

// Cost is that of the network's weights, and for each picture of its tensor with and
// without a margin, and of what the network makes of it.
func (s *Native) Cost(d pipeline.Device, batch []*pipeline.Item) pipeline.Cost {
	c := pipeline.Cost{Resident: s.Stage.Cost(d, nil).Resident}
	add := func(src image.Point) {
		scaled := icnet.Scaled(src, nativeMost)
		if c.Resident > 0 { // it computes here
			padded := s.spec.OutputSize(icnet.WithMargin(scaled))
			c.Work += nativeBytes * int64(padded.X) * int64(padded.Y)
		}
		if d == pipeline.Host {
			c.Work += icnet.Bytes(s.spec, src, scaled)
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
