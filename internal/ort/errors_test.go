package ort_test

import (
	"errors"
	"testing"

	"github.com/forgepipe/forgepipe/internal/ort"
)

// The texts are those of the runtime, of several versions and providers.
func TestOutOfMemoryIsKnownByItsText(t *testing.T) {
	const arena = "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:359 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) "
	for name, tt := range map[string]struct {
		text                 string
		oom                  bool
		requested, available int64
	}{
		"arena": {"Non-zero status code returned while running Conv node. Name:'y_node' Status Message: " + arena +
			"Failed to allocate memory for requested buffer of size 16777216", true, 16777216, 0},
		"arena at its limit": {"Non-zero status code returned while running Conv node. Status Message: bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) " +
			"Available memory of 8388608 is smaller than requested bytes of 16777216\n", true, 16777216, 8388608},
		"the system":         {"Exception during initialization: std::bad_alloc", true, 0, 0},
		"CUDA":               {"CUDA failure 2: out of memory ; GPU=0 ; hostname=h ; file=/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_allocator.cc ; line=47 ; expr=cudaMalloc((void**)&p, size);", true, 0, 0},
		"cuBLAS":             {"CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; expr=cublasCreate(&cublas_handle_);", true, 0, 0},
		"cuDNN":              {"CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED ; GPU=0", true, 0, 0},
		"memory pool":        {"cudaMallocFromPoolAsync failed: out of memory", true, 0, 0},
		"beyond 64 bits":     {"Failed to allocate memory for requested buffer of size 99999999999999999999", true, 0, 0},
		"a lost context":     {"CUDA failure 700: an illegal memory access was encountered ; GPU=0", false, 0, 0},
		"another with a 2":   {"CUDA failure 201: invalid device context ; GPU=0", false, 0, 0},
		"a shape":            {"Got invalid dimensions for input: x for the following indices\n index: 1 Got: 3 Expected: 2", false, 0, 0},
		"cuDNN, not memory":  {"CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0", false, 0, 0},
		"a name with memory": {"Load model failed: node 'memory' is of an unknown type", false, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			err := ort.Failure(tt.text)
			if errors.Is(err, ort.ErrOutOfMemory) != tt.oom {
				t.Fatalf("out of memory is %t, want %t: %v", !tt.oom, tt.oom, err)
			}
			var oom *ort.OutOfMemoryError
			if tt.oom && (!errors.As(err, &oom) || oom.Requested != tt.requested || oom.Available != tt.available) {
				t.Errorf("%+v, want %d requested and %d available", oom, tt.requested, tt.available)
			}
		})
	}
}
