package ort_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/forgepipe/forgepipe/internal/ort"
)

func TestCUDASessionsAreSetForSmallArenas(t *testing.T) {
	lib := &ort.Library{Providers: []string{"CUDAExecutionProvider", "CPUExecutionProvider"}}
	cuda, entries, arenas, err := ort.CUDASettings(lib, ort.SessionOptions{DeviceID: 1, ArenaLimit: 6 << 30})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"device_id":                 "1",
		"gpu_mem_limit":             "6442450944",
		"arena_extend_strategy":     "kSameAsRequested",
		"cudnn_conv_algo_search":    "HEURISTIC",
		"do_copy_in_default_stream": "1",
		"use_tf32":                  "0",
	}
	if !maps.Equal(cuda, want) {
		t.Errorf("the provider's settings are %v, want %v", cuda, want)
	}
	if entries["session.use_device_allocator_for_initializers"] != "1" || entries["session.record_ep_graph_assignment_info"] != "1" {
		t.Errorf("the session's settings are %v", entries)
	}
	if arenas != "cpu:0;gpu:1" {
		t.Errorf("the arenas to shrink are %s", arenas)
	}
	cuda, _, _, err = ort.CUDASettings(lib, ort.SessionOptions{})
	if _, ok := cuda["gpu_mem_limit"]; ok || err != nil {
		t.Errorf("without a limit: %v, %v", cuda, err)
	}
}

func TestSessionOptionsAreChecked(t *testing.T) {
	lib := &ort.Library{Providers: []string{"CUDAExecutionProvider"}}
	for name, o := range map[string]ort.SessionOptions{
		"threads":     {Threads: -1},
		"runs":        {Concurrent: -1},
		"runs beside": {Concurrent: 2}, // with CUDA
		"limit":       {ArenaLimit: -1},
		"device":      {DeviceID: -1},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, _, err := ort.CUDASettings(lib, o); err == nil {
				t.Error("it is taken")
			}
		})
	}
	if _, _, _, err := ort.CUDASettings(&ort.Library{Providers: []string{"CPUExecutionProvider"}}, ort.SessionOptions{}); !errors.Is(err, ort.ErrNoProvider) {
		t.Errorf("without CUDA: %v, want %v", err, ort.ErrNoProvider)
	}
}

// The runtime lists CUDA also where the library for it is missing.
func TestProvidersWithoutTheirLibraryAreLeftOut(t *testing.T) {
	dir := t.TempDir()
	if ort.Present("CUDAExecutionProvider", dir) || !ort.Present("CPUExecutionProvider", dir) {
		t.Error("in an empty folder CUDA is there, or the CPU is not")
	}
	if err := os.WriteFile(filepath.Join(dir, "libonnxruntime_providers_cuda.so"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !ort.Present("CUDAExecutionProvider", dir) {
		t.Error("CUDA is not there beside its library")
	}
}
