package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/pipeline"
)

// A Column is one kind of fingerprint.
type Column struct {
	Name    string `json:"name"`    // unlike that of any other column of the index
	Size    int    `json:"bytes"`   // of one fingerprint, 1 to 16 MiB
	Vector  bool   `json:"vector"`  // float32 numbers, little-endian; otherwise a hash
	Model   string `json:"model"`   // that of the vectors, as [pipeline.Vector] has it; empty for hashes of pictures
	Version string `json:"version"` // of the algorithm that makes it
}

// An Entry is a picture.
type Entry struct {
	ID            string   // of the item
	SHA256        [32]byte // of its source file; zero where that is not known
	Root          string   // absolute path of the folder that the ID is relative to; empty where that is not known
	Width, Height int      // in pixels
	Prints        [][]byte // one per column; nil where there is no verdict on the picture
	// Later makes the Prints of an entry that turns out to be added, where making them is
	// work; it is for Add alone. Nil: they are there.
	Later func() ([][]byte, error)
}

// What an index may hold at most.
const (
	maxColumns  = 64
	maxPrint    = 16 << 20 // bytes of one fingerprint
	maxPrints   = 64 << 20 // bytes of all fingerprints of one entry
	maxID       = 1<<16 - 1
	maxText     = 255     // bytes of the name, the model and the version of a column
	maxSegments = 64      // more than mergeAbove, which decides how many there are
	maxRoot     = 1 << 16 // bytes of one root
)

// Variables, so that tests get by with few entries.
var (
	blockBytes = 256 << 10 // a block is closed when it has as many
	mergeAbove = 32        // segments
	maxRoots   = 1 << 20   // bytes of all roots in index.json
	largeAbove = 16 << 10  // a column is large with fingerprints of more bytes; part of the format
)

// ErrDamaged is what errors.Is finds when a file of an index is not what it was.
var ErrDamaged = errors.New("the index is damaged")

type damage struct {
	path string
	err  error
}

func (e *damage) Error() string {
	return fmt.Sprintf("%s is damaged: %v: make the index anew from its pictures, in an empty folder", e.path, e.err)
}

func (e *damage) Is(target error) bool { return target == ErrDamaged }

// errBad is a fault of what a caller or a file says.
type errBad string

func (e errBad) Error() string { return string(e) }

func badf(format string, args ...any) error { return errBad(fmt.Sprintf(format, args...)) }

// An errIn is an error of another file than the one that is at hand.
type errIn struct {
	file string
	err  error
}

func (e *errIn) Error() string { return e.err.Error() }
func (e *errIn) Unwrap() error { return e.err }

// inFile makes damage of what is wrong with a file, and leaves the errors of reading it.
func inFile(dir, file string, err error) error {
	if other, ok := errors.AsType[*errIn](err); ok {
		file, err = other.file, other.err
	}
	if _, bad := errors.AsType[errBad](err); bad {
		return &damage{filepath.Join(dir, file), err}
	}
	return err
}

// An Index is open for reading. It stays as it was when it was opened, whatever is added.
// Its methods may be called from several goroutines.
type Index struct {
	dir      string
	manifest *manifest
	root     fsys.Root
	segments []*segment
}

// Open opens the index in the folder dir. It reads index.json, and checks that the files of the
// segments are there and have their sizes. Where there is no index the error matches [fs.ErrNotExist],
// for a damaged one [ErrDamaged]. Without fs, files are the operating system's.
func Open(fs pipeline.FS, dir string) (*Index, error) {
	x, err := open(fs, dir)
	if err != nil {
		return nil, fmt.Errorf("opening the index %s: %w", dir, err)
	}
	return x, nil
}

func open(fsx pipeline.FS, dir string) (*Index, error) {
	// OpenRoot would make the folder.
	if _, err := os.Stat(dir); err != nil {
		return nil, none(dir, err)
	}
	root, err := orOS(fsx).OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	x, err := openIn(root, dir)
	if err != nil {
		return nil, errors.Join(none(dir, err), root.Close())
	}
	return x, nil
}

func orOS(fsx pipeline.FS) pipeline.FS {
	if fsx == nil {
		return fsys.OS
	}
	return fsx
}

func none(dir string, err error) error {
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrDamaged) {
		return fmt.Errorf("there is no index: name the folder of one, or make one with dedup: {index: %s}: %w", dir, err)
	}
	return err
}

// openIn opens the index in root, which it closes with the index.
func openIn(root fsys.Root, dir string) (*Index, error) {
	var before []byte
	for {
		data, err := readManifest(root)
		if errors.Is(err, fs.ErrNotExist) {
			// Segments without it are no index that is yet to be made.
			if _, _, lost := survey(root, dir); errors.Is(lost, ErrDamaged) {
				err = lost
			}
		}
		if err != nil {
			return nil, inFile(dir, manifestName, err)
		}
		x := &Index{dir: dir, root: root}
		if x.manifest, err = parseManifest(data); err != nil {
			return nil, inFile(dir, manifestName, err)
		}
		gone, err := x.openSegments()
		if err == nil {
			return x, nil
		}
		x.closeSegments()
		// An add that merged may have taken segments away since index.json was read. Then
		// there is another one.
		if !gone || bytes.Equal(data, before) {
			return nil, err
		}
		before = data
	}
}

// openSegments opens them all; gone says that the error is of one that is not there.
func (x *Index) openSegments() (gone bool, err error) {
	for _, info := range x.manifest.Segments {
		s, err := openSegment(x.root, info, x.manifest)
		if err != nil {
			return errors.Is(err, errGone), inFile(x.dir, info.Name, err)
		}
		x.segments = append(x.segments, s)
	}
	return false, nil
}

// Close gives the files back. A sequence of All that is under way ends in an error.
func (x *Index) Close() error {
	x.closeSegments()
	return x.root.Close()
}

func (x *Index) closeSegments() {
	for _, s := range x.segments {
		s.close()
	}
}

// Len is the number of entries.
func (x *Index) Len() int64 { return x.manifest.Entries }

// Columns are the kinds of fingerprints that the entries have, in their order. They are the
// caller's to keep.
func (x *Index) Columns() []Column { return slices.Clone(x.manifest.Columns) }

// Has checks that the index has each of the columns, made by the same network and version: that
// pictures with these can be compared with it. It may have others besides. An empty index has
// nothing to compare with, and no error.
func (x *Index) Has(columns []Column) error { return x.manifest.has(x.dir, columns) }

// Takes checks that entries with these columns can be added, in whatever order: that they are
// those of the index. An empty index takes all.
func (x *Index) Takes(columns []Column) error { return x.manifest.takes(x.dir, columns) }

// All yields the entries in ascending order of their IDs' bytes, those with one ID in that of
// their SHA256. Their Prints are those of the named columns, in that order: without names,
// there are none, and only a small part of the files is read. Prints belong to the index and
// hold until the next entry; what is to stay must be copied.
//
// Everything is checked as it is read. An error comes with an empty Entry and ends the
// sequence; for a damaged file it matches [ErrDamaged].
func (x *Index) All(ctx context.Context, columns []string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		m, err := x.merger(columns)
		for err == nil {
			var e Entry
			var ok bool
			if e, ok, err = m.whole(ctx); err == nil && (!ok || !yield(e, nil)) {
				return
			}
		}
		yield(Entry{}, fmt.Errorf("reading the index %s: %w", x.dir, err))
	}
}

// Picked is All for some of the entries: those of which pick is true, which is asked about
// each, in order, by its place among all. Of others no fingerprints are read, or checked.
func (x *Index) Picked(ctx context.Context, columns []string, pick func(place int64) bool) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		m, err := x.merger(columns)
		for place := int64(0); err == nil; place++ {
			var e Entry
			var ok bool
			if e, ok, err = m.next(ctx); err != nil {
				break
			}
			if !ok {
				return
			}
			if !pick(place) {
				continue
			}
			if e.Prints, err = m.prints(); err == nil && !yield(e, nil) {
				return
			}
		}
		yield(Entry{}, fmt.Errorf("reading the index %s: %w", x.dir, err))
	}
}

// Room is how many bytes of memory [Add] and [Index.All] take at most for these columns,
// however many entries there are.
func Room(columns []Column) int64 {
	n := (maxSegments+2)*int64(blockBytes+entryBytes(columns)) + 3*int64(maxRoots)
	for _, c := range columns {
		if c.large() {
			n += int64(c.Size) // that of the entry at hand
		}
	}
	return n
}
