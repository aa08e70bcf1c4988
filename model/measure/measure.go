// Package measure finds out what a network takes: how much memory and time for batches
// of several sizes, by running it.
package measure

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/model"
)

// Options say what is measured, and where.
type Options struct {
	// Session says where the network is loaded, with how many threads. Where ArenaLimit
	// is 0 and it runs on the host, it gets nine tenths of the memory that is available.
	Session model.SessionOptions
	Batches []int // how many pictures a run takes; none: the one that the network wants, or 1
	Sides   []int // of pictures, which are square, in pixels; none: the size that the network wants, or 256
	// Each gets a point as soon as it is there; nil: none.
	Each func(Point)
}

// Point is what one run took.
type Point struct {
	Batch  int `json:"batch"`  // pictures in a run
	Width  int `json:"width"`  // of each, in pixels
	Height int `json:"height"` // of each, in pixels
	// Peak is the most that the tensors of a run took at once, in bytes: that of the
	// runtime's arena, beside which the weights lie. 0: there was no run.
	Peak int64 `json:"peak"`
	// Seconds is the time for one picture, the least of several runs.
	Seconds float64 `json:"seconds_per_picture"`
	// OutOfMemory says that there was not enough memory.
	OutOfMemory bool `json:"out_of_memory,omitempty"`
	// Fault is why there was no run: not enough memory, or a shape that the network does
	// not take.
	Fault string `json:"fault,omitempty"`
}

const (
	defaultSide = 256
	mostRuns    = 5
	longEnough  = time.Second // of runs of one shape together
)

// Run measures each batch with each size, smallest pictures first. Each has a session of
// its own, so that no peak is that of a shape before. What has no room, or does not suit
// the network, is a point that says so; an error means that nothing can be measured.
func Run(ctx context.Context, f *model.File, o Options) ([]Point, error) {
	m, err := memory.Host{}.Memory()
	if err != nil {
		return nil, fmt.Errorf("reading how much memory there is: %w", err)
	}
	if o.Session.ArenaLimit == 0 && (o.Session.Device == "" || o.Session.Device == "host") {
		o.Session.ArenaLimit = m.Available / 10 * 9
	}
	var points []Point
	for _, size := range sizes(f, o.Sides) {
		for _, batch := range batches(f, o.Batches) {
			p := Point{Batch: batch, Width: size.X, Height: size.Y}
			err := p.measure(ctx, f, o.Session, m.Available)
			switch {
			case ctx.Err() != nil:
				return points, context.Cause(ctx)
			case errors.Is(err, model.ErrOutOfMemory):
				p.OutOfMemory = true
				fallthrough
			case err != nil:
				p.Fault = err.Error()
			}
			points = append(points, p)
			if o.Each != nil {
				o.Each(p)
			}
		}
	}
	return points, nil
}

func sizes(f *model.File, sides []int) (all []image.Point) {
	for _, s := range slices.Sorted(slices.Values(sides)) {
		all = append(all, image.Pt(s, s))
	}
	if len(all) > 0 {
		return all
	}
	// Two pictures of other shapes tell whether the network always gets the same size.
	if size := f.Spec.OutputSize(image.Pt(1000, 700)); size == f.Spec.OutputSize(image.Pt(300, 900)) {
		return []image.Point{size}
	}
	return []image.Point{{X: defaultSide, Y: defaultSide}}
}

func batches(f *model.File, asked []int) []int {
	switch {
	case len(asked) > 0:
		return slices.Sorted(slices.Values(asked))
	case f.Batch > 0:
		return []int{f.Batch}
	}
	return []int{1}
}

// measure runs the network a few times. free is what the host has for its input.
func (p *Point) measure(ctx context.Context, f *model.File, o model.SessionOptions, free int64) (err error) {
	shape, err := p.shape(f)
	if err != nil {
		return err
	}
	need := float64(f.ElementType().Size())
	for _, n := range shape {
		need *= float64(n)
	}
	if need > float64(free) {
		return fmt.Errorf("%w: its input alone takes more than the %s that are available", model.ErrOutOfMemory, memory.FormatBytes(free))
	}
	s, err := f.Load(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	in := noise(f.ElementType(), shape)
	var spent time.Duration
	best := time.Duration(math.MaxInt64)
	for i := range 1 + mostRuns { // the first one is slower, and only warms up
		begun := time.Now()
		if _, err := s.Run(ctx, []*model.Tensor{in}, model.SessionRun{}); err != nil {
			return err
		}
		took := time.Since(begun)
		best = min(best, took)
		if spent += took; i > 0 && spent > longEnough {
			break
		}
	}
	st, err := s.Stats()
	if err != nil {
		return err
	}
	p.Peak, p.Seconds = st.MaxInUse, best.Seconds()/float64(p.Batch)
	return nil
}

// shape is that of the input, if the network takes it.
func (p *Point) shape(f *model.File) ([]int64, error) {
	b, c, h, w := int64(p.Batch), int64(f.Spec.Depth()), int64(p.Height), int64(p.Width)
	shape := []int64{b, c, h, w}
	if f.Spec.Layout == model.NHWC {
		shape = []int64{b, h, w, c}
	}
	for i, want := range f.Input.Shape {
		if want > 0 && want != shape[i] {
			return nil, fmt.Errorf("the network does not take that: its input %s has the shape %v, and this one is %v (-1 is any)", f.Input.Name, f.Input.Shape, shape)
		}
	}
	return shape, nil
}

// noise is a tensor of numbers in 0..1, the same each time.
func noise(t model.ElementType, shape []int64) *model.Tensor {
	in := ort.NewTensor(t, shape...)
	r := rand.New(rand.NewPCG(1, 2))
	if t == ort.Float16 {
		for i := 0; i < len(in.Data); i += 2 {
			// The exponents of 0.25 up to 1, and any fraction.
			in.Data[i], in.Data[i+1] = byte(r.Uint32()), 0x34+byte(r.Uint32()%8)
		}
		return in
	}
	data := in.Float32s()
	for i := range data {
		data[i] = r.Float32()
	}
	return in
}
