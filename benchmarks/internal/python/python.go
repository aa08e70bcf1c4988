// Package python makes virtual environments for the programs that forgepipe is
// measured against.
package python

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/forgepipe/forgepipe/benchmarks/internal/proc"
)

// Install copies script and requirements.txt from files to dir, and makes a virtual
// environment with those packages there, unless there is one already. The script
// must print something for the argument "versions". takes says what the packages
// need of the machine. missing is not empty when there is no such environment, and
// says why.
func Install(dir string, files fs.FS, script, takes string) (python, path, missing string, err error) {
	if _, err := exec.LookPath("python3"); err != nil {
		return "", "", "there is no python3: apt-get install python3-venv", nil
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", "", "", err
	}
	fresh := false
	for _, name := range []string{script, "requirements.txt"} {
		b, err := fs.ReadFile(files, name)
		if err != nil {
			return "", "", "", err
		}
		to := filepath.Join(dir, name)
		if old, err := os.ReadFile(to); name == "requirements.txt" && (err != nil || !bytes.Equal(old, b)) {
			fresh = true
		}
		if err := os.WriteFile(to, b, 0o666); err != nil {
			return "", "", "", err
		}
	}
	python, path = filepath.Join(dir, "venv", "bin", "python"), filepath.Join(dir, script)
	if !fresh && proc.Output(python, path, "versions") != "" {
		return python, path, "", nil
	}
	for _, c := range [][]string{
		{"python3", "-m", "venv", "--clear", filepath.Join(dir, "venv")},
		{python, "-m", "pip", "install", "--quiet", "--no-deps", "-r", filepath.Join(dir, "requirements.txt")},
		{python, path, "versions"},
	} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			return "", "", fmt.Sprintf("`%s` failed (it takes %s): %s", strings.Join(c, " "), takes, lastLine(string(out))), nil
		}
	}
	return python, path, "", nil
}

// lastLine is where Python says what went wrong.
func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndex(s, "\n")+1:]
}
