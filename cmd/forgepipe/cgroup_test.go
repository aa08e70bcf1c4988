package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// controlGroup is a memory control group of the test's own, of version 1 or 2.
type controlGroup struct {
	dir   string
	limit string // file
}

// newControlGroup makes one below a group that this process may change.
func newControlGroup(t *testing.T) (controlGroup, error) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return controlGroup{}, err
	}
	var errs []error
	for line := range strings.Lines(string(data)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		mount, limit := "/sys/fs/cgroup", "memory.max"
		switch {
		case part[0] == "0" && part[1] == "":
		case strings.Contains(","+part[1]+",", ",memory,"):
			mount, limit = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		for _, parent := range []string{part[2], "/"} {
			dir := filepath.Join(mount, parent, "forgepipe-test-"+strconv.Itoa(os.Getpid()))
			g := controlGroup{dir, filepath.Join(dir, limit)}
			if err := os.Mkdir(dir, 0o755); err != nil {
				errs = append(errs, err)
				continue
			}
			t.Cleanup(func() { _ = os.Remove(dir) })
			// Version 2 has the file only where a parent hands the controller down.
			if err := g.set(1 << 30); err != nil {
				errs = append(errs, err)
				_ = os.Remove(dir)
				continue
			}
			return g, nil
		}
	}
	return controlGroup{}, errors.Join(errs...)
}

func (g controlGroup) set(bytes int64) error {
	return os.WriteFile(g.limit, strconv.AppendInt(nil, bytes, 10), 0o644)
}

// inside makes the command one that joins the group before it begins.
func (g controlGroup) inside(cmd *exec.Cmd) *exec.Cmd {
	script := `echo $$ > "$0" && exec "$@"`
	in := exec.Command("sh", append([]string{"-c", script, filepath.Join(g.dir, "cgroup.procs")}, cmd.Args...)...)
	in.Env, in.Stdin = cmd.Env, cmd.Stdin
	return in
}

// enlarging is a pipeline that makes 96 megapixels of each 24.
func enlarging(in, out, memory, workers string) string {
	return fmt.Sprintf("%ssource: {images: {path: %q}}\nstages:\n  - {upscale: {scale: 2, method: lanczos}%s}\n  - {write: {path: %q}%s}\n", memory, in, workers, out, workers)
}

const careless = "memory: {host: {limit: 16GiB}}\n"

// In a control group of 1 GiB, a pipeline that is told nothing about memory ends
// with the same files as one that has all the memory it wants; one that is told
// to ignore the limit is killed.
func TestOneGiB(t *testing.T) {
	in := bigPhotos(t, 8)
	run := func(dir, yaml string, group *controlGroup) (*exec.Cmd, *bytes.Buffer) {
		cmd := fromInput(t, "--state", t.TempDir())
		cmd.Stdin = strings.NewReader(yaml)
		if group != nil {
			cmd = group.inside(cmd)
		}
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		return cmd, &out
	}

	all := t.TempDir()
	cmd := fromInput(t, "--state", t.TempDir())
	cmd.Stdin = strings.NewReader(enlarging(in, all, careless, ", workers: 8"))
	var peak int64
	for _, r := range watch(t, cmd) {
		peak = max(peak, r.peak)
	}
	t.Logf("8 workers with all the memory they want: peak RSS %d MiB", peak>>20)
	if peak < 2560<<20 {
		t.Errorf("the control needs only %d MiB: it shows nothing", peak>>20)
	}
	want := outputs(t, all)

	group, err := newControlGroup(t)
	if err != nil {
		t.Logf("no control group can be made here, so that only a limit on leases is tested: %v", err)
		few := t.TempDir()
		cmd, out := run(few, enlarging(in, few, "memory: {host: {limit: 614MiB}}\n", ""), nil)
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		same(t, "under 614 MiB", outputs(t, few), want)
		return
	}

	killed := t.TempDir()
	cmd, out := run(killed, enlarging(in, killed, careless, ", workers: 8"), &group)
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the control was not killed: %v\n%s", err, out)
	}

	few := t.TempDir()
	cmd, out = run(few, enlarging(in, few, "", ""), &group)
	if err := cmd.Run(); err != nil {
		t.Fatalf("in 1 GiB: %v\n%s", err, out)
	}
	same(t, "in 1 GiB", outputs(t, few), want)

	t.Run("lowered", func(t *testing.T) {
		// So much that the pictures stand in memory, and not in a file.
		if err := group.set(6 << 30); err != nil {
			t.Fatal(err)
		}
		// Half of them are enough to be caught amidst.
		half := t.TempDir()
		of := map[string]string{}
		for i := range 4 {
			name := fmt.Sprintf("%03d", i)
			if err := os.Link(filepath.Join(in, name+".jpg"), filepath.Join(half, name+".jpg")); err != nil {
				t.Fatal(err)
			}
			of[name+".png"] = want[name+".png"]
		}
		dir := t.TempDir()
		cmd, out := run(dir, enlarging(half, dir, "", ""), &group)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		rss := func() int64 {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
			if n := kilobytes(b, "VmRSS"); err == nil && n > 0 {
				return n
			}
			return math.MaxInt64 // it has ended: not a process that uses little
		}
		wait := func(what string, ok func() bool) {
			began := time.Now()
			for !ok() {
				select {
				case err := <-done:
					t.Fatalf("ended before %s: %v\n%s", what, err, out)
				case <-time.After(10 * time.Millisecond):
				}
			}
			t.Logf("%s after %v", what, time.Since(began).Round(10*time.Millisecond))
		}
		wait("using 600 MiB", func() bool { n := rss(); return n > 600<<20 && n < math.MaxInt64 })
		limit := rss() * 13 / 10
		if err := group.set(limit); err != nil {
			t.Fatal(err)
		}
		share := limit * 6 / 10
		wait(fmt.Sprintf("under 60 %% of %d MiB", limit>>20), func() bool { return rss() <= share })
		if err := group.set(6 << 30); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		same(t, "with the limit lowered and raised", outputs(t, dir), of)
	})
}
