package extsort

import (
	"bufio"
	"bytes"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"slices"
	"sync"

	"github.com/forgepipe/forgepipe/internal/fsys"
)

const (
	// minMemory keeps a thoughtless limit from making a file for every record.
	minMemory = 64 << 10
	// blockSize is what records are copied into, so that they are not one
	// allocation each.
	blockSize = 64 << 10
	// fanIn is how many runs of one level are merged into one of the next, which
	// bounds the files that are open at once.
	fanIn = 32
	// Read buffers share the memory, within these bounds.
	minBuffer, maxBuffer = 4 << 10, 256 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Record is one key with its value. Both are the reader's to keep.
type Record struct {
	Key   string
	Value []byte
}

// Sorter collects records and gives them back sorted.
type Sorter struct {
	dir    fsys.Root
	prefix string
	max    int64

	mu      sync.Mutex
	n       int64
	block   []byte // the rest of the current block
	entries []entry
	used    int64
	runs    []run    // in the order of their records' arrival
	stale   []string // merged runs whose removal failed
	serial  int
	state   error // why there can be no more Add, or nil
	closed  bool
}

// entry is a record in memory: its key, then its value.
type entry struct {
	data []byte
	key  int
}

// entryCost is what an entry takes besides its data, with room for the growth
// of the slice that holds it.
const entryCost = 64

func (e entry) k() []byte { return e.data[:e.key] }
func (e entry) v() []byte { return e.data[e.key:] }

// run is a sorted file. Its size, number of records and checksum are kept here:
// a run does not outlive its process.
type run struct {
	name  string
	level int
	n     int64
	sum   uint32
}

var (
	errClosed = errors.New("the sorter is closed")
	errRead   = errors.New("the records are being read")
)

// New makes a sorter that keeps about maxMemory bytes in memory, at least 64
// KiB, and puts the rest into files in dir whose names begin with prefix. Names
// with that prefix belong to this sorter alone: one that a killed process left
// behind is replaced. Nothing is written before memory runs out.
func New(dir fsys.Root, prefix string, maxMemory int64) *Sorter {
	return &Sorter{dir: dir, prefix: prefix, max: max(maxMemory, minMemory)}
}

// Add adds a record, of which it makes a copy. It may be called from several
// goroutines, until All is called. After an error, which comes from writing a
// run, the sorter is of no further use.
func (s *Sorter) Add(key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != nil {
		return fmt.Errorf("adding to sort: %w", s.state)
	}
	size := len(key) + len(value)
	cost := int64(size) + entryCost
	if len(s.entries) > 0 && s.used+cost > s.max {
		if err := s.spill(); err != nil {
			s.state = err
			return fmt.Errorf("adding to sort: %w", err)
		}
	}
	if size > len(s.block) {
		// What is left of the block is lost, which counts.
		s.used += int64(len(s.block))
		s.block = make([]byte, max(size, blockSize))
	}
	data := s.block[:size:size]
	s.block = s.block[size:]
	copy(data, key)
	copy(data[len(key):], value)
	s.entries = append(s.entries, entry{data, len(key)})
	s.used += cost
	s.n++
	return nil
}

// Len tells how many records have been added.
func (s *Sorter) Len() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// All gives the records in ascending order of their keys' bytes, equal keys in
// the order of Add. It ends the adding, and may be called again for another
// pass. An error comes with an empty record and ends the sequence.
func (s *Sorter) All() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		sources, done, err := s.open()
		defer done()
		if err == nil {
			err = merge(sources, func(k, v []byte) (bool, error) {
				return yield(Record{string(k), bytes.Clone(v)}, nil), nil
			})
		}
		if err != nil {
			yield(Record{}, fmt.Errorf("reading sorted records: %w", err))
		}
	}
}

// open prepares the sources of the last merge: the runs, and what is in memory,
// which came last.
func (s *Sorter) open() (sources []source, done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	done = func() {}
	switch {
	case s.state == nil:
		s.state = errRead
		s.sort()
	case !errors.Is(s.state, errRead):
		return nil, done, s.state
	}
	sources, done, err = s.openRuns(s.runs)
	if err != nil {
		return nil, done, err
	}
	return append(sources, &inMemory{rest: s.entries}), done, nil
}

// Close removes the files. It ends a sequence of All only in that reading on
// may fail, and may be called more than once.
func (s *Sorter) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed, s.state = true, errClosed
	s.entries, s.block = nil, nil
	var errs []error
	for _, r := range s.runs {
		errs = append(errs, s.dir.Remove(r.name))
	}
	for _, name := range s.stale {
		errs = append(errs, s.dir.Remove(name))
	}
	s.runs, s.stale = nil, nil
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing sorted runs: %w", err)
	}
	return nil
}

func (s *Sorter) sort() {
	slices.SortStableFunc(s.entries, func(a, b entry) int { return bytes.Compare(a.k(), b.k()) })
}

// spill writes what is in memory as a run, and merges runs where that made
// enough of one level. Only the newest are merged, so that the runs stay in the
// order of their records' arrival.
func (s *Sorter) spill() error {
	s.sort()
	r, err := s.write(0, []source{&inMemory{rest: s.entries}})
	if err != nil {
		return err
	}
	s.runs = append(s.runs, r)
	clear(s.entries)
	s.entries, s.block, s.used = s.entries[:0], nil, 0
	for {
		level := s.runs[len(s.runs)-1].level
		first := len(s.runs)
		for first > 0 && s.runs[first-1].level == level {
			first--
		}
		if len(s.runs)-first < fanIn {
			return nil
		}
		if err := s.mergeRuns(first, level+1); err != nil {
			return err
		}
	}
}

// mergeRuns replaces the runs from first on by one.
func (s *Sorter) mergeRuns(first, level int) error {
	old := s.runs[first:]
	sources, done, err := s.openRuns(old)
	defer done()
	if err != nil {
		return err
	}
	merged, err := s.write(level, sources)
	if err != nil {
		return err
	}
	done()
	names := make([]string, len(old))
	for i, r := range old {
		names[i] = r.name
	}
	s.runs = append(s.runs[:first], merged)
	var errs []error
	for _, name := range names {
		if err := s.dir.Remove(name); err != nil {
			s.stale = append(s.stale, name)
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing merged runs: %w", err)
	}
	return nil
}

// write merges sources into a new run. One that could not be written whole is
// removed.
func (s *Sorter) write(level int, sources []source) (r run, err error) {
	s.serial++
	r = run{name: fmt.Sprintf("%s-%06d.run", s.prefix, s.serial), level: level}
	f, err := s.dir.Create(r.name)
	if errors.Is(err, fs.ErrExist) {
		if err := s.dir.Remove(r.name); err != nil {
			return run{}, fmt.Errorf("removing a run left behind: %w", err)
		}
		f, err = s.dir.Create(r.name)
	}
	if err != nil {
		return run{}, fmt.Errorf("creating a run: %w", err)
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			// The error that matters is the first; the file may not even be there.
			_ = s.dir.Remove(r.name)
			err = fmt.Errorf("writing a run of sorted records: %w", err)
		}
	}()
	sum := crc32.New(castagnoli)
	w := bufio.NewWriterSize(io.MultiWriter(f, sum), blockSize)
	var head [2 * binary.MaxVarintLen64]byte
	err = merge(sources, func(k, v []byte) (bool, error) {
		n := binary.PutUvarint(head[:], uint64(len(k)))
		n += binary.PutUvarint(head[n:], uint64(len(v)))
		for _, p := range [][]byte{head[:n], k, v} {
			if _, err := w.Write(p); err != nil {
				return false, err
			}
		}
		r.n++
		return true, nil
	})
	if err := cmp.Or(err, w.Flush()); err != nil {
		return run{name: r.name}, err
	}
	r.sum = sum.Sum32()
	return r, nil
}

// openRuns opens runs for reading; done closes them, and may be called twice.
func (s *Sorter) openRuns(runs []run) (sources []source, done func(), err error) {
	var files []fsys.File
	done = func() {
		for _, f := range files {
			_ = f.Close() // nothing was written
		}
		files = nil
	}
	size := min(max(s.max/int64(len(runs)+1), minBuffer), maxBuffer)
	for _, r := range runs {
		f, err := s.dir.Open(r.name)
		if err != nil {
			return nil, done, fmt.Errorf("opening a run: %w", err)
		}
		files = append(files, f)
		sources = append(sources, &reader{r: bufio.NewReaderSize(f, int(size)), run: r})
	}
	return sources, done, nil
}

// source gives records in order. What next returns is valid until the next call;
// at the end it returns false.
type source interface {
	next() (k, v []byte, ok bool, err error)
}

type inMemory struct{ rest []entry }

func (m *inMemory) next() (k, v []byte, ok bool, err error) {
	if len(m.rest) == 0 {
		return nil, nil, false, nil
	}
	e := m.rest[0]
	m.rest = m.rest[1:]
	return e.k(), e.v(), true, nil
}

// reader reads a run, and checks at its end that it was the one written.
type reader struct {
	r   *bufio.Reader
	run run
	n   int64
	sum uint32
	buf []byte
}

func (r *reader) next() (k, v []byte, ok bool, err error) {
	if r.n == r.run.n {
		if _, err := r.r.ReadByte(); err != io.EOF {
			return nil, nil, false, r.damaged(cmp.Or(err, errors.New("it is longer than what was written")))
		}
		if r.sum != r.run.sum {
			return nil, nil, false, r.damaged(errors.New("its checksum is wrong"))
		}
		return nil, nil, false, nil
	}
	r.n++
	klen, err := r.length()
	if err != nil {
		return nil, nil, false, r.damaged(err)
	}
	vlen, err := r.length()
	if err != nil {
		return nil, nil, false, r.damaged(err)
	}
	// A damaged length must not become an allocation: read in steps.
	r.buf = r.buf[:0]
	for rest := klen + vlen; rest > 0; {
		step := min(rest, 1<<20)
		at := len(r.buf)
		r.buf = slices.Grow(r.buf, int(step))[:at+int(step)]
		if _, err := io.ReadFull(r.r, r.buf[at:]); err != nil {
			return nil, nil, false, r.damaged(err)
		}
		rest -= step
	}
	r.sum = crc32.Update(r.sum, castagnoli, r.buf)
	return r.buf[:klen], r.buf[klen:], true, nil
}

// length reads a length, with the checksum of its bytes.
func (r *reader) length() (int64, error) {
	n, err := binary.ReadUvarint(r.r)
	if err != nil {
		return 0, err
	}
	const most = 1 << 40
	if n > most {
		return 0, errors.New("a length is impossible")
	}
	var b [binary.MaxVarintLen64]byte
	r.sum = crc32.Update(r.sum, castagnoli, b[:binary.PutUvarint(b[:], n)])
	return int64(n), nil
}

func (r *reader) damaged(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading run %s, which is not as it was written: %w", r.run.name, err)
}

// merge gives the records of all sources in order, of equal keys those of the
// earlier source first, until give returns false.
func merge(sources []source, give func(k, v []byte) (bool, error)) error {
	var h queue
	for i, src := range sources {
		k, v, ok, err := src.next()
		if err != nil {
			return err
		}
		if ok {
			h = append(h, head{k, v, src, i})
		}
	}
	heap.Init(&h)
	for len(h) > 0 {
		top := &h[0]
		if more, err := give(top.k, top.v); err != nil || !more {
			return err
		}
		k, v, ok, err := top.src.next()
		if err != nil {
			return err
		}
		if ok {
			top.k, top.v = k, v
			heap.Fix(&h, 0)
		} else {
			heap.Pop(&h)
		}
	}
	return nil
}

// head is the next record of a source.
type head struct {
	k, v []byte
	src  source
	i    int
}

type queue []head

func (q queue) Len() int { return len(q) }
func (q queue) Less(a, b int) bool {
	return cmp.Or(bytes.Compare(q[a].k, q[b].k), cmp.Compare(q[a].i, q[b].i)) < 0
}
func (q queue) Swap(a, b int) { q[a], q[b] = q[b], q[a] }
func (q *queue) Push(x any)   { *q = append(*q, x.(head)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
