package runstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

// Errors of a store that cannot be written.
var (
	ErrReadOnly = errors.New("the run store is open for reading only")
	ErrClosed   = errors.New("the run store is closed")
)

// Options of a store. The zero value is a good default.
type Options struct {
	// Before is called before every statement ("exec") and commit ("commit") of
	// the writing connection; an error it returns is treated as SQLite's. For
	// tests.
	Before func(op string) error

	// BootID tells one boot of the machine from another. The default is the
	// kernel's; when there is none, every Open counts as after a reboot.
	BootID string

	// Logger gets a warning when the file system forbids the write-ahead log.
	// The default discards it.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.Before == nil {
		o.Before = func(string) error { return nil }
	}
	if o.BootID == "" {
		id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
		o.BootID = strings.TrimSpace(string(id))
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// A Store is the run store of one state directory. Its methods may be called
// from several goroutines at once.
type Store struct {
	dir      string
	lock     *os.File // nil when read only
	db       *sql.DB  // for reading
	writer   *writer  // nil when read only
	names    names
	opened   state // as found at Open
	version  int   // of the schema
	recovery Recovery

	sourceByPath, sourceByID, decisionsOf *sql.Stmt

	putting sync.Mutex // held while PutSource looks a path up and gives it an ID

	mu          sync.Mutex // guards what follows
	room        *sync.Cond // signalled when the queue was taken or the store failed
	queue       *group
	err         error // why nothing more is taken in: a failed commit, ErrClosed, ErrReadOnly
	failure     error // a failed commit
	closed      bool
	seq         int64            // the highest given out
	lastSource  int64            // the highest given out
	uncommitted map[string]int64 // paths of sources given an ID and not yet committed
	state       state            // as committed; unsettled and suspect are up to date
	seenRows    seen
	seenFiles   seen
	run         int64 // row of the current run, 0 before Begin

	pending, urgent, stop chan struct{} // to the committer
	done                  chan struct{} // closed by the committer when it has ended
}

func files(dir string) (db, lock string) {
	return filepath.Join(dir, "run.db"), filepath.Join(dir, "lock")
}

// Open opens the store in the state directory dir, creating either as needed,
// and locks it against other processes: the error is a *LockedError, which is
// ErrLocked, when one of them has it. Close must be called.
func Open(ctx context.Context, dir string, o Options) (*Store, error) {
	o = o.withDefaults()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("creating the state directory: %w", err)
	}
	path, lockPath := files(dir)
	held, err := lock(dir, lockPath)
	if err != nil {
		return nil, err
	}
	s := newStore(dir)
	s.lock = held
	if err := s.openForWriting(ctx, path, o); err != nil {
		_ = s.release()
		return nil, fmt.Errorf("opening the run store %s: %w", path, err)
	}
	go s.commitLoop(context.WithoutCancel(ctx))
	return s, nil
}

// OpenReadOnly opens the store in dir for looking at it, also while a run writes
// to it. It takes no lock; what a run has committed is seen at once. The error
// is fs.ErrNotExist when there is no store. Methods that write return
// ErrReadOnly.
func OpenReadOnly(ctx context.Context, dir string) (*Store, error) {
	return openReadOnly(ctx, dir, false)
}

// OpenStill is OpenReadOnly for who must leave no trace: a store that no process
// has open is read without even the files that readers share. A process that
// opens it for writing meanwhile can make reading fail.
func OpenStill(ctx context.Context, dir string) (*Store, error) {
	return openReadOnly(ctx, dir, true)
}

func openReadOnly(ctx context.Context, dir string, still bool) (*Store, error) {
	path, _ := files(dir)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no run store in %s: %w", dir, fs.ErrNotExist)
	}
	s := newStore(dir)
	s.err = ErrReadOnly
	if err := s.openForReading(ctx, path, readOnlyQuery(dir, path, still)); err != nil {
		_ = s.release()
		return nil, fmt.Errorf("opening the run store %s: %w", path, err)
	}
	s.startSeeing()
	return s, nil
}

// readOnlyQuery opens the file as immutable where SQLite could not create the
// index of the write-ahead log and there is no log to read: on a read-only disk
// or in another user's folder.
func readOnlyQuery(dir, path string, still bool) url.Values {
	query := url.Values{"mode": {"ro"}}
	if still || unix.Access(dir, unix.W_OK) != nil {
		if _, err := os.Stat(path + "-wal"); errors.Is(err, fs.ErrNotExist) {
			query.Set("immutable", "1")
		}
	}
	return query
}

func newStore(dir string) *Store {
	s := &Store{
		dir:         dir,
		queue:       &group{},
		uncommitted: map[string]int64{},
		pending:     make(chan struct{}, 1),
		urgent:      make(chan struct{}, 1),
		stop:        make(chan struct{}),
		done:        make(chan struct{}),
	}
	s.room = sync.NewCond(&s.mu)
	return s
}

func (s *Store) openForWriting(ctx context.Context, path string, o Options) error {
	wal, err := sharesMemory(s.dir)
	if err != nil {
		return err
	}
	if !wal {
		o.Logger.Warn("the state directory is on a network file system: the run store works without a write-ahead log, which is slower", "dir", s.dir)
	}
	if s.writer, err = openWriter(ctx, path, wal, o.Before); err != nil {
		return err
	}
	if err := s.openForReading(ctx, path, url.Values{"mode": {"rw"}}); err != nil {
		return err
	}
	return s.recover(ctx, o.BootID)
}

func (s *Store) openForReading(ctx context.Context, path string, query url.Values) error {
	db, err := sql.Open("sqlite", dataSource(path, query, "query_only(1)", "cache_size(-1000)"))
	if err != nil {
		return err
	}
	s.db = db
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4)
	version, err := readVersion(ctx, db)
	if err != nil {
		return err
	}
	if version == 0 {
		return fmt.Errorf("it is empty: %w", fs.ErrNotExist)
	}
	s.version = version
	if err := s.names.load(ctx, db); err != nil {
		return err
	}
	if s.opened, err = loadState(ctx, db); err != nil {
		return fmt.Errorf("reading the state of the store: %w", err)
	}
	for stmt, text := range map[**sql.Stmt]string{
		&s.sourceByPath: selectSource + " WHERE path = ?",
		&s.sourceByID:   selectSource + " WHERE id = ?",
		&s.decisionsOf:  selectDecision + " WHERE source = ?",
	} {
		if *stmt, err = db.PrepareContext(ctx, text); err != nil {
			return err
		}
	}
	return nil
}

// Close writes what is waiting and releases everything. It returns the error of
// the commit that failed, if one did. Further calls do nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	if s.err == nil {
		s.err = ErrClosed
	}
	s.room.Broadcast()
	s.mu.Unlock()
	if s.writer != nil {
		close(s.stop)
		<-s.done
	}
	err := s.release()
	if s.failure != nil {
		return s.failure
	}
	return err
}

func (s *Store) release() error {
	var errs []error
	for _, stmt := range []*sql.Stmt{s.sourceByPath, s.sourceByID, s.decisionsOf} {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	// The readers go first: the last connection to close folds the log into the
	// database, which only one that may write can do.
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("closing the run store: %w", err)
	}
	return nil
}

// Counts returns how many sources and decisions the store holds.
func (s *Store) Counts(ctx context.Context) (sources, decisions int64, byKind map[Kind]int64, err error) {
	if err := s.flush(ctx); err != nil {
		return 0, 0, nil, err
	}
	st, err := loadState(ctx, s.db)
	if err != nil {
		return 0, 0, nil, fmt.Errorf("reading the state of the store: %w", err)
	}
	byKind = map[Kind]int64{}
	for k := Written; int(k) < kinds; k++ {
		byKind[k] = st.decisions[k]
	}
	return st.sources, st.rows(), byKind, nil
}
