package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forgepipe/forgepipe/internal/fsys"
)

// A name that models.lock could not have is refused before it is in it: after that, no
// model of the store could be used.
func TestAddOddNames(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		file  string
		taken bool
	}{
		"of many letters":    {"ünï 模型 (1).pth", true},
		"a line break":       {"a\nb.pth", false},
		"the C1 controls":    {"a\u0085b.pth", false},
		"hidden":             {".hid.pth", false},
		"like a flag":        {"-x.pth", false},
		"no UTF-8":           {"a\xff.pth", false},
		"longer than others": {strings.Repeat("模", 70) + ".pth", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, tt.file)
			if err := os.WriteFile(file, data, 0o666); err != nil {
				t.Skip(err) // not every file system has such names
			}
			s := &Store{dir: filepath.Join(dir, "models"), fs: fsys.OS}
			_, _, err := s.Add(t.Context(), file, "m")
			if !tt.taken {
				wantError(t, err, "cannot be the name of a file in the store")
			} else if err != nil {
				t.Error(err)
			}
			list, err := s.List()
			if err != nil || len(list) != map[bool]int{true: 1}[tt.taken] {
				t.Errorf("listed are %+v, %v", list, err)
			}
			if v, err := s.Verify(t.Context()); err != nil || tt.taken && (len(v) != 1 || v[0].Fault != nil) {
				t.Errorf("%+v, %v", v, err)
			}
		})
	}
}

// Whatever would have models.lock refused is not written.
func TestRecordsAreCheckedBeforeTheyAreWritten(t *testing.T) {
	t.Parallel()
	s := storeOf(t, Entry{Bring: "x"})
	err := s.updateRecords(t.Context(), root(t, s), func(m map[string]Record) {
		m["m"] = Record{Files: []File{{Name: "../m.pth", SHA256: sumOf(data)}}}
	})
	wantError(t, err, "recording models", recordsName, "../m.pth")
	if exists(filepath.Join(s.dir, recordsName)) {
		t.Error("it is written all the same")
	}
}

// One would wait for ever for what a pipe says.
func TestPipesAreRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{registryName, recordsName} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := unix.Mkfifo(filepath.Join(dir, name), 0o666); err != nil {
				t.Fatal(err)
			}
			got := make(chan error, 1)
			go func() {
				s, err := Open(dir)
				if err == nil {
					_, err = s.List()
				}
				got <- err
			}()
			select {
			case err := <-got:
				wantError(t, err, filepath.Join(dir, name), "no regular file")
			case <-time.After(20 * time.Second):
				t.Error("it hangs")
			}
		})
	}
}

func TestHugeRecordsAreRefused(t *testing.T) {
	t.Parallel()
	s := storeOf(t, Entry{Bring: "x"})
	if err := errors.Join(os.MkdirAll(s.dir, 0o777), os.WriteFile(filepath.Join(s.dir, recordsName), nil, 0o666), os.Truncate(filepath.Join(s.dir, recordsName), maxRecords+1)); err != nil {
		t.Fatal(err)
	}
	_, err := s.List()
	wantError(t, err, recordsName, "more than")
}
