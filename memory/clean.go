package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/forgepipe/forgepipe/memory/malloc"
)

// reclaimPatience is how long one reclaimer may take. It is long enough to write
// parked pixels to a disk, and short enough that a run goes on without one that
// hangs.
const reclaimPatience = 10 * time.Second

var errClosed = errors.New("the memory manager is closed")

// Reclaimer gives memory back that is held for convenience only: a pool of
// buffers, a cache, an arena's free regions.
type Reclaimer struct {
	Name   string // for reports: "thumbnail cache"
	Device string // "" is the host
	// Reclaim gives back what is not in use and says how many bytes it believes
	// to have freed, or Unknown. It is called on any goroutine, never twice at
	// once, any number of times, and while the owner works. It must not call
	// Clean, nor wait for a lease. Ten seconds after its start its context ends
	// and it is not waited for any longer.
	Reclaim func(ctx context.Context) (freed int64, err error)
}

// reclaimer is a registered one.
type reclaimer struct {
	Reclaimer
	running atomic.Bool
}

// Cleaned is what one clean-up did.
type Cleaned struct {
	Why     string          // as it was given to Clean
	At      time.Time       // when it began, after waiting for its turn
	Took    time.Duration   // from At on
	Devices []CleanedDevice // those that were read, in the order of State
	Steps   []CleanedStep   // in the order in which they ran
}

// CleanedDevice is what a clean-up measured of one device, in bytes.
type CleanedDevice struct {
	Device string // its name
	// Own says that Before and After are what this process has of the device.
	// Where the device does not tell that, they are what everybody has, and what
	// others freed and took meanwhile is in them.
	Own           bool
	Before, After int64 // Unknown where the reading failed
	// Freed is Before less After. It is never negative, and 0 where one of them is
	// Unknown.
	Freed int64
}

// CleanedStep is one reclaimer, or what was done for the host.
type CleanedStep struct {
	Name   string // of the reclaimer, or "go" and "malloc" for the host's
	Device string // that it is of
	Freed  int64  // bytes that the reclaimer believes to have freed, or Unknown
	Err    error  // why it could not, or not all
}

// Err joins the errors of the steps, each with the name of its step.
func (c Cleaned) Err() error {
	var all []error
	for _, s := range c.Steps {
		if s.Err != nil {
			all = append(all, fmt.Errorf("cleaning up %s on %s: %w", s.Name, s.Device, s.Err))
		}
	}
	return errors.Join(all...)
}

// Register adds a reclaimer for every later clean-up. unregister takes it out
// again, and may be called more than once; a call of Reclaim may then still be
// running.
func (m *Manager) Register(r Reclaimer) (unregister func()) {
	_, unregister = m.register(r)
	return unregister
}

func (m *Manager) register(r Reclaimer) (added *reclaimer, unregister func()) {
	if r.Reclaim == nil {
		panic(fmt.Sprintf("BUG: reclaimer %q has no Reclaim", r.Name))
	}
	r.Device = cmp.Or(r.Device, m.host.Name())
	added = &reclaimer{Reclaimer: r}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reclaimers = append(m.reclaimers, added)
	return added, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.reclaimers = slices.DeleteFunc(m.reclaimers, func(x *reclaimer) bool { return x == added })
	}
}

// Clean gives back what is not in use: all reclaimers in reverse order of their
// registration, then the garbage of Go, then, if the Manager is ProcessWide, the
// free memory of malloc. Every device is read before and after.
//
// One clean-up runs at a time; a second caller waits for the first and then gets
// one of its own. A reclaimer that fails, panics or hangs is one step with an
// error. When ctx ends, the steps that are left have its error.
func (m *Manager) Clean(ctx context.Context, why string) Cleaned {
	c, _, _ := m.clean(ctx, why, func() []*reclaimer {
		m.mu.Lock()
		defer m.mu.Unlock()
		return slices.Clone(m.reclaimers)
	})
	return c
}

// clean runs the reclaimers that list gives once it is this one's turn. The
// readings are in the order of m.devices, nil where there is none.
func (m *Manager) clean(ctx context.Context, why string, list func() []*reclaimer) (c Cleaned, before, after []*Reading) {
	ctx, interrupt := context.WithCancelCause(ctx)
	defer interrupt(nil)
	if err := m.begin(ctx, interrupt); err != nil {
		none := make([]*Reading, len(m.devices))
		return Cleaned{Why: why, At: time.Now(), Steps: []CleanedStep{{
			Name: "everything", Device: m.host.Name(), Freed: Unknown, Err: fmt.Errorf("waiting for another clean-up: %w", err),
		}}}, none, none
	}
	defer m.end()

	c = Cleaned{Why: why, At: time.Now()}
	before = m.read(ctx)
	for _, r := range slices.Backward(list()) {
		c.Steps = append(c.Steps, r.run(ctx))
	}
	c.Steps = append(c.Steps, m.cleanHost(ctx)...)
	after = m.read(ctx)
	for i, d := range m.devices {
		c.Devices = append(c.Devices, compare(d.Name(), before[i], after[i]))
	}
	c.Took = time.Since(c.At)
	m.report(c)
	return c, before, after
}

func (m *Manager) begin(ctx context.Context, interrupt context.CancelCauseFunc) error {
	select { // a closed Manager may have its turn, too
	case <-m.closed:
		return errClosed
	default:
	}
	select {
	case m.cleaning <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-m.closed:
		return errClosed
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.interrupt = interrupt
	select { // Close may have come before there was something to interrupt
	case <-m.closed:
		interrupt(errClosed)
	default:
	}
	return nil
}

func (m *Manager) end() {
	m.mu.Lock()
	m.interrupt = nil
	m.mu.Unlock()
	<-m.cleaning
}

// run calls the reclaimer and waits for it while there is patience.
func (r *reclaimer) run(ctx context.Context) CleanedStep {
	step := CleanedStep{Name: r.Name, Device: r.Device, Freed: Unknown}
	if ctx.Err() != nil {
		step.Err = context.Cause(ctx)
		return step
	}
	if !r.running.CompareAndSwap(false, true) {
		step.Err = errors.New("it is still busy with an earlier clean-up")
		return step
	}
	ctx, cancel := context.WithTimeoutCause(ctx, reclaimPatience, fmt.Errorf("it has not ended within %v", reclaimPatience))
	defer cancel()
	ended := make(chan CleanedStep, 1)
	s := step // its own: the one that is not waited for any longer still writes to it
	go func() {
		defer func() {
			if p := recover(); p != nil {
				s.Err = fmt.Errorf("it panicked: %v\n%s", p, debug.Stack())
			}
			r.running.Store(false)
			ended <- s
		}()
		s.Freed, s.Err = r.Reclaim(ctx)
		s.Freed = max(s.Freed, Unknown)
	}()
	select {
	case s := <-ended:
		return s
	case <-ctx.Done():
	}
	select { // one that heeds its context deserves to be heard
	case s := <-ended:
		return s
	default:
		step.Err = fmt.Errorf("waiting for it: %w", context.Cause(ctx))
		return step
	}
}

// cleanHost frees what no reclaimer knows of.
func (m *Manager) cleanHost(ctx context.Context) []CleanedStep {
	steps := []CleanedStep{{Name: "go", Device: m.host.Name(), Freed: Unknown}}
	if m.processWide {
		steps = append(steps, CleanedStep{Name: "malloc", Device: m.host.Name(), Freed: Unknown})
	}
	if ctx.Err() != nil {
		for i := range steps {
			steps[i].Err = context.Cause(ctx)
		}
		return steps
	}
	before := m.host.Process()
	// FreeOSMemory collects as well. It takes two collections until a sync.Pool
	// has let go of what it has, and until what had a finalizer is gone.
	runtime.GC()
	debug.FreeOSMemory()
	after := m.host.Process()
	steps[0].Freed = max(before.Go-after.Go, 0)
	if m.processWide {
		malloc.Trim()
		if trimmed := m.host.Process(); after.RSS != Unknown && trimmed.RSS != Unknown {
			steps[1].Freed = max(after.RSS-trimmed.RSS, 0)
		}
	}
	return steps
}

// read takes a fresh reading of every device, in the order of m.devices. One
// that fails is nil. They are read at once, so that one that hangs costs its
// own patience only.
func (m *Manager) read(ctx context.Context) []*Reading {
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	all := make([]*Reading, len(m.devices))
	var wg sync.WaitGroup
	for i, d := range m.devices {
		wg.Go(func() {
			if s, err := m.monitor.Refresh(ctx, d.Name()); err == nil {
				all[i] = &s.Reading
			}
		})
	}
	wg.Wait()
	return all
}

// figures picks what the readings can be compared by: the own bytes where all
// tell them, else everybody's. A reading that failed is Unknown.
func figures(readings ...*Reading) (own bool, bytes []int64) {
	own = !slices.ContainsFunc(readings, func(r *Reading) bool { return r != nil && r.Own == Unknown })
	for _, r := range readings {
		switch {
		case r == nil:
			bytes = append(bytes, Unknown)
		case own:
			bytes = append(bytes, r.Own)
		default:
			bytes = append(bytes, r.Used)
		}
	}
	return own, bytes
}

func compare(device string, before, after *Reading) CleanedDevice {
	own, bytes := figures(before, after)
	d := CleanedDevice{Device: device, Own: own, Before: bytes[0], After: bytes[1]}
	if d.Before != Unknown && d.After != Unknown {
		d.Freed = max(d.Before-d.After, 0)
	}
	return d
}

func (m *Manager) report(c Cleaned) {
	attrs := []slog.Attr{slog.String("why", c.Why), slog.Duration("took", c.Took)}
	for _, d := range c.Devices {
		attrs = append(attrs, slog.Group(d.Device, slog.Int64("before", d.Before), slog.Int64("after", d.After), slog.Int64("freed", d.Freed)))
	}
	level := slog.LevelDebug
	if err := c.Err(); err != nil {
		level = slog.LevelWarn
		attrs = append(attrs, slog.Any("error", err))
	}
	m.log.LogAttrs(context.Background(), level, "memory cleaned up", attrs...)
}
