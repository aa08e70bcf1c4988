package runstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/internal/runstore"
)

// read is what was decided in the last run of a store, as text.
func read(t *testing.T, s *runstore.Store) string {
	t.Helper()
	text := ""
	check(t, s.LastDecided(t.Context(), func(d runstore.Decided) error {
		text += fmt.Sprintf("%d %s;", d.Time.UnixNano(), d.Data)
		return nil
	}))
	return text
}

// What was decided belongs to its run, and that of the last runs is kept.
func TestDecided(t *testing.T) {
	dir := t.TempDir()
	for i := range 25 {
		s, err := runstore.Open(t.Context(), dir, runstore.Options{})
		check(t, err)
		if err := s.Decide(t.Context(), []runstore.Decided{{Data: []byte("{}")}}); err == nil {
			t.Error("decided in no run")
		}
		check(t, s.Begin(t.Context(), runstore.Run{Fingerprint: "f", Started: time.Unix(1, 0)}))
		if got := read(t, s); got != "" {
			t.Errorf("at its beginning, run %d has %s", i, got)
		}
		for j := range 2 {
			check(t, s.Decide(t.Context(), []runstore.Decided{{Time: time.Unix(0, int64(j)), Data: fmt.Appendf(nil, "[%d,%d]", i, j)}}))
		}
		if got, want := read(t, s), fmt.Sprintf("0 [%d,0];1 [%d,1];", i, i); got != want {
			t.Errorf("run %d has %s, want %s", i, got, want)
		}
		enough := errors.New("enough")
		if err := s.LastDecided(t.Context(), func(runstore.Decided) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("%v, want what the caller says", err)
		}
		check(t, s.Close())
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "run.db"))
	check(t, err)
	defer db.Close()
	var n int
	check(t, db.QueryRow("SELECT count(*) FROM decided").Scan(&n))
	if n != 2*20 {
		t.Errorf("%d are kept, want those of 20 runs", n)
	}
}

// A store of version 1 is brought up to date by who writes to it, and can be read
// before.
func TestStoreOfVersion1(t *testing.T) {
	dir := t.TempDir()
	s, err := runstore.Open(t.Context(), dir, runstore.Options{})
	check(t, err)
	check(t, s.Begin(t.Context(), runstore.Run{Fingerprint: "old", Started: time.Unix(1, 0)}))
	check(t, s.Finish(t.Context(), runstore.Done, nil))
	check(t, s.Close())
	db, err := sql.Open("sqlite", filepath.Join(dir, "run.db"))
	check(t, err)
	_, err = db.Exec("DROP TABLE decided; PRAGMA user_version = 1; PRAGMA journal_mode = delete")
	check(t, errors.Join(err, db.Close()))

	s, err = runstore.OpenStill(t.Context(), dir)
	check(t, err)
	if got := read(t, s); got != "" {
		t.Errorf("it has %s", got)
	}
	check(t, s.Close())

	failed := errors.New("disk full")
	_, err = runstore.Open(t.Context(), dir, runstore.Options{Before: func(op string) error {
		if op == "commit" {
			return failed
		}
		return nil
	}})
	if !errors.Is(err, failed) {
		t.Errorf("opening it on a full disk: %v", err)
	}
	s, err = runstore.Open(context.Background(), dir, runstore.Options{})
	check(t, err)
	defer s.Close()
	if run, _, _, ok, err := s.LastRun(t.Context()); !ok || err != nil || run.Fingerprint != "old" {
		t.Errorf("its last run is %v, %v, %v", run, ok, err)
	}
	check(t, s.Begin(t.Context(), runstore.Run{Fingerprint: "new", Started: time.Unix(1, 0)}))
	check(t, s.Decide(t.Context(), []runstore.Decided{{Time: time.Unix(0, 7), Data: []byte("{}")}}))
	if got := read(t, s); got != "7 {};" {
		t.Errorf("it has %s", got)
	}
}
