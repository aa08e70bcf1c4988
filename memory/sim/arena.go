package sim

import (
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/forgepipe/forgepipe/memory"
)

// Strategy is how an arena grows.
type Strategy int

const (
	// SameAsRequested takes just what a request needs (kSameAsRequested).
	SameAsRequested Strategy = iota
	// NextPowerOfTwo takes regions that double from 1 MiB on (kNextPowerOfTwo), and
	// keeps its first one when it is shrunk.
	NextPowerOfTwo
)

// Figures of ONNX Runtime's BFCArena (core/framework/bfc_arena.h and .cc, read
// at commit 009aae13).
const (
	granularity   = 256       // sizes are rounded up to multiples of it
	firstRegion   = 1 << 20   // of NextPowerOfTwo
	regrownRegion = 2 << 20   // the first after a shrink
	mostDead      = 128 << 20 // more is not left unused at the end of a chunk
	leastRegion   = 8 << 10   // it does not back off below
)

// ArenaConfig describes an arena.
type ArenaConfig struct {
	Strategy Strategy // by which it grows
	// Limit is the most bytes it may have of the device (gpu_mem_limit, max_mem);
	// zero: no limit but the device's.
	Limit int64
}

func (c ArenaConfig) validate() error {
	switch {
	case c.Strategy != SameAsRequested && c.Strategy != NextPowerOfTwo:
		return fmt.Errorf("arena strategy %d does not exist", int(c.Strategy))
	case c.Limit < 0:
		return fmt.Errorf("the limit of the arena is %d bytes: it must not be negative, and 0 is none", c.Limit)
	}
	return nil
}

// Arena hands out memory of a device as ONNX Runtime's does. It takes regions of
// the device and cuts them into chunks; of the free chunks that are large enough
// the smallest is used, and where none is, a region is added. A region goes back
// to the device only in a shrink, and only as a whole: that is why growing by
// small steps leaves many regions behind, none of which fits the next step. Its
// methods may be called from several goroutines.
type Arena struct {
	device *Device
	c      ArenaConfig

	mu      sync.Mutex
	regions []*region
	next    int64 // bytes of the next region of NextPowerOfTwo, at least
	grown   bool  // there has been a region
	stats   Stats
}

// Stats are an arena's figures, in bytes.
type Stats struct {
	InUse     int64 // handed out
	Allocated int64 // had of the device
	MaxInUse  int64 // most InUse so far
	Limit     int64 // zero: none
}

type region struct {
	block  *Block
	first  bool
	chunks []*Chunk // in order of address; no two free ones beside each other
}

// Chunk is memory that an arena handed out.
type Chunk struct {
	arena  *Arena
	region *region
	bytes  int64
	inUse  bool
}

// NewArena makes an arena, which has nothing yet.
func (d *Device) NewArena(c ArenaConfig) (*Arena, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("making an arena on %s: %w", d.c.Name, err)
	}
	a := &Arena{device: d, c: c, stats: Stats{Limit: c.Limit}}
	a.next = rounded(min(firstRegion, a.limit()))
	return a, nil
}

// Alloc hands out bytes. Where the device or the limit has no room for them, the
// error wraps memory.ErrOutOfMemory and has the runtime's words, with the bytes
// that were asked for, rounded up to 256.
func (a *Arena) Alloc(bytes int64) (*Chunk, error) {
	if bytes <= 0 || bytes > math.MaxInt64-granularity {
		return nil, fmt.Errorf("allocating %d bytes in an arena on %s: that is no size of a buffer", bytes, a.device.c.Name)
	}
	bytes = rounded(bytes)
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.find(bytes)
	if c == nil {
		if err := a.extend(bytes); err != nil {
			return nil, err
		}
		if c = a.find(bytes); c == nil {
			panic(fmt.Sprintf("BUG: an arena grew by %d bytes and has no room for them", bytes))
		}
	}
	c.split(bytes)
	c.inUse = true
	a.stats.InUse += c.bytes
	a.stats.MaxInUse = max(a.stats.MaxInUse, a.stats.InUse)
	return c, nil
}

// Free gives a chunk back to its arena, which keeps it. It may be called more
// than once.
func (c *Chunk) Free() {
	c.arena.mu.Lock()
	defer c.arena.mu.Unlock()
	if !c.inUse {
		return
	}
	c.inUse = false
	c.arena.stats.InUse -= c.bytes
	c.merge()
}

// Shrink gives the regions of which nothing is in use back to the device, and
// returns their bytes. NextPowerOfTwo keeps its first region, and doubles from
// 2 MiB on again.
func (a *Arena) Shrink() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.stats.Allocated
	a.regions = slices.DeleteFunc(a.regions, func(r *region) bool {
		if r.first && a.c.Strategy == NextPowerOfTwo {
			return false
		}
		if len(r.chunks) > 1 || r.chunks[0].inUse {
			return false
		}
		r.block.Free()
		a.stats.Allocated -= r.block.bytes
		return true
	})
	a.next = regrownRegion
	return before - a.stats.Allocated
}

// Stats tells what the arena has.
func (a *Arena) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stats
}

// Close gives everything back, also what is in use.
func (a *Arena) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.regions {
		r.block.Free()
		for _, c := range r.chunks {
			c.inUse = false
		}
	}
	a.regions = nil
	a.stats.InUse, a.stats.Allocated = 0, 0
}

func rounded(bytes int64) int64 { return (bytes + granularity - 1) / granularity * granularity }

// The methods below need the lock.

func (a *Arena) limit() int64 {
	if a.c.Limit == 0 {
		return math.MaxInt64 - granularity
	}
	return a.c.Limit
}

// find returns the smallest free chunk that is large enough.
func (a *Arena) find(bytes int64) *Chunk {
	var best *Chunk
	for _, r := range a.regions {
		for _, c := range r.chunks {
			if !c.inUse && c.bytes >= bytes && (best == nil || c.bytes < best.bytes) {
				best = c
			}
		}
	}
	return best
}

// extend adds a region with room for bytes.
func (a *Arena) extend(bytes int64) error {
	room := (a.limit() - a.stats.Allocated) / granularity * granularity
	if bytes > room {
		return fmt.Errorf("extending an arena on %s with a limit of %d bytes: Available memory of %d is smaller than requested bytes of %d: %w",
			a.device.c.Name, a.c.Limit, room, bytes, memory.ErrOutOfMemory)
	}
	size := bytes
	if a.c.Strategy == NextPowerOfTwo {
		size = min(a.double(bytes), room)
	}
	block, err := a.device.Alloc(size)
	for err != nil {
		// It asks for a tenth less until it gets something or would get too little.
		size = rounded(int64(float64(size) * 0.9))
		if size < bytes || size < leastRegion {
			return fmt.Errorf("extending an arena on %s: Failed to allocate memory for requested buffer of size %d: %w",
				a.device.c.Name, bytes, memory.ErrOutOfMemory)
		}
		block, err = a.device.Alloc(size)
	}
	r := &region{block: block, first: !a.grown}
	r.chunks = []*Chunk{{arena: a, region: r, bytes: size}}
	a.regions = append(a.regions, r)
	a.grown = true
	a.stats.Allocated += size
	return nil
}

// double is the size of the next region of NextPowerOfTwo: the least doubling
// that fits bytes. One that fits as it is lets the one after it double.
func (a *Arena) double(bytes int64) int64 {
	size := a.next
	for size < bytes && size <= math.MaxInt64/2 {
		size *= 2
	}
	size = max(size, bytes)
	if size == a.next && a.next <= math.MaxInt64/2 {
		a.next *= 2
	} else {
		a.next = size
	}
	return size
}

// split cuts a chunk down to bytes, unless too little would be gained by it.
func (c *Chunk) split(bytes int64) {
	if c.bytes/2 < bytes && c.bytes-bytes < mostDead {
		return
	}
	if c.bytes == bytes {
		return
	}
	i := slices.Index(c.region.chunks, c)
	rest := &Chunk{arena: c.arena, region: c.region, bytes: c.bytes - bytes}
	c.region.chunks = slices.Insert(c.region.chunks, i+1, rest)
	c.bytes = bytes
}

// merge joins a free chunk with free neighbours.
func (c *Chunk) merge() {
	all := c.region.chunks
	i := slices.Index(all, c)
	from, to := i, i+1
	if from > 0 && !all[from-1].inUse {
		from--
	}
	if to < len(all) && !all[to].inUse {
		to++
	}
	if to-from == 1 {
		return
	}
	whole := &Chunk{arena: c.arena, region: c.region}
	for _, part := range all[from:to] {
		whole.bytes += part.bytes
	}
	c.region.chunks = slices.Replace(all, from, to, whole)
}
