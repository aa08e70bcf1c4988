package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
)

// pngHeader is the start of a PNG file of the given size, without pixels.
func pngHeader(w, h uint32) []byte {
	b := []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")
	b = binary.BigEndian.AppendUint32(b, w)
	b = binary.BigEndian.AppendUint32(b, h)
	b = append(b, 8, 2, 0, 0, 0)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[12:]))
}

// A folder with everything that can be wrong with a file: each is quarantined
// with its cause, and the good ones are done.
func TestBadInputIsQuarantinedAndTheRestDone(t *testing.T) {
	base, err := os.MkdirTemp("", "forgepipe-bad-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	in, out := filepath.Join(base, "in"), filepath.Join(base, "out")
	good, err := os.ReadFile("../../testdata/photos/brushes.jpg")
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 5000)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	files := map[string][]byte{
		"good.jpg":                good,
		"good-without-extension":  good,
		"not-utf8-\xff\xfe.jpg":   good,
		"at@percent%.jpg":         good,
		"truncated.jpg":           good[:len(good)/2],
		"truncated-header.jpg":    good[:100],
		"empty.jpg":               nil,
		"random.jpg":              noise,
		"huge.png":                append(pngHeader(60000, 60000), noise...),
		"text-called.png":         []byte("not a picture at all"),
		"soon.avif":               []byte("\x00\x00\x00\x1cftypavif\x00\x00\x00\x00avifmif1miaf"),
		"unreadable.jpg":          good,
		"folder.jpg/inside.jpg":   good,
		"notes.md":                []byte("# notes"),
		"orphan.txt":              []byte("a caption without its image"),
		"good.txt":                []byte("a caption"),
		".hidden.jpg":             good,
		"sub/.forgepipe/old.jpg":  good,
		"locked-folder/inner.jpg": good,
	}
	for name, b := range files {
		path := filepath.Join(in, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	links := map[string]string{
		"loop-a.jpg": "loop-b.jpg", "loop-b.jpg": "loop-a.jpg", "broken.jpg": "nowhere.jpg",
		"link-to-good.jpg": "good.jpg", "up": "..", "sub/again": "../sub",
	}
	for name, to := range links {
		if err := os.Symlink(to, filepath.Join(in, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(in, "pipe.jpg"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"unreadable.jpg", "locked-folder"} {
		if err := os.Chmod(filepath.Join(in, name), 0); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(in, "locked-folder"), 0o777) })

	cmd := forgepipe(t, in, out, "--json")
	if os.Geteuid() == 0 { // root can read everything; nobody cannot
		for _, dir := range []string{base, filepath.Dir(cmd.Path)} {
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
		}
		yaml, err := os.ReadFile("../../pipelines/tiles.yaml")
		if err != nil {
			t.Fatal(err)
		}
		cmd.Args[2] = "-"
		cmd.Stdin = bytes.NewReader(yaml)
		cmd.Dir = base
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 4 {
		t.Fatalf("exit code %d\n%s\n%s", code, stdout.String(), stderr.String())
	}
	var envelope struct {
		OK      bool
		Summary pipeline.Summary
	}
	if err := json.Unmarshal(stdout.Bytes(), &envelope); err != nil {
		t.Fatalf("%v\n%s", err, stdout.String())
	}
	s := envelope.Summary
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	causes := map[string]string{
		"truncated.jpg":        "decoding",
		"truncated-header.jpg": "header",
		"empty.jpg":            "empty",
		"random.jpg":           "not an image",
		"huge.png":             "60000 x 60000",
		"text-called.png":      "not an image",
		"soon.avif":            "not supported yet",
		"unreadable.jpg":       "permission denied",
		"folder.jpg":           "folder",
		"locked-folder/":       "permission denied",
		"loop-a.jpg":           "links",
		"loop-b.jpg":           "links",
		"broken.jpg":           "no such file",
		"pipe.jpg":             "pipe",
	}
	got := map[string]string{}
	for _, f := range s.Failed {
		source, _, _ := strings.Cut(f.ID, "@")
		got[source] = f.Cause
	}
	for name, want := range causes {
		if !strings.Contains(got[name], want) {
			t.Errorf("%s: %q, want a cause with %q", name, got[name], want)
		}
	}
	for name, cause := range got {
		if causes[name] == "" {
			t.Errorf("%s was quarantined: %s", name, cause)
		}
	}
	if list, err := os.ReadFile(s.QuarantineFile); err != nil || bytes.Count(list, []byte("\n")) != int(s.Quarantined) {
		t.Errorf("the quarantine list %s: %v\n%s", s.QuarantineFile, err, list)
	}
	left := outputs(t, out)
	for _, name := range []string{
		"good_x0_y0.png", "good_x0_y0.txt", "good-without-extension_x0_y0.png", "not-utf8-\xff\xfe_x0_y0.png",
		"at@percent%_x0_y0.png", "folder.jpg/inside_x0_y0.png", "link-to-good_x0_y0.png",
	} {
		if left[name] == "" {
			t.Errorf("%s was not written", name)
		}
	}
	for name := range left {
		if strings.Contains(name, "hidden") || strings.Contains(name, "sub/old") {
			t.Errorf("%s was made of a hidden file", name)
		}
	}
	// notes.md, orphan.txt, .hidden.jpg, .forgepipe, up, again
	if s.Ignored != 6 {
		t.Errorf("%d files were ignored", s.Ignored)
	}
	for _, want := range []string{"up", "not followed"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("the program does not say %q:\n%s", want, stderr.String())
		}
	}
	if b, err := exec.Command("cat", filepath.Join(out, "good_x0_y0.txt")).Output(); err != nil || string(b) != "a caption" {
		t.Errorf("the caption is %q, %v", b, err)
	}
}
