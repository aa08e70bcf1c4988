package index_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/stages/dedup/index"
)

const pictureBytes = 16<<10 + 1 // the fewest of a large fingerprint

func pictureColumns(size int) []index.Column {
	return append(columns(), index.Column{Name: "pictures", Size: size, Version: "1"})
}

// pictured fills an index with a column of pictures, of which every third entry has none.
func pictured(t testing.TB, dir string, entries int) string {
	t.Helper()
	all := span(0, entries, 1)
	for i := range all {
		all[i].Prints = append(all[i].Prints, picture(i))
	}
	_, err := index.Add(t.Context(), quick{}, dir, pictureColumns(pictureBytes), each(all))
	check(t, err)
	return dir
}

func picture(n int) []byte {
	if n%3 == 2 {
		return nil
	}
	return bytes.Repeat([]byte{byte(n), byte(n >> 8), 7}, pictureBytes/3+1)[:pictureBytes]
}

// counted counts what is read of each kind of file.
type counted struct{ calls, bytes map[string]int }

func counting() counted { return counted{map[string]int{}, map[string]int{}} }

func (c counted) OpenRoot(dir string) (fsys.Root, error) {
	r, err := fsys.OS.OpenRoot(dir)
	return countedRoot{r, c}, err
}

type countedRoot struct {
	fsys.Root
	counted
}

func (r countedRoot) Open(name string) (fsys.File, error) {
	f, err := r.Root.Open(name)
	return countedFile{f, r.counted, filepath.Ext(name)}, err
}

type countedFile struct {
	fsys.File
	counted
	kind string
}

func (f countedFile) ReadAt(p []byte, at int64) (int, error) {
	f.calls[f.kind]++
	f.bytes[f.kind] += len(p)
	return f.File.ReadAt(p, at)
}

// Whoever reads IDs and hashes reads as much as if there were no pictures, and whoever asks for
// pictures reads those.
func TestLargeFingerprintsAreReadAlone(t *testing.T) {
	const entries = 200
	index.Small(t, 4<<10, 3)
	dir := pictured(t, t.TempDir(), entries)
	cases := map[string]struct {
		columns []string
		pick    func(int64) bool // nil: All
		index   [2]int           // reads of the segment, and bytes at most
		records int              // of the file of pictures
	}{
		// 4 blocks: a header and a chunk of each, and 65 to 88 bytes for an entry in all.
		"all IDs":         {nil, nil, [2]int{1 + 2*4, 80 * entries}, 0},
		"all hashes":      {[]string{"phash"}, nil, [2]int{1 + 3*4, 88 * entries}, 0},
		"all pictures":    {[]string{"pictures"}, nil, [2]int{1 + 3*4, 88 * entries}, 134},
		"some pictures":   {[]string{"pictures"}, func(i int64) bool { return i < 2 || i == 199 }, [2]int{1 + 2*4 + 2, 88 * entries}, 3},
		"one that is nil": {[]string{"pictures"}, func(i int64) bool { return i == 197 }, [2]int{1 + 2*4 + 1, 88 * entries}, 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			files := counting()
			x, err := index.Open(files, dir)
			check(t, err)
			defer x.Close()
			var have []index.Entry
			if c.pick == nil {
				have, err = read(x, c.columns...)
			} else {
				have, err = picked(t, x, c.pick, c.columns...)
			}
			check(t, err)
			var want []index.Entry
			for i, e := range span(0, entries, 1) {
				if c.pick != nil && !c.pick(int64(i)) {
					continue
				}
				prints := [][]byte{}
				for _, name := range c.columns {
					prints = append(prints, map[string][]byte{"phash": e.Prints[0], "pictures": picture(i)}[name])
				}
				e.Prints = prints
				want = append(want, e)
			}
			if text(have) != text(want) {
				t.Errorf("%d entries, want %d, or they are others", len(have), len(want))
			}
			if n, size := files.calls[".fpi"], files.bytes[".fpi"]; n != c.index[0] || size > c.index[1] {
				t.Errorf("%d bytes of the segment in %d reads, want %d in %d", size, n, c.index[1], c.index[0])
			}
			if n, size := files.calls[".fpl"], files.bytes[".fpl"]; n != c.records || size != c.records*pictureBytes {
				t.Errorf("%d bytes of pictures in %d reads, want %d pictures", size, n, c.records)
			}
		})
	}
}

// There is one large fingerprint in memory, however many segments there are.
func TestRoomForLargeFingerprints(t *testing.T) {
	dir := t.TempDir()
	index.Large(t, 8)
	index.Small(t, 200, 5)
	for i := range 4 {
		add(t, dir, span(i, 40, 4))
	}
	places := map[*byte]bool{}
	for e, err := range open(t, dir).All(t.Context(), []string{"clip"}) {
		check(t, err)
		if p := e.Prints[0]; p != nil {
			places[unsafe.SliceData(p)] = true
		}
	}
	if len(places) != 1 {
		t.Errorf("large fingerprints lay in %d places", len(places))
	}
	const size = 16 << 20
	if more := index.Room(pictureColumns(size)) - index.Room(columns()); more < size || more > size+1<<10 {
		t.Errorf("for a fingerprint of %d bytes there is room for %d", size, more)
	}
}

// The columns say what version an index has: one without large ones is read by older programs.
func TestVersionIsThatOfTheColumns(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		size    int
		version string
	}{{16 << 10, `"version": 2,`}, {pictureBytes, `"version": 3,`}, {16 << 10, `"version": 2,`}, {pictureBytes, `"version": 3,`}} {
		// An empty index takes other columns.
		_, err := index.Add(t.Context(), quick{}, dir, pictureColumns(c.size), each(nil))
		check(t, err)
		if m := manifestOf(t, dir); !strings.Contains(m, c.version) {
			t.Errorf("with fingerprints of %d bytes index.json is\n%s", c.size, m)
		}
		if x := open(t, dir); x.Columns()[2].Size != c.size {
			t.Errorf("the columns are %v", x.Columns())
		}
	}
	pictured(t, dir, 4)
	have, err := read(open(t, dir), "pictures")
	check(t, err)
	for i, e := range have {
		if !bytes.Equal(e.Prints[0], picture(i)) {
			t.Errorf("%s has another picture", e.ID)
		}
	}
}

// What was made before there were large columns is not taken for damaged.
func TestLargeColumnsOfAnOlderIndex(t *testing.T) {
	dir := t.TempDir()
	add(t, dir, span(0, 3, 1)) // as it was written then
	index.Large(t, 8)
	err := reading(dir)
	if err == nil || errors.Is(err, index.ErrDamaged) || !strings.Contains(err.Error(), "made by an older forgepipe, which kept large fingerprints among the others: make the index anew") {
		t.Errorf("reading says %v", err)
	}
	if _, err := index.Add(t.Context(), quick{}, dir, columns(), each(nil)); err == nil || errors.Is(err, index.ErrDamaged) {
		t.Errorf("adding says %v", err)
	}
}

// A manifest that somebody made up, with a checksum that is right.
func TestHostileSizesOfLargeColumns(t *testing.T) {
	index.Large(t, 8)
	dir := t.TempDir()
	add(t, dir, span(3, 6, 1))
	good := manifestOf(t, dir)
	old := "\"large\": [\n        36\n      ],"
	for name, c := range map[string]struct{ new, want string }{
		"none":            {``, "has 0 files of large columns, and not 1"},
		"one more":        {`"large": [36, 36],`, "has 2 files of large columns, and not 1"},
		"negative":        {`"large": [-12],`, firstLarge + " has -12 bytes for 3 entries"},
		"not whole":       {`"large": [35],`, "has 35 bytes for 3 entries"},
		"too many":        {`"large": [48],`, "has 48 bytes for 3 entries"},
		"overflowing":     {`"large": [9223372036854775800],`, "has 9223372036854775800 bytes"},
		"fewer than were": {`"large": [24],`, firstLarge + " is damaged: it has 36 bytes, and had 24"},
	} {
		t.Run(name, func(t *testing.T) {
			body := strings.Replace(good, old, c.new, 1)
			if body == good {
				t.Fatalf("%q is not in %s", old, good)
			}
			check(t, os.WriteFile(filepath.Join(dir, "index.json"), index.Sealed(body), 0o666))
			if err := reading(dir); !errors.Is(err, index.ErrDamaged) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("reading says %v, want %q in it", err, c.want)
			}
		})
	}
	// The file is shorter, and the manifest says so: its last fingerprint is missing.
	check(t, os.Truncate(filepath.Join(dir, firstLarge), 24))
	check(t, os.WriteFile(filepath.Join(dir, "index.json"), index.Sealed(strings.Replace(good, old, `"large": [24],`, 1)), 0o666))
	if err := reading(dir); !damaged(err, firstLarge) || !strings.Contains(err.Error(), "ends at byte 24") {
		t.Errorf("reading says %v", err)
	}
}

// A chunk of checksums that somebody made up, whose length says where the next ones are.
func TestHostileChunkOfALargeColumn(t *testing.T) {
	index.Large(t, 8)
	good, files := segmentOf(3, []int{1}, span(3, 6, 1), span(6, 8, 1))
	const chunk = fileHeader + 4 + 2*8 // where the header tells of it
	for name, c := range map[string]struct {
		bytes byte
		want  string
	}{
		"as it is":       {13, ""},
		"no bitmap":      {0, "column clip has 0 bytes for 3 entries"},
		"not whole":      {12, "column clip has 12 bytes for 3 entries"},
		"more than rows": {17, "column clip has 17 bytes for 3 entries"},
		"one less":       {9, "column clip has 8 bytes for 3 fingerprints"},
	} {
		t.Run(name, func(t *testing.T) {
			b := bytes.Clone(good)
			b[chunk] = c.bytes
			n := 0
			err := index.ReadSegment(mended(b), files[1:], 5, "", columns(), roots(), func(index.Entry) { n++ })
			if c.want == "" {
				// To the end, where it is not the one that was asked for.
				if n != 5 || err == nil || !strings.Contains(err.Error(), "another one") {
					t.Errorf("%d entries, %v", n, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q in it", err, c.want)
			}
		})
	}
}

// A merge reads each fingerprint and finds its damage; then nothing of it is left.
func TestMergingDamagedLargeFingerprints(t *testing.T) {
	index.Large(t, 8)
	index.Small(t, 200, 2)
	dir := t.TempDir()
	add(t, dir, span(0, 12, 3))
	add(t, dir, span(1, 12, 3))
	path := filepath.Join(dir, firstLarge)
	b, err := os.ReadFile(path)
	check(t, err)
	b[len(b)-1] ^= 1
	check(t, os.WriteFile(path, b, 0o666))
	before, err := os.ReadDir(dir)
	check(t, err)
	if _, err := index.Add(t.Context(), quick{}, dir, columns(), each(span(2, 12, 3))); !damaged(err, firstLarge) {
		t.Errorf("adding says %v", err)
	}
	after, err := os.ReadDir(dir)
	check(t, err)
	if fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the files are %v, and were %v", after, before)
	}
	// What is not asked for is not found to be damaged.
	x := open(t, dir)
	if have, err := read(x, "phash"); err != nil || len(have) != 8 {
		t.Errorf("%d entries, %v", len(have), err)
	}
}

// A file that is cut while it is open is damaged like one that was cut before.
func TestLargeFileCutWhileOpen(t *testing.T) {
	index.Large(t, 8)
	dir := t.TempDir()
	add(t, dir, span(0, 12, 1))
	x := open(t, dir)
	check(t, os.Truncate(filepath.Join(dir, firstLarge), 13))
	if have, err := read(x, "clip"); len(have) != 1 || !damaged(err, firstLarge) || !strings.Contains(err.Error(), "ends at byte 13") {
		t.Errorf("%d entries, %v", len(have), err)
	}
}
