package index_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/stages/dedup/index"
)

// reading opens an index and reads it whole.
func reading(dir string) error { return readingFrom(fsys.OS, dir) }

func readingFrom(files fsys.FS, dir string) error {
	x, err := index.Open(files, dir)
	if err != nil {
		return err
	}
	defer x.Close()
	have, err := read(x, "phash", "clip")
	if want := text(span(0, 12, 1)); err != nil && x.Len() == 12 && !strings.HasPrefix(want, text(have)) {
		return errors.New("entries that are wrong came before " + err.Error())
	}
	return err
}

// damaged checks an error of a damaged file: it names the file and says what to do.
func damaged(err error, file string) bool {
	return errors.Is(err, index.ErrDamaged) && !errors.Is(err, os.ErrNotExist) &&
		strings.Contains(err.Error(), file+" is damaged: ") && strings.Contains(err.Error(), "make the index anew from its pictures")
}

const (
	firstSegment = "segment-00000001.fpi"
	firstLarge   = "segment-00000001-2.fpl" // with index.Large(t, 8)
)

// bent is the file system with one byte of one file wrong.
type bent struct {
	name string
	at   int64
	flip byte
}

func (b bent) OpenRoot(dir string) (fsys.Root, error) {
	r, err := fsys.OS.OpenRoot(dir)
	return bentRoot{r, b}, err
}

type bentRoot struct {
	fsys.Root
	bent
}

func (r bentRoot) Open(name string) (fsys.File, error) {
	f, err := r.Root.Open(name)
	if err != nil || name != r.name {
		return f, err
	}
	return &bentFile{File: f, bent: r.bent}, nil
}

type bentFile struct {
	fsys.File
	bent
	next int64
}

func (f *bentFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	f.bend(p[:n], f.next)
	f.next += int64(n)
	return n, err
}

func (f *bentFile) ReadAt(p []byte, at int64) (int, error) {
	n, err := f.File.ReadAt(p, at)
	f.bend(p[:n], at)
	return n, err
}

func (f *bentFile) bend(p []byte, at int64) {
	if i := f.at - at; 0 <= i && i < int64(len(p)) {
		p[i] ^= f.flip
	}
}

func TestEveryDamagedByteIsFound(t *testing.T) {
	index.Small(t, 200, 3)
	small, large := t.TempDir(), t.TempDir()
	add(t, small, span(0, 12, 1))
	for _, name := range []string{firstSegment, "index.json"} {
		everyByte(t, small, name)
	}
	index.Large(t, 8)
	add(t, large, span(0, 12, 1))
	for _, name := range []string{firstSegment, firstLarge, "index.json"} {
		everyByte(t, large, name)
	}
}

func everyByte(t *testing.T, dir, name string) {
	size := fileSize(t, filepath.Join(dir, name))
	for at := range size {
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			if err := readingFrom(bent{name, at, flip}, dir); !damaged(err, name) {
				t.Fatalf("byte %d of %s with %#x: %v", at, name, flip, err)
			}
		}
	}
	check(t, readingFrom(bent{name, size, 1}, dir))
}

func TestFileOfAnotherLength(t *testing.T) {
	index.Small(t, 200, 3)
	index.Large(t, 8)
	for _, name := range []string{firstSegment, firstLarge, "index.json"} {
		dir := t.TempDir()
		add(t, dir, span(0, 12, 1))
		path := filepath.Join(dir, name)
		size := fileSize(t, path)
		check(t, os.Truncate(path, size+1))
		if err := reading(dir); !damaged(err, name) {
			t.Fatalf("%s with one byte more: %v", name, err)
		}
		for n := size - 1; n >= 0; n-- {
			check(t, os.Truncate(path, n))
			if err := reading(dir); !damaged(err, name) {
				t.Fatalf("%s cut at %d: %v", name, n, err)
			}
		}
	}
}

// Damage ends an add as well: an entry that cannot be seen would be added twice.
func TestAddToADamagedIndex(t *testing.T) {
	dir := t.TempDir()
	add(t, dir, span(0, 12, 1))
	path := filepath.Join(dir, firstSegment)
	b, err := os.ReadFile(path)
	check(t, err)
	b[bytes.Index(b, []byte("a/0003.jpg"))] = 'b'
	check(t, os.WriteFile(path, b, 0o666))
	if _, err := index.Add(t.Context(), quick{}, dir, columns(), each(span(0, 20, 1))); !damaged(err, firstSegment) {
		t.Errorf("adding says %v", err)
	}
}

func TestWrongFiles(t *testing.T) {
	cases := map[string]struct {
		file string // the damaged one
		do   func(t *testing.T, dir string)
	}{
		"the manifest is gone": {"index.json", func(t *testing.T, dir string) { check(t, os.Remove(filepath.Join(dir, "index.json"))) }},
		"a segment is gone":    {firstSegment, func(t *testing.T, dir string) { check(t, os.Remove(filepath.Join(dir, firstSegment))) }},
		"a segment is a folder": {firstSegment, func(t *testing.T, dir string) {
			check(t, os.Remove(filepath.Join(dir, firstSegment)))
			check(t, os.Mkdir(filepath.Join(dir, firstSegment), 0o777))
		}},
		"a segment is a pipe": {firstSegment, func(t *testing.T, dir string) {
			check(t, os.Remove(filepath.Join(dir, firstSegment)))
			check(t, syscall.Mkfifo(filepath.Join(dir, firstSegment), 0o666))
		}},
		"the manifest is a pipe": {"index.json", func(t *testing.T, dir string) {
			check(t, os.Remove(filepath.Join(dir, "index.json")))
			check(t, syscall.Mkfifo(filepath.Join(dir, "index.json"), 0o666))
		}},
		"a file of a column is gone": {firstLarge, func(t *testing.T, dir string) { check(t, os.Remove(filepath.Join(dir, firstLarge))) }},
		"a file of a column is a pipe": {firstLarge, func(t *testing.T, dir string) {
			check(t, os.Remove(filepath.Join(dir, firstLarge)))
			check(t, syscall.Mkfifo(filepath.Join(dir, firstLarge), 0o666))
		}},
		"files of a column changed places": {firstLarge, func(t *testing.T, dir string) {
			swap(t, dir, firstLarge, "segment-00000002-2.fpl")
		}},
		"fingerprints changed places": {firstLarge, func(t *testing.T, dir string) {
			path := filepath.Join(dir, firstLarge)
			b, err := os.ReadFile(path)
			check(t, err)
			check(t, os.WriteFile(path, slices.Concat(b[12:24], b[:12], b[24:]), 0o666))
		}},
		// Segments of one size, as from two copies of a folder.
		"segments changed places": {"segment-00000002.fpi", func(t *testing.T, dir string) {
			swap(t, dir, firstSegment, "segment-00000002.fpi")
			swap(t, dir, firstLarge, "segment-00000002-2.fpl")
		}},
	}
	index.Large(t, 8)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			add(t, dir, span(10, 13, 1))
			add(t, dir, span(24, 27, 1)) // with as many fingerprints
			c.do(t, dir)
			// Adding reads no fingerprints, unless it merges.
			index.Small(t, 1<<10, 2)
			if err := reading(dir); !damaged(err, c.file) {
				t.Errorf("reading says %v", err)
			}
			if _, err := index.Add(t.Context(), quick{}, dir, columns(), each(span(30, 40, 1))); !damaged(err, c.file) {
				t.Errorf("adding says %v", err)
			}
		})
	}
}

// swap makes two files change places.
func swap(t *testing.T, dir, a, b string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	check(t, os.Rename(at(a), at("x")))
	check(t, os.Rename(at(b), at(a)))
	check(t, os.Rename(at("x"), at(b)))
}

func TestHugeManifest(t *testing.T) {
	dir := t.TempDir()
	add(t, dir, span(0, 3, 1))
	check(t, os.Truncate(filepath.Join(dir, "index.json"), 1<<30))
	if err := reading(dir); !damaged(err, "index.json") || !strings.Contains(err.Error(), "has 1073741824 bytes, and 2097152 is the most") {
		t.Errorf("reading says %v", err)
	}
}

// The lock file of a hostile folder is no way to other files.
func TestLockFileIsNoLink(t *testing.T) {
	dir := t.TempDir()
	add(t, dir, span(0, 3, 1))
	victim := filepath.Join(t.TempDir(), "victim")
	check(t, os.WriteFile(victim, []byte("precious"), 0o666))
	check(t, os.Remove(filepath.Join(dir, "index.lock")))
	check(t, os.Symlink(victim, filepath.Join(dir, "index.lock")))
	if _, err := index.Add(t.Context(), quick{}, dir, columns(), each(nil)); err == nil {
		t.Error("a link was taken for a lock file")
	}
	if b, _ := os.ReadFile(victim); string(b) != "precious" {
		t.Errorf("the file at the end of the link is %q", b)
	}
}

func manifestOf(t testing.TB, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	check(t, err)
	return string(b)
}

// A manifest that somebody made up, with a checksum that is right.
func TestHostileManifest(t *testing.T) {
	dir := t.TempDir()
	add(t, dir, span(0, 3, 1))
	good := manifestOf(t, dir)
	size := fileSize(t, filepath.Join(dir, firstSegment))
	cases := map[string]struct{ old, new, want string }{
		"another format":       {"forgepipe dedup index", "something else", "its format is"},
		"no version":           {`"version": 2,`, `"version": 0,`, "its version is 0"},
		"an older version":     {`"version": 2,`, `"version": 1,`, "made by an older forgepipe"},
		"a newer version":      {`"version": 2,`, `"version": 4,`, "reads up to 3: use the newer"},
		"that of large ones":   {`"version": 2,`, `"version": 3,`, "its version is 3, and of these columns 2"},
		"a file of a column":   {`"added": "`, `"large": [0], "added": "`, "has 1 files of large columns, and not 0"},
		"a relative root":      {`"/photos/a%40b"`, `"photos/a%40b"`, `the folder "photos/a%40b"`},
		"a longer root":        {`"/photos/a%40b"`, `"/photos//a%40b"`, `the folder "/photos//a%40b"`},
		"a root unescaped":     {`"/photos/a%40b"`, `"/photos/a@b"`, `the folder "/photos/a@b"`},
		"a root badly escaped": {`"/photos/a%40b"`, `"/photos/a%4"`, `the folder "/photos/a%4"`},
		"a root with a NUL":    {`"/photos/a%40b"`, `"/photos/a%00b"`, `the folder "/photos/a%00b"`},
		"a root twice":         {`"/photos/a%40b"`, `"/photos/%FF"`, `the folder "/photos/%FF" twice`},
		"a root missing":       {"\"/photos/a%40b\",\n", "", `"a/0002.jpg" is from folder 2 of 1`},
		"an unknown member":    {`"next":`, `"more": 1, "next":`, `unknown field "more"`},
		"a segment outside":    {firstSegment, "../" + firstSegment, `a segment "../seg`},
		"an absolute segment":  {firstSegment, "/etc/passwd", `a segment "/etc/passwd"`},
		"another name":         {firstSegment, "segment-1.fpi", "a segment"},
		"a leading zero":       {firstSegment, "segment-000000001.fpi", "a segment"},
		"a number of the next": {firstSegment, "segment-00000002.fpi", "a segment"},
		"number zero":          {firstSegment, "segment-00000000.fpi", "a segment"},
		"next is negative":     {`"next": 2`, `"next": -2`, "next segment is -2"},
		"next is huge":         {`"next": 2`, `"next": 9000000000000000000`, "next segment is 9"},
		"no segment":           {`"segments": [`, `"segments": [], "segments": [`, ""}, // the last one counts
		"negative bytes":       {fmt.Sprintf(`"bytes": %d`, size), `"bytes": -1`, "has -1 bytes"},
		"overflowing bytes":    {fmt.Sprintf(`"bytes": %d`, size), `"bytes": 9223372036854775807`, "bytes"},
		"too many bytes":       {fmt.Sprintf(`"bytes": %d`, size), fmt.Sprintf(`"bytes": %d`, size+1), "and had"},
		"negative entries":     {`"entries": 3,`, `"entries": -3,`, "entries"},
		"too many entries":     {`"entries": 3,`, `"entries": 1000000000000,`, "entries"},
		"one entry less":       {`"entries": 3,`, `"entries": 2,`, "has 3 entries"},
		"one entry more":       {`"entries": 3,`, `"entries": 4,`, "entries"},
		"another checksum":     {`"sha256": "`, `"sha256": "0`, "checksum"},
		"fewer bytes":          {`"bytes": 8`, `"bytes": 4`, "file header"},
		"negative size":        {`"bytes": 8`, `"bytes": -8`, "-8 bytes"},
		"a column twice":       {`"clip"`, `"phash"`, "twice"},
		"a fraction":           {`"next": 2`, `"next": 2.5`, "reading it"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			body := strings.ReplaceAll(good, c.old, c.new)
			if body == good {
				t.Fatalf("%q is not in the manifest", c.old)
			}
			check(t, os.WriteFile(filepath.Join(dir, "index.json"), index.Sealed(body), 0o666))
			err := reading(dir)
			if c.want == "" {
				check(t, err)
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("reading says %v, want %q in it", err, c.want)
			}
			if other := name == "a newer version" || name == "an older version"; errors.Is(err, index.ErrDamaged) == other {
				t.Errorf("%v: damaged is %v", err, !other)
			}
		})
	}
}

func TestSegmentTwiceInTheManifest(t *testing.T) {
	dir := t.TempDir()
	add(t, dir, span(0, 3, 1))
	var m map[string]any
	check(t, json.Unmarshal([]byte(manifestOf(t, dir)), &m))
	delete(m, "sha256")
	twice := func(n int) {
		one := m["segments"].([]any)[0]
		var all []any
		for range n {
			all = append(all, one)
		}
		m["segments"], m["entries"] = all, 3*n
		b, err := json.MarshalIndent(m, "", "  ")
		check(t, err)
		check(t, os.WriteFile(filepath.Join(dir, "index.json"), index.Sealed(strings.TrimSuffix(string(b), "\n}")), 0o666))
	}
	twice(1)
	check(t, reading(dir))
	for n, want := range map[int]string{2: "twice", 65: "65 segments"} {
		twice(n)
		if err := reading(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d times: %v", n, err)
		}
	}
}

// Two segments that hold the same entry cannot be told from two entries.
func TestEntryInTwoSegments(t *testing.T) {
	dir := t.TempDir()
	add(t, dir, span(0, 3, 1))
	add(t, dir, span(3, 6, 1))
	other := t.TempDir()
	add(t, other, span(2, 5, 1))
	b, err := os.ReadFile(filepath.Join(other, firstSegment))
	check(t, err)
	second := filepath.Join(dir, "segment-00000002.fpi")
	size := fileSize(t, second)
	check(t, os.WriteFile(second, b, 0o666))
	var mine, theirs struct{ Segments []struct{ SHA256 string } }
	good := manifestOf(t, dir)
	check(t, json.Unmarshal([]byte(good), &mine))
	check(t, json.Unmarshal([]byte(manifestOf(t, other)), &theirs))
	body := strings.Replace(good, mine.Segments[1].SHA256, theirs.Segments[0].SHA256, 1)
	body = strings.Replace(body, fmt.Sprintf(`"bytes": %d`, size), fmt.Sprintf(`"bytes": %d`, len(b)), 1)
	check(t, os.WriteFile(filepath.Join(dir, "index.json"), index.Sealed(body), 0o666))
	if err := reading(dir); err == nil || !strings.Contains(err.Error(), `"a/0002.jpg" is in another segment, too`) {
		t.Errorf("reading says %v", err)
	}
}

func fileSize(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	check(t, err)
	return info.Size()
}
