package model

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/model/onnx"
)

// SessionOptions say how a network is loaded.
type SessionOptions struct {
	// Library is the ONNX Runtime to use, a path; "" is the one that
	// FORGEPIPE_ORT_LIB names, else the one that came with forgepipe. A process has
	// one: the first that is asked for.
	Library string
	// Device is where it runs: "host" (or empty), "gpu:0", "sim:0". Simulated ones
	// are arenas on the CPU, which ArenaLimit gives their size.
	Device string
	// Threads compute one run; 0 is 1.
	Threads int
	// Concurrent is how many runs may be in flight at once; 0 is 1, and on a GPU more
	// is an error. They share the arena.
	Concurrent int
	// ArenaLimit bounds what weights and runs may allocate, in bytes; 0: no bound.
	ArenaLimit int64
	// Log gets the runtime's warnings; nil is silence.
	Log *slog.Logger
}

// Runtime is the ONNX Runtime of this process.
type Runtime struct {
	Version   string   // of the ONNX Runtime, such as "1.24.4"
	Path      string   // of its library
	Embedded  bool     // it came with forgepipe
	Providers []string // what can compute, as the runtime names them

	library *ort.Library // nil: a description of one
}

// OpenRuntime loads the ONNX Runtime that SessionOptions.Library would, for good.
// An error says what to install or to set.
func OpenRuntime(library string) (Runtime, error) {
	l, err := ort.Load(library)
	if err != nil {
		return Runtime{}, err
	}
	return Runtime{Version: l.Version, Path: l.Path, Embedded: l.Embedded, Providers: l.Providers, library: l}, nil
}

// Load loads the network on its device. The session's runs give the outputs that were
// chosen, in the order of Outputs.
func (f *File) Load(ctx context.Context, o SessionOptions) (Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if err := f.unchanged(); err != nil {
		return nil, err
	}
	lib, so, err := o.runtime()
	if err != nil {
		return nil, err
	}
	so.Outputs = f.OutputNames()
	s, err := f.open(ctx, lib, so)
	if err != nil {
		return nil, err
	}
	if slow := s.Fallbacks(); len(slow) > 0 && o.Log != nil {
		o.Log.Warn("a part of the network runs on the CPU, as the GPU's provider has no operators for it: it will be slow", "network", f.Path, "device", o.Device, "operators", strings.Join(slow, ", "))
	}
	if len(s.Inputs()) != 1 {
		return nil, errors.Join(fmt.Errorf("%s has changed since the pipeline was planned: run again", f.Path), s.Close())
	}
	return s, nil
}

// runtime loads the runtime, and gives the options as it takes them.
func (o SessionOptions) runtime() (*ort.Library, ort.SessionOptions, error) {
	lib, err := ort.Load(o.Library)
	if err != nil {
		return nil, ort.SessionOptions{}, err
	}
	so := ort.SessionOptions{Provider: ort.CPU, Threads: o.Threads, Concurrent: o.Concurrent, ArenaLimit: o.ArenaLimit, Log: o.Log}
	if strings.HasPrefix(o.Device, "gpu:") {
		so.Provider = ort.CUDA
		if so.DeviceID, err = cudaNumber(o.Device); err != nil {
			return nil, ort.SessionOptions{}, err
		}
	}
	return lib, so, nil
}

// LoadGraph loads a graph that the program wrote itself ([onnx.Graph.Bytes]) on its
// device. It may have any number of inputs; runs take a tensor for each and give all its
// outputs, in the graph's order.
func LoadGraph(ctx context.Context, graph []byte, o SessionOptions) (Session, error) {
	lib, so, err := o.runtime()
	if err != nil {
		return nil, err
	}
	s, err := lib.OpenBytes(ctx, graph, so)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// open opens a session of the file, or of what it is rewritten to.
func (f *File) open(ctx context.Context, lib *ort.Library, o ort.SessionOptions) (*ort.Session, error) {
	if f.as == onnx.Undefined {
		return lib.Open(ctx, f.network, o)
	}
	var network bytes.Buffer
	if err := onnx.Convert(&network, f.network, f.as); err != nil {
		return nil, err
	}
	s, err := lib.OpenBytes(ctx, network.Bytes(), o)
	if err != nil {
		return nil, fmt.Errorf("opening the model %s as %v: %w", f.Path, f.as, err)
	}
	return s, nil
}

// As is the same network that computes with elements of the other type, and takes and
// gives them: float16 on a GPU for half the memory and more speed, or float32 where
// float16 is too narrow for a network. It is rewritten whenever it is loaded, for which
// its weights are in memory once more; that is where an error comes from, if it cannot
// be. Its Hash is another one, and WeightBytes are about what they become.
func (f *File) As(e Element) *File {
	if e == f.Spec.Element {
		return f
	}
	g, h := *f, *f.Header
	g.Header, g.Spec.Element = &h, e
	from := onnx.Float16
	if g.as = onnx.Float32; e == Float16 {
		from, g.as = onnx.Float32, onnx.Float16
	}
	other := func(ports []onnx.Port) []onnx.Port {
		ports = slices.Clone(ports)
		for i := range ports {
			if ports[i].Type == from {
				ports[i].Type = g.as
			}
		}
		return ports
	}
	h.Inputs, h.Outputs = other(h.Inputs), other(h.Outputs)
	g.Input, g.Outputs = other([]onnx.Port{f.Input})[0], other(f.Outputs)
	h.WeightBytes = h.WeightBytes * int64(g.as.Bits()) / int64(from.Bits())
	sum := sha256.Sum256([]byte(f.Hash + " as " + g.as.String()))
	g.Hash = hex.EncodeToString(sum[:])
	return &g
}

// Tensor is a dense array, its last dimension running fastest: Type is what it consists
// of, Shape its dimensions, and Data its elements in the machine's byte order. Float32s
// is the data of a float32 tensor without a copy, Numbers a copy of that of a float32 or
// float16 tensor; both panic for others.
type Tensor = ort.Tensor

// ErrOutOfMemory is what an error of a loaded File's Session is, if there was not enough
// memory: the session can still run smaller batches. A Runner understands it, and
// memory.ErrOutOfMemory as well.
var ErrOutOfMemory = ort.ErrOutOfMemory

// ElementType is what a Tensor consists of. Its String is the name ("float32"), its
// Size the bytes of one element.
type ElementType = ort.ElementType

// SessionRun are the options of one run of a Session: ShrinkFirst and Shrink give the
// arena's free regions back before and after it, ShrinkOnly does that and computes
// nothing.
type SessionRun = ort.RunOptions

// SessionStats are those of a Session's arena, in bytes: InUse now and MaxInUse so far by
// tensors and weights, Allocated from the system, and the Limit (0: none).
type SessionStats = ort.Stats

// ElementType is that of the input, for RunnerOptions.
func (f *File) ElementType() ElementType {
	if f.Spec.Element == Float16 {
		return ort.Float16
	}
	return ort.Float32
}
