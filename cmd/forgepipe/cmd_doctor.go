package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/nvml"
	"github.com/forgepipe/forgepipe/model"
)

// checkJSON is one thing that the machine has or lacks.
type checkJSON struct {
	Name    string `json:"name"`
	OK      bool   `json:"ok"`
	Uses    string `json:"uses"`              // what is used
	Path    string `json:"path,omitempty"`    // the file it is in
	Problem string `json:"problem,omitempty"` // why it is not the best there is, and what mends it
}

func newDoctorCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine offers, and what is missing",
		Long: `Say how many cores and how much memory there are, which libraries read and write
images and run networks, and for each that is missing what that costs and which
command mends it; which NVIDIA GPUs there are, and how busy they are now.
Nothing that is missing here keeps forgepipe from running, so the exit code is 0.`,
		Example: "  forgepipe doctor\n  forgepipe doctor --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			a.begun = true
			return runDoctor(a)
		},
	}
}

func runDoctor(a *app) error {
	nvidia, gpus := nvidiaCheck()
	checks := []checkJSON{
		{Name: "cpu", OK: true, Uses: fmt.Sprintf("%d of %d cores", runtime.GOMAXPROCS(0), runtime.NumCPU())},
		memoryCheck(),
		cgroupCheck(),
		jpegCheck(),
		webpCheck(),
		onnxCheck(gpus),
		nvidia,
	}
	if a.result.json {
		a.result.set(func(e *envelope) { e.Checks = checks })
		return nil
	}
	for _, c := range checks {
		mark := "ok"
		if !c.OK {
			mark = "!!"
		}
		if _, err := fmt.Fprintf(a.stdout, "%s  %-7s %s\n", mark, c.Name, c.Uses); err != nil {
			return err
		}
		for _, more := range []string{c.Path, c.Problem} {
			if more == "" {
				continue
			}
			if _, err := fmt.Fprintf(a.stdout, "            %s\n", more); err != nil {
				return err
			}
		}
	}
	return nil
}

func memoryCheck() checkJSON {
	m, err := memory.Host{}.Memory()
	if err != nil {
		return checkJSON{Name: "memory", Uses: "not known", Problem: err.Error()}
	}
	return checkJSON{
		Name: "memory", OK: true, Path: m.Source,
		Uses: fmt.Sprintf("%s available of %s", memory.FormatBytes(m.Available), memory.FormatBytes(m.Total)),
	}
}

// cgroupCheck tells what the control groups of this process allow, and whether the
// kernel says when memory is short.
func cgroupCheck() checkJSON {
	c := checkJSON{Name: "cgroup"}
	m, err := memory.Host{}.Memory()
	switch {
	case err != nil:
		c.Uses, c.Problem = "not known", err.Error()
		return c
	case m.Total < m.Physical:
		c.Uses, c.Path = fmt.Sprintf("a limit of %s, of the machine's %s", memory.FormatBytes(m.Total), memory.FormatBytes(m.Physical)), m.Source
	default:
		c.Uses = "no limit below the machine's " + memory.FormatBytes(m.Physical)
	}
	if c.OK = m.Stalled != memory.Unknown; !c.OK {
		c.Problem = "the kernel does not tell when programs wait for memory (PSI), so that runs notice pressure later: boot it with psi=1"
	}
	return c
}

func jpegCheck() checkJSON {
	name, path, err := imageio.JPEGLibrary()
	c := checkJSON{Name: "jpeg", OK: err == nil, Uses: name, Path: path}
	if err != nil {
		c.Problem = fmt.Sprintf("JPEG is decoded about five times slower, and written with 4:2:0 chroma only: %v", err)
	}
	return c
}

func webpCheck() checkJSON {
	name, err := imageio.WebPLibrary()
	c := checkJSON{Name: "webp", OK: err == nil, Uses: name}
	if err != nil {
		c.Uses = "reading only"
		c.Problem = fmt.Sprintf("WebP cannot be written: %v", err)
	}
	return c
}

// onnxCheck tells which ONNX Runtime runs networks, and on what.
func onnxCheck(gpus int) checkJSON {
	c := checkJSON{Name: "onnx", Uses: "no networks"}
	r, err := model.OpenRuntime("")
	if err != nil {
		c.Problem = fmt.Sprintf("stages with a model cannot run: %v", err)
		return c
	}
	c.OK, c.Path = true, r.Path
	c.Uses = fmt.Sprintf("ONNX Runtime %s on the CPU with %d threads", r.Version, runtime.GOMAXPROCS(0))
	switch err := r.CUDA(); {
	case err == nil:
		c.Uses += ", and on NVIDIA GPUs"
	case gpus > 0:
		c.OK, c.Problem = false, fmt.Sprintf("the GPU is not used: %v", err)
	}
	return c
}

// nvidiaCheck lists the GPUs. Having none, or no driver, is nothing that lacks:
// all work can be done without.
func nvidiaCheck() (c checkJSON, count int) {
	c.Name = "nvidia"
	driver, err := nvml.Open(nvml.Options{})
	if err != nil {
		c.Uses, c.OK = "not known", errors.Is(err, nvml.ErrNoDriver)
		if c.OK {
			c.Uses = err.Error()
		} else {
			c.Problem = err.Error()
		}
		return c, 0
	}
	defer func() { _ = driver.Close() }() // the process ends
	var gpus, problems []string
	for _, g := range driver.Devices() {
		size := "memory not known"
		if r, err := g.Read(context.Background()); err == nil {
			size = memory.FormatBytes(r.Total)
			if r.Busy != memory.Unknown {
				size += fmt.Sprintf(", busy %.0f%%", 100*r.Busy)
			}
		} else {
			problems = append(problems, err.Error())
		}
		gpus = append(gpus, fmt.Sprintf("%s %s (%s)", g.Name(), g.Description(), size))
	}
	if count = len(gpus); count == 0 {
		gpus = []string{"no GPU"}
	}
	c.Uses = strings.Join(gpus, ", ")
	if driver.Version != "" {
		c.Uses += ", driver " + driver.Version
	}
	c.OK, c.Problem = len(problems) == 0, strings.Join(problems, "; ")
	return c, count
}
