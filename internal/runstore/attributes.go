package runstore

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// A Key names a cached outcome by what it was computed from. Keys are hashes.
type Key [16]byte

// AttributesOptions are the options of a store of attributes. The zero value is
// a good default.
type AttributesOptions struct {
	CacheDir   string // segments of other runs, shared by processes; none when empty
	CacheLimit int64  // bytes that CacheDir may take; 10 GiB when 0
	FS         FS     // the operating system's when nil
	Logger     *slog.Logger
	// ReadOnly opens what is sealed and changes nothing, also beside a process
	// that writes: what that has not sealed yet is not found.
	ReadOnly bool
}

const (
	defaultCacheLimit = 10 << 30

	tailSize      = 256 << 10 // bytes held back before they are written
	segmentBytes  = 1 << 30   // a log is sealed at this size
	stateSegments = 8         // more than this are merged at Open
)

// segmentKeys is how many keys a log may have before it is sealed: they are in
// memory, about 80 bytes each. A variable for tests.
var segmentKeys = 1 << 20

// Attributes is a content-addressed store of small records: what a stage found
// out about an item, by the hash of everything that it depends on. What it
// returns was stored under that very key, or it returns nothing. Its methods may
// be called from several goroutines at once; the state directory belongs to one
// process, which the lock of the run store sees to.
type Attributes struct {
	dir   string
	o     AttributesOptions
	cache *cache // nil when there is none

	mu     sync.RWMutex
	own    []*segment // oldest first
	log    *log       // nil until there is something to write
	next   int        // number of the next segment
	err    error      // a write that failed: nothing more is written
	closed bool
}

// A log is the segment that is being written.
type log struct {
	f       File
	path    string
	places  map[Key]place
	written int64  // bytes in the file
	tail    []byte // bytes to be written after them
}

// A place is where a log has a record. A log ends before 4 GiB (segmentBytes),
// and there are many of these in memory.
type place struct {
	offset, length uint32
}

// OpenAttributes opens the attributes of a state directory, creating them as
// needed. A log that a crash left is kept up to its last good record. A segment
// that is corrupt, and a cache that does not work, give warnings and are done
// without. Close must be called.
func OpenAttributes(stateDir string, o AttributesOptions) (*Attributes, error) {
	if o.FS == nil {
		o.FS = OS{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.CacheLimit = cmp.Or(o.CacheLimit, defaultCacheLimit)
	a := &Attributes{dir: filepath.Join(stateDir, "attributes"), o: o}
	if o.ReadOnly {
		a.err = ErrReadOnly
		a.openSealed()
		return a, nil
	}
	if err := o.FS.MkdirAll(a.dir, 0o755); err != nil {
		return nil, fmt.Errorf("creating the attributes folder: %w", err)
	}
	if o.CacheDir != "" {
		if err := o.FS.MkdirAll(o.CacheDir, 0o755); err != nil {
			o.Logger.Warn("doing without the cache of attributes", "error", err)
		} else {
			a.cache = &cache{dir: o.CacheDir, limit: o.CacheLimit, fsys: o.FS, logger: o.Logger}
		}
	}
	if err := a.load(); err != nil {
		a.unmap()
		return nil, fmt.Errorf("opening the attributes in %s: %w", a.dir, err)
	}
	if a.cache != nil {
		a.cache.open(a.own)
	}
	return a, nil
}

// openSealed opens the segments of the state directory and the cache, as far as
// there are any.
func (a *Attributes) openSealed() {
	names, _ := filepath.Glob(filepath.Join(a.dir, "*.seg"))
	for _, name := range names {
		if s, err := openSegment(a.o.FS, name); err == nil {
			a.own = append(a.own, s)
		}
	}
	if a.o.CacheDir == "" {
		return
	}
	names, _ = filepath.Glob(filepath.Join(a.o.CacheDir, "*.seg"))
	a.cache = &cache{dir: a.o.CacheDir, limit: a.o.CacheLimit, fsys: a.o.FS, logger: a.o.Logger, readOnly: true}
	for _, name := range names {
		if s, err := openSegment(a.o.FS, name); err == nil {
			a.cache.segments = append(a.cache.segments, s)
		}
	}
}

// load opens what the state directory holds.
func (a *Attributes) load() error {
	entries, err := os.ReadDir(a.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		var n int
		_, _ = fmt.Sscanf(e.Name(), "%d-", &n)
		a.next = max(a.next, n+1)
	}
	for _, e := range entries { // in the order of their numbers
		path := filepath.Join(a.dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), ".tmp-"):
			_ = a.o.FS.Remove(path)
		case strings.HasSuffix(e.Name(), ".log"):
			if err := a.recover(path); err != nil {
				return fmt.Errorf("recovering %s: %w", e.Name(), err)
			}
		case strings.HasSuffix(e.Name(), ".seg"):
			s, err := openSegment(a.o.FS, path)
			if err != nil {
				a.o.Logger.Warn("ignoring attributes", "error", err)
				continue
			}
			a.own = append(a.own, s)
		}
	}
	if len(a.own) > stateSegments {
		a.merge()
	}
	return nil
}

// newPath names the next segment. The name is unique in a cache, too.
func (a *Attributes) newPath(suffix string) string {
	n := a.next
	a.next++
	return filepath.Join(a.dir, fmt.Sprintf("%08d-%s%s", n, rand.Text(), suffix))
}

// recover seals the good part of a log that a crash left.
func (a *Attributes) recover(path string) error {
	f, err := a.o.FS.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	data, err := mapFile(f)
	if err != nil {
		f.Close()
		return err
	}
	l := &log{f: f, path: path, places: map[Key]place{}}
	err = guard(func() error {
		for k, offset := range records(data, &l.written) {
			l.places[k] = place{offset: uint32(offset)}
		}
		return nil
	})
	unmap(data)
	if err == nil && len(l.places) == 0 {
		f.Close()
		return a.o.FS.Remove(path)
	}
	if err == nil {
		err = f.Truncate(l.written)
	}
	if err != nil {
		f.Close()
		return err
	}
	return a.seal(l)
}

// seal makes a segment of a log.
func (a *Attributes) seal(l *log) error {
	err := l.flush()
	if err == nil {
		err = seal(l.f, l.written, l.sorted())
	}
	if cerr := l.f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	path := strings.TrimSuffix(l.path, ".log") + ".seg"
	if err := a.o.FS.Rename(l.path, path); err != nil {
		return err
	}
	s, err := openSegment(a.o.FS, path)
	if err != nil {
		return err
	}
	a.own = append(a.own, s)
	if a.cache != nil {
		a.cache.publish(s)
	}
	return nil
}

// merge puts all segments into one. That needs disk; when there is none, they
// stay as they are.
func (a *Attributes) merge() {
	path := a.newPath(".seg")
	err := merge(a.o.FS, a.own, path)
	var merged *segment
	if err == nil {
		merged, err = openSegment(a.o.FS, path)
	}
	if err != nil {
		a.o.Logger.Warn("attributes stay in many files", "error", err)
		return
	}
	for _, s := range a.own {
		s.close()
		_ = a.o.FS.Remove(s.path) // what stays is merged again
	}
	a.own = []*segment{merged}
}

// Get returns the value of a key, which the caller may keep and change.
func (a *Attributes) Get(k Key) (v []byte, ok bool, err error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.closed {
		return nil, false, ErrClosed
	}
	if a.log != nil {
		v, ok, err := a.log.get(k)
		if ok || err != nil {
			return v, ok, err
		}
	}
	for _, s := range slices.Backward(a.own) {
		if v, ok := s.trust(k, a.o.Logger); ok {
			return v, true, nil
		}
	}
	if a.cache != nil {
		v, ok = a.cache.get(k)
	}
	return v, ok, nil
}

// trust is get of a segment that is ignored from its first corrupt record on.
func (s *segment) trust(k Key, logger *slog.Logger) ([]byte, bool) {
	if s.bad.Load() {
		return nil, false
	}
	v, ok, err := s.get(k)
	if err != nil {
		if !s.bad.Swap(true) {
			logger.Warn("ignoring attributes", "error", err)
		}
		return nil, false
	}
	return v, ok
}

// Put stores a value. It is found at once, and after a crash from the next Flush
// on. After a write that failed every Put returns its error.
func (a *Attributes) Put(k Key, v []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return ErrClosed
	}
	if a.err == nil {
		a.err = a.put(k, v)
	}
	return a.err
}

func (a *Attributes) put(k Key, v []byte) error {
	if a.log == nil {
		path := a.newPath(".log")
		f, err := a.o.FS.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o644)
		if err != nil {
			return fmt.Errorf("creating an attributes log: %w", err)
		}
		a.log = &log{f: f, path: path, places: map[Key]place{}, tail: []byte(segmentHeader)}
	}
	l := a.log
	before := len(l.tail)
	l.tail = appendRecord(l.tail, k, v)
	l.places[k] = place{uint32(l.written + int64(before)), uint32(len(l.tail) - before)}
	if len(l.tail) >= tailSize {
		if err := l.flush(); err != nil {
			return fmt.Errorf("writing attributes: %w", err)
		}
	}
	if len(l.places) >= segmentKeys || l.written >= segmentBytes {
		return a.sealLog()
	}
	return nil
}

func (a *Attributes) sealLog() error {
	l := a.log
	a.log = nil
	if err := a.seal(l); err != nil {
		return fmt.Errorf("sealing attributes: %w", err)
	}
	return nil
}

// Flush puts everything on disk.
func (a *Attributes) Flush() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil || a.log == nil {
		return a.err
	}
	a.err = a.log.flush()
	if a.err == nil {
		a.err = a.log.f.Sync()
	}
	if a.err != nil {
		a.err = fmt.Errorf("writing attributes: %w", a.err)
	}
	return a.err
}

// Close seals what was put, offers it to the cache and releases everything. It
// returns the error of a write that failed. Further calls do nothing.
func (a *Attributes) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	switch {
	case a.o.ReadOnly:
		a.err = nil
	case a.log != nil && a.err == nil:
		a.err = a.sealLog()
	case a.log != nil:
		a.log.f.Close() // the next Open recovers it
	}
	a.unmap()
	if a.cache != nil {
		a.cache.close()
	}
	return a.err
}

func (a *Attributes) unmap() {
	for _, s := range a.own {
		s.close()
	}
}

func (l *log) get(k Key) ([]byte, bool, error) {
	p, ok := l.places[k]
	if !ok {
		return nil, false, nil
	}
	record := make([]byte, p.length)
	if offset := int64(p.offset); offset >= l.written {
		copy(record, l.tail[offset-l.written:])
	} else if _, err := l.f.ReadAt(record, offset); err != nil {
		return nil, false, fmt.Errorf("reading attributes: %w", err)
	}
	key, payload, n := parseRecord(record)
	if n == 0 || key != k {
		return nil, false, fmt.Errorf("reading attributes: %w", errCorrupt)
	}
	return payload, true, nil
}

func (l *log) flush() error {
	if len(l.tail) == 0 {
		return nil
	}
	n, err := l.f.Write(l.tail)
	l.written += int64(n)
	l.tail = append(l.tail[:0], l.tail[n:]...)
	return err
}

func (l *log) sorted() iter.Seq2[Key, int64] {
	return func(yield func(Key, int64) bool) {
		keys := slices.SortedFunc(maps.Keys(l.places), func(a, b Key) int { return bytes.Compare(a[:], b[:]) })
		for _, k := range keys {
			if !yield(k, int64(l.places[k].offset)) {
				return
			}
		}
	}
}
