package model_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/model"
)

func TestPlace(t *testing.T) {
	cpu, cuda := []string{"CPUExecutionProvider"}, []string{"CUDAExecutionProvider", "CPUExecutionProvider"}
	gpus := []string{"gpu:0", "gpu:1"}
	const hidden = "-" // CUDA_VISIBLE_DEVICES is not set
	for _, tt := range []struct {
		name    string
		on      []string
		visible string
		want    string
		have    []string
		device  string
		cpuToo  bool
		why     string // of the host, or in the error
	}{
		{"host", cuda, hidden, "host", gpus, "host", false, ""},
		{"nothing said", cuda, hidden, "", gpus, "gpu:0 gpu:1", true, ""},
		{"auto", cuda, hidden, "auto", gpus, "gpu:0 gpu:1", true, ""},
		{"auto without GPUs", cuda, hidden, "auto", nil, "host", false, "there is no GPU"},
		{"auto without CUDA", cpu, hidden, "auto", gpus, "host", false, "FORGEPIPE_ORT_LIB"},
		{"all GPUs", cuda, hidden, "gpu", gpus, "gpu:0 gpu:1", false, ""},
		{"the second GPU", cuda, hidden, "gpu:1", gpus, "gpu:1", false, ""},
		{"one that is not there", cuda, hidden, "gpu:2", gpus, "", false, "there are gpu:0, gpu:1"},
		{"any without GPUs", cuda, hidden, "gpu", nil, "", false, "there is none"},
		{"any without CUDA", cpu, hidden, "gpu", gpus, "", false, "FORGEPIPE_ORT_LIB"},
		{"simulated", cpu, hidden, "gpu", []string{"sim:0", "sim:1"}, "sim:0 sim:1", false, ""},
		{"the second simulated", cpu, hidden, "gpu:1", []string{"sim:0", "sim:1"}, "sim:1", false, ""},
		{"simulated beside a GPU", cuda, hidden, "auto", []string{"gpu:0", "sim:0"}, "sim:0", true, ""},
		{"simulated by name", cpu, hidden, "sim:1", []string{"sim:0", "sim:1"}, "sim:1", false, ""},
		{"none simulated", cuda, hidden, "sim:0", nil, "", false, "--simulate"},
		{"one of several by name", cuda, hidden, "gpu:0", gpus, "gpu:0", false, ""},
		{"one GPU hidden", cuda, "1", "gpu", gpus, "gpu:1", false, ""},
		{"the hidden one", cuda, "1", "gpu:0", gpus, "", false, "CUDA_VISIBLE_DEVICES=1 does not show it"},
		{"all hidden", cuda, "", "auto", gpus, "host", false, "does not show it"},
		{"UUIDs with auto", cuda, "GPU-1f2e", "auto", gpus, "host", false, "by their numbers"},
		{"UUIDs with any", cuda, "GPU-1f2e", "gpu", gpus, "", false, "by their numbers"},
		{"hidden by -1", cuda, "-1,0", "gpu:0", gpus, "", false, "does not show it"},
		{"UUIDs", cuda, "GPU-1f2e", "gpu:0", gpus, "", false, "by their numbers"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("CUDA_VISIBLE_DEVICES", tt.visible) // which puts it back
			if tt.visible == hidden {
				if err := os.Unsetenv("CUDA_VISIBLE_DEVICES"); err != nil {
					t.Fatal(err)
				}
			}
			got, err := model.Runtime{Providers: tt.on}.Place(tt.want, tt.have)
			if tt.device == "" {
				if !errors.Is(err, model.ErrNoDevice) || !strings.Contains(err.Error(), tt.why) {
					t.Errorf("%+v, %v", got, err)
				}
				return
			}
			if err != nil || strings.Join(got.Devices, " ") != tt.device || got.CPUToo != tt.cpuToo || !strings.Contains(got.Why, tt.why) || tt.why == "" && got.Why != "" {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}
