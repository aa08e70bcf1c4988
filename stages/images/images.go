package images

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/files"
	"github.com/forgepipe/forgepipe/stages/internal/patterns"
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
		Examples: []pipeline.Example{
			{Doc: "Every image below a folder.", YAML: "images: {path: ./photos}"},
			{Doc: "The JPEG files of one year, with their captions and no other files beside them.", YAML: `images: {path: "photos/2024-*/**/*.jpg", sidecars: [.txt]}`},
			{Doc: "The images that a list names, one path a line.", YAML: "images: {path: ./photos, list: train.txt}"},
		},
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
			files.SidecarsField(),
		},
		NewSource: func(_ context.Context, c pipeline.Config, e pipeline.Env) (pipeline.Source, error) {
			return newSource(c, e)
		},
	}
}

// Source offers image files. Names are relative to its root folder,
// slash-separated, and otherwise the bytes that the file system has.
type Source struct {
	tree    files.Tree
	pattern patterns.Pattern // below the root; nil: none
	single  string           // the one file's name in the root
	list    string           // absolute path of the list
	env     pipeline.Env
}

var (
	_ pipeline.Source = (*Source)(nil)
	_ pipeline.Rooted = (*Source)(nil)
)

func newSource(c pipeline.Config, e pipeline.Env) (*Source, error) {
	s := &Source{env: e}
	var err error
	if s.tree.Sidecars, err = files.Sidecars(c); err != nil {
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
	s.tree.Root = filepath.Dir(s.list)
	if name == "" {
		return nil
	}
	if s.tree.Root, err = filepath.Abs(name); err != nil {
		return c.Errorf("path", 0, "finding the folder: %w", err)
	}
	switch info, err := os.Stat(s.tree.Root); {
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
	s.tree.Root = abs
	info, err := os.Stat(abs)
	switch {
	case err == nil && info.IsDir():
		s.tree.Flat = !c.Bool("recursive")
		return nil
	case err == nil:
		s.tree.Root, s.single = filepath.Dir(abs), filepath.Base(abs)
		return nil
	case !strings.ContainsAny(name, patterns.Wildcards):
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
		if _, err := os.Stat(next); err != nil && strings.ContainsAny(parts[0], patterns.Wildcards) {
			break
		} else if err != nil {
			return c.Errorf("path", 0, "looking for the folder that the pattern begins with: %w", err)
		}
		dir, parts = next, parts[1:]
	}
	if s.pattern, err = patterns.New(parts...); err != nil {
		return c.Errorf("path", 0, "reading the pattern %q: %w", name, err)
	}
	if s.tree.Root, err = filepath.Abs(dir); err != nil {
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
	return []string{s.tree.Root}
}

// Emit offers the files.
func (s *Source) Emit(ctx context.Context, emit func(pipeline.Input) error) error {
	switch {
	case s.list != "":
		return s.emitList(ctx, emit)
	case s.single != "":
		return emit(pipeline.Input{Name: s.single, Path: s.tree.Path(s.single), Sidecars: s.tree.Besides(s.single)})
	case s.pattern != nil:
		return s.walk(ctx, "", s.pattern.Start(), emit)
	}
	return s.walk(ctx, "", nil, emit)
}

// walk offers what is in the folder rel (empty for the root, otherwise with a
// slash at its end), and below it. The states are those of the pattern; without
// one there are none.
func (s *Source) walk(ctx context.Context, rel string, states []int, emit func(pipeline.Input) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var ask files.Ask
	if states != nil {
		ask = func(name string) (file, folder bool) {
			return s.pattern.Matches(states, name), len(s.pattern.Below(states, name)) > 0
		}
	}
	folder := s.tree.Read(rel, ask)
	if err := folder.Err; err != nil {
		if rel == "" {
			return fmt.Errorf("reading the input folder %s: %w", s.tree.Root, files.Plain(err))
		}
		// With its slash, the name cannot be that of anything else.
		if err := emit(pipeline.Input{Name: rel, Err: fmt.Errorf("reading the folder: %w", files.Plain(err))}); err != nil {
			return err
		}
	}
	for i := range folder.Entries {
		e := &folder.Entries[i]
		var err error
		switch e.Verdict {
		case files.PassedOver:
		case files.Descend:
			if states == nil {
				err = s.walk(ctx, rel+e.Name+"/", nil, emit)
			} else if next := s.pattern.Below(states, e.Name); len(next) > 0 {
				err = s.walk(ctx, rel+e.Name+"/", next, emit)
			}
		default:
			err = emit(folder.Input(e))
		}
		if err != nil {
			return err
		}
		*e = files.Entry{} // the folder may be waiting for one deep below it
	}
	return nil
}
