package fsys_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
)

// MoveNew never writes over anything, and never follows a link out of a root.
func TestMoveNew(t *testing.T) {
	dir := t.TempDir()
	a := openRoot(t, fsys.OS, filepath.Join(dir, "a"))
	b := openRoot(t, fsys.OS, filepath.Join(dir, "b"))
	if err := errors.Join(a.MkdirAll("x"), b.MkdirAll("y"), write(a, "x/f", "one"), write(b, "y/taken", "two")); err != nil {
		t.Fatal(err)
	}
	if err := fsys.MoveNew(a, "x/f", b, "y/taken"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("onto a file: %v, want fs.ErrExist", err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "b/y/link")); err != nil {
		t.Fatal(err)
	}
	if err := fsys.MoveNew(a, "x/f", b, "y/link"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("onto a link: %v, want fs.ErrExist", err)
	}
	if err := os.Symlink(dir, filepath.Join(dir, "b/out")); err != nil {
		t.Fatal(err)
	}
	if err := fsys.MoveNew(a, "x/f", b, "out/f"); err == nil {
		t.Error("it leaves the root through a link")
	}
	if err := fsys.MoveNew(a, "x/f", b, "no/f"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("into no folder: %v, want fs.ErrNotExist", err)
	}
	if err := fsys.MoveNew(a, "x/f", a, "x/g"); err != nil {
		t.Errorf("within a root: %v", err)
	}
	if err := fsys.MoveNew(a, "x/g", b, "y/f"); err != nil {
		t.Errorf("between roots: %v", err)
	}
	for name, want := range map[string]string{"b/y/f": "one", "b/y/taken": "two"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); string(got) != want || err != nil {
			t.Errorf("%s has %q, %v; want %q", name, got, err, want)
		}
	}
	faulty := fsys.FailAt(fsys.OS, 3, syscall.EIO) // two roots are opened before
	c, d := openRoot(t, faulty, filepath.Join(dir, "b")), openRoot(t, faulty, filepath.Join(dir, "a"))
	if err := fsys.MoveNew(c, "y/f", d, "x/f"); !errors.Is(err, syscall.EIO) {
		t.Errorf("it does not count as an operation that can fail: %v", err)
	}
}

// plain is a Root of another package, which has no folders to hand out.
type plain struct {
	fsys.Root
	_ []int // it cannot be compared
}

// Where a Root is none of ours, a file is moved within it, and not over anything.
func TestMoveNewOfOthers(t *testing.T) {
	dir := t.TempDir()
	a := plain{Root: openRoot(t, fsys.OS, filepath.Join(dir, "a"))}
	b := openRoot(t, fsys.OS, filepath.Join(dir, "b"))
	if err := errors.Join(write(a, "f", "one"), write(a, "taken", "two")); err != nil {
		t.Fatal(err)
	}
	if err := fsys.MoveNew(a, "f", a, "taken"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("onto a file: %v, want fs.ErrExist", err)
	}
	if err := fsys.MoveNew(a, "f", b, "f"); !errors.Is(err, syscall.EXDEV) {
		t.Errorf("to another: %v, want EXDEV", err)
	}
	if err := fsys.MoveNew(b, "f", a, "f"); !errors.Is(err, syscall.EXDEV) {
		t.Errorf("from another: %v, want EXDEV", err)
	}
	if err := fsys.MoveNew(a, "f", a, "g"); err != nil {
		t.Errorf("within: %v", err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "a/g")); string(got) != "one" || err != nil {
		t.Errorf("it has %q, %v", got, err)
	}
}
