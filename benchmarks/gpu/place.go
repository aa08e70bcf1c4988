package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/nvml"
	"github.com/forgepipe/forgepipe/memory/sim"
	"github.com/forgepipe/forgepipe/model"
)

// simulatedBytes is what the card has that stands for a GPU.
const simulatedBytes = 192 << 20

// place is where networks are measured: a GPU, or a simulated card.
type place struct {
	number  int
	name    string // "gpu:0", "sim:0"
	device  memory.Device
	runtime model.Runtime
	total   int64 // bytes

	driver *nvml.Driver
	card   *sim.Device // nil: it is a GPU
}

// findPlace finds the GPU, or makes a card in its place.
func findPlace(number int, without bool) (*place, error) {
	r, err := model.OpenRuntime("")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLacking, err)
	}
	p := &place{number: number, runtime: r}
	if without {
		p.name, p.total = fmt.Sprintf("sim:%d", number), simulatedBytes
		return p, p.simulate(sim.Trace{})
	}
	if p.driver, err = nvml.Open(nvml.Options{}); err != nil {
		return nil, fmt.Errorf("%w: %w", errLacking, err)
	}
	if n := len(p.driver.Devices()); number < 0 || number >= n {
		return nil, errors.Join(fmt.Errorf("%w: the driver lists %d, and number %d is asked for", errLacking, n, number), p.driver.Close())
	}
	gpu := p.driver.Devices()[number]
	p.name, p.device = gpu.Name(), gpu
	if err := r.CUDA(); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", errLacking, err), p.driver.Close())
	}
	reading, err := p.read()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", errLacking, err), p.driver.Close())
	}
	p.total = reading.Total
	return p, nil
}

// simulate makes the card anew, with a neighbour whose trace begins now.
func (p *place) simulate(others sim.Trace) (err error) {
	p.card, err = sim.New(sim.Config{Name: p.name, Total: p.total, Others: others})
	p.device = p.card
	return err
}

func (p *place) close() error {
	if p.driver == nil {
		return nil
	}
	return p.driver.Close()
}

func (p *place) read() (memory.Reading, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return p.device.Read(ctx)
}

// open loads a network there; onCPU on the CPU instead, as its reference.
func (p *place) open(ctx context.Context, f *model.File, onCPU bool) (model.Session, error) {
	o := model.SessionOptions{Threads: runtime.NumCPU()}
	if p.card != nil && !onCPU {
		o.Threads, o.ArenaLimit = 1, p.total // other kernels than those of the reference
	}
	if p.card == nil && !onCPU {
		o.Device = p.name
	}
	return f.Load(ctx, o)
}

// described is what a figure needs to be judged and repeated.
func (p *place) described() string {
	var s strings.Builder
	about := p.device.(memory.Described).Description()
	if p.card != nil {
		s.WriteString("**WITHOUT A GPU: a simulated card computed on the CPU, with small networks and for a short time. It shows that this part works. No figure below is one of a GPU.**\n\n")
	}
	fmt.Fprintf(&s, "%s; %s, %s", time.Now().UTC().Format("2006-01-02 15:04 UTC"), about, memory.FormatBytes(p.total))
	if p.driver != nil {
		fmt.Fprintf(&s, ", driver %s", p.driver.Version)
	}
	fmt.Fprintf(&s, "; ONNX Runtime %s (%s), %s; %s, %d cores; forgepipe %s, %s. Command: `%s`.",
		p.runtime.Version, p.runtime.Path, strings.Join(p.runtime.Providers, ", "), processor(), runtime.NumCPU(), version, runtime.Version(), strings.Join(os.Args, " "))
	return s.String()
}

// processor is the CPU's name.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown CPU"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}

// resident is this process's memory on the host, in bytes.
func resident() int64 { return memory.Host{}.Process().RSS }
