//go:build linux && cgo && !noort

package ort_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/forgepipe/forgepipe/internal/ort"
)

// childVariable makes the test program load the library and tell how that went.
// A process loads one library, so each test of loading has a process of its own.
const childVariable = "FORGEPIPE_ORT_TEST_LOAD"

// noexecVariable has that process mount a folder there first that no code is run from.
const noexecVariable = "FORGEPIPE_ORT_TEST_NOEXEC"

// report is what a child tells.
type report struct {
	Library ort.Library
	Error   string // of Load
	Second  string // error of a second Load, of another path
	Works   bool   // a model runs
}

func TestMain(m *testing.M) {
	if path, ok := os.LookupEnv(childVariable); ok {
		if err := child(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	cache, err := os.MkdirTemp("", "ort-test")
	if err == nil {
		err = errors.Join(os.Setenv("XDG_CACHE_HOME", cache), os.Unsetenv(ort.LibraryVariable))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(cache)
		os.Exit(code)
	}))
}

func child(path string) error {
	var r report
	if dir := os.Getenv(noexecVariable); dir != "" {
		if err := unix.Mount("test", dir, "tmpfs", unix.MS_NOEXEC, "mode=0700"); err != nil {
			return err
		}
	}
	lib, err := ort.Load(path)
	if err != nil {
		r.Error = err.Error()
	} else {
		r.Library = *lib
		if _, err := ort.Load("/another/library.so"); err != nil {
			r.Second = err.Error()
		}
		s, err := lib.OpenBytes(testContext, double(int64(ort.Float32), 2), ort.SessionOptions{})
		if err != nil {
			return err
		}
		out, err := s.Run(testContext, []*ort.Tensor{floats([]int64{2}, 1, 2)}, ort.RunOptions{})
		if err := errors.Join(err, s.Close()); err != nil {
			return err
		}
		r.Works = out[0].Float32s()[1] == 4
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// loadInChild starts a process that loads path, with env added to the environment.
func loadInChild(t *testing.T, path string, env ...string) report {
	t.Helper()
	cmd := childCommand(path, env...)
	data, err := cmd.Output()
	return parseReport(t, data, err)
}

func childCommand(path string, env ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	// Programs with the race detector sleep for a second at their end otherwise.
	race := "GORACE=" + os.Getenv("GORACE") + " atexit_sleep_ms=0"
	cmd.Env = append(append(os.Environ(), race, childVariable+"="+path), env...)
	return cmd
}

func parseReport(t *testing.T, data []byte, err error) report {
	t.Helper()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("the process that loads the library ended with %v: %s", err, exit.Stderr)
	}
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	return r
}
