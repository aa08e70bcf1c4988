package nearest_test

import (
	"errors"
	"io/fs"
	"slices"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/model/nearest"
)

// Whatever operation on a file fails, there is an error and no answer that lacks
// something, and nothing is left behind.
func TestFailingFilesAreErrors(t *testing.T) {
	all := equal(1050, 2) // more than a chunk
	fail := errors.New("the disk fails")
	searches := func(t *testing.T, early int) { searchFailing(t, all, fail, early) }
	t.Run("while adding", func(t *testing.T) { searches(t, 1010) })
	t.Run("while adding before", func(t *testing.T) { searches(t, 1030) })
}

func searchFailing(t *testing.T, all vectors, fail error, early int) {
	want := 0 // pairs
	for i := early; i < len(all); i++ {
		want += i
	}
	run := func(dir fsys.Root) (pairs int, closed, err error) {
		x, err := nearest.New(nearest.Options{Dim: 2, Within: 0.9, Dir: dir, Prefix: "near-", Memory: 1})
		if err != nil {
			return 0, nil, err
		}
		defer func() { closed = x.Close() }()
		for _, v := range all {
			if err := x.Append(v); err != nil {
				return 0, nil, err
			}
		}
		if err := x.Ready(t.Context()); err != nil {
			return 0, nil, err
		}
		for _, i := range inOrder(early) {
			x.Add(i)
		}
		for part := range slices.Chunk(inOrder(len(all))[early:], 30) {
			if err := x.Begin(t.Context(), part); err != nil {
				return 0, nil, err
			}
			for _, i := range part {
				at, err := x.Matches(i, nil)
				if err != nil {
					if _, again := x.Matches(i, nil); again == nil {
						t.Error("it answers after an error")
					}
					return 0, nil, err
				}
				pairs += len(at)
				x.Add(i)
			}
		}
		return pairs, nil, nil
	}
	left := func(r fsys.Root) int {
		t.Helper()
		names, err := r.ReadDir(".")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	t.Run("writing", func(t *testing.T) {
		for n := int64(0); ; n++ {
			faulty := fsys.FailAt(fsys.OS, n, fail)
			dir := t.TempDir()
			r, err := faulty.OpenRoot(dir)
			if err != nil {
				continue // the folder itself
			}
			pairs, closed, err := run(r)
			switch {
			case err == nil && pairs != want:
				t.Errorf("%s fails: %d pairs, want %d", faulty.Failed(), pairs, want)
			case n > 0 && faulty.Failed() != "" && !errors.Is(err, fail) && !errors.Is(closed, fail):
				t.Errorf("%s fails: errors %v and %v", faulty.Failed(), err, closed)
			case err != nil && left(r) > 0, n == 0 && left(r) > 0:
				t.Errorf("%s fails: files are left", faulty.Failed())
			}
			r.Close()
			if n > 0 && faulty.Failed() == "" {
				if n < 6 {
					t.Errorf("there are %d operations, want the file of reduced vectors among them", n)
				}
				break
			}
		}
	})
	t.Run("reading", func(t *testing.T) {
		count := &reads{Root: root(t), err: fail}
		if pairs, _, err := run(count); err != nil || pairs != want {
			t.Fatalf("%d pairs, want %d, %v", pairs, want, err)
		}
		for _, n := range []int64{1, 2, 1025, 2000, 2200, count.n / 2, count.n - 1025, count.n - 1} {
			r := &reads{Root: root(t), err: fail, at: n}
			if _, _, err := run(r); !errors.Is(err, fail) {
				t.Errorf("reading fails the %d. time of %d: error %v", n, count.n, err)
			}
			if left(r.Root) > 0 {
				t.Error("files are left")
			}
		}
	})
	t.Run("opening", func(t *testing.T) {
		for n := int64(1); n <= 2; n++ {
			r := &reads{Root: root(t), err: fail, openAt: n}
			if _, _, err := run(r); !errors.Is(err, fail) || left(r.Root) > 0 {
				t.Errorf("opening fails the %d. time: error %v", n, err)
			}
		}
	})
}

// reads is a folder of which the files cannot be read, or opened, from a time on.
type reads struct {
	fsys.Root
	err    error
	n, at  int64 // reads so far, and the one that fails; 0: none
	opened int64
	openAt int64
}

func (r *reads) Open(name string) (fsys.File, error) {
	if r.opened++; r.opened == r.openAt {
		return nil, &fs.PathError{Op: "open", Path: name, Err: r.err}
	}
	f, err := r.Root.Open(name)
	return failingFile{f, r}, err
}

type failingFile struct {
	fsys.File
	r *reads
}

func (f failingFile) ReadAt(p []byte, at int64) (int, error) {
	if f.r.n++; f.r.n == f.r.at {
		return 0, &fs.PathError{Op: "read", Err: f.r.err}
	}
	return f.File.ReadAt(p, at)
}
