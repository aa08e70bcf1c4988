package network

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime/debug"

	"github.com/sourcegraph/conc/panics"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/pipeline"
)

// A Part is what takes one place in a batch: a whole picture, or a piece of one.
type Part struct {
	// Input is its tensor. Fill may run beside those of other parts, also of the same
	// item: where an item has several, it reads what the Job has, and not the item.
	model.Input
	// Take gets what the network made of the part: one tensor for each output that was
	// chosen, without the axis of the batch. They are parts of what a whole batch gave:
	// what is kept of them is copied. An error fails the item.
	Take func(out []*model.Tensor) error
}

// A Job is one item's way through the network.
type Job struct {
	// Parts are those of the item; they are asked for one by one, as there is room for
	// them, and taken in the same order.
	Parts iter.Seq[Part]
	// Done is called when all have been taken: it gives the item its attributes or its
	// picture. An error fails the item. Nil: there is nothing left to do.
	Done func() error
}

// Begin begins with an item: it says what of it goes through the network. An error
// fails the item. Items begin in the order of a call's batch, the next one as soon as
// there is room for its parts, while those before it are still on their way.
//
// What a call has of its items is looked at by one goroutine at a time: Begin, the
// iteration over Parts, Take and Done never run beside each other in one call.
type Begin func(ctx context.Context, it *pipeline.Item) (Job, error)

// whole is the Begin of a network that takes the picture as it is.
func (s *Stage) whole(take TakeAll) Begin {
	return func(_ context.Context, it *pipeline.Item) (Job, error) {
		p := Part{
			Input: model.Input{Shape: s.file.Spec.Shape(1, it.Size())[1:], Fill: func(ctx context.Context, dst []byte) error { return s.fill(ctx, dst, it) }},
			Take:  func(out []*model.Tensor) error { return take(it, out) },
		}
		return Job{Parts: func(yield func(Part) bool) { yield(p) }}, nil
	}
}

// Process runs the network on the items. One that cannot be decoded, of which the
// network makes nothing or which the stage does not want fails; one that has no room now
// comes again later.
func (s *Stage) Process(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	c := &call{Stage: s}
	c.enter()
	defer c.end()
	errs := make([]error, len(batch))
	for i, it := range batch {
		c.item(ctx, it, &errs[i])
	}
	c.drain(ctx)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if c.fatal != nil {
		return nil, c.fatal
	}
	next := 0
	return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		err := errs[next]
		next++
		var noRoom *model.NoRoomError
		switch {
		case errors.As(err, &noRoom) && noRoom.Now:
			it.Later(fmt.Errorf("%s: %w", s.o.Doing, err))
		case err != nil:
			it.Fail(fmt.Errorf("%s: %w", s.o.Doing, err)) // the runner has tried it again already
		}
		return nil
	}).Process(ctx, batch)
}

// A call is one call of Process: its parts on their way to the Runner and back.
type call struct {
	*Stage
	outside func() // says to the Runner that this goroutine adds nothing now
	next    group  // is being filled
	sent    []*sent
	running int   // parts of those that were sent
	fatal   error // what all items have in common: the network cannot be loaded
}

// A group is the parts that one call of Infer gets.
type group struct {
	parts []Part
	jobs  []*job
}

// A sent group is inferred by a goroutine of its own.
type sent struct {
	group
	results []model.Result
	panic   *panics.Recovered
	done    chan struct{}
}

type job struct {
	Job
	err  *error // of the item
	left int    // parts that were not taken yet
	all  bool   // no more will come
}

// enter and leave tell the Runner whether batches should wait for this goroutine.
func (c *call) enter() { c.outside = c.runner.Enter() }

func (c *call) leave() { c.outside() }

// end waits for what is left, when the call ends early: what its tensors are filled
// from is not to be read any more when it has ended.
func (c *call) end() {
	c.leave()
	for _, s := range c.sent {
		<-s.done
		c.underway.Add(-int64(len(s.parts)))
	}
}

func (c *call) over(ctx context.Context) bool { return c.fatal != nil || ctx.Err() != nil }

// item sends the item's parts off.
func (c *call) item(ctx context.Context, it *pipeline.Item, err *error) {
	if c.over(ctx) {
		return
	}
	j := &job{err: err}
	if j.Job, *err = c.begin(ctx, it); *err != nil {
		return
	}
	for p := range j.Parts {
		if len(c.next.parts) >= c.groupSize(p.Shape) {
			c.send(ctx)
		}
		if *err != nil || c.over(ctx) {
			break // nobody wants the rest
		}
		j.left++
		c.next.parts, c.next.jobs = append(c.next.parts, p), append(c.next.jobs, j)
	}
	j.all = true
	c.finish(ctx, j)
}

// groupSize is how many parts of that shape go together: those of a batch.
func (c *call) groupSize(shape []int64) int {
	_, most := c.runner.Wants(shape)
	return max(most, 1)
}

// send has the next group inferred beside the others, when there is room for it.
func (c *call) send(ctx context.Context) {
	g := c.next
	c.next = group{}
	together, _ := c.runner.Wants(g.parts[0].Shape)
	for !c.reserve(len(g.parts), together) {
		c.takeFirst(ctx)
	}
	s := &sent{group: g, done: make(chan struct{})}
	c.sent = append(c.sent, s)
	go func() {
		defer close(s.done)
		leave := c.runner.Enter()
		defer leave()
		// A disk that fails under a picture that lies in a file is a panic here too.
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		var catcher panics.Catcher
		catcher.Try(func() { s.results = c.infer(ctx, g) })
		s.panic = catcher.Recovered()
	}()
}

// reserve counts parts that are on their way. All calls of the stage together have as
// many as its lanes can use; a call that has none gets through in any case.
func (c *call) reserve(n, together int) bool {
	if c.running > 0 && c.underway.Load()+int64(n) > int64(together) {
		return false
	}
	c.underway.Add(int64(n))
	c.running += n
	return true
}

func (c *call) infer(ctx context.Context, g group) []model.Result {
	inputs := make([]model.Input, len(g.parts))
	for i, p := range g.parts {
		inputs[i] = p.Input
	}
	return c.runner.Infer(ctx, inputs)
}

// takeFirst waits for the group that was sent first, and takes what came of it.
func (c *call) takeFirst(ctx context.Context) {
	s := c.sent[0]
	c.sent = c.sent[1:]
	c.leave()
	<-s.done
	c.enter()
	c.underway.Add(-int64(len(s.parts)))
	c.running -= len(s.parts)
	if s.panic != nil {
		panic(s.panic) // with the stack of where it was
	}
	c.take(ctx, s.group, s.results)
}

// drain infers what is left, on this goroutine where nothing else is on its way, and
// takes everything.
func (c *call) drain(ctx context.Context) {
	if len(c.next.parts) > 0 && !c.over(ctx) {
		if len(c.sent) > 0 {
			c.send(ctx)
		} else {
			g := c.next
			c.next = group{}
			c.take(ctx, g, c.infer(ctx, g))
		}
	}
	for len(c.sent) > 0 {
		c.takeFirst(ctx)
	}
}

// take hands the results on, each to its part.
func (c *call) take(ctx context.Context, g group, results []model.Result) {
	for i, p := range g.parts {
		j, r := g.jobs[i], results[i]
		j.left--
		switch {
		case errors.Is(r.Err, model.ErrLoading):
			c.fatal = r.Err
		case *j.err != nil: // of an earlier part
		case r.Err != nil:
			*j.err = r.Err
		case !c.over(ctx):
			*j.err = p.Take(r.Outputs)
		}
		c.finish(ctx, j)
	}
}

// finish ends an item of which everything was taken.
func (c *call) finish(ctx context.Context, j *job) {
	if j.all && j.left == 0 && *j.err == nil && !c.over(ctx) && j.Done != nil {
		*j.err = j.Done()
	}
}
