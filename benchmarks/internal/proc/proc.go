// Package proc measures other programs from outside: wall time, CPU time and
// memory as the kernel counts them.
package proc

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what commands took.
type Usage struct {
	Wall, CPU time.Duration // CPU is user and system time of all processes and their children
	// RSS is the peak resident set in bytes of the largest process; for several
	// commands at once the sum of the largest ones, as many as ran at a time.
	// Linux lets a new process begin with the peak of the one that starts it, so
	// none is less than Floor.
	RSS    int64
	Stdout []byte // of all commands
}

func (u Usage) String() string {
	return fmt.Sprintf("%.2f s, CPU %.2f s, %d MB", u.Wall.Seconds(), u.CPU.Seconds(), u.RSS/1e6)
}

// Floor is the peak resident set of this program so far, in bytes: less than that
// Run cannot see.
func Floor() int64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return r.Maxrss << 10
}

// Forgepipe is the path of the built command, and what it says of its version, in
// one line.
func Forgepipe() (path, version string, err error) {
	if path, err = filepath.Abs("bin/forgepipe"); err != nil {
		return "", "", err
	}
	version = Output(path, "version")
	if version == "" {
		return "", "", fmt.Errorf("%s does not run: `make build` makes it", path)
	}
	return path, strings.Join(strings.Fields(strings.ReplaceAll(version, "\n", ", ")), " "), nil
}

// trials is how often each way is tried.
const trials = 2

// Fastest tries so many ways of the same work in turn, and returns the one that
// took the least wall time in a trial. One way alone is not tried.
func Fastest(ways int, try func(way int) (Usage, error)) (fastest int, err error) {
	if ways == 1 {
		return 0, nil
	}
	least := make([]time.Duration, ways)
	for trial := range trials {
		for i := range ways {
			u, err := try(i)
			if err != nil {
				return 0, err
			}
			if trial == 0 || u.Wall < least[i] {
				least[i] = u.Wall
			}
		}
	}
	return slices.Index(least, slices.Min(least)), nil
}

// Run runs the commands, so many at a time, in the order given.
func Run(atATime int, cmds []*exec.Cmd) (Usage, error) {
	type result struct {
		u   Usage
		err error
	}
	results := make([]result, len(cmds))
	began := time.Now()
	var wg sync.WaitGroup
	slots := make(chan struct{}, atATime)
	for i, c := range cmds {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			results[i].u, results[i].err = run(c)
		})
	}
	wg.Wait()
	all := Usage{Wall: time.Since(began)}
	var peaks []int64
	for _, r := range results {
		if r.err != nil {
			return Usage{}, r.err
		}
		all.CPU += r.u.CPU
		all.Stdout = append(all.Stdout, r.u.Stdout...)
		peaks = append(peaks, r.u.RSS)
	}
	slices.Sort(peaks)
	for _, p := range peaks[max(0, len(peaks)-atATime):] {
		all.RSS += p
	}
	return all, nil
}

func run(c *exec.Cmd) (Usage, error) {
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		return Usage{}, fmt.Errorf("running %s: %w\n%s", strings.Join(c.Args, " "), err, stderr.Bytes())
	}
	u := Usage{CPU: c.ProcessState.UserTime() + c.ProcessState.SystemTime(), Stdout: stdout.Bytes()}
	if r, ok := c.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.RSS = r.Maxrss << 10
	}
	return u, nil
}

// Pin returns the command line to start programs with so that they see and use n
// of the CPUs: none where there are no more, or no taskset.
func Pin(n int) []string {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil || set.Count() <= n {
		return nil
	}
	path, err := exec.LookPath("taskset")
	if err != nil {
		return nil
	}
	var cpus []string
	for cpu := 0; len(cpus) < n; cpu++ {
		if set.IsSet(cpu) {
			cpus = append(cpus, fmt.Sprint(cpu))
		}
	}
	return []string{path, "-c", strings.Join(cpus, ",")}
}

// Load is the load average of the last minute, as the kernel prints it.
func Load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	load, _, _ := strings.Cut(string(b), " ")
	return load
}

// Output is what the command prints, trimmed, or "" if it fails.
func Output(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// Median is the middle of the samples by f; of two in the middle the upper.
func Median[T any](samples []T, f func(T) float64) float64 {
	v := make([]float64, len(samples))
	for i, s := range samples {
		v[i] = f(s)
	}
	slices.Sort(v)
	return v[len(v)/2]
}
