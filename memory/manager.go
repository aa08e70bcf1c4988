package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	// readPatience bounds the wait for one reading: a driver that hangs must not
	// hold up who only wants to know how much was freed.
	readPatience = time.Second
	// closePatience bounds the wait for one device to close.
	closePatience = 2 * time.Second
)

// Options for NewManager. The zero value watches the host and changes nothing
// that belongs to the whole process.
type Options struct {
	Host    Host     // where the host is read
	Devices []Device // beside the host; their names must differ
	// Every is how often each device is read; 0 is 100 ms.
	Every time.Duration
	// ProcessWide allows what changes the process for everybody in it: the Go
	// memory limit (see SetHostLimit) and giving malloc's free memory back. At
	// most one Manager in a process should have it.
	ProcessWide bool
	// Log gets what was cleaned up and what went wrong with it; nil is silence.
	Log *slog.Logger
}

// Manager is what one process knows of its memory: readings of every device, the
// ledgers that explain them, and who can give memory back. Its methods may be
// called from several goroutines.
type Manager struct {
	host        Host
	devices     []Device // the host first
	monitor     *Monitor
	processWide bool
	log         *slog.Logger

	// cleaning holds a token while a clean-up runs. Close keeps it.
	cleaning chan struct{}
	closed   chan struct{}
	closing  sync.Once
	closeErr error
	loop     sync.WaitGroup

	mu         sync.Mutex
	ledgers    []*Ledger
	reclaimers []*reclaimer
	scopes     []*Scope
	interrupt  context.CancelCauseFunc // of the clean-up that runs, nil if none
	limit      goLimit
}

// NewManager starts to read the host and the devices. Close ends that.
func NewManager(o Options) *Manager {
	m := &Manager{
		host:        o.Host,
		devices:     append([]Device{o.Host}, o.Devices...),
		processWide: o.ProcessWide,
		log:         cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
		cleaning:    make(chan struct{}, 1),
		closed:      make(chan struct{}),
	}
	every := o.Every
	if every <= 0 {
		every = defaultEvery
	}
	m.monitor = NewMonitor(every, m.devices...)
	m.loop.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case now := <-tick.C:
				m.tick(now)
			case <-m.closed:
				return
			}
		}
	})
	return m
}

// tick does what follows the readings.
func (m *Manager) tick(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.scopes {
		s.observe(m.monitor)
	}
	if m.processWide && m.limit.budget > 0 {
		m.limit.follow(now, m.host.Process())
	}
}

// Close interrupts a running clean-up, ends the readings, closes the devices
// that are an io.Closer, and puts the Go memory limit back. It may be called
// more than once, and waits at most some seconds for what hangs; the error says
// what did.
func (m *Manager) Close() error {
	m.closing.Do(func() {
		close(m.closed)
		m.mu.Lock()
		if m.interrupt != nil {
			m.interrupt(errClosed)
		}
		m.mu.Unlock()
		m.cleaning <- struct{}{} // for good
		m.loop.Wait()
		m.monitor.Close()
		for _, d := range m.devices {
			if c, ok := d.(io.Closer); ok {
				m.closeErr = errors.Join(m.closeErr, closeDevice(d.Name(), c))
			}
		}
		m.mu.Lock()
		m.limit.restore()
		m.mu.Unlock()
	})
	return m.closeErr
}

// closeDevice does not wait for ever, as a driver that hangs in a reading may
// hang here too.
func closeDevice(name string, c io.Closer) error {
	done := make(chan error, 1)
	go func() { done <- c.Close() }()
	patience := time.NewTimer(closePatience)
	defer patience.Stop()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("closing %s: %w", name, err)
		}
		return nil
	case <-patience.C:
		return fmt.Errorf("closing %s: it has not closed within %v and is left as it is", name, closePatience)
	}
}

// Monitor is what reads the devices. It is closed with the Manager.
func (m *Manager) Monitor() *Monitor { return m.monitor }

// Attach makes the leases of a ledger known, so that State lists them with the
// device that the ledger is of. Nothing of it lies on the way to a lease.
// detach ends that, and may be called more than once.
func (m *Manager) Attach(l *Ledger) (detach func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ledgers = append(m.ledgers, l)
	return sync.OnceFunc(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if i := slices.Index(m.ledgers, l); i >= 0 {
			m.ledgers = slices.Delete(m.ledgers, i, i+1)
		}
	})
}

// DeviceState is a device with what is leased of it.
type DeviceState struct {
	Sample             // the last reading
	Description string // what the device says of itself; empty if it says nothing
	// Usage is the sum over the attached ledgers. Where there are several, Peak is
	// the sum of peaks that need not have been at the same time.
	Usage   Usage
	Holders []Holding // of all of them, oldest first
	Leased  bool      // a ledger is attached
}

// Unexplained is what this process has of the device beyond what is leased, in
// bytes: code, the runtime, caches without a lease, or a leak. It is negative
// where leases are taken before they are used. It is not known, and false,
// where the device does not tell the own bytes or nothing is leased of it.
func (s DeviceState) Unexplained() (bytes int64, ok bool) {
	if !s.Known() || s.Own == Unknown || !s.Leased {
		return 0, false
	}
	return s.Own - s.Usage.Residency - s.Usage.Work, true
}

// State lists the devices: the host first, then the others as in Options, then
// those that are known only from a ledger. It reads nothing itself: each Sample
// says how old it is, and what it knows.
func (m *Manager) State() []DeviceState {
	m.mu.Lock()
	ledgers := slices.Clone(m.ledgers)
	m.mu.Unlock()

	all := make([]DeviceState, 0, len(m.devices))
	for _, d := range m.devices {
		s := DeviceState{}
		s.Sample, _ = m.monitor.Sample(d.Name())
		if about, ok := d.(Described); ok {
			s.Description = about.Description()
		}
		all = append(all, s)
	}
	for _, l := range ledgers {
		i := slices.IndexFunc(all, func(s DeviceState) bool { return s.Device == l.device })
		if i < 0 {
			i = len(all)
			all = append(all, DeviceState{Sample: Sample{Device: l.device}})
		}
		all[i].add(l)
	}
	for i := range all {
		slices.SortStableFunc(all[i].Holders, func(a, b Holding) int { return a.Since.Compare(b.Since) })
	}
	return all
}

func (s *DeviceState) add(l *Ledger) {
	u := l.Usage()
	s.Leased = true
	s.Usage.Limit += u.Limit
	s.Usage.Reserve += u.Reserve
	s.Usage.Residency += u.Residency
	s.Usage.Work += u.Work
	s.Usage.Peak += u.Peak
	s.Usage.Waiting += u.Waiting
	if t := s.Usage.WaitingSince; !u.WaitingSince.IsZero() && (t.IsZero() || u.WaitingSince.Before(t)) {
		s.Usage.WaitingSince = u.WaitingSince
	}
	s.Holders = append(s.Holders, l.Holders()...)
}
