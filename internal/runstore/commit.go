package runstore

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// rowsPerInsert is how many rows one statement inserts: one call per row takes
// twice as long, and more than this gain nothing.
const rowsPerInsert = 64

const insertDecision = "INSERT INTO decisions (source, lineage, stage, kind, seq, data) VALUES "

// A writer is the one connection that writes. Only the committer uses it.
type writer struct {
	db     *sql.DB
	conn   *sql.Conn
	before func(op string) error
	wal    bool
	full   bool // PRAGMA synchronous is FULL, else NORMAL

	insertOne, insertMany, upsertOne, upsertMany, selectRow, deleteRow, deleteOf,
	insertSource, updateSource, deleteSource, insertName, saveState *sql.Stmt
}

// openWriter opens the file, creating the schema when it is new.
func openWriter(ctx context.Context, path string, wal bool, before func(string) error) (_ *writer, err error) {
	journal := "journal_mode(delete)"
	if wal {
		journal = "journal_mode(wal)"
	}
	db, err := sql.Open("sqlite", dataSource(path, url.Values{"mode": {"rwc"}},
		journal, "synchronous(full)", "cache_size(-2000)", "wal_autocheckpoint(1000)"))
	if err != nil {
		return nil, err
	}
	w := &writer{db: db, before: before, wal: wal, full: true}
	defer func() {
		if err != nil {
			_ = w.close()
		}
	}()
	if w.conn, err = db.Conn(ctx); err != nil {
		return nil, err
	}
	version, err := readVersion(ctx, db)
	if err != nil {
		return nil, err
	}
	if version < schemaVersion {
		if err := w.makeTables(ctx, version); err != nil {
			return nil, fmt.Errorf("creating the tables: %w", err)
		}
	}
	one := "(?,?,?,?,?,?)"
	many := one + strings.Repeat(","+one, rowsPerInsert-1)
	ignore := " ON CONFLICT DO NOTHING"
	replace := " ON CONFLICT DO UPDATE SET kind = excluded.kind, seq = excluded.seq, data = excluded.data"
	key := " WHERE source = ? AND lineage = ? AND stage = ?"
	for stmt, text := range map[**sql.Stmt]string{
		&w.insertOne:    insertDecision + one + ignore,
		&w.insertMany:   insertDecision + many + ignore,
		&w.upsertOne:    insertDecision + one + replace,
		&w.upsertMany:   insertDecision + many + replace,
		&w.selectRow:    "SELECT seq, kind FROM decisions" + key,
		&w.deleteRow:    "DELETE FROM decisions" + key + " AND seq = ?",
		&w.deleteOf:     "DELETE FROM decisions WHERE source = ? RETURNING seq, kind",
		&w.insertSource: "INSERT INTO sources (path, size, mtime, hash, header, id) VALUES " + one,
		&w.updateSource: "UPDATE sources SET path = ?, size = ?, mtime = ?, hash = ?, header = ? WHERE id = ?",
		&w.deleteSource: "DELETE FROM sources WHERE id = ?",
		&w.insertName:   "INSERT INTO names (id, name) VALUES (?, ?)",
		&w.saveState:    updateState,
	} {
		if *stmt, err = w.conn.PrepareContext(ctx, text); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// makeTables makes an empty file, or one of an older version, a store of this one.
func (w *writer) makeTables(ctx context.Context, version int) error {
	if err := w.begin(ctx, true); err != nil {
		return err
	}
	make := schema
	if version > 0 {
		make = strings.Join(upgrades[version-1:], "")
	}
	if err := w.run(ctx, make+fmt.Sprintf("PRAGMA user_version = %d", schemaVersion)); err != nil {
		return w.rollback(ctx, err)
	}
	return w.commit(ctx)
}

func (w *writer) close() error {
	var errs []error
	for _, stmt := range []*sql.Stmt{w.insertOne, w.insertMany, w.upsertOne, w.upsertMany, w.selectRow, w.deleteRow, w.deleteOf,
		w.insertSource, w.updateSource, w.deleteSource, w.insertName, w.saveState} {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	if w.conn != nil {
		errs = append(errs, w.conn.Close())
	}
	return errors.Join(append(errs, w.db.Close())...)
}

// run executes statements that are not prepared.
func (w *writer) run(ctx context.Context, text string, args ...any) error {
	if err := w.before("exec"); err != nil {
		return err
	}
	_, err := w.conn.ExecContext(ctx, text, args...)
	return explain(err)
}

// exec executes a prepared statement and returns how many rows it changed.
func (w *writer) exec(ctx context.Context, stmt *sql.Stmt, args ...any) (int64, error) {
	if err := w.before("exec"); err != nil {
		return 0, err
	}
	res, err := stmt.ExecContext(ctx, args...)
	if err != nil {
		return 0, explain(err)
	}
	return res.RowsAffected()
}

// explain adds what the operating system would have said, for callers that know
// what to do about a full disk.
func explain(err error) error {
	if e, ok := errors.AsType[*sqlite.Error](err); ok && e.Code()&0xff == sqlite3.SQLITE_FULL {
		return fmt.Errorf("%w (%w)", err, unix.ENOSPC)
	}
	return err
}

// begin starts a transaction whose commit will be on disk when it returns
// (durable) or may be undone, whole and in order, by a power cut.
func (w *writer) begin(ctx context.Context, durable bool) error {
	// With a rollback journal NORMAL could leave a corrupt file.
	if full := durable || !w.wal; full != w.full {
		level := "NORMAL"
		if full {
			level = "FULL"
		}
		if err := w.run(ctx, "PRAGMA synchronous = "+level); err != nil {
			return err
		}
		w.full = full
	}
	return w.run(ctx, "BEGIN IMMEDIATE")
}

func (w *writer) commit(ctx context.Context) error {
	err := w.before("commit")
	if err == nil {
		_, err = w.conn.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		return w.rollback(ctx, explain(err))
	}
	return nil
}

// rollback gives up the transaction because of err, which it returns. An error
// of its own would add nothing: SQLite rolls back when it next opens the file.
func (w *writer) rollback(ctx context.Context, err error) error {
	_, _ = w.conn.ExecContext(ctx, "ROLLBACK")
	return err
}

// A change is one commit in the making.
type change struct {
	*writer
	names *names
	next  state // the state after it

	goneRows    []int64 // Seq of rows that were replaced or deleted
	goneSources []int64
	runID       int64 // of the run that it begins
}

// commit writes a group in one transaction.
func (s *Store) commit(ctx context.Context, g *group) error {
	s.mu.Lock()
	c := &change{writer: s.writer, names: &s.names, next: s.state}
	c.next.seq, c.next.lastSource = g.seq, g.lastSource
	c.next.unsettled = s.state.unsettled.upTo(g.seq)
	c.next.suspect = s.state.suspect.upTo(g.seq)
	s.mu.Unlock()

	if err := c.begin(ctx, g.durable); err != nil {
		return err
	}
	if err := c.write(ctx, g); err != nil {
		return c.rollback(ctx, err)
	}
	if err := c.commit(ctx); err != nil {
		return err
	}
	s.adopt(c, g)
	return nil
}

func (c *change) write(ctx context.Context, g *group) error {
	for i := range g.sources {
		if err := c.putSource(ctx, &g.sources[i]); err != nil {
			return err
		}
	}
	if err := c.putRows(ctx, g.rows); err != nil {
		return err
	}
	for _, op := range g.ops {
		if err := op(ctx, c); err != nil {
			return err
		}
	}
	_, err := c.exec(ctx, c.saveState, c.next.args()...)
	return err
}

// adopt makes what was committed the state of the store.
func (s *Store) adopt(c *change, g *group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Settled may have shrunk these two since the commit began.
	unsettled, suspect := s.state.unsettled, s.state.suspect
	if len(c.next.suspect) == 0 {
		suspect = nil
	}
	s.state = c.next
	s.state.unsettled, s.state.suspect = unsettled, suspect
	for _, seq := range c.goneRows {
		s.state.unsettled.remove(seq)
		s.state.suspect.remove(seq)
		s.seenRows.mark(seq)
	}
	for _, id := range c.goneSources {
		s.seenFiles.mark(id)
	}
	for i := range g.sources {
		delete(s.uncommitted, g.sources[i].Path)
	}
	if c.runID != 0 {
		s.run = c.runID
	}
}

func (c *change) putSource(ctx context.Context, p *put) error {
	stmt := c.updateSource
	if p.fresh {
		stmt = c.insertSource
		c.next.sources++
	}
	n, err := c.exec(ctx, stmt, p.Path, p.Size, p.MTime, p.Hash[:], p.Header, p.ID)
	if err != nil {
		return fmt.Errorf("storing source %q: %w", p.Path, err)
	}
	if n != 1 {
		return fmt.Errorf("BUG: source %q was put with ID %d, which is not in the store", p.Path, p.ID)
	}
	return nil
}

// A row is a decision with its key as stored.
type row struct {
	*Decision
	lineage []byte
	stage   int64
}

func (r *row) compareKey(o *row) int {
	return cmp.Or(cmp.Compare(r.Source, o.Source), bytes.Compare(r.lineage, o.lineage), cmp.Compare(r.stage, o.stage))
}

func (r *row) insertArgs(args []any) []any {
	// Written is stored as 0, which SQLite keeps in no bytes at all.
	return append(args, r.Source, r.lineage, r.stage, int64(r.Kind)-1, r.Seq, r.data())
}

func (c *change) row(ctx context.Context, d *Decision) (r row, err error) {
	r.Decision = d
	if r.stage, err = c.intern(ctx, d.Stage); err != nil {
		return r, err
	}
	tail := splitLineage(d.Lineage)
	head := int64(0)
	if _, ok, full := c.names.id(d.Lineage[:tail]); tail > 0 && (ok || !full) {
		if head, err = c.intern(ctx, d.Lineage[:tail]); err != nil {
			return r, err
		}
	}
	if head == 0 {
		tail = 0
	}
	r.lineage = packLineage(head, d.Lineage[tail:])
	return r, nil
}

// intern returns the ID of a name, which it adds to the dictionary when new.
func (c *change) intern(ctx context.Context, name string) (int64, error) {
	id, ok, _ := c.names.id(name)
	if ok {
		return id, nil
	}
	id = c.names.add(name)
	if _, err := c.exec(ctx, c.insertName, id, name); err != nil {
		return 0, fmt.Errorf("storing the name %q: %w", name, err)
	}
	return id, nil
}

// putRows stores decisions in the order of the table, which fills its pages.
func (c *change) putRows(ctx context.Context, decisions []Decision) error {
	rows := make([]row, len(decisions))
	for i := range decisions {
		var err error
		if rows[i], err = c.row(ctx, &decisions[i]); err != nil {
			return err
		}
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Or(a.compareKey(&b), cmp.Compare(a.Seq, b.Seq)) })
	last := rows[:0] // of rows with one key only the last counts
	for i := range rows {
		if i+1 < len(rows) && rows[i].compareKey(&rows[i+1]) == 0 {
			c.goneRows = append(c.goneRows, rows[i].Seq)
			continue
		}
		last = append(last, rows[i])
	}
	args := make([]any, 0, 6*rowsPerInsert)
	for ; len(last) >= rowsPerInsert; last = last[rowsPerInsert:] {
		if err := c.putChunk(ctx, last[:rowsPerInsert], c.insertMany, c.upsertMany, args); err != nil {
			return fmt.Errorf("storing decisions: %w", err)
		}
	}
	for i := range last {
		if err := c.putChunk(ctx, last[i:i+1], c.insertOne, c.upsertOne, args); err != nil {
			return fmt.Errorf("storing decisions: %w", err)
		}
	}
	return nil
}

// putChunk stores as many rows as its two statements take. Most rows are new, so
// that it tries that first and asks what it replaces only when some were not
// inserted.
func (c *change) putChunk(ctx context.Context, rows []row, insert, upsert *sql.Stmt, args []any) error {
	for i := range rows {
		args = rows[i].insertArgs(args)
		c.next.decisions[rows[i].Kind]++
	}
	n, err := c.exec(ctx, insert, args...)
	if err != nil || n == int64(len(rows)) {
		return err
	}
	for i := range rows {
		r := &rows[i]
		var seq int64
		var kind Kind
		if err := c.selectRow.QueryRowContext(ctx, r.Source, r.lineage, r.stage).Scan(&seq, &kind); err != nil {
			return err
		}
		if seq == r.Seq {
			continue // inserted just now
		}
		if err := c.forget(seq, kind+1); err != nil {
			return err
		}
	}
	_, err = c.exec(ctx, upsert, args...)
	return err
}

// forget accounts for a row that is no longer in the table.
func (c *change) forget(seq int64, kind Kind) error {
	if kind == 0 || int(kind) >= kinds {
		return fmt.Errorf("the store holds a row of %s", kind)
	}
	c.next.decisions[kind]--
	c.goneRows = append(c.goneRows, seq)
	return nil
}

func (c *change) deleteRows(ctx context.Context, decisions []Decision) error {
	for i := range decisions {
		r, err := c.row(ctx, &decisions[i])
		if err != nil {
			return err
		}
		n, err := c.exec(ctx, c.deleteRow, r.Source, r.lineage, r.stage, r.Seq)
		if err != nil {
			return fmt.Errorf("deleting decisions: %w", err)
		}
		if n == 0 {
			continue
		}
		if err := c.forget(r.Seq, r.Kind); err != nil {
			return err
		}
	}
	return nil
}

func (c *change) deleteSources(ctx context.Context, ids []int64) error {
	for _, id := range ids {
		if err := c.deleteDecisionsOf(ctx, id); err != nil {
			return fmt.Errorf("deleting the decisions of a source: %w", err)
		}
		n, err := c.exec(ctx, c.deleteSource, id)
		if err != nil {
			return fmt.Errorf("deleting sources: %w", err)
		}
		c.next.sources -= n
		c.goneSources = append(c.goneSources, id)
	}
	return nil
}

func (c *change) deleteDecisionsOf(ctx context.Context, source int64) error {
	if err := c.before("exec"); err != nil {
		return err
	}
	rows, err := c.deleteOf.QueryContext(ctx, source)
	if err != nil {
		return explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		var seq int64
		var kind Kind
		if err := rows.Scan(&seq, &kind); err != nil {
			return err
		}
		if err := c.forget(seq, kind+1); err != nil {
			return err
		}
	}
	return rows.Err()
}
