package memory

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	defaultEvery = 100 * time.Millisecond
	leastEvery   = time.Millisecond

	// A reading counts in full for a second, or for three periods where they are
	// longer: a poll or two may come late on a busy machine, and what neighbours
	// take in so short a time is what headroom is for.
	fullTrust    = time.Second
	trustPeriods = 3
	// Then what can be counted on halves every two seconds. Nothing bounds what
	// others have taken since but what was free, and no moment is known at which
	// they did, so that there is no step: after 10 s without a reading some 4% is
	// left, which a job that waits for more can tell from nothing at all.
	trustHalves = 2 * time.Second

	// readTimeout ends the context of a Read, so that one that listens to it can
	// be tried again. One that does not is left alone.
	readTimeout = 10 * time.Second
	// closeWait is for a Read that listens to its context; a hanging one has had
	// its chance.
	closeWait = time.Second
)

var errMonitorClosed = errors.New("the monitor is closed")

// Sample is the last good reading of a device, and how the last try went. As
// long as Known is false the figures of the reading mean nothing.
type Sample struct {
	Reading        // the last good one
	Device  string // its name
	// At is when the last good reading was begun, as it may be that old; zero:
	// there never was one.
	At time.Time
	// Err tells why the last try failed, or that it has had no answer for a second;
	// nil when it was good. The reading is then the one before.
	Err error

	trust time.Duration // how long it counts in full; zero: fullTrust
}

// Known tells whether there is a reading at all.
func (s Sample) Known() bool { return !s.At.IsZero() }

// Available is how many bytes can be counted on at now: what was free when the
// reading was taken, in full while it is fresh (for 1 s, or for three periods of
// the monitor if that is longer), halving every 2 s from then on. It is Unknown
// when the device was never read or cannot tell what is free.
func (s Sample) Available(now time.Time) int64 {
	if !s.Known() || s.Free == Unknown {
		return Unknown
	}
	stale := now.Sub(s.At) - max(s.trust, fullTrust)
	if stale <= 0 {
		return s.Free
	}
	return int64(float64(s.Free) * math.Exp2(-float64(stale)/float64(trustHalves)))
}

// Monitor reads devices over and over, each in a goroutine of its own, so that
// one that hangs holds up only itself. A device is never read twice at once. Its
// methods may be called from several goroutines.
type Monitor struct {
	every   time.Duration
	watches map[string]*watch
	stop    context.CancelFunc
	stopped <-chan struct{}
}

// watch is one device of a monitor.
type watch struct {
	device Device
	asked  chan struct{} // tells the goroutine that wanted or every have changed
	ended  chan struct{} // closed when the goroutine has ended

	mu       sync.Mutex
	sample   Sample
	every    time.Duration
	started  uint64        // readings begun
	finished uint64        // of these, ended: equal to started, or one less
	wanted   uint64        // the reading that Refresh waits for
	since    time.Time     // when the last reading was begun
	change   chan struct{} // closed when the next reading ends; nil: nobody waits
}

// NewMonitor starts to read devices, at once and then every so often: so long is
// the pause from the end of one reading to the next (zero or less: 100 ms). Of
// several devices with one name the first is read. Close ends it.
func NewMonitor(every time.Duration, devices ...Device) *Monitor {
	if every <= 0 {
		every = defaultEvery
	}
	ctx, stop := context.WithCancel(context.Background())
	m := &Monitor{every: max(every, leastEvery), watches: map[string]*watch{}, stop: stop, stopped: ctx.Done()}
	for _, d := range devices {
		name := d.Name()
		if m.watches[name] != nil {
			continue
		}
		w := &watch{
			device: d, every: m.every, sample: Sample{Device: name},
			asked: make(chan struct{}, 1), ended: make(chan struct{}),
		}
		m.watches[name] = w
		go w.run(ctx)
	}
	return m
}

// Sample returns what is known of a device, without waiting; false: the monitor
// has no such device.
func (m *Monitor) Sample(device string) (Sample, bool) {
	w := m.watches[device]
	if w == nil {
		return Sample{Device: device}, false
	}
	return w.current(), true
}

// Refresh takes a reading that begins after the call, and waits for it, at most
// until ctx ends. It shares the reading with other callers that wait, and when
// one is under way it waits for that to end first. With an error, that of the
// reading or of ctx, comes what was known before.
func (m *Monitor) Refresh(ctx context.Context, device string) (Sample, error) {
	w := m.watches[device]
	if w == nil {
		return Sample{Device: device}, fmt.Errorf("reading %s: there is no such device, only %s", device, m.names())
	}
	w.mu.Lock()
	want := w.started + 1
	w.wanted = want
	w.mu.Unlock()
	w.ask()
	for {
		change, done := w.watchFor(want)
		if done {
			s := w.current()
			return s, s.Err
		}
		select {
		case <-change:
		case <-ctx.Done():
			return w.current(), fmt.Errorf("reading %s: waiting for its answer: %w", device, ctx.Err())
		case <-m.stopped:
			return w.current(), fmt.Errorf("reading %s: %w", device, errMonitorClosed)
		}
	}
}

// SetEvery changes how often one device is read, at once: 20 to 50 ms suit a
// device under pressure. Zero or less is what NewMonitor was told, and less than
// 1 ms is 1 ms. False: the monitor has no such device.
func (m *Monitor) SetEvery(device string, every time.Duration) bool {
	w := m.watches[device]
	if w == nil {
		return false
	}
	if every <= 0 {
		every = m.every
	}
	every = max(every, leastEvery)
	w.mu.Lock()
	changed := w.every != every
	w.every = every
	w.mu.Unlock()
	if changed {
		w.ask()
	}
	return true
}

// Close ends the readings. It waits for those under way, but for no more than a
// second: a Read that does not listen to its context is left behind, and its
// goroutine ends when it does. What is known stays known. Close may be called
// more than once.
func (m *Monitor) Close() {
	m.stop()
	late := time.NewTimer(closeWait)
	defer late.Stop()
	for _, w := range m.watches {
		select {
		case <-w.ended:
		case <-late.C:
			return
		}
	}
}

func (m *Monitor) names() string {
	var all []string
	for name := range m.watches {
		all = append(all, name)
	}
	if len(all) == 0 {
		return "an empty monitor"
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func (w *watch) run(ctx context.Context) {
	defer close(w.ended)
	for {
		w.read(ctx)
		if !w.pause(ctx) {
			return
		}
	}
}

// pause waits until the next reading is due or asked for; false: never.
func (w *watch) pause(ctx context.Context) bool {
	began := time.Now()
	due := time.NewTimer(w.period())
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-due.C:
			return ctx.Err() == nil
		case <-w.asked:
			w.mu.Lock()
			wanted := w.wanted > w.started
			w.mu.Unlock()
			if wanted {
				return ctx.Err() == nil
			}
			due.Reset(w.period() - time.Since(began))
		}
	}
}

// read takes one reading. The lock is not held while the device works.
func (w *watch) read(ctx context.Context) {
	w.mu.Lock()
	w.started++
	began := time.Now()
	w.since = began
	w.mu.Unlock()

	r, err := w.try(ctx)

	w.mu.Lock()
	defer w.mu.Unlock()
	w.finished = w.started
	w.sample.Err = err
	if err == nil {
		w.sample.Reading, w.sample.At = r, began
	}
	if w.change != nil {
		close(w.change)
		w.change = nil
	}
}

// try asks the device once. A device may come from outside, and one whose code
// panics must not take a night's work with it: that is a failed reading too.
func (w *watch) try(ctx context.Context) (r Reading, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("reading %s: BUG: the device panicked: %v", w.sample.Device, p)
		}
	}()
	if r, err = w.device.Read(ctx); err != nil {
		return Reading{}, fmt.Errorf("reading %s: %w", w.sample.Device, err)
	}
	if err := r.check(); err != nil {
		return Reading{}, fmt.Errorf("reading %s: its answer cannot be true: %w", w.sample.Device, err)
	}
	return r, nil
}

func (w *watch) current() Sample {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.sample
	s.trust = trustPeriods * w.every
	if took := time.Since(w.since); w.finished < w.started && took >= fullTrust {
		s.Err = fmt.Errorf("reading %s: no answer for %s: its driver may hang", s.Device, took.Round(time.Second))
	}
	return s
}

func (w *watch) period() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.every
}

// ask wakes the goroutine, or lets it know when its reading has ended.
func (w *watch) ask() {
	select {
	case w.asked <- struct{}{}:
	default:
	}
}

// watchFor tells whether a reading has ended, and if not, what is closed when
// the next one does.
func (w *watch) watchFor(reading uint64) (change <-chan struct{}, done bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.finished >= reading {
		return nil, true
	}
	if w.change == nil {
		w.change = make(chan struct{})
	}
	return w.change, false
}

// check refuses figures that no device can have, such as those of a driver that
// answers with zeros.
func (r Reading) check() error {
	if r.Total <= 0 {
		return fmt.Errorf("the total is %d bytes", r.Total)
	}
	for _, f := range []struct {
		name  string
		bytes int64
	}{
		{"physical", r.Physical}, {"used", r.Used}, {"free", r.Free}, {"reserved", r.Reserved}, {"own", r.Own},
	} {
		if f.bytes < 0 && f.bytes != Unknown {
			return fmt.Errorf("%s memory is %d bytes", f.name, f.bytes)
		}
	}
	if r.Free > r.Total {
		return fmt.Errorf("%s are free of %s", FormatBytes(r.Free), FormatBytes(r.Total))
	}
	// A limit may be lowered below what is used, and what is reserved is counted as
	// used by some drivers.
	if most := max(r.Total, r.Physical); r.Used > most && r.Used-most > max(r.Reserved, 0) {
		return fmt.Errorf("%s are used of %s", FormatBytes(r.Used), FormatBytes(most))
	}
	if r.Stalled != Unknown && !(r.Stalled >= 0 && r.Stalled <= 1) {
		return fmt.Errorf("the share of stalled time is %v", r.Stalled)
	}
	if r.Busy != Unknown && !(r.Busy >= 0 && r.Busy <= 1) {
		return fmt.Errorf("the share of busy time is %v", r.Busy)
	}
	return nil
}
