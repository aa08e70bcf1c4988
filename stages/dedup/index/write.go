package index

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"time"

	"github.com/forgepipe/forgepipe/internal/fsys"
)

// An output is a file that is being written.
type output struct {
	fsys.File
	bytes int64
}

func (f *output) write(b []byte) error {
	n, err := f.Write(b)
	f.bytes += int64(n)
	return err
}

// A writer writes the files of a segment.
type writer struct {
	name    string
	columns []Column
	file    *output
	large   []*output // of each column; only of large ones
	open    []*output // all of these
	headers hash.Hash
	entries int64

	rows   int // of the block
	keys   []byte
	chunks []chunk
	header []byte
}

func newWriter(root fsys.Root, name string, columns []Column) (*writer, error) {
	w := &writer{name: name, columns: columns, headers: sha256.New(), large: make([]*output, len(columns)), chunks: make([]chunk, len(columns))}
	if err := w.begin(root); err != nil {
		_ = w.close() // it is removed
		return nil, err
	}
	return w, nil
}

func (w *writer) begin(root fsys.Root) (err error) {
	if w.file, err = w.create(root, w.name); err != nil {
		return err
	}
	for i, c := range w.columns {
		if !c.large() {
			continue
		}
		if w.large[i], err = w.create(root, largeName(w.name, i)); err != nil {
			return err
		}
	}
	head := fileHeader(w.columns)
	w.headers.Write(head)
	return w.file.write(head)
}

func (w *writer) create(root fsys.Root, name string) (*output, error) {
	f, err := root.Create(name)
	if err != nil {
		return nil, err
	}
	out := &output{File: f}
	w.open = append(w.open, out)
	return out, nil
}

// add adds an entry that was checked, with its prints in the order of the columns, and the
// number of its root.
func (w *writer) add(e Entry, root uint32) error {
	w.keys = binary.AppendUvarint(w.keys, uint64(len(e.ID)))
	w.keys = append(w.keys, e.ID...)
	w.keys = append(w.keys, e.SHA256[:]...)
	w.keys = le.AppendUint32(w.keys, root)
	w.keys = le.AppendUint32(w.keys, uint32(e.Width))
	w.keys = le.AppendUint32(w.keys, uint32(e.Height))
	size := len(w.keys)
	for i, p := range e.Prints {
		c := &w.chunks[i]
		if w.rows%8 == 0 {
			c.bits = append(c.bits, 0)
		}
		if p != nil {
			c.bits[w.rows/8] |= 1 << (w.rows % 8)
			if out := w.large[i]; out != nil {
				if err := out.write(p); err != nil {
					return err
				}
				p = le.AppendUint32(nil, sum(p))
			}
			c.data = append(c.data, p...)
		}
		size += len(c.bits) + len(c.data)
	}
	w.rows++
	w.entries++
	if size >= blockBytes || w.rows == maxEntries {
		return w.flush()
	}
	return nil
}

// flush writes the block.
func (w *writer) flush() error {
	if w.rows == 0 {
		return nil
	}
	h := le.AppendUint32(w.header[:0], uint32(w.rows))
	h = le.AppendUint32(h, uint32(len(w.keys)))
	h = le.AppendUint32(h, sum(w.keys))
	for _, c := range w.chunks {
		h = le.AppendUint32(h, uint32(len(c.bits)+len(c.data)))
		h = le.AppendUint32(h, crc32.Update(sum(c.bits), castagnoli, c.data))
	}
	h = le.AppendUint32(h, sum(h))
	w.header = h
	w.headers.Write(h)
	if err := w.file.write(h); err != nil {
		return err
	}
	if err := w.file.write(w.keys); err != nil {
		return err
	}
	for i := range w.chunks {
		c := &w.chunks[i]
		if err := w.file.write(c.bits); err != nil {
			return err
		}
		if err := w.file.write(c.data); err != nil {
			return err
		}
		c.bits, c.data = c.bits[:0], c.data[:0]
	}
	w.rows, w.keys = 0, w.keys[:0]
	return nil
}

// finish puts the segment on disk.
func (w *writer) finish(added time.Time) (segmentInfo, error) {
	err := w.flush()
	for _, f := range w.open {
		if err == nil {
			err = f.Sync()
		}
	}
	if cerr := w.close(); err == nil {
		err = cerr
	}
	info := segmentInfo{Name: w.name, Entries: w.entries, Bytes: w.file.bytes, SHA256: hex.EncodeToString(w.headers.Sum(nil)), Added: added}
	for _, f := range w.large {
		if f != nil {
			info.Large = append(info.Large, f.bytes)
		}
	}
	return info, err
}

// close closes the files that are open still.
func (w *writer) close() (err error) {
	for _, f := range w.open {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}
	w.open = nil
	return err
}
