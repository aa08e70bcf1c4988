// Package listing is what stages have in common that write down what arrives, in
// files of the whole run: records are sorted by the items' IDs, on disk where they
// are many, and the files appear whole at the end of the run or not at all.
package listing

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/forgepipe/forgepipe/internal/extsort"
	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/pipeline"
)

// Fields declares the fields that New reads. The examples are of the path.
func Fields(examples ...string) []pipeline.Field {
	return []pipeline.Field{
		{
			Name: "path", Type: pipeline.FieldPath, Required: true, Cosmetic: true,
			Doc:      "The file to write. Its folder is made if it is missing.",
			Examples: examples,
		},
		{
			Name: "overwrite", Type: pipeline.FieldBool, Cosmetic: true, Default: "false",
			Doc: "Whether a file may be replaced that no run of this pipeline wrote.",
		},
	}
}

// SortMemory is what is sorted in memory; the rest goes through the scratch
// folder.
const SortMemory = 1 << 20

// Listing is the part of a stage that collects records and writes them at the
// end. The stage is a barrier that holds no items: the records are what it has to
// see all of.
type Listing struct {
	Name string // of the file, within its folder

	env       pipeline.Env
	folder    string // as configured
	root      string // absolute
	overwrite bool

	records *extsort.Sorter // by ID; nil while the stage is not open
	dir     string          // where the file will be: root, or in a sample run another folder
}

// New reads the fields of Fields. The name is an example of a file's.
func New(c pipeline.Config, e pipeline.Env, name string) (*Listing, error) {
	file := c.String("path")
	l := &Listing{env: e, overwrite: c.Bool("overwrite")}
	if info, err := os.Stat(filepath.Clean(file)); err == nil && info.IsDir() || strings.HasSuffix(file, "/") {
		return nil, c.Errorf("path", 0, "%s is a folder: name a file in it, such as %s", file, filepath.Join(file, name))
	}
	l.folder, l.Name = filepath.Split(filepath.Clean(file))
	l.folder = filepath.Clean(l.folder)
	if err := fsys.CheckName(l.Name); err != nil {
		return nil, c.Errorf("path", 0, "%w", err)
	}
	var err error
	if l.root, err = filepath.Abs(l.folder); err != nil {
		return nil, c.Errorf("path", 0, "finding the folder: %w", err)
	}
	return l, nil
}

// Tree is a file in the folder, as the stage's Writes tells it.
func (l *Listing) Tree(name string) pipeline.OutputTree {
	return pipeline.OutputTree{Root: l.folder, Template: name, File: true}
}

// Open prepares the sorting.
func (l *Listing) Open(context.Context, pipeline.Device) error {
	scratch, err := l.env.Scratch()
	if err != nil {
		return err
	}
	l.records = extsort.New(scratch, "listing-"+l.env.StageID, SortMemory)
	l.dir = l.env.OutputDir(l.root)
	return nil
}

// IsOpen is false in a dry run, which opens no stage and asks for no file.
func (l *Listing) IsOpen() bool { return l.records != nil }

// Close removes what was sorted on disk.
func (l *Listing) Close() error {
	if l.records == nil {
		return nil
	}
	err := l.records.Close()
	l.records = nil
	return err
}

// Add adds the record of an item.
func (l *Listing) Add(it *pipeline.Item, record []byte) error {
	return l.records.Add(it.ID(), record)
}

// Len is how many records have been added.
func (l *Listing) Len() int64 { return l.records.Len() }

// Place says what an item is and where it lies. Its fields are written to JSON in
// their order.
type Place struct {
	ID     string  `json:"id"`
	Source string  `json:"source"` // percent-encoded, relative to the source's root
	Path   *string `json:"path"`   // percent-encoded, of the file last written from the item, relative to the listing's folder
}

// Place describes an item.
func (l *Listing) Place(it *pipeline.Item) (Place, error) {
	p := Place{ID: it.ID(), Source: pipeline.EscapeID(it.Source().Name)}
	outputs := it.Outputs()
	if len(outputs) == 0 {
		return p, nil
	}
	rel, err := filepath.Rel(l.dir, outputs[len(outputs)-1])
	if err != nil {
		return p, fmt.Errorf("finding the way from %s to the image: %w", l.Name, err)
	}
	rel = pipeline.EscapeID(filepath.ToSlash(rel))
	p.Path = &rel
	return p, nil
}

// Records are all records in the order of their IDs. An error ends them.
type Records = iter.Seq2[extsort.Record, error]

// File is one of the files.
type File struct {
	Name  string
	Write func(w io.Writer, r Records) error
}

// Flush hands on what the engine held, which is nothing, and writes the files:
// all of them or, when one cannot be written, none.
func (l *Listing) Flush(ctx context.Context, held pipeline.HeldItems, emit func(*pipeline.Item) error, files ...File) error {
	for it, err := range held {
		if err != nil {
			return err
		}
		if err := emit(it); err != nil {
			return err
		}
	}
	outputs := make([]pipeline.Output, len(files))
	for i, f := range files {
		outputs[i] = pipeline.Output{
			Root: l.root, File: f.Name, Overwrite: l.overwrite,
			Encode: func(ctx context.Context, w io.Writer) error {
				b := bufio.NewWriterSize(w, 64<<10)
				if err := f.Write(b, l.until(ctx)); err != nil {
					return err
				}
				return b.Flush()
			},
		}
	}
	return l.env.Publish(ctx, outputs)
}

// until gives the records as long as the context lasts.
func (l *Listing) until(ctx context.Context) Records {
	return func(yield func(extsort.Record, error) bool) {
		for rec, err := range l.records.All() {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(extsort.Record{}, err)
				return
			}
			if !yield(rec, nil) {
				return
			}
		}
	}
}
