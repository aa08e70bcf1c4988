package main

import (
	"bufio"
	"bytes"
	"embed"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/forgepipe/forgepipe/benchmarks/internal/proc"
	"github.com/forgepipe/forgepipe/benchmarks/internal/python"
)

//go:embed models.py requirements.txt
var peerFiles embed.FS

// network is one that models.py knows.
type network struct{ name, title, output string }

var networks = []network{
	{"icnet", "ICNet (IC9600)", "score"},
	{"clip", "CLIP ViT-B/32", "output"},
	{"dinov2", "DINOv2 ViT-S/14", "output"},
	{"sscd", "SSCD ResNet-50", "output"},
	{"hyperiqa", "HyperIQA, crops", "score"},
	{"lpips", "LPIPS VGG-16", "output"},
	{"rrdb", "RRDBNet 4x, 23 blocks", "output"},
	{"compact", "SRVGGNetCompact 4x, 64 features, 16 convolutions", "output"},
	{"span", "SPAN 4x, 48 features", "output"},
	{"realplksr", "RealPLKSR 4x, 64 features, 28 blocks", "output"},
}

// took is what runs take.
type took struct{ wall, cpu float64 } // seconds

// result is what was measured of a network.
type result struct {
	network
	size              string
	relative, largest float64 // of the outputs' differences
	converted         proc.Usage
	ours, theirs      []took // for a picture, one for each round
	oursRSS, peerRSS  int64
}

// largeResult is what was measured of a large checkpoint.
type largeResult struct {
	kind                string
	checkpoint, written int64 // bytes
	converted           proc.Usage
	fromCache, fromONNX []float64 // seconds
}

type benchmark struct {
	self, interpreter, script string
	tmp, version              string
	results                   []result
	larges                    []largeResult
}

func newBench(dir, interpreter string) (b *benchmark, err error) {
	b = &benchmark{interpreter: interpreter}
	if b.self, err = os.Executable(); err != nil {
		return nil, err
	}
	reference, err := filepath.Abs(filepath.Join("model", "arch", "testdata", "reference"))
	if err != nil {
		return nil, err
	}
	// OpenMP's threads spin while they wait for each other: where others need the CPUs, the
	// one that is waited for is not running then, and PyTorch takes many times as long.
	for k, v := range map[string]string{"OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": strings.Trim(reference+":"+os.Getenv("PYTHONPATH"), ":"), "PYTHONDONTWRITEBYTECODE": "1"} {
		if err := os.Setenv(k, v); err != nil {
			return nil, err
		}
	}
	if interpreter != "" {
		b.script = filepath.Join("benchmarks", "models", "models.py")
	} else {
		missing := ""
		if b.interpreter, b.script, missing, err = python.Install(filepath.Join(dir, "python-models"), peerFiles, "models.py", "python3-venv of version 3.11 or newer, and the network"); err != nil {
			return nil, err
		}
		if missing != "" {
			return nil, fmt.Errorf("without Python there is nothing to compare with: %s", missing)
		}
	}
	b.version = proc.Output(b.interpreter, b.script, "versions")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	if b.tmp, err = os.MkdirTemp(dir, "models-"); err != nil {
		return nil, err
	}
	// Where networks of checkpoints are kept.
	return b, os.Setenv("XDG_CACHE_HOME", filepath.Join(b.tmp, "cache"))
}

// pinned is a command that has as many CPUs as threads.
func pinned(args ...string) *exec.Cmd {
	args = append(proc.Pin(threads), args...)
	return exec.Command(args[0], args[1:]...)
}

// measure measures a network.
func (b *benchmark) measure(n network, rounds int) error {
	folder := filepath.Join(b.tmp, n.name)
	if err := os.Mkdir(folder, 0o777); err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	u, err := proc.Run(1, []*exec.Cmd{exec.Command(b.interpreter, b.script, "make", n.name, folder)})
	if err != nil {
		return err
	}
	size := strings.Fields(string(u.Stdout))
	if len(size) != 3 {
		return fmt.Errorf("making it printed %q", u.Stdout)
	}
	r := result{network: n, size: strings.Join([]string{size[0], "3", size[1], size[2]}, " x ")}
	batch, err := strconv.ParseFloat(size[0], 64)
	if err != nil {
		return err
	}
	if r.converted, err = proc.Run(1, []*exec.Cmd{exec.Command(b.self, "-job", "convert", filepath.Join(folder, "checkpoint.pth"), filepath.Join(folder, "net.onnx"))}); err != nil {
		return err
	}
	ours, err := start(pinned(append([]string{b.self, "-job", "serve", folder, n.output}, size...)...))
	if err != nil {
		return err
	}
	defer ours.kill()
	if r.relative, r.largest, err = difference(filepath.Join(folder, "output.f32"), filepath.Join(folder, "ours.f32")); err != nil {
		return err
	}
	if !(r.relative <= most) {
		return fmt.Errorf("what comes out differs by %.1e of its length from PyTorch's", r.relative)
	}
	theirs, err := start(pinned(b.interpreter, b.script, "serve", n.name, folder, strconv.Itoa(threads)))
	if err != nil {
		return err
	}
	defer theirs.kill()
	one, err := ours.run(1)
	if err != nil {
		return err
	}
	times := int(math.Ceil(long / one.wall))
	entrants := []struct {
		s      *server
		rounds *[]took
	}{{ours, &r.ours}, {theirs, &r.theirs}}
	for round := range rounds {
		for i := range entrants {
			e := entrants[(i+round)%2] // nobody is always first
			all, err := e.s.run(times)
			if err != nil {
				return err
			}
			pictures := float64(times) * batch
			*e.rounds = append(*e.rounds, took{all.wall / pictures, all.cpu / pictures})
		}
		fmt.Fprintf(os.Stderr, "round %d, %s: %.1f ms, PyTorch %.1f ms a picture\n", round+1, n.title, 1000*r.ours[round].wall, 1000*r.theirs[round].wall)
	}
	if r.oursRSS, err = ours.end(); err != nil {
		return err
	}
	if r.peerRSS, err = theirs.end(); err != nil {
		return err
	}
	b.results = append(b.results, r)
	return nil
}

// A server is a process that runs a network as often as it is told.
type server struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	stderr bytes.Buffer
}

func start(cmd *exec.Cmd) (*server, error) {
	s := &server{cmd: cmd}
	cmd.Stderr = &s.stderr
	var err error
	if s.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.out = bufio.NewScanner(out)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if !s.out.Scan() || s.out.Text() != "ready" {
		s.kill()
		return nil, fmt.Errorf("starting %s: %s", strings.Join(cmd.Args, " "), s.stderr.Bytes())
	}
	return s, nil
}

// run runs the network n times.
func (s *server) run(n int) (t took, err error) {
	if _, err := fmt.Fprintln(s.in, n); err != nil {
		return took{}, err
	}
	if !s.out.Scan() {
		return took{}, fmt.Errorf("%s ended: %s", s.cmd.Args[0], s.stderr.Bytes())
	}
	_, err = fmt.Sscan(s.out.Text(), &t.wall, &t.cpu)
	return t, err
}

// end ends the process, and returns its peak resident set in bytes.
func (s *server) end() (int64, error) {
	if err := s.in.Close(); err != nil {
		return 0, err
	}
	if err := s.cmd.Wait(); err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", s.cmd.Args[0], err, s.stderr.Bytes())
	}
	return s.cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10, nil
}

// kill ends a process that something went wrong with; one that has ended stays as it is.
func (s *server) kill() {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

// large measures what a checkpoint of the size of CLIP L/14 takes.
func (b *benchmark) large(kind string) error {
	checkpoint, onnx := filepath.Join(b.tmp, "large.safetensors"), filepath.Join(b.tmp, "large.onnx")
	defer func() {
		for _, path := range []string{checkpoint, onnx, filepath.Join(b.tmp, "cache")} {
			_ = os.RemoveAll(path)
		}
	}()
	if _, err := proc.Run(1, []*exec.Cmd{exec.Command(b.interpreter, b.script, "large", checkpoint, kind)}); err != nil {
		return err
	}
	r := largeResult{kind: kind}
	var err error
	if r.converted, err = proc.Run(1, []*exec.Cmd{exec.Command(b.self, "-job", "convert", checkpoint, onnx)}); err != nil {
		return err
	}
	for path, n := range map[string]*int64{checkpoint: &r.checkpoint, onnx: &r.written} {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		*n = info.Size()
	}
	for trial := range 4 {
		for _, e := range []struct {
			path    string
			seconds *[]float64
		}{{checkpoint, &r.fromCache}, {onnx, &r.fromONNX}} {
			u, err := proc.Run(1, []*exec.Cmd{pinned(b.self, "-job", "open", e.path)})
			if err != nil {
				return err
			}
			took, err := strconv.ParseFloat(strings.TrimSpace(string(u.Stdout)), 64)
			if err != nil {
				return err
			}
			if trial > 0 { // the first one fills the cache
				*e.seconds = append(*e.seconds, took)
			}
		}
	}
	fmt.Fprintf(os.Stderr, "large, %s: %d MB converted to %d MB in %v; opened in %v s from the cache, %v s as ONNX\n", kind, r.checkpoint/1e6, r.written/1e6, r.converted, r.fromCache, r.fromONNX)
	b.larges = append(b.larges, r)
	return nil
}
