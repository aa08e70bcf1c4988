package pipeline

import (
	"slices"

	"github.com/forgepipe/forgepipe/memory"
)

// waitingFor is promised for who must not wait: somebody who decodes has the lock.
func (b *buffer) waitingFor() *remaking {
	if !b.mu.TryLock() {
		return nil
	}
	defer b.mu.Unlock()
	if b.img != nil || b.fault != nil {
		return nil
	}
	return b.redo
}

// appendBuffers appends the item's own buffers.
func (it *Item) appendBuffers(dst []*buffer) []*buffer {
	if b := it.pic.buf; b != nil && (len(dst) == 0 || dst[len(dst)-1] != b) {
		if m := b.waitingFor(); m != nil { // what it will be made of waits with it
			dst = m.redo.item.appendBuffers(dst)
		}
		dst = append(dst, b)
	}
	if it.pair != nil && it.pair.pic.buf != nil {
		dst = append(dst, it.pair.pic.buf)
	}
	return dst
}

// A claim is the pictures that a call may look at, pinned: nobody parks them
// until it is dropped.
type claim struct {
	pictures []*buffer // each once, with those that promised pictures are made of
	has      int64     // bytes of room that they have
	lacks    int64     // bytes of room that the parked ones have to get again
	work     int64     // bytes that making a promised one again takes meanwhile
	lazy     bool      // promised pictures are left out
}

// items makes the claim one to the pictures of these items.
func (c *claim) items(items []*Item) {
	for _, it := range items {
		c.picture(it.pic.buf)
		if it.pair != nil {
			c.picture(it.pair.pic.buf)
		}
	}
}

func (c *claim) picture(b *buffer) {
	// Items that share a picture mostly come one after the other.
	if n := len(c.pictures); b == nil || n > 0 && c.pictures[n-1] == b || slices.Contains(c.pictures, b) {
		return
	}
	b.mu.Lock()
	if b.lease == nil { // it is nobody's to park
		b.mu.Unlock()
		return
	}
	promised := b.redo
	if b.img != nil || b.fault != nil {
		promised = nil
	}
	if promised != nil && c.lazy {
		b.mu.Unlock()
		return
	}
	b.pins++
	if b.parked {
		c.lacks += b.room
	} else {
		c.has += b.held
	}
	b.mu.Unlock()
	c.pictures = append(c.pictures, b)
	if promised != nil {
		c.work = max(c.work, promised.redo.work)
		c.items([]*Item{promised.redo.item})
	}
}

// unpark gives the parked ones their room out of the lease, which has what they
// lack.
func (c *claim) unpark(from *memory.Lease) {
	if c.lacks == 0 {
		return
	}
	for _, b := range c.pictures {
		b.mu.Lock()
		if b.parked && b.room > 0 {
			b.lease.Release()
			b.lease, b.parked = from.Split(b.room), false
			b.hold(b.room)
		}
		b.mu.Unlock()
	}
	c.has, c.lacks = c.has+c.lacks, 0
}

// drop unpins the pictures. The list is kept to be used again.
func (c *claim) drop() {
	for _, b := range c.pictures {
		b.mu.Lock()
		b.pins--
		b.mu.Unlock()
	}
	*c = claim{pictures: c.pictures[:0], lazy: c.lazy}
}
