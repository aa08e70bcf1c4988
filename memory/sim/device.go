package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

// Config describes a device. All but Total can be left out.
type Config struct {
	Name     string // empty: "sim:0"
	Total    int64  // bytes, more than zero
	Reserved int64  // bytes of Total that nobody can have, as a driver's
	Others   Trace  // what neighbours want; they get at most what is left
	Load     Load   // for how much of the time neighbours compute
	// Speed is what the device computes at, as a share of this machine's CPU; 0 is 1.
	// Whoever computes for the device asks for it and takes so much longer, or less.
	Speed float64
	// Lag is by how much readings are late: they show the device as it was then.
	// Allocations meet it as it is.
	Lag    time.Duration
	Faults []Fault          // when readings go wrong; the first that covers the time counts
	Clock  func() time.Time // nil: time.Now
}

// Validate names what is wrong with the configuration.
func (c Config) Validate() error {
	switch {
	case c.Total <= 0:
		return fmt.Errorf("the total is %d bytes: a simulated device needs more than none", c.Total)
	case c.Reserved < 0 || c.Reserved > c.Total:
		return fmt.Errorf("reserved are %d bytes: that must lie between 0 and the total, %d", c.Reserved, c.Total)
	case c.Lag < 0:
		return fmt.Errorf("the lag is %s: readings cannot come before their time", c.Lag)
	}
	if math.IsNaN(c.Speed) || c.Speed < 0 || math.IsInf(c.Speed, 0) {
		return fmt.Errorf("the speed is %g: it must be a positive number, as a share of the CPU's", c.Speed)
	}
	for _, f := range c.Faults {
		if err := f.validate(); err != nil {
			return err
		}
	}
	if err := c.Load.validate(); err != nil {
		return err
	}
	return c.Others.validate()
}

// FaultKind is how readings go wrong.
type FaultKind int

const (
	// Fails answers with an error.
	Fails FaultKind = iota
	// Hangs gives no answer until the context ends.
	Hangs
	// Zeros answers with a reading of zeros and no error, as drivers have done.
	Zeros
)

// Fault is a time in which readings go wrong.
type Fault struct {
	Kind  FaultKind     // what the device does then
	From  time.Duration // since the device was made
	Until time.Duration // the first moment at which all is well; zero: for ever
	Err   error         // what Fails answers with; nil: an error that says it is simulated
}

var errSimulated = errors.New("simulated failure of the probe")

func (f Fault) validate() error {
	switch {
	case f.Kind < Fails || f.Kind > Zeros:
		return fmt.Errorf("fault kind %d does not exist", int(f.Kind))
	case f.From < 0 || f.Until != 0 && f.Until <= f.From:
		return fmt.Errorf("a fault lasts from %s until %s: it must begin at 0 or later and end after it began", f.From, f.Until)
	}
	return nil
}

// Device is a simulated pool of memory. Its methods may be called from several
// goroutines.
type Device struct {
	c     Config
	start time.Time

	mu      sync.Mutex
	own     int64
	history []change  // of own, oldest first; what no reading can show any more is dropped
	runs    int       // that compute now
	since   time.Time // when the first of them began
	spans   []span    // in which some run computed, oldest first; what no reading can show any more is dropped
}

type change struct {
	at  time.Time
	own int64
}

// span is a time in which the device computed for this process.
type span struct{ from, to time.Time }

// busyWindow is the time that Busy of a reading is about.
const busyWindow = time.Second

var (
	_ memory.Device    = (*Device)(nil)
	_ memory.Described = (*Device)(nil)
)

// New makes a device; its traces and faults begin now. The error is that of
// Validate.
func New(c Config) (*Device, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("simulating a device: %w", err)
	}
	c.Name = cmp.Or(c.Name, "sim:0")
	c.Speed = cmp.Or(c.Speed, 1)
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return &Device{c: c, start: c.Clock()}, nil
}

// Name is the one of the configuration, "sim:0" if there was none.
func (d *Device) Name() string { return d.c.Name }

// Description says that the device is simulated, its size, and its speed where that
// is not the CPU's.
func (d *Device) Description() string {
	text := "simulated device of " + memory.FormatBytes(d.c.Total)
	if d.c.Speed != 1 {
		text += fmt.Sprintf(", at %g of the CPU's speed", d.c.Speed)
	}
	return text
}

// Speed is what the device computes at, as a share of this machine's CPU. What takes a second on the CPU takes 1/Speed seconds on
// the device.
func (d *Device) Speed() float64 { return d.c.Speed }

// Compute begins a run that readings count as busy until done is called. Several
// may be under way at once. done may be called more than once.
func (d *Device) Compute() (done func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.runs == 0 {
		d.since = d.c.Clock()
	}
	d.runs++
	return sync.OnceFunc(d.computed)
}

func (d *Device) computed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.runs--; d.runs > 0 {
		return
	}
	now := d.c.Clock()
	if !now.After(d.since) {
		return // it took no time
	}
	d.spans = append(d.spans, span{d.since, now})
	oldest := now.Add(-d.c.Lag - busyWindow)
	d.spans = slices.DeleteFunc(d.spans, func(s span) bool { return s.to.Before(oldest) })
}

// Read shows the device as it was Lag ago, or goes wrong as a fault says.
func (d *Device) Read(ctx context.Context) (memory.Reading, error) {
	now := d.c.Clock()
	for _, f := range d.c.Faults {
		if since := now.Sub(d.start); since < f.From || f.Until != 0 && since >= f.Until {
			continue
		}
		switch f.Kind {
		case Fails:
			return memory.Reading{}, cmp.Or(f.Err, errSimulated)
		case Hangs:
			<-ctx.Done()
			return memory.Reading{}, ctx.Err()
		case Zeros:
			return memory.Reading{}, nil
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	at := now.Add(-d.c.Lag)
	own := d.ownAt(at)
	others := d.othersAt(at, own)
	return memory.Reading{
		Physical: d.c.Total, Total: d.c.Total, Reserved: d.c.Reserved,
		Used: own + others, Free: d.c.Total - d.c.Reserved - own - others, Own: own,
		Stalled: memory.Unknown, Busy: d.busyAt(at),
	}, nil
}

// Block is memory of a device that was asked for directly, past any arena.
type Block struct {
	device *Device
	bytes  int64
	once   sync.Once
}

// Alloc takes bytes of the device. What does not fit is an error that wraps
// memory.ErrOutOfMemory.
func (d *Device) Alloc(bytes int64) (*Block, error) {
	if bytes < 0 {
		return nil, fmt.Errorf("allocating %d bytes on %s: the size is negative", bytes, d.c.Name)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if free := d.c.Total - d.c.Reserved - d.own - d.othersAt(d.c.Clock(), d.own); bytes > free {
		return nil, fmt.Errorf("allocating on %s, where %d bytes are free: Failed to allocate memory for requested buffer of size %d: %w",
			d.c.Name, free, bytes, memory.ErrOutOfMemory)
	}
	d.change(bytes)
	return &Block{device: d, bytes: bytes}, nil
}

// Free gives the block back. It may be called more than once.
func (b *Block) Free() {
	b.once.Do(func() {
		b.device.mu.Lock()
		defer b.device.mu.Unlock()
		b.device.change(-b.bytes)
	})
}

// The methods below need the lock.

func (d *Device) change(bytes int64) {
	d.own += bytes
	if d.own < 0 {
		panic(fmt.Sprintf("BUG: %d bytes of %s are in use", d.own, d.c.Name))
	}
	if d.c.Lag == 0 {
		return
	}
	now := d.c.Clock()
	d.history = append(d.history, change{at: now, own: d.own})
	// The newest of those that are older than the lag is still shown.
	old := 0
	for old+1 < len(d.history) && !d.history[old+1].at.After(now.Add(-d.c.Lag)) {
		old++
	}
	d.history = d.history[old:]
}

func (d *Device) ownAt(at time.Time) int64 {
	if d.c.Lag == 0 {
		return d.own
	}
	own := int64(0)
	for _, c := range d.history {
		if c.at.After(at) {
			break
		}
		own = c.own
	}
	return own
}

// busyAt is the share of the window before a moment in which somebody computed.
// Neighbours go on while this process computes, as a GPU's time is sliced.
func (d *Device) busyAt(at time.Time) float64 {
	from := at.Add(-busyWindow)
	var own time.Duration
	count := func(s span) {
		if s.from.Before(from) {
			s.from = from
		}
		if s.to.After(at) {
			s.to = at
		}
		own += max(s.to.Sub(s.from), 0)
	}
	for _, s := range d.spans {
		count(s)
	}
	if d.runs > 0 {
		count(span{d.since, at})
	}
	free := 1 - own.Seconds()/busyWindow.Seconds()
	return 1 - free*(1-d.c.Load.At(max(at.Sub(d.start), 0)))
}

// othersAt is what neighbours have: what they want, as far as there is room.
func (d *Device) othersAt(at time.Time, own int64) int64 {
	return min(d.c.Others.At(max(at.Sub(d.start), 0)), d.c.Total-d.c.Reserved-own)
}
