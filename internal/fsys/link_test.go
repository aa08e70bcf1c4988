//go:build unix

package fsys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// On a file system that cannot rename without replacing, a link does it.
func TestLinkNew(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"f": "one", "taken": "two"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "sub"), 0o777), os.Symlink("f", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := linkNew(d, "f", d, "taken"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("onto a file: %v, want fs.ErrExist", err)
	}
	if err := linkNew(d, "sub", d, "other"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("of a folder: %v, want errors.ErrUnsupported", err)
	}
	if err := linkNew(d, "f", d, "g"); err != nil {
		t.Errorf("of a file: %v", err)
	}
	if err := linkNew(d, "link", d, "link2"); err != nil {
		t.Errorf("of a link: %v", err)
	}
	for name, want := range map[string]string{"g": "one", "taken": "two"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); string(b) != want || err != nil {
			t.Errorf("%s has %q, %v; want %q", name, b, err, want)
		}
	}
	if to, err := os.Readlink(filepath.Join(dir, "link2")); to != "f" || err != nil {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "f")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old name: %v", err)
	}
}
