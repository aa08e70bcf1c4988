package index

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"math/bits"
	"time"

	"github.com/forgepipe/forgepipe/internal/fsys"
)

const (
	magic      = "fpdedup\x02"
	hashBytes  = 32
	keyRest    = hashBytes + 4 + 4 + 4 // of an entry, behind its ID
	keyBytes   = 1 + 1 + keyRest       // of an entry with the shortest ID
	maxEntries = 1 << 16               // of a block
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	le         = binary.LittleEndian
)

func sum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// fileHeader is how every segment with these columns begins.
func fileHeader(columns []Column) []byte {
	b := le.AppendUint32([]byte(magic), uint32(len(columns)))
	for _, c := range columns {
		b = le.AppendUint32(b, uint32(c.Size))
	}
	return le.AppendUint32(b, sum(b))
}

// blockHeaderBytes is the length of a block header.
func blockHeaderBytes(columns int) int { return 4 + 8*(1+columns) + 4 }

// A chunk is the part of a block that belongs to one column.
type chunk struct {
	bits, data []byte
}

// A writer writes a segment.
type writer struct {
	name    string
	columns []Column
	file    fsys.File
	headers hash.Hash
	bytes   int64
	entries int64

	rows   int // of the block
	keys   []byte
	chunks []chunk
	header []byte
}

func newWriter(root fsys.Root, name string, columns []Column) (*writer, error) {
	f, err := root.Create(name)
	if err != nil {
		return nil, err
	}
	w := &writer{name: name, columns: columns, file: f, headers: sha256.New(), chunks: make([]chunk, len(columns))}
	head := fileHeader(columns)
	w.headers.Write(head)
	if err := w.write(head); err != nil {
		f.Close()
		return nil, err
	}
	return w, nil
}

func (w *writer) write(b []byte) error {
	n, err := w.file.Write(b)
	w.bytes += int64(n)
	return err
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
	if err := w.write(h); err != nil {
		return err
	}
	if err := w.write(w.keys); err != nil {
		return err
	}
	for i := range w.chunks {
		c := &w.chunks[i]
		if err := w.write(c.bits); err != nil {
			return err
		}
		if err := w.write(c.data); err != nil {
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
	if err == nil {
		err = w.file.Sync()
	}
	if cerr := w.file.Close(); err == nil {
		err = cerr
	}
	w.file = nil
	return segmentInfo{Name: w.name, Entries: w.entries, Bytes: w.bytes, SHA256: hex.EncodeToString(w.headers.Sum(nil)), Added: added}, err
}

// A segment is open for reading.
type segment struct {
	segmentInfo
	columns []Column
	roots   []string
	file    io.ReaderAt
	closer  io.Closer
	start   int64 // of the first block
}

// errGone says that a segment is not there.
var errGone = badf("it is missing")

// openSegment opens a segment and looks at its size and its beginning.
func openSegment(root fsys.Root, info segmentInfo, m *manifest) (*segment, error) {
	f, size, err := openRegular(root, info.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errGone
	}
	if err != nil {
		return nil, err
	}
	s := &segment{segmentInfo: info, columns: m.Columns, roots: m.roots, file: f, closer: f}
	if err := s.begin(size); err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

func (s *segment) begin(size int64) error {
	if size != s.Bytes {
		return badf("it has %d bytes, and had %d when it was written", size, s.Bytes)
	}
	want := fileHeader(s.columns)
	have := make([]byte, len(want))
	if err := s.readAt(have, 0); err != nil {
		return err
	}
	if string(have) != string(want) {
		return badf("its file header is not that of an index with these columns")
	}
	s.start = int64(len(want))
	return nil
}

// readAt fills b. Where the file ends before, it is shorter than it was when it was opened.
func (s *segment) readAt(b []byte, at int64) error {
	n, err := s.file.ReadAt(b, at)
	switch {
	case n == len(b):
		return nil
	case errors.Is(err, io.EOF):
		return badf("it ends at byte %d", at+int64(n))
	}
	return fmt.Errorf("reading %s: %w", s.Name, err)
}

// A cursor reads the entries of a segment one after another.
type cursor struct {
	*segment
	index   int   // among the segments
	wanted  []int // columns of the entries' prints
	lazy    bool  // those are read when prints is called, and else with the block
	headers hash.Hash
	at      int64 // of the next block
	left    int64 // entries not yet read, as the manifest counts
	header  []byte

	rows, row int
	keys      []byte   // of the entries from row on
	buf       []byte   // all of keys
	chunks    []loaded // of the wanted columns

	entry Entry // the current one
	any   bool  // whether there was one
}

// loaded is a chunk of the block that is read, as far as it is.
type loaded struct {
	chunk
	at   int64 // where it begins in the file
	done bool  // it has been read
	row  int   // up to which rank has been counted
	rank int   // prints of the rows before that one
	buf  []byte
}

func (s *segment) cursor(index int, wanted []int, lazy bool) *cursor {
	c := &cursor{
		segment: s, index: index, wanted: wanted, lazy: lazy, headers: sha256.New(), at: s.start, left: s.Entries,
		header: make([]byte, blockHeaderBytes(len(s.columns))), chunks: make([]loaded, len(wanted)),
	}
	c.headers.Write(fileHeader(s.columns))
	c.entry.Prints = make([][]byte, len(wanted))
	return c
}

// next makes the next entry the current one; ok is false at the end.
func (c *cursor) next() (ok bool, err error) {
	if c.row == c.rows {
		if c.at == c.Bytes {
			return false, c.end()
		}
		if err := c.block(); err != nil {
			return false, err
		}
	}
	before := Entry{ID: c.entry.ID, SHA256: c.entry.SHA256}
	n, used := binary.Uvarint(c.keys)
	if used <= 0 || n < 1 || n > maxID || len(c.keys) < used+int(n)+keyRest {
		return false, badf("an entry has an impossible ID")
	}
	rest := c.keys[used+int(n):]
	c.entry.ID = string(c.keys[used : used+int(n)])
	c.entry.SHA256 = [hashBytes]byte(rest)
	root, width, height := le.Uint32(rest[hashBytes:]), le.Uint32(rest[hashBytes+4:]), le.Uint32(rest[hashBytes+8:])
	c.keys = rest[keyRest:]
	switch {
	case !isPlain(c.entry.ID):
		return false, badf("the ID %.80q is not plain text", c.entry.ID)
	case int64(root) > int64(len(c.roots)):
		return false, badf("%q is from folder %d of %d", c.entry.ID, root, len(c.roots))
	case width > math.MaxInt32 || height > math.MaxInt32:
		return false, badf("%q has %d x %d pixels", c.entry.ID, width, height)
	case c.any && compare(&before, &c.entry) >= 0:
		return false, badf("%q comes after %q", c.entry.ID, before.ID)
	}
	c.entry.Root = ""
	if root > 0 {
		c.entry.Root = c.roots[root-1]
	}
	c.entry.Width, c.entry.Height = int(width), int(height)
	c.any = true
	c.row++
	if c.row == c.rows && len(c.keys) > 0 {
		return false, badf("a block has %d bytes behind its last ID", len(c.keys))
	}
	if !c.lazy {
		err = c.prints()
	}
	return err == nil, err
}

// prints gives the current entry its fingerprints.
func (c *cursor) prints() error {
	row := c.row - 1
	for w, column := range c.wanted {
		ch := &c.chunks[w]
		if !ch.done {
			if err := c.load(w); err != nil {
				return err
			}
		}
		for ; ch.row < row; ch.row++ {
			ch.rank += ch.bit(ch.row)
		}
		c.entry.Prints[w] = nil
		if ch.bit(row) == 1 {
			size := c.columns[column].Size
			c.entry.Prints[w] = ch.data[ch.rank*size:][:size:size] // there are as many as bits, see split
		}
	}
	return nil
}

// bit is 1 where the entry of that row has a fingerprint, and otherwise 0.
func (c *chunk) bit(row int) int { return int(c.bits[row/8] >> (row % 8) & 1) }

// end checks that the segment is the one that the manifest names.
func (c *cursor) end() error {
	if c.left != 0 {
		return badf("it has %d entries fewer than when it was written", c.left)
	}
	if hex.EncodeToString(c.headers.Sum(nil)) != c.SHA256 {
		return badf("it is another one than was written")
	}
	return nil
}

// block reads a block: the keys, and the chunks of the wanted columns.
func (c *cursor) block() error {
	if c.Bytes-c.at < int64(len(c.header)) {
		return badf("there are %d bytes behind its last block", c.Bytes-c.at)
	}
	if err := c.readAt(c.header, c.at); err != nil {
		return err
	}
	end := len(c.header) - 4
	if sum(c.header[:end]) != le.Uint32(c.header[end:]) {
		return badf("the checksum of the block header at byte %d is wrong", c.at)
	}
	c.headers.Write(c.header)
	rows := int64(le.Uint32(c.header))
	if rows < 1 || rows > min(maxEntries, c.left) {
		return badf("the block at byte %d has %d entries", c.at, rows)
	}
	c.left -= rows
	c.rows, c.row = int(rows), 0

	at := c.at + int64(len(c.header))
	total := int64(0)
	for i := range 1 + len(c.columns) {
		total += int64(le.Uint32(c.header[4+8*i:]))
	}
	if total > c.Bytes-at || total > int64(blockMax(c.columns)) {
		return badf("the block at byte %d has %d bytes", c.at, total)
	}
	c.at = at + total

	var err error
	length := func(i int) int64 { return int64(le.Uint32(c.header[4+8*i:])) }
	if c.buf, err = c.chunk(c.buf, at, 0); err != nil {
		return err
	}
	c.keys = c.buf
	if int64(len(c.keys)) < rows*keyBytes {
		return badf("the block at byte %d has %d entries in %d bytes", at, rows, len(c.keys))
	}
	at += length(0)
	for i := range c.columns {
		for w, wanted := range c.wanted {
			if wanted != i {
				continue
			}
			c.chunks[w] = loaded{at: at, buf: c.chunks[w].buf}
		}
		at += length(1 + i)
	}
	return nil
}

// load reads the block's chunk of a wanted column.
func (c *cursor) load(w int) (err error) {
	ch, column := &c.chunks[w], c.wanted[w]
	if ch.buf, err = c.chunk(ch.buf, ch.at, 1+column); err != nil {
		return err
	}
	ch.chunk, err = split(ch.buf, c.rows, c.columns[column])
	ch.done = err == nil
	return err
}

// blockMax is what a block takes at most: it is closed by an entry that makes it large.
func blockMax(columns []Column) int { return blockBytes + entryBytes(columns) }

// chunk reads chunk i of the block, which begins there.
func (c *cursor) chunk(buf []byte, at int64, i int) ([]byte, error) {
	n := int(le.Uint32(c.header[4+8*i:]))
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if err := c.readAt(buf, at); err != nil {
		return buf, err
	}
	if sum(buf) != le.Uint32(c.header[4+8*i+4:]) {
		return buf, badf("the checksum of the %d bytes from byte %d on is wrong", n, at)
	}
	return buf, nil
}

// split takes the chunk of a column apart, and checks that it has a print for each bit.
func split(b []byte, rows int, column Column) (chunk, error) {
	n := (rows + 7) / 8
	if len(b) < n {
		return chunk{}, badf("column %s has %d bytes for %d entries", column.Name, len(b), rows)
	}
	ch := chunk{b[:n], b[n:]}
	present := 0
	for _, x := range ch.bits {
		present += bits.OnesCount8(x)
	}
	if rest := rows % 8; rest > 0 && ch.bits[n-1]>>rest != 0 {
		return chunk{}, badf("column %s has fingerprints of more than %d entries", column.Name, rows)
	}
	if len(ch.data) != present*column.Size {
		return chunk{}, badf("column %s has %d bytes for %d fingerprints", column.Name, len(ch.data), present)
	}
	return ch, nil
}
