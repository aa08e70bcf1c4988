package pipeline

import (
	"context"
	"sync"
)

// A gate lets as many workers of a node work at once as it may have now. A count
// that falls is reached as calls end.
type gate struct {
	mu      sync.Mutex
	limit   int
	inside  int
	waiting int
	wake    chan struct{} // closed when somebody may come in
}

func newGate(limit int) *gate { return &gate{limit: limit, wake: make(chan struct{})} }

// enter waits for its turn; leave follows, unless it returned an error.
func (g *gate) enter(ctx context.Context) error {
	for {
		g.mu.Lock()
		if g.inside < g.limit {
			g.inside++
			g.mu.Unlock()
			return nil
		}
		g.waiting++
		wake := g.wake
		g.mu.Unlock()
		var err error
		select {
		case <-wake:
		case <-ctx.Done():
			err = ctx.Err()
		}
		g.mu.Lock()
		g.waiting--
		g.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	g.open()
}

// set changes how many may be inside.
func (g *gate) set(limit int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit = limit
	g.open()
}

func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.limit
}

// open wakes those who wait, if somebody can come in; it needs the lock.
func (g *gate) open() {
	if g.waiting > 0 && g.inside < g.limit {
		close(g.wake)
		g.wake = make(chan struct{})
	}
}
