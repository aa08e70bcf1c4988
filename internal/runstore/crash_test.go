package runstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forgepipe/forgepipe/internal/runstore"
)

func TestRecovery(t *testing.T) {
	none := func(*testing.T, *runstore.Store) {}
	begin := func(t *testing.T, s *runstore.Store) {
		check(t, s.Begin(t.Context(), runstore.Run{Fingerprint: "f"}))
	}
	finish := func(state string) func(*testing.T, *runstore.Store) {
		return func(t *testing.T, s *runstore.Store) {
			begin(t, s)
			check(t, s.Finish(t.Context(), state, nil))
		}
	}
	cases := map[string]struct {
		first func(*testing.T, *runstore.Store)
		boot  string
		want  runstore.Recovery
	}{
		"no run":                   {none, "first boot", runstore.Recovery{}},
		"done":                     {finish(runstore.Done), "first boot", runstore.Recovery{}},
		"interrupted":              {finish(runstore.Interrupted), "first boot", runstore.Recovery{}},
		"killed":                   {begin, "first boot", runstore.Recovery{Crashed: true}},
		"killed with the machine":  {begin, "second boot", runstore.Recovery{Crashed: true, Rebooted: true}},
		"done and machine reboots": {finish(runstore.Done), "second boot", runstore.Recovery{Rebooted: true}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, runstore.Options{})
			equal(t, "recovery of a new store", s.Recovery(), runstore.Recovery{})
			c.first(t, s)
			check(t, s.Close())
			equal(t, "recovery", open(t, dir, runstore.Options{BootID: c.boot}).Recovery(), c.want)
		})
	}
}

func TestLastRun(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, runstore.Options{})
	if _, _, _, ok, err := s.LastRun(t.Context()); ok || err != nil {
		t.Errorf("a new store has a last run (%v)", err)
	}
	if err := s.Finish(t.Context(), runstore.Done, nil); err == nil {
		t.Error("a run that did not begin was finished")
	}
	s = reopen(t, s, dir, "first boot")
	want := runstore.Run{Fingerprint: "f", Version: "v", Spec: "s", Started: time.Unix(12, 34)}
	check(t, s.Begin(t.Context(), runstore.Run{Fingerprint: "before", Started: time.Now()}))
	check(t, s.Finish(t.Context(), runstore.Done, nil))
	check(t, s.Begin(t.Context(), want))
	check(t, s.Finish(t.Context(), runstore.Interrupted, []byte("summary")))
	s = reopen(t, s, dir, "first boot")
	run, state, summary, ok, err := s.LastRun(t.Context())
	if err != nil || !ok || state != runstore.Interrupted || string(summary) != "summary" {
		t.Errorf("LastRun: %q, %q, %v, %v", state, summary, ok, err)
	}
	equal(t, "run", run, want)
}

func reopen(t testing.TB, s *runstore.Store, dir, boot string) *runstore.Store {
	t.Helper()
	s.Close()
	return open(t, dir, runstore.Options{BootID: boot})
}

// doubts returns the lineages of a's rows that are in doubt.
func doubts(t testing.TB, s *runstore.Store) (intended, unsynced string) {
	for _, d := range byPath(t, s, "a") {
		if s.Intended(d) {
			intended += d.Lineage
		}
		if s.Unsynced(d) {
			unsynced += d.Lineage
		}
	}
	return intended, unsynced
}

func TestIntendedUntilSettled(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, runstore.Options{})
	a := put(t, s, "a")
	first := []runstore.Decision{written(a, "1"), written(a, "2"), written(a, "3"), written(a, "4")}
	check(t, s.Intend(t.Context(), first))
	check(t, s.Append([]runstore.Decision{rejected(a, "5")}))
	s.Settled(first[1].Seq)
	s = reopen(t, s, dir, "first boot")
	if in, _ := doubts(t, s); in != "134" {
		t.Errorf("intended: %s, want 134", in)
	}

	// The next run rewrites one, finds one in place and is killed: the doubt about
	// the last must outlive it, though it settled rows of its own.
	ds := byPath(t, s, "a")
	again := []runstore.Decision{written(a, "1"), written(a, "6")}
	check(t, s.Intend(t.Context(), again))
	s.Settled(again[0].Seq, again[1].Seq, ds[2].Seq)
	s = reopen(t, s, dir, "first boot")
	if in, un := doubts(t, s); in != "4" || un != "" {
		t.Errorf("intended: %s, unsynced: %s; want 4 and none", in, un)
	}
	check(t, s.Delete(t.Context(), byPath(t, s, "a")[3:4]))
	s = reopen(t, s, dir, "first boot")
	if in, _ := doubts(t, s); in != "" {
		t.Errorf("intended: %s, want none", in)
	}
}

func TestUnsyncedAfterReboot(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, runstore.Options{})
	check(t, s.Begin(t.Context(), runstore.Run{}))
	a := put(t, s, "a")
	first := []runstore.Decision{written(a, "1"), written(a, "2")}
	check(t, s.Intend(t.Context(), first))
	s.Settled(first[0].Seq)
	check(t, s.Checkpoint(t.Context(), func() error {
		// Too late for this checkpoint: syncfs may have passed these by.
		s.Settled(first[1].Seq)
		return s.Append([]runstore.Decision{written(a, "3")})
	}))
	failed := errors.New("no space")
	check(t, s.Append([]runstore.Decision{written(a, "4")}))
	if err := s.Checkpoint(t.Context(), func() error { return failed }); !errors.Is(err, failed) {
		t.Errorf("Checkpoint says %v", err)
	}

	s = reopen(t, s, dir, "first boot")
	if _, un := doubts(t, s); un != "" {
		t.Errorf("unsynced without a reboot: %s", un)
	}
	s = reopen(t, s, dir, "second boot")
	if _, un := doubts(t, s); un != "234" {
		t.Errorf("unsynced: %s, want 234", un)
	}
	// This run verifies one, writes one, syncs and is killed: the files nobody
	// verified are as doubtful as before.
	s.Settled(byPath(t, s, "a")[1].Seq)
	check(t, s.Append([]runstore.Decision{written(a, "5")}))
	check(t, s.Checkpoint(t.Context(), func() error { return nil }))
	s = reopen(t, s, dir, "second boot")
	if _, un := doubts(t, s); un != "34" || !s.Recovery().Rebooted {
		t.Errorf("unsynced: %s, want 34; %+v", un, s.Recovery())
	}
	check(t, s.Begin(t.Context(), runstore.Run{}))
	check(t, s.Checkpoint(t.Context(), func() error { return nil }))
	check(t, s.Finish(t.Context(), runstore.Done, nil))
	s = reopen(t, s, dir, "third boot")
	if _, un := doubts(t, s); un != "" {
		t.Errorf("unsynced after a finished run: %s", un)
	}
}

// scenario uses every way of writing once. It returns the rows that Intend
// returned for and the first error.
func scenario(dir string, before func(string) error) (durable []runstore.Decision, err error) {
	ctx := context.Background()
	s, err := runstore.Open(ctx, dir, runstore.Options{BootID: "first boot", Before: before})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	src := source("a")
	drop := source("b")
	steps := []func() error{
		func() error { return s.Begin(ctx, runstore.Run{}) },
		func() error { return s.PutSource(&src) },
		func() error { return s.PutSource(&drop) },
		func() error {
			ds := []runstore.Decision{written(src.ID, "tile=1"), written(src.ID, "tile=2"), written(drop.ID, "tile=1")}
			err := s.Intend(ctx, ds)
			if err == nil {
				durable = ds[:2]
				s.Settled(ds[0].Seq)
			}
			return err
		},
		func() error {
			return s.Append([]runstore.Decision{written(src.ID, "tile=3"), rejected(src.ID, "tile=1")})
		},
		func() error { return s.Checkpoint(ctx, func() error { return nil }) },
		func() error { return s.DeleteSources(ctx, []int64{drop.ID}) },
		func() error { return s.PutSource(&src) },
		func() error { return s.Append([]runstore.Decision{written(src.ID, "tile=3")}) },
		func() error { return s.Finish(ctx, runstore.Done, nil) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return durable, err
		}
	}
	return durable, nil
}

func TestFailingAtEveryOperation(t *testing.T) {
	boom := errors.New("boom")
	ops := 0
	if _, err := scenario(t.TempDir(), func(string) error { ops++; return nil }); err != nil || ops < 20 {
		t.Fatalf("undisturbed: %d operations, %v", ops, err)
	}
	for n := 1; n <= ops; n++ {
		t.Run(fmt.Sprintf("operation %d", n), func(t *testing.T) {
			dir := t.TempDir()
			at, failedOp := 0, ""
			durable, err := scenario(dir, func(op string) error {
				if at++; at == n {
					failedOp = op
					return boom
				}
				return nil
			})
			if !errors.Is(err, boom) {
				t.Errorf("failing at %s says %v", failedOp, err)
			}
			s := open(t, dir, runstore.Options{})
			consistent(t, s)
			if len(durable) > 0 {
				have := map[string]bool{}
				for _, d := range byPath(t, s, "a") {
					have[d.Lineage] = true
				}
				for _, d := range durable {
					if !have[d.Lineage] {
						t.Errorf("row %s is gone", d.Lineage)
					}
				}
			}
			check(t, s.Close())
			_, err = scenario(dir, nil)
			check(t, err)
		})
	}
}

// consistent checks that the counts are those of the rows.
func consistent(t testing.TB, s *runstore.Store) {
	t.Helper()
	sources, decisions, byKind, err := s.Counts(context.Background())
	check(t, err)
	n, kinds := int64(0), map[runstore.Kind]int64{}
	check(t, s.Decisions(context.Background(), func(_ runstore.Source, d runstore.Decision) error {
		n++
		kinds[d.Kind]++
		return nil
	}))
	files := int64(0)
	check(t, s.UnseenSources(context.Background(), func(runstore.Source) error { files++; return nil }))
	if n != decisions || files != sources {
		t.Errorf("%d rows of %d sources counted, %d of %d there", decisions, sources, n, files)
	}
	for k, n := range byKind {
		if kinds[k] != n {
			t.Errorf("%d rows %s counted, %d there", n, k, kinds[k])
		}
	}
}

func TestErrorIsKept(t *testing.T) {
	boom := errors.New("boom")
	var failing bool
	s := open(t, t.TempDir(), runstore.Options{Before: func(op string) error {
		if failing && op == "commit" {
			return boom
		}
		return nil
	}})
	id := put(t, s, "a")
	check(t, s.Begin(t.Context(), runstore.Run{}))
	failing = true
	src := source("b")
	if err := s.Intend(t.Context(), []runstore.Decision{written(id, "x")}); !errors.Is(err, boom) {
		t.Errorf("Intend says %v", err)
	}
	if err := s.Unseen(t.Context(), nil); !errors.Is(err, boom) {
		t.Errorf("Unseen says %v", err)
	}
	if err := s.Append([]runstore.Decision{written(id, "y")}); !errors.Is(err, boom) {
		t.Errorf("Append says %v", err)
	}
	if err := s.PutSource(&src); !errors.Is(err, boom) {
		t.Errorf("PutSource says %v", err)
	}
	if err := s.Close(); !errors.Is(err, boom) {
		t.Errorf("Close says %v", err)
	}
}

func TestFailureReachesThoseWhoWait(t *testing.T) {
	boom := errors.New("boom")
	var failing bool
	gate := make(chan struct{})
	s := open(t, t.TempDir(), runstore.Options{Before: func(op string) error {
		if failing && op == "commit" {
			<-gate
			return boom
		}
		return nil
	}})
	id := put(t, s, "a")
	check(t, s.Begin(t.Context(), runstore.Run{}))
	failing = true
	results := make(chan error, 2)
	intend := func(lineage string) {
		results <- s.Intend(t.Context(), []runstore.Decision{written(id, lineage)})
	}
	put(t, s, "b")
	for s.Queued() > 0 { // until that commit is under way
		time.Sleep(time.Millisecond)
	}
	go intend("x")
	go intend("y")
	for s.Queued() < 2 {
		time.Sleep(time.Millisecond)
	}
	close(gate)
	for range 2 {
		if err := <-results; !errors.Is(err, boom) {
			t.Errorf("Intend says %v", err)
		}
	}
}

// child appends and intends until it is killed, and prints each row that Intend
// returned for.
func child(dir string) {
	ctx := context.Background()
	s, err := runstore.Open(ctx, dir, runstore.Options{BootID: "first boot"})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	if err := s.Begin(ctx, runstore.Run{}); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	for round := 0; ; round++ {
		src := source(fmt.Sprintf("%d-%d", os.Getpid(), round))
		s.PutSource(&src)
		for i := range 50 {
			s.Append([]runstore.Decision{rejected(src.ID, fmt.Sprintf("tile=%d", i))})
		}
		ds := []runstore.Decision{written(src.ID, "tile=1"), written(src.ID, "tile=2")}
		if err := s.Intend(ctx, ds); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println(src.Path, ds[1].Seq)
		if round%2 == 0 {
			s.Settled(ds[0].Seq, ds[1].Seq)
		}
	}
}

func TestKilledAtAnyTime(t *testing.T) {
	dir := t.TempDir()
	durable := map[string]int64{}
	for round := range 6 {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), "RUNSTORE_CHILD="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		check(t, err)
		check(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			path, seq, _ := strings.Cut(lines.Text(), " ")
			if path == "error" {
				t.Fatal(lines.Text())
			}
			if durable[path], err = strconv.ParseInt(seq, 10, 64); err != nil {
				t.Fatalf("the child says %q", lines.Text())
			}
			if n == 10+7*round {
				check(t, cmd.Process.Signal(unix.SIGKILL))
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}

		s := open(t, dir, runstore.Options{})
		if !s.Recovery().Crashed || s.Recovery().Rebooted {
			t.Errorf("recovery: %+v", s.Recovery())
		}
		consistent(t, s)
		for path, seq := range durable {
			ds := byPath(t, s, path)
			if last := ds[len(ds)-1]; len(ds) != 52 || ds[0].Lineage != "tile=0" || !hasSeq(ds, seq) {
				t.Fatalf("%s has %d rows, the last %+v, want Seq %d", path, len(ds), last, seq)
			}
		}
		check(t, s.Close())
	}
}

func hasSeq(ds []runstore.Decision, seq int64) bool {
	for _, d := range ds {
		if d.Seq == seq {
			return true
		}
	}
	return false
}
