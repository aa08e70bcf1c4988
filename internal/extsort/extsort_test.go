package extsort_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/forgepipe/forgepipe/internal/extsort"
	"github.com/forgepipe/forgepipe/internal/fsys"
)

func openRoot(t testing.TB, fsy fsys.FS, dir string) fsys.Root {
	t.Helper()
	root, err := fsy.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root
}

func collect(s *extsort.Sorter) ([]extsort.Record, error) {
	var all []extsort.Record
	for r, err := range s.All() {
		if err != nil {
			return all, err
		}
		all = append(all, r)
	}
	return all, nil
}

func TestSort(t *testing.T) {
	tests := []struct {
		name    string
		n       int
		keys    int // distinct ones
		value   int // bytes
		memory  int64
		minRuns int // files seen before reading
		maxRuns int
	}{
		{"nothing", 0, 1, 0, 1 << 20, 0, 0},
		{"one", 1, 1, 5, 1 << 20, 0, 0},
		{"in memory", 1000, 50, 10, 1 << 20, 0, 0},
		{"a few runs", 5000, 700, 40, 64 << 10, 2, 31},
		{"runs of runs", 50000, 900, 60, 64 << 10, 4, 70},
		{"records over the memory", 6, 3, 200 << 10, 64 << 10, 5, 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := extsort.New(openRoot(t, fsys.OS, dir), "sort", tt.memory)
			rnd := rand.New(rand.NewPCG(1, 2))
			value := make([]byte, tt.value)
			var want []extsort.Record
			for i := range tt.n {
				key := fmt.Sprintf("k%x", rnd.IntN(tt.keys))
				copy(value, fmt.Sprint(i)) // the buffer is used again: Add must copy
				if err := s.Add(key, value); err != nil {
					t.Fatal(err)
				}
				want = append(want, extsort.Record{Key: key, Value: bytes.Clone(value)})
			}
			if s.Len() != int64(tt.n) {
				t.Errorf("Len() = %d, want %d", s.Len(), tt.n)
			}
			files, err := os.ReadDir(dir)
			if err != nil || len(files) < tt.minRuns || len(files) > tt.maxRuns {
				t.Errorf("%d files, %v; want %d to %d", len(files), err, tt.minRuns, tt.maxRuns)
			}
			slices.SortStableFunc(want, func(a, b extsort.Record) int { return strings.Compare(a.Key, b.Key) })
			got, err := collect(s)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.EqualFunc(got, want, func(a, b extsort.Record) bool { return a.Key == b.Key && bytes.Equal(a.Value, b.Value) }) {
				t.Errorf("got %d records in another order than the %d wanted", len(got), len(want))
			}
			if err := s.Add("late", nil); err == nil {
				t.Error("Add after All was taken")
			}
			if again, err := collect(s); err != nil || !slices.EqualFunc(got, again, func(a, b extsort.Record) bool { return a.Key == b.Key && bytes.Equal(a.Value, b.Value) }) {
				t.Errorf("a second pass gave %d records, %v", len(again), err)
			}
			for range 2 {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
			if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
				t.Errorf("Close left %v, %v", files, err)
			}
			if err := s.Add("later", nil); err == nil {
				t.Error("Add after Close was taken")
			}
		})
	}
}

// Keys are bytes: empty ones, those that are not UTF-8, and those that begin
// alike.
func TestKeys(t *testing.T) {
	s := extsort.New(openRoot(t, fsys.OS, t.TempDir()), "x", 0)
	defer s.Close()
	for _, k := range []string{"b", "\xff", "", "a\x00", "a", "ü", "B", "\x00"} {
		if err := s.Add(k, nil); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for r, err := range s.All() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r.Key)
	}
	if want := []string{"", "\x00", "B", "a", "a\x00", "b", "ü", "\xff"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestStopEarly(t *testing.T) {
	s := filled(t, openRoot(t, fsys.OS, t.TempDir()))
	for r, err := range s.All() {
		if err != nil || r.Key == "" {
			t.Fatal(r, err)
		}
		break
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// filled is a sorter with several runs.
func filled(t *testing.T, root fsys.Root) *extsort.Sorter {
	t.Helper()
	s := extsort.New(root, "sort", 0)
	for i := range 3000 {
		if err := s.Add(fmt.Sprint(i*7919%3000), make([]byte, 50)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestConcurrentAdd(t *testing.T) {
	s := extsort.New(openRoot(t, fsys.OS, t.TempDir()), "sort", 0)
	defer s.Close()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				if err := s.Add(fmt.Sprintf("%04d", i), []byte{byte(g)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got, err := collect(s)
	if err != nil || len(got) != 8000 {
		t.Fatalf("%d records, %v", len(got), err)
	}
	for i, r := range got {
		if r.Key != fmt.Sprintf("%04d", i/4) {
			t.Fatalf("record %d is %s", i, r.Key)
		}
	}
}

// A killed process leaves runs behind; their names are taken over.
func TestLeftOver(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sort-000001.run"), []byte("old"), 0o666); err != nil {
		t.Fatal(err)
	}
	s := filled(t, openRoot(t, fsys.OS, dir))
	defer s.Close()
	if got, err := collect(s); err != nil || len(got) != 3000 {
		t.Errorf("%d records, %v", len(got), err)
	}
}

// A run that is not what was written is an error, not a record fewer.
func TestDamage(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"shorter":  func(b []byte) []byte { return b[:len(b)-1] },
		"empty":    func(b []byte) []byte { return nil },
		"longer":   func(b []byte) []byte { return append(b, 0) },
		"a bit":    func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"a length": func(b []byte) []byte { return append(bytes.Repeat([]byte{0xff}, 9), b...) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := filled(t, openRoot(t, fsys.OS, dir))
			defer s.Close()
			p := filepath.Join(dir, "sort-000002.run")
			b, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p, damage(b), 0o666); err != nil {
				t.Fatal(err)
			}
			if _, err := collect(s); err == nil || !strings.Contains(err.Error(), "sort-000002.run") {
				t.Errorf("got %v, want an error that names the run", err)
			}
		})
	}
}

// Whatever operation fails, it is reported, and no record is missing without an
// error.
func TestFaults(t *testing.T) {
	fault := errors.New("disk full")
	var ops int64
	for n := int64(0); n <= ops; n++ {
		dir := t.TempDir()
		faulty := fsys.FailAt(fsys.OS, n, fault)
		root, err := faulty.OpenRoot(dir)
		if err != nil {
			continue // the first operation
		}
		s := extsort.New(root, "sort", 0)
		var failed error
		for i := 0; i < 2500 && failed == nil; i++ {
			failed = s.Add(fmt.Sprint(i), make([]byte, 1000))
		}
		if failed != nil {
			if err := s.Add("x", nil); !errors.Is(err, fault) {
				t.Errorf("operation %d: Add after the failure: %v", n, err)
			}
		}
		got, err := collect(s)
		if failed == nil && (err != nil || len(got) != 2500) || failed != nil && !errors.Is(err, fault) {
			t.Errorf("operation %d (%s): Add %v, then %d records and %v", n, faulty.Failed(), failed, len(got), err)
		}
		if err := errors.Join(failed, s.Close()); n > 0 && !errors.Is(err, fault) {
			t.Errorf("operation %d (%s): nobody heard of the failure: %v", n, faulty.Failed(), err)
		}
		if n == 0 {
			ops = faulty.Count()
			if ops < 100 {
				t.Fatalf("only %d operations", ops)
			}
		} else if !strings.HasPrefix(faulty.Failed(), "remove") || failed != nil {
			if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
				t.Errorf("operation %d: left %v, %v", n, files, err)
			}
		}
		if err := root.Close(); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkSort(b *testing.B) {
	root := openRoot(b, fsys.OS, b.TempDir())
	rnd := rand.New(rand.NewPCG(1, 2))
	keys := make([]string, 100000)
	for i := range keys {
		keys[i] = fmt.Sprintf("photos/%08x.jpg", rnd.Uint32())
	}
	value := make([]byte, 100)
	for b.Loop() {
		s := extsort.New(root, "sort", 4<<20)
		for _, k := range keys {
			if err := s.Add(k, value); err != nil {
				b.Fatal(err)
			}
		}
		for _, err := range s.All() {
			if err != nil {
				b.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
