// Package files reads the folders of data sets for the sources that offer image
// files: what is an image, what travels with one as its sidecar, what only
// claims to be an image, and what is passed over and why.
package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/pipeline"
)

// SidecarsField declares the field that Sidecars reads.
func SidecarsField() pipeline.Field {
	return pipeline.Field{
		Name: "sidecars", Type: pipeline.FieldStrings, Default: "[.txt, .json, .caption, .xmp, .npz]",
		Doc:      "Extensions, with their dot and in any case, of the files that travel with the image of the same name. An empty list is none.",
		Examples: []string{"[.txt]", "[]"},
	}
}

// Sidecars returns the configured extensions in lower case, each once.
func Sidecars(c pipeline.Config) ([]string, error) {
	var out []string
	for _, ext := range c.Strings("sidecars") {
		switch {
		case !strings.HasPrefix(ext, ".") || len(ext) < 2 || strings.ContainsAny(ext, "/\x00"):
			return nil, c.Errorf("sidecars", 0, "%q is no extension: write it with its dot, .txt", ext)
		case imageio.KnownExtension("x" + ext):
			return nil, c.Errorf("sidecars", 0, "%s is an image's extension: such files are items of their own and cannot travel with another", ext)
		}
		if ext = strings.ToLower(ext); !slices.Contains(out, ext) {
			out = append(out, ext)
		}
	}
	return out, nil
}

// Tree is a folder with everything below it. Names in it are relative to its
// root, slash-separated, and otherwise the bytes that the file system has.
type Tree struct {
	Root     string   // absolute
	Flat     bool     // the folders below are not read
	Sidecars []string // lower-case extensions, with their dot
}

// Path is the absolute path of a name.
func (t *Tree) Path(name string) string { return filepath.Join(t.Root, filepath.FromSlash(name)) }

// isSidecar splits a sidecar's name into stem and extension.
func (t *Tree) isSidecar(name string) (stem, ext string, ok bool) {
	for _, e := range t.Sidecars {
		if n := len(name) - len(e); n > 0 && strings.EqualFold(name[n:], e) {
			return name[:n], name[n:], true
		}
	}
	return "", "", false
}

// Besides finds the sidecars of one image without listing its folder: with
// their extension as it is configured, or in capitals.
func (t *Tree) Besides(name string) []pipeline.Sidecar {
	dir, base := filepath.Split(t.Path(name))
	stem, _ := StemExt(base)
	var out []pipeline.Sidecar
	for _, lower := range t.Sidecars {
		for _, ext := range slices.Compact([]string{lower, strings.ToUpper(lower)}) {
			if sc, err := sidecar(dir+stem+ext, ext); err == nil {
				out = append(out, sc)
			}
		}
	}
	slices.SortFunc(out, func(a, b pipeline.Sidecar) int { return strings.Compare(a.Ext, b.Ext) })
	return out
}

// sidecar describes a sidecar file; something that is not a regular file cannot
// be one.
func sidecar(file, ext string) (pipeline.Sidecar, error) {
	info, err := os.Stat(file)
	if err != nil {
		return pipeline.Sidecar{}, Plain(err)
	}
	if !info.Mode().IsRegular() {
		return pipeline.Sidecar{}, fmt.Errorf("%s, not a regular file", fsys.KindOf(info.Mode().Type()))
	}
	return pipeline.Sidecar{Ext: ext, Path: file, Size: info.Size(), Time: info.ModTime().UnixNano()}, nil
}

// StemExt splits a file's name into stem and extension, as the names of outputs
// do: a leading dot belongs to the stem.
func StemExt(name string) (stem, ext string) {
	ext = path.Ext(name)
	if ext == name {
		return name, ""
	}
	return name[:len(name)-len(ext)], ext
}

// Plain takes the path out of a file error, for reports that name the item
// already.
func Plain(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
