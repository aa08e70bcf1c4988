package index_test

import (
	"context"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/stages/dedup/index"
)

// Who reads sees one state whatever is added, and the one they opened stays theirs.
func TestReadingBesideAdding(t *testing.T) {
	index.Small(t, 200, 2)
	dir := t.TempDir()
	add(t, dir, span(0, 10, 1))
	first := open(t, dir)
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		defer close(done)
		for i := 1; i < 20; i++ {
			if _, err := index.Add(context.Background(), quick{}, dir, columns(), each(span(10*i, 10*i+10, 1))); err != nil {
				t.Error(err)
			}
		}
	})
	for reading := true; reading; {
		select {
		case <-done:
			reading = false
		default:
		}
		x, err := index.Open(fsys.OS, dir)
		check(t, err)
		if x.Len()%10 != 0 {
			t.Errorf("%d entries", x.Len())
		}
		holds(t, x, span(0, int(x.Len()), 1))
		check(t, x.Close())
	}
	wg.Wait()
	holds(t, first, span(0, 10, 1))
	holds(t, open(t, dir), span(0, 200, 1))
	onlyItsFiles(t, dir)
}

// late is the file system where something happens between reading index.json and looking for
// that file of a segment.
type late struct {
	file string
	then func()
}

func (l *late) OpenRoot(dir string) (fsys.Root, error) {
	r, err := fsys.OS.OpenRoot(dir)
	return lateRoot{r, l}, err
}

type lateRoot struct {
	fsys.Root
	*late
}

func (r lateRoot) Lstat(name string) (fs.FileInfo, error) {
	if name == r.file && r.then != nil {
		r.then()
		r.then = nil
	}
	return r.Root.Lstat(name)
}

func TestOpeningWhileSegmentsAreMerged(t *testing.T) {
	index.Small(t, 200, 2)
	index.Large(t, 8)
	for _, file := range []string{firstSegment, firstLarge} {
		dir := t.TempDir()
		add(t, dir, span(0, 10, 1))
		add(t, dir, span(10, 20, 1))
		merging := &late{file, func() { add(t, dir, span(20, 30, 1)) }}
		x, err := index.Open(merging, dir)
		check(t, err)
		holds(t, x, span(0, 30, 1))
		check(t, x.Close())
		if merging.then != nil {
			t.Errorf("nobody looked for %s", file)
		}
	}
}

// Many small adds make neither many files nor one that is written again each time.
func TestMergingIsCheap(t *testing.T) {
	index.Small(t, 1<<10, 8)
	dir := t.TempDir()
	names := map[string]bool{}
	written := int64(0)
	for i := range 160 {
		add(t, dir, span(i, i+1, 1))
		files, err := os.ReadDir(dir)
		check(t, err)
		if len(files) > 8+2 {
			t.Fatalf("%d files after %d adds", len(files), i+1)
		}
		for _, f := range files {
			if !names[f.Name()] && strings.HasPrefix(f.Name(), "segment-") {
				names[f.Name()] = true
				info, err := f.Info()
				check(t, err)
				written += info.Size()
			}
		}
	}
	x := open(t, dir)
	holds(t, x, span(0, 160, 1))
	if _, size := segments(t, dir); written > 8*size {
		t.Errorf("%d bytes were written for %d", written, size)
	}
}
