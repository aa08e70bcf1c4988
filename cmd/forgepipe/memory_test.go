package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// reading is the resident set of a process at one time.
type reading struct {
	rss, peak int64 // bytes
}

// watch runs a command and reads its memory fifty times a second. The peak
// that wait4 tells is no use: it includes that of the process that forked it.
func watch(t *testing.T, cmd *exec.Cmd) (readings []reading) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	status := fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("%v\n%s", err, out.String())
			}
			return readings
		case <-time.After(20 * time.Millisecond):
			b, err := os.ReadFile(status)
			if err != nil {
				continue
			}
			r := reading{kilobytes(b, "VmRSS"), kilobytes(b, "VmHWM")}
			if r.rss > 0 {
				readings = append(readings, r)
			}
		}
	}
}

func kilobytes(status []byte, field string) int64 {
	for _, line := range strings.Split(string(status), "\n") {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}

// bigPhoto is the file of a photograph of that many pixels, which the program
// makes in a fraction of the time that this one takes under the race detector.
func bigPhoto(t *testing.T, width, height, quality int) []byte {
	t.Helper()
	in, out := t.TempDir(), t.TempDir()
	src, err := os.ReadFile("../../testdata/photos/mountains.jpg")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(in, "big.jpg"), src, 0o666); err != nil {
		t.Fatal(err)
	}
	cmd := fromInput(t)
	cmd.Stdin = strings.NewReader(fmt.Sprintf("source: {images: {path: %q}}\nstages:\n"+
		"  - resize: {width: %d, height: %d, filter: nearest, enlarge: true}\n"+
		"  - write: {path: %q, format: jpeg, quality: %d, subsampling: \"4:2:0\"}\n", in, width, height, out, quality))
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	big, err := os.ReadFile(filepath.Join(out, "big.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := jpeg.DecodeConfig(bytes.NewReader(big)); err != nil || c.Width != width || c.Height != height {
		t.Fatalf("a photograph of %d x %d, %v", c.Width, c.Height, err)
	}
	return big
}

// bigPhotos makes n photographs of 6000 x 4000 pixels, each another file.
func bigPhotos(t *testing.T, n int) string {
	t.Helper()
	big := bigPhoto(t, 6000, 4000, 88)
	dir := t.TempDir()
	for i := range n {
		// A comment of its own makes each another content: nothing is cached.
		comment := fmt.Sprintf("photograph %d", i)
		file := append([]byte{0xff, 0xd8, 0xff, 0xfe, 0, byte(len(comment) + 2)}, comment...)
		file = append(file, big[2:]...)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%03d.jpg", i)), file, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// hugePhoto adds one photograph of 100 MP to a folder.
func hugePhoto(t *testing.T, dir string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "huge.jpg"), bigPhoto(t, 12_500, 8_000, 80), 0o666); err != nil {
		t.Fatal(err)
	}
}

// underLimit runs the main job over large photographs and one huge one, under a
// limit and without, and returns the peak under the limit. The outputs must be
// the same.
func underLimit(t *testing.T, photographs int) int64 {
	t.Helper()
	in := bigPhotos(t, photographs)
	hugePhoto(t, in)
	run := func(limit string) (out map[string]string, peak int64) {
		dir := t.TempDir()
		yaml := fmt.Sprintf("%ssource: {images: {path: %q}}\nstages:\n"+
			"  - tile: {size: 512, pick: best, by: laplacian}\n  - score: {metrics: [laplacian, blockiness, entropy]}\n  - hash: {by: pdq}\n"+
			"  - dedup: {by: sha256}\n  - write: {path: %q, format: png}\n", limit, in, dir)
		cmd := fromInput(t)
		cmd.Stdin = strings.NewReader(yaml)
		for _, r := range watch(t, cmd) {
			peak = max(peak, r.peak)
		}
		return outputs(t, dir), peak
	}
	limited, peak := run("memory: {host: {limit: 600MiB}}\n")
	free, most := run("")
	t.Logf("without a limit: peak RSS %d MiB, %d files", most>>20, len(free))
	if len(free) < 2 {
		t.Errorf("only %d files", len(free))
	}
	same(t, "under the limit", limited, free)
	return peak
}

// Queues are bounded by bytes: large frames do not pile up.
func TestLargeFramesStayUnderTheLimit(t *testing.T) {
	const photographs = 24 // 36 MB each: more than the limit when they pile up
	peak := underLimit(t, photographs)
	t.Logf("%d photographs of 24 MP and one of 100 MP under memory.host.limit 600MiB: peak RSS %d MiB", photographs, peak>>20)
	if peak > 750<<20 || peak < 50<<20 {
		t.Errorf("peak RSS is %d MiB, want at most 750", peak>>20)
	}
}

// What a run keeps does not grow with what it has done.
func TestMemoryDoesNotGrowWithItems(t *testing.T) {
	in, out := t.TempDir(), filepath.Join(t.TempDir(), "out")
	img := image.NewGray(image.Rect(0, 0, 128, 128))
	if _, err := rand.NewChaCha8([32]byte{1}).Read(img.Pix); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.NoCompression}).Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	for i := range 20_000 {
		// A text of its own after the header makes each another file.
		chunk := fmt.Appendf(nil, "tEXtComment\x00%05d", i)
		file := slices.Concat(b.Bytes()[:33], binary.BigEndian.AppendUint32(nil, uint32(len(chunk)-4)), chunk,
			binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(chunk)), b.Bytes()[33:])
		name := filepath.Join(in, fmt.Sprintf("%02d", i/1000), fmt.Sprintf("%05d.png", i))
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, file, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	cmd := forgepipe(t, in, out, "--quiet")
	yaml := fmt.Sprintf("source: {images: {path: %q}}\nstages:\n  - score: {metrics: [laplacian]}\n  - filter: {keep: 'laplacian > 0'}\n  - write: {path: %q}\n  - manifest: {path: %q}\n", in, out, filepath.Join(out, "manifest.jsonl"))
	cmd.Args = append(cmd.Args[:2], "-", "--cache", "none", "--quiet")
	cmd.Stdin = strings.NewReader(yaml)
	readings := watch(t, cmd)
	if n := len(outputs(t, out)); n != 20_001 {
		t.Errorf("%d files", n)
	}
	if len(readings) < 40 {
		t.Fatalf("only %d readings", len(readings))
	}
	var halves [2]int64
	for i, r := range readings {
		half := 2 * i / len(readings)
		halves[half] = max(halves[half], r.rss)
	}
	t.Logf("20,000 images: RSS of the first half %d MiB, of the second %d MiB (%d readings)", halves[0]>>20, halves[1]>>20, len(readings))
	if float64(halves[1]) > 1.1*float64(halves[0]) {
		t.Errorf("RSS grew from %d to %d MiB", halves[0]>>20, halves[1]>>20)
	}
}
