// Package manifest is the stage "manifest": it writes down what arrives, one
// line of JSON or one row of Parquet per item, and passes the items on.
//
// The file is a function of the items alone: rows are in the order of the IDs,
// keys in a fixed order, and nothing in it depends on when, where or in which
// run it was made. It appears whole at the end of the run, or not at all.
package manifest

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/listing"
)

// Info declares the stage.
func Info() pipeline.Info {
	return pipeline.Info{
		Name:  "manifest",
		Short: "Lists what arrives in a JSON Lines or Parquet file.",
		Long: `Writes one line of JSON for every item that arrives, in the order of their IDs, and passes the items on. A path that ends in .parquet makes a Parquet file of the same rows instead. The file is written as a whole when the run is complete; a run without items makes an empty one.

Each line has, in this order: id; source, the source file's path relative to the input folder; path, the file that was last written from the item, relative to the manifest's folder, or null when none was; width and height in pixels; attributes, an object; and with vectors: true, vectors, an object of lists of numbers. No absolute path, time or run is named, so that the file can move with the images and two runs can be compared.

In id, source and path, '@' and '%' in file names, control characters and bytes that are not UTF-8 are percent-encoded ('%' and two hexadecimal digits): decode them to open a file with such a name. Numbers that are not finite become null, hashes are hexadecimal.

In Parquet the columns have the same names and order. attributes is a group of one column for each attribute that a stage before declares or that arrives, so that runs of one pipeline have the same columns; an item without the attribute has null there. An attribute that comes with several types is a double when all are numbers, text otherwise. vectors is a group of lists of 32-bit floats. A group without columns, which Parquet does not know, is left out. Numbers that are not finite stay what they are, hashes are hexadecimal text. Pages are compressed with zstd, in row groups of about 16 MiB.`,
		Examples: []pipeline.Example{
			{Doc: "A line of JSON for each image, beside the images.", YAML: "manifest: {path: ./out/manifest.jsonl}"},
			{Doc: "A Parquet table with vectors, for pyarrow, DuckDB and Polars.", YAML: "manifest: {path: ./out/manifest.parquet, vectors: true}"},
		},
		Fields: append(listing.Fields("./out/manifest.jsonl", "./out/manifest.parquet"), pipeline.Field{
			Name: "vectors", Type: pipeline.FieldBool, Default: "false",
			Doc: "Whether vectors (embeddings) are written too. A component takes about 10 bytes in JSON Lines, 4 in Parquet.",
		}),
		Blind:   true,
		Version: 1,
		New: func(_ context.Context, c pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
			return newStage(c, e)
		},
	}
}

// format is how the file is written.
type format interface {
	// record is what is sorted for an item. It is called by several goroutines.
	record(p listing.Place, it *pipeline.Item) ([]byte, error)
	// write makes the file of all records.
	write(w io.Writer, records listing.Records) error
	// memory is what write takes, in bytes.
	memory() int64
}

// Stage lists items.
type Stage struct {
	*listing.Listing // gathers the items and writes them in order
	format           format
}

var (
	_ pipeline.Barrier = (*Stage)(nil)
	_ pipeline.Opener  = (*Stage)(nil)
	_ pipeline.Closer  = (*Stage)(nil)
	_ pipeline.Coster  = (*Stage)(nil)
	_ pipeline.Writer  = (*Stage)(nil)
)

func newStage(c pipeline.Config, e pipeline.Env) (*Stage, error) {
	l, err := listing.New(c, e, "manifest.jsonl")
	if err != nil {
		return nil, err
	}
	s := &Stage{Listing: l, format: jsonLines{vectors: c.Bool("vectors")}}
	if strings.EqualFold(filepath.Ext(l.Name), ".parquet") {
		s.format = newParquet(e, c.Bool("vectors"))
	}
	return s, nil
}

// Writes is the file.
func (s *Stage) Writes() []pipeline.OutputTree { return []pipeline.OutputTree{s.Tree(s.Name)} }

// Cost is the records that are sorted in memory, and what is written of them.
func (s *Stage) Cost(pipeline.Device, []*pipeline.Item) pipeline.Cost {
	return pipeline.Cost{Resident: listing.SortMemory + s.format.memory()}
}

// Process notes the items down.
func (s *Stage) Process(_ context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	if !s.IsOpen() {
		return batch, nil // a dry run
	}
	for _, it := range batch {
		record, err := s.record(it)
		if err != nil {
			it.Fail(fmt.Errorf("describing the item: %w", err))
			continue
		}
		if err := s.Add(it, record); err != nil {
			return nil, err
		}
	}
	return batch, nil
}

func (s *Stage) record(it *pipeline.Item) ([]byte, error) {
	p, err := s.Place(it)
	if err != nil {
		return nil, err
	}
	return s.format.record(p, it)
}

// Flush writes the file.
func (s *Stage) Flush(ctx context.Context, held pipeline.HeldItems, emit func(*pipeline.Item) error) error {
	return s.Listing.Flush(ctx, held, emit, listing.File{Name: s.Name, Write: s.format.write})
}
