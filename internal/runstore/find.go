package runstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// What follows is for who looks at a store, perhaps beside a run that writes it.
// Every statement reads a bounded part, so that no read transaction lasts: see
// pageRows.

// Query says which decisions Find yields. The zero value wants all.
type Query struct {
	Kind   Kind   // 0: of every kind
	Prefix string // the source's path begins with it
}

const (
	findSources = 32   // sources that Find reads with their decisions at once
	rangeIDs    = 1024 // source IDs that one statement over decisions covers
)

// Find yields the sources with their decisions that the query wants, by lineage
// and stage: by path where there is a prefix, by ID otherwise. A source without
// any decision is yielded when decisions of every kind are wanted. An error of
// yield ends the walk and is returned.
func (s *Store) Find(ctx context.Context, q Query, yield func(Source, []Decision) error) error {
	switch {
	case q.Prefix != "":
		return s.findByPath(ctx, q, yield)
	case q.Kind != 0:
		return s.findByKind(ctx, q.Kind, yield)
	}
	return s.findAll(ctx, yield)
}

func (s *Store) findByPath(ctx context.Context, q Query, yield func(Source, []Decision) error) error {
	for after, first := q.Prefix, true; ; first = false {
		page, err := s.sourcesWith(ctx, q.Prefix, after, first)
		if err != nil {
			return fmt.Errorf("reading sources: %w", err)
		}
		for _, src := range page {
			after = src.Path
			raw, err := collect(s.decisionsOf.QueryContext(ctx, src.ID))
			if err != nil {
				return fmt.Errorf("reading the decisions of %q: %w", src.Path, err)
			}
			if q.Kind != 0 {
				raw = slices.DeleteFunc(raw, func(r rawDecision) bool { return r.Kind != q.Kind })
				if len(raw) == 0 {
					continue
				}
			}
			if err := s.yieldFound(ctx, src, raw, yield); err != nil {
				return err
			}
		}
		if len(page) < findSources {
			return nil
		}
	}
}

// sourcesWith are the next sources whose path begins with prefix, by path.
func (s *Store) sourcesWith(ctx context.Context, prefix, after string, first bool) ([]Source, error) {
	from := " WHERE path > ?"
	if first {
		from = " WHERE path >= ?"
	}
	args := []any{after}
	if end := prefixEnd(prefix); end != "" {
		from += " AND path < ?"
		args = append(args, end)
	}
	return collectSources(s.db.QueryContext(ctx, selectSource+from+" ORDER BY path LIMIT ?", append(args, findSources)...))
}

// prefixEnd is the least text that is more than every text with the prefix;
// empty when there is none.
func prefixEnd(prefix string) string {
	b := []byte(prefix)
	for len(b) > 0 && b[len(b)-1] == 0xff {
		b = b[:len(b)-1]
	}
	if len(b) == 0 {
		return ""
	}
	b[len(b)-1]++
	return string(b)
}

func (s *Store) findByKind(ctx context.Context, kind Kind, yield func(Source, []Decision) error) error {
	last, err := s.lastID(ctx)
	if err != nil {
		return err
	}
	for id := int64(0); id <= last; id += rangeIDs {
		raw, err := collect(s.db.QueryContext(ctx, selectDecision+
			" WHERE source >= ? AND source < ? AND kind = ? ORDER BY source", id, id+rangeIDs, kind-1))
		if err != nil {
			return fmt.Errorf("reading decisions: %w", err)
		}
		for len(raw) > 0 {
			n := 1
			for n < len(raw) && raw[n].Source == raw[0].Source {
				n++
			}
			src, err := scanSource(s.sourceByID.QueryRowContext(ctx, raw[0].Source))
			if err != nil && !errors.Is(err, sql.ErrNoRows) { // deleted meanwhile
				return fmt.Errorf("reading source %d: %w", raw[0].Source, err)
			}
			if err == nil {
				if err := s.yieldFound(ctx, src, raw[:n], yield); err != nil {
					return err
				}
			}
			raw = raw[n:]
		}
	}
	return nil
}

func (s *Store) findAll(ctx context.Context, yield func(Source, []Decision) error) error {
	for next := int64(0); ; {
		page, err := s.sourcesAfter(ctx, next, findSources)
		if err != nil {
			return fmt.Errorf("reading sources: %w", err)
		}
		if len(page) == 0 {
			return nil
		}
		next = page[len(page)-1].ID
		raw, err := collect(s.db.QueryContext(ctx, selectDecision+
			" WHERE source >= ? AND source <= ? ORDER BY source", page[0].ID, next))
		if err != nil {
			return fmt.Errorf("reading decisions: %w", err)
		}
		for _, src := range page {
			// Those of the source before, and of one that came or went between the
			// two statements, are passed over.
			for len(raw) > 0 && raw[0].Source < src.ID {
				raw = raw[1:]
			}
			n := 0
			for n < len(raw) && raw[n].Source == src.ID {
				n++
			}
			if err := s.yieldFound(ctx, src, raw[:n], yield); err != nil {
				return err
			}
		}
	}
}

func (s *Store) yieldFound(ctx context.Context, src Source, raw []rawDecision, yield func(Source, []Decision) error) error {
	decisions, err := s.decodeAll(ctx, raw)
	if err != nil {
		return err
	}
	return yield(src, decisions)
}

func (s *Store) lastID(ctx context.Context) (last int64, err error) {
	if err := s.db.QueryRowContext(ctx, "SELECT coalesce(max(id), 0) FROM sources").Scan(&last); err != nil {
		return 0, fmt.Errorf("reading the last source: %w", err)
	}
	return last, nil
}

// A Tally is how many decisions of a kind there are in a stage.
type Tally struct {
	Stage string
	Kind  Kind
	N     int64
}

// Tallies counts the decisions by stage and kind, and the sources that have none:
// but for one with an empty path, and those whose path begins with without.
func (s *Store) Tallies(ctx context.Context, without string) (all []Tally, bare int64, err error) {
	last, err := s.lastID(ctx)
	if err != nil {
		return nil, 0, err
	}
	type key struct {
		stage int64
		kind  Kind
	}
	sums := map[key]int64{}
	for id := int64(0); id <= last; id += rangeIDs {
		if err := s.tallyRange(ctx, id, func(stage int64, kind Kind, n int64) { sums[key{stage, kind}] += n }); err != nil {
			return nil, 0, fmt.Errorf("counting decisions: %w", err)
		}
		var n int64
		err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM sources s WHERE id >= ? AND id < ? AND path <> '' AND NOT (path >= ? AND path < ?)
			AND NOT EXISTS (SELECT 1 FROM decisions WHERE source = s.id)`, id, id+rangeIDs, without, prefixEnd(without)).Scan(&n)
		if err != nil {
			return nil, 0, fmt.Errorf("counting sources: %w", err)
		}
		bare += n
	}
	for k, n := range sums {
		name, err := s.name(ctx, k.stage)
		if err != nil {
			return nil, 0, fmt.Errorf("counting decisions: %w", err)
		}
		all = append(all, Tally{name, k.kind, n})
	}
	return all, bare, nil
}

func (s *Store) tallyRange(ctx context.Context, id int64, add func(stage int64, kind Kind, n int64)) error {
	rows, err := s.db.QueryContext(ctx, "SELECT stage, kind, count(*) FROM decisions WHERE source >= ? AND source < ? GROUP BY stage, kind", id, id+rangeIDs)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var stage, n int64
		var kind Kind
		if err := rows.Scan(&stage, &kind, &n); err != nil {
			return err
		}
		add(stage, kind+1, n)
	}
	return rows.Err()
}

// Names are the stages and the heads of lineages that the store has met, also of
// rows that are gone.
func (s *Store) Names(ctx context.Context) (all []string, err error) {
	if err := s.names.load(ctx, s.db); err != nil {
		return nil, err
	}
	s.names.mu.RLock()
	defer s.names.mu.RUnlock()
	for name := range s.names.byName {
		all = append(all, name)
	}
	slices.Sort(all)
	return all, nil
}

// RunBegun returns the number of the run that began from from on and before to,
// and the summary that Finish was given.
func (s *Store) RunBegun(ctx context.Context, from, to time.Time) (id int64, summary []byte, ok bool, err error) {
	err = s.db.QueryRowContext(ctx, "SELECT id, summary FROM runs WHERE started >= ? AND started < ? ORDER BY id DESC LIMIT 1", from.UnixNano(), to.UnixNano()).Scan(&id, &summary)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil, false, nil
	}
	if err != nil {
		return 0, nil, false, fmt.Errorf("reading a run: %w", err)
	}
	return id, summary, true, nil
}

// InUse tells whether a process has the store in dir open for writing. A process
// that opens it in that very moment waits a little: see lock.
func InUse(dir string) (bool, error) {
	_, name := files(dir)
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("opening the lock file: %w", err)
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking at the lock %s: %w", name, err)
	}
	return false, nil
}

// tryLock takes the lock of a file. It tries again for a moment, because who only
// asks whether the lock is taken has it while they ask.
func tryLock(f *os.File) (err error) {
	for range 5 {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		time.Sleep(4 * time.Millisecond)
	}
	return err
}
