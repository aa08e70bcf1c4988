package memory

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Scope is the memory of one piece of work: what it took, what was freed when it
// was over, and what is left of it. Scopes may be nested, and do not know of each
// other.
type Scope struct {
	manager *Manager
	name    string
	began   time.Time
	before  []*Reading

	mu         sync.Mutex // guards what follows
	reclaimers []scoped
	peaks      []Reading // of Own and Used, by device; Unknown: not read yet

	ending sync.Once
	report ScopeReport
}

type scoped struct {
	*reclaimer
	unregister func()
}

// ScopeReport says what a scope took and left.
type ScopeReport struct {
	Name    string        // the scope's
	Took    time.Duration // from Scope to the end of the clean-up
	Devices []ScopeDevice // the host first
	Steps   []CleanedStep // of the clean-up
}

// ScopeDevice is one device over the life of a scope, in bytes; a figure is
// Unknown where no reading was had.
type ScopeDevice struct {
	Device string // its name
	Own    bool   // the figures are this process's; otherwise they are everybody's
	Before int64  // when the scope began
	Peak   int64  // most that the polls saw; what comes and goes between two is missed
	End    int64  // when the work was over, before the clean-up
	After  int64  // after the clean-up
	Freed  int64  // End less After; never negative, and 0 where one is Unknown
}

// Left is what the scope has added and not given back, negative where less is in
// use than before; false where that is not known.
func (d ScopeDevice) Left() (bytes int64, ok bool) {
	return d.After - d.Before, d.After != Unknown && d.Before != Unknown
}

// Scope begins one. It reads the devices, which takes a second at most where one
// hangs. Always defer its End, which runs after a panic, too:
//
//	scope := manager.Scope("thumbnails")
//	defer scope.End(ctx)
//
// What is deferred later ends earlier, so that End sees it freed.
func (m *Manager) Scope(name string) *Scope {
	s := &Scope{manager: m, name: name, began: time.Now(), before: m.read(context.Background())}
	for range m.devices {
		s.peaks = append(s.peaks, Reading{Own: Unknown, Used: Unknown})
	}
	s.see(s.before)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.scopes = append(m.scopes, s)
	return s
}

// Register adds a reclaimer to the scope: it takes part in every clean-up until
// End, which calls it a last time. unregister takes it out before that.
func (s *Scope) Register(r Reclaimer) (unregister func()) {
	added, remove := s.manager.register(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reclaimers = append(s.reclaimers, scoped{added, remove})
	return func() {
		remove()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.reclaimers = slices.DeleteFunc(s.reclaimers, func(x scoped) bool { return x.reclaimer == added })
	}
}

// End calls what was registered with the scope, in reverse order, and frees the
// garbage of the host as Clean does; then it measures, logs and returns what the
// scope has taken and left. If ctx has ended already, as at a signal, it frees
// nevertheless, with the patience that Reclaimer tells. A second call returns the
// first one's report.
func (s *Scope) End(ctx context.Context) ScopeReport {
	s.ending.Do(func() {
		m := s.manager
		if ctx.Err() != nil {
			ctx = context.WithoutCancel(ctx)
		}
		c, before, after := m.clean(ctx, "end of "+s.name, func() []*reclaimer {
			s.mu.Lock()
			defer s.mu.Unlock()
			var all []*reclaimer
			for _, r := range s.reclaimers {
				all = append(all, r.reclaimer)
			}
			return all
		})
		s.leave()
		s.see(before)
		s.see(after)
		s.report = ScopeReport{Name: s.name, Took: time.Since(s.began), Steps: c.Steps}
		for i, d := range m.devices {
			s.report.Devices = append(s.report.Devices, s.device(d.Name(), i, before[i], after[i]))
		}
		m.reportScope(s.report)
	})
	return s.report
}

// leave takes the scope out of the manager.
func (s *Scope) leave() {
	s.mu.Lock()
	all := s.reclaimers
	s.reclaimers = nil
	s.mu.Unlock()
	for _, r := range all {
		r.unregister()
	}
	m := s.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.Index(m.scopes, s); i >= 0 {
		m.scopes = slices.Delete(m.scopes, i, i+1)
	}
}

// observe looks at the monitor's samples for peaks.
func (s *Scope) observe(m *Monitor) {
	readings := make([]*Reading, len(s.manager.devices))
	for i, d := range s.manager.devices {
		if sample, _ := m.Sample(d.Name()); sample.At.After(s.began) {
			readings[i] = &sample.Reading
		}
	}
	s.see(readings)
}

func (s *Scope) see(readings []*Reading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range readings {
		if r != nil {
			s.peaks[i].Own = max(s.peaks[i].Own, r.Own)
			s.peaks[i].Used = max(s.peaks[i].Used, r.Used)
		}
	}
}

func (s *Scope) device(name string, i int, end, after *Reading) ScopeDevice {
	s.mu.Lock()
	defer s.mu.Unlock()
	own, bytes := figures(s.before[i], end, after)
	d := ScopeDevice{Device: name, Own: own, Before: bytes[0], End: bytes[1], After: bytes[2], Peak: s.peaks[i].Used}
	if own {
		d.Peak = s.peaks[i].Own
	}
	if d.End != Unknown && d.After != Unknown {
		d.Freed = max(d.End-d.After, 0)
	}
	return d
}

func (m *Manager) reportScope(r ScopeReport) {
	attrs := []slog.Attr{slog.String("scope", r.Name), slog.Duration("took", r.Took)}
	for _, d := range r.Devices {
		attrs = append(attrs, slog.Group(d.Device, slog.Int64("before", d.Before), slog.Int64("peak", d.Peak),
			slog.Int64("end", d.End), slog.Int64("after", d.After), slog.Int64("freed", d.Freed)))
	}
	m.log.LogAttrs(context.Background(), slog.LevelInfo, "memory of a scope", attrs...)
}
