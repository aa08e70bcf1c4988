// Package manifest is the stage "manifest": it writes down what arrives, one
// line of JSON per item, and passes the items on.
//
// The file is a function of the items alone: lines are in the order of the IDs,
// keys in a fixed order, and nothing in it depends on when, where or in which
// run it was made. It appears whole at the end of the run, or not at all.
package manifest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/forgepipe/forgepipe/internal/extsort"
	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/pipeline"
)

// Info declares the stage.
func Info() pipeline.Info {
	return pipeline.Info{
		Name:  "manifest",
		Short: "Lists what arrives in a JSON Lines file.",
		Long: `Writes one line of JSON for every item that arrives, in the order of their IDs, and passes the items on. The file is written as a whole when the run is complete; a run without items makes an empty one.

Each line has, in this order: id; source, the source file's path relative to the input folder; path, the file that was last written from the item, relative to the manifest's folder, or null when none was; width and height in pixels; attributes, an object; and with vectors: true, vectors, an object of lists of numbers. No absolute path, time or run is named, so that the file can move with the images and two runs can be compared.

In id, source and path, '@' and '%' in file names, control characters and bytes that are not UTF-8 are percent-encoded ('%' and two hexadecimal digits): decode them to open a file with such a name. Numbers that are not finite become null, hashes are hexadecimal.`,
		Fields: []pipeline.Field{
			{
				Name: "path", Type: pipeline.FieldPath, Required: true, Cosmetic: true,
				Doc:      "The file to write. Its folder is made if it is missing.",
				Examples: []string{"./out/manifest.jsonl"},
			},
			{
				Name: "vectors", Type: pipeline.FieldBool, Default: "false",
				Doc: "Whether vectors (embeddings) are written too. They make long lines: about 10 bytes per component.",
			},
			{
				Name: "overwrite", Type: pipeline.FieldBool, Cosmetic: true, Default: "false",
				Doc: "Whether a file may be replaced that no run of this pipeline wrote.",
			},
		},
		Blind:   true,
		Version: 1,
		New: func(_ context.Context, c pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
			return newStage(c, e)
		},
	}
}

// sortMemory is what is sorted in memory; the rest goes through the scratch
// folder.
const sortMemory = 1 << 20

// Stage lists items. It is a barrier that holds none: the lines are what it has
// to see all of.
type Stage struct {
	env       pipeline.Env
	folder    string // as configured
	root      string // absolute
	file      string
	vectors   bool
	overwrite bool

	lines *extsort.Sorter // by ID; nil while the stage is not open
	dir   string          // where the file will be: root, or in a sample run another folder
}

var (
	_ pipeline.Barrier = (*Stage)(nil)
	_ pipeline.Opener  = (*Stage)(nil)
	_ pipeline.Closer  = (*Stage)(nil)
	_ pipeline.Coster  = (*Stage)(nil)
	_ pipeline.Writer  = (*Stage)(nil)
)

func newStage(c pipeline.Config, e pipeline.Env) (*Stage, error) {
	name := c.String("path")
	s := &Stage{env: e, vectors: c.Bool("vectors"), overwrite: c.Bool("overwrite")}
	if info, err := os.Stat(filepath.Clean(name)); err == nil && info.IsDir() || strings.HasSuffix(name, "/") {
		return nil, c.Errorf("path", 0, "%s is a folder: name a file in it, such as %s", name, filepath.Join(name, "manifest.jsonl"))
	}
	s.folder, s.file = filepath.Split(filepath.Clean(name))
	s.folder = filepath.Clean(s.folder)
	if err := fsys.CheckName(s.file); err != nil {
		return nil, c.Errorf("path", 0, "%w", err)
	}
	var err error
	if s.root, err = filepath.Abs(s.folder); err != nil {
		return nil, c.Errorf("path", 0, "finding the folder: %w", err)
	}
	return s, nil
}

// Writes is the file.
func (s *Stage) Writes() []pipeline.OutputTree {
	return []pipeline.OutputTree{{Root: s.folder, Template: s.file, File: true}}
}

// Cost is the lines that are sorted in memory.
func (s *Stage) Cost(pipeline.Device, []*pipeline.Item) pipeline.Cost {
	return pipeline.Cost{Resident: sortMemory}
}

// Open prepares the sorting.
func (s *Stage) Open(context.Context, pipeline.Device) error {
	scratch, err := s.env.Scratch()
	if err != nil {
		return err
	}
	s.lines = extsort.New(scratch, "manifest-"+s.env.StageID, sortMemory)
	s.dir = s.env.OutputDir(s.root)
	return nil
}

// Close removes what was sorted on disk.
func (s *Stage) Close() error {
	if s.lines == nil {
		return nil
	}
	err := s.lines.Close()
	s.lines = nil
	return err
}

// Process notes the items down.
func (s *Stage) Process(_ context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	if s.lines == nil {
		return batch, nil // a dry run, which opens no stage and asks for no file
	}
	for _, it := range batch {
		line, err := s.line(it)
		if err != nil {
			it.Fail(fmt.Errorf("describing the item: %w", err))
			continue
		}
		if err := s.lines.Add(it.ID(), line); err != nil {
			return nil, err
		}
	}
	return batch, nil
}

// Flush writes the file.
func (s *Stage) Flush(ctx context.Context, held pipeline.HeldItems, emit func(*pipeline.Item) error) error {
	for it, err := range held {
		if err != nil {
			return err
		}
		if err := emit(it); err != nil {
			return err
		}
	}
	return s.env.Publish(ctx, []pipeline.Output{{
		Root: s.root, File: s.file, Overwrite: s.overwrite,
		Encode: func(ctx context.Context, w io.Writer) error {
			b := bufio.NewWriterSize(w, 64<<10)
			for rec, err := range s.lines.All() {
				if err != nil {
					return err
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				if _, err := b.Write(rec.Value); err != nil {
					return err
				}
			}
			return b.Flush()
		},
	}})
}
