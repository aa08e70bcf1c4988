package index_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/forgepipe/forgepipe/stages/dedup/index"
)

// What is read is what would be written, and everything else is an error.
func FuzzManifest(f *testing.F) {
	dir := f.TempDir()
	f.Add(manifestOf(f, made(f, dir)), true)
	f.Add(`{"format": "forgepipe dedup index", "version": 2}`, true)
	f.Add(`{"format": "forgepipe dedup index", "version": 2, "next": 1, "roots": ["/a", "/b/%FF", "/"]}`, true)
	f.Add(`{"format": "forgepipe dedup index", "version": 2, "next": 1, "roots": ["/a/../b", "c", "/%41"]}`, true)
	f.Add(`{"format": "forgepipe dedup index", "version": 2, "segments": [{"name": "../../x"}]}`, false)
	f.Fuzz(func(t *testing.T, body string, sealed bool) {
		data := []byte(body)
		if sealed { // otherwise the checksum would keep everything out
			data = index.Sealed(body)
		}
		again, err := index.ParseManifest(data)
		if err != nil {
			return
		}
		twice, err := index.ParseManifest(again)
		if err != nil || !bytes.Equal(again, twice) {
			t.Errorf("written again it is\n%s\nand then %v\n%s", again, err, twice)
		}
	})
}

func made(f *testing.F, dir string) string {
	add(f, dir, span(0, 12, 1))
	return dir
}

// A segment gives as many entries as it should have, or an error, and none that Add would
// refuse.
func FuzzSegment(f *testing.F) {
	index.Small(f, 200, 3)
	dir := made(f, f.TempDir())
	data, err := os.ReadFile(filepath.Join(dir, firstSegment))
	check(f, err)
	var m struct{ Segments []struct{ SHA256 string } }
	check(f, json.Unmarshal([]byte(manifestOf(f, dir)), &m))
	sum := m.Segments[0].SHA256
	for _, mend := range []bool{false, true} {
		f.Add(data, int64(12), mend)
		f.Add(data, int64(11), mend)
		f.Add(data[:40], int64(1), mend)
		long := bytes.Clone(data)
		binary.LittleEndian.PutUint32(long[24+4:], 1<<31)
		f.Add(long, int64(12), mend)
	}
	f.Fuzz(func(t *testing.T, data []byte, entries int64, mend bool) {
		if entries < 1 {
			return // the manifest is checked for that
		}
		if mend {
			data = mended(data)
		}
		var all []index.Entry
		before := ""
		err := index.ReadSegment(data, nil, entries, sum, columns(), roots(), func(e index.Entry) {
			if key := e.ID + "\x00" + string(e.SHA256[:]); key <= before {
				t.Errorf("%q comes after %q", key, before)
			} else {
				before = key
			}
			if e.ID == "" || strings.ContainsAny(e.ID, "\x00\x1b\n\x7f") || !utf8.ValidString(e.ID) || e.Root != "" && !slices.Contains(roots(), e.Root) || e.Width < 0 || e.Height < 0 || len(e.Prints) != 2 {
				t.Errorf("%+v", e)
			}
			for i, c := range columns() {
				if p := e.Prints[i]; p != nil && len(p) != c.Size {
					t.Errorf("%q has %d bytes in %s", e.ID, len(p), c.Name)
				}
			}
			all = append(all, e)
		})
		if err == nil && int64(len(all)) != entries {
			t.Errorf("%d entries of %d", len(all), entries)
		}
	})
}

// mended makes the checksums right of as many blocks as there are.
func mended(data []byte) []byte {
	b := bytes.Clone(data)
	const file, header = 8 + 4 + 2*4 + 4, 4 + 3*8 + 4
	if len(b) < file {
		return b
	}
	le.PutUint32(b[file-4:], crc32.Checksum(b[:file-4], castagnoli))
	for at := file; len(b)-at >= header; {
		h := b[at:][:header]
		at += header
		seal := func() { le.PutUint32(h[header-4:], crc32.Checksum(h[:header-4], castagnoli)) }
		for i := range 3 {
			n := le.Uint32(h[4+8*i:])
			if int64(n) > int64(len(b)-at) {
				seal()
				return b
			}
			le.PutUint32(h[8+8*i:], crc32.Checksum(b[at:][:n], castagnoli))
			at += int(n)
		}
		seal()
	}
	return b
}
