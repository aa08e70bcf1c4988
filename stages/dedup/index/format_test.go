package index_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/stages/dedup/index"
)

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// segment writes blocks as the documentation of the package says, in other words than the
// package does. Roots have their numbers in the order in which they come.
func segment(blocks ...[]index.Entry) []byte {
	b, _ := segmentOf(2, nil, blocks...)
	return b
}

// segmentOf is segment for a version and those columns being large, and their files.
func segmentOf(version byte, large []int, blocks ...[]index.Entry) (b []byte, files [2][]byte) {
	b = append([]byte("fpdedup"), version)
	for _, n := range []uint32{2, 8, 12} { // the columns of this test
		b = le.AppendUint32(b, n)
	}
	b = le.AppendUint32(b, crc32.Checksum(b, castagnoli))
	roots := map[string]uint32{"": 0}
	for _, entries := range blocks {
		chunks := make([][]byte, 3)
		for _, e := range entries {
			chunks[0] = binary.AppendUvarint(chunks[0], uint64(len(e.ID)))
			chunks[0] = append(append(chunks[0], e.ID...), e.SHA256[:]...)
			if _, ok := roots[e.Root]; !ok {
				roots[e.Root] = uint32(len(roots))
			}
			chunks[0] = le.AppendUint32(chunks[0], roots[e.Root])
			chunks[0] = le.AppendUint32(chunks[0], uint32(e.Width))
			chunks[0] = le.AppendUint32(chunks[0], uint32(e.Height))
		}
		for c := range 2 {
			bits := make([]byte, (len(entries)+7)/8)
			var prints []byte
			for i, e := range entries {
				p := e.Prints[c]
				if p == nil {
					continue
				}
				bits[i/8] += 1 << (i % 8)
				if slices.Contains(large, c) {
					files[c] = append(files[c], p...)
					p = le.AppendUint32(nil, crc32.Checksum(p, castagnoli))
				}
				prints = append(prints, p...)
			}
			chunks[1+c] = append(bits, prints...)
		}
		header := le.AppendUint32(nil, uint32(len(entries)))
		for _, c := range chunks {
			header = le.AppendUint32(header, uint32(len(c)))
			header = le.AppendUint32(header, crc32.Checksum(c, castagnoli))
		}
		b = append(b, le.AppendUint32(header, crc32.Checksum(header, castagnoli))...)
		for _, c := range chunks {
			b = append(b, c...)
		}
	}
	return b, files
}

func TestSegmentIsAsDocumented(t *testing.T) {
	dir := t.TempDir()
	add(t, dir, span(0, 12, 1))
	have, err := os.ReadFile(filepath.Join(dir, firstSegment))
	check(t, err)
	if want := segment(span(0, 12, 1)); !bytes.Equal(have, want) {
		t.Errorf("the segment is\n%x\nwant\n%x", have, want)
	}
}

func TestLargeColumnsAreAsDocumented(t *testing.T) {
	for name, c := range map[string]struct {
		above int
		large []int
	}{"the second": {8, []int{1}}, "both": {1, []int{0, 1}}} {
		t.Run(name, func(t *testing.T) {
			index.Large(t, c.above)
			index.Small(t, 1<<10, 3)
			dir := t.TempDir()
			add(t, dir, span(0, 24, 1))
			// A block is closed when it has 1 KiB, with checksums in the place of fingerprints.
			block := 0
			for bytes := 0; bytes < 1<<10; block++ {
				b, _ := segmentOf(3, c.large, span(0, block+1, 1))
				bytes = len(b) - (8 + 3*4 + 4) - (4 + 3*8 + 4)
			}
			want, files := segmentOf(3, c.large, span(0, block, 1), span(block, 24, 1))
			var sizes []int64
			for i, file := range append([][]byte{want}, files[:]...) {
				if file == nil {
					continue
				}
				name := firstSegment
				if i > 0 {
					name = fmt.Sprintf("segment-00000001-%d.fpl", i)
					sizes = append(sizes, int64(len(file)))
				}
				have, err := os.ReadFile(filepath.Join(dir, name))
				check(t, err)
				if !bytes.Equal(have, file) {
					t.Errorf("%s is\n%x\nwant\n%x", name, have, file)
				}
			}
			var m struct {
				Version  int
				Segments []struct{ Large []int64 }
			}
			check(t, json.Unmarshal([]byte(manifestOf(t, dir)), &m))
			if m.Version != 3 || !slices.Equal(m.Segments[0].Large, sizes) {
				t.Errorf("index.json has version %d and the sizes %v, want 3 and %v", m.Version, m.Segments[0].Large, sizes)
			}
		})
	}
}

func TestChecksumsAreAsDocumented(t *testing.T) {
	dir := t.TempDir()
	add(t, dir, span(0, 12, 1))
	data, err := os.ReadFile(filepath.Join(dir, "index.json"))
	check(t, err)
	var m struct {
		SHA256   string
		Roots    []string
		Segments []struct{ SHA256 string }
	}
	check(t, json.Unmarshal(data, &m))
	if want := fmt.Sprintf("%x", sha256.Sum256(data[:len(data)-83])); m.SHA256 != want {
		t.Errorf("the checksum of index.json is %s, want %s", m.SHA256, want)
	}
	if !slices.Equal(m.Roots, []string{"/photos/a%40b", "/photos/%FF"}) {
		t.Errorf("the roots in index.json are %q", m.Roots)
	}
	headers := segment(span(0, 12, 1))[:8+3*4+4+4+3*8+4] // of the file and of its one block
	if want := fmt.Sprintf("%x", sha256.Sum256(headers)); m.Segments[0].SHA256 != want {
		t.Errorf("the checksum of the segment is %s, want %s", m.Segments[0].SHA256, want)
	}
}

// A segment that somebody made up, with checksums that are right.
func TestHostileSegment(t *testing.T) {
	good := segment(span(3, 6, 1))
	const file = 8 + 3*4 + 4
	const chunks = file + 4 + 3*8 + 4
	keys := len(segment([]index.Entry{{ID: "a/0003.jpg", Prints: make([][]byte, 2)}})) - chunks - 2 // of one entry
	set := func(at int, to ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[at:], to); return b }
	}
	entries := func(change func(e *index.Entry)) func([]byte) []byte {
		return func([]byte) []byte {
			all := span(3, 6, 1)
			change(&all[1])
			return segment(all)
		}
	}
	cases := map[string]struct {
		do   func([]byte) []byte
		want string
	}{
		"another magic":   {set(0, 'g'), "file header"},
		"another version": {set(7, 1), "file header"},
		"more columns":    {set(8, 3), "file header"},
		"a larger column": {set(12, 9), "file header"},
		"no entries":      {set(file, 0), "has 0 entries"},
		"many entries":    {set(file, 0xff, 0xff, 0xff, 0xff), "has 4294967295 entries"},
		"more entries":    {set(file, 4), "has 4 entries"},
		"fewer entries":   {set(file, 2), "column phash has 25 bytes for 2 entries"},
		"more keys": {func([]byte) []byte {
			all := span(3, 6, 1)
			all[2].Prints = make([][]byte, 2)
			return set(file, 2)(segment(all))
		}, "bytes behind its last ID"},
		"long keys":          {set(file+4, 0xff, 0xff, 0xff, 0xff), "the block at byte 24 has 42949"},
		"a long column":      {set(file+12, 0xff, 0xff, 0xff, 0x7f), "the block at byte 24 has 2147"},
		"short keys":         {set(file+4, 10), "3 entries in 10 bytes"},
		"a long ID":          {set(chunks, 0xff, 0xff, 0x03), "impossible ID"},
		"an endless ID":      {set(chunks, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), "impossible ID"},
		"an ID of nothing":   {set(chunks, 0), "impossible ID"},
		"a control code":     {set(chunks+1, 0x1b), "not plain text"},
		"not UTF-8":          {set(chunks+1, 0xff), "not plain text"},
		"another folder":     {set(chunks+keys-12, 3), `"a/0003.jpg" is from folder 3 of 2`},
		"a negative width":   {set(chunks+keys-5, 0x80), "pixels"},
		"a bit more":         {set(chunks+3*keys, 0x0f), "more than 3 entries"},
		"a bit less":         {set(chunks+3*keys, 0x05), "bytes for 2 fingerprints"},
		"cut in a header":    {func(b []byte) []byte { return append(b, b[file:file+9]...) }, "9 bytes behind its last block"},
		"a block too many":   {func([]byte) []byte { return segment(span(3, 6, 1), span(6, 7, 1)) }, "has 1 entries"},
		"a block missing":    {func([]byte) []byte { return segment(span(3, 5, 1)) }, "1 entries fewer"},
		"blocks in disorder": {func([]byte) []byte { return segment(span(5, 6, 1), span(3, 5, 1)) }, `"a/0003.jpg" comes after "a/0005.jpg"`},
		"an entry twice":     {entries(func(e *index.Entry) { *e = entry(3) }), `"a/0003.jpg" comes after "a/0003.jpg"`},
		"other entries":      {entries(func(e *index.Entry) { e.Width++ }), "another one than was written"},
	}
	read := func(data []byte) (n int, err error) {
		sum := struct{ Segments []struct{ SHA256 string } }{}
		dir := t.TempDir()
		add(t, dir, span(3, 6, 1))
		check(t, json.Unmarshal([]byte(manifestOf(t, dir)), &sum))
		err = index.ReadSegment(data, nil, 3, sum.Segments[0].SHA256, columns(), roots(), func(index.Entry) { n++ })
		return n, err
	}
	if n, err := read(good); n != 3 || err != nil {
		t.Fatalf("undamaged: %d entries, %v", n, err)
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := read(mended(c.do(bytes.Clone(good))))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q in it", err, c.want)
			}
		})
	}
}

// Before anything is done by a block header, it is known to be right.
func TestChecksumOfBlockHeader(t *testing.T) {
	data := segment(span(3, 6, 1))
	data[25] ^= 1 // entries
	err := index.ReadSegment(data, nil, 3, "", columns(), roots(), func(index.Entry) {})
	if err == nil || !strings.Contains(err.Error(), "the checksum of the block header at byte 24 is wrong") {
		t.Errorf("reading says %v", err)
	}
}

// A block of a hostile file must not be as large as its header says.
func TestBlockThatIsTooLarge(t *testing.T) {
	index.Small(t, 100, 3)
	most := 100 + index.EntryBytes(columns())
	var all []index.Entry
	for len(segment(all)) < most+100 {
		all = append(all, entry(len(all)))
	}
	err := index.ReadSegment(segment(all), nil, int64(len(all)), "", columns(), roots(), func(index.Entry) {})
	if err == nil || !strings.Contains(err.Error(), "the block at byte 24 has") {
		t.Errorf("reading says %v", err)
	}
}

// The largest entry that there can be, behind a block that is nearly full, is read again.
func TestLargestEntry(t *testing.T) {
	index.Small(t, 1000, 3)
	dir := t.TempDir()
	e := entry(30)
	e.ID = strings.Repeat("b", 1<<16-1)
	all := append(span(0, 12, 1), e)
	add(t, dir, all)
	holds(t, open(t, dir), all)
}
