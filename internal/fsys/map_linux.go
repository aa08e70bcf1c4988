package fsys

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// CanMap tells whether Map works on this system.
const CanMap = true

// A Mapping is a file's bytes in memory. Pages of it that were looked at count as
// memory of the process until Leave. Its methods may be called at any time beside
// each other and beside who reads and writes, but for Close.
type Mapping struct{ data []byte }

func mapFile(f *os.File, bytes int64) (*Mapping, error) {
	at, err := unix.MmapPtr(int(f.Fd()), 0, nil, uintptr(bytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	m := &Mapping{unsafe.Slice((*byte)(at), bytes)}
	// It is mostly gone through from the top. What was seen once then does not count as
	// worth keeping in the page cache of a control group, which is little.
	_ = unix.Madvise(m.data, unix.MADV_SEQUENTIAL)
	return m, nil
}

// Bytes are the file's, to be read and changed.
func (m *Mapping) Bytes() []byte { return m.data }

// Leave takes the pages out of the process's memory, and loses nothing: they are the
// file's, and come back when somebody looks (madvise(2), MADV_DONTNEED, of a shared
// mapping of a file).
func (m *Mapping) Leave() error { return unix.Madvise(m.data, unix.MADV_DONTNEED) }

// Blank lets go of the file and keeps its addresses: who still reads there, against
// what was agreed, gets zeros and not a fault that ends the program. Writing is one.
func (m *Mapping) Blank() error {
	_, err := unix.MmapPtr(-1, 0, unsafe.Pointer(unsafe.SliceData(m.data)), uintptr(len(m.data)),
		unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED|unix.MAP_NORESERVE)
	return err
}

// Close gives the addresses back. Nobody may look there any more.
func (m *Mapping) Close() error {
	return unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(m.data)), uintptr(len(m.data)))
}

// allocate gives a new file its size, and all of it a place.
func allocate(f *os.File, bytes int64) error {
	for {
		switch err := unix.Fallocate(int(f.Fd()), 0, 0, bytes); {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return writeZeros(f, bytes)
		default:
			return err
		}
	}
}

// writeZeros is for file systems that know no other way, such as those of networks.
func writeZeros(f *os.File, bytes int64) error {
	zeros := make([]byte, min(bytes, 1<<20))
	for bytes > 0 {
		n, err := f.Write(zeros[:min(bytes, int64(len(zeros)))])
		if err != nil {
			return err
		}
		bytes -= int64(n)
	}
	return f.Sync() // some say only then that there is no room
}

func freeBytes(dir *os.File) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &s); err != nil {
		return 0, err
	}
	if s.Bsize <= 0 {
		return 0, fmt.Errorf("blocks of %d bytes", s.Bsize)
	}
	return int64(min(s.Bavail, 1<<62/uint64(s.Bsize))) * s.Bsize, nil
}
