package embed_test

import (
	"context"
	"fmt"
	"image"
	"image/color"

	"github.com/forgepipe/forgepipe/memory/sim"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/pipeline"
)

// upscaler is a stage that enlarges pictures with a network on simulated cards, with no
// more than what the pipeline and the Runner give to anybody's stage.
type upscaler struct {
	env    pipeline.Env
	file   *model.File
	scale  int
	place  model.Placement
	runner *model.Runner
}

var (
	_ pipeline.Stage  = (*upscaler)(nil)
	_ pipeline.Opener = (*upscaler)(nil)
	_ pipeline.Closer = (*upscaler)(nil)
	_ pipeline.Coster = (*upscaler)(nil)
	_ pipeline.Placer = (*upscaler)(nil)
)

// upscalerWork is what it declares that its runs may take of the device beside the
// weights, in bytes: that is what the plan makes its phases of.
const upscalerWork = 96 * mib

func upscalerInfo(path string, scale int) pipeline.Info {
	return pipeline.Info{
		Name: "enlarge", Short: "Tests.", Waits: true,
		New: func(_ context.Context, _ pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
			f, err := model.Open(path, model.FileOptions{})
			return &upscaler{env: e, file: f, scale: scale}, err
		},
	}
}

func (u *upscaler) Place(want pipeline.Device, have []pipeline.Device) (on []pipeline.Device, err error) {
	r, err := model.OpenRuntime("")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, d := range have {
		names = append(names, string(d))
	}
	if u.place, err = r.Place(string(want), names); err != nil {
		return nil, err
	}
	for _, d := range u.place.Devices {
		on = append(on, pipeline.Device(d))
	}
	return on, nil
}

func (u *upscaler) Cost(d pipeline.Device, batch []*pipeline.Item) pipeline.Cost {
	if d != pipeline.Host {
		return pipeline.Cost{Resident: u.file.Header.WeightBytes, Work: upscalerWork}
	}
	c := pipeline.Cost{Resident: u.file.Header.WeightBytes + upscalerWork} // a simulated card is there too
	if len(batch) == 0 {
		c.Work = u.file.Spec.TensorBytes(image.Pt(4000, 3000)) * int64(1+2*u.scale*u.scale)
	}
	for _, it := range batch {
		c.Work += u.file.Spec.TensorBytes(it.Size()) * int64(1+2*u.scale*u.scale) // in, out, and the picture
	}
	return c
}

func (u *upscaler) Open(context.Context, pipeline.Device) error {
	o := model.RunnerOptions{Type: u.file.ElementType(), Governor: u.env.Governor(), Name: "upscaler", Log: u.env.Log}
	for _, d := range u.place.Devices {
		ledger := u.env.Ledger(pipeline.Device(d))
		card, ok := u.env.Device(pipeline.Device(d)).(*sim.Device)
		if !ok {
			return fmt.Errorf("%s is no simulated card", d)
		}
		limit := func() int64 { return ledger.Usage().Limit }
		o.Devices = append(o.Devices, model.RunnerDevice{
			Device: d, Key: u.file.Hash, Ledger: ledger, Weights: u.file.Header.WeightBytes, Cap: limit,
			Open: func(ctx context.Context) (model.Session, error) {
				s, err := u.file.Load(ctx, model.SessionOptions{Device: d, Threads: 1, ArenaLimit: max(limit(), 1)})
				return model.Simulated(s, card), err
			},
		})
	}
	u.runner = model.NewRunner(o)
	return nil
}

func (u *upscaler) Close() error {
	if u.runner == nil {
		return nil
	}
	return u.runner.Close()
}

func (u *upscaler) Process(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	leave := u.runner.Enter()
	defer leave()
	inputs := make([]model.Input, len(batch))
	for i, it := range batch {
		inputs[i] = model.Input{Shape: u.file.Spec.Shape(1, it.Size())[1:], Fill: func(ctx context.Context, dst []byte) error {
			f, err := it.Frame(ctx)
			if err != nil {
				return err
			}
			defer it.Done()
			return u.file.Spec.Fill(ctx, dst, f.Image)
		}}
	}
	for i, r := range u.runner.Infer(ctx, inputs) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if r.Err != nil {
			batch[i].Fail(r.Err)
			continue
		}
		size := batch[i].Size().Mul(u.scale)
		data := r.Outputs[0].Float32s()
		if len(data) != 3*size.X*size.Y {
			batch[i].Fail(fmt.Errorf("the network gives %d values for a picture of %v", len(data), size))
			continue
		}
		img := image.NewNRGBA(image.Rectangle{Max: size})
		for p := range size.X * size.Y {
			level := func(channel int) uint8 { return uint8(min(max(data[channel*size.X*size.Y+p], 0), 1)*255 + 0.5) }
			img.SetNRGBA(p%size.X, p/size.X, color.NRGBA{level(0), level(1), level(2), 255})
		}
		batch[i].SetImage(img)
	}
	return batch, nil
}
