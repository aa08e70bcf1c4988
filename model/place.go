package model

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/internal/ort"
)

// Placement is where a network runs.
type Placement struct {
	Device string // "host", "gpu:0", "sim:0"
	// CPUToo allows the CPU for items that have no room on the device.
	CPUToo bool
	// Why says why it is the host where a GPU was welcome; empty otherwise.
	Why string
}

// ErrNoDevice is wrapped by errors that say that the machine has no such device, or
// that the runtime cannot use it.
var ErrNoDevice = errors.New("no such device")

// Place decides where a network runs. want is "host", "auto" (or empty: a GPU where
// there is one that the runtime can use, otherwise the host, and for what has no
// room on the GPU the host too), "gpu" (the first one), or a certain device; have is
// what there is beside the host. Simulated devices, "sim:0" and so on, stand for GPUs
// where there are any: what they run runs on the CPU.
func (r Runtime) Place(want string, have []string) (Placement, error) {
	cards := slices.DeleteFunc(slices.Clone(have), func(d string) bool { return !strings.HasPrefix(d, "sim:") })
	simulated := len(cards) > 0
	if !simulated {
		cards = slices.DeleteFunc(slices.Clone(have), func(d string) bool { return !strings.HasPrefix(d, "gpu:") })
	}
	var lacking error
	if !simulated {
		lacking = r.CUDA()
	}
	switch want {
	case "host":
		return Placement{Device: want}, nil
	case "", "auto":
		switch {
		case len(cards) == 0:
			return Placement{Device: "host", Why: "there is no GPU"}, nil
		case lacking != nil:
			return Placement{Device: "host", Why: lacking.Error()}, nil
		}
		return Placement{Device: cards[0], CPUToo: true}, nil
	}
	kind, n, certain := strings.Cut(want, ":")
	if kind == "gpu" && lacking != nil {
		return Placement{}, fmt.Errorf("%w: %s: %w", ErrNoDevice, want, lacking)
	}
	if simulated {
		kind = "sim" // a pipeline for GPUs can be tried without
	}
	for _, d := range cards {
		if !certain || d == kind+":"+n {
			return Placement{Device: d}, nil
		}
	}
	there := "there is none"
	switch {
	case len(have) > 0:
		there = "there are " + strings.Join(have, ", ")
	case kind == "sim":
		there = "run with --simulate to have one"
	}
	return Placement{}, fmt.Errorf("%w as %s: %s", ErrNoDevice, want, there)
}

// CUDA tells whether networks can run on NVIDIA GPUs; the error says what is missing
// and how it can be had.
func (r Runtime) CUDA() error {
	if slices.Contains(r.Providers, ort.CUDA.String()) {
		return nil
	}
	return fmt.Errorf("ONNX Runtime %s (%s) has no %s. A build for NVIDIA GPUs with CUDA 12 and cuDNN 9 is onnxruntime-linux-x64-gpu-1.24.4.tgz of https://github.com/microsoft/onnxruntime/releases/tag/v1.24.4: unpack it and set %s to its lib/libonnxruntime.so",
		r.Version, r.Path, ort.CUDA, ort.LibraryVariable)
}
