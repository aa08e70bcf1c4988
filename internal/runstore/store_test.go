package runstore_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/forgepipe/forgepipe/internal/runstore"
	"github.com/forgepipe/forgepipe/internal/unprivileged"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("RUNSTORE_CHILD"); dir != "" {
		child(dir)
	}
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, dir string, o runstore.Options) *runstore.Store {
	t.Helper()
	if o.BootID == "" {
		o.BootID = "first boot"
	}
	s, err := runstore.Open(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, s *runstore.Store, path string) int64 {
	t.Helper()
	src := source(path)
	check(t, s.PutSource(&src))
	return src.ID
}

func source(path string) runstore.Source {
	src := runstore.Source{Path: path, Size: int64(len(path)), MTime: 1_700_000_000_123_456_789, Header: []byte("header of " + path)}
	copy(src.Hash[:], path)
	return src
}

func written(source int64, lineage string) runstore.Decision {
	d := runstore.Decision{Source: source, Lineage: lineage, Stage: "write", Kind: runstore.Written,
		Size: 345_678, MTime: 1_700_000_000_987_654_321}
	binary.LittleEndian.PutUint64(d.Hash[:], uint64(source)*2654435761)
	copy(d.Hash[8:], lineage)
	copy(d.Ident[:], lineage)
	return d
}

func rejected(source int64, lineage string) runstore.Decision {
	return runstore.Decision{Source: source, Lineage: lineage, Stage: "filter", Kind: runstore.Rejected, Detail: []byte("too small")}
}

// all returns every decision as "path lineage stage kind", in the store's order.
func all(t testing.TB, s *runstore.Store) []string {
	t.Helper()
	var out []string
	check(t, s.Decisions(context.Background(), func(src runstore.Source, d runstore.Decision) error {
		out = append(out, fmt.Sprintf("%s %s %s %s", src.Path, d.Lineage, d.Stage, d.Kind))
		return nil
	}))
	return out
}

func unseen(t testing.TB, s *runstore.Store) (lineages []string, rows []runstore.Decision) {
	t.Helper()
	check(t, s.Unseen(t.Context(), func(src runstore.Source, d runstore.Decision) error {
		lineages = append(lineages, src.Path+"@"+d.Lineage)
		rows = append(rows, d)
		return nil
	}))
	return lineages, rows
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

// byPath returns the decisions of a source, which must be there.
func byPath(t testing.TB, s *runstore.Store, path string) []runstore.Decision {
	t.Helper()
	_, ds, ok, err := s.Source(t.Context(), path)
	if err != nil || !ok {
		t.Fatalf("Source(%q): %v, %v", path, ok, err)
	}
	return ds
}

func TestRowsComeBackAsTheyWerePut(t *testing.T) {
	long := strings.Repeat("crop=1;", 50)
	cases := map[string]runstore.Decision{
		"tile":                 {Lineage: "tile=512,1024,2048", Stage: "write", Kind: runstore.Written, Size: 1, MTime: 2, Hash: [16]byte{3}, Ident: [8]byte{4}},
		"odd tail":             {Lineage: "tile=512,0,12", Stage: "write", Kind: runstore.Written, Size: 1 << 40, MTime: -5},
		"leading zeros":        {Lineage: "frame=007", Stage: "write", Kind: runstore.Written},
		"commas":               {Lineage: "x=,,0,", Stage: "write", Kind: runstore.Written},
		"only digits":          {Lineage: "12,3", Stage: "write", Kind: runstore.Written},
		"no lineage":           {Lineage: "", Stage: "write", Kind: runstore.Written, Size: 7},
		"no tail":              {Lineage: "flip", Stage: "write", Kind: runstore.Written},
		"long":                 {Lineage: long, Stage: "write", Kind: runstore.Passed},
		"not UTF-8":            {Lineage: "a\xff=\xfe1", Stage: "st\xffage", Kind: runstore.Passed},
		"rejected with detail": {Lineage: "tile=1,2,3", Stage: "filter", Kind: runstore.Rejected, Detail: []byte{0, 1, 2}},
		"failed, no detail":    {Lineage: "tile=1,2,3", Stage: "decode", Kind: runstore.Failed},
		"written with detail":  {Lineage: "tile=1,2,3", Stage: "copy", Kind: runstore.Written, Size: 300, Detail: []byte("more")},
	}
	dir := t.TempDir()
	s := open(t, dir, runstore.Options{})
	want := map[string]runstore.Decision{}
	for name, d := range cases {
		d.Source = put(t, s, name)
		ds := []runstore.Decision{d}
		check(t, s.Append(ds))
		want[name] = ds[0]
	}
	check(t, s.Close())

	s = open(t, dir, runstore.Options{})
	for name, d := range want {
		t.Run(name, func(t *testing.T) {
			src, ds, ok, err := s.Source(t.Context(), name)
			if err != nil || !ok {
				t.Fatalf("Source: %v, %v", ok, err)
			}
			wantSource := source(name)
			wantSource.ID = d.Source
			equal(t, "source", src, wantSource)
			equal(t, "decisions", ds, []runstore.Decision{d})
		})
	}
	if _, _, ok, err := s.Source(t.Context(), "never put"); ok || err != nil {
		t.Errorf("Source of an unknown path: %v, %v", ok, err)
	}
}

func TestManyNewHeads(t *testing.T) {
	// More heads than the dictionary takes: the later lineages are stored as they
	// are, and are still the same key when written again.
	dir := t.TempDir()
	s := open(t, dir, runstore.Options{})
	id := put(t, s, "a")
	const n = 5000
	for range 2 {
		ds := make([]runstore.Decision, n)
		for i := range ds {
			ds[i] = written(id, fmt.Sprintf("frame=%d;tile=512,%d", i, i))
		}
		check(t, s.Append(ds))
		check(t, s.Close())
		s = open(t, dir, runstore.Options{})
	}
	ds := byPath(t, s, "a")
	if len(ds) != n {
		t.Fatalf("%d rows, want %d", len(ds), n)
	}
	for _, d := range ds {
		if d.Seq <= n {
			t.Fatalf("row %q kept Seq %d of the first write", d.Lineage, d.Seq)
		}
	}
}

func TestOrder(t *testing.T) {
	s := open(t, t.TempDir(), runstore.Options{})
	a, b := put(t, s, "a"), put(t, s, "b")
	check(t, s.Append([]runstore.Decision{written(b, "tile=2"), written(a, "zoom=1"), rejected(a, "tile=9"), written(a, "tile=9"), written(a, "tile=10"), written(a, "tile=1,1")}))
	equal(t, "decisions", all(t, s), []string{
		"a tile=1,1 write written", "a tile=10 write written", "a tile=9 filter rejected", "a tile=9 write written",
		"a zoom=1 write written", "b tile=2 write written"})
}

func TestPagesOfManySources(t *testing.T) {
	s := open(t, t.TempDir(), runstore.Options{})
	var want []string
	for i := range 3000 {
		path := fmt.Sprintf("%05d", i)
		id := put(t, s, path)
		for k := range 1 + i%5 {
			check(t, s.Append([]runstore.Decision{written(id, fmt.Sprintf("tile=%d", k))}))
			want = append(want, fmt.Sprintf("%s tile=%d write written", path, k))
		}
	}
	equal(t, "decisions", all(t, s), want)
	stop := errors.New("stop")
	n := 0
	err := s.Decisions(t.Context(), func(runstore.Source, runstore.Decision) error {
		if n++; n == 5000 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || n != 5000 {
		t.Errorf("the walk ended after %d rows with %v", n, err)
	}
}

func TestRewriting(t *testing.T) {
	counts := func(s *runstore.Store) string {
		sources, decisions, byKind, err := s.Counts(t.Context())
		check(t, err)
		return fmt.Sprint(sources, decisions, byKind)
	}
	dir := t.TempDir()
	s := open(t, dir, runstore.Options{})
	a := put(t, s, "a")
	tiles := make([]runstore.Decision, 200)
	for i := range tiles {
		tiles[i] = written(a, fmt.Sprintf("tile=%d", i))
	}
	check(t, s.Append(tiles))
	check(t, s.Append([]runstore.Decision{rejected(a, "r")}))
	equal(t, "counts", counts(s), "1 201 map[written:200 rejected:1 failed:0 passed:0]")

	// 100 of the rows again as failures, and 50 new ones among them.
	again := make([]runstore.Decision, 150)
	for i := range again {
		again[i] = written(a, fmt.Sprintf("tile=%d", 100+i))
		again[i].Kind = runstore.Failed
	}
	check(t, s.Append(again))
	equal(t, "counts after rewriting", counts(s), "1 251 map[written:100 rejected:1 failed:150 passed:0]")

	// The same key twice in one group: the later counts.
	check(t, s.Append([]runstore.Decision{written(a, "twice"), rejected(a, "other")}))
	twice := written(a, "twice")
	twice.Kind = runstore.Passed
	check(t, s.Append([]runstore.Decision{twice}))
	equal(t, "counts after twice", counts(s), "1 253 map[written:100 rejected:2 failed:150 passed:1]")

	check(t, s.Delete(t.Context(), append(again[:1:1], tiles[0], tiles[100]))) // the last was rewritten: it stays
	equal(t, "counts after Delete", counts(s), "1 251 map[written:99 rejected:2 failed:149 passed:1]")
	check(t, s.Close())
	s = open(t, dir, runstore.Options{})
	equal(t, "counts after Open", counts(s), "1 251 map[written:99 rejected:2 failed:149 passed:1]")
	check(t, s.DeleteSources(t.Context(), []int64{a}))
	equal(t, "counts after DeleteSources", counts(s), "0 0 map[written:0 rejected:0 failed:0 passed:0]")
	equal(t, "decisions", all(t, s), []string(nil))
}

func TestSeqRisesOverTheLifeOfTheStore(t *testing.T) {
	dir := t.TempDir()
	last := int64(0)
	for range 3 {
		s := open(t, dir, runstore.Options{})
		id := put(t, s, "a")
		for range 3 {
			ds := []runstore.Decision{written(id, "x"), written(id, "y")}
			check(t, s.Append(ds))
			for _, d := range ds {
				if d.Seq <= last {
					t.Fatalf("Seq %d after %d", d.Seq, last)
				}
				last = d.Seq
			}
		}
		check(t, s.Close())
	}
}

func TestSourceKeepsItsID(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, runstore.Options{})
	a := put(t, s, "a")
	if again := put(t, s, "a"); again != a {
		t.Errorf("ID %d before the commit, %d put again", a, again)
	}
	check(t, s.Begin(t.Context(), runstore.Run{})) // commits
	if again := put(t, s, "a"); again != a {
		t.Errorf("ID %d, %d put again after the commit", a, again)
	}
	b := put(t, s, "b")
	check(t, s.Close())

	s = open(t, dir, runstore.Options{})
	src := source("a")
	src.Size = 99
	check(t, s.PutSource(&src))
	if c := put(t, s, "c"); src.ID != a || c <= b {
		t.Errorf("a has ID %d, want %d; the new source %d, want above %d", src.ID, a, c, b)
	}
	sources, _, _, err := s.Counts(t.Context())
	check(t, err)
	got, _, _, err := s.Source(t.Context(), "a")
	check(t, err)
	if sources != 3 || got.Size != 99 {
		t.Errorf("%d sources, a of size %d; want 3, 99", sources, got.Size)
	}
}

func TestPutSourceConcurrently(t *testing.T) {
	s := open(t, t.TempDir(), runstore.Options{})
	ids := make([]int64, 16)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			src := source("same")
			if err := s.PutSource(&src); err != nil {
				t.Error(err)
			}
			ids[i] = src.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("one path has IDs %v", ids)
		}
	}
}

func TestUnseen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, runstore.Options{})
	a, b := put(t, s, "a"), put(t, s, "b")
	check(t, s.Append([]runstore.Decision{written(a, "1"), written(a, "2"), written(a, "3"), written(b, "1")}))
	if rows, _ := unseen(t, s); rows != nil {
		t.Errorf("rows written in this run are unseen: %v", rows)
	}
	check(t, s.Close())

	s = open(t, dir, runstore.Options{})
	if rows, _ := unseen(t, s); len(rows) != 4 {
		t.Errorf("unseen at first: %v", rows)
	}
	ds := byPath(t, s, "a")
	s.See(ds[0])
	s.See(ds[0])                                                     // twice
	check(t, s.Append([]runstore.Decision{written(a, "2")}))         // rewritten
	check(t, s.Append([]runstore.Decision{written(a, "4")}))         // new
	s.See(ds[1])                                                     // the old row of the one rewritten
	check(t, s.Append([]runstore.Decision{written(a, "1"), {}}[:1])) // seen, then rewritten
	rows, unwanted := unseen(t, s)
	equal(t, "unseen", rows, []string{"a@3", "b@1"})
	s.SeeSource(a)
	var sources []int64
	check(t, s.UnseenSources(t.Context(), func(src runstore.Source) error {
		sources = append(sources, src.ID)
		return nil
	}))
	equal(t, "unseen sources", sources, []int64{b})

	check(t, s.Delete(t.Context(), unwanted[:1]))
	check(t, s.DeleteSources(t.Context(), sources))
	rows, _ = unseen(t, s)
	equal(t, "unseen after deleting", rows, []string(nil))
	if rows, sources := s.Missing(); rows != 0 || sources != 0 {
		t.Errorf("the table is read though nothing is unseen: %d, %d", rows, sources)
	}
	check(t, s.UnseenSources(t.Context(), func(src runstore.Source) error { return fmt.Errorf("%s is unseen", src.Path) }))
	equal(t, "left", all(t, s), []string{"a 1 write written", "a 2 write written", "a 4 write written"})
}

func TestDeletingWhileWalking(t *testing.T) {
	for name, kind := range map[string]int64{"log": 0, "network file system": unix.NFS_SUPER_MAGIC} {
		t.Run(name, func(t *testing.T) {
			if kind != 0 {
				runstore.SetFilesystemType(t, kind)
			}
			dir := t.TempDir()
			s := open(t, dir, runstore.Options{})
			for i := range 100 {
				id := put(t, s, fmt.Sprint(i))
				for k := range 100 {
					check(t, s.Append([]runstore.Decision{written(id, fmt.Sprintf("tile=%d", k))}))
				}
			}
			check(t, s.Close())
			s = open(t, dir, runstore.Options{})
			n := 0
			var batch []runstore.Decision
			check(t, s.Unseen(t.Context(), func(_ runstore.Source, d runstore.Decision) error {
				n++
				if batch = append(batch, d); len(batch) < 1000 {
					return nil
				}
				defer func() { batch = batch[:0] }()
				return s.Delete(t.Context(), batch)
			}))
			_, left, _, err := s.Counts(t.Context())
			if check(t, err); n != 10_000 || left != 0 {
				t.Errorf("%d rows walked and %d left", n, left)
			}
		})
	}
}

func TestNetworkFileSystem(t *testing.T) {
	runstore.SetFilesystemType(t, unix.NFS_SUPER_MAGIC)
	var log bytes.Buffer
	dir := t.TempDir()
	s := open(t, dir, runstore.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	id := put(t, s, "a")
	check(t, s.Intend(t.Context(), []runstore.Decision{written(id, "x")}))
	if _, err := os.Stat(filepath.Join(dir, "run.db-wal")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a write-ahead log: %v", err)
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings, want 1:\n%s", n, &log)
	}
	equal(t, "decisions", all(t, s), []string{"a x write written"})
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, runstore.Options{})
	_, err := runstore.Open(t.Context(), dir, runstore.Options{})
	var locked *runstore.LockedError
	if !errors.Is(err, runstore.ErrLocked) || !errors.As(err, &locked) || locked.PID != os.Getpid() || locked.Dir != dir {
		t.Errorf("the second Open says %v", err)
	}
	check(t, s.Close())
	check(t, open(t, dir, runstore.Options{}).Close())
}

func TestReadOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a?b #c%20 ü")
	if _, err := runstore.OpenReadOnly(t.Context(), dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening what is not there: %v", err)
	}
	s := open(t, dir, runstore.Options{})
	r, err := runstore.OpenReadOnly(t.Context(), dir)
	check(t, err)
	defer r.Close()
	id := put(t, s, "a")
	check(t, s.Begin(t.Context(), runstore.Run{Fingerprint: "f"}))
	check(t, s.Append([]runstore.Decision{written(id, "tile=1,2,3"), rejected(id, "")}))
	check(t, s.Checkpoint(t.Context(), func() error { return nil }))
	// The reader was open before the names were there.
	equal(t, "beside a run", all(t, r), []string{"a  filter rejected", "a tile=1,2,3 write written"})
	equal(t, "source", len(byPath(t, r, "a")), 2)
	if _, n, _, err := r.Counts(t.Context()); n != 2 || err != nil {
		t.Errorf("%d rows counted, %v", n, err)
	}
	if run, state, _, ok, err := r.LastRun(t.Context()); run.Fingerprint != "f" || state != "" || !ok || err != nil {
		t.Errorf("last run %v %q %v %v", run, state, ok, err)
	}
	src := source("b")
	for name, err := range map[string]error{
		"Append":     r.Append([]runstore.Decision{written(1, "x")}),
		"Intend":     r.Intend(t.Context(), []runstore.Decision{written(1, "x")}),
		"PutSource":  r.PutSource(&src),
		"Begin":      r.Begin(t.Context(), runstore.Run{}),
		"Delete":     r.Delete(t.Context(), nil),
		"Checkpoint": r.Checkpoint(t.Context(), func() error { return nil }),
	} {
		if !errors.Is(err, runstore.ErrReadOnly) {
			t.Errorf("%s says %v", name, err)
		}
	}
	check(t, s.Close())
	equal(t, "after the run", len(all(t, r)), 2)
}

func TestReadOnlyFolder(t *testing.T) {
	if unprivileged.Rerun(t) {
		return
	}
	dir := t.TempDir()
	s := open(t, dir, runstore.Options{})
	check(t, s.Append([]runstore.Decision{written(put(t, s, "a"), "x")}))
	check(t, s.Close())
	check(t, os.Chmod(dir, 0o555))
	t.Cleanup(func() { os.Chmod(dir, 0o755) })
	r, err := runstore.OpenReadOnly(t.Context(), dir)
	check(t, err)
	defer r.Close()
	equal(t, "decisions", all(t, r), []string{"a x write written"})
}

func TestOpenRefuses(t *testing.T) {
	database := func(text string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			db, err := sql.Open("sqlite", path)
			check(t, err)
			defer db.Close()
			_, err = db.Exec(text)
			check(t, err)
		}
	}
	cases := map[string]struct {
		make func(*testing.T, string)
		want string
	}{
		"a newer version":    {database("CREATE TABLE x (y); PRAGMA user_version = 99"), "newer program"},
		"another database":   {database("CREATE TABLE x (y)"), "no run store"},
		"something else":     {func(t *testing.T, p string) { check(t, os.WriteFile(p, bytes.Repeat([]byte("text"), 1000), 0o644)) }, "not a database"},
		"a folder of a name": {func(t *testing.T, p string) { check(t, os.Mkdir(p, 0o755)) }, "opening the run store"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c.make(t, filepath.Join(dir, "run.db"))
			for range 2 { // the lock is given back each time
				_, err := runstore.Open(t.Context(), dir, runstore.Options{})
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("Open says %v, want %q in it", err, c.want)
				}
			}
			if _, err := runstore.OpenReadOnly(t.Context(), dir); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("OpenReadOnly says %v, want %q in it", err, c.want)
			}
		})
	}
}

func TestUnknownKind(t *testing.T) {
	s := open(t, t.TempDir(), runstore.Options{})
	if err := s.Append([]runstore.Decision{{Source: 1}}); err == nil || !strings.HasPrefix(err.Error(), "BUG:") {
		t.Errorf("Append says %v", err)
	}
}

func TestClosed(t *testing.T) {
	s := open(t, t.TempDir(), runstore.Options{})
	check(t, s.Close())
	check(t, s.Close())
	if err := s.Append([]runstore.Decision{written(1, "x")}); !errors.Is(err, runstore.ErrClosed) {
		t.Errorf("Append says %v", err)
	}
	if err := s.Finish(t.Context(), runstore.Done, nil); !errors.Is(err, runstore.ErrClosed) {
		t.Errorf("Finish says %v", err)
	}
}

func TestIntendOfManyCallersIsCommittedTogether(t *testing.T) {
	var mu sync.Mutex
	commits := 0
	gate := make(chan struct{})
	s := open(t, t.TempDir(), runstore.Options{Before: func(op string) error {
		mu.Lock()
		defer mu.Unlock()
		if op == "commit" {
			if commits++; commits == 3 { // after those of Open: the first Intend
				mu.Unlock()
				<-gate
				mu.Lock()
			}
		}
		return nil
	}})
	id := put(t, s, "a")
	var wg sync.WaitGroup
	intend := func(i int) {
		wg.Go(func() {
			if err := s.Intend(t.Context(), []runstore.Decision{written(id, fmt.Sprint(i))}); err != nil {
				t.Error(err)
			}
		})
	}
	intend(0)
	for { // until the first is being committed
		mu.Lock()
		n := commits
		mu.Unlock()
		if n == 3 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	for i := 1; i <= 50; i++ {
		intend(i)
	}
	for s.Queued() < 50 {
		time.Sleep(time.Millisecond)
	}
	close(gate)
	wg.Wait()
	if commits != 4 {
		t.Errorf("50 rows waiting took %d commits, want 1", commits-3)
	}
	if n := len(all(t, s)); n != 51 {
		t.Errorf("%d rows, want 51", n)
	}
}

func TestIntendEndsWithItsContext(t *testing.T) {
	gate := make(chan struct{})
	var held bool
	s := open(t, t.TempDir(), runstore.Options{Before: func(op string) error {
		if held {
			<-gate
		}
		return nil
	}})
	id := put(t, s, "a")
	check(t, s.Begin(t.Context(), runstore.Run{}))
	held = true
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := s.Intend(ctx, []runstore.Decision{written(id, "x")}); !errors.Is(err, context.Canceled) {
		t.Errorf("Intend says %v", err)
	}
	close(gate)
	equal(t, "decisions", all(t, s), []string{"a x write written"})
}

func TestAppendWaitsForTheCommitter(t *testing.T) {
	gate := make(chan struct{})
	var held bool
	s := open(t, t.TempDir(), runstore.Options{Before: func(op string) error {
		if held {
			<-gate
		}
		return nil
	}})
	id := put(t, s, "a")
	check(t, s.Begin(t.Context(), runstore.Run{}))
	held = true
	put(t, s, "b")
	for s.Queued() > 0 { // until the committer has it and is held
		time.Sleep(time.Millisecond)
	}
	const rows, chunk = 70_000, 1000 // more than may wait
	ended := make(chan error, 1)
	go func() {
		ds := make([]runstore.Decision, chunk)
		for i := range rows {
			ds[i%chunk] = written(id, fmt.Sprintf("tile=%d", i))
			if i%chunk == chunk-1 {
				if err := s.Append(ds); err != nil {
					ended <- err
					return
				}
			}
		}
		ended <- nil
	}()
	for s.Queued() < runstore.QueueRows-chunk {
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-ended:
		close(gate)
		t.Fatalf("%d rows were taken in while nothing was committed (%v)", rows, err)
	default:
	}
	close(gate)
	check(t, <-ended)
	if _, n, _, err := s.Counts(t.Context()); n != rows || err != nil {
		t.Errorf("%d rows, want %d (%v)", n, rows, err)
	}
}
