//go:build soak

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

func TestSoakLargeFramesStayUnderTheLimit(t *testing.T) {
	peak := underLimit(t, 400)
	t.Logf("400 photographs of 24 MP and one of 100 MP under memory.host.limit 600MiB: peak RSS %d MiB", peak>>20)
	if peak > 750<<20 {
		t.Errorf("peak RSS is %d MiB, want at most 750", peak>>20)
	}
}

// 1600 megapixels are 6.4 GB, in a file of the scratch folder: the disk needs twice that.
func TestSoakResultLargerThanMemory(t *testing.T) {
	in, out := t.TempDir(), t.TempDir()
	hugePhoto(t, in)
	cmd := fromInput(t)
	cmd.Stdin = strings.NewReader(fmt.Sprintf("memory: {host: {limit: 1GiB}}\nlimits: {pixels: 2000000000}\nsource: {images: {path: %q}}\nstages:\n"+
		"  - upscale: {scale: 4, method: lanczos}\n  - write: {path: %q, format: png}\n", in, out))
	peak := int64(0)
	for _, r := range watch(t, cmd) {
		peak = max(peak, r.peak)
	}
	t.Logf("100 MP times 4 under memory.host.limit 1GiB: peak RSS %d MiB", peak>>20)
	if peak > 1<<30 {
		t.Errorf("peak RSS is %d MiB, want at most 1024", peak>>20)
	}
	data, err := os.ReadFile(filepath.Join(out, "huge.png"))
	if err != nil {
		t.Fatal(err)
	}
	h, err := imageio.ReadHeader(data, imageio.Limits{MaxPixels: 2e9})
	if err != nil || h.Width != 50_000 || h.Height != 32_000 {
		t.Errorf("%d x %d, %v", h.Width, h.Height, err)
	}
	if left, err := filepath.Glob(filepath.Join(out, ".forgepipe", "scratch", "*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
