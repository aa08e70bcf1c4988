package runstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
)

const (
	selectSource   = "SELECT id, path, size, mtime, hash, header FROM sources"
	selectDecision = "SELECT source, lineage, stage, kind, seq, data FROM decisions"

	// pageRows is how many rows a walk reads at once. It reads page by page so
	// that it never holds a read transaction while its caller works: that would
	// keep the log from being folded in, and without one would stop the committer.
	pageRows = 4096
)

type scanner interface{ Scan(dest ...any) error }

func scanSource(row scanner) (src Source, err error) {
	var hash []byte
	if err := row.Scan(&src.ID, &src.Path, &src.Size, &src.MTime, &hash, &src.Header); err != nil {
		return Source{}, err
	}
	if len(hash) != len(src.Hash) {
		return Source{}, fmt.Errorf("the hash of source %d has %d bytes", src.ID, len(hash))
	}
	copy(src.Hash[:], hash)
	return src, nil
}

// rawDecision is a decision whose lineage and stage are not yet in words.
type rawDecision struct {
	Decision
	lineage []byte
	stage   int64
}

func scanDecision(row scanner) (r rawDecision, err error) {
	var data []byte
	if err := row.Scan(&r.Source, &r.lineage, &r.stage, &r.Kind, &r.Seq, &data); err != nil {
		return r, err
	}
	r.Kind++
	if r.Kind == 0 || int(r.Kind) >= kinds {
		return r, fmt.Errorf("row %d is of %s", r.Seq, r.Kind)
	}
	if err := r.setData(data); err != nil {
		return r, fmt.Errorf("reading row %d: %w", r.Seq, err)
	}
	return r, nil
}

func (s *Store) decode(ctx context.Context, r *rawDecision) (err error) {
	if r.Stage, err = s.name(ctx, r.stage); err != nil {
		return fmt.Errorf("reading the stage of row %d: %w", r.Seq, err)
	}
	r.Lineage, err = unpackLineage(r.lineage, func(id int64) (string, error) { return s.name(ctx, id) })
	if err != nil {
		return fmt.Errorf("reading the lineage of row %d: %w", r.Seq, err)
	}
	return nil
}

// decodeAll puts the rows of one source in words and in order of lineage and
// stage: as stored they are in the order in which the words were first met.
func (s *Store) decodeAll(ctx context.Context, raw []rawDecision) ([]Decision, error) {
	decisions := make([]Decision, len(raw))
	for i := range raw {
		if err := s.decode(ctx, &raw[i]); err != nil {
			return nil, err
		}
		decisions[i] = raw[i].Decision
	}
	slices.SortFunc(decisions, func(a, b Decision) int {
		return cmp.Or(cmp.Compare(a.Lineage, b.Lineage), cmp.Compare(a.Stage, b.Stage))
	})
	return decisions, nil
}

// Source returns what was committed of the source with this path, with its
// decisions by lineage and stage; ok tells whether there is one. A store that
// was empty at Open always answers no, at once.
func (s *Store) Source(ctx context.Context, path string) (src Source, decisions []Decision, ok bool, err error) {
	if s.writer != nil && s.opened.sources == 0 {
		return Source{}, nil, false, nil
	}
	src, err = scanSource(s.sourceByPath.QueryRowContext(ctx, path))
	if errors.Is(err, sql.ErrNoRows) {
		return Source{}, nil, false, nil
	}
	if err != nil {
		return Source{}, nil, false, fmt.Errorf("reading source %q: %w", path, err)
	}
	raw, err := collect(s.decisionsOf.QueryContext(ctx, src.ID))
	if err == nil {
		decisions, err = s.decodeAll(ctx, raw)
	}
	if err != nil {
		return Source{}, nil, false, fmt.Errorf("reading the decisions of %q: %w", path, err)
	}
	return src, decisions, true, nil
}

func collect(rows *sql.Rows, err error) ([]rawDecision, error) {
	return collectRows(rows, err, scanDecision)
}

func collectSources(rows *sql.Rows, err error) ([]Source, error) {
	return collectRows(rows, err, scanSource)
}

// collectRows reads what a query gave, whole.
func collectRows[T any](rows *sql.Rows, err error, scan func(scanner) (T, error)) (all []T, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// Decisions yields every decision with its source, by source ID, lineage and
// stage. An error of yield ends the walk and is returned.
func (s *Store) Decisions(ctx context.Context, yield func(Source, Decision) error) error {
	if err := s.flush(ctx); err != nil {
		return err
	}
	return s.walk(ctx, func(int64) bool { return true }, yield)
}

// walk yields the rows that keep wants. It holds the rows of one source at a
// time.
func (s *Store) walk(ctx context.Context, keep func(seq int64) bool, yield func(Source, Decision) error) error {
	next := rawDecision{lineage: []byte{}} // before all rows
	var held []rawDecision
	for {
		page, err := collect(s.db.QueryContext(ctx, selectDecision+
			" WHERE (source, lineage, stage) > (?, ?, ?) ORDER BY source, lineage, stage LIMIT ?",
			next.Source, next.lineage, next.stage, pageRows))
		if err != nil {
			return fmt.Errorf("reading decisions: %w", err)
		}
		for _, r := range page {
			if len(held) > 0 && held[0].Source != r.Source {
				if err := s.yieldAll(ctx, held, yield); err != nil {
					return err
				}
				held = held[:0]
			}
			if keep(r.Seq) {
				held = append(held, r)
			}
		}
		if len(page) < pageRows {
			return s.yieldAll(ctx, held, yield)
		}
		next = page[len(page)-1]
	}
}

// yieldAll yields the rows of one source.
func (s *Store) yieldAll(ctx context.Context, raw []rawDecision, yield func(Source, Decision) error) error {
	if len(raw) == 0 {
		return nil
	}
	src, err := scanSource(s.sourceByID.QueryRowContext(ctx, raw[0].Source))
	if err != nil {
		return fmt.Errorf("reading source %d: %w", raw[0].Source, err)
	}
	decisions, err := s.decodeAll(ctx, raw)
	if err != nil {
		return err
	}
	for _, d := range decisions {
		if err := yield(src, d); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) walkSources(ctx context.Context, yield func(Source) error) error {
	for next := int64(0); ; {
		page, err := s.sourcesAfter(ctx, next, pageRows)
		if err != nil {
			return fmt.Errorf("reading sources: %w", err)
		}
		for _, src := range page {
			if err := yield(src); err != nil {
				return err
			}
		}
		if len(page) < pageRows {
			return nil
		}
		next = page[len(page)-1].ID
	}
}

// sourcesAfter are the next so many sources, by ID.
func (s *Store) sourcesAfter(ctx context.Context, id int64, many int) ([]Source, error) {
	return collectSources(s.db.QueryContext(ctx, selectSource+" WHERE id > ? ORDER BY id LIMIT ?", id, many))
}
