package runstore

import (
	"context"
	"fmt"
)

// seen marks which of the rows that were there at Open are still wanted. What is
// replaced or deleted is marked too, so that missing counts the unwanted rows
// without looking at the table. Rows written since Open have higher numbers and
// are wanted anyway.
type seen struct {
	bits    []uint64 // one per sequence number or ID up to limit; 12.5 MB for 10^8
	limit   int64
	missing int64 // rows at Open that are not marked
}

func (s *seen) has(n int64) bool {
	if n < 1 || n > s.limit {
		return true
	}
	return s.bits != nil && s.bits[n/64]&(1<<(n%64)) != 0
}

func (s *seen) mark(n int64) {
	if s.has(n) {
		return
	}
	if s.bits == nil {
		s.bits = make([]uint64, s.limit/64+1)
	}
	s.bits[n/64] |= 1 << (n % 64)
	s.missing--
}

// startSeeing begins with every row that was there at Open unseen.
func (s *Store) startSeeing() {
	s.seenRows = seen{limit: s.opened.seq, missing: s.opened.rows()}
	s.seenFiles = seen{limit: s.opened.lastSource, missing: s.opened.sources}
}

// Seen reports whether this run has seen or written the row.
func (s *Store) Seen(d Decision) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seenRows.has(d.Seq)
}

// See says that this run still wants a row that it read from the store.
func (s *Store) See(d Decision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seenRows.mark(d.Seq)
}

// SeeSource says that this run still wants a source that it read from the store.
func (s *Store) SeeSource(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seenFiles.mark(id)
}

// Unseen yields the rows from before Open that were neither seen nor rewritten,
// by source ID, lineage and stage. The table is only read when there are any.
// yield may call every method of the store; an error of it ends the walk and is
// returned.
func (s *Store) Unseen(ctx context.Context, yield func(Source, Decision) error) error {
	if missing, err := s.missing(ctx, &s.seenRows); err != nil || missing == 0 {
		return err
	}
	return s.walk(ctx, func(seq int64) bool { return s.unseen(&s.seenRows, seq) }, yield)
}

// UnseenSources yields the sources from before Open that were neither seen nor
// put again, by ID. Deleting one deletes its decisions.
func (s *Store) UnseenSources(ctx context.Context, yield func(Source) error) error {
	if missing, err := s.missing(ctx, &s.seenFiles); err != nil || missing == 0 {
		return err
	}
	return s.walkSources(ctx, func(src Source) error {
		if !s.unseen(&s.seenFiles, src.ID) {
			return nil
		}
		return yield(src)
	})
}

func (s *Store) unseen(in *seen, n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !in.has(n)
}

func (s *Store) missing(ctx context.Context, in *seen) (int64, error) {
	if err := s.flush(ctx); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.missing < 0 {
		return 0, fmt.Errorf("BUG: %d more rows were seen than the store held", -in.missing)
	}
	return in.missing, nil
}
