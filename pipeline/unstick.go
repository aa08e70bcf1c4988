package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"image"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/memory"
)

// Nothing that waits keeps memory for itself: an item in a queue, before a full
// one, or before a call that has no lease yet can be parked. Its picture is
// dropped, to be decoded again when its turn comes, or written to disk where it
// cannot be had again. What one call needs is leased in one piece. So when
// somebody waits for room and nothing moves, parking what waits makes room, up to
// all that the run may use; who needs still more is refused.

// idlePictures are those of callers that wait for room.
type idlePictures struct {
	mu    sync.Mutex
	lists []*idleList
}

type idleList struct {
	priority int // place in the chain of who waits
	pictures []*buffer
}

// add lists pictures until the returned function is called.
func (s *idlePictures) add(priority int, pictures []*buffer) (done func()) {
	if len(pictures) == 0 {
		return func() {}
	}
	l := &idleList{priority, pictures}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists = append(s.lists, l)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		i := slices.Index(s.lists, l)
		s.lists = slices.Delete(s.lists, i, i+1)
	}
}

// all are the pictures, those most upstream first.
func (s *idlePictures) all(dst []*buffer) []*buffer {
	s.mu.Lock()
	defer s.mu.Unlock()
	lists := slices.Clone(s.lists)
	slices.SortStableFunc(lists, func(a, b *idleList) int { return cmp.Compare(a.priority, b.priority) })
	for _, l := range lists {
		dst = append(dst, l.pictures...)
	}
	return dst
}

const (
	stuckTick = 250 * time.Millisecond
	// stuckAfter is how long nothing may move before pictures are parked: doing so
	// too early costs decoding them twice.
	stuckAfter = time.Second
	// refuseAfter is how long nothing may move, and nothing be parked, before
	// somebody is refused what it waits for.
	refuseAfter = 5 * time.Second
	// patience is that for who would fit if the limit were what it was before.
	patience = time.Minute
)

// rest does something that may wait for room, in memory or in a queue: meanwhile
// the goroutine does not count as working.
func (r *run) rest(f func()) {
	r.working.Add(-1)
	defer r.working.Add(1)
	f()
}

// acquire leases, and rests while it waits.
func (r *run) acquire(ctx context.Context, req memory.Request) (l *memory.Lease, err error) {
	r.rest(func() { l, err = r.host.Acquire(ctx, req) })
	return l, err
}

// unstick watches for a run in which somebody waits for room and nothing moves.
func (r *run) unstick(nodes []*node, stop <-chan struct{}) {
	tick := time.NewTicker(stuckTick)
	defer tick.Stop()
	last, since := int64(-1), time.Now() // of the last movement
	hopeless := since                    // of the last movement or parking
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		moved := r.src.out.Load()
		for _, n := range nodes {
			moved += n.counters.in.Load() + n.calls.Load()
		}
		u := r.host.Usage()
		if moved != last || r.working.Load() > 0 || u.Waiting == 0 || r.paused.Load() > 0 || r.standsStill() {
			last, since = moved, time.Now()
			hopeless = since
			continue
		}
		if time.Since(since) < stuckAfter {
			continue
		}
		if r.makeRoom(nodes) {
			hopeless = time.Now()
			continue
		}
		wait := refuseAfter
		if u.Limit < u.Ceiling {
			wait = patience
		}
		if time.Since(hopeless) >= wait {
			if holder, ok := r.host.Refuse(); ok {
				r.event(EventRefused, holder, "", "waited for memory that nobody can give back")
			}
			hopeless = time.Now()
		}
	}
}

// makeRoom parks what waits until the first in line has what it lacks. It reports
// whether it changed anything, or somebody was at work.
func (r *run) makeRoom(nodes []*node) bool {
	_, lacks, ok := r.host.First()
	return !ok || r.park(nodes, lacks)
}

// park takes waiting pictures out of memory until so many bytes are free: the
// most upstream first, and what can be decoded again before what must be written
// to disk. It reports whether it changed anything, or somebody was at work.
func (r *run) park(nodes []*node, bytes int64) bool {
	var pictures []*buffer
	for _, n := range nodes {
		pictures = n.in.pictures(pictures)
	}
	pictures = r.idle.all(pictures)
	changed := false
	for _, way := range []struct {
		keep func(image.Image) (*spill, error)
		text string
	}{{nil, "dropped, to be decoded again"}, {r.spill, "written to disk"}} {
		var freed int64
		for _, b := range pictures {
			if freed >= bytes {
				break
			}
			res := b.park(way.keep)
			if res.err != nil {
				r.warnOnce("spill", "writing waiting pictures to disk, to make room in memory: %v", res.err)
			}
			changed = changed || res.busy || res.freed > 0
			freed += res.freed
			r.countParked(res, way.keep != nil)
		}
		if freed > 0 {
			r.event(EventParked, "", "", fmt.Sprintf("%s of waiting pictures were %s", memory.FormatBytes(freed), way.text))
		}
		if bytes -= freed; bytes <= 0 {
			return true
		}
	}
	return changed
}

// countParked takes in that a picture has left memory.
func (r *run) countParked(res parkResult, spilled bool) {
	switch {
	case !res.decoded:
		return
	case spilled:
		r.spilled.Add(res.freed)
	default:
		r.dropped.Add(res.freed)
	}
	r.parkedPictures.Add(1)
}

// spill is a picture's samples in a file.
type spill struct {
	dir  fsys.Root
	name string
}

// spill writes a picture down, to be read again.
func (r *run) spill(img image.Image) (*spill, error) {
	dir, err := r.scratch()
	if err != nil {
		return nil, err
	}
	s := &spill{dir: dir, name: fmt.Sprintf("spilled-%d.pixels", r.spills.Add(1))}
	if err := s.write(img); err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

func (s *spill) write(img image.Image) error {
	f, err := s.dir.Create(s.name)
	if err != nil {
		return err
	}
	err = imageio.WriteRaw(f, img)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func (s *spill) read() (image.Image, error) {
	f, err := s.dir.Open(s.name)
	if err != nil {
		return nil, fmt.Errorf("reading spilled pixels: %w", err)
	}
	defer f.Close()
	img, err := imageio.ReadRaw(io.Reader(f))
	if err != nil {
		return nil, fmt.Errorf("reading spilled pixels: %w", err)
	}
	return img, nil
}

func (s *spill) remove() { _ = s.dir.Remove(s.name) }
