package model

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/forgepipe/forgepipe/internal/ort"
)

// batch is items of one shape.
type batch struct {
	seat   *seat
	key    string // of the shape
	shape  []int64
	tensor *ort.Tensor
	most   int // items that it has room for
	queued int // items that its seat's work was told of
	bytes  int // of one item
	slots  []slot
	filled int // of them, how many are answered for
}

// slot is one item's place.
type slot struct {
	ctx  context.Context
	done chan Result
	is   state
	from *seat // where it has failed before; nil: nowhere
}

type state int

const (
	empty  state = iota // its tensor is being filled
	filled              // somebody waits for its result
	gone                // nobody waits for it here
)

// mostWorth bounds how many items a run is worth: with more, what a run has beside its
// items hardly counts any more, and on the CPU they leave its caches.
const mostWorth = 12

// least is how many items of so many bytes a run is worth.
func (o RunnerOptions) least(bytes int) int {
	if o.Batch > 0 {
		return 1
	}
	return int(min(max(o.Worth/int64(max(bytes, 1)), 1), mostWorth))
}

// shut lets a batch take no more items, and runs it once all are filled.
func (r *Runner) shut(b *batch) {
	r.open = slices.DeleteFunc(r.open, func(o *batch) bool { return o == b })
	r.filling = append(r.filling, b)
	r.enqueueFilled(b)
}

// enqueueFilled has a batch run that takes no more items and is filled.
func (r *Runner) enqueueFilled(b *batch) {
	i := slices.Index(r.filling, b)
	if i < 0 || b.filled < len(b.slots) {
		return
	}
	r.filling = slices.Delete(r.filling, i, i+1)
	r.enqueue(b)
}

func (r *Runner) enqueue(b *batch) {
	b.seat.ready = append(b.seat.ready, b)
	r.idle.Broadcast()
}

// part makes the items of b from lo to hi that are filled a batch of their own.
func (r *Runner) part(b *batch, lo, hi int) *batch {
	part := &batch{
		seat: b.seat, key: b.key, shape: b.shape, bytes: b.bytes, most: hi - lo,
		tensor: ort.NewTensor(r.o.Type, append([]int64{int64(hi - lo)}, b.shape...)...),
	}
	for i := lo; i < hi; i++ {
		if b.slots[i].is == filled {
			copy(part.tensor.Data[len(part.slots)*b.bytes:], b.tensor.Data[i*b.bytes:(i+1)*b.bytes])
			part.slots = append(part.slots, b.slots[i])
		}
	}
	part.filled, part.queued = len(part.slots), len(part.slots)
	b.queued -= part.queued
	return part
}

// runFilled runs the items of a batch that are filled, in a batch of their own.
func (r *Runner) runFilled(b *batch) {
	part := r.part(b, 0, len(b.slots))
	for i := range b.slots {
		if b.slots[i].is == filled {
			b.slots[i].is = gone
		}
	}
	if part.filled > 0 {
		r.enqueue(part)
	}
}

// pack moves the items that somebody still waits for to the front, and counts
// them.
func (b *batch) pack() (n int) {
	for i, s := range b.slots {
		if s.is == gone {
			continue
		}
		if s.ctx.Err() != nil {
			s.done <- Result{Err: context.Cause(s.ctx)}
			continue
		}
		if n < i {
			copy(b.tensor.Data[n*b.bytes:(n+1)*b.bytes], b.tensor.Data[i*b.bytes:(i+1)*b.bytes])
			b.slots[n] = b.slots[i]
		}
		n++
	}
	return n
}

// whenAllHaveLeft calls f when the first n items' contexts have ended: nobody
// waits for the run any longer.
func (b *batch) whenAllHaveLeft(n int, f func()) (stop func()) {
	var left atomic.Int64
	left.Store(int64(n))
	stops := make([]func() bool, n)
	for i := range n {
		stops[i] = context.AfterFunc(b.slots[i].ctx, func() {
			if left.Add(-1) == 0 {
				f()
			}
		})
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

// input is the tensor of these items: a part of the batch's, or where the network
// takes no fewer, a copy with zeros behind.
func (b *batch) input(o RunnerOptions, lo, hi int) *ort.Tensor {
	data := b.tensor.Data[lo*b.bytes : hi*b.bytes]
	shape := append([]int64{int64(hi - lo)}, b.shape...)
	if o.Fixed && hi-lo < o.Batch {
		shape[0] = int64(o.Batch)
		t := ort.NewTensor(o.Type, shape...)
		copy(t.Data, data)
		return t
	}
	return &ort.Tensor{Type: b.tensor.Type, Shape: shape, Data: data}
}

// answer gives the items from lo to hi their rows of the outputs, or the error.
func (b *batch) answer(lo, hi int, out []*ort.Tensor, err error) {
	for i := lo; i < hi; i++ {
		r := Result{Err: err}
		for _, t := range out {
			n := len(t.Data) / int(t.Shape[0])
			r.Outputs = append(r.Outputs, &ort.Tensor{Type: t.Type, Shape: t.Shape[1:], Data: t.Data[(i-lo)*n : (i-lo+1)*n : (i-lo+1)*n]})
		}
		b.slots[i].done <- r
	}
}
