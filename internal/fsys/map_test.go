package fsys_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
)

// What is changed in a mapping is in its file, also after its pages have left memory.
func TestMap(t *testing.T) {
	if !fsys.CanMap {
		t.Skip("this system maps no files")
	}
	dir := t.TempDir()
	root, err := fsys.OS.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	const size = 3<<20 + 5
	if err := root.Allocate("a", size); err != nil {
		t.Fatal(err)
	}
	if err := root.Allocate("a", size); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second time: %v", err)
	}
	info, err := os.Stat(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	if blocks := info.Sys().(*syscall.Stat_t).Blocks; info.Size() != size || blocks*512 < size {
		t.Errorf("%d bytes in %d blocks", info.Size(), blocks)
	}
	m, err := root.Map("a", size)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	data := m.Bytes()
	if len(data) != size || data[0] != 0 || data[size-1] != 0 {
		t.Fatalf("%d bytes", len(data))
	}
	copy(data[size-5:], "hello")
	if err := m.Leave(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data[size-5:], []byte("hello")) {
		t.Error("leaving has lost something")
	}
	f, err := root.Open("a")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := io.ReadAll(f)
	if err != nil || len(got) != size || string(got[size-5:]) != "hello" {
		t.Errorf("the file has %d bytes, %v", len(got), err)
	}
	if err := m.Blank(); err != nil {
		t.Fatal(err)
	}
	if data[size-5] != 0 {
		t.Error("what was let go is still to be seen")
	}
}

func TestMapBeyondTheEnd(t *testing.T) {
	root, err := fsys.OS.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := root.Allocate("a", 4096); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int64{4097, 0} {
		if _, err := root.Map("a", n); err == nil {
			t.Errorf("%d bytes were mapped", n)
		}
	}
	if _, err := root.Map("b", 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// What cannot fit is refused before anything is taken, with what there is.
func TestAllocateTooMuch(t *testing.T) {
	root, err := fsys.OS.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	free, err := root.Free()
	if err != nil || free <= 0 {
		t.Fatalf("%d bytes are free, %v", free, err)
	}
	err = root.Allocate("a", 1<<60)
	var full *fsys.NoRoomError
	if !errors.As(err, &full) || full.Need != 1<<60 || full.Free <= 0 || !errors.Is(err, syscall.ENOSPC) || !fsys.IsFatal(err) {
		t.Errorf("got %v", err)
	}
	if _, err := root.Lstat("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something is left: %v", err)
	}
}

func TestAllocateFails(t *testing.T) {
	broken := fsys.FailAt(fsys.OS, 2, syscall.ENOSPC)
	root, err := broken.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := root.Allocate("a", 10); !errors.Is(err, syscall.ENOSPC) || broken.Failed() != "allocate a" {
		t.Errorf("got %v, failed %q", err, broken.Failed())
	}
}
