package runstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

const (
	groupRows  = 4096                   // this many rows waiting are committed at once
	groupDelay = 200 * time.Millisecond // fewer wait this long
	queueRows  = 16 * groupRows         // beyond this callers wait for the committer
)

// A group is what the next commit takes: everything that waits.
type group struct {
	size    int // rows and sources
	durable bool
	sources []put
	rows    []Decision
	ops     []func(context.Context, *change) error
	waiters []chan<- error

	seq, lastSource int64 // the highest given out when the group was taken
}

type put struct {
	Source
	fresh bool
}

// enqueue lets fill, which runs with s.mu held, add up to n rows to the queue.
// It waits while the committer is far behind.
func (s *Store) enqueue(n int, urgent bool, fill func(*group)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil && s.queue.size > 0 && s.queue.size+n > queueRows {
		s.room.Wait()
	}
	if s.err != nil {
		return s.err
	}
	fill(s.queue)
	s.queue.size += n
	poke(s.pending)
	if urgent || s.queue.size >= groupRows {
		poke(s.urgent)
	}
	return nil
}

// enqueueAndWait is enqueue and returns when what was added is committed.
func (s *Store) enqueueAndWait(ctx context.Context, n int, fill func(*group)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	committed := make(chan error, 1)
	err := s.enqueue(n, true, func(g *group) {
		fill(g)
		g.waiters = append(g.waiters, committed)
	})
	if err != nil {
		return err
	}
	select {
	case err := <-committed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// poke leaves a token unless there is one.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// flush returns when everything taken in before is committed.
func (s *Store) flush(ctx context.Context) error {
	if s.writer == nil {
		return ctx.Err()
	}
	return s.enqueueAndWait(ctx, 0, func(*group) {})
}

// do runs op in a durable commit, behind everything taken in before.
func (s *Store) do(ctx context.Context, op func(context.Context, *change) error) error {
	return s.enqueueAndWait(ctx, 0, func(g *group) {
		g.durable = true
		g.ops = append(g.ops, op)
	})
}

func (s *Store) takeIn(g *group, decisions []Decision) {
	for i := range decisions {
		s.seq++
		decisions[i].Seq = s.seq
	}
	g.rows = append(g.rows, decisions...)
}

func checkKinds(decisions []Decision) error {
	for i := range decisions {
		if k := decisions[i].Kind; k == 0 || int(k) >= kinds {
			return fmt.Errorf("BUG: a decision on source %d has no known kind: %s", decisions[i].Source, k)
		}
	}
	return nil
}

// Append takes decisions in, to be committed within a fraction of a second, and
// sets their Seq. It waits only while the committer is far behind. It returns
// the error of the first commit that failed, in this call and every later one.
// A Written row must be appended after its file is in place; Detail must not be
// changed afterwards.
func (s *Store) Append(decisions []Decision) error {
	if err := checkKinds(decisions); err != nil {
		return err
	}
	return s.enqueue(len(decisions), false, func(g *group) { s.takeIn(g, decisions) })
}

// Intend is Append for files that are about to be renamed into place: it returns
// when the rows would survive a power cut. Until Settled is told of a row, a
// later Open finds it Intended. When ctx ends the wait, the rows may be stored
// or not.
func (s *Store) Intend(ctx context.Context, decisions []Decision) error {
	if err := checkKinds(decisions); err != nil {
		return err
	}
	return s.enqueueAndWait(ctx, len(decisions), func(g *group) {
		g.durable = true
		s.takeIn(g, decisions)
		if n := len(decisions); n > 0 {
			s.state.unsettled.add(decisions[0].Seq, decisions[n-1].Seq)
		}
	})
}

// PutSource takes in what is known of a source, to be committed with the next
// group. A source without an ID gets one: that of the row with its path, or else
// a new one.
func (s *Store) PutSource(src *Source) error {
	s.putting.Lock()
	defer s.putting.Unlock()
	if src.ID == 0 {
		id, err := s.sourceID(src.Path)
		if err != nil {
			return err
		}
		src.ID = id
	}
	id := src.ID
	err := s.enqueue(1, false, func(g *group) {
		fresh := id == 0
		if fresh {
			s.lastSource++
			id = s.lastSource
		}
		p := put{Source: *src, fresh: fresh}
		p.ID = id
		g.sources = append(g.sources, p)
		s.uncommitted[src.Path] = id
		s.seenFiles.mark(id)
	})
	if err != nil {
		return err
	}
	src.ID = id
	return nil
}

// sourceID returns the ID of a path that was taken in, 0 if none was.
func (s *Store) sourceID(path string) (int64, error) {
	s.mu.Lock()
	id, ok := s.uncommitted[path]
	err := s.err
	s.mu.Unlock()
	if ok || err != nil {
		return id, err
	}
	src, err := scanSource(s.sourceByPath.QueryRow(path))
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("looking up source %q: %w", path, err)
	}
	return src.ID, nil
}

// Settled says that the files of these rows are in place and whole: the renames
// of intended rows have happened, or a file in doubt was found to be right.
func (s *Store) Settled(seqs ...int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seq := range seqs {
		s.state.unsettled.remove(seq)
		s.state.suspect.remove(seq)
	}
}

// Delete removes rows that were read from the store. A row that was rewritten
// meanwhile stays.
func (s *Store) Delete(ctx context.Context, decisions []Decision) error {
	return s.do(ctx, func(ctx context.Context, c *change) error { return c.deleteRows(ctx, decisions) })
}

// DeleteSources removes sources and all their decisions.
func (s *Store) DeleteSources(ctx context.Context, ids []int64) error {
	return s.do(ctx, func(ctx context.Context, c *change) error { return c.deleteSources(ctx, ids) })
}

// commitLoop commits what waits until Close, or until a commit fails.
func (s *Store) commitLoop(ctx context.Context) {
	defer close(s.done)
	for closing := false; !closing; {
		closing = s.await()
		g := s.take()
		err := s.commit(ctx, g)
		if err != nil {
			err = fmt.Errorf("committing to the run store: %w", err)
			s.fail(err)
		}
		for _, w := range g.waiters {
			w <- err
		}
		if err != nil {
			return
		}
	}
}

// await returns when a commit is due; true when it is the last.
func (s *Store) await() (closing bool) {
	select {
	case <-s.pending:
	case <-s.stop:
		return true
	}
	delay := time.NewTimer(groupDelay)
	defer delay.Stop()
	select {
	case <-s.urgent:
	case <-delay.C:
	case <-s.stop:
		return true
	}
	return false
}

func (s *Store) take() *group {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.queue
	g.seq, g.lastSource = s.seq, s.lastSource
	s.queue = &group{}
	s.room.Broadcast()
	return g
}

// fail refuses everything from now on, and what waits.
func (s *Store) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.failure = err, err
	for _, w := range s.queue.waiters {
		w <- err
	}
	s.queue = &group{}
	s.room.Broadcast()
}
