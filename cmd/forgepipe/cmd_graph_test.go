package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/stages/standard"
)

// graph prints exactly the plan that a dry run prints.
func TestGraphIsThePlanOfADryRun(t *testing.T) {
	photos, err := filepath.Abs("../../testdata/photos")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "pipeline.yaml")
	err = os.WriteFile(file, []byte(`
name: compared
memory: {host: {limit: 1500MiB}}
source: {images: {path: "`+photos+`"}}
stages:
  - tile: {size: 512}
  - {id: measure, score: {metrics: [laplacian, noise]}, workers: 3, batch: 5}
  - dedup: {by: pdq}
  - upscale: {scale: 4, method: lanczos}
  - write: {path: "`+filepath.Join(dir, "out")+`", format: png}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (stdout, stderr string) {
		var out, screen bytes.Buffer
		if code := execute(args, strings.NewReader(""), &out, &screen, standard.Registry(), "v1"); code != 0 {
			t.Fatalf("%q exits %d: %s", args, code, &screen)
		}
		return out.String(), screen.String()
	}
	_, dry := run("run", file, "--dry-run", "--cache", "none")
	mermaid, _ := run("graph", file)
	dot, _ := run("graph", file, "--format", "dot")

	var want []string
	row := regexp.MustCompile(`^ +\d* +(\w+) +(\w*) +(host) +(\d+) +(\d+) +(-|[\d.]+ \w+) +(-|[\d.]+ \w+)$`)
	for line := range strings.Lines(dry) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "memory: ") || strings.HasPrefix(line, "run store: ") {
			want = append(want, line)
		}
		if m := row.FindStringSubmatch(line); m != nil {
			name := m[1]
			if m[2] != "" {
				name += " (" + m[2] + ")"
			}
			want = append(want, strings.Join([]string{name, m[3] + ", workers " + m[4] + ", batch " + m[5], "resident " + m[6] + ", per call " + m[7]}, "\n"))
		}
	}
	if len(want) != 2+5 {
		t.Fatalf("%d lines of the plan are known of\n%s", len(want), dry)
	}
	for _, w := range want {
		if !strings.Contains(mermaid, strings.ReplaceAll(w, "\n", "<br/>")) {
			t.Errorf("there is no %q in\n%s", w, mermaid)
		}
		if !strings.Contains(dot, strings.ReplaceAll(w, "\n", `\n`)) {
			t.Errorf("there is no %q in\n%s", w, dot)
		}
	}
}
