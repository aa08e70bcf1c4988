package model

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/forgepipe/forgepipe/internal/ort"
)

// Placement is where a network runs.
type Placement struct {
	Devices []string // "host"; or "gpu:0", "gpu:1"; or "sim:0"
	// CPUToo allows the CPU for items that have no room on the devices.
	CPUToo bool
	// Why says why it is the host where a GPU was welcome; empty otherwise.
	Why string
}

// ErrNoDevice is wrapped by errors that say that the machine has no such device, or
// that the runtime cannot use it.
var ErrNoDevice = errors.New("no such device")

// Place decides where a network runs. want is "host", "auto" (or empty: all GPUs that
// the runtime can use, without any the host, and for what has no room on the GPUs the
// host too), "gpu" (all GPUs), or a certain device; have is what there is beside the
// host. Simulated devices, "sim:0" and so on, stand for GPUs
// where there are any: what they run runs on the CPU.
func (r Runtime) Place(want string, have []string) (Placement, error) {
	cards := slices.DeleteFunc(slices.Clone(have), func(d string) bool { return !strings.HasPrefix(d, "sim:") })
	simulated := len(cards) > 0
	if !simulated {
		cards = slices.DeleteFunc(slices.Clone(have), func(d string) bool {
			_, err := cudaNumber(d)
			return err != nil
		})
	}
	hidden := "" // why GPUs that are there are not used
	if i := slices.IndexFunc(have, func(d string) bool { return strings.HasPrefix(d, "gpu:") }); i >= 0 && len(cards) == 0 {
		_, err := cudaNumber(have[i])
		hidden = fmt.Sprintf("%s: %v", have[i], err)
	}
	var lacking error
	if wanted := strings.HasPrefix(want, "gpu"); !simulated && (wanted || len(cards) > 0 && want != "host") {
		lacking = r.CUDA()
	}
	switch want {
	case "host":
		return Placement{Devices: []string{want}}, nil
	case "", "auto":
		switch {
		case len(cards) == 0:
			return Placement{Devices: []string{"host"}, Why: cmp.Or(hidden, "there is no GPU")}, nil
		case lacking != nil:
			return Placement{Devices: []string{"host"}, Why: lacking.Error()}, nil
		}
		return Placement{Devices: cards, CPUToo: true}, nil
	}
	kind, n, certain := strings.Cut(want, ":")
	if kind == "gpu" && lacking != nil {
		return Placement{}, fmt.Errorf("%w: %s: %w", ErrNoDevice, want, lacking)
	}
	if simulated {
		kind = "sim" // a pipeline for GPUs can be tried without
	}
	if !certain && len(cards) > 0 {
		return Placement{Devices: cards}, nil
	}
	if name := kind + ":" + n; slices.Contains(cards, name) {
		return Placement{Devices: []string{name}}, nil
	}
	there := "there is none"
	switch _, err := cudaNumber(want); {
	case slices.Contains(have, want) && err != nil:
		there = err.Error()
	case hidden != "":
		there = hidden
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
		if r.library != nil {
			return r.library.Probe(ort.CUDA)
		}
		return nil
	}
	return fmt.Errorf("ONNX Runtime %s (%s) has no %s. A build for NVIDIA GPUs with CUDA 12 and cuDNN 9 is onnxruntime-linux-x64-gpu-1.24.4.tgz of https://github.com/microsoft/onnxruntime/releases/tag/v1.24.4: unpack it and set %s to its lib/libonnxruntime.so",
		r.Version, r.Path, ort.CUDA, ort.LibraryVariable)
}

const (
	// visibleVariable lists the GPUs that CUDA shows to a program, in the order of
	// its numbers.
	visibleVariable = "CUDA_VISIBLE_DEVICES"
	// OrderVariable is the environment variable that makes CUDA count GPUs as the
	// driver does, if it has the value OrderByBus when the first network is loaded:
	// otherwise the fastest is number 0. The names of devices follow the driver, so
	// that a program with several GPUs sets it.
	OrderVariable = "CUDA_DEVICE_ORDER"
	// OrderByBus is that value.
	OrderByBus = "PCI_BUS_ID"
)

// cudaNumber is the number that CUDA has for a device such as "gpu:1".
func cudaNumber(device string) (int, error) {
	n, ok := strings.CutPrefix(device, "gpu:")
	number, err := strconv.Atoi(n)
	if !ok || err != nil {
		return 0, fmt.Errorf("%q is no GPU", device)
	}
	visible, set := os.LookupEnv(visibleVariable)
	if !set {
		return number, nil
	}
	for i, v := range strings.Split(visible, ",") {
		v = strings.TrimSpace(v)
		shown, err := strconv.Atoi(v)
		switch {
		case err != nil && v != "":
			return 0, fmt.Errorf("%s has %q: give GPUs by their numbers there", visibleVariable, v)
		case err != nil || shown < 0: // what follows is not shown
			return 0, fmt.Errorf("%s=%s does not show it", visibleVariable, visible)
		case shown == number:
			return i, nil
		}
	}
	return 0, fmt.Errorf("%s=%s does not show it", visibleVariable, visible)
}
