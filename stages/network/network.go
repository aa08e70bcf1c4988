package network

import (
	"cmp"
	"context"
	"fmt"
	"image"
	"path/filepath"
	"runtime"
	"sync/atomic"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/pipeline"
)

// Take takes what the network made of one item: it sets attributes, a vector or a
// picture, or rejects the item. out is the output that was chosen, the first of several (float32 or float16),
// without the axis of the batch, such as [512] or [3 H W]. It is a part of what a whole
// batch gave: what is kept of it is copied, as Numbers and Spec.Picture do. An error
// fails the item. Take is called by several goroutines, each with items of its own.
type Take func(it *pipeline.Item, out *model.Tensor) error

// Options say how a stage runs its network. The zero value is ready: the governor of
// memory decides about batches, and all cores compute.
type Options struct {
	// Doing names the stage's work in the causes of items that fail: "embedding". Empty
	// is "running" with the name of the network's file.
	Doing string
	// Scale says that Take makes a new picture of what comes out, so many times as wide
	// and as high as the one that the network gets: what its pixels take is part of the
	// stage's cost then. What the network's tensors take is told by its file.
	Scale int
	// Part is the size of the largest part that a Begin makes, in pixels of its tensor,
	// where that is known beforehand. Zero: parts are pictures, prepared as the Spec says.
	Part image.Point
	// PartBytes is what a run of one such part takes beside the weights, its tensors
	// included, as far as that is known; 0: it is estimated.
	PartBytes int64
	// Fit decides about Part and PartBytes where the stage can cut pictures into any
	// parts: room is how many bytes a run may take beside the weights. It is asked when it
	// is known where the network runs, and what it says must hang on nothing that changes
	// from run to run, as room does not. A run takes at most so many of them as have room
	// together, and on the CPU, where one is work enough, one; or as many smaller parts as
	// have its bytes.
	Fit func(room int64) (part image.Point, bytes int64)
	// Batch is how many pictures a run of the network takes, at most. 0: the governor
	// finds out on a GPU; on the CPU it is up to 8, or 4 where several runs go on at once.
	// Pictures that come to the network in different sizes go one by one.
	Batch int
	// Threads is how many threads compute on the CPU; 0 is one for each core.
	Threads int
	// Scaled decodes JPEGs at a smaller scale, at least twice the size that the network
	// wants: quicker, and what it makes differs a little.
	Scaled bool
	// Library is another ONNX Runtime than the one that forgepipe brings: the path of
	// libonnxruntime.so.
	Library string
}

// Stage runs a network on every item. It is a pipeline.Stage with all that the engine
// can ask of one: where it computes, what it costs, how many items a call should get.
// A stage that wants to say more of itself embeds it.
type Stage struct {
	env     pipeline.Env
	file    *model.File
	o       Options
	begin   Begin
	sized   bool  // all pictures come to the network in one size
	sizes   sizes // of the tensors of a run; zero where Fit says it
	threads int   // of the CPU, that compute
	host    int64 // bytes of memory; 0: not known
	runtime model.Runtime
	place   model.Placement

	// How the work is divided, which depends on the place.
	lanes   int // batches that run at once
	batch   int // pictures in each
	session model.SessionOptions

	runner   *model.Runner // while open
	release  func() error
	underway atomic.Int64 // parts, of all calls
}

var (
	_ pipeline.Stage      = (*Stage)(nil)
	_ pipeline.Opener     = (*Stage)(nil)
	_ pipeline.Closer     = (*Stage)(nil)
	_ pipeline.Coster     = (*Stage)(nil)
	_ pipeline.Batcher    = (*Stage)(nil)
	_ pipeline.Identifier = (*Stage)(nil)
	_ pipeline.Noter      = (*Stage)(nil)
	_ pipeline.Placer     = (*Stage)(nil)
)

// New makes a stage that runs f on every item and hands to take what it makes of it. It
// is for a stage's constructor: it loads the ONNX Runtime, and not the network. The
// error wraps pipeline.ErrLacking, and says what to install or to set. The stage's
// declaration should have Waits set, and Pure where the same picture always gives the
// same.
func New(e pipeline.Env, f *model.File, o Options, take Take) (*Stage, error) {
	return NewAll(e, f, o, func(it *pipeline.Item, out []*model.Tensor) error { return take(it, out[0]) })
}

// TakeAll is Take for all outputs that were chosen, in their order.
type TakeAll func(it *pipeline.Item, out []*model.Tensor) error

// NewAll is New for a stage that takes several of the network's outputs.
func NewAll(e pipeline.Env, f *model.File, o Options, take TakeAll) (*Stage, error) {
	s, err := NewParts(e, f, o, nil)
	if err == nil {
		s.begin = s.whole(take)
	}
	return s, err
}

// NewParts is New for a stage that cuts pictures into parts, runs them through the
// network, and makes something of what came of all of them.
func NewParts(e pipeline.Env, f *model.File, o Options, begin Begin) (*Stage, error) {
	r, err := model.OpenRuntime(o.Library)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", pipeline.ErrLacking, err)
	}
	o.Doing = cmp.Or(o.Doing, "running "+filepath.Base(f.Path))
	s := &Stage{
		runtime: r, place: model.Placement{Devices: []string{string(pipeline.Host)}},
		env: e, file: f, o: o, begin: begin,
		threads: cmp.Or(o.Threads, runtime.GOMAXPROCS(0)),
		session: model.SessionOptions{Library: o.Library, Log: e.Log},
	}
	s.sized = o.Part != image.Point{} || o.Fit != nil || f.Spec.OutputSize(ordinary) == f.Spec.OutputSize(image.Pt(300, 900))
	if host, err := (memory.Host{}).Memory(); err == nil { // the plan says what is wrong
		s.host = host.Total
	}
	s.measure()
	if err := s.divide(); err != nil {
		return nil, err
	}
	return s, nil
}

// Identity is the hash of the network, with how its pictures are prepared: a store or a
// checkpoint can say that, and not only the configuration.
func (s *Stage) Identity() string { return fmt.Sprintf("%s %+v", s.file.Hash, s.file.Spec) }

// Place takes the GPUs that the runtime can use, or the CPU.
func (s *Stage) Place(want pipeline.Device, have []pipeline.Device) ([]pipeline.Device, error) {
	names := make([]string, len(have))
	for i, d := range have {
		names[i] = string(d)
	}
	p, err := s.runtime.Place(string(want), names)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", pipeline.ErrLacking, err)
	}
	if p.Why != "" && (want == pipeline.Auto || len(have) > 0) {
		s.env.Log.Warn("the network runs on the CPU", "model", s.file.Path, "cause", p.Why)
	}
	s.place = p
	if err := s.divide(); err != nil {
		return nil, err
	}
	devices := make([]pipeline.Device, len(p.Devices))
	for i, d := range p.Devices {
		devices[i] = pipeline.Device(d)
	}
	return devices, nil
}

// Infer runs parts through the network for who has some beside those of Process, and
// gives one result for each. The stage must be open.
func (s *Stage) Infer(ctx context.Context, inputs []model.Input) []model.Result {
	return s.runner.Infer(ctx, inputs)
}

// Note says where it ran, when that was to be found out.
func (s *Stage) Note() string {
	if s.place.Why == "" {
		return ""
	}
	return "ran on the CPU: " + s.place.Why
}

// Batch is such that all lanes of the network have a batch, and one is being filled.
func (s *Stage) Batch() pipeline.BatchSpec {
	if s.runner == nil || !s.sized {
		return pipeline.BatchSpec{Size: s.batch}
	}
	together, most := s.runner.Wants(s.shape())
	return pipeline.BatchSpec{Size: most, Together: together}
}

// fill prepares one picture.
func (s *Stage) fill(ctx context.Context, dst []byte, it *pipeline.Item) error {
	least := s.file.Spec.Least(it.Size())
	if !s.o.Scaled || least == it.Size() {
		f, err := it.Frame(ctx)
		if err != nil {
			return err
		}
		defer it.Done()
		return s.file.Spec.Fill(ctx, dst, f.Image)
	}
	f, place, err := it.ScaledFrame(ctx, least)
	if err != nil {
		return err
	}
	defer it.Done()
	return s.file.Spec.FillPart(ctx, dst, f.Image, model.Part{X: place.X, Y: place.Y, Scale: place.Scale, Size: it.Size()})
}
