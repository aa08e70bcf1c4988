// Package record writes what a benchmark measured into RESULTS.md, together
// with what is needed to judge and repeat it: machine, versions, command, date.
package record

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// Section replaces the section with that title in the file, or appends it.
// The body is Markdown.
func Section(file, title, command, body string) error {
	old, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	if len(old) == 0 {
		old = []byte("# Results\n\nEach section is written by the program that measured it, and says on what.\n")
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "## %s\n\n%s\n\n%s\n", title, provenance(command), strings.TrimSpace(body))
	head := []byte("\n## " + title + "\n")
	if i := bytes.Index(old, head); i >= 0 {
		rest := old[i+len(head):]
		end := len(rest)
		if j := bytes.Index(rest, []byte("\n## ")); j >= 0 {
			end = j
		}
		old = append(append(append([]byte{}, old[:i+1]...), b.Bytes()...), rest[end:]...)
	} else {
		old = append(append(bytes.TrimRight(old, "\n"), '\n', '\n'), b.Bytes()...)
	}
	return os.WriteFile(file, old, 0o666)
}

func provenance(command string) string {
	var deps []string
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			switch d.Path {
			case "modernc.org/sqlite", "golang.org/x/image", "github.com/sourcegraph/conc", "github.com/disintegration/imaging", "github.com/klauspost/compress", "github.com/ebitengine/purego", "github.com/yalue/onnxruntime_go":
				deps = append(deps, d.Path+" "+d.Version)
			}
		}
	}
	commit := "unknown commit"
	if out, err := exec.Command("git", "describe", "--always", "--dirty").Output(); err == nil {
		commit = "commit " + strings.TrimSpace(string(out))
	}
	return fmt.Sprintf("%s, %s; %s, %d cores, %s; %s; %s. Command: `%s`.",
		time.Now().UTC().Format("2006-01-02"), commit, cpu(), runtime.NumCPU(), memory(), runtime.Version()+" "+runtime.GOOS+"/"+runtime.GOARCH, strings.Join(deps, ", "), command)
}

// cpu is the processor's name as the kernel tells it.
func cpu() string { return procField("/proc/cpuinfo", "model name") }

func memory() string { return "memory " + procField("/proc/meminfo", "MemTotal") }

func procField(file, key string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for _, line := range strings.Split(string(b), "\n") {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}
