package model

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

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
