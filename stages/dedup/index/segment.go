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

	"github.com/forgepipe/forgepipe/internal/fsys"
)

const (
	magic      = "fpdedup" // and the version
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
	b := append([]byte(magic), byte(versionOf(columns)))
	b = le.AppendUint32(b, uint32(len(columns)))
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

// A segment is open for reading.
type segment struct {
	segmentInfo
	columns []Column
	roots   []string
	file    input
	large   []input // of each column; only of large ones
	start   int64   // of the first block
}

// An input is a file that is open for reading.
type input struct {
	name   string
	file   io.ReaderAt
	closer io.Closer
}

// errGone says that a file is not there.
var errGone = badf("it is missing")

// openInput opens a file and looks at its size.
func openInput(root fsys.Root, name string, want int64) (input, error) {
	f, size, err := openRegular(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return input{}, errGone
	}
	if err != nil {
		return input{}, err
	}
	if size != want {
		f.Close()
		return input{}, badf("it has %d bytes, and had %d when it was written", size, want)
	}
	return input{name, f, f}, nil
}

// readAt fills b. Where the file ends before, it is shorter than it was when it was opened.
func (f input) readAt(b []byte, at int64) error {
	n, err := f.file.ReadAt(b, at)
	switch {
	case n == len(b):
		return nil
	case errors.Is(err, io.EOF):
		return badf("it ends at byte %d", at+int64(n))
	}
	return fmt.Errorf("reading %s: %w", f.name, err)
}

// openSegment opens the files of a segment, looks at their sizes and at the beginning.
func openSegment(root fsys.Root, info segmentInfo, m *manifest) (opened *segment, err error) {
	s := &segment{segmentInfo: info, columns: m.Columns, roots: m.roots, large: make([]input, len(m.Columns))}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.file, err = openInput(root, info.Name, info.Bytes); err != nil {
		return nil, err
	}
	if err := s.begin(); err != nil {
		return nil, err
	}
	n := 0
	for i, c := range s.columns {
		if !c.large() {
			continue
		}
		name := largeName(info.Name, i)
		if s.large[i], err = openInput(root, name, info.Large[n]); err != nil {
			return nil, &errIn{name, err}
		}
		n++
	}
	return s, nil
}

// close gives the files back; they were only read.
func (s *segment) close() {
	for _, f := range append(s.large, s.file) {
		if f.closer != nil {
			_ = f.closer.Close()
		}
	}
}

func (s *segment) begin() error {
	want := fileHeader(s.columns)
	have := make([]byte, len(want))
	if err := s.file.readAt(have, 0); err != nil {
		return err
	}
	if string(have) != string(want) {
		return badf("its file header is not that of an index with these columns")
	}
	s.start = int64(len(want))
	return nil
}

// A cursor reads the entries of a segment one after another.
type cursor struct {
	*segment
	index   int   // among the segments
	wanted  []int // columns of the entries' prints
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

	before, here int64 // prints of the blocks before, and of this one
}

func (s *segment) cursor(index int, wanted []int) *cursor {
	c := &cursor{
		segment: s, index: index, wanted: wanted, headers: sha256.New(), at: s.start, left: s.Entries,
		header: make([]byte, blockHeaderBytes(len(s.columns))), chunks: make([]loaded, len(wanted)),
	}
	c.headers.Write(fileHeader(s.columns))
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
	return true, nil
}

// prints puts the fingerprints of the current entry into a slice with room for each wanted
// column. Those of large columns are read into records, one for each, which grow as needed.
func (c *cursor) prints(to, records [][]byte) error {
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
		to[w] = nil
		if ch.bit(row) == 0 {
			continue
		}
		size := c.columns[column].stored()
		p := ch.data[ch.rank*size:][:size:size] // there are as many as bits, see split
		if c.columns[column].large() {
			var err error
			if p, err = c.record(records[w], column, ch.before+int64(ch.rank), le.Uint32(p)); err != nil {
				return &errIn{c.large[column].name, err}
			}
			records[w] = p
		}
		to[w] = p
	}
	return nil
}

// record reads a fingerprint of a large column, which has that checksum, into buf.
func (c *cursor) record(buf []byte, column int, place int64, want uint32) ([]byte, error) {
	size := c.columns[column].Size
	if cap(buf) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size:size]
	at := place * int64(size)
	if err := c.large[column].readAt(buf, at); err != nil {
		return nil, err
	}
	if sum(buf) != want {
		return nil, badf("the checksum of the %d bytes from byte %d on is wrong", size, at)
	}
	return buf, nil
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
	if err := c.file.readAt(c.header, c.at); err != nil {
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
	for i, column := range c.columns {
		for w, wanted := range c.wanted {
			if wanted != i {
				continue
			}
			ch := &c.chunks[w]
			*ch = loaded{at: at, buf: ch.buf, before: ch.before + ch.here}
			// The block may be passed over without reading the chunk.
			size := int64(column.stored())
			if ch.here = length(1+i) - (rows+7)/8; ch.here < 0 || ch.here > rows*size || ch.here%size != 0 {
				return badf("column %s has %d bytes for %d entries", column.Name, length(1+i), rows)
			}
			ch.here /= size
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
	if err := c.file.readAt(buf, at); err != nil {
		return buf, err
	}
	if sum(buf) != le.Uint32(c.header[4+8*i+4:]) {
		return buf, badf("the checksum of the %d bytes from byte %d on is wrong", n, at)
	}
	return buf, nil
}

// split takes the chunk of a column apart, and checks that it has a print for each bit.
func split(b []byte, rows int, column Column) (chunk, error) {
	n := (rows + 7) / 8 // b has as many, see block
	ch := chunk{b[:n], b[n:]}
	present := 0
	for _, x := range ch.bits {
		present += bits.OnesCount8(x)
	}
	if rest := rows % 8; rest > 0 && ch.bits[n-1]>>rest != 0 {
		return chunk{}, badf("column %s has fingerprints of more than %d entries", column.Name, rows)
	}
	if len(ch.data) != present*column.stored() {
		return chunk{}, badf("column %s has %d bytes for %d fingerprints", column.Name, len(ch.data), present)
	}
	return ch, nil
}
