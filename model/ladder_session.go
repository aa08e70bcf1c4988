package model

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/memory"
)

// renew gives the session in use up when so many more items have failed in it one by
// one that it is taken to be lost.
func (l *ladder) renew(items int, err error) bool {
	switch {
	case l.session == nil:
		return l.renewCPU(items, err)
	case !l.trust.lost(items):
		return false
	}
	l.o.Log.Warn("nothing works any more: a new session is opened", "network", l.o.Name, "error", err)
	l.discard()
	return true
}

// renewCPU does the same with the fallback.
func (l *ladder) renewCPU(items int, err error) bool {
	if l.fallback == nil || !l.trustCPU.lost(items) {
		return false
	}
	l.o.Log.Warn("nothing works any more on the CPU: a new session is opened", "network", l.o.Name, "error", err)
	l.closed(l.fallback.Close())
	l.fallback = nil
	return true
}

func (l *ladder) openFallback(ctx context.Context) error {
	if l.fallback != nil {
		return nil
	}
	s, err := l.o.Fallback(ctx)
	if err != nil {
		return fmt.Errorf("loading %s on the CPU: %w", l.o.Name, err)
	}
	l.fallback = s
	l.opened++
	if l.workCPU == nil {
		l.workCPU = l.o.workload(&RunnerDevice{Device: "host", Key: l.seat.Key + " on the CPU"})
	}
	return nil
}

// used is the session that items run in; nil while there is none.
func (l *ladder) used() Session {
	if l.session == nil {
		return l.fallback
	}
	return l.session
}

// attempt runs items once, with that lock. When another lane has given the session up
// that they share, it is in the next one.
func (l *ladder) attempt(ctx context.Context, b *batch, lo, hi int, beside sync.Locker) ([]*ort.Tensor, error) {
	for {
		if l.session == nil {
			if err := l.openAgain(ctx); err != nil {
				return nil, err
			}
		}
		out, err := l.once(ctx, b, lo, hi, beside)
		if !errors.Is(err, errGivenUp) {
			return out, err
		}
		l.discard()
		l.trust.failed = 0 // that was in the other one
	}
}

// once does as attempt, in the session that there is.
func (l *ladder) once(ctx context.Context, b *batch, lo, hi int, beside sync.Locker) ([]*ort.Tensor, error) {
	// An arena keeps its regions, and a larger run adds others to them: 1, 2, 3, ...
	// ends at a multiple of what the largest needs. Smaller ones find room in those of
	// the larger.
	if err := l.turn(ctx, func() {}); err != nil {
		return nil, err
	}
	in := b.input(l.o, lo, hi)
	bytes := len(in.Data)
	lease, err := l.share.run(ctx, l.session, bytes, l.work.Bytes(b.key, max(hi-lo, l.least())), !l.trial && (hi-lo == 1 || l.o.Fixed))
	if err != nil {
		l.shrink = true // what is free in the arena may be what lacks
		if hi-lo > 1 && outOfMemory(err) {
			l.work.Ran(b.key, memory.Ran{Batch: hi - lo, OutOfMemory: true, Refused: true}, l.share.room(l.session))
		}
		return nil, err
	}
	o := ort.RunOptions{Shrink: l.o.Shrink, ShrinkFirst: l.shrink || l.grown > 0 && bytes > l.grown}
	if o.ShrinkFirst {
		l.grown = 0
	}
	clean := l.clean || o.ShrinkFirst
	l.grown, l.clean = max(l.grown, bytes), o.Shrink
	beside.Lock()
	end, began := l.courtesy.Begin(), time.Now()
	out, err := l.run(ctx, l.session, in, o)
	took := time.Since(began)
	end()
	beside.Unlock()
	if lease != nil {
		lease.Release()
	}
	r := memory.Ran{Batch: hi - lo, Seconds: took.Seconds(), OutOfMemory: outOfMemory(err)}
	r.Bytes = l.share.ran(l.session, bytes, err == nil, clean, o)
	if r.OutOfMemory && clean {
		r.Need = l.share.needed(l.session, err)
	}
	if err == nil || r.OutOfMemory {
		l.work.Ran(b.key, r, l.share.room(l.session))
	}
	if err == nil {
		l.trust = trust{}
	}
	l.shrink = outOfMemory(err)
	if s, e := l.session.Stats(); e == nil && float64(s.Allocated) > mostAllocated*float64(s.MaxInUse) {
		l.shrink = true // shapes of other proportions did not fit into each other's regions
	}
	return out, err
}

// run runs items, and refuses outputs that have no row for each.
func (l *ladder) run(ctx context.Context, s Session, in *ort.Tensor, o ort.RunOptions) ([]*ort.Tensor, error) {
	out, err := s.Run(ctx, []*ort.Tensor{in}, o)
	if err != nil {
		return nil, err
	}
	for i, t := range out {
		if len(t.Shape) == 0 || t.Shape[0] != in.Shape[0] {
			return nil, fmt.Errorf("output %d of %s has shape %v for %d items: its first axis is not the batch", i, l.o.Name, t.Shape, in.Shape[0])
		}
	}
	return out, nil
}

// reopen closes the session and opens another. Where memory is short, that may be for
// a moment; a fallback need not wait for it.
func (l *ladder) reopen(ctx context.Context) error {
	l.discard()
	if l.share.recently(l.shut) {
		return l.shut.err
	}
	wait := firstWait
	for try := 1; ; try++ {
		s, err := l.open(ctx)
		if err == nil {
			l.session, l.shrink, l.clean, l.grown, l.shut = s, false, true, 0, attempted{}
			l.opened++
			l.share.opened(s)
			l.work.Opened()
			return nil
		}
		l.share.close()
		if !outOfMemory(err) {
			return err
		}
		// While others have the device, nobody gets on: those who wait are the brake.
		tries := triesAlone
		if errors.As(err, new(*leasedError)) {
			tries = triesToLoad
		}
		if l.trial || l.o.Fallback != nil || errors.As(err, new(*memory.OversizeError)) || try == tries || !sleep(ctx, wait) {
			l.shut = l.share.inVain(err)
			return err
		}
		wait = min(2*wait, longestWait)
	}
}

// openAgain is reopen for items that are being run: an error that is not out of memory
// says that it comes from there.
func (l *ladder) openAgain(ctx context.Context) error {
	err := l.reopen(ctx)
	if err != nil && !outOfMemory(err) {
		return fmt.Errorf("%w %s again: %w", ErrLoading, l.o.Name, err)
	}
	return err
}

func (l *ladder) open(ctx context.Context) (Session, error) {
	if err := l.share.open(ctx, !l.trial); err != nil {
		return nil, err
	}
	return l.seat.Open(ctx)
}

// discard closes the session. That one cannot be closed keeps nobody from opening
// another: the error is for Close.
func (l *ladder) discard() {
	if l.session != nil {
		l.closed(l.session.Close())
		l.session = nil
	}
	l.share.close()
}

// closed keeps the error of closing a session.
func (l *ladder) closed(err error) {
	if err != nil {
		l.o.Log.Warn("a session could not be closed", "network", l.o.Name, "error", err)
		l.unclosed = append(l.unclosed, err)
	}
}

func (l *ladder) close() error {
	l.work.Close()
	if l.workCPU != nil {
		l.workCPU.Close()
	}
	l.discard()
	if l.fallback != nil {
		l.closed(l.fallback.Close())
	}
	return errors.Join(l.unclosed...)
}
