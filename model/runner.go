package model

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/memory"
)

// Session is a network that is loaded on one device. A Runner has one run in flight in
// each that it has opened.
type Session interface {
	// Run takes one tensor for each input of the network and returns one for each
	// output. An error that is ErrOutOfMemory, or memory.ErrOutOfMemory, leaves the
	// session usable.
	Run(ctx context.Context, in []*Tensor, o SessionRun) ([]*Tensor, error)
	// Stats are what its arena has now.
	Stats() (SessionStats, error)
	// Close unloads the network. It is called once, when nothing runs.
	Close() error
}

// RunnerOptions say where a Runner runs its network, and in what portions.
type RunnerOptions struct {
	// Devices are those that it runs on: one or more. Each item goes to the one
	// that is likely to be done with it first.
	Devices []RunnerDevice
	// Fallback loads the network where there is more memory, but less speed: on
	// the CPU. It takes what one item alone has no room for on the device. Nil:
	// such an item fails.
	Fallback func(ctx context.Context) (Session, error)
	// Type is the element type of the input.
	Type ElementType
	// Batch is how many items a run shall take; 0: the Governor finds out.
	Batch int
	// Most is how many items a run may take; 0: any number.
	Most int
	// Fixed says that the network takes Batch items, no fewer: the rest is zeros.
	Fixed bool
	// Shrink gives the arena's free regions back after each run, which takes time:
	// for pictures of such different sizes that what one needed is in the way of all
	// else.
	Shrink bool
	// Governor decides how many items a run takes. Nil: one that knows nothing yet.
	Governor *memory.Governor
	// Name is that of the network, for messages and leases.
	Name string
	// Log gets what happened to memory; nil is silence.
	Log *slog.Logger
}

// RunnerDevice is a device on which a network runs.
type RunnerDevice struct {
	Device string // "host", "gpu:0", "sim:0"
	// Key is what runs cost the same under: the kind of device, the network's content,
	// the runtime and how it computes. What is learned is kept under it.
	Key string
	// Open loads the network. It is called when the first item comes, so that it loads
	// while a batch is filled, and again when one item alone has run out of memory, the
	// session is lost, or Cap has changed. When it fails for another reason than memory, the device is taken to be
	// lost, and its items go to another one, if there is one left.
	Open func(ctx context.Context) (Session, error)
	// Lanes is how many batches run at once; 0 is 1. Each lane has a session of its own
	// from Open (see Shared), a Fallback of its own, and its part of the memory.
	Lanes int
	// MostLanes is how many there may be: one more is tried where there is always a
	// batch to be run, and kept if that makes the device 3 % faster. Less than Lanes is
	// Lanes.
	MostLanes int
	// Ledger is that of the device. The session's memory is leased of it, and what a
	// run adds to that before the run. Nil: no leases.
	Ledger *memory.Ledger
	// Weights are bytes that a session has of the device beside its arena.
	Weights int64
	// Budget is how many bytes the arenas of all lanes may have beside the weights,
	// where there is no Ledger; 0: any number.
	Budget int64
	// Cap is how many bytes Open's session may have of the device, where that can
	// change only with a new session: one is opened when it has changed. Nil: it
	// does not change.
	Cap func() int64
	// Scarce tells whether others have taken all that was free of the device. Nil:
	// that is not known.
	Scarce func() bool
	// Courtesy makes for each lane what holds its runs up where others are to have the
	// device. Nil: nobody is.
	Courtesy func() memory.Courtesy
}

// Input is one item's tensor.
type Input struct {
	Shape []int64 // without the batch axis
	// Fill writes the tensor's elements into dst, which is zero. It is called on
	// the goroutine that called Infer. An error fails the item.
	Fill func(ctx context.Context, dst []byte) error
}

// Result is what the network made of one item.
type Result struct {
	Outputs []*Tensor // one for each output, without the batch axis
	Err     error     // nil, or why there are no Outputs: a *NoRoomError, an error of Fill or of the network
}

// NoRoomError says that not even one item fits into the memory that there is.
type NoRoomError struct {
	Network    string  // its name
	Shape      []int64 // of the item's tensor
	Need, Have int64   // bytes, 0: not known
	Now        bool    // there may be room when others have left
	Err        error   // the last attempt's
}

// Error says how much is needed and what there is.
func (e *NoRoomError) Error() string {
	need := ""
	if e.Need > 0 {
		need = fmt.Sprintf(": it needs %s more", memory.FormatBytes(e.Need))
		if e.Have > 0 {
			need += fmt.Sprintf(" and %s are left", memory.FormatBytes(e.Have))
		}
	}
	return fmt.Sprintf("%s has no room for one item of shape %v%s; use smaller pictures or give it more memory (device: auto lets the CPU take what has no room on a GPU): %v", e.Network, e.Shape, need, e.Err)
}

// Unwrap is the last attempt's error.
func (e *NoRoomError) Unwrap() error { return e.Err }

// Runner runs a network for all that call it, on one device or several. It puts items
// of the same shape into one batch, whoever they came from, and runs that when it is
// full, or when nobody is left who could add to it and a session has nothing else to
// do. How many items that are, a memory.Governor decides. When memory runs out it runs
// smaller batches, tries again, opens a new session, and goes to a larger device and to
// the CPU, in that order, before an item fails; when a session works no more it opens
// another, and when a device does not, the others take what is left. None is lost, and
// each has one result; one whose caller has left, by its context or by a panic in Fill,
// may be computed for nobody.
//
// Its methods may be called by several goroutines.
type Runner struct {
	o RunnerOptions

	mu      sync.Mutex
	idle    *sync.Cond // told when a batch becomes ready, or the first item comes
	begun   bool       // an item has come
	active  int        // callers between Enter and leave
	adding  int        // calls of Infer that are not through with their items, of callers and others
	waiting int        // calls that wait for results
	open    []*batch   // that still take items, oldest first
	filling []*batch   // that take no more, and are not filled yet
	seats   []*seat
	late    bool // somebody has waited for long: nobody else is waited for
	closed  bool

	cancel   context.CancelCauseFunc
	stopped  chan struct{} // closed when nothing runs any more
	closeErr error         // of the sessions; read after stopped
}

// seat is a device at work.
type seat struct {
	*RunnerDevice
	lanes []*ladder
	work  *memory.Workload // of the first lane, which stands for all
	ready []*batch         // to be run
	idle  int              // lanes that wait for one
	open  int              // lanes that may run
	done  int64            // items that were computed
	busy  time.Duration    // of all runs
	lost  bool
	still int // lanes that stand still for others
	// blamed is how many items have failed here and not elsewhere, since the last run
	// that went well here.
	blamed atomic.Int64
}

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

// NewRunner starts a Runner. Close ends it.
func NewRunner(o RunnerOptions) *Runner {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Governor == nil {
		o.Governor, _ = memory.NewGovernor(memory.GovernorOptions{}) // nothing can be wrong with that
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	r := &Runner{o: o, cancel: cancel, stopped: make(chan struct{})}
	r.idle = sync.NewCond(&r.mu)
	for i := range o.Devices {
		r.seats = append(r.seats, r.newSeat(&o.Devices[i]))
	}
	go r.run(ctx)
	return r
}

// courtesy is that of a lane.
func (s *RunnerDevice) courtesy() memory.Courtesy {
	if s.Courtesy == nil {
		return none{}
	}
	return s.Courtesy()
}

// none is courtesy where nobody else is to have the device.
type none struct{}

func (none) Wait(context.Context, func()) error { return nil }

func (none) Begin() (end func()) { return func() {} }

// workload has the Governor decide about a session on a seat.
func (o RunnerOptions) workload(s *RunnerDevice) *memory.Workload {
	return o.Governor.Workload(memory.WorkloadOptions{Name: o.Name, Device: s.Device, Key: s.Key, Batch: o.Batch, Fixed: o.Fixed, Most: o.Most})
}

func (r *Runner) newSeat(of *RunnerDevice) *seat {
	s := &seat{RunnerDevice: of, open: max(of.Lanes, 1)}
	others := &sync.RWMutex{}
	for i := range max(of.MostLanes, s.open) {
		if i == s.open {
			others = &sync.RWMutex{} // those on trial share nothing with the first ones
		}
		s.lanes = append(s.lanes, &ladder{
			o: r.o, runner: r, seat: s, trial: i >= s.open, others: others,
			share: share{seat: of, name: r.o.Name}, work: r.o.workload(of), courtesy: of.courtesy(),
		})
	}
	s.work = s.lanes[0].work
	return s
}

// Close ends the Runner and its sessions. Who still waits gets an error.
func (r *Runner) Close() error {
	r.mu.Lock()
	r.closed = true
	r.idle.Broadcast()
	r.mu.Unlock()
	r.cancel(errClosed)
	<-r.stopped
	return r.closeErr
}

// Enter says that the calling goroutine is going to call Infer: batches that are
// not full wait for it, until leave is called.
func (r *Runner) Enter() (leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active++
	return sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.active--
		r.flushIdle()
	})
}

var errClosed = errors.New("the network has been closed")

// Infer runs the network on items, and returns one result for each, in their
// order. When ctx ends, the results that are missing are its error. A caller
// that does other work in between, such as decoding, calls Enter before.
func (r *Runner) Infer(ctx context.Context, inputs []Input) []Result {
	results := make([]Result, len(inputs))
	done := make([]chan Result, len(inputs))
	r.addAll(ctx, inputs, done, results)
	r.mu.Lock()
	r.waiting++
	r.flushIdle()
	r.mu.Unlock()
	// Who could add, or fills a place beside this caller's, may itself wait: for memory
	// that this caller's items hold.
	linger := time.AfterFunc(mostLinger, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.late = true
		r.flushIdle()
	})
	defer linger.Stop()
	for i, c := range done {
		if c == nil {
			continue
		}
		select {
		case results[i] = <-c:
		case <-ctx.Done():
			results[i].Err = context.Cause(ctx)
		case <-r.stopped:
			select {
			case results[i] = <-c:
			default:
				results[i].Err = errClosed
			}
		}
	}
	r.mu.Lock()
	r.waiting--
	r.mu.Unlock()
	return results
}

// addAll fills a place for each input. It may panic, as Fill may.
func (r *Runner) addAll(ctx context.Context, inputs []Input, done []chan Result, results []Result) {
	r.mu.Lock()
	r.adding++
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.adding--
	}()
	for i, in := range inputs {
		done[i], results[i].Err = r.add(ctx, in)
	}
}

// add fills a place in a batch of the item's shape.
func (r *Runner) add(ctx context.Context, in Input) (chan Result, error) {
	b, i, done, err := r.take(ctx, in.Shape)
	if err != nil {
		return nil, err
	}
	is := gone // also when Fill panics: others wait for this place
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		b.slots[i].is = is
		if b.filled++; b.filled == len(b.slots) {
			r.enqueueFilled(b)
		}
	}()
	if err := in.Fill(ctx, b.tensor.Data[i*b.bytes:(i+1)*b.bytes]); err != nil {
		return nil, err
	}
	is = filled
	return done, nil
}

// take finds a place for an item of that shape.
func (r *Runner) take(ctx context.Context, shape []int64) (b *batch, i int, done chan Result, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, 0, nil, errClosed
	}
	key := fmt.Sprint(shape)
	at := slices.IndexFunc(r.open, func(b *batch) bool { return b.key == key })
	if at < 0 {
		size := r.o.Type.Size()
		for _, n := range shape {
			if n <= 0 || size > maxTensor/int(n) {
				return nil, 0, nil, fmt.Errorf("a tensor of shape %v is too large for %s", shape, r.o.Name)
			}
			size *= int(n)
		}
		// Each shape that is waited for holds a whole batch in memory.
		if len(r.open) >= maxOpen {
			r.shut(r.open[0])
		}
		at = len(r.open)
		seat := r.soonest(key)
		n := seat.work.Target(key)
		if r.o.Fixed {
			n = r.o.Batch
		}
		seat.work.Queue(n)
		r.open = append(r.open, &batch{
			seat: seat, key: key, shape: slices.Clone(shape), bytes: size, most: n, queued: n,
			tensor: ort.NewTensor(r.o.Type, append([]int64{int64(n)}, shape...)...),
		})
	}
	if !r.begun {
		r.begun = true
		r.idle.Broadcast()
	}
	b, done = r.open[at], make(chan Result, 1)
	b.slots = append(b.slots, slot{ctx: ctx, done: done})
	i = len(b.slots) - 1
	if len(b.slots) == b.most {
		r.shut(b)
	}
	return b, i, done, nil
}

// soonest is the seat that would be done first with one more batch.
func (r *Runner) soonest(key string) *seat {
	seats := r.usable()
	if len(seats) == 1 {
		return seats[0]
	}
	works := make([]*memory.Workload, len(seats))
	for i, s := range seats {
		works[i] = s.work
	}
	return seats[slices.Index(works, r.o.Governor.Soonest(works, key))]
}

// usable are the seats that items go to: those that do not stand still, unless all do.
func (r *Runner) usable() []*seat {
	seats := slices.DeleteFunc(slices.Clone(r.seats), func(s *seat) bool { return s.lost })
	if moving := slices.DeleteFunc(slices.Clone(seats), func(s *seat) bool { return s.still > 0 }); len(moving) > 0 {
		return moving
	}
	return seats
}

// still says that a lane of the seat stands still from now on, or no longer. What
// waits for seats that do goes to those that do not.
func (r *Runner) still(s *seat, stands bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if stands {
		s.still++
	} else {
		s.still--
	}
	usable := r.usable()
	for _, o := range r.seats {
		if o.still > 0 && !slices.Contains(usable, o) {
			r.vacate(o)
		}
	}
}

// away gives items of b, whose seat stands still, to another. It does nothing, and says
// so, where all do.
func (r *Runner) away(b *batch, lo, hi int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	to := r.soonest(b.key)
	if to.still > 0 {
		return false
	}
	part := r.part(b, lo, hi)
	r.move(part, to)
	r.enqueue(part)
	return true
}

const (
	// maxOpen is how many shapes are collected at once.
	maxOpen = 4
	// mostLinger is how long a batch waits for those who could add to it.
	mostLinger = 250 * time.Millisecond
	// maxTensor bounds one item, in bytes.
	maxTensor = 1 << 36
)

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

// elsewhere gives the items of b from lo to hi, and all that waits for their seat, to
// others: the device is lost. It does nothing, and says so, where there is no other.
func (r *Runner) elsewhere(s *seat, b *batch, lo, hi int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.lose(s) {
		return false
	}
	part := r.part(b, lo, hi)
	r.move(part, r.soonest(part.key))
	r.enqueue(part)
	return true
}

// lose takes a device out, and gives what waits for it to the others, if there are any.
func (r *Runner) lose(s *seat) bool {
	if !r.others(s) {
		return false
	}
	if s.lost {
		return true
	}
	s.lost = true
	r.o.Log.Error("a device is lost: its items go to the others", "network", r.o.Name, "device", s.Device)
	r.vacate(s)
	r.idle.Broadcast()
	return true
}

// vacate gives all that waits for a seat to others.
func (r *Runner) vacate(s *seat) {
	waiting := s.ready
	s.ready = nil
	for _, b := range waiting {
		r.move(b, r.soonest(b.key))
		r.enqueue(b)
	}
	for _, b := range slices.Concat(r.open, r.filling) {
		if b.seat == s {
			r.move(b, r.soonest(b.key))
		}
	}
	r.flushIdle()
}

// others tells whether there is another device than this one.
func (r *Runner) others(s *seat) bool {
	return slices.ContainsFunc(r.seats, func(o *seat) bool { return o != s && !o.lost })
}

// second gives item i of b, which has failed alone, to another device, if there is one
// and it has not been to two yet: the device may be at fault.
func (r *Runner) second(s *seat, b *batch, i int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b.slots[i].from != nil || !r.others(s) {
		return false
	}
	part := r.part(b, i, i+1)
	part.slots[0].from = s
	lost := s.lost
	s.lost = true // it is not to get it back
	to := r.soonest(b.key)
	s.lost = lost
	r.move(part, to)
	r.enqueue(part)
	return true
}

// worked notes that the items of b from lo to hi were computed on a device: those that
// had failed on another one speak against that, until something works there again.
func (r *Runner) worked(s *seat, b *batch, lo, hi int) {
	s.blamed.Store(0)
	for _, slot := range b.slots[lo:hi] {
		if f := slot.from; f != nil && f != s && f.blamed.Add(1) >= lostAfter {
			r.mu.Lock()
			r.lose(f)
			r.mu.Unlock()
		}
	}
}

// move gives a batch to another seat.
func (r *Runner) move(b *batch, to *seat) {
	b.seat.work.Queue(-b.queued)
	b.seat = to
	b.seat.work.Queue(b.queued)
}

// larger gives items of b, for which a lane of their seat has no room, to who may have
// more: the seat's first lanes, where that one is only on trial, or a larger device. It
// does nothing, and says so, where there is none.
func (r *Runner) larger(s *seat, trial bool, b *batch, lo, hi int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	to := s
	if trial {
		s.open = max(s.Lanes, 1)
	} else if to = r.largest(); to.room() <= s.room() {
		return false
	}
	part := r.part(b, lo, hi)
	r.move(part, to)
	r.enqueue(part)
	return true
}

// largest is the seat with most memory.
func (r *Runner) largest() *seat {
	left := slices.DeleteFunc(slices.Clone(r.seats), func(s *seat) bool { return s.lost })
	return slices.MaxFunc(left, func(a, b *seat) int { return cmp.Compare(a.room(), b.room()) })
}

// room is how many bytes the device can ever have for the network, as far as is known.
func (s *seat) room() int64 {
	if s.Ledger == nil {
		return 0
	}
	return s.Ledger.Usage().Ceiling
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

// flushIdle runs what there is when nobody is left who could add to it, where a lane
// has nothing else to do: until then those whose items are being run may come back.
func (r *Runner) flushIdle() {
	if !r.late && (r.waiting < r.active || r.adding > 0) {
		return
	}
	for _, b := range slices.Clone(r.open) {
		if b.seat.idle > len(b.seat.ready) {
			r.shut(b)
		}
	}
	if !r.late {
		return
	}
	r.late = len(r.open) > 0
	for _, b := range r.filling {
		if b.seat.idle > len(b.seat.ready) {
			r.runFilled(b)
		} else {
			r.late = true // when a lane has time for it
		}
	}
}

// begins waits for the first item.
func (r *Runner) begins() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !r.begun && !r.closed {
		r.idle.Wait()
	}
	return !r.closed
}

// Wants is how many items of that shape are worth having at once: what all lanes run,
// and one batch more, which is filled meanwhile. Calls may give most at a time.
func (r *Runner) Wants(shape []int64) (together, most int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := fmt.Sprint(shape)
	seats := r.usable()
	for _, s := range seats {
		n := s.work.Target(key)
		together += n * s.open
		most = max(most, n)
	}
	if len(seats) > 1 { // calls wait for those of their items that are on the slower one
		together *= 2
	}
	return together + most, most
}

// idleAfter is for how long nothing comes until a session gives its memory back.
const idleAfter = time.Second

// next waits for a batch for lane i; nil, when it may not run any more, or when nothing
// has come for a while and it has not rested yet. It ends with the Runner.
func (r *Runner) next(s *seat, i int, rested bool) (b *batch, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	tired := false
	if !rested {
		t := time.AfterFunc(idleAfter, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			tired = true
			r.idle.Broadcast()
		})
		defer t.Stop()
	}
	if i < s.open {
		s.idle++
		defer func() { s.idle-- }()
	}
	for len(s.ready) == 0 && i < s.open && !s.lost && !r.closed && !tired {
		r.flushIdle()
		if len(s.ready) == 0 {
			r.idle.Wait()
		}
	}
	if r.closed || i >= s.open || s.lost || len(s.ready) == 0 {
		return nil, !r.closed
	}
	b = s.ready[0]
	s.ready = slices.Delete(s.ready, 0, 1) // which lets go of its tensor
	return b, true
}

// mayRun waits until lane i may.
func (r *Runner) mayRun(s *seat, i int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for (i >= s.open || s.lost) && !r.closed {
		r.idle.Wait()
	}
	return !r.closed
}

// run runs batches in all lanes until the Runner is closed.
func (r *Runner) run(ctx context.Context) {
	defer close(r.stopped)
	var lanes sync.WaitGroup
	var mu sync.Mutex
	for _, s := range r.seats {
		if len(s.lanes) > s.open {
			lanes.Go(func() { r.tryLanes(ctx, s) })
		}
		for i, l := range s.lanes {
			lanes.Go(func() {
				err := r.lane(ctx, s, i, l)
				mu.Lock()
				defer mu.Unlock()
				r.closeErr = errors.Join(r.closeErr, err)
			})
		}
	}
	lanes.Wait()
}

// lane is the goroutine that the runs of one session are on.
func (r *Runner) lane(ctx context.Context, s *seat, i int, l *ladder) error {
	if !l.trial && r.begins() {
		_ = l.reopen(ctx) // the first batch meets the error too, and has somebody to tell
	}
	rested := false
	for {
		if i >= r.lanes(s) {
			l.discard() // its memory is for the others
		}
		if !r.mayRun(s, i) {
			return l.close()
		}
		if l.trial && l.session == nil && l.reopen(ctx) != nil {
			r.setLanes(s, max(s.Lanes, 1)) // there is no room for one more
			continue
		}
		b, more := r.next(s, i, rested)
		rested = b == nil
		switch {
		case b != nil:
			l.computed = 0
			began := time.Now()
			l.batch(ctx, b)
			s.work.Queue(-b.queued)
			r.ran(s, l.computed, time.Since(began))
		case more && i < r.lanes(s):
			l.rest(ctx)
		}
	}
}

func (r *Runner) ran(s *seat, items int, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.done += int64(items)
	s.busy += took
}

// lanes is how many of a device may run.
func (r *Runner) lanes(s *seat) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.lost {
		return 0
	}
	return s.open
}

func (r *Runner) setLanes(s *seat, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.open = n
	r.idle.Broadcast()
}

// tryEvery is how often it is looked whether another lane is worth trying.
const tryEvery = 250 * time.Millisecond

// tryLanes has as many lanes as make the device faster.
func (r *Runner) tryLanes(ctx context.Context, s *seat) {
	workers := memory.NewWorkers([]memory.StageWorkers{{Least: s.open, Start: s.open, Most: len(s.lanes)}})
	tick := time.NewTicker(tryEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			r.mu.Lock()
			load := memory.StageLoad{Done: s.done, Busy: s.busy, Queued: len(s.ready)}
			r.mu.Unlock()
			if !workers.Tick(now, false, []memory.StageLoad{load}) {
				continue
			}
			n := workers.Counts()[0]
			r.o.Log.Info("how many batches run at once is changed", "network", r.o.Name, "device", s.Device, "lanes", n)
			r.setLanes(s, n)
		}
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
