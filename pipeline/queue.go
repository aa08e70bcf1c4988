package pipeline

import (
	"context"
	"slices"
	"sync"
	"time"
)

// A queue is the bounded way between two stages. It holds at most maxItems
// items and maxBytes bytes of pixels; an empty queue takes one item of any size,
// or the largest picture could never pass.
//
// A channel cannot be bounded by bytes and hands items over one by one; this is
// a ring under a mutex, with two one-slot channels on which the waiting side
// selects together with its context.
type queue struct {
	maxItems int
	maxBytes int64

	mu      sync.Mutex
	ring    []*Item
	head    int
	n       int
	bytes   int64
	closed  bool
	paused  bool       // nothing is taken
	senders []*sending // those that wait for room

	notEmpty chan struct{}
	notFull  chan struct{}
}

func newQueue(maxItems int, maxBytes int64) *queue {
	return &queue{
		maxItems: maxItems, maxBytes: maxBytes, ring: make([]*Item, min(maxItems, 64)),
		notEmpty: make(chan struct{}, 1), notFull: make(chan struct{}, 1),
	}
}

// sending is what one put has still to append.
type sending struct{ items []*Item }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// put appends the items, waiting for room. When it returns an error, those not
// yet appended are the caller's still; their number is returned.
func (q *queue) put(ctx context.Context, items []*Item) (left int, err error) {
	var waiting *sending
	for {
		q.mu.Lock()
		for len(items) > 0 && q.fits(items[0]) {
			q.push(items[0])
			items = items[1:]
		}
		switch {
		case len(items) == 0 || ctx.Err() != nil:
			if i := slices.Index(q.senders, waiting); i >= 0 {
				q.senders = slices.Delete(q.senders, i, i+1)
			}
		case waiting == nil:
			waiting = &sending{items}
			q.senders = append(q.senders, waiting)
		default:
			waiting.items = items
		}
		more := q.n > 0
		room := q.n < q.maxItems && q.bytes < q.maxBytes
		q.mu.Unlock()
		if more {
			signal(q.notEmpty)
		}
		if len(items) == 0 {
			if room {
				signal(q.notFull) // for another sender that waits
			}
			return 0, nil
		}
		if ctx.Err() != nil {
			return len(items), ctx.Err()
		}
		select {
		case <-q.notFull:
		case <-ctx.Done():
		}
	}
}

func (q *queue) fits(it *Item) bool {
	return q.n == 0 || q.n < q.maxItems && q.bytes+it.weight <= q.maxBytes
}

func (q *queue) push(it *Item) {
	if q.n == len(q.ring) {
		bigger := make([]*Item, min(2*len(q.ring), q.maxItems))
		for i := range q.n {
			bigger[i] = q.ring[(q.head+i)%len(q.ring)]
		}
		q.ring, q.head = bigger, 0
	}
	q.ring[(q.head+q.n)%len(q.ring)] = it
	q.n++
	q.bytes += it.weight
}

// take appends a batch to dst: up to size items and about maxBytes bytes (0: no
// bound). It waits for the first item, and then up to linger for the batch to
// fill. An empty result means that the queue is closed and drained.
func (q *queue) take(ctx context.Context, dst []*Item, size int, maxBytes int64, linger time.Duration) ([]*Item, error) {
	var bytes int64
	var timeout <-chan time.Time
	for {
		q.mu.Lock()
		full := false
		for q.n > 0 && len(dst) < size && !q.paused {
			it := q.ring[q.head]
			if maxBytes > 0 && len(dst) > 0 && bytes+it.weight > maxBytes {
				full = true
				break
			}
			q.ring[q.head] = nil
			q.head = (q.head + 1) % len(q.ring)
			q.n--
			q.bytes -= it.weight
			bytes += it.weight
			dst = append(dst, it)
		}
		more, closed := q.n > 0 && !q.paused, q.closed && !q.paused
		q.mu.Unlock()

		if len(dst) > 0 {
			signal(q.notFull)
		}
		if more || closed {
			signal(q.notEmpty) // for the other workers
		}
		if full || len(dst) >= size || closed && !more || len(dst) > 0 && linger <= 0 {
			return dst, nil
		}
		if len(dst) > 0 && timeout == nil {
			t := time.NewTimer(linger)
			defer t.Stop()
			timeout = t.C
		}
		select {
		case <-q.notEmpty:
		case <-timeout:
			return dst, nil
		case <-ctx.Done():
			return dst, ctx.Err()
		}
	}
}

// pause stops, or goes on with, what take gives out.
func (q *queue) pause(paused bool) {
	q.mu.Lock()
	q.paused = paused
	q.mu.Unlock()
	signal(q.notEmpty)
}

func (q *queue) isPaused() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.paused
}

// close says that no item will come any more.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	signal(q.notEmpty)
}

func (q *queue) len() (items int, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n, q.bytes
}

// fill is how many items wait, and how full the queue is, 0 to 1, by the bound that is
// nearer. One that somebody waits to put into is full.
func (q *queue) fill() (items int, share float64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.senders) > 0 {
		return q.n, 1
	}
	return q.n, min(max(float64(q.n)/float64(q.maxItems), float64(q.bytes)/float64(q.maxBytes)), 1)
}

// pictures appends the buffers of all items that wait in the queue or for it,
// those that will wait longest first.
func (q *queue) pictures(dst []*buffer) []*buffer {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range slices.Backward(q.senders) {
		for _, it := range slices.Backward(s.items) {
			dst = it.appendBuffers(dst)
		}
	}
	for i := q.n - 1; i >= 0; i-- {
		dst = q.ring[(q.head+i)%len(q.ring)].appendBuffers(dst)
	}
	return dst
}

// drain empties the queue for good and returns what was in it.
func (q *queue) drain() []*Item {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []*Item
	for ; q.n > 0; q.n-- {
		out = append(out, q.ring[q.head])
		q.ring[q.head] = nil
		q.head = (q.head + 1) % len(q.ring)
	}
	q.bytes = 0
	return out
}
