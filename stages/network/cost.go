package network

import (
	"cmp"
	"context"
	"fmt"
	"image"
	"strings"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/pipeline"
)

// ordinary is the size of a picture of which nothing is known.
var ordinary = image.Pt(4000, 3000)

const (
	// defaultBatch is what a GPU is busy with, and several threads that share one run.
	defaultBatch = 8
	// laneBatch is the same for runs of one thread each. With ResNet-18 and ViT-B/32,
	// batches of 8 take 1 to 4 % less CPU time a picture, but twice the memory, and
	// leave cores idle for longer when the last pictures are prepared; those of 1, for
	// which the weights are read anew each time, take 4 to 18 % more than those of 8.
	laneBatch = 4
)

// divide decides how many batches run at once, of how many pictures, and with how many
// threads each. On the CPU threads that share a run wait for each other at each of its
// operators, so each has a run of its own where the pictures of all have room.
func (s *Stage) divide() error {
	s.lanes, s.batch = 1, cmp.Or(s.file.Batch, s.o.Batch, s.most(defaultBatch))
	onCPU := s.place.Devices[0] == string(pipeline.Host)
	var least int64
	if s.o.Fit != nil {
		var err error
		if least, err = s.least(); err != nil {
			return err
		}
		s.o.Part, s.o.PartBytes = s.o.Fit(least / runShare)
	}
	switch {
	case s.o.Fit != nil:
		together := max(int(least/togetherShare/s.fitted()), 1)
		s.batch = cmp.Or(s.file.Batch, s.o.Batch, min(together, defaultBatch))
		if onCPU {
			s.batch = cmp.Or(s.file.Batch, s.o.Batch, 1)
			s.lanes = spread(s.threads, together/s.batch)
		}
	case !s.sized && s.file.Batch == 0:
		s.batch = 1 // each shape would hold a whole batch of pictures
	case s.sized && onCPU && s.threads > 1:
		batch := cmp.Or(s.file.Batch, s.o.Batch, s.most(laneBatch))
		if lanes := spread(s.threads, s.picturesAtOnce()/batch); lanes > 1 {
			s.lanes, s.batch = lanes, batch
		}
	}
	s.session.Concurrent, s.session.Threads = s.lanes, (s.threads+s.lanes-1)/s.lanes
	return nil
}

const (
	// runShare is the part of the memory, as its inverse, that a run of one part may take
	// that Fit chose, and togetherShare that of all such parts which are run at once.
	runShare      = 8
	togetherShare = 4
)

// hostLimit is how many bytes of the host there are for the pipeline.
func (s *Stage) hostLimit() int64 { return cmp.Or(s.env.HostLimit(), s.host) }

// least is how many bytes there are where there are least: on the host, where tensors
// are in any case, or on one of the devices. A device that does not answer is an error:
// what is made of it decides about parts, and so about results.
func (s *Stage) least() (int64, error) {
	bytes := s.hostLimit()
	for _, d := range s.place.Devices {
		if m := s.env.Device(pipeline.Device(d)); m != nil {
			r, err := m.Read(context.Background())
			if err != nil {
				return 0, fmt.Errorf("reading how much memory %s has, on which depends what parts pictures are cut into: %w", d, err)
			}
			bytes = min(bytes, r.Total)
		}
	}
	return bytes, nil
}

// fitted is what a run of one part takes that Fit chose, with what it takes on the way.
func (s *Stage) fitted() int64 {
	in, out := s.partBytes()
	return max(s.o.PartBytes+in+copies*out, 1)
}

// spread is how many runs there are, at most so many, when each has as few threads as
// possible.
func spread(threads, most int) int {
	each := (threads + max(most, 1) - 1) / max(most, 1)
	return (threads + each - 1) / each
}

// hostShare is the part of the host's memory that the pictures of all lanes may take.
const hostShare = 32

// picturesAtOnce is how many pictures have room in all lanes together. What the run may
// take of the host is not known before it is planned, and a plan without room for the
// lanes is refused: so they take little of what there is, and where that is too little,
// what one run of the default size takes.
func (s *Stage) picturesAtOnce() int {
	in, out := s.partBytes()
	return max(s.most(defaultBatch), int(s.host/hostShare/(cmp.Or(s.o.PartBytes, in*activations+out)+copies*out)))
}

// most is how many pictures a run takes of so many: of those of which much comes out,
// as many as have room in a part of what the pipeline may use.
func (s *Stage) most(batch int) int {
	_, out := s.partBytes()
	limit := s.env.HostLimit()
	if limit == 0 || out == 0 {
		return batch
	}
	return min(batch, max(1, int(limit/togetherShare/((1+copies)*out))))
}

const (
	// activations is how many bytes a run needs at its peak for each byte of its input,
	// as long as nothing has been measured: VGG-16's first layers need 43, ResNet-18's 11.
	activations = 48
	// ownSize is the same for networks that take pictures at their own size. They are
	// made for that, and nobody knows beforehand how large the pictures are.
	ownSize = 4
	// copies is how often what comes out is in memory beside the runtime's arena: as the
	// tensor that Take gets, and as the numbers or the picture that it makes of that.
	copies = 2
	// leastArena is what a run gets beside the weights, however little room there is.
	leastArena = 64 << 20
	// madeBytes is what a pixel takes of a picture that a network made.
	madeBytes = 4
)

// Cost is, where the network runs, that of its weights and of the runs in all lanes,
// which stay from the first batch on; a call adds its tensors, which are on the host,
// and the pictures that the network makes, if it does. A stage of parts adds what it
// keeps of a picture itself, and what it makes of them.
func (s *Stage) Cost(d pipeline.Device, batch []*pipeline.Item) pipeline.Cost {
	switch {
	case d != pipeline.Host:
		return pipeline.Cost{Resident: s.file.Header.WeightBytes, Work: s.runBytes()}
	case strings.HasPrefix(s.place.Devices[0], "gpu:") && !s.place.CPUToo:
		c := s.onHost(batch)
		c.Resident -= s.file.Header.WeightBytes
		if s.sized {
			c.Resident -= s.runBytes()
		}
		return c
	default: // simulated devices are the host's memory too
		return s.onHost(batch)
	}
}

// shape is that of the largest part, as far as it is known, without the axis of the
// batch.
func (s *Stage) shape() []int64 {
	if s.o.Part == (image.Point{}) {
		return s.file.Spec.Shape(1, ordinary)[1:]
	}
	shape := s.file.Spec.Shape(1, image.Pt(1, 1))[1:]
	h := 1
	if s.file.Spec.Layout == model.NHWC {
		h = 0
	}
	shape[h], shape[h+1] = int64(s.o.Part.Y), int64(s.o.Part.X)
	return shape
}

// partBytes is what the tensors of a part take: the one that goes in, and those that
// come out.
func (s *Stage) partBytes() (in, out int64) {
	in = s.tensorBytes(s.shape())
	return in, s.outOf(in)
}

// runBytes is what the runs of all lanes take together beside the weights, as far as
// that can be told beforehand.
func (s *Stage) runBytes() int64 {
	in, out := s.partBytes()
	if s.sized {
		return int64(s.lanes*s.batch) * cmp.Or(s.o.PartBytes, in*activations+out)
	}
	return ownSize*in + out
}

func (s *Stage) onHost(batch []*pipeline.Item) pipeline.Cost {
	spec := s.file.Spec
	c := pipeline.Cost{Resident: s.file.Header.WeightBytes}
	if s.sized {
		c.Resident += s.runBytes()
	}
	if s.o.Part != (image.Point{}) {
		// On their way are as many parts as the lanes can use, and a group of each call.
		in, out := s.partBytes()
		c.Resident += int64(s.lanes*s.batch) * (in + copies*out)
		c.Work = int64(s.batch) * (in + copies*out)
		return c
	}
	var most int64
	add := func(src, scaled image.Point) {
		in := spec.TensorBytes(src)
		c.Work += in + copies*s.outOf(in)
		if !s.sized {
			c.Work += s.runOf(in)
		}
		if s.o.Scale > 0 {
			to := spec.OutputSize(src).Mul(s.o.Scale)
			c.Output += madeBytes * int64(to.X) * int64(to.Y)
		}
		most = max(most, spec.Bytes(src)+4*int64(scaled.X)*int64(scaled.Y))
	}
	if len(batch) == 0 {
		add(ordinary, image.Point{})
	}
	for _, it := range batch {
		scaled := image.Point{}
		if s.o.Scaled {
			scaled = it.ScaledSize(spec.Least(it.Size()))
		}
		add(it.Size(), scaled)
	}
	c.Work += most
	if limit := s.hostLimit(); len(batch) == 0 && !s.sized && limit > 0 {
		// Pictures may be smaller than ordinary ones: each says itself what it needs.
		c.Work = min(c.Work, limit/togetherShare)
	}
	return c
}
