package runstore_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/internal/runstore"
)

func key(name string) (k runstore.Key) {
	sum := sha256.Sum256([]byte(name))
	copy(k[:], sum[:])
	return k
}

func openAttributes(t testing.TB, dir string, o runstore.AttributesOptions) *runstore.Attributes {
	t.Helper()
	a, err := runstore.OpenAttributes(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// session puts values under their names and closes.
func session(t testing.TB, dir string, o runstore.AttributesOptions, values ...string) {
	t.Helper()
	a := openAttributes(t, dir, o)
	for _, v := range values {
		check(t, a.Put(key(v), []byte(v)))
	}
	check(t, a.Close())
}

// found returns those of the names that are found, which must have the right
// value.
func found(t testing.TB, a *runstore.Attributes, names ...string) (out []string) {
	t.Helper()
	for _, name := range names {
		v, ok, err := a.Get(key(name))
		check(t, err)
		if !ok {
			continue
		}
		if string(v) != name {
			t.Fatalf("the value of %q is %q", name, v)
		}
		out = append(out, name)
	}
	return out
}

func list(t testing.TB, dir, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	check(t, err)
	return names
}

func TestAttributesComeBack(t *testing.T) {
	values := map[string][]byte{
		"empty": {},
		"small": []byte("0.61"),
		"large": bytes.Repeat([]byte("0123456789"), 100_000),
		"twice": []byte("the later"),
	}
	verify := func(t *testing.T, a *runstore.Attributes) {
		for name, want := range values {
			got, ok, err := a.Get(key(name))
			if err != nil || !ok || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes, %v, %v", name, len(got), ok, err)
			}
			for i := range got { // it is ours
				got[i] = 'x'
			}
		}
		if _, ok, err := a.Get(key("never put")); ok || err != nil {
			t.Errorf("a key that was never put: %v, %v", ok, err)
		}
	}
	dir := t.TempDir()
	a := openAttributes(t, dir, runstore.AttributesOptions{})
	check(t, a.Put(key("twice"), []byte("the earlier")))
	check(t, a.Flush())
	for name, v := range values {
		check(t, a.Put(key(name), v))
	}
	t.Run("put", func(t *testing.T) { verify(t, a) })
	check(t, a.Flush())
	t.Run("flushed", func(t *testing.T) { verify(t, a) })
	check(t, a.Close())
	check(t, a.Close())
	if _, _, err := a.Get(key("small")); !errors.Is(err, runstore.ErrClosed) {
		t.Errorf("Get after Close says %v", err)
	}
	if err := a.Put(key("small"), nil); !errors.Is(err, runstore.ErrClosed) {
		t.Errorf("Put after Close says %v", err)
	}
	a = openAttributes(t, dir, runstore.AttributesOptions{})
	t.Run("opened again", func(t *testing.T) { verify(t, a) })
}

func TestAttributesOfManyRunsAreMerged(t *testing.T) {
	dir := t.TempDir()
	var names []string
	for i := range 9 {
		var values []string
		for k := range 50 {
			values = append(values, fmt.Sprint(i, " ", k))
		}
		names = append(names, values...)
		a := openAttributes(t, dir, runstore.AttributesOptions{})
		check(t, a.Put(key("again"), []byte{byte(i)}))
		check(t, a.Close())
		session(t, dir, runstore.AttributesOptions{}, values...)
	}
	a := openAttributes(t, dir, runstore.AttributesOptions{})
	if segments := list(t, dir, "attributes/*"); len(segments) > 8 {
		t.Errorf("%d files: %v", len(segments), segments)
	}
	equal(t, "found", found(t, a, names...), names)
	if v, _, _ := a.Get(key("again")); !bytes.Equal(v, []byte{8}) {
		t.Errorf("of a key put 9 times the value is %v, want the last", v)
	}
}

func TestAttributesConcurrently(t *testing.T) {
	dir := t.TempDir()
	a := openAttributes(t, dir, runstore.AttributesOptions{})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				name := fmt.Sprint(strings.Repeat("x", 100), w, " ", i)
				if err := a.Put(key(name), []byte(name)); err != nil {
					t.Error(err)
				}
				if v, ok, err := a.Get(key(name)); !ok || err != nil || string(v) != name {
					t.Errorf("%q: %v, %v", v, ok, err)
				}
				a.Get(key(fmt.Sprint(strings.Repeat("x", 100), 3-w, " ", i)))
				if i%500 == 0 {
					if err := a.Flush(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestLongLogsAreSealedOnTheWay(t *testing.T) {
	runstore.SetSegmentKeys(t, 100)
	dir := t.TempDir()
	a := openAttributes(t, dir, runstore.AttributesOptions{})
	var names []string
	for i := range 1050 {
		names = append(names, fmt.Sprint(i))
		check(t, a.Put(key(names[i]), []byte(names[i])))
	}
	equal(t, "segments", len(list(t, dir, "attributes/*.seg")), 10)
	equal(t, "found", found(t, a, names...), names)
	check(t, a.Close())
	equal(t, "found again", found(t, openAttributes(t, dir, runstore.AttributesOptions{}), names...), names)
}

func TestSegmentCutWhileOpen(t *testing.T) {
	// Reading a mapped file beyond its end kills a process unless it is caught.
	var log bytes.Buffer
	dir := t.TempDir()
	names := []string{"a", strings.Repeat("b", 10_000)}
	session(t, dir, runstore.AttributesOptions{}, names...)
	a := openAttributes(t, dir, runstore.AttributesOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	check(t, os.Truncate(list(t, dir, "attributes/*.seg")[0], 0))
	equal(t, "found", found(t, a, names...), []string(nil))
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings, want 1:\n%s", n, &log)
	}
}

func TestLogCutAnywhere(t *testing.T) {
	names := []string{"first", "", strings.Repeat("third", 30), "fourth"}
	dir := t.TempDir()
	a := openAttributes(t, dir, runstore.AttributesOptions{})
	for _, name := range names {
		check(t, a.Put(key(name), []byte(name)))
	}
	check(t, a.Flush())
	whole, err := os.ReadFile(list(t, dir, "attributes/*.log")[0])
	check(t, err)
	check(t, a.Close())
	sealed, err := os.ReadFile(list(t, dir, "attributes/*.seg")[0])
	check(t, err)
	var ends []int // where each record ends
	for at, i := 8, 0; i < len(names); i++ {
		at += 1 + 16 + len(names[i]) + 4
		if len(names[i]) >= 128 {
			at++
		}
		ends = append(ends, at)
	}
	if ends[3] != len(whole) {
		t.Fatalf("the log has %d bytes, want %d", len(whole), ends[3])
	}
	for cut := range len(sealed) + 1 { // the log, and cut while it is sealed
		dir := t.TempDir()
		check(t, os.Mkdir(filepath.Join(dir, "attributes"), 0o755))
		check(t, os.WriteFile(filepath.Join(dir, "attributes", "00000007-x.log"), sealed[:cut], 0o644))
		var want []string
		for i, end := range ends {
			if end <= cut {
				want = append(want, names[i])
			}
		}
		for range 2 {
			a := openAttributes(t, dir, runstore.AttributesOptions{})
			equal(t, fmt.Sprintf("cut at %d", cut), found(t, a, names...), want)
			check(t, a.Close())
		}
		if left := list(t, dir, "attributes/*.log"); left != nil {
			t.Errorf("cut at %d leaves %v", cut, left)
		}
	}
}

func TestEveryByteOfASegmentSpoiled(t *testing.T) {
	names := []string{"first", "second", "third", strings.Repeat("fourth", 30)}
	dir := t.TempDir()
	session(t, dir, runstore.AttributesOptions{}, names...)
	path := list(t, dir, "attributes/*.seg")[0]
	good, err := os.ReadFile(path)
	check(t, err)
	var log bytes.Buffer
	o := runstore.AttributesOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x41
		check(t, os.WriteFile(path, bad, 0o644))
		log.Reset()
		a := openAttributes(t, dir, o)
		missing := len(names) - len(found(t, a, names...))
		check(t, a.Close())
		if warned := strings.Contains(log.String(), "level=WARN"); missing > 0 && !warned && !inIndexKey(good, i) {
			t.Errorf("with byte %d spoiled %d values are gone without a warning", i, missing)
		}
	}
	for cut := range good {
		check(t, os.WriteFile(path, good[:cut], 0o644))
		a := openAttributes(t, dir, o)
		equal(t, "found in a cut segment", found(t, a, names...), []string(nil))
		check(t, a.Close())
	}
}

// inIndexKey tells whether byte i is in a key of the index of a segment of four
// records: another key is simply not found.
func inIndexKey(segment []byte, i int) bool {
	at := i - (len(segment) - 28 - 4*24)
	return at >= 0 && at < 4*24 && at%24 < 16
}

func TestCache(t *testing.T) {
	logged := func() (*bytes.Buffer, runstore.AttributesOptions) {
		var log bytes.Buffer
		return &log, runstore.AttributesOptions{CacheDir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(&log, nil))}
	}
	quiet := func(t *testing.T, log *bytes.Buffer) {
		if log.Len() > 0 {
			t.Errorf("warnings:\n%s", log)
		}
	}
	t.Run("another run finds it", func(t *testing.T) {
		log, o := logged()
		session(t, t.TempDir(), o, "a", "b")
		equal(t, "found", found(t, openAttributes(t, t.TempDir(), o), "a", "c"), []string{"a"})
		quiet(t, log)
	})
	t.Run("its own come first", func(t *testing.T) {
		log, o := logged()
		a := openAttributes(t, t.TempDir(), o)
		check(t, a.Put(key("a"), []byte("of the cache")))
		check(t, a.Close())
		own := t.TempDir()
		session(t, own, o, "a")
		equal(t, "found", found(t, openAttributes(t, own, o), "a"), []string{"a"})
		quiet(t, log)
	})
	t.Run("without links", func(t *testing.T) {
		log, o := logged()
		o.FS = &faulty{fail: func(op string) bool { return op == "link" }}
		session(t, t.TempDir(), o, "a")
		equal(t, "found", found(t, openAttributes(t, t.TempDir(), o), "a"), []string{"a"})
		quiet(t, log)
	})
	t.Run("a log that a crash left", func(t *testing.T) {
		log, o := logged()
		dir := t.TempDir()
		a := openAttributes(t, dir, runstore.AttributesOptions{})
		check(t, a.Put(key("a"), []byte("a")))
		check(t, a.Flush())
		left := t.TempDir()
		check(t, os.CopyFS(left, os.DirFS(dir)))
		session(t, left, o)
		equal(t, "found", found(t, openAttributes(t, t.TempDir(), o), "a"), []string{"a"})
		quiet(t, log)
	})
	t.Run("a folder that cannot be", func(t *testing.T) {
		log, o := logged()
		o.CacheDir = filepath.Join(o.CacheDir, "file")
		check(t, os.WriteFile(o.CacheDir, nil, 0o644))
		dir := t.TempDir()
		session(t, dir, o, "a")
		equal(t, "found", found(t, openAttributes(t, dir, o), "a"), []string{"a"})
		if !strings.Contains(log.String(), "level=WARN") {
			t.Error("no warning")
		}
	})
	t.Run("a corrupt segment", func(t *testing.T) {
		log, o := logged()
		session(t, t.TempDir(), o, "a")
		session(t, t.TempDir(), o, "b")
		for i, path := range list(t, o.CacheDir, "*.seg") {
			b, err := os.ReadFile(path)
			check(t, err)
			if !bytes.Contains(b, []byte("a")) || i > 1 {
				t.Fatal("unexpected cache")
			}
			if k := key("a"); bytes.Contains(b, k[:]) {
				check(t, os.Remove(path)) // not to write into the run's own
				check(t, os.WriteFile(path, b[:len(b)-1], 0o644))
			}
		}
		equal(t, "found", found(t, openAttributes(t, t.TempDir(), o), "a", "b"), []string{"b"})
		if n := strings.Count(log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings, want 1:\n%s", n, log)
		}
	})
	t.Run("many small segments are merged", func(t *testing.T) {
		log, o := logged()
		var names []string
		for i := range 20 {
			names = append(names, fmt.Sprint("value ", i))
			session(t, t.TempDir(), o, names[i])
		}
		equal(t, "found", found(t, openAttributes(t, t.TempDir(), o), names...), names)
		if n := len(list(t, o.CacheDir, "*")); n > 9 {
			t.Errorf("%d files", n)
		}
		quiet(t, log)
	})
}

func TestCacheForgetsTheLeastRecentlyUsed(t *testing.T) {
	value := func(c string) string { return strings.Repeat(c, 1000) }
	o := runstore.AttributesOptions{CacheDir: t.TempDir(), CacheLimit: 3500} // three segments
	names := []string{value("a"), value("b"), value("c"), value("d")}
	for _, name := range names[:3] {
		session(t, t.TempDir(), o, name)
	}
	segments := list(t, o.CacheDir, "*.seg")
	for _, path := range segments {
		b, err := os.ReadFile(path)
		check(t, err)
		for i, name := range names { // a is the oldest, then b, then c
			if bytes.Contains(b, []byte(name)) {
				at := time.Now().Add(time.Duration(i-10) * time.Hour)
				check(t, os.Chtimes(path, at, at))
			}
		}
	}
	user := openAttributes(t, t.TempDir(), o)
	equal(t, "found", found(t, user, names[0]), names[:1]) // a is now the newest
	session(t, t.TempDir(), o, names[3])
	equal(t, "left", found(t, openAttributes(t, t.TempDir(), o), names...), []string{names[0], names[2], names[3]})
	// Who had the cache open keeps what was in it.
	equal(t, "of the earlier", found(t, user, names...), names[:3])
}

func TestCacheSharedByMany(t *testing.T) {
	o := runstore.AttributesOptions{CacheDir: t.TempDir(), CacheLimit: 40_000}
	dirs := make([]string, 4)
	for i := range dirs {
		dirs[i] = t.TempDir()
	}
	var wg sync.WaitGroup
	for w, dir := range dirs {
		wg.Go(func() {
			for round := range 30 {
				a, err := runstore.OpenAttributes(dir, o)
				if err != nil {
					t.Error(err)
					return
				}
				for i := range 20 {
					name := fmt.Sprint("value ", (round*7+i*w)%100)
					v, ok, err := a.Get(key(name))
					if err != nil || ok && string(v) != name {
						t.Errorf("%s is %q, %v", name, v, err)
					}
					if !ok {
						err = a.Put(key(name), []byte(name))
					}
					if err != nil {
						t.Error(err)
					}
				}
				if err := a.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	total := int64(0)
	for _, path := range list(t, o.CacheDir, "*") {
		info, err := os.Stat(path)
		check(t, err)
		total += info.Size()
	}
	if total > o.CacheLimit || total == 0 {
		t.Errorf("the cache takes %d bytes of %d", total, o.CacheLimit)
	}
}

// faulty is the operating system with operations that fail.
type faulty struct {
	runstore.OS
	fail func(op string) bool
}

var errFaulty = errors.New("disk trouble")

func (f *faulty) do(op string) error {
	if f.fail(op) {
		return errFaulty
	}
	return nil
}

func (f *faulty) OpenFile(name string, flag int, perm fs.FileMode) (runstore.File, error) {
	if flag != os.O_RDONLY {
		if err := f.do("open"); err != nil {
			return nil, err
		}
	}
	file, err := f.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultyFile{file, f}, nil
}

func (f *faulty) Rename(old, new string) error {
	if err := f.do("rename"); err != nil {
		return err
	}
	return f.OS.Rename(old, new)
}

func (f *faulty) Remove(name string) error {
	if err := f.do("remove"); err != nil {
		return err
	}
	return f.OS.Remove(name)
}

func (f *faulty) Link(old, new string) error {
	if err := f.do("link"); err != nil {
		return err
	}
	return f.OS.Link(old, new)
}

type faultyFile struct {
	runstore.File
	fs *faulty
}

// Write writes half when it fails, as a full disk does.
func (f *faultyFile) Write(b []byte) (int, error) {
	if err := f.fs.do("write"); err != nil {
		n, _ := f.File.Write(b[:len(b)/2])
		return n, err
	}
	return f.File.Write(b)
}

func (f *faultyFile) Sync() error {
	if err := f.fs.do("sync"); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *faultyFile) Truncate(size int64) error {
	if err := f.fs.do("truncate"); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func TestAttributesFailingAtEveryOperation(t *testing.T) {
	const sessions = 10 // more than stay unmerged
	// run returns what must be there afterwards, because a Flush or Close said so.
	run := func(dir string, o runstore.AttributesOptions) (safe []string, err error) {
		for i := range sessions {
			a, err := runstore.OpenAttributes(dir, o)
			if err != nil {
				return safe, err
			}
			put := []string{fmt.Sprint(i, "a"), fmt.Sprint(i, "b")}
			err = errors.Join(a.Put(key(put[0]), []byte(put[0])), a.Put(key(put[1]), []byte(put[1])), a.Flush())
			if err == nil {
				safe = append(safe, put...)
			}
			if err = errors.Join(err, a.Close()); err != nil {
				return safe, err
			}
		}
		a, err := runstore.OpenAttributes(dir, o) // merges
		if err != nil {
			return safe, err
		}
		return safe, a.Close()
	}
	ops := 0
	options := func(cache string, fail func(string) bool) runstore.AttributesOptions {
		return runstore.AttributesOptions{CacheDir: cache, FS: &faulty{fail: fail}}
	}
	if _, err := run(t.TempDir(), options(t.TempDir(), func(string) bool { ops++; return false })); err != nil || ops < 50 {
		t.Fatalf("undisturbed: %d operations, %v", ops, err)
	}
	for _, forever := range []bool{false, true} {
		for n := 1; n <= ops; n++ {
			dir, cache, at := t.TempDir(), t.TempDir(), 0
			what := ""
			safe, err := run(dir, options(cache, func(op string) bool {
				at++
				if at == n {
					what = op
				}
				return at == n || forever && at > n
			}))
			if err != nil && !errors.Is(err, errFaulty) {
				t.Errorf("%s as operation %d fails: %v", what, n, err)
			}
			equal(t, fmt.Sprintf("after %s as operation %d failed (forever: %v)", what, n, forever),
				found(t, openAttributes(t, dir, runstore.AttributesOptions{CacheDir: cache}), safe...), safe)
		}
	}
}

func TestPutErrorIsKept(t *testing.T) {
	failing := false
	a := openAttributes(t, t.TempDir(), runstore.AttributesOptions{FS: &faulty{fail: func(op string) bool { return failing && op == "write" }}})
	check(t, a.Put(key("a"), []byte("a")))
	failing = true
	if err := a.Flush(); !errors.Is(err, errFaulty) {
		t.Errorf("Flush says %v", err)
	}
	failing = false
	for name, call := range map[string]func() error{
		"Put":   func() error { return a.Put(key("b"), nil) },
		"Flush": a.Flush,
	} {
		if err := call(); !errors.Is(err, errFaulty) {
			t.Errorf("%s says %v", name, err)
		}
	}
	if err := a.Close(); !errors.Is(err, errFaulty) {
		t.Errorf("Close says %v", err)
	}
}

func FuzzSegment(f *testing.F) {
	names := []string{"first", "", strings.Repeat("third", 30)}
	dir := f.TempDir()
	session(f, dir, runstore.AttributesOptions{}, names...)
	sealed, err := os.ReadFile(list(f, dir, "attributes/*.seg")[0])
	check(f, err)
	f.Add(sealed)
	f.Add(sealed[:len(sealed)-28])
	f.Add([]byte("fpattr\x00\x01"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, suffix := range []string{".seg", ".log"} {
			dir := t.TempDir()
			check(t, os.Mkdir(filepath.Join(dir, "attributes"), 0o755))
			check(t, os.WriteFile(filepath.Join(dir, "attributes", "00000000-x"+suffix), data, 0o644))
			a := openAttributes(t, dir, runstore.AttributesOptions{})
			found(t, a, names...) // right, or not found
			check(t, a.Close())
		}
	})
}

func BenchmarkPut(b *testing.B) {
	a := openAttributes(b, b.TempDir(), runstore.AttributesOptions{})
	v := make([]byte, 40)
	for i := range b.N {
		check(b, a.Put(key(fmt.Sprint(i)), v))
	}
	check(b, a.Close())
}

func BenchmarkGet(b *testing.B) {
	dir := b.TempDir()
	a := openAttributes(b, dir, runstore.AttributesOptions{})
	const n = 1 << 20
	keys := make([]runstore.Key, n)
	for i := range keys {
		keys[i] = key(fmt.Sprint(i))
		check(b, a.Put(keys[i], make([]byte, 40)))
	}
	check(b, a.Close())
	a = openAttributes(b, dir, runstore.AttributesOptions{})
	b.ResetTimer()
	for i := range b.N {
		if _, ok, err := a.Get(keys[i*7919%n]); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
