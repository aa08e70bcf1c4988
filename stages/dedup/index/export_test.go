package index

import (
	"bytes"
	"testing"
)

// FewRoots makes so many bytes be all that the roots may take. Tests that use it are not
// parallel.
func FewRoots(t testing.TB, bytes int) {
	before := maxRoots
	maxRoots = bytes
	t.Cleanup(func() { maxRoots = before })
}

// Small makes blocks be closed at so many bytes, and segments merged when there are more than
// so many. Tests that use it are not parallel.
func Small(t testing.TB, block, segments int) {
	b, s := blockBytes, mergeAbove
	blockBytes, mergeAbove = block, segments
	t.Cleanup(func() { blockBytes, mergeAbove = b, s })
}

// SetSmall is Small and Large in a process of its own.
func SetSmall(block, segments, large int) {
	blockBytes, mergeAbove, largeAbove = block, segments, large
}

// LargeAbove is the bytes above which a fingerprint is large.
func LargeAbove() int { return largeAbove }

// Large makes columns be large whose fingerprints have more bytes. Tests that use it are not
// parallel.
func Large(t testing.TB, above int) {
	before := largeAbove
	largeAbove = above
	t.Cleanup(func() { largeAbove = before })
}

// EntryBytes is what a block may have beyond what closes it.
var EntryBytes = entryBytes

// Sealed gives the text of an index.json the checksum that it should have.
func Sealed(body string) []byte {
	data := []byte(body)
	if at := bytes.LastIndex(data, []byte(sumBefore)); at >= 0 {
		data = data[:at]
	}
	return seal(data)
}

// ParseManifest reads an index.json and gives it back as it would be written.
func ParseManifest(data []byte) ([]byte, error) {
	m, err := parseManifest(data)
	if err != nil {
		return nil, err
	}
	return m.encode()
}

// ReadSegment reads a segment from memory, with the files of its large columns, as one of so
// many entries with that checksum, of an index with those roots, and gives its entries to yield.
func ReadSegment(data []byte, large [][]byte, entries int64, sha256 string, columns []Column, roots []string, yield func(Entry)) error {
	s := &segment{
		segmentInfo: segmentInfo{Name: "segment", Entries: entries, Bytes: int64(len(data)), SHA256: sha256},
		columns:     columns, roots: roots, file: input{file: bytes.NewReader(data)}, large: make([]input, len(columns)),
	}
	wanted := make([]int, len(columns))
	for i, c := range columns {
		wanted[i] = i
		if c.large() {
			s.large[i].file = bytes.NewReader(large[0])
			large = large[1:]
		}
	}
	if err := s.begin(); err != nil {
		return err
	}
	prints, records := make([][]byte, len(columns)), make([][]byte, len(columns))
	for c := s.cursor(0, wanted); ; {
		ok, err := c.next()
		if ok {
			err = c.prints(prints, records)
		}
		if err != nil || !ok {
			return err
		}
		e := c.entry
		e.Prints = prints
		yield(e)
	}
}
