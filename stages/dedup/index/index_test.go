package index_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/stages/dedup/index"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("INDEX_CHILD"); dir != "" {
		child(dir, os.Getenv("INDEX_TASK"))
		return
	}
	os.Exit(m.Run())
}

// quick is the file system without the waiting for the disk, which makes most tests slow and
// proves nothing in them.
type quick struct{}

func (quick) OpenRoot(dir string) (fsys.Root, error) {
	r, err := fsys.OS.OpenRoot(dir)
	return quickRoot{r}, err
}

type quickRoot struct{ fsys.Root }

func (r quickRoot) Create(name string) (fsys.File, error) {
	f, err := r.Root.Create(name)
	return quickFile{f}, err
}

func (r quickRoot) Open(name string) (fsys.File, error) {
	f, err := r.Root.Open(name)
	return quickFile{f}, err
}

type quickFile struct{ fsys.File }

func (quickFile) Sync() error { return nil }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func columns() []index.Column {
	return []index.Column{
		{Name: "phash", Size: 8, Version: "1"},
		{Name: "clip", Size: 12, Vector: true, Model: "aa11", Version: "2"},
	}
}

func vector(x ...float32) (b []byte) {
	for _, x := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// roots are those of entries, in the order in which they come.
func roots() []string { return []string{"/photos/a@b", "/photos/\xff"} }

// entry is the nth picture of a set. Some have no hash, some no vector, and some no root.
func entry(n int) index.Entry {
	e := index.Entry{
		ID: fmt.Sprintf("a/%04d.jpg", n), SHA256: sha256.Sum256([]byte{byte(n), byte(n >> 8)}), Width: 100 + n, Height: 7,
		Prints: [][]byte{binary.BigEndian.AppendUint64(nil, uint64(n)*0x9e3779b97f4a7c15), vector(float32(n), -1, 0.5)},
	}
	if n%5 == 1 {
		e.Prints[0] = nil
	}
	if n%7 == 2 {
		e.Prints[1] = nil
	}
	if n%3 > 0 {
		e.Root = roots()[n%3-1]
	}
	return e
}

// span are the pictures from first up to but without end, every step-th.
func span(first, end, step int) (all []index.Entry) {
	for n := first; n < end; n += step {
		all = append(all, entry(n))
	}
	return all
}

func each(all []index.Entry) iter.Seq2[index.Entry, error] {
	return func(yield func(index.Entry, error) bool) {
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func add(t testing.TB, dir string, all []index.Entry) int64 {
	t.Helper()
	n, err := index.Add(t.Context(), quick{}, dir, columns(), each(all))
	check(t, err)
	return n
}

func open(t testing.TB, dir string) *index.Index {
	t.Helper()
	x, err := index.Open(fsys.OS, dir)
	check(t, err)
	t.Cleanup(func() { check(t, x.Close()) })
	return x
}

// text describes entries, one a line.
func text(all []index.Entry) string {
	var b strings.Builder
	for _, e := range all {
		fmt.Fprintf(&b, "%s %x %q %dx%d", e.ID, e.SHA256[:3], e.Root, e.Width, e.Height)
		for _, p := range e.Prints {
			if p == nil {
				b.WriteString(" nil")
			} else {
				fmt.Fprintf(&b, " %x", p)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

func read(x *index.Index, names ...string) (all []index.Entry, err error) {
	for e, err := range x.All(context.Background(), names) {
		if err != nil {
			return all, err
		}
		prints := make([][]byte, len(e.Prints))
		for i, p := range e.Prints {
			prints[i] = bytes.Clone(p)
		}
		e.Prints = prints
		all = append(all, e)
	}
	return all, nil
}

// holds checks all that is in the index.
func holds(t testing.TB, x *index.Index, want []index.Entry) {
	t.Helper()
	have, err := read(x, "phash", "clip")
	check(t, err)
	if x.Len() != int64(len(want)) {
		t.Errorf("Len is %d, want %d", x.Len(), len(want))
	}
	if text(have) != text(want) {
		t.Errorf("the index holds\n%swant\n%s", text(have), text(want))
	}
}

func TestWhatWasAddedIsRead(t *testing.T) {
	cases := map[string]struct {
		block int
		adds  [][]index.Entry
		added []int64
		want  []index.Entry
	}{
		"nothing":              {1 << 10, [][]index.Entry{nil}, []int64{0}, nil},
		"one block":            {1 << 20, [][]index.Entry{span(0, 40, 1)}, []int64{40}, span(0, 40, 1)},
		"many blocks":          {200, [][]index.Entry{span(0, 40, 1)}, []int64{40}, span(0, 40, 1)},
		"a block per entry":    {1, [][]index.Entry{span(0, 9, 1)}, []int64{9}, span(0, 9, 1)},
		"interleaved adds":     {200, [][]index.Entry{span(1, 40, 3), span(0, 40, 3), span(2, 40, 3)}, []int64{13, 14, 13}, span(0, 40, 1)},
		"some are there":       {200, [][]index.Entry{span(0, 40, 2), span(0, 40, 1)}, []int64{20, 20}, span(0, 40, 1)},
		"all are there":        {200, [][]index.Entry{span(0, 40, 1), span(3, 30, 1)}, []int64{40, 0}, span(0, 40, 1)},
		"into an empty one":    {200, [][]index.Entry{nil, span(0, 3, 1)}, []int64{0, 3}, span(0, 3, 1)},
		"before those in it":   {200, [][]index.Entry{span(20, 40, 1), span(0, 20, 1)}, []int64{20, 20}, span(0, 40, 1)},
		"more than are merged": {200, [][]index.Entry{span(0, 40, 5), span(1, 40, 5), span(2, 40, 5), span(3, 40, 5), span(4, 40, 5)}, []int64{8, 8, 8, 8, 8}, span(0, 40, 1)},
	}
	for name, c := range cases {
		for _, large := range []int{1 << 10, 8, 1} { // none, one and both of the columns
			t.Run(fmt.Sprintf("%s, large above %d", name, large), func(t *testing.T) {
				index.Small(t, c.block, 3)
				index.Large(t, large)
				dir := filepath.Join(t.TempDir(), "new", "index")
				for i, all := range c.adds {
					if n := add(t, dir, all); n != c.added[i] {
						t.Errorf("add %d added %d, want %d", i, n, c.added[i])
					}
				}
				x := open(t, dir)
				holds(t, x, c.want)
				n, _ := segments(t, dir)
				if n > 3 || (n == 0) != (c.want == nil) || x.Len() != int64(len(c.want)) || len(x.Columns()) != 2 {
					t.Errorf("%d entries of %d columns in %d segments", x.Len(), len(x.Columns()), n)
				}
				onlyItsFiles(t, dir)
			})
		}
	}
}

func TestAllReadsTheColumnsThatAreNamed(t *testing.T) {
	index.Small(t, 200, 3)
	dir := t.TempDir()
	add(t, dir, span(0, 20, 2))
	add(t, dir, span(1, 20, 2))
	x := open(t, dir)
	pick := func(columns ...int) (all []index.Entry) {
		for _, e := range span(0, 20, 1) {
			var prints [][]byte
			for _, c := range columns {
				prints = append(prints, e.Prints[c])
			}
			e.Prints = prints
			all = append(all, e)
		}
		return all
	}
	for name, c := range map[string]struct {
		names []string
		want  []index.Entry
	}{
		"none":      {nil, pick()},
		"one":       {[]string{"clip"}, pick(1)},
		"turned":    {[]string{"clip", "phash"}, pick(1, 0)},
		"one twice": {[]string{"phash", "phash"}, pick(0, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			have, err := read(x, c.names...)
			check(t, err)
			if text(have) != text(c.want) {
				t.Errorf("have\n%swant\n%s", text(have), text(c.want))
			}
		})
	}
	if _, err := read(x, "dhash"); err == nil || !strings.Contains(err.Error(), "no column dhash (it has: phash, clip)") {
		t.Errorf("a column that is not there: %v", err)
	}
}

// The order of columns is that of the pipeline's text, which may change.
func TestColumnsInAnotherOrder(t *testing.T) {
	dir := t.TempDir()
	add(t, dir, span(0, 3, 1))
	c := columns()
	slices.Reverse(c)
	turned := span(3, 6, 1)
	for _, e := range turned {
		slices.Reverse(e.Prints)
	}
	_, err := index.Add(t.Context(), quick{}, dir, c, each(turned))
	check(t, err)
	holds(t, open(t, dir), span(0, 6, 1))
}

func TestChangedPictureIsAnotherEntry(t *testing.T) {
	dir := t.TempDir()
	add(t, dir, span(0, 3, 1))
	changed := entry(1)
	changed.SHA256[0] ^= 0xff
	if n := add(t, dir, []index.Entry{changed}); n != 1 {
		t.Errorf("added %d", n)
	}
	both := []index.Entry{entry(0), entry(1), changed, entry(2)}
	slices.SortStableFunc(both, func(a, b index.Entry) int {
		return strings.Compare(a.ID+string(a.SHA256[:]), b.ID+string(b.SHA256[:]))
	})
	holds(t, open(t, dir), both)
	if n := add(t, dir, both); n != 0 {
		t.Errorf("added %d that are there", n)
	}
}

// A set that lies in another folder now is the same set.
func TestMovedSetIsNotAddedAgain(t *testing.T) {
	dir := t.TempDir()
	add(t, dir, span(0, 12, 1))
	moved := span(0, 13, 1)
	for i := range moved {
		moved[i].Root = "/elsewhere"
	}
	if n := add(t, dir, moved); n != 1 {
		t.Errorf("added %d", n)
	}
	holds(t, open(t, dir), append(span(0, 12, 1), moved[12]))
}

// Roots keep their numbers when segments are merged, and when there is no room for more.
func TestRootsOfManyAdds(t *testing.T) {
	index.Small(t, 200, 2)
	index.FewRoots(t, 3*len("    \"/photos/00\",\n"))
	dir := t.TempDir()
	var want []index.Entry
	for n := range 10 {
		e := entry(n)
		e.Root = fmt.Sprintf("/photos/%02d", n*5%6)
		add(t, dir, []index.Entry{e})
		if r := e.Root; r != "/photos/00" && r != "/photos/05" && r != "/photos/04" {
			e.Root = ""
		}
		want = append(want, e)
	}
	holds(t, open(t, dir), want)
}

func TestRandomAdds(t *testing.T) {
	index.Small(t, 150, 3)
	for seed := range uint64(9) {
		index.Large(t, []int{1 << 10, 8, 1}[seed%3]) // none, one and both of the columns
		rng := rand.New(rand.NewPCG(seed, 1))
		dir := t.TempDir()
		have := map[int]bool{}
		for range 12 {
			var all []index.Entry
			fresh := int64(0)
			for n := range 60 {
				if rng.IntN(4) == 0 {
					all = append(all, entry(n))
					if !have[n] {
						fresh++
					}
					have[n] = true
				}
			}
			if n := add(t, dir, all); n != fresh {
				t.Fatalf("seed %d: added %d, want %d", seed, n, fresh)
			}
			var want []index.Entry
			for _, n := range slices.Sorted(maps.Keys(have)) {
				want = append(want, entry(n))
			}
			holds(t, open(t, dir), want)
			onlyItsFiles(t, dir)
		}
	}
}

// onlyItsFiles checks that nothing is left in the folder that the index does not name.
func onlyItsFiles(t testing.TB, dir string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	check(t, err)
	n, _ := segments(t, dir)
	for _, c := range columns() {
		if c.Size > index.LargeAbove() {
			m, _ := segments(t, dir)
			n += m
		}
	}
	if len(files) != n+2 {
		t.Errorf("%d files, want %d: %v", len(files), n+2, files)
	}
}

// segments is how many segments index.json names, and the bytes of their files.
func segments(t testing.TB, dir string) (n int, size int64) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "index.json"))
	check(t, err)
	var m struct {
		Segments []struct {
			Bytes int64
			Large []int64
		}
	}
	check(t, json.Unmarshal(data, &m))
	for _, s := range m.Segments {
		size += s.Bytes
		for _, large := range s.Large {
			size += large
		}
	}
	return len(m.Segments), size
}

func TestNoIndex(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]string{"no folder": filepath.Join(dir, "none"), "an empty folder": dir} {
		_, err := index.Open(fsys.OS, c)
		if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, index.ErrDamaged) || !strings.Contains(err.Error(), "there is no index") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("Open made %v (%v)", files, err)
	}
}

// A folder of pictures that is named by mistake stays as it is.
func TestFolderOfSomebodyElse(t *testing.T) {
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "photo.jpg"), nil, 0o666))
	_, err := index.Add(t.Context(), quick{}, dir, columns(), each(span(0, 3, 1)))
	if err == nil || !strings.Contains(err.Error(), `"photo.jpg"`) {
		t.Errorf("adding says %v", err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("now there is %v", files)
	}
}

// Beside an index a person may keep what they like.
func TestOtherFilesOfAnIndexStay(t *testing.T) {
	dir := t.TempDir()
	add(t, dir, span(0, 3, 1))
	for _, name := range []string{"notes.txt", "segment-00000009.fpi.txt", "segment-x.fpi", "segment-00000009-.fpl", "segment-00000009.fpl"} {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o666))
	}
	// That of a column that is not large here is none of the index, too.
	for _, name := range []string{"segment-00000009.fpi", "segment-00000009-2.fpl", "segment-00000001-2.fpl", "index.json.tmp"} {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte("left behind"), 0o666))
	}
	add(t, dir, span(3, 6, 1))
	files, err := os.ReadDir(dir)
	check(t, err)
	var have []string
	for _, f := range files {
		have = append(have, f.Name())
	}
	want := []string{"index.json", "index.lock", "notes.txt", "segment-00000001.fpi", "segment-00000002.fpi", "segment-00000009-.fpl", "segment-00000009.fpi.txt", "segment-00000009.fpl", "segment-x.fpi"}
	if !slices.Equal(have, want) {
		t.Errorf("there is %v, want %v", have, want)
	}
}

func TestEndingEarly(t *testing.T) {
	index.Small(t, 200, 3)
	dir := t.TempDir()
	add(t, dir, span(0, 40, 2))
	add(t, dir, span(1, 40, 2))
	x := open(t, dir)
	n := 0
	for _, err := range x.All(t.Context(), nil) {
		check(t, err)
		if n++; n == 7 {
			break
		}
	}
	if n != 7 {
		t.Errorf("%d entries", n)
	}

	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	n = 0
	var last error
	for _, err := range x.All(ctx, nil) {
		if last = err; err == nil {
			if n++; n == 7 {
				cancel(stop)
			}
		}
	}
	if n != 7 || !errors.Is(last, stop) {
		t.Errorf("%d entries, %v", n, last)
	}
	if _, err := index.Add(ctx, quick{}, dir, columns(), each(span(40, 50, 1))); !errors.Is(err, stop) {
		t.Errorf("adding says %v", err)
	}
	holds(t, open(t, dir), span(0, 40, 1))

	closed, err := index.Open(fsys.OS, dir)
	check(t, err)
	check(t, closed.Close())
	if all, err := read(closed); err == nil {
		t.Errorf("a closed index has %d entries", len(all))
	}
}
