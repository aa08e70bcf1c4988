package images

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/pipeline"
)

// Info declares the source.
func Info() pipeline.Info {
	return pipeline.Info{
		Name:  "images",
		Short: "Image files of a folder, a pattern, a list, or one file.",
		Long: `Offers every image below a folder, in the bytewise order of their names. A file is an image when its extension says so or, without a known extension, its first bytes. Everything else is reported as ignored, with the reason; hidden files and folders (.name) are passed over as a whole.

A file with the image's name up to the extension and one of the listed extensions (photo.txt beside photo.jpg) travels with it as its sidecar. Links to files are followed, links to folders are not. What claims to be an image and cannot be one (a broken link, a named pipe, a folder called x.jpg) is quarantined with the cause, and the run goes on.

With a pattern, * and ? stand for characters within one component of the path, [a-z] for one of a set, and ** for any number of folders: photos/**/*.jpg. Names are then relative to the folder before the first pattern.

Two images of a folder that differ in the extension only (a.jpg, a.png) both keep it in the names of what is made of them.`,
		Fields: []pipeline.Field{
			{
				Name: "path", Type: pipeline.FieldPath, Cosmetic: true,
				Doc:      "A folder, a pattern, or one image. With list, the folder that the listed names are relative to. One of path and list is required.",
				Examples: []string{"./photos", "photos/**/*.jpg", "cover.png"},
			},
			{
				Name: "list", Type: pipeline.FieldPath, Cosmetic: true,
				Doc:      "A text file with one path per line, relative to path or else to the list's own folder. Empty lines and lines that begin with # are skipped.",
				Examples: []string{"train.txt"},
			},
			{
				Name: "recursive", Type: pipeline.FieldBool, Default: "true",
				Doc: "Whether the folders below a folder are read too. A pattern says so itself, with **.",
			},
			{
				Name: "sidecars", Type: pipeline.FieldStrings, Default: "[.txt, .json, .caption, .xmp, .npz]",
				Doc:      "Extensions, with their dot and in any case, of the files that travel with the image of the same name. An empty list is none.",
				Examples: []string{"[.txt]", "[]"},
			},
		},
		NewSource: func(_ context.Context, c pipeline.Config, e pipeline.Env) (pipeline.Source, error) {
			return newSource(c, e)
		},
	}
}

// Source offers image files. Names are relative to its root folder,
// slash-separated, and otherwise the bytes that the file system has.
type Source struct {
	root      string   // absolute
	pattern   []string // components of a pattern below root
	single    string   // the one file's name in root
	list      string   // absolute path of the list
	recursive bool
	sidecars  []string // lower-case
	env       pipeline.Env
}

var (
	_ pipeline.Source = (*Source)(nil)
	_ pipeline.Rooted = (*Source)(nil)
)

func newSource(c pipeline.Config, e pipeline.Env) (*Source, error) {
	s := &Source{recursive: c.Bool("recursive"), env: e}
	if err := s.takeSidecars(c); err != nil {
		return nil, err
	}
	name, list := c.String("path"), c.String("list")
	switch {
	case list != "":
		return s, s.takeList(c, name, list)
	case name != "":
		return s, s.takePath(c, name)
	}
	return nil, c.Errorf("path", 0, "give the folder to read (path), or a list of files (list)")
}

func (s *Source) takeSidecars(c pipeline.Config) error {
	for _, ext := range c.Strings("sidecars") {
		switch {
		case !strings.HasPrefix(ext, ".") || len(ext) < 2 || strings.ContainsAny(ext, "/\x00"):
			return c.Errorf("sidecars", 0, "%q is no extension: write it with its dot, .txt", ext)
		case imageio.KnownExtension("x" + ext):
			return c.Errorf("sidecars", 0, "%s is an image's extension: such files are items of their own and cannot travel with another", ext)
		}
		if ext = strings.ToLower(ext); !slices.Contains(s.sidecars, ext) {
			s.sidecars = append(s.sidecars, ext)
		}
	}
	return nil
}

func (s *Source) takeList(c pipeline.Config, name, list string) (err error) {
	if s.list, err = filepath.Abs(list); err != nil {
		return c.Errorf("list", 0, "finding the list: %w", err)
	}
	switch info, err := os.Stat(s.list); {
	case err != nil:
		return c.Errorf("list", 0, "looking for the list of files: %w", err)
	case info.IsDir():
		return c.Errorf("list", 0, "%s is a folder: give it as path, or name a text file with one path per line", list)
	}
	s.root = filepath.Dir(s.list)
	if name == "" {
		return nil
	}
	if s.root, err = filepath.Abs(name); err != nil {
		return c.Errorf("path", 0, "finding the folder: %w", err)
	}
	switch info, err := os.Stat(s.root); {
	case err != nil:
		return c.Errorf("path", 0, "looking for the folder of the listed files: %w", err)
	case !info.IsDir():
		return c.Errorf("path", 0, "%s is not a folder: with list, path is the folder that the listed names are relative to", name)
	}
	return nil
}

func (s *Source) takePath(c pipeline.Config, name string) error {
	abs, err := filepath.Abs(name)
	if err != nil {
		return c.Errorf("path", 0, "finding the input: %w", err)
	}
	s.root = abs
	info, err := os.Stat(abs)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		s.root, s.single = filepath.Dir(abs), filepath.Base(abs)
		return nil
	case !strings.ContainsAny(name, "*?["):
		return c.Errorf("path", 0, "looking for the input: %w", err)
	}
	// What exists is taken as it is, so that a folder called "a[1]" can be read;
	// the pattern begins with the first component that does not.
	parts := strings.Split(filepath.Clean(name), "/")
	dir := "."
	if filepath.IsAbs(name) {
		dir, parts = "/", parts[1:]
	}
	for len(parts) > 0 {
		next := filepath.Join(dir, parts[0])
		if _, err := os.Stat(next); err != nil && strings.ContainsAny(parts[0], "*?[") {
			break
		} else if err != nil {
			return c.Errorf("path", 0, "looking for the folder that the pattern begins with: %w", err)
		}
		dir, parts = next, parts[1:]
	}
	for _, p := range parts {
		if err := checkPattern(p); err != nil {
			return c.Errorf("path", 0, "reading the pattern %q: %w", name, err)
		}
	}
	s.pattern = parts
	if s.root, err = filepath.Abs(dir); err != nil {
		return c.Errorf("path", 0, "finding the folder that the pattern begins with: %w", err)
	}
	return nil
}

// Roots is the folder that is read; of a list and of one file it is none, since
// they never find what lies beside them.
func (s *Source) Roots() []string {
	if s.list != "" || s.single != "" {
		return nil
	}
	return []string{s.root}
}

// Emit offers the files.
func (s *Source) Emit(ctx context.Context, emit func(pipeline.Input) error) error {
	switch {
	case s.list != "":
		return s.emitList(ctx, emit)
	case s.single != "":
		return emit(pipeline.Input{
			Name: s.single, Path: filepath.Join(s.root, s.single),
			Sidecars: s.besides(filepath.Join(s.root, s.single)),
		})
	}
	w := walker{source: s, emit: emit}
	states := []int{0}
	if s.pattern == nil {
		states = nil
	}
	return w.folder(ctx, "", states)
}

// isSidecar splits a sidecar's name into stem and extension.
func (s *Source) isSidecar(name string) (stem, ext string, ok bool) {
	for _, e := range s.sidecars {
		if n := len(name) - len(e); n > 0 && strings.EqualFold(name[n:], e) {
			return name[:n], name[n:], true
		}
	}
	return "", "", false
}

// besides finds the sidecars of one file without listing its folder: with their
// extension as it is configured, or in capitals.
func (s *Source) besides(file string) []pipeline.Sidecar {
	dir, base := filepath.Split(file)
	stem, _ := stemExt(base)
	var out []pipeline.Sidecar
	for _, lower := range s.sidecars {
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
		return pipeline.Sidecar{}, plain(err)
	}
	if !info.Mode().IsRegular() {
		return pipeline.Sidecar{}, fmt.Errorf("%s, not a regular file", kindOf(info.Mode().Type()))
	}
	return pipeline.Sidecar{Ext: ext, Path: file, Size: info.Size(), Time: info.ModTime().UnixNano()}, nil
}
