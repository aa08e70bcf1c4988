package runstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// States in which a run finishes.
const (
	Done        = "done"
	Interrupted = "interrupted"
	Broken      = "failed"
)

// A Run is one run over the store.
type Run struct {
	Fingerprint string
	Version     string
	Spec        string
	Started     time.Time
}

// Recovery says what Open found of the run before.
type Recovery struct {
	Crashed  bool // it did not Finish; Intended tells which rows are in doubt
	Rebooted bool // the machine went down since; Unsynced tells which files to verify
}

// Recovery says what Open found of the run before.
func (s *Store) Recovery() Recovery { return s.recovery }

// recover works out what the run before left in doubt and stores it together
// with the new boot ID: when this run is killed too, the next one must still
// know which files were never verified.
func (s *Store) recover(ctx context.Context, boot string) error {
	_, finished, _, ok, err := s.LastRun(ctx)
	if err != nil {
		return err
	}
	st := s.opened
	s.recovery.Crashed = ok && finished == ""
	changed := st.boot != boot || boot == ""
	if known := st.boot != "" || st.seq > 0; changed && known {
		s.recovery.Rebooted = true
		for _, r := range st.unsynced {
			st.suspect.add(r.from, r.to)
		}
		st.suspect.add(st.synced+1, st.seq)
	}
	s.recovery.Rebooted = s.recovery.Rebooted || len(st.suspect) > 0
	st.boot = boot
	s.opened.suspect = st.suspect.upTo(st.seq)
	s.opened.unsettled = st.unsettled.upTo(st.seq)

	s.state, s.seq, s.lastSource = st, st.seq, st.lastSource
	s.startSeeing()
	if !changed {
		return nil
	}
	return s.commit(ctx, &group{durable: true, seq: st.seq, lastSource: st.lastSource})
}

// Begin records that a run has begun.
func (s *Store) Begin(ctx context.Context, run Run) error {
	return s.do(ctx, func(ctx context.Context, c *change) error {
		err := c.run(ctx, "INSERT INTO runs (fingerprint, version, spec, started) VALUES (?, ?, ?, ?)",
			run.Fingerprint, run.Version, run.Spec, run.Started.UnixNano())
		if err == nil {
			err = c.conn.QueryRowContext(ctx, "SELECT last_insert_rowid()").Scan(&c.runID)
		}
		if err != nil {
			return fmt.Errorf("recording the begin of the run: %w", err)
		}
		return nil
	})
}

// Finish records how the run that Begin began has ended: Done, Interrupted or
// Broken. A run is Done when it has looked at every row it wants and every file
// in doubt, and has called Checkpoint; so no row is Unsynced after it.
func (s *Store) Finish(ctx context.Context, state string, summary []byte) error {
	return s.do(ctx, func(ctx context.Context, c *change) error {
		id := c.runID
		if id == 0 {
			s.mu.Lock()
			id = s.run
			s.mu.Unlock()
		}
		if id == 0 {
			return errors.New("BUG: finishing a run that did not begin")
		}
		if err := c.run(ctx, "UPDATE runs SET state = ?, summary = ? WHERE id = ?", state, summary, id); err != nil {
			return fmt.Errorf("recording the end of the run: %w", err)
		}
		if state == Done {
			c.next.suspect = nil
		}
		return nil
	})
}

// LastRun returns the run that began last, with the state and summary that
// Finish was given; the state is empty when it was not called.
func (s *Store) LastRun(ctx context.Context) (run Run, state string, summary []byte, ok bool, err error) {
	var started int64
	err = s.db.QueryRowContext(ctx, "SELECT fingerprint, version, spec, started, state, summary FROM runs ORDER BY id DESC LIMIT 1").
		Scan(&run.Fingerprint, &run.Version, &run.Spec, &started, &state, &summary)
	if errors.Is(err, sql.ErrNoRows) {
		return Run{}, "", nil, false, nil
	}
	if err != nil {
		return Run{}, "", nil, false, fmt.Errorf("reading the last run: %w", err)
	}
	run.Started = time.Unix(0, started)
	return run, state, summary, true, nil
}

// Intended tells whether the file of a row read from the store is in doubt: a
// run before intended to write it and did not say that it had, so that the file
// may be there, half way or not, and may be replaced. Settled, rewriting the row
// and deleting it end the doubt for later runs.
func (s *Store) Intended(d Decision) bool { return s.opened.unsettled.has(d.Seq) }

// Unsynced tells whether the file of a row read from the store may have been
// lost with the machine: it went down before a Checkpoint covered the row, and
// no run has finished since. The file must be verified by its hash.
func (s *Store) Unsynced(d Decision) bool { return s.opened.suspect.has(d.Seq) }

// Checkpoint commits, calls syncfs, which must put the output folders on disk,
// and records that everything settled before is on disk.
func (s *Store) Checkpoint(ctx context.Context, syncfs func() error) error {
	if err := s.flush(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	synced := s.state.seq
	unsynced := s.state.unsettled.upTo(synced) // renamed perhaps only after syncfs
	s.mu.Unlock()
	if err := syncfs(); err != nil {
		return fmt.Errorf("syncing the outputs: %w", err)
	}
	return s.do(ctx, func(_ context.Context, c *change) error {
		c.next.synced, c.next.unsynced = synced, unsynced
		return nil
	})
}
