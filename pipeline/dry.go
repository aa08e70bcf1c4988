package pipeline

import (
	"context"
	"errors"
	"sync/atomic"
)

// errDryRun is what decoding gives in a dry run: what depends on it is not
// known.
var errDryRun = errors.New("not decoded in a dry run")

// ErrUndecided is what a barrier's Flush returns in a dry run, before it emits, where deciding
// would take more than looking at what is known: then what becomes of the items it held is not
// known, and the run goes on. In any other run it is an error.
var ErrUndecided = errors.New("not decided in a dry run")

// dryRun collects what a run would do. Items go through the chain as in a run,
// but nothing is decoded and nothing written: from the first stage whose result
// would have to be computed, an item is a "maybe", and what would become of it
// is not known.
type dryRun struct {
	compute, write, retract atomic.Int64
	maybe                   atomic.Int64
}

// skip takes out of a batch what the stage cannot decide without being run.
func (d *dryRun) skip(w *worker, batch []*Item) []*Item {
	todo := w.todo[:0]
	for _, it := range batch {
		pure := w.identity != nil
		switch {
		case it.maybe && !w.writer, pure && !it.maybe, w.barrier != nil && !w.writer:
			if !it.maybe {
				d.compute.Add(1)
				it.maybe = true
			}
			w.unsure.Store(true)
			w.out = append(w.out, it)
		default:
			todo = append(todo, it)
		}
	}
	w.todo = todo
	return todo
}

// pass lets go on what a barrier held: where it has not seen all items, or leaves
// deciding to the run, nobody knows what it would decide.
func (d *dryRun) pass(ctx context.Context, w *worker) error {
	for it, err := range w.held.items(ctx) {
		if err != nil {
			return err
		}
		it.maybe = true
		w.out = append(w.out[:0], it)
		if err := w.deliver(ctx); err != nil {
			return err
		}
	}
	return nil
}

// file counts an output that a run would write.
func (d *dryRun) file(p *publishing) {
	if p.Item != nil && p.Item.maybe {
		d.maybe.Add(1)
		return
	}
	d.write.Add(1)
}

// Forecast is what a dry run tells.
type Forecast struct {
	Compute int64 `json:"compute"` // items whose result some stage would have to compute
	Reuse   int64 `json:"reuse"`   // files that are right already
	Write   int64 `json:"write"`   // files that would be written
	// Maybe counts files that depend on results that are not known yet: some
	// of them would be written.
	Maybe   int64 `json:"maybe"`
	Retract int64 `json:"retract"` // files that would be moved to the trash
	// Held is what barriers would take to decide, as far as that can be told before: not of
	// those behind stages that make several items of one.
	Held []HeldNeed `json:"held"`
}
