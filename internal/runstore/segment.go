package runstore

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A segment is a file of records:
//
//	header   "fpattr", 0, version
//	record   uvarint length of payload, key, payload, CRC-32C of all that; repeated
//	index    key, offset (8 bytes); sorted by key; once the segment is sealed
//	trailer  "fpindex", version, number of keys, offset of the index, CRC-32C of the trailer
//
// Integers are little-endian. The index has no checksum of its own: reading it
// would be all the work of opening a segment, and a wrong offset leads to a
// record with another key.
const (
	segmentHeader  = "fpattr\x00\x01"
	segmentTrailer = "fpindex\x01"
	keySize        = len(Key{})
	entrySize      = keySize + 8
	trailerSize    = len(segmentTrailer) + 8 + 8 + 4
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)

	errCorrupt = errors.New("the segment is corrupt")
)

func appendRecord(b []byte, k Key, v []byte) []byte {
	start := len(b)
	b = binary.AppendUvarint(b, uint64(len(v)))
	b = append(b, k[:]...)
	b = append(b, v...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// parseRecord reads the record at the start of b and returns its length, 0 when
// there is no whole and correct one. The payload is part of b.
func parseRecord(b []byte) (k Key, payload []byte, length int) {
	n, head := binary.Uvarint(b)
	if head <= 0 || n > uint64(len(b)) || head+keySize+int(n)+4 > len(b) {
		return Key{}, nil, 0
	}
	end := head + keySize + int(n)
	if crc32.Checksum(b[:end], castagnoli) != binary.LittleEndian.Uint32(b[end:]) {
		return Key{}, nil, 0
	}
	copy(k[:], b[head:])
	return k, b[head+keySize : end], end + 4
}

// records yields key and offset of the good records at the start of a log, and
// leaves where they end in end.
func records(log []byte, end *int64) iter.Seq2[Key, int64] {
	return func(yield func(Key, int64) bool) {
		*end = int64(len(segmentHeader))
		if !bytes.HasPrefix(log, []byte(segmentHeader)) {
			*end = 0
			return
		}
		for {
			k, _, n := parseRecord(log[*end:])
			if n == 0 || !yield(k, *end) {
				return
			}
			*end += int64(n)
		}
	}
}

// seal appends the index and the trailer to a log of size at and puts the file
// on disk. The entries come sorted by key.
func seal(f File, at int64, entries iter.Seq2[Key, int64]) error {
	w := bufio.NewWriterSize(f, 1<<18)
	count := uint64(0)
	for k, offset := range entries {
		w.Write(k[:])
		w.Write(binary.LittleEndian.AppendUint64(w.AvailableBuffer(), uint64(offset)))
		count++
	}
	trailer := []byte(segmentTrailer)
	trailer = binary.LittleEndian.AppendUint64(trailer, count)
	trailer = binary.LittleEndian.AppendUint64(trailer, uint64(at))
	trailer = binary.LittleEndian.AppendUint32(trailer, crc32.Checksum(trailer, castagnoli))
	w.Write(trailer)
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Sync()
}

// A segment that is sealed, mapped into memory.
type segment struct {
	path   string
	data   []byte // the whole file
	log    []byte // up to the index
	index  []byte
	bad    atomic.Bool // a record was corrupt: nothing of it is trusted any more
	marked atomic.Bool // its use was noted
}

// mapFile maps a file that nothing will write to any more.
func mapFile(f File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return nil, err
	}
	return unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
}

func unmap(data []byte) {
	if data != nil {
		_ = unix.Munmap(data)
	}
}

func openSegment(fsys FS, path string) (*segment, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := mapFile(f)
	if err != nil {
		return nil, fmt.Errorf("mapping %s: %w", path, err)
	}
	s := &segment{path: path, data: data}
	err = guard(s.parse)
	if err != nil {
		unmap(data)
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	_ = unix.Madvise(data, unix.MADV_RANDOM) // a hint: keys are hashes
	return s, nil
}

func (s *segment) parse() error {
	at := len(s.data) - trailerSize
	if at < len(segmentHeader) || string(s.data[:len(segmentHeader)]) != segmentHeader {
		return errCorrupt
	}
	trailer := s.data[at:]
	if string(trailer[:len(segmentTrailer)]) != segmentTrailer ||
		crc32.Checksum(trailer[:trailerSize-4], castagnoli) != binary.LittleEndian.Uint32(trailer[trailerSize-4:]) {
		return errCorrupt
	}
	count := binary.LittleEndian.Uint64(trailer[len(segmentTrailer):])
	start := binary.LittleEndian.Uint64(trailer[len(segmentTrailer)+8:])
	if start < uint64(len(segmentHeader)) || start > uint64(at) ||
		uint64(at)-start != count*uint64(entrySize) || count > uint64(at) {
		return errCorrupt
	}
	s.log, s.index = s.data[:start], s.data[start:at]
	return nil
}

// guard turns the fault that reading a mapped file raises when the disk fails,
// or the file is cut short, into an error.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if e := recover(); e != nil {
			if _, fault := e.(interface{ Addr() uintptr }); !fault {
				panic(e)
			}
			err = fmt.Errorf("reading a mapped file: %v", e)
		}
	}()
	return f()
}

func (s *segment) len() int { return len(s.index) / entrySize }

func (s *segment) key(i int) []byte { return s.index[i*entrySize:][:keySize] }

// record returns the record of the i-th key, nil when it is corrupt.
func (s *segment) record(i int) (whole, payload []byte) {
	offset := binary.LittleEndian.Uint64(s.index[i*entrySize+keySize:])
	if offset >= uint64(len(s.log)) {
		return nil, nil
	}
	k, payload, n := parseRecord(s.log[offset:])
	if n == 0 || !bytes.Equal(k[:], s.key(i)) {
		return nil, nil
	}
	return s.log[offset:][:n], payload
}

// get returns a copy of the value of a key, nil when there is none.
func (s *segment) get(k Key) (v []byte, ok bool, err error) {
	err = guard(func() error {
		i, found := s.find(k)
		if !found {
			return nil
		}
		whole, payload := s.record(i)
		if whole == nil {
			return fmt.Errorf("reading record %x of %s: %w", k, s.path, errCorrupt)
		}
		v, ok = append([]byte{}, payload...), true
		return nil
	})
	return v, ok, err
}

// find looks a key up. Keys are hashes, spread evenly, so that guessing the
// place from the value touches a few pages where halving touches twenty; keys
// that are not are found by halving in the end.
func (s *segment) find(k Key) (int, bool) {
	const guesses = 8
	lo, hi := 0, s.len()
	want := binary.BigEndian.Uint64(k[:])
	low, high := uint64(0), ^uint64(0) // what lies at lo and hi
	for step := 0; lo < hi; step++ {
		mid := lo + (hi-lo)/2
		if step < guesses && low < high && low <= want && want <= high {
			share := float64(want-low) / float64(high-low)
			mid = min(hi-1, lo+int(share*float64(hi-lo)))
		}
		at := s.key(mid)
		switch bytes.Compare(at, k[:]) {
		case 0:
			return mid, true
		case -1:
			lo, low = mid+1, binary.BigEndian.Uint64(at)
		default:
			hi, high = mid, binary.BigEndian.Uint64(at)
		}
	}
	return 0, false
}

func (s *segment) close() { unmap(s.data) }

// merge writes a segment with the records of several, of which the later win.
// It holds one record at a time: records are written in order of their keys, so
// that a second pass over them yields the index. Corrupt records are left out.
func merge(fsys FS, segments []*segment, path string) error {
	tmp := filepath.Join(filepath.Dir(path), ".tmp-"+filepath.Base(path))
	f, err := fsys.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	err = guard(func() error { return mergeInto(f, segments) })
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fsys.Rename(tmp, path)
	}
	if err != nil {
		_ = fsys.Remove(tmp)
	}
	return err
}

func mergeInto(f File, segments []*segment) error {
	w := bufio.NewWriterSize(f, 1<<20)
	w.WriteString(segmentHeader)
	at := make([]int, len(segments))
	for {
		var least []byte
		for i, s := range segments {
			if at[i] < s.len() && (least == nil || bytes.Compare(s.key(at[i]), least) < 0) {
				least = s.key(at[i])
			}
		}
		if least == nil {
			break
		}
		var record []byte
		for i, s := range segments {
			if at[i] == s.len() || !bytes.Equal(s.key(at[i]), least) {
				continue
			}
			if whole, _ := s.record(at[i]); whole != nil {
				record = whole
			}
			at[i]++
		}
		if _, err := w.Write(record); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	written, err := mapFile(f)
	if err != nil {
		return err
	}
	defer unmap(written)
	var end int64
	if err := seal(f, int64(len(written)), records(written, &end)); err != nil {
		return err
	}
	if end != int64(len(written)) {
		return fmt.Errorf("reading back what was merged: %w", errCorrupt)
	}
	return nil
}
