package main

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// These tests drive the real program, built as users get it, as a process of
// its own: what a kill -9 leaves cannot be seen from inside.

var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "forgepipe-test-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "forgepipe")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-o", bin, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the program: %w\n%s", err, out)
	}
	return bin, nil
})

// forgepipe is a command line of the program that cuts photographs into tiles.
func forgepipe(t *testing.T, in, out string, args ...string) *exec.Cmd {
	t.Helper()
	return running(t, "tiles", in, out, args...)
}

// running is a command line of the program with one of the example pipelines.
func running(t *testing.T, pipeline, in, out string, args ...string) *exec.Cmd {
	t.Helper()
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	yaml := filepath.Join("..", "..", "pipelines", pipeline+".yaml")
	return exec.Command(bin, append([]string{"run", yaml, "--cache", "none", "--set", "INPUT=" + in, "--set", "OUT=" + out}, args...)...)
}

// fromInput is a command line of the program with a pipeline from its standard
// input.
func fromInput(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return exec.Command(bin, append([]string{"run", "-", "--quiet", "--cache", "none"}, args...)...)
}

// photos links some of the photographs into a folder, so that a run is short.
func photos(t *testing.T, n int) string {
	t.Helper()
	all, err := filepath.Glob("../../testdata/photos/*.jpg")
	if err != nil || len(all) < n {
		t.Fatalf("%d photographs, %v", len(all), err)
	}
	dir := t.TempDir()
	for _, p := range all[:n] {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(p)), b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// outputs is what a run left, without its state directory.
func outputs(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if err == nil && d.Name() == ".forgepipe" {
				return filepath.SkipDir
			}
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		out[rel] = fmt.Sprintf("%x", sha256.Sum256(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func same(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	if maps.Equal(got, want) {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s: %s is %.8q, want %.8q", what, name, got[name], want[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: %s should not be there", what, name)
		}
	}
}

func TestKilledAtAnyInstantItResumes(t *testing.T) {
	// With tiles, files are written all the time; quickstart writes when its
	// barrier has seen everything.
	for pipeline, fewest := range map[string]struct{ killed, partial int }{"tiles": {13, 5}, "quickstart": {13, 1}} {
		t.Run(pipeline, func(t *testing.T) { killed(t, pipeline, fewest.killed, fewest.partial) })
	}
}

func killed(t *testing.T, pipeline string, fewestKilled, fewestPartial int) {
	in := photos(t, 5)
	if _, err := program(); err != nil { // not part of the time that a run takes
		t.Fatal(err)
	}
	ref := filepath.Join(t.TempDir(), "out")
	began := time.Now()
	if b, err := running(t, pipeline, in, ref).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	whole := time.Since(began)
	want := outputs(t, ref)
	if len(want) < 5 {
		t.Fatalf("the undisturbed run left %v", want)
	}
	r := rand.New(rand.NewPCG(20, 26))
	killed, partial := 0, 0
	const times = 25
	for i := range times {
		out := filepath.Join(t.TempDir(), "out")
		cmd := running(t, pipeline, in, out)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(r.Float64() * float64(whole)))
		_ = cmd.Process.Kill()
		var exit *exec.ExitError
		if err := cmd.Wait(); errors.As(err, &exit) && exit.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
			killed++
		}
		if _, err := os.Stat(out); err == nil {
			if left := outputs(t, out); len(left) > 0 && !maps.Equal(left, want) {
				partial++
			}
		}
		if b, err := running(t, pipeline, in, out).CombinedOutput(); err != nil {
			t.Fatalf("kill %d: the next run: %v\n%s", i, err, b)
		}
		same(t, fmt.Sprintf("kill %d", i), outputs(t, out), want)
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d of %d runs were killed on their way, %d of them with part of the outputs there", killed, times, partial)
	if killed < fewestKilled || partial < fewestPartial {
		t.Errorf("%d runs were killed, %d with part of the outputs there: the kills come at the wrong time", killed, partial)
	}
}

// started waits until the program has written something, so that a signal
// comes in the middle of its work.
func started(t *testing.T, out string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if m, _ := filepath.Glob(filepath.Join(out, "*.png")); len(m) > 0 {
			return
		}
	}
	t.Fatal("the program writes nothing")
}

func TestSignals(t *testing.T) {
	in := photos(t, 12)
	ref := filepath.Join(t.TempDir(), "out")
	if b, err := forgepipe(t, in, ref).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	want := outputs(t, ref)
	for _, tt := range []struct {
		name  string
		sig   syscall.Signal
		times int
		exit  int
	}{
		{"interrupt once drains", syscall.SIGINT, 1, 130},
		{"terminate once drains", syscall.SIGTERM, 1, 143},
		{"interrupt twice ends at once", syscall.SIGINT, 2, 130},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			cmd := forgepipe(t, in, out)
			var stderr strings.Builder
			pipe, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				for s := bufio.NewScanner(pipe); s.Scan(); {
					fmt.Fprintln(&stderr, s.Text())
				}
			}()
			started(t, out)
			for range tt.times {
				if err := cmd.Process.Signal(tt.sig); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Millisecond)
			}
			<-done
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != tt.exit {
				t.Errorf("exit code %d, want %d\n%s", code, tt.exit, stderr.String())
			}
			if !strings.Contains(stderr.String(), "interrupted") {
				t.Errorf("it does not say that it was interrupted:\n%s", stderr.String())
			}
			left := outputs(t, out)
			for name := range left {
				if left[name] != want[name] {
					t.Errorf("it left %s, which is not what a whole run writes", name)
				}
			}
			if len(left) >= len(want) {
				t.Errorf("it finished everything: the signal came too late to show anything")
			}
			if b, err := forgepipe(t, in, out).CombinedOutput(); err != nil {
				t.Fatalf("the next run: %v\n%s", err, b)
			}
			same(t, "resumed", outputs(t, out), want)
		})
	}
}
