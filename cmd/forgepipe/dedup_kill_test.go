package main

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/png"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tinyPictures are n pictures of 8 x 8 in files: of three that follow each other, the second
// is a copy of the first, and the third differs in one sample.
func tinyPictures(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(11, 12))
	img := image.NewGray(image.Rect(0, 0, 8, 8))
	var file []byte
	for i := range n {
		folder := filepath.Join(dir, fmt.Sprintf("%03d", i/1000))
		if i%1000 == 0 {
			if err := os.Mkdir(folder, 0o777); err != nil {
				t.Fatal(err)
			}
		}
		switch i % 3 {
		case 0:
			for j := range img.Pix {
				img.Pix[j] = uint8(r.Uint32())
			}
		case 2:
			img.Pix[r.IntN(64)] ^= 7
		}
		if i%3 != 1 {
			var b bytes.Buffer
			if err := png.Encode(&b, img); err != nil {
				t.Fatal(err)
			}
			file = b.Bytes()
		}
		// In another order than that of their IDs.
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%03d-%06d.png", r.IntN(1000), i)), file, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// deduplicating is a command line of the program that de-duplicates pictures.
func deduplicating(t *testing.T, in, out string) *exec.Cmd {
	t.Helper()
	cmd := fromInput(t)
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`
source: {images: {path: %q}}
stages:
  - dedup:
      by: [sha256, pixels, {dhash: {max_distance: 3}}]
      groups: [%q, %q]
      pairs: %q
      decisions: %q
  - manifest: {path: %q}
`, in, filepath.Join(out, "groups.jsonl"), filepath.Join(out, "groups.parquet"), filepath.Join(out, "pairs.jsonl"), filepath.Join(out, "decisions.csv"), filepath.Join(out, "manifest.jsonl")))
	return cmd
}

// rejections are what the program reports of the items that it rejected.
func rejections(t *testing.T, out string) string {
	t.Helper()
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	b, err := exec.Command(bin, "report", out, "--kind", "rejected", "--list").Output()
	if err != nil {
		t.Fatalf("report: %v", err)
	}
	lines := strings.Split(string(b), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// duplicatesKilled kills runs on n pictures, each at one of those shares of the time that an
// undisturbed one takes, and compares what the next run leaves. A share above 1 kills as soon
// as an output is begun to be written.
func duplicatesKilled(t *testing.T, n int, shares ...float64) {
	in := tinyPictures(t, n)
	if _, err := program(); err != nil {
		t.Fatal(err)
	}
	ref := filepath.Join(t.TempDir(), "out")
	began := time.Now()
	if b, err := deduplicating(t, in, ref).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	whole := time.Since(began)
	want, wantRejected := outputs(t, ref), rejections(t, ref)
	groups, err := os.ReadFile(filepath.Join(ref, "groups.jsonl"))
	if err != nil || bytes.Count(groups, []byte("\n")) < n/4 || len(want) != 5 || strings.Count(wantRejected, "\n") < n/2 {
		t.Fatalf("the undisturbed run left %d groups, %v and %d rejections: %v", bytes.Count(groups, []byte("\n")), want, strings.Count(wantRejected, "\n"), err)
	}
	t.Logf("%d pictures take %v", n, whole)
	killed := 0
	for _, share := range shares {
		out := filepath.Join(t.TempDir(), "out")
		cmd := deduplicating(t, in, out)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if share > 1 {
			writing(t, out, 3*whole)
		} else {
			time.Sleep(time.Duration(share * float64(whole)))
		}
		_ = cmd.Process.Kill()
		var exit *exec.ExitError
		if err := cmd.Wait(); errors.As(err, &exit) && exit.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
			killed++
		}
		left := outputs(t, out)
		began := time.Now()
		if b, err := deduplicating(t, in, out).CombinedOutput(); err != nil {
			t.Fatalf("killed at %.2f: the next run: %v\n%s", share, err, b)
		}
		t.Logf("killed at %.2f it left %d files; the next run took %v", share, len(left), time.Since(began))
		same(t, fmt.Sprintf("killed at %.2f", share), outputs(t, out), want)
		if got := rejections(t, out); got != wantRejected {
			t.Errorf("killed at %.2f: the rejections are others", share)
		}
	}
	if killed < len(shares)/2 {
		t.Errorf("%d of %d runs were killed: the kills come too late", killed, len(shares))
	}
}

// writing waits until something stands in the folder of the outputs beside the state.
func writing(t *testing.T, out string, most time.Duration) {
	t.Helper()
	for deadline := time.Now().Add(most); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if entries, _ := os.ReadDir(out); len(entries) > 1 {
			return
		}
	}
	t.Fatal("the program writes nothing")
}

// A run that is killed finds the same groups the next time.
func TestDuplicatesAreTheSameAfterAKill(t *testing.T) { duplicatesKilled(t, 600, 0.6, 2) }

// tidying is a command line of the program that moves duplicates away.
func tidying(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := fromInput(t)
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`
source: {images: {path: %q}}
stages:
  - dedup:
      by: [sha256, pixels, {dhash: {max_distance: 3}}]
      groups: [%q, %q]
      action: move
      to: %q
  - manifest: {path: %q}
`, filepath.Join(dir, "in"), filepath.Join(dir, "out/groups.jsonl"), filepath.Join(dir, "out/groups.parquet"), filepath.Join(dir, "to"), filepath.Join(dir, "out/manifest.jsonl")))
	return cmd
}

// One that is killed while it moves them does, too, and tells of those that went before.
func TestDuplicatesAreTheSameAfterAKillWhileTheyMove(t *testing.T) {
	if _, err := program(); err != nil {
		t.Fatal(err)
	}
	world := func() string {
		dir := t.TempDir()
		if err := os.Rename(tinyPictures(t, 600), filepath.Join(dir, "in")); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	ref, dir := world(), world()
	if b, err := tidying(t, ref).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	cmd := tidying(t, dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	writing(t, filepath.Join(dir, "to"), time.Minute)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	moved := len(outputs(t, filepath.Join(dir, "to")))
	for range 2 {
		if b, err := tidying(t, dir).CombinedOutput(); err != nil {
			t.Fatalf("the next run: %v\n%s", err, b)
		}
		same(t, "killed", outputs(t, filepath.Join(dir, "out")), outputs(t, filepath.Join(ref, "out")))
		same(t, "killed", outputs(t, filepath.Join(dir, "in")), outputs(t, filepath.Join(ref, "in")))
	}
	t.Logf("%d files lay in the folder when it was killed", moved)
}
