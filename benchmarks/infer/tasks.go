package main

import (
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/forgepipe/forgepipe/benchmarks/internal/photos"
	"github.com/forgepipe/forgepipe/benchmarks/internal/proc"
	"github.com/forgepipe/forgepipe/benchmarks/internal/python"
	"github.com/forgepipe/forgepipe/model"
)

//go:embed infer.py requirements.txt
var peerFiles embed.FS

// benchmark is all that is measured.
type benchmark struct {
	tasks        []*task
	large, small int // images
	notes        []string
	tmp          string
}

// Names of entrants that the report asks for.
const (
	pillowLoop, pillowLoader = "Python, Pillow, single loop", "Python, Pillow, loader"
	opencvLoop, opencvLoader = "Python, OpenCV, single loop", "Python, OpenCV, loader"
)

var peers = []struct{ name, way, library string }{
	{pillowLoop, "loop", "pillow"},
	{pillowLoader, "loader", "pillow"},
	{opencvLoop, "loop", "opencv"},
	{opencvLoader, "loader", "opencv"},
}

func newBench(dir, tasks string, large, small int) (*benchmark, error) {
	b := &benchmark{large: large, small: small}
	forgepipe, version, err := proc.Forgepipe()
	if err != nil {
		return nil, err
	}
	b.notes = append(b.notes, version)
	photographs, err := photos.Prepare(dir)
	if err != nil {
		return nil, err
	}
	interpreter, script, missing, err := python.Install(filepath.Join(dir, "python-infer"), peerFiles, "infer.py", "python3-venv of version 3.11 or newer, and the network")
	if err != nil {
		return nil, err
	}
	if missing != "" {
		return nil, fmt.Errorf("without Python there is nothing to compare with: %s", missing)
	}
	b.notes = append(b.notes, proc.Output(interpreter, script, "versions"))
	if b.tmp, err = os.MkdirTemp(dir, "infer-"); err != nil {
		return nil, err
	}
	sets := []set{
		{name: "12 MP", dir: filepath.Join(b.tmp, "large"), one: filepath.Join(b.tmp, "large-one"), n: large},
		{name: "256 px", dir: filepath.Join(b.tmp, "small"), one: filepath.Join(b.tmp, "small-one"), n: small},
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"-job", "nets", b.tmp},
		{"-job", "set", "large", fmt.Sprint(large), photographs, sets[0].dir},
		{"-job", "set", "small", fmt.Sprint(small), photographs, sets[1].dir},
		{"-job", "set", "large", "1", photographs, sets[0].one},
		{"-job", "set", "small", "1", photographs, sets[1].one},
	} {
		if msg, err := exec.Command(self, args...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("preparing: %w\n%s", err, msg)
		}
	}
	for _, t := range []task{
		{net: nets[0], set: sets[0], decode: "exact"},
		{net: nets[0], set: sets[0], decode: "fast"},
		{net: nets[1], set: sets[0], decode: "exact"},
		{net: nets[1], set: sets[0], decode: "fast"},
		{net: nets[0], set: sets[1], decode: "exact"}, // fast decodes small ones in full too
		{net: nets[1], set: sets[1], decode: "exact"},
	} {
		if strings.Contains(t.String(), tasks) {
			b.add(&t, forgepipe, self, interpreter, script)
		}
	}
	if len(b.tasks) == 0 {
		return nil, fmt.Errorf("no task's name contains %q", tasks)
	}
	return b, nil
}

// add adds a task with all its entrants.
func (b *benchmark) add(t *task, forgepipe, self, interpreter, script string) {
	t.alike = map[*entrant]likeness{}
	network := filepath.Join(b.tmp, t.net.file)
	pin := proc.Pin(threads)
	line := func(args ...string) *exec.Cmd {
		args = append(append([]string{}, pin...), args...)
		return exec.Command(args[0], args[1:]...)
	}
	out := filepath.Join(b.tmp, fmt.Sprintf("out-%d", len(b.tasks)))
	us := func(name, in, out string) *entrant {
		return &entrant{name: name, vectors: filepath.Join(out, "manifest.jsonl"), ways: only(func() *exec.Cmd {
			_ = os.RemoveAll(out) // with its cache: what an earlier round found is not to be used
			return line(forgepipe, "run", filepath.Join("benchmarks", "infer", "embed.yaml"), "--cache", filepath.Join(out, "cache"),
				"--set", "INPUT="+in, "--set", "OUT="+out, "--set", "MODEL="+network, "--set", "PRESET="+t.net.preset, "--set", "DECODE="+t.decode)
		})}
	}
	t.us = us("forgepipe", t.set.dir, out)
	t.start = us("forgepipe, one image", t.set.one, out+"-one")
	t.bare = &entrant{name: "bare parts", measures: true, ways: only(func() *exec.Cmd { return line(self, "-job", "bare", network, t.net.preset, t.decode, t.set.dir) })}
	spec, _ := model.Preset(t.net.preset)
	for i, p := range peers {
		vectors := fmt.Sprintf("%s-%d.f32", out, i)
		e := &entrant{name: p.name, vectors: vectors}
		for _, spin := range []string{"spin", "nospin"} {
			e.ways = append(e.ways, way{spin, func() *exec.Cmd {
				return line(interpreter, script, p.way, spin, p.library, t.decode, network, fmt.Sprint(spec.Shorter), spec.Filter, numbers(spec.Mean), numbers(spec.Std),
					fmt.Sprint(threads), fmt.Sprint(batch), t.set.dir, vectors)
			}})
			if p.way == "loop" {
				break // nothing else wants the cores
			}
		}
		t.peers = append(t.peers, e)
	}
	b.tasks = append(b.tasks, t)
}

func numbers(v [3]float64) string { return fmt.Sprintf("%g,%g,%g", v[0], v[1], v[2]) }
