//go:build cgo

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDoctorNVIDIA runs doctor with stand-ins for NVIDIA's library, as a process
// of its own: what it loads cannot be unloaded.
func TestDoctorNVIDIA(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skipf("no C compiler to build a stand-in for the NVIDIA library with: %v", err)
	}
	tests := []struct {
		name, flag string
		want       string
	}{
		{"two GPUs", "-DCOUNT=2", "ok  nvidia  gpu:0 Made-up GPU 0 (7.8 GiB, busy 25%), gpu:1 Made-up GPU 1 (7.8 GiB, busy 25%), driver 0.0-fake\n"},
		{"no GPU", "-DCOUNT=0", "ok  nvidia  no GPU, driver 0.0-fake\n"},
		{"one GPU lost", "-DLOST=0", "!!  nvidia  gpu:0 Made-up GPU 0 (memory not known), gpu:1 Made-up GPU 1 (7.8 GiB, busy 25%), driver 0.0-fake\n" +
			"            reading the memory of gpu:0: nvmlDeviceGetMemoryInfo_v2: the GPU is lost: "},
		{"versions apart", "-DINIT=18", "!!  nvidia  not known\n" +
			"            starting the NVIDIA driver: nvmlInit_v2: the NVIDIA library and the kernel driver are of different versions: restart the machine"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			build := exec.Command(cc, "-shared", "-fPIC", tt.flag, "-o", filepath.Join(dir, "libnvidia-ml.so.1"), "../../memory/nvml/testdata/nvml.c")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("building the stand-in: %v\n%s", err, out)
			}
			cmd := exec.Command("forgepipe", "doctor")
			cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+dir)
			out, err := cmd.Output()
			if err != nil || !strings.Contains(string(out), tt.want) {
				t.Errorf("%v\ngot\n%swant\n%s", err, out, tt.want)
			}
		})
	}
}
