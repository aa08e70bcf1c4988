package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

// isolate repeats a batch that panicked item by item; who panics again fails.
func (w *worker) isolate(ctx context.Context, batch []*Item) error {
	w.run.event(EventRepeated, w.ID, "", fmt.Sprintf("a batch of %d panicked and is repeated item by item", len(batch)))
	for i := range batch {
		err := w.alone(ctx, batch[i:i+1:i+1])
		if err == nil {
			err = w.deliver(ctx)
		}
		if err != nil {
			w.abandon(batch[i+1:])
			return err
		}
	}
	return nil
}

// alone calls the stage with one item of a batch that panicked.
func (w *worker) alone(ctx context.Context, one []*Item) error {
	result, stays, err := w.again(ctx, one)
	defer stays.Release()
	switch {
	case err != nil:
		return w.refused(ctx, one, err)
	case result.panicked != nil:
		one[0].next.err = fmt.Errorf("stage %s panicked: %v", w.ID, result.panicked)
		one[0].next.stack = result.stack
		return w.settle(ctx, one, nil)
	case result.err == nil:
		w.made = stays
		defer func() { w.made = nil }()
		return w.settle(ctx, one, result.out)
	case ctx.Err() != nil:
		w.abandon(one)
		return ctx.Err()
	case errors.Is(result.err, memory.ErrOutOfMemory):
		stays.Release() // or it would wait for itself
		return w.smaller(ctx, one, result.err)
	}
	return &StageError{Stage: w.ID, Err: result.err}
}

// again calls the stage once more, under a lease of its own.
func (w *worker) again(ctx context.Context, batch []*Item) (outcome, *memory.Lease, error) {
	work, stays, err := w.lease(ctx, batch)
	if err != nil {
		return outcome{}, nil, err
	}
	result := w.attempt(ctx, batch)
	w.calls.Add(1)
	w.claim.drop()
	work.Release()
	if result.err != nil || result.panicked != nil {
		forget(batch)
	}
	return result, stays, nil
}

// smaller answers an out-of-memory: half the batch at a time, and a single item
// after a pause and a clean-up, three times before it fails.
func (w *worker) smaller(ctx context.Context, batch []*Item, cause error) error {
	if len(batch) > 1 {
		w.run.event(EventRepeated, w.ID, "", fmt.Sprintf("a batch of %d ran out of memory and is repeated in two halves: %v", len(batch), cause))
		half := len(batch) / 2
		first, second := batch[:half:half], batch[half:]
		return w.halves(ctx, first, second)
	}
	for pause := 50 * time.Millisecond; pause <= 200*time.Millisecond; pause *= 2 {
		w.run.clean(ctx, "stage "+w.ID+" ran out of memory")
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			w.abandon(batch)
			return ctx.Err()
		}
		result, stays, err := w.again(ctx, batch)
		switch {
		case err != nil:
			return w.refused(ctx, batch, err)
		case result.panicked != nil:
			stays.Release()
			return w.isolate(ctx, batch)
		case result.err == nil:
			w.made = stays
			err := w.settle(ctx, batch, result.out)
			w.made = nil
			stays.Release()
			return err
		}
		stays.Release()
		if !errors.Is(result.err, memory.ErrOutOfMemory) {
			return &StageError{Stage: w.ID, Err: result.err}
		}
		cause = result.err
	}
	batch[0].next = change{err: fmt.Errorf("even alone, the item does not fit: %w", cause)}
	return w.settle(ctx, batch, nil)
}

// halves goes on with a batch in two parts.
func (w *worker) halves(ctx context.Context, first, second []*Item) error {
	err := w.process(ctx, first)
	if err == nil {
		err = w.deliver(ctx)
	}
	if err != nil {
		w.abandon(second)
		return err
	}
	return w.process(ctx, second)
}

// refused answers a lease that cannot be had: a batch is halved, one item
// fails with what it needs and what there is.
func (w *worker) refused(ctx context.Context, batch []*Item, err error) error {
	var over *memory.OversizeError
	if !errors.As(err, &over) {
		w.abandon(batch)
		return err
	}
	if len(batch) > 1 { // also of a stage with state: it was not called
		half := len(batch) / 2
		return w.halves(ctx, batch[:half:half], batch[half:])
	}
	for _, it := range batch {
		it.next = change{err: over}
	}
	return w.settle(ctx, batch, nil)
}

// forget lets go of what an attempt made that came to nothing: its memory is for
// others while the batch waits.
func forget(batch []*Item) {
	batch[0].call.Load().end()
	for _, it := range batch {
		it.next = change{}
	}
}
