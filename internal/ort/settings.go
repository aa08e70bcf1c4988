package ort

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// settings are what the runtime is told of a session.
type settings struct {
	threads    int
	concurrent int               // runs in flight
	entries    map[string]string // of the session's configuration
	arena      map[string]int    // of the arena on the CPU
	cuda       map[string]string // of the CUDA provider; nil without it
}

const sameAsRequested = 1 // of arena_extend_strategy: grow by what is asked for

// settings checks o and gives what it means to the library l.
func (o SessionOptions) settings(l *Library) (settings, error) {
	switch {
	case o.Provider != CPU && o.Provider != CUDA:
		return settings{}, fmt.Errorf("there is no provider %d: take CPU or CUDA", o.Provider)
	case o.Threads < 0:
		return settings{}, fmt.Errorf("%d threads: take 1 or more, or 0 for 1", o.Threads)
	case o.Concurrent < 0:
		return settings{}, fmt.Errorf("%d runs at once: take 1 or more, or 0 for 1", o.Concurrent)
	case o.Concurrent > 1 && o.Provider == CUDA:
		return settings{}, fmt.Errorf("%d runs at once with CUDA: take 1, and a second session for a second run", o.Concurrent)
	case o.ArenaLimit < 0:
		return settings{}, fmt.Errorf("an arena of %d bytes: take more than 0, or 0 for no limit", o.ArenaLimit)
	case o.DeviceID < 0:
		return settings{}, fmt.Errorf("device %d: take the GPU's number, 0 or more", o.DeviceID)
	case !slices.Contains(l.Providers, o.Provider.String()):
		return settings{}, &NoProviderError{Provider: o.Provider, Have: l.Providers, Path: l.Path}
	}
	set := settings{
		threads:    max(o.Threads, 1),
		concurrent: max(o.Concurrent, 1),
		entries: map[string]string{
			// The library has a format of its own too, which would be told by a name.
			"session.load_model_format": "ONNX",
			// Threads that wait burn what the stages of the CPU need.
			"session.intra_op.allow_spinning": "0",
			"session.inter_op.allow_spinning": "0",
			"session.use_env_allocators":      "1", // see openWithArena
		},
		arena: map[string]int{"arena_extend_strategy": sameAsRequested},
	}
	if o.Provider == CPU {
		if o.ArenaLimit > 0 {
			set.arena["max_mem"] = int(o.ArenaLimit)
		}
		return set, nil
	}
	set.entries["session.record_ep_graph_assignment_info"] = "1" // for Fallbacks
	// Otherwise the weights are in the arena, and shrinking cannot empty it.
	set.entries["session.use_device_allocator_for_initializers"] = "1"
	set.cuda = map[string]string{
		"device_id":                 strconv.Itoa(o.DeviceID),
		"arena_extend_strategy":     "kSameAsRequested",
		"cudnn_conv_algo_search":    "HEURISTIC", // EXHAUSTIVE takes gigabytes, and half a second for each new shape
		"do_copy_in_default_stream": "1",
		"use_tf32":                  "0", // it rounds to 10 bits: vectors would be others than on the CPU
	}
	if o.ArenaLimit > 0 {
		set.cuda["gpu_mem_limit"] = strconv.FormatInt(o.ArenaLimit, 10)
	}
	return set, nil
}

// providerFiles are the libraries that providers are in, beside the runtime's
// own. It lists the providers whether those are there or not.
var providerFiles = map[string]string{
	CUDA.String():                    "libonnxruntime_providers_cuda.so",
	"TensorrtExecutionProvider":      "libonnxruntime_providers_tensorrt.so",
	"ROCMExecutionProvider":          "libonnxruntime_providers_rocm.so",
	"MIGraphXExecutionProvider":      "libonnxruntime_providers_migraphx.so",
	"OpenVINOExecutionProvider":      "libonnxruntime_providers_openvino.so",
	"DnnlExecutionProvider":          "libonnxruntime_providers_dnnl.so",
	"NvTensorRTRTXExecutionProvider": "libonnxruntime_providers_nv_tensorrt_rtx.so",
}

// present tells whether a provider that the library in dir lists is there.
func present(provider, dir string) bool {
	file := providerFiles[provider]
	if file == "" {
		return true // in the library itself
	}
	_, err := os.Stat(filepath.Join(dir, file))
	return err == nil
}

// arenas names the session's arenas as the runtime does.
func (o SessionOptions) arenas() string {
	if o.Provider == CUDA {
		return "cpu:0;gpu:" + strconv.Itoa(o.DeviceID)
	}
	return "cpu:0"
}

// distinct sorts names and keeps each once.
func distinct(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
