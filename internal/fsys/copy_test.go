package fsys_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/forgepipe/forgepipe/internal/fsys"
)

// CopyNew writes over nothing, and leaves nothing half done.
func TestCopyNew(t *testing.T) {
	dir := t.TempDir()
	a := openRoot(t, fsys.OS, filepath.Join(dir, "a"))
	b := openRoot(t, fsys.OS, filepath.Join(dir, "b"))
	if err := errors.Join(write(a, "f", "one"), write(b, "taken", "two"), write(b, "x.tmp", "half"), os.Symlink("f", filepath.Join(dir, "a/link"))); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	one := sha256.Sum256([]byte("one"))
	for _, tt := range []struct {
		name     string
		ctx      context.Context
		old, new string
		sum      [32]byte
		want     error
	}{
		{"onto a file", t.Context(), "f", "taken", [32]byte{}, fs.ErrExist},
		{"of other bytes", t.Context(), "f", "g", [32]byte{1}, fsys.ErrDiffers},
		{"of nothing", t.Context(), "none", "g", [32]byte{}, fs.ErrNotExist},
		{"that is not wanted any more", cancelled, "f", "g", [32]byte{}, context.Canceled},
		{"into no folder", t.Context(), "f", "no/g", [32]byte{}, fs.ErrNotExist},
		{"that is right", t.Context(), "f", "g", one, nil},
		{"of any bytes", t.Context(), "f", "h", [32]byte{}, nil},
	} {
		if err := fsys.CopyNew(tt.ctx, a, tt.old, b, tt.new, filepath.Join(filepath.Dir(tt.new), "x.tmp"), tt.sum); !errors.Is(err, tt.want) {
			t.Errorf("a copy %s: %v, want %v", tt.name, err, tt.want)
		}
		if _, err := b.Lstat("x.tmp"); err == nil {
			t.Errorf("a copy %s leaves half of it", tt.name)
		}
	}
	for name, want := range map[string]string{"a/f": "one", "b/g": "one", "b/h": "one", "b/taken": "two"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); string(got) != want || err != nil {
			t.Errorf("%s has %q, %v; want %q", name, got, err, want)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "a/pipe"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "pipe", "."} {
		if _, err := fsys.Hash(t.Context(), a, name); err == nil {
			t.Errorf("%s has a hash", name)
		}
	}
	if got, err := fsys.Hash(t.Context(), a, "f"); got != one || err != nil {
		t.Errorf("%x, %v", got, err)
	}
}

// LinkNew gives a second name, never over something and never through a link.
func TestLinkNewBetween(t *testing.T) {
	dir := t.TempDir()
	a := openRoot(t, fsys.OS, filepath.Join(dir, "a"))
	b := openRoot(t, fsys.OS, filepath.Join(dir, "b"))
	if err := errors.Join(write(a, "f", "one"), write(b, "taken", "two"), os.Symlink(dir, filepath.Join(dir, "b/out"))); err != nil {
		t.Fatal(err)
	}
	if err := fsys.LinkNew(a, "f", b, "taken"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("onto a file: %v", err)
	}
	if err := fsys.LinkNew(a, "f", b, "out/f"); err == nil {
		t.Error("it leaves the root through a link")
	}
	if err := fsys.LinkNew(a, "f", plain{Root: b}, "g"); !errors.Is(err, syscall.EXDEV) {
		t.Errorf("to another: %v", err)
	}
	if err := fsys.LinkNew(a, "f", b, "g"); err != nil {
		t.Error(err)
	}
	one, err := os.Stat(filepath.Join(dir, "a/f"))
	if err != nil {
		t.Fatal(err)
	}
	if two, err := os.Stat(filepath.Join(dir, "b/g")); err != nil || !os.SameFile(one, two) {
		t.Errorf("it is another file: %v", err)
	}
}
