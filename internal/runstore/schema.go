package runstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"

	"golang.org/x/sys/unix"
)

const schemaVersion = 2

// upgrades bring a store of an older version to the next: the first one version 1 to 2.
var upgrades = []string{decided}

// decided is what the governor of memory has decided in runs: at is Unix time in
// nanoseconds, data is JSON.
const decided = `
CREATE TABLE decided (
	run  INTEGER NOT NULL,
	at   INTEGER NOT NULL,
	data BLOB NOT NULL
);
CREATE INDEX decided_run ON decided (run);
`

// decisions is WITHOUT ROWID so that its key is stored once. seq is a column of
// its own because Delete compares it; what else a kind uses is packed in data.
const schema = `
CREATE TABLE sources (
	id     INTEGER PRIMARY KEY,
	path   TEXT NOT NULL UNIQUE,
	size   INTEGER NOT NULL,
	mtime  INTEGER NOT NULL,
	hash   BLOB NOT NULL,
	header BLOB
);
CREATE TABLE decisions (
	source  INTEGER NOT NULL,
	lineage BLOB NOT NULL,
	stage   INTEGER NOT NULL,
	kind    INTEGER NOT NULL,
	seq     INTEGER NOT NULL,
	data    BLOB,
	PRIMARY KEY (source, lineage, stage)
) WITHOUT ROWID;
CREATE TABLE names (
	id   INTEGER PRIMARY KEY,
	name TEXT NOT NULL UNIQUE
);
CREATE TABLE runs (
	id          INTEGER PRIMARY KEY,
	fingerprint TEXT NOT NULL,
	version     TEXT NOT NULL,
	spec        TEXT NOT NULL,
	started     INTEGER NOT NULL,
	state       TEXT NOT NULL DEFAULT '',
	summary     BLOB
);
CREATE TABLE state (
	id          INTEGER PRIMARY KEY CHECK (id = 1),
	seq         INTEGER NOT NULL DEFAULT 0,
	last_source INTEGER NOT NULL DEFAULT 0,
	sources     INTEGER NOT NULL DEFAULT 0,
	written     INTEGER NOT NULL DEFAULT 0,
	rejected    INTEGER NOT NULL DEFAULT 0,
	failed      INTEGER NOT NULL DEFAULT 0,
	passed      INTEGER NOT NULL DEFAULT 0,
	synced      INTEGER NOT NULL DEFAULT 0,
	unsettled   BLOB,
	unsynced    BLOB,
	suspect     BLOB,
	boot        TEXT NOT NULL DEFAULT ''
);
INSERT INTO state (id) VALUES (1);
` + decided

// state is the one row that every commit rewrites.
type state struct {
	seq        int64 // the highest committed
	lastSource int64 // the highest source ID committed
	sources    int64 // rows in the table
	decisions  [kinds]int64

	unsettled spans  // intended rows whose rename was not reported
	synced    int64  // rows up to here are on disk with their files ...
	unsynced  spans  // ... but for these
	suspect   spans  // rows that were not known to be on disk when the machine went down
	boot      string // boot ID of the machine when the store was last open
}

const selectState = `SELECT seq, last_source, sources, written, rejected, failed, passed,
	synced, unsettled, unsynced, suspect, boot FROM state`

const updateState = `UPDATE state SET seq = ?, last_source = ?, sources = ?,
	written = ?, rejected = ?, failed = ?, passed = ?,
	synced = ?, unsettled = ?, unsynced = ?, suspect = ?, boot = ?`

func (st *state) args() []any {
	n := &st.decisions
	return []any{st.seq, st.lastSource, st.sources, n[Written], n[Rejected], n[Failed], n[Passed],
		st.synced, st.unsettled.encode(), st.unsynced.encode(), st.suspect.encode(), st.boot}
}

// rows is how many decisions there are.
func (st *state) rows() (sum int64) {
	for _, n := range st.decisions {
		sum += n
	}
	return sum
}

func loadState(ctx context.Context, db *sql.DB) (st state, err error) {
	var unsettled, unsynced, suspect []byte
	n := &st.decisions
	err = db.QueryRowContext(ctx, selectState).Scan(&st.seq, &st.lastSource, &st.sources,
		&n[Written], &n[Rejected], &n[Failed], &n[Passed],
		&st.synced, &unsettled, &unsynced, &suspect, &st.boot)
	if err != nil {
		return st, err
	}
	if st.unsettled, err = decodeSpans(unsettled); err != nil {
		return st, err
	}
	if st.unsynced, err = decodeSpans(unsynced); err != nil {
		return st, err
	}
	st.suspect, err = decodeSpans(suspect)
	return st, err
}

// readVersion tells the version of a store, 0 for an empty file, and refuses all
// else.
func readVersion(ctx context.Context, db *sql.DB) (version int, err error) {
	var objects int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return 0, err
	}
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&objects); err != nil {
		return 0, err
	}
	switch {
	case version == 0 && objects > 0:
		return 0, errors.New("the file is an SQLite database but no run store")
	case version > schemaVersion:
		return 0, fmt.Errorf("the store has version %d and this program reads up to %d: use the newer program that wrote it", version, schemaVersion)
	}
	return version, nil
}

// dataSource is the name under which database/sql opens a file with pragmas.
func dataSource(path string, query url.Values, pragmas ...string) string {
	query["_pragma"] = append([]string{"busy_timeout(10000)"}, pragmas...)
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + query.Encode()
}

// filesystemType is replaced in tests.
var filesystemType = func(dir string) (int64, error) {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	return st.Type, err
}

// sharesMemory tells whether dir is on a file system on which SQLite's
// write-ahead log works: its index is memory shared between processes, which
// file systems that reach other machines do not have.
func sharesMemory(dir string) (bool, error) {
	kind, err := filesystemType(dir)
	if err != nil {
		return false, fmt.Errorf("asking for the file system of %s: %w", dir, err)
	}
	switch uint32(kind) {
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC,
		unix.V9FS_MAGIC, unix.FUSE_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC, unix.AFS_SUPER_MAGIC:
		return false, nil
	}
	return true, nil
}
