package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/control"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/nvml"
)

// gpuPatience is how long a run waits for the NVIDIA driver before it begins. It
// runs without GPUs, so that a driver that sleeps or hangs is no reason to wait.
const gpuPatience = 500 * time.Millisecond

// driverPatience is how long it is waited for where it may be needed: it takes
// seconds to wake GPUs that nobody keeps awake.
const driverPatience = 15 * time.Second

// errDriverLate is for a driver that had no answer in time.
var errDriverLate = errors.New("the NVIDIA driver has not answered yet, so its GPUs are left out: nvidia-smi -pm 1 keeps it awake")

// gpus are the NVIDIA GPUs of this machine, as far as they can be had.
type gpus struct {
	opened chan struct{} // closed when driver or err is set
	driver *nvml.Driver
	err    error
	late   bool // wait gave up
}

// findGPUs begins to look for them.
func findGPUs() *gpus {
	g := &gpus{opened: make(chan struct{})}
	go func() {
		defer close(g.opened)
		g.driver, g.err = nvml.Open(nvml.Options{})
	}()
	return g
}

// wait gives the GPUs that were found in time. It is called once.
func (g *gpus) wait(patience time.Duration) (devices []memory.Device) {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-g.opened:
	case <-late.C:
		g.late = true
		return nil
	}
	if g.err != nil {
		return nil
	}
	for _, d := range g.driver.Devices() {
		devices = append(devices, d)
	}
	return devices
}

// or gives the cards of --simulate in place of the GPUs, where there are any. It is
// called once, as wait is. A driver that is there is waited for, as stages may want
// its GPUs; why there are none then is logged.
func (g *gpus) or(cards []string, log *slog.Logger) ([]memory.Device, error) {
	patience := gpuPatience
	if len(cards) == 0 && hasKernelDriver() {
		patience = driverPatience
	}
	found := g.wait(patience)
	if len(cards) > 0 {
		return simulated(cards)
	}
	if why := g.state().Problem; why != "" && hasKernelDriver() {
		log.Warn("the GPUs of this machine are left out", "cause", why)
	}
	return found, nil
}

// state tells what became of the search; wait was called before.
func (g *gpus) state() control.NVIDIA {
	switch {
	case g.late:
		return control.NVIDIA{Problem: errDriverLate.Error()}
	case errors.Is(g.err, nvml.ErrNoCgo) && !hasKernelDriver():
		return control.NVIDIA{Problem: nvml.ErrNoDriver.Error()}
	case g.err != nil:
		return control.NVIDIA{Problem: g.err.Error()}
	}
	return control.NVIDIA{Driver: g.driver.Version}
}

// hasKernelDriver asks the kernel, which also a program without cgo can.
func hasKernelDriver() bool {
	_, err := os.Stat("/proc/driver/nvidia/version")
	return err == nil
}

// close gives the driver back; one that has not answered by now is left alone.
func (g *gpus) close() {
	select {
	case <-g.opened:
		if g.err == nil {
			_ = g.driver.Close() // the process ends
		}
	default:
	}
}

// ownMemory is the memory of this process.
type ownMemory struct {
	manager *memory.Manager
	gpus    *gpus
}

// Memory tells the latest readings.
func (o *ownMemory) Memory() control.Report {
	var host memory.Host
	r := control.Report{Devices: []control.Device{}, Process: processOf(host.Process()), NVIDIA: o.gpus.state()}
	now := time.Now()
	for _, s := range o.manager.State() {
		d := deviceOf(s, now)
		if m, err := host.Memory(); d.Device == host.Name() && err == nil {
			d.Source = m.Source
		}
		r.Devices = append(r.Devices, d)
	}
	return r
}

// Clear cleans up.
func (o *ownMemory) Clear(ctx context.Context) control.Cleaned {
	return cleanedOf(o.manager.Clean(ctx, "memory clear"))
}
