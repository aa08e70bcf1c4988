package model

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/memory"
)

const (
	// triesAlone is how often one item alone may run out of memory in the session,
	// and triesAnew in the next one: what others have taken may come back. That takes
	// 2.5 to 5 seconds.
	triesAlone  = 6
	triesAnew   = 3
	triesToLoad = 20 // half a minute
	firstWait   = 50 * time.Millisecond
	longestWait = 2 * time.Second
	// nextTime is after how long it is tried again in full after that was in vain.
	nextTime = 30 * time.Second
	// lostAfter is how many items in a row fail alone before the session is taken to
	// be lost: fewer may have failed for their own sake.
	lostAfter = 3

	// mostAllocated is how many times the most that was ever in use the arena may have.
	mostAllocated = 1.1
)

// ErrLoading is wrapped by the results of items whose network could not be loaded:
// the next ones will not fare better.
var ErrLoading = errors.New("loading")

// ladder is what a Runner does when memory runs out, step by step:
//
//  1. The arena's free regions are given back, and the batch is split in two.
//  2. One item alone is tried again after 50 ms, twice as long each time.
//  3. Then in a new session, whose arena is empty.
//  4. Then on a larger device, if there is one.
//  5. Then on the CPU, if that is allowed.
//  6. Then the item fails, with what it needs and what there is.
//
// After another error the items are run one by one, when all fail in a new session,
// and then on another device.
//
// It belongs to one goroutine.
type ladder struct {
	o      RunnerOptions
	runner *Runner // which takes items elsewhere
	seat   *seat
	// trial says that it is beside others in which all that comes has room: it must not
	// keep anything from them.
	trial bool
	work  *memory.Workload // decides how many items a run takes
	// workCPU does so for the fallback; nil until there is one.
	workCPU *memory.Workload
	// others is held for reading while a batch runs, and for writing while one runs
	// that has run out of memory and cannot be split: what lanes beside it have of a
	// shared arena must not make it fail.
	others *sync.RWMutex
	// courtesy holds a run up for others.
	courtesy memory.Courtesy

	session  Session
	fallback Session
	opened   int     // of both, so far
	shape    []int64 // of the last batch's items
	vain     []vain  // shapes of which one item alone had no room
	shrink   bool    // before the next run the arena's free regions are given back
	clean    bool    // nothing has run in the arena since it was empty
	grown    int     // bytes of the largest input since then
	computed int     // items of the batch that is being run
	trust    trust   // in the session
	trustCPU trust   // in the fallback
	unclosed []error // of sessions
	share    share
	shut     attempted // to open a session
	// toldCPU says that it has been said that items are computed on the CPU.
	toldCPU bool
}

// trust is lost in a session in which nothing works any more, for another reason than
// memory.
type trust struct {
	failed int // items in a row, each alone
	// renewed says that another session was opened for that reason. Until something
	// has worked again it is not done once more.
	renewed bool
}

// lost notes that so many more items have failed one by one, and tells whether the
// session is likely to be at fault and another may help.
func (t *trust) lost(items int) bool {
	t.failed += items
	if t.failed < lostAfter || t.renewed {
		return false
	}
	t.renewed = true
	return true
}

// vain is that one item of a shape alone had no room.
type vain struct {
	shape []int64
	attempted
}

const (
	// mostVain bounds how many shapes are remembered that have no room.
	mostVain = 256
	// lookAgain is after how long it is looked again what others have left: the device
	// has been read by then.
	lookAgain = 150 * time.Millisecond
)

// batch answers all items of b.
func (l *ladder) batch(ctx context.Context, b *batch) {
	n := b.pack()
	l.shape = b.shape
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer b.whenAllHaveLeft(n, cancel)()
	l.items(ctx, b, 0, n)
}

// items answers the items from lo to hi.
func (l *ladder) items(ctx context.Context, b *batch, lo, hi int) {
	most := hi - lo
	for lo < hi {
		n := min(l.size(ctx, b, min(most, hi-lo)), hi-lo)
		opened := l.opened
		answered, err := l.part(ctx, b, lo, lo+n)
		if err != nil {
			if !l.trial || !l.runner.larger(l.seat, l.trial, b, lo, lo+n) {
				l.failing(ctx, b, lo, lo+n, err)
			}
			answered = n
		}
		if lo += answered; answered == 0 && l.opened == opened {
			most = max(n/2, 1) // in any case, whatever the strategy makes of it
		}
	}
}

// size is how many of so many items the next run takes. It gives memory back first
// where others want it.
func (l *ladder) size(ctx context.Context, b *batch, items int) int {
	switch {
	case l.session == nil && l.fallback != nil:
		c := l.workCPU.Next(b.key, memory.Room{Budget: math.MaxInt64, Items: items, Least: l.o.least(b.bytes)})
		return max(min(c.Batch, items), l.least())
	case l.session == nil:
		return max(min(l.work.Target(b.key, l.o.least(b.bytes)), items), l.least())
	}
	for looked := false; ; looked = true {
		room := l.share.room(l.session)
		room.Items, room.Least = items, l.o.least(b.bytes)
		c := l.work.Next(b.key, room)
		if c.Look && !looked {
			l.giveBack(ctx)
			if sleep(ctx, lookAgain) {
				continue
			}
		}
		l.shrink = l.shrink || c.Shrink
		if l.o.Fixed {
			return l.o.Batch
		}
		return max(min(c.Batch, items), 1)
	}
}

// giveBack leaves the session nothing but its weights, and says whether it could.
func (l *ladder) giveBack(ctx context.Context) bool {
	in := ort.NewTensor(l.o.Type, append([]int64{int64(l.least())}, l.shape...)...)
	if _, err := l.session.Run(ctx, []*ort.Tensor{in}, ort.RunOptions{ShrinkOnly: true}); err != nil {
		l.shrink = true // the next run does it
		return false
	}
	l.clean, l.grown = true, 0
	l.share.ran(l.session, 0, false, false, ort.RunOptions{})
	return true
}

// rest gives back what the session has of its device while nothing comes: others may
// wait for it, who cannot ask.
func (l *ladder) rest(ctx context.Context) {
	if l.session != nil && l.shape != nil && l.seat.Ledger != nil && l.share.allocated(l.session) > 0 {
		if l.giveBack(ctx) {
			l.work.Emptied()
		}
	}
}

// turn waits until the next run may begin. While the lane stands still for others it
// has nothing of the device but its weights. It calls pause when that begins.
func (l *ladder) turn(ctx context.Context, pause func()) error {
	stands := false
	err := l.courtesy.Wait(ctx, func() {
		stands = true
		l.runner.still(l.seat, true)
		l.rest(ctx)
		pause()
	})
	if stands {
		l.runner.still(l.seat, false)
	}
	return err
}

// least is how many items a run has at least.
func (l *ladder) least() int {
	if l.o.Fixed {
		return l.o.Batch
	}
	return 1
}

// part answers the items from lo to hi, and says how many: none, when it is to be
// called again with fewer. With an error, which is another one than out of
// memory, none are answered.
func (l *ladder) part(ctx context.Context, b *batch, lo, hi int) (answered int, _ error) {
	if l.session == nil || l.share.changed() {
		err := l.reopen(ctx)
		if outOfMemory(err) || errors.Is(err, ort.ErrNoProvider) && l.o.Fallback != nil {
			return l.noSession(ctx, b, lo, hi, err)
		}
		if err != nil {
			if ctx.Err() != nil || (!l.trial || !l.runner.larger(l.seat, l.trial, b, lo, hi)) && !l.runner.elsewhere(l.seat, b, lo, hi) {
				b.answer(lo, hi, nil, fmt.Errorf("%w %s: %w", ErrLoading, l.o.Name, err))
			}
			return hi - lo, nil
		}
		return 0, nil
	}
	if v := l.hopeless(b.shape); v != nil && l.seat.Ledger != nil {
		l.alone(ctx, b, lo, hi, v.err)
		return hi - lo, nil
	}
	away := false
	err := l.turn(ctx, func() { away = l.runner.away(b, lo, hi) })
	switch {
	case away:
		return hi - lo, nil
	case err != nil:
		return 0, err
	}
	out, err := l.attempt(ctx, b, lo, hi, l.others.RLocker())
	return l.ended(b, lo, hi, out, err, func() { l.alone(ctx, b, lo, hi, err) })
}

// ended does with the end of a run what part says. alone answers what has run out of
// memory and cannot be split.
func (l *ladder) ended(b *batch, lo, hi int, out []*ort.Tensor, err error, alone func()) (answered int, _ error) {
	switch {
	case err == nil:
		l.went(b.shape)
		l.computed += hi - lo
		l.runner.worked(l.seat, b, lo, hi)
		b.answer(lo, hi, out, nil)
	case !outOfMemory(err):
		return 0, err
	case hi-lo > 1 && !l.o.Fixed:
		l.o.Log.Warn("out of memory: the batch is split", "network", l.o.Name, "items", hi-lo, "error", err)
		return 0, nil
	default:
		alone()
	}
	return hi - lo, nil
}

// noSession does as part, where there is no room even to load the network.
func (l *ladder) noSession(ctx context.Context, b *batch, lo, hi int, err error) (answered int, _ error) {
	if l.runner.larger(l.seat, l.trial, b, lo, hi) {
		return hi - lo, nil
	}
	if l.o.Fallback == nil {
		b.answer(lo, hi, nil, l.noRoom(b.shape, fmt.Errorf("loading it: %w", err)))
		return hi - lo, nil
	}
	if l.fallback == nil {
		l.o.Log.Warn("the network cannot be loaded on the device: it runs on the CPU", "network", l.o.Name, "error", err)
	}
	if err := l.openFallback(ctx); outOfMemory(err) {
		b.answer(lo, hi, nil, l.noRoom(b.shape, err))
		return hi - lo, nil
	} else if err != nil {
		b.answer(lo, hi, nil, fmt.Errorf("%w %s: %w", ErrLoading, l.o.Name, err))
		return hi - lo, nil
	}
	out, err := l.onCPU(ctx, b, lo, hi)
	return l.ended(b, lo, hi, out, err, func() { b.answer(lo, hi, nil, l.noRoom(b.shape, err)) })
}

// failing answers items whose run has failed for another reason than memory. The
// reason may be one of them, with which the others must not fail, or the session.
func (l *ladder) failing(ctx context.Context, b *batch, lo, hi int, err error) {
	errs := []error{err}
	if ctx.Err() == nil && (hi-lo > 1 || givenUp(l.used())) {
		errs = l.oneByOne(ctx, b, lo, hi)
	}
	if !slices.Contains(errs, nil) && ctx.Err() == nil && l.renew(len(errs), err) {
		l.items(ctx, b, lo, hi)
		return
	}
	for i := range hi - lo {
		if err := errs[min(i, len(errs)-1)]; err != nil && (ctx.Err() != nil || !l.runner.second(l.seat, b, lo+i)) {
			b.answer(lo+i, lo+i+1, nil, fmt.Errorf("running %s: %w", l.o.Name, err))
		}
	}
}

// oneByOne answers the items from lo to hi that can be computed alone, and returns the
// errors of the others. Those that have failed in a session that is no more, as another
// lane has given it up, are tried once more in the next one: it was to blame.
func (l *ladder) oneByOne(ctx context.Context, b *batch, lo, hi int) []error {
	errs, in, again := make([]error, hi-lo), make([]int, hi-lo), make([]bool, hi-lo)
	try := func(i int) {
		errs[i] = nil
		for answered := 0; answered == 0 && errs[i] == nil; {
			answered, errs[i] = l.part(ctx, b, lo+i, lo+i+1)
		}
		in[i] = l.opened
	}
	for i := range errs {
		try(i)
	}
	for more := true; more && ctx.Err() == nil; {
		more = false
		there := l.opened // one for all of them: it may be given up any time
		if givenUp(l.used()) {
			there++
		}
		for i := range errs {
			if errs[i] != nil && in[i] < there && !again[i] {
				more, again[i] = true, true
				try(i)
			}
		}
	}
	return errs
}

// alone tries what cannot be split again.
func (l *ladder) alone(ctx context.Context, b *batch, lo, hi int, err error) {
	if l.trial && l.runner.larger(l.seat, l.trial, b, lo, hi) {
		return
	}
	var out []*ort.Tensor
	// Where the item before had no room either, this one has none.
	if l.hopeless(b.shape) == nil {
		if out, err = l.again(ctx, b, lo, hi, err); outOfMemory(err) {
			l.inVain(b.shape, err)
		}
	}
	if outOfMemory(err) && l.runner.larger(l.seat, l.trial, b, lo, hi) {
		return
	}
	if outOfMemory(err) && l.o.Fallback != nil {
		if !l.toldCPU {
			l.toldCPU = true
			l.o.Log.Warn("out of memory: what has no room is computed on the CPU", "network", l.o.Name, "error", err)
		}
		out, err = l.onCPU(ctx, b, lo, hi)
		if err != nil && !outOfMemory(err) && ctx.Err() == nil && (givenUp(l.fallback) || l.renewCPU(1, err)) {
			out, err = l.onCPU(ctx, b, lo, hi)
		}
	}
	switch {
	case err == nil:
	case outOfMemory(err):
		err = l.noRoom(b.shape, err)
	default:
		err = fmt.Errorf("running %s: %w", l.o.Name, err)
	}
	b.answer(lo, hi, out, err)
}

// again tries to run items that have run out of memory once, after waiting and then
// in a new session.
func (l *ladder) again(ctx context.Context, b *batch, lo, hi int, err error) (out []*ort.Tensor, _ error) {
	if oversize := (*memory.OversizeError)(nil); errors.As(err, &oversize) {
		return nil, err // waiting brings nothing
	}
	wait, tries := firstWait, triesAlone
	for session := 1; ; session++ {
		for try := 1; try <= tries; try++ {
			if session == 1 && try == 1 {
				continue // that was the one that got here
			}
			if try > 1 {
				if !sleep(ctx, wait) {
					return nil, context.Cause(ctx)
				}
				wait = min(2*wait, longestWait)
			}
			if out, err = l.attempt(ctx, b, lo, hi, l.others); !outOfMemory(err) {
				return out, err
			}
		}
		// A new session does not have what others have leased.
		if session == 2 || errors.As(err, new(*leasedError)) {
			return nil, err
		}
		l.o.Log.Warn("out of memory with one item alone: a new session is opened", "network", l.o.Name, "error", err)
		if err := l.openAgain(ctx); err != nil {
			return nil, err
		}
		tries = triesAnew
	}
}

// onCPU runs items in the other session.
func (l *ladder) onCPU(ctx context.Context, b *batch, lo, hi int) ([]*ort.Tensor, error) {
	if err := l.openFallback(ctx); err != nil {
		return nil, err
	}
	began := time.Now()
	out, err := l.run(ctx, l.fallback, b.input(l.o, lo, hi), ort.RunOptions{Shrink: true})
	if errors.Is(err, errGivenUp) { // by another lane: the next one is a new one
		l.closed(l.fallback.Close())
		l.fallback, l.trustCPU.failed = nil, 0
		return l.onCPU(ctx, b, lo, hi)
	}
	if err == nil {
		l.trustCPU = trust{}
	}
	if err == nil || outOfMemory(err) {
		r := memory.Ran{Batch: hi - lo, Seconds: time.Since(began).Seconds(), OutOfMemory: err != nil}
		l.workCPU.Ran(b.key, r, memory.Room{Budget: math.MaxInt64})
	}
	return out, err
}

// noRoom is the error of an item that fits nowhere.
func (l *ladder) noRoom(shape []int64, err error) error {
	e := &NoRoomError{Network: l.o.Name, Shape: slices.Clone(shape), Now: l.share.mayGrow(), Err: err}
	var oom *ort.OutOfMemoryError
	var oversize *memory.OversizeError
	var leased *leasedError
	switch {
	case errors.As(err, &leased):
		e.Need, e.Have = leased.need, leased.have
	case errors.As(err, &oom):
		e.Need, e.Have = oom.Requested, oom.Available
	case errors.As(err, &oversize):
		e.Need, e.Have, e.Now = oversize.Need, oversize.Have, oversize.Now
	}
	return e
}

// went notes that a run on a shape went well: one item has room.
func (l *ladder) went(shape []int64) {
	l.vain = slices.DeleteFunc(l.vain, func(v vain) bool { return slices.Equal(v.shape, shape) })
}

// hopeless says that one item of that shape alone has no room, if it is no smaller than
// one that was tried not long ago.
func (l *ladder) hopeless(shape []int64) *vain {
	for i := range l.vain {
		if v := &l.vain[i]; elements(v.shape) <= elements(shape) && l.share.recently(v.attempted) {
			return v
		}
	}
	return nil
}

func elements(shape []int64) int64 {
	n := int64(1)
	for _, d := range shape {
		n *= d
	}
	return n
}

// inVain notes that one item alone had no room.
func (l *ladder) inVain(shape []int64, err error) {
	l.went(shape)
	if len(l.vain) == mostVain { // it is learned again if it is met again
		l.vain = slices.Delete(l.vain, 0, 1)
	}
	l.vain = append(l.vain, vain{slices.Clone(shape), l.share.inVain(err)})
}

// outOfMemory is for the runtime's errors and for leases that are refused.
func outOfMemory(err error) bool {
	var oversize *memory.OversizeError
	return errors.Is(err, ort.ErrOutOfMemory) || errors.Is(err, memory.ErrOutOfMemory) || errors.As(err, &oversize)
}

// sleep waits, in the upper half of that span, so that several that failed
// together do not meet again.
func sleep(ctx context.Context, wait time.Duration) bool {
	t := time.NewTimer(wait/2 + rand.N(wait/2))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
