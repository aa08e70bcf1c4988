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

// SetSmall is Small in a process of its own.
func SetSmall(block, segments int) { blockBytes, mergeAbove = block, segments }

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

// ReadSegment reads a segment from memory, as one of so many entries with that checksum, of an
// index with those roots, and gives its entries to yield.
func ReadSegment(data []byte, entries int64, sha256 string, columns []Column, roots []string, yield func(Entry)) error {
	s := &segment{
		segmentInfo: segmentInfo{Name: "segment", Entries: entries, Bytes: int64(len(data)), SHA256: sha256},
		columns:     columns, roots: roots, file: bytes.NewReader(data),
	}
	if err := s.begin(int64(len(data))); err != nil {
		return err
	}
	wanted := make([]int, len(columns))
	for i := range wanted {
		wanted[i] = i
	}
	for c := s.cursor(0, wanted, false); ; {
		ok, err := c.next()
		if err != nil || !ok {
			return err
		}
		yield(c.entry)
	}
}
