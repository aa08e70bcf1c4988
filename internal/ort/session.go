package ort

import "log/slog"

// Library is ONNX Runtime, loaded into this process.
type Library struct {
	// Path is the file that was loaded. For the embedded library that is a file in
	// the user's cache directory, or one in memory (/proc/self/fd/N) where there is
	// no such directory, or none to run code from.
	Path string
	// Version is the runtime's, such as "1.24.3".
	Version string
	// Embedded tells that the library is the one inside the program.
	Embedded bool
	// Providers are what can compute, as the library names them, such as
	// "CPUExecutionProvider". Those of which the library's part is missing are not
	// among them.
	Providers []string
}

// LibraryVariable is the environment variable that names a library to load
// instead of the embedded one.
const LibraryVariable = "FORGEPIPE_ORT_LIB"

// Provider is what computes.
type Provider int

// The providers that a session can have.
const (
	CPU Provider = iota
	CUDA
)

// String is the provider's name in the runtime.
func (p Provider) String() string {
	switch p {
	case CPU:
		return "CPUExecutionProvider"
	case CUDA:
		return "CUDAExecutionProvider"
	default:
		return "unknown provider"
	}
}

// SessionOptions say where and how a model runs.
type SessionOptions struct {
	Provider Provider
	// DeviceID is the GPU's number, as CUDA counts those that this process may use.
	DeviceID int
	// Threads is how many threads compute one operator on the CPU; 0 is 1. With 1 that
	// is the run's own, and the runtime starts none; otherwise it has a pool of them,
	// which all runs of the session use.
	Threads int
	// Concurrent is how many runs may be in flight at once; 0 is 1. Each has a
	// thread of its own, on which it computes with Threads 1. They share the weights
	// and the arena, which then holds what all of them need together. With CUDA more
	// than one is an error: concurrent runs can corrupt its context.
	Concurrent int
	// ArenaLimit is how many bytes the session's arena may hold; 0 is no limit. With
	// CUDA it counts memory of the GPU, in which the CUDA context and the libraries
	// have some more. On the CPU it counts those weights too that the runtime keeps
	// as they are in the file; those that it arranges anew are outside the arena.
	ArenaLimit int64
	// Outputs names those of the model's outputs that runs give, in their order; nil: all,
	// in the model's. Others are
	// not copied, and may be what cannot be passed, such as texts; the runtime
	// computes them nevertheless.
	Outputs []string
	// Log receives the runtime's warnings and errors about this session; nil drops
	// them. What makes a call fail is in the call's error as well.
	Log *slog.Logger
}

// RunOptions are those of one run.
type RunOptions struct {
	// ShrinkFirst gives the arena's free regions back before this run, so that it
	// begins with no more than the weights and what other runs in flight use.
	ShrinkFirst bool
	// Shrink gives the arena's free regions back after this run, also when it fails.
	// Weights, and what other runs in flight use, are what is left. The next run has
	// to allocate anew.
	Shrink bool
	// ShrinkOnly gives the arena's free regions back and computes nothing: there are no
	// outputs.
	ShrinkOnly bool
}

// Stats are those of a session's arena, in bytes.
type Stats struct {
	InUse     int64 // in tensors and weights now
	Allocated int64 // taken from the system, in use or free
	MaxInUse  int64 // the largest InUse so far
	Limit     int64 // 0: none
}
