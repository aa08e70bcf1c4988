// Generate writes the reference pages of docs/ and the JSON Schema of pipeline
// files from the declarations of the standard stages: run "make docs". With
// -check it writes nothing, and fails when a file is not what it would write.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/stages/standard"
)

func main() {
	check := flag.Bool("check", false, "fail when a file differs, instead of writing it")
	dir := flag.String("dir", "docs", "the `folder` of the documentation")
	flag.Parse()
	if err := run(*dir, *check); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(dir string, check bool) error {
	files, err := pages(standard.Registry())
	if err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(dir, stagesDir, "*.md"))
	if err != nil {
		return fmt.Errorf("listing the pages of stages: %w", err)
	}
	var drift []string
	for _, path := range old {
		if _, wanted := files[stagesDir+"/"+filepath.Base(path)]; wanted {
			continue
		}
		if check {
			drift = append(drift, path+" is about a stage that there is not")
		} else if err := os.Remove(path); err != nil {
			return fmt.Errorf("removing the page of a stage that there is not: %w", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		is, err := os.ReadFile(path)
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("reading what is there: %w", err)
		case err == nil && bytes.Equal(is, files[name]):
			continue
		case check && err != nil:
			drift = append(drift, path+" is missing")
			continue
		case check:
			drift = append(drift, path+" is not what the declarations say")
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return fmt.Errorf("making the folder of a page: %w", err)
		}
		if err := os.WriteFile(path, files[name], 0o666); err != nil {
			return fmt.Errorf("writing a page: %w", err)
		}
	}
	if drift != nil {
		return fmt.Errorf("%s\nrun make docs, and commit what it writes", strings.Join(drift, "\n"))
	}
	return nil
}
