// Package vectors is the stage "vectors": it writes one vector of every item that
// arrives as the rows of a NumPy array (format NPY 1.0), names the rows in a file beside
// it, and passes the items on. The array has the shape [items components], float32 or
// float16, little-endian, in the order of the items' IDs.
package vectors

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/x448/float16"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/listing"
)

// Info declares the stage.
func Info() pipeline.Info {
	return pipeline.Info{
		Name:  "vectors",
		Short: "Writes a vector of what arrives as a NumPy array.",
		Long: `Writes one vector of every item that arrives as a row of a NumPy array (.npy), in the order of the items' IDs, and passes the items on. Beside it, under the same name with .jsonl, is a line of JSON for each row: id; source, the source file's path relative to the input folder; and path, the file that was last written from the item, relative to the array's folder, or null. They are percent-encoded as in the manifest. Both files are written as a whole when the run is complete.

The array has the shape (items, components), in C order, of little-endian float32, or of float16 when all vectors are stored so; that of a run without items has the shape (0, 0). An item that lacks the vector, or has one with numbers that are not finite, is quarantined. As an array cannot have rows of several lengths, and nobody can know which of them is meant, vectors of different lengths end the run.`,
		Examples: []pipeline.Example{
			{Doc: "The vectors that embed made, for numpy.load.", YAML: "vectors: {path: ./out/clip.npy}"},
		},
		Fields: append(listing.Fields("./out/clip.npy"), pipeline.Field{
			Name: "vector", Type: pipeline.FieldString,
			Doc: "Which vector is written. It can be left out where the stages before make only one.",
		}),
		Needs: func(c pipeline.Config) []string {
			if name := c.String("vector"); name != "" {
				return []string{name}
			}
			return nil
		},
		Blind:   true,
		Version: 1,
		New: func(_ context.Context, c pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
			return newStage(c, e)
		},
	}
}

const extension = ".npy"

// Stage writes an array.
type Stage struct {
	*listing.Listing // gathers the rows and writes them in order
	vector           string

	mu    sync.Mutex
	first string // the ID of an item whose vector has dim components; empty before there is one
	dim   int
	wide  bool // some vector is stored as float32
}

var (
	_ pipeline.Barrier = (*Stage)(nil)
	_ pipeline.Opener  = (*Stage)(nil)
	_ pipeline.Closer  = (*Stage)(nil)
	_ pipeline.Coster  = (*Stage)(nil)
	_ pipeline.Writer  = (*Stage)(nil)
)

func newStage(c pipeline.Config, e pipeline.Env) (*Stage, error) {
	l, err := listing.New(c, e, "vectors"+extension)
	if err != nil {
		return nil, err
	}
	if ext := filepath.Ext(l.Name); !strings.EqualFold(ext, extension) || l.Name == ext {
		return nil, c.Errorf("path", 0, "the array is a NumPy file: give it a name that ends in %s, such as vectors%s", extension, extension)
	}
	s := &Stage{Listing: l, vector: c.String("vector")}
	names := slices.Sorted(maps.Keys(e.Vectors))
	known := strings.Join(names, ", ")
	switch {
	case s.vector != "" && !e.Undeclared && !slices.Contains(names, s.vector):
		if known == "" {
			known = "none"
		}
		return nil, c.Errorf("vector", 0, "no stage before this one makes the vector %q (there are: %s)", s.vector, known)
	case s.vector != "":
	case len(names) == 1:
		s.vector = names[0]
	case len(names) > 1:
		return nil, c.Errorf("vector", 0, "several vectors arrive here: say with vector which one is written (there are: %s)", known)
	case e.Undeclared: // Open refuses it, so that lint names no second fault for a stage before that is wrong
	default:
		return nil, c.Errorf("vector", 0, "no stage before this one makes a vector: put one such as embed before it")
	}
	return s, nil
}

// names is the file that names the rows.
func (s *Stage) names() string {
	return strings.TrimSuffix(s.Name, filepath.Ext(s.Name)) + ".jsonl"
}

// Writes are the array and the names of its rows.
func (s *Stage) Writes() []pipeline.OutputTree {
	return []pipeline.OutputTree{s.Tree(s.Name), s.Tree(s.names())}
}

// Cost is what is sorted in memory.
func (s *Stage) Cost(pipeline.Device, []*pipeline.Item) pipeline.Cost {
	return pipeline.Cost{Resident: listing.SortMemory}
}

// Open prepares the sorting.
func (s *Stage) Open(ctx context.Context, d pipeline.Device) error {
	if s.vector == "" {
		return errors.New("which vector is to be written cannot be told, as a stage before does not declare what it makes: say it with vector")
	}
	return s.Listing.Open(ctx, d)
}

// Process notes the vectors down. Items of which none can be a row fail.
func (s *Stage) Process(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	if !s.IsOpen() {
		return batch, nil // a dry run
	}
	out := batch[:0:len(batch)]
	for _, it := range batch {
		v, ok := it.Vector(s.vector)
		if !ok {
			it.Fail(fmt.Errorf("the item has no vector %s", s.vector))
			continue
		}
		if i := slices.IndexFunc(v.Data, func(x float32) bool { return math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) }); i >= 0 {
			it.Fail(fmt.Errorf("component %d of the vector %s is %v, which is not finite", i, s.vector, v.Data[i]))
			continue
		}
		place, err := s.Place(it)
		if err != nil {
			it.Fail(fmt.Errorf("naming the row: %w", err))
			continue
		}
		if err := s.fits(it.ID(), v); err != nil {
			return nil, err
		}
		b, err := record(place, v)
		if err != nil {
			return nil, err
		}
		if err := s.Add(it, b); err != nil {
			return nil, err
		}
		out = append(out, it)
	}
	return out, nil
}

// fits takes a vector into account that is going to be a row.
func (s *Stage) fits(id string, v pipeline.Vector) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first == "" {
		s.first, s.dim = id, v.Dim()
	}
	s.wide = s.wide || !v.Half
	if v.Dim() == s.dim {
		return nil
	}
	return fmt.Errorf("the vector %s has %d components in %s and %d in %s, and an array has rows of one length: have it made by one network, of pictures of one size where its output depends on that", s.vector, s.dim, s.first, v.Dim(), id)
}

// A record is the line that names the row, newline included, and the row as it is
// stored.
func record(p listing.Place, v pipeline.Vector) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // '<' and '&' in a file name stay what they are
	if err := e.Encode(p); err != nil {
		return nil, err
	}
	return appendRow(b.Bytes(), v.Data, v.Half), nil
}

func appendRow(b []byte, data []float32, half bool) []byte {
	for _, x := range data {
		if half {
			b = binary.LittleEndian.AppendUint16(b, float16.Fromfloat32(x).Bits())
		} else {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
	}
	return b
}

// split takes a record apart.
func split(record []byte) (line, row []byte) {
	end := bytes.IndexByte(record, '\n') + 1
	return record[:end], record[end:]
}

// Flush writes the files.
func (s *Stage) Flush(ctx context.Context, held pipeline.HeldItems, emit func(*pipeline.Item) error) error {
	return s.Listing.Flush(ctx, held, emit, listing.File{Name: s.Name, Write: s.writeArray}, listing.File{Name: s.names(), Write: s.writeNames})
}

func (s *Stage) writeArray(w io.Writer, records listing.Records) error {
	half := !s.wide && s.Len() > 0
	if _, err := w.Write(header(half, s.Len(), s.dim)); err != nil {
		return err
	}
	var wide []byte
	for rec, err := range records {
		if err != nil {
			return err
		}
		_, row := split(rec.Value)
		if !half && len(row) == 2*s.dim { // among others that are not
			wide = widen(wide[:0], row)
			row = wide
		}
		if _, err := w.Write(row); err != nil {
			return err
		}
	}
	return nil
}

// widen makes float32 of float16.
func widen(b, row []byte) []byte {
	for i := 0; i < len(row); i += 2 {
		x := float16.Frombits(binary.LittleEndian.Uint16(row[i:])).Float32()
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// header is that of the format's version 1.0, which ends on a multiple of 64, as
// numpy.save writes it:
// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
func header(half bool, rows int64, dim int) []byte {
	size := 4
	if half {
		size = 2
	}
	const magic = "\x93NUMPY\x01\x00"
	dict := fmt.Sprintf("{'descr': '<f%d', 'fortran_order': False, 'shape': (%d, %d), }", size, rows, dim)
	// The version and the length of the rest come before, a newline after.
	pad := -(len(magic) + 2 + len(dict) + 1) & 63
	b := binary.LittleEndian.AppendUint16([]byte(magic), uint16(len(dict)+pad+1))
	return fmt.Appendf(b, "%s%*s\n", dict, pad, "")
}

func (s *Stage) writeNames(w io.Writer, records listing.Records) error {
	for rec, err := range records {
		if err != nil {
			return err
		}
		line, _ := split(rec.Value)
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return nil
}
