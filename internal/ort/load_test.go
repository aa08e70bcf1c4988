//go:build linux && cgo && !noort

package ort_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/internal/ort"
)

// unpacked fills a cache directory and gives the library's path in it.
func unpacked(t *testing.T) (cache, path string) {
	t.Helper()
	cache = t.TempDir()
	r := loadInChild(t, "", "XDG_CACHE_HOME="+cache)
	if r.Error != "" || !r.Works {
		t.Fatalf("loading into an empty cache: %+v", r)
	}
	return cache, r.Library.Path
}

func TestLoadUnpacksIntoTheCache(t *testing.T) {
	cache, path := unpacked(t)
	if !strings.HasPrefix(path, cache+"/forgepipe/ort-") || filepath.Base(path) != "libonnxruntime.so" {
		t.Errorf("the library is at %s, want it under %s/forgepipe/ort-...", path, cache)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	r := loadInChild(t, "", "XDG_CACHE_HOME="+cache)
	after, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("a second process wrote the library again")
	}
	if !r.Library.Embedded || r.Library.Version == "" || len(r.Library.Providers) == 0 {
		t.Errorf("the library is %+v, want a version and providers of an embedded one", r.Library)
	}
	if !strings.Contains(r.Second, path) {
		t.Errorf("loading another library: %q, want an error that names %s", r.Second, path)
	}
}

func TestLoadReplacesWhatIsNotTheLibrary(t *testing.T) {
	cache, path := unpacked(t)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(good)
	changed[len(changed)/2] ^= 1
	stale := path + ".1.tmp"
	for name, damage := range map[string]func() error{
		"half-written": func() error { return os.WriteFile(path, good[:len(good)/2], 0o600) },
		"one bit off":  func() error { return os.WriteFile(path, changed, 0o600) },
		"empty":        func() error { return os.WriteFile(path, nil, 0o600) },
		"link":         func() error { return os.Symlink("/etc/hostname", path) },
		"writable for others": func() error {
			if err := os.WriteFile(path, good, 0o600); err != nil {
				return err
			}
			return os.Chmod(path, 0o666)
		},
		"left by a process that died": func() error {
			if err := os.WriteFile(stale, good[:100], 0o600); err != nil {
				return err
			}
			old := time.Now().Add(-48 * time.Hour)
			return os.Chtimes(stale, old, old)
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			r := loadInChild(t, "", "XDG_CACHE_HOME="+cache)
			if !r.Works || r.Library.Path != path {
				t.Errorf("%+v, want a library that works at %s", r, path)
			}
			info, err := os.Lstat(path)
			if err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != 0o600 {
				t.Errorf("the file is %v now (%v), want one of this user alone", info, err)
			}
			if data, err := os.ReadFile(path); err != nil || !bytes.Equal(data, good) {
				t.Errorf("the file was not replaced (%v)", err)
			}
			if names, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(names) != 1 {
				t.Errorf("the cache has %v, want the library alone", names)
			}
		})
	}
}

func TestLoadFromMemoryWhereTheCacheIsNoPlace(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	open := filepath.Join(dir, "open")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{open, filepath.Join(dir, "fine"), filepath.Join(dir, "fine/forgepipe")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{open, filepath.Join(dir, "fine/forgepipe")} {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for name, env := range map[string][]string{
		"no home":                       {"XDG_CACHE_HOME=", "HOME="},
		"a file in the way":             {"XDG_CACHE_HOME=" + file},
		"cannot be written":             {"XDG_CACHE_HOME=/proc/nothing"},
		"others may write":              {"XDG_CACHE_HOME=" + open},
		"others may write to forgepipe": {"XDG_CACHE_HOME=" + filepath.Join(dir, "fine")},
	} {
		t.Run(name, func(t *testing.T) {
			r := loadInChild(t, "", env...)
			if r.Error != "" || !r.Works || !strings.HasPrefix(r.Library.Path, "/proc/self/fd/") {
				t.Errorf("%+v, want a library that works from memory", r)
			}
		})
	}
}

func TestLoadFromMemoryWhereNoCodeIsRunFromTheCache(t *testing.T) {
	cache := t.TempDir()
	cmd := childCommand("", "XDG_CACHE_HOME="+cache, noexecVariable+"="+cache)
	var out bytes.Buffer
	cmd.Stdout = &out
	// A user may mount what only this process sees.
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("this system lets no process mount anything: %v", err)
	}
	err := cmd.Wait()
	if r := parseReport(t, out.Bytes(), err); !r.Works || !strings.HasPrefix(r.Library.Path, "/proc/self/fd/") {
		t.Errorf("%+v, want a library that works from memory", r)
	}
}

// Processes that start at once on a new machine each find a whole library.
func TestLoadInTwoProcessesAtOnce(t *testing.T) {
	cache := t.TempDir()
	const n = 3
	var outs [n]bytes.Buffer
	var waits [n]func() error
	for i := range n {
		cmd := childCommand("", "XDG_CACHE_HOME="+cache)
		cmd.Stdout = &outs[i]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waits[i] = cmd.Wait
	}
	for i := range n {
		err := waits[i]()
		if r := parseReport(t, outs[i].Bytes(), err); !r.Works || !strings.HasPrefix(r.Library.Path, cache) {
			t.Errorf("process %d: %+v", i, r)
		}
	}
}

func TestLoadNamesWhatIsWrongWithALibrary(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text.so")
	if err := os.WriteFile(text, []byte("no library at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, path := unpacked(t)
	for name, tt := range map[string]struct {
		path string
		env  string
		want []string // in the error; none: it loads
	}{
		"no such file":            {path: "/nowhere/libonnxruntime.so", want: []string{"/nowhere/libonnxruntime.so", "No such file"}},
		"not a library":           {path: text, want: []string{text, "file too short"}},
		"a directory":             {path: "/etc/", want: []string{"/etc"}},
		"another library":         {path: "libm.so.6", want: []string{"libm.so.6", "OrtGetApiBase"}},
		"named in a variable":     {env: text, want: []string{ort.LibraryVariable, text}},
		"a good one":              {path: path},
		"a good one by variable":  {env: path},
		"the path goes before it": {path: path, env: text},
	} {
		t.Run(name, func(t *testing.T) {
			r := loadInChild(t, tt.path, ort.LibraryVariable+"="+tt.env)
			if tt.want == nil && (!r.Works || r.Library.Embedded || r.Library.Path != path) {
				t.Errorf("%+v, want %s loaded", r, path)
			}
			for _, want := range tt.want {
				if !strings.Contains(r.Error, want) {
					t.Errorf("error %q, want %q in it", r.Error, want)
				}
			}
		})
	}
}
