package runstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/internal/runstore"
)

const sources = 2500

// filled is a store of many sources, some with no decision and some with many.
func filled(t *testing.T) (dir string) {
	dir = t.TempDir()
	s, err := runstore.Open(t.Context(), dir, runstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	kinds := []runstore.Kind{runstore.Written, runstore.Rejected, runstore.Failed, runstore.Passed}
	for i := range sources {
		folder := []string{"", "a/", "a.b/", "b/", "\xff/", "\x00lq/"}[rnd.IntN(6)]
		src := runstore.Source{Path: fmt.Sprintf("%s%d.jpg", folder, i), Size: int64(i)}
		if err := s.PutSource(&src); err != nil {
			t.Fatal(err)
		}
		var rows []runstore.Decision
		for k := range rnd.IntN(3) * rnd.IntN(6) {
			rows = append(rows, runstore.Decision{
				Source: src.ID, Lineage: fmt.Sprintf("tile=8,%d,0", k), Stage: fmt.Sprintf("s%d", rnd.IntN(3)), Kind: kinds[rnd.IntN(4)],
			})
		}
		if err := s.Append(rows); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

type rowsOf map[string][]runstore.Decision

func find(t *testing.T, s *runstore.Store, q runstore.Query) (rowsOf, []string) {
	t.Helper()
	all, order := rowsOf{}, []string{}
	err := s.Find(t.Context(), q, func(src runstore.Source, rows []runstore.Decision) error {
		if _, twice := all[src.Path]; twice {
			t.Errorf("%q comes twice", src.Path)
		}
		all[src.Path] = rows
		order = append(order, src.Path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, order
}

// Find yields what a walk over everything finds.
func TestFind(t *testing.T) {
	s, err := runstore.OpenReadOnly(t.Context(), filled(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	walked := rowsOf{}
	if err := s.Decisions(t.Context(), func(src runstore.Source, d runstore.Decision) error {
		walked[src.Path] = append(walked[src.Path], d)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, q := range []runstore.Query{
		{}, {Kind: runstore.Failed}, {Kind: runstore.Written}, {Kind: runstore.Rejected}, {Kind: runstore.Passed}, {Prefix: "a/"}, {Prefix: "a"}, {Prefix: "a/1"}, {Prefix: "\xff"}, {Prefix: "\x00lq/"},
		{Prefix: "a", Kind: runstore.Rejected}, {Prefix: "none"},
	} {
		got, order := find(t, s, q)
		want := rowsOf{}
		for path, rows := range walked {
			for _, d := range rows {
				if strings.HasPrefix(path, q.Prefix) && (q.Kind == 0 || q.Kind == d.Kind) {
					want[path] = append(want[path], d)
				}
			}
		}
		bare := 0
		for path, rows := range got {
			if len(rows) == 0 {
				bare++
				delete(got, path)
				if q.Kind != 0 || !strings.HasPrefix(path, q.Prefix) {
					t.Errorf("%+v: source %q without rows", q, path)
				}
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v: %d sources with rows, want %d", q, len(got), len(want))
		}
		if q == (runstore.Query{}) && (len(order) != sources || bare == 0) {
			t.Errorf("%d sources, of them %d without rows; want %d and some", len(order), bare, sources)
		}
	}
	broken := errors.New("enough")
	for _, q := range []runstore.Query{{}, {Kind: runstore.Failed}, {Prefix: "a"}} {
		if err := s.Find(t.Context(), q, func(runstore.Source, []runstore.Decision) error { return broken }); !errors.Is(err, broken) {
			t.Errorf("%+v: %v, not the error of yield", q, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Find(ctx, runstore.Query{}, func(runstore.Source, []runstore.Decision) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Tallies count what a walk counts.
func TestTallies(t *testing.T) {
	s, err := runstore.OpenReadOnly(t.Context(), filled(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	type key struct {
		stage string
		kind  runstore.Kind
	}
	want, bare := map[key]int64{}, int64(0)
	all, _ := find(t, s, runstore.Query{})
	for path, rows := range all {
		if len(rows) == 0 && !strings.HasPrefix(path, "\x00lq/") {
			bare++
		}
		for _, d := range rows {
			want[key{d.Stage, d.Kind}]++
		}
	}
	tallies, n, err := s.Tallies(t.Context(), "\x00lq/")
	got := map[key]int64{}
	for _, c := range tallies {
		got[key{c.Stage, c.Kind}] += c.N
	}
	if err != nil || n != bare || !reflect.DeepEqual(got, want) {
		t.Errorf("%v and %d bare, %v; want %v and %d", got, n, err, want, bare)
	}
}

// A store is in use while it is open for writing, and asking keeps nobody from
// opening it.
func TestInUse(t *testing.T) {
	dir := t.TempDir()
	is := func(want bool) {
		t.Helper()
		if got, err := runstore.InUse(dir); got != want || err != nil {
			t.Errorf("in use: %v, %v; want %v", got, err, want)
		}
	}
	is(false)
	stop := make(chan struct{})
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = runstore.InUse(dir)
			}
		}
	}()
	for range 10 {
		s, err := runstore.Open(t.Context(), dir, runstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		is(true)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	<-asked
	is(false)
}

func TestRunBegun(t *testing.T) {
	dir := t.TempDir()
	s, err := runstore.Open(t.Context(), dir, runstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	began := time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC)
	for i := range 2 {
		if err := s.Begin(t.Context(), runstore.Run{Started: began.Add(time.Duration(i) * time.Hour)}); err != nil {
			t.Fatal(err)
		}
		if err := s.Finish(t.Context(), runstore.Done, []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	at := began.Truncate(time.Millisecond)
	id, summary, ok, err := s.RunBegun(t.Context(), at, at.Add(time.Millisecond))
	if id != 1 || string(summary) != "0" || !ok || err != nil {
		t.Errorf("run %d, %q, %v, %v", id, summary, ok, err)
	}
	if _, _, ok, err := s.RunBegun(t.Context(), at.Add(time.Millisecond), at.Add(time.Second)); ok || err != nil {
		t.Errorf("a run in between: %v, %v", ok, err)
	}
}
