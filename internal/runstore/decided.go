package runstore

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Decided is something that the governor of memory has decided in a run.
type Decided struct {
	Time time.Time
	Data []byte // JSON
}

// keptRuns is of how many runs what was decided is kept.
const keptRuns = 20

// Decide records what was decided in the run that Begin began, and forgets that of
// runs long ago.
func (s *Store) Decide(ctx context.Context, all []Decided) error {
	if len(all) == 0 {
		return nil
	}
	s.mu.Lock()
	id := s.run
	s.mu.Unlock()
	if id == 0 {
		return errors.New("BUG: recording decisions of a run that did not begin")
	}
	return s.do(ctx, func(ctx context.Context, c *change) error {
		for _, d := range all {
			if err := c.run(ctx, "INSERT INTO decided (run, at, data) VALUES (?, ?, ?)", id, d.Time.UnixNano(), d.Data); err != nil {
				return fmt.Errorf("recording what the governor decided: %w", err)
			}
		}
		if err := c.run(ctx, "DELETE FROM decided WHERE run <= ?", id-keptRuns); err != nil {
			return fmt.Errorf("forgetting what the governor decided long ago: %w", err)
		}
		return nil
	})
}

// LastDecided yields what was decided in the run that began last, in order.
func (s *Store) LastDecided(ctx context.Context, yield func(Decided) error) error {
	if s.version < 2 { // it is only read, and older than this
		return nil
	}
	rows, err := s.db.QueryContext(ctx, "SELECT at, data FROM decided WHERE run = (SELECT max(id) FROM runs) ORDER BY rowid")
	if err != nil {
		return fmt.Errorf("reading what the governor decided: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var d Decided
		var at int64
		if err := rows.Scan(&at, &d.Data); err != nil {
			return fmt.Errorf("reading what the governor decided: %w", err)
		}
		d.Time = time.Unix(0, at)
		if err := yield(d); err != nil {
			return err
		}
	}
	return rows.Err()
}
