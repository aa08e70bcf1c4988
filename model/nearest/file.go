package nearest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/forgepipe/forgepipe/internal/fsys"
)

// vectorFile has vectors one after another, as little-endian float32.
type vectorFile struct {
	dir   fsys.Root
	name  string
	n     int // vectors
	row   int // bytes of one
	write fsys.File
	open  fsys.File // for reading; nil as long as vectors are appended
	buf   []byte
}

// bufferBytes is what is written at once, at least.
const bufferBytes = 1 << 20

func createVectors(dir fsys.Root, name string, dim int) (*vectorFile, error) {
	w, err := dir.Create(name)
	if err != nil {
		return nil, fmt.Errorf("making the file of vectors: %w", err)
	}
	return &vectorFile{dir: dir, name: name, row: 4 * dim, write: w}, nil
}

func (f *vectorFile) append(v []float32) error {
	for _, a := range v {
		f.buf = binary.LittleEndian.AppendUint32(f.buf, math.Float32bits(a))
	}
	f.n++
	if len(f.buf) < bufferBytes {
		return nil
	}
	return f.flush()
}

func (f *vectorFile) flush() error {
	if _, err := f.write.Write(f.buf); err != nil {
		return fmt.Errorf("writing vectors up to %d: %w", f.n-1, err)
	}
	f.buf = f.buf[:0]
	return nil
}

// finish ends the appending: from here on vectors can be read.
func (f *vectorFile) finish() error {
	err := f.flush()
	f.buf = nil
	if e := f.write.Close(); err == nil && e != nil {
		err = fmt.Errorf("writing vectors: %w", e)
	}
	f.write = nil
	if err != nil {
		return err
	}
	if f.open, err = f.dir.Open(f.name); err != nil {
		return fmt.Errorf("opening the file of vectors: %w", err)
	}
	return nil
}

// read reads a vector. raw has room for its bytes.
func (f *vectorFile) read(i uint32, v []float32, raw []byte) error {
	if int(i) >= f.n {
		return fmt.Errorf("there is no vector %d: there are %d", i, f.n)
	}
	if _, err := f.open.ReadAt(raw, int64(i)*int64(f.row)); err != nil {
		return fmt.Errorf("reading the vector %d: %w", i, err)
	}
	for j := range v {
		v[j] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*j:]))
	}
	return nil
}

// close removes the file.
func (f *vectorFile) close() error {
	var errs []error
	for _, file := range []fsys.File{f.write, f.open} {
		if file != nil {
			errs = append(errs, file.Close())
		}
	}
	f.write, f.open = nil, nil
	if f.name != "" {
		errs = append(errs, f.dir.Remove(f.name))
		f.name = ""
	}
	return errors.Join(errs...)
}
