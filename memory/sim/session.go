package sim

import (
	"fmt"
	"math"
)

// SessionConfig describes a loaded model by the memory it needs.
type SessionConfig struct {
	Fixed   int64       // bytes had from opening to closing, beside the arena: weights, work space
	PerItem int64       // bytes of the arena for each item of a batch, more than zero
	Leak    int64       // bytes that each run takes of the device and that never come back
	Arena   ArenaConfig // how its arena grows
}

// Validate names what is wrong with the configuration.
func (c SessionConfig) Validate() error {
	switch {
	case c.Fixed < 0 || c.Leak < 0:
		return fmt.Errorf("a session with %d fixed bytes and a leak of %d: neither can be negative", c.Fixed, c.Leak)
	case c.PerItem <= 0:
		return fmt.Errorf("a session with %d bytes for each item: it needs more than none", c.PerItem)
	}
	return c.Arena.validate()
}

// Session is a model loaded on a device. Its methods may be called from several
// goroutines; runs at once need the sum of what they need alone.
type Session struct {
	c     SessionConfig
	fixed *Block
	arena *Arena
}

// RunOptions are those of one run.
type RunOptions struct {
	// Shrink gives back what the arena does not need after the run, also after one
	// that failed (the runtime's memory.enable_memory_arena_shrinkage).
	Shrink bool
	// During is called while the run has its memory, if it gets it, and is the time
	// in which the device computes; nil: the run takes no time.
	During func()
}

// Open loads a model. The error wraps memory.ErrOutOfMemory when the fixed bytes
// do not fit.
func (d *Device) Open(c SessionConfig) (*Session, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("opening a session on %s: %w", d.c.Name, err)
	}
	arena, err := d.NewArena(c.Arena)
	if err != nil {
		return nil, err
	}
	fixed, err := d.Alloc(c.Fixed)
	if err != nil {
		return nil, fmt.Errorf("opening a session: %w", err)
	}
	return &Session{c: c, fixed: fixed, arena: arena}, nil
}

// Run puts a batch of so many items through. A batch for which there is no room
// is an error that wraps memory.ErrOutOfMemory; the session works on.
func (s *Session) Run(batch int, o RunOptions) error {
	if batch <= 0 || int64(batch) > math.MaxInt64/s.c.PerItem {
		return fmt.Errorf("running a batch of %d: that is no size of a batch", batch)
	}
	if o.Shrink {
		defer s.arena.Shrink()
	}
	buffers, err := s.arena.Alloc(int64(batch) * s.c.PerItem)
	if err != nil {
		return fmt.Errorf("running a batch of %d: %w", batch, err)
	}
	defer buffers.Free()
	if _, err := s.arena.device.Alloc(s.c.Leak); err != nil {
		return fmt.Errorf("running a batch of %d: %w", batch, err)
	}
	if o.During != nil {
		defer s.arena.device.Compute()()
		o.During()
	}
	return nil
}

// Shrink gives back what the arena does not need now, and returns its bytes.
func (s *Session) Shrink() int64 { return s.arena.Shrink() }

// Stats are those of the arena; the fixed bytes are not in them.
func (s *Session) Stats() Stats { return s.arena.Stats() }

// Close gives back all but what leaked. It may be called more than once.
func (s *Session) Close() {
	s.arena.Close()
	s.fixed.Free()
}
