package index_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
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
	f.Add(manifestOf(f, pictured(f, f.TempDir(), 3)), true)
	f.Add(`{"format": "forgepipe dedup index", "version": 2}`, true)
	f.Add(`{"format": "forgepipe dedup index", "version": 3, "next": 1, "columns": [{"name": "p", "bytes": 16385}]}`, true)
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
// refuse. Where its second column is large, that has a file.
func FuzzSegment(f *testing.F) {
	index.Small(f, 200, 3)
	sum := func(data []byte) string { // of the headers, as far as they are some
		h := sha256.New()
		for _, part := range headersOf(data) {
			h.Write(part)
		}
		return hex.EncodeToString(h.Sum(nil))
	}
	seed := func(apart bool, above int) {
		index.Large(f, above)
		dir := made(f, f.TempDir())
		data, err := os.ReadFile(filepath.Join(dir, firstSegment))
		check(f, err)
		var file []byte
		if apart {
			file, err = os.ReadFile(filepath.Join(dir, firstLarge))
			check(f, err)
		}
		// What the fuzzer begins with is read to its end.
		check(f, index.ReadSegment(data, [][]byte{file}, 12, sum(data), columns(), roots(), func(index.Entry) {}))
		for _, mend := range []bool{false, true} {
			f.Add(data, file, int64(12), apart, mend)
			f.Add(data, file, int64(11), apart, mend)
			f.Add(data[:40], file, int64(1), apart, mend)
			f.Add(data, file[:len(file)/2], int64(12), apart, mend)
			long := bytes.Clone(data)
			binary.LittleEndian.PutUint32(long[24+4:], 1<<31)
			f.Add(long, file, int64(12), apart, mend)
		}
	}
	seed(false, 12)
	seed(true, 8)
	f.Fuzz(func(t *testing.T, data, file []byte, entries int64, apart, mend bool) {
		if entries < 1 {
			return // the manifest is checked for that
		}
		above, files := 12, [][]byte(nil)
		if apart {
			above, files = 8, [][]byte{file}
		}
		index.Large(t, above)
		if mend {
			data = mended(data)
			if apart {
				data = mended(witness(data, file))
			}
		}
		var all []index.Entry
		before := ""
		err := index.ReadSegment(data, files, entries, sum(data), columns(), roots(), func(e index.Entry) {
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
			if p := e.Prints[1]; apart && p != nil {
				if len(file) < 12 || !bytes.Equal(p, file[:12]) {
					t.Errorf("%q has %x, which is not the next in the file", e.ID, p)
				}
				file = file[min(12, len(file)):]
			}
			all = append(all, e)
		})
		if err == nil && int64(len(all)) != entries {
			t.Errorf("%d entries of %d", len(all), entries)
		}
	})
}

const fileHeader, blockHeader = 8 + 4 + 2*4 + 4, 4 + 3*8 + 4 // their bytes

// headersOf are the file header and the block headers, as far as there are whole ones.
func headersOf(data []byte) (all [][]byte) {
	if len(data) < fileHeader {
		return nil
	}
	all = append(all, data[:fileHeader])
	for rest := data[fileHeader:]; len(rest) >= blockHeader; {
		h := rest[:blockHeader]
		all = append(all, h)
		rest = rest[blockHeader:]
		for i := range 3 {
			rest = rest[min(int64(le.Uint32(h[4+8*i:])), int64(len(rest))):]
		}
	}
	return all
}

// witness gives the second column the checksums of what is in its file.
func witness(data, file []byte) []byte {
	b := bytes.Clone(data)
	rest := b
	for i, h := range headersOf(b) {
		rest = rest[len(h):]
		if i == 0 {
			continue
		}
		var c []byte
		for j := range 3 {
			n := min(int64(le.Uint32(h[4+8*j:])), int64(len(rest)))
			c, rest = rest[:n], rest[n:]
		}
		for c = c[min((int64(le.Uint32(h))+7)/8, int64(len(c))):]; len(c) >= 4 && len(file) >= 12; c, file = c[4:], file[12:] {
			le.PutUint32(c, crc32.Checksum(file[:12], castagnoli))
		}
	}
	return b
}

// mended makes the checksums right of as many blocks as there are.
func mended(data []byte) []byte {
	b := bytes.Clone(data)
	if len(b) < fileHeader {
		return b
	}
	le.PutUint32(b[fileHeader-4:], crc32.Checksum(b[:fileHeader-4], castagnoli))
	for at := fileHeader; len(b)-at >= blockHeader; {
		h := b[at:][:blockHeader]
		at += blockHeader
		seal := func() { le.PutUint32(h[blockHeader-4:], crc32.Checksum(h[:blockHeader-4], castagnoli)) }
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
