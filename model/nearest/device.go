package nearest

import (
	"context"
	"fmt"
	"math"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/model"
)

// A device computes the bounds in the CPU's place, and nothing else: what may be near is
// looked at by the CPU, and decided in float64. What costs there is the way of the vectors
// and of what comes out, so that it gets many chunks at once. Each run has one shape, so
// that the runtime's arena does not grow from run to run.
type device struct {
	session  model.Session
	together int // chunks of a run
}

// mostTogether is how many chunks go into a run on a device, as far as gatheredBytes are
// enough. It is a variable for tests.
var mostTogether = 16

const (
	// gatheredBytes is what the vectors of a run and what comes of them take of a thread's
	// room, so that a device changes nothing about Room.
	gatheredBytes = runBytes
	bestBytes     = Block * groups * 4 // that come out, for a chunk
	productBytes  = Block * chunk * 4  // that are in between, for a chunk
	arenaSlack    = 2                  // how often the runtime may have the buffers of a run
)

// togetherOf is how many chunks of vectors of so many numbers are run at once.
func togetherOf(width int) int {
	return max(min(mostTogether, gatheredBytes/(chunk*4*width+bestBytes)), 1)
}

// DeviceRoom is how many bytes of its memory a device is to have for the search among
// vectors of so many numbers, if Options.Open is set: what Open gives the arena.
func DeviceRoom(dim int) int64 {
	asked := int64(Block+chunk) * 4 * int64(dim+2) // and one chunk, which may be more than what is gathered
	return arenaSlack * (asked + gatheredBytes + int64(mostTogether)*productBytes)
}

// openDevice makes the device ready, unless it does not compute what the CPU does, or does
// not compute at all: then nothing is lost, as the CPU can do it.
func (x *Index) openDevice(ctx context.Context) error {
	if x.o.Open == nil || x.Len() == 0 {
		return nil
	}
	graph, err := searchGraph()
	if err != nil {
		return err
	}
	d := &device{together: togetherOf(x.reduced.width)}
	if d.session, err = x.o.Open(ctx, graph); err == nil {
		x.device = d
		err = x.checkDevice(ctx)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return x.leaveDevice(err)
}

// leaveDevice has the CPU do it from now on, and says why.
func (x *Index) leaveDevice(why error) error {
	if x.o.Log != nil {
		x.o.Log.Warn("vectors are compared on the CPU, and not on the device", "cause", why)
	}
	return x.closeDevice()
}

func (x *Index) closeDevice() error {
	d := x.device
	if d == nil {
		return nil
	}
	x.device = nil
	return d.session.Close()
}

// checkDevice compares a whole run on the device with the CPU's: no bound may be further
// off than reduce.go says. With S for the sum of the absolute products of a pair, each of
// the two is off by at most g S, so that they differ by at most 2 g S, and what is flushed
// to zero; and as S is at most |a||b| + |c|, with a and b for what is before the last
// number of each, so do the greatest of a group by 2 g times the greatest of these. A
// device that rounds more than float32 does, as with TF32, is found out.
func (x *Index) checkDevice(ctx context.Context) error {
	r, n := x.reduced, min(x.Len(), Block)
	sample, bounds := ort.NewTensor(ort.Float32, int64(n), int64(r.width)), make([]float32, n)
	items, v, raw := sampleOf(x.Len(), n), make([]float32, x.o.Dim), make([]byte, x.file.row)
	err := r.reduce(ctx, n, func(i int) ([]float32, error) { return v, x.file.read(items[i], v, raw) }, sample.Float32s(), bounds)
	if err != nil {
		return err
	}
	asked, rows := ort.NewTensor(ort.Float32, Block, int64(r.width)), x.device.room(r.width)
	ones, all := asked.Float32s(), rows.Float32s()
	vector := func(i int) []float32 { return sample.Float32s()[i%n*r.width:][:r.width] }
	for i := range Block {
		copy(ones[i*r.width:], vector(i))
		ones[(i+1)*r.width-1] = 1
	}
	for i := range len(all) / r.width {
		copy(all[i*r.width:], vector(i+i/chunk*7)) // in groups of their own in each chunk
	}
	there, err := x.bounds(ctx, x.device.session, asked, rows)
	if err != nil {
		return err
	}
	lengths, ends := make([]float64, len(all)/group/r.width), make([]float64, len(all)/group/r.width)
	if len(there) != Block*len(lengths) {
		return fmt.Errorf("it gives %d numbers, and not %d", len(there), Block*len(lengths))
	}
	for i := range len(all) / r.width {
		length, end := x.parts(all[i*r.width:][:r.width])
		lengths[i/group], ends[i/group] = max(lengths[i/group], length), max(ends[i/group], end)
	}
	const u = 0x1p-24
	g := float64(r.width) * u / (1 - float64(r.width)*u)
	for c := range x.device.together {
		here, err := x.bounds(ctx, x.search, asked, slab(rows, c*chunk, chunk))
		if err != nil {
			return err
		}
		for i := range Block {
			length, _ := x.parts(ones[i*r.width:][:r.width])
			for k, want := range here[i*groups:][:groups] {
				at := c*groups + k
				got := there[i*len(lengths)+at]
				most := 2*g*(length*lengths[at]+ends[at]) + 2*tiny
				if off := math.Abs(float64(got) - float64(want)); !(off <= most) {
					return fmt.Errorf("it computes other numbers than the CPU: %v, where %v +- %.2g is right", got, want, most)
				}
			}
		}
	}
	return nil
}

// parts are the length of a reduced vector but for its last number, and that, without its
// sign.
func (x *Index) parts(v []float32) (length, end float64) {
	var squares float64
	for _, a := range v[:len(v)-1] {
		squares += float64(a) * float64(a)
	}
	return math.Sqrt(squares), math.Abs(float64(v[len(v)-1]))
}

// room is for the vectors of a run.
func (d *device) room(width int) *ort.Tensor {
	return ort.NewTensor(ort.Float32, int64(d.together)*chunk, int64(width))
}
