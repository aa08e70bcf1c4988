package pipeline

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/sourcegraph/conc/pool"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/memory"
)

// phases runs one phase after the other. Between two, items wait on disk.
func (r *run) phases(ctx context.Context) error {
	feed := func(p *pool.ContextPool, q *queue) { r.intake(p, q) }
	first := 0
	var waiting *parking
	defer func() {
		if waiting != nil {
			waiting.close()
		}
	}()
	for i, phase := range r.plan.Phases {
		nodes := r.nodes[first : first+len(phase)]
		first += len(phase)
		last := nodes[len(nodes)-1]
		if first < len(r.nodes) {
			var err error
			if last.parked, err = r.newParking("phase-" + strconv.Itoa(i)); err != nil {
				return err
			}
		}
		r.phaseNow.Store(int32(i + 1))
		if len(r.plan.Phases) > 1 {
			r.event(EventPhase, nodes[0].ID, "", fmt.Sprintf("phase %d of %d", i+1, len(r.plan.Phases)))
		}
		if err := r.mayBegin(ctx); err != nil {
			return err
		}
		began := r.ownBytes(ctx)
		err := r.phase(ctx, nodes, feed)
		r.phaseEnded(ctx, i, nodes, began)
		if waiting != nil {
			waiting.close()
			waiting = nil
		}
		waiting = last.parked
		if err != nil {
			return err
		}
		if r.draining() {
			return nil
		}
		from := waiting
		feed = func(p *pool.ContextPool, q *queue) {
			p.Go(func(ctx context.Context) error {
				r.working.Add(1)
				defer r.working.Add(-1)
				for it, err := range from.items(ctx) {
					if err == nil {
						err = r.mayPass(ctx, it)
					}
					if err != nil {
						return err
					}
					if r.draining() {
						it.release()
						break
					}
					r.rest(func() { _, err = q.put(ctx, []*Item{it}) })
					if err != nil {
						it.release()
						return err
					}
				}
				q.close()
				return nil
			})
		}
	}
	return nil
}

// phase opens its stages, lets items flow, and closes the stages.
func (r *run) phase(ctx context.Context, nodes []*node, feed func(*pool.ContextPool, *queue)) (err error) {
	var leases []*memory.Lease
	defer func() {
		for _, n := range nodes {
			if c, ok := n.Stage.(Closer); ok && n.opened {
				if cerr := c.Close(); err == nil && cerr != nil {
					err = &StageError{Stage: n.ID, Err: fmt.Errorf("closing: %w", cerr)}
				}
			}
			if n.held != nil {
				n.held.close()
			}
			if n.laters != nil {
				n.laters.close()
			}
			for _, it := range n.in.drain() {
				it.release()
			}
		}
		for _, l := range leases {
			l.Release()
		}
	}()
	for _, n := range nodes {
		n.opened = true // Close follows, whatever happens
		if n.barrier != nil {
			if n.held, err = r.newParking(n.ID); err != nil {
				return err
			}
			n.held.stagesStay = true
		}
		l, err := r.host.Acquire(ctx, memory.Request{Kind: memory.Residency, Bytes: n.cost(nil).Resident, Holder: n.ID})
		if err != nil {
			return &StageError{Stage: n.ID, Err: err}
		}
		leases = append(leases, l)
		if o, ok := n.Stage.(Opener); ok && r.dry == nil {
			if err := o.Open(ctx, n.Device); err != nil {
				return &StageError{Stage: n.ID, Err: fmt.Errorf("opening: %w", err)}
			}
		}
	}
	p := pool.New().WithContext(ctx).WithCancelOnError().WithFirstError()
	stop := make(chan struct{})
	var helpers sync.WaitGroup
	helpers.Go(func() { r.unstick(nodes, stop) })
	helpers.Go(func() { r.govern(ctx, nodes, stop) })
	helpers.Go(func() { r.watchLeaks(ctx, nodes, stop) })
	helpers.Go(func() { r.checkpoints(ctx, stop) })
	nodes[0].first = true
	feed(p, nodes[0].in)
	for _, n := range nodes {
		n.start(p)
	}
	err = p.Wait()
	close(stop)
	helpers.Wait()
	return err
}

// checkpoints makes what was written durable every few seconds, so that after a
// power loss only a few seconds' outputs have to be looked at.
func (r *run) checkpoints(ctx context.Context, stop <-chan struct{}) {
	if r.store == nil || r.dry != nil {
		return
	}
	every := r.opts.Checkpoint
	if every <= 0 {
		every = 5 * time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			if err := r.checkpoint(ctx); err != nil && ctx.Err() == nil {
				r.warnOnce("checkpoint", "making outputs durable: %v", err)
			}
		}
	}
}

func (r *run) checkpoint(ctx context.Context) error {
	if r.outcomes != nil {
		if err := r.outcomes.Flush(); err != nil {
			r.warnOnce("attributes", "results are not cached: %v", err)
		}
	}
	if err := r.keepDecided(ctx); err != nil {
		return err
	}
	return r.store.Checkpoint(ctx, r.syncRoots)
}

// syncRoots makes what was written to the output folders durable.
func (r *run) syncRoots() error {
	r.rootsMu.Lock()
	roots := make([]fsys.Root, 0, len(r.roots))
	for _, root := range r.roots {
		roots = append(roots, root)
	}
	r.rootsMu.Unlock()
	for _, root := range roots {
		if err := root.SyncFS(); err != nil {
			return err
		}
	}
	return nil
}
