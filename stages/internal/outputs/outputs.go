// Package outputs reads the fields of stages that write a file for each item below a
// folder.
package outputs

import (
	"os"
	"path/filepath"

	"github.com/forgepipe/forgepipe/pipeline"
)

// Tree is what a stage's fields "path" and "name" say of the files that it writes: the
// folder, absolute, and the names below it.
func Tree(c pipeline.Config, e pipeline.Env) (root string, name pipeline.Template, err error) {
	folder := filepath.Clean(c.String("path"))
	if root, err = filepath.Abs(folder); err != nil {
		return "", name, c.Errorf("path", 0, "finding the folder: %w", err)
	}
	if info, err := os.Stat(root); err == nil && !info.IsDir() {
		return "", name, c.Errorf("path", 0, "%s is a file: name a folder", folder)
	}
	if name, err = pipeline.ParseTemplate(c.String("name"), e.Derived); err != nil {
		return "", name, c.Errorf("name", 0, "%w", err)
	}
	return root, name, nil
}
