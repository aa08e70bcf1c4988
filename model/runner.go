package model

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
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
	// Worth is how many bytes of items a run is worth: of smaller ones it begins with as
	// many as have so many bytes, up to 12 and whatever Most says. 0: it begins with one.
	// What a larger item of so many bytes takes is expected to have room. It does not
	// count where Batch is set.
	Worth int64
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

// Close ends the Runner and its sessions. Who still waits gets an error.
func (r *Runner) Close() error {
	r.mu.Lock()
	r.cancel(errClosed) // before any lane ends: none is to load what another has closed
	r.closed = true
	r.idle.Broadcast()
	r.mu.Unlock()
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
		n := seat.work.Target(key, r.o.least(size))
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

const (
	// maxOpen is how many shapes are collected at once.
	maxOpen = 4
	// mostLinger is how long a batch waits for those who could add to it.
	mostLinger = 250 * time.Millisecond
	// maxTensor bounds one item, in bytes.
	maxTensor = 1 << 36
)

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

// Wants is how many items of that shape are worth having at once: what all lanes run,
// and one batch more, which is filled meanwhile. Calls may give most at a time.
func (r *Runner) Wants(shape []int64) (together, most int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key, least := fmt.Sprint(shape), r.o.least(r.o.Type.Size()*int(elements(shape)))
	seats := r.usable()
	for _, s := range seats {
		n := s.work.Target(key, least)
		together += n * s.open
		most = max(most, n)
	}
	if len(seats) > 1 { // calls wait for those of their items that are on the slower one
		together *= 2
	}
	return together + most, most
}
