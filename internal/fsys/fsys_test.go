package fsys_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
)

func openRoot(t *testing.T, fsy fsys.FS, dir string) fsys.Root {
	t.Helper()
	root, err := fsy.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root
}

func write(root fsys.Root, name, text string) error {
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	return errors.Join(err, f.Sync(), f.Close())
}

func TestRoot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "with", "parents")
	root := openRoot(t, fsys.OS, dir)
	if root.Name() != dir {
		t.Errorf("Name() = %q, want %q", root.Name(), dir)
	}
	if err := root.MkdirAll("a/b"); err != nil {
		t.Fatal(err)
	}
	if err := write(root, "a/b/x.tmp", "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Create("a/b/x.tmp"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("creating it again: %v, want fs.ErrExist", err)
	}
	if _, err := root.Create("no/such/x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("creating without parents: %v, want fs.ErrNotExist", err)
	}
	if err := root.Rename("a/b/x.tmp", "a/b/x"); err != nil {
		t.Fatal(err)
	}
	app, err := root.Append("a/b/x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(app, ", world"); err != nil {
		t.Fatal(err)
	}
	if err := app.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := root.Open("a/b/x")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || string(got) != "hello, world" {
		t.Errorf("read %q, %v", got, err)
	}
	part := make([]byte, 5)
	if _, err := f.ReadAt(part, 7); err != nil || string(part) != "world" {
		t.Errorf("ReadAt: %q, %v", part, err)
	}
	if err := write(root, "a/b/c", ""); err != nil {
		t.Fatal(err)
	}
	entries, err := root.ReadDir("a/b")
	if err != nil || len(entries) != 2 || entries[0].Name() != "c" || entries[1].Name() != "x" {
		t.Errorf("ReadDir: %v, %v", entries, err)
	}
	if err := root.SyncFS(); err != nil {
		t.Errorf("SyncFS: %v", err)
	}
	if err := root.Remove("a/b/x"); err != nil {
		t.Error(err)
	}
	if _, err := root.Lstat("a/b/x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Lstat after Remove: %v", err)
	}
	for range 2 {
		if err := root.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
}

// No name leaves the root, whether by dots, by being absolute or through a link.
func TestRootHolds(t *testing.T) {
	parent := t.TempDir()
	root := openRoot(t, fsys.OS, filepath.Join(parent, "in"))
	if err := os.WriteFile(filepath.Join(parent, "secret"), []byte("s"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(parent, filepath.Join(parent, "in", "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../secret", "a/../../secret", filepath.Join(parent, "secret"), "link/secret"} {
		if f, err := root.Open(name); err == nil {
			_ = f.Close()
			t.Errorf("Open(%q) left the root", name)
		}
		if f, err := root.Create(name + "2"); err == nil {
			_ = f.Close()
			t.Errorf("Create(%q) left the root", name+"2")
		}
		if err := root.Remove(name); err == nil {
			t.Errorf("Remove(%q) left the root", name)
		}
	}
	if _, err := os.Stat(filepath.Join(parent, "secret")); err != nil {
		t.Error(err)
	}
}

var errFault = errors.New("fault")

// script is one of each counted operation, eleven with the opening.
func script(fsy fsys.FS, dir string) error {
	root, err := fsy.OpenRoot(dir) // 1
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.MkdirAll("d"); err != nil { // 2
		return err
	}
	f, err := root.Create("d/x") // 3
	if err != nil {
		return err
	}
	defer f.Close()
	for _, s := range []string{"aaaa", "bbbb"} { // 4, 5
		if _, err := io.WriteString(f, s); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil { // 6
		return err
	}
	if err := root.Rename("d/x", "d/y"); err != nil { // 7
		return err
	}
	g, err := root.Append("d/y") // 8
	if err != nil {
		return err
	}
	defer g.Close()
	if _, err := io.WriteString(g, "cccc"); err != nil { // 9
		return err
	}
	if err := root.SyncFS(); err != nil { // 10
		return err
	}
	return root.Remove("d/y") // 11
}

func TestFailAtEach(t *testing.T) {
	clean := fsys.FailAt(fsys.OS, 0, errFault)
	if err := script(clean, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if clean.Count() != 11 || clean.Failed() != "" {
		t.Fatalf("counted %d, failed %q; want 11 and none", clean.Count(), clean.Failed())
	}
	ops := []string{"mkdir", "mkdir", "create", "write", "write", "sync", "rename", "append", "write", "syncfs", "remove"}
	for n := int64(1); n <= clean.Count(); n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			dir := t.TempDir()
			faulty := fsys.FailAt(fsys.OS, n, errFault)
			if err := script(faulty, dir); !errors.Is(err, errFault) {
				t.Fatalf("got %v, want the fault", err)
			}
			if faulty.Count() != n {
				t.Errorf("went on to operation %d", faulty.Count())
			}
			if op, _, _ := strings.Cut(faulty.Failed(), " "); op != ops[n-1] {
				t.Errorf("failed %q, want %s", faulty.Failed(), ops[n-1])
			}
			if n == 5 {
				if got, err := os.ReadFile(filepath.Join(dir, "d", "x")); err != nil || string(got) != "aaaabb" {
					t.Errorf("half a write left %q, %v; want aaaabb", got, err)
				}
			}
		})
	}
}

func TestSticky(t *testing.T) {
	for _, sticky := range []bool{false, true} {
		faulty := fsys.FailAt(fsys.OS, 3, errFault)
		faulty.Sticky = sticky
		root := openRoot(t, faulty, t.TempDir()) // 1
		f, err := root.Create("x")               // 2
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if n, err := io.WriteString(f, "aaaa"); n != 2 || !errors.Is(err, errFault) { // 3
			t.Errorf("write: %d, %v", n, err)
		}
		n, err := io.WriteString(f, "bbbb") // 4
		if sticky && (n != 0 || !errors.Is(err, errFault)) || !sticky && (n != 4 || err != nil) {
			t.Errorf("sticky %v: the next write: %d, %v", sticky, n, err)
		}
		if err := root.MkdirAll("d"); (err != nil) != sticky { // 5
			t.Errorf("sticky %v: mkdir: %v", sticky, err)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{
		"a", "a/b.png", "a b/ü.png", "..a/b..", ".hidden", "console.png", "com10", "com", "nullable", "xx:y",
		strings.Repeat("a", 255) + "/b",
	} {
		if err := fsys.CheckName(name); err != nil {
			t.Errorf("CheckName(%q) = %v", name, err)
		}
	}
	for name, want := range map[string]string{
		"":                       "empty",
		"/a":                     "absolute",
		"..":                     "leaves",
		"a/../b":                 "leaves",
		"./a":                    "component",
		"a//b":                   "empty component",
		"a/":                     "empty component",
		"a\x00b":                 "NUL",
		`a\b`:                    "backslash",
		"C:/a":                   "drive letter",
		"c:a":                    "drive letter",
		"CON":                    "reserves",
		"a/nul.txt/b":            "reserves",
		"com1.png":               "reserves",
		"Lpt9":                   "reserves",
		"aux .tar.gz":            "reserves",
		"COM¹":                   "reserves",
		strings.Repeat("a", 256): "256 bytes",
	} {
		if err := fsys.CheckName(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("CheckName(%q) = %v, want one with %q", name, err, want)
		}
	}
}

func TestIsFatal(t *testing.T) {
	for _, err := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO} {
		if !fsys.IsFatal(fmt.Errorf("writing: %w", &fs.PathError{Op: "write", Path: "x", Err: err})) {
			t.Errorf("%v is not fatal", err)
		}
	}
	for _, err := range []error{nil, syscall.ENOENT, syscall.EACCES, syscall.EMFILE, io.EOF} {
		if fsys.IsFatal(err) {
			t.Errorf("%v is fatal", err)
		}
	}
}
