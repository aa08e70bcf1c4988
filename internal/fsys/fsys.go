package fsys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// FS opens directories.
type FS interface {
	// OpenRoot opens the directory dir, which is made with its parents if it
	// is missing.
	OpenRoot(dir string) (Root, error)
}

// Root is one open directory. Names are slash-separated, relative and local:
// one that would leave the directory, also through a symbolic link, is an
// error. A Root may be used from several goroutines.
type Root interface {
	// Name is the directory as it was given to OpenRoot.
	Name() string
	// Create makes a new file for writing; its directory must exist. A name
	// that is taken is an error that matches [fs.ErrExist].
	Create(name string) (File, error)
	// Append opens a file for writing at its end and makes it if it is missing.
	Append(name string) (File, error)
	// Open opens a file for reading.
	Open(name string) (File, error)
	// Allocate makes a new file of so many bytes, which are zero and have their
	// place on the disk: changing them through Map cannot fail for want of room. A
	// disk without room for them is a [*NoRoomError], and nothing is left of the file.
	Allocate(name string, bytes int64) error
	// Map maps the first bytes of a file, which has as many, into memory, to be read
	// and changed there. Where the system cannot, see [CanMap], the error matches
	// [errors.ErrUnsupported].
	Map(name string, bytes int64) (*Mapping, error)
	// Free is how many bytes the file system that holds the directory still takes.
	// Where the system does not tell, the error matches [errors.ErrUnsupported].
	Free() (int64, error)
	// Rename moves a file within the directory and replaces what is there.
	Rename(old, new string) error
	Remove(name string) error
	// MkdirAll makes a directory with its parents; one that exists is fine.
	MkdirAll(dir string) error
	// Lstat describes a name without following a link in its last component.
	Lstat(name string) (fs.FileInfo, error)
	// ReadDir lists a directory ("." is the root itself), sorted by name.
	ReadDir(name string) ([]fs.DirEntry, error)
	// SyncFS writes everything pending on the file system that holds the
	// directory to stable storage, and reports write-back errors that happened
	// since the directory was opened.
	SyncFS() error
	Close() error
}

// File is an open file. One from Create or Append cannot be read, one from
// Open cannot be written.
type File interface {
	io.Reader
	io.Writer
	io.ReaderAt
	io.Closer
	Sync() error
	Stat() (fs.FileInfo, error)
}

// OS is the real file system.
var OS FS = osFS{}

var _ Root = (*osRoot)(nil)

type osFS struct{}

func (osFS) OpenRoot(dir string) (Root, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("making directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening directory: %w", err)
	}
	// One handle is kept for syncfs, because the kernel reports a write-back
	// error through a handle only when the handle was opened before the error
	// was first seen by anybody.
	self, err := root.Open(".")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening directory: %w", err), root.Close())
	}
	return &osRoot{root: root, self: self, name: dir}, nil
}

type osRoot struct {
	root *os.Root
	self *os.File
	name string

	closeOnce sync.Once
	closeErr  error
}

func (r *osRoot) Name() string { return r.name }

func (r *osRoot) Create(name string) (File, error) {
	return open(r.root, name, os.O_CREATE|os.O_EXCL|os.O_WRONLY)
}

func (r *osRoot) Append(name string) (File, error) {
	return open(r.root, name, os.O_CREATE|os.O_APPEND|os.O_WRONLY)
}

func (r *osRoot) Open(name string) (File, error) { return open(r.root, name, os.O_RDONLY) }

// open keeps a nil *os.File from becoming a File that is not nil.
func open(root *os.Root, name string, flag int) (File, error) {
	f, err := root.OpenFile(name, flag, 0o666)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (r *osRoot) Allocate(name string, bytes int64) error {
	f, err := r.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	// First of all, as trying would take all that there is from everybody for a while.
	free, freeErr := r.Free()
	if freeErr == nil && free < bytes {
		err = syscall.ENOSPC
	} else {
		err = allocate(f, bytes)
	}
	if IsFull(err) && freeErr == nil {
		err = &NoRoomError{Need: bytes, Free: free, Err: err}
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return errors.Join(&fs.PathError{Op: "allocate", Path: name, Err: err}, r.root.Remove(name))
	}
	return nil
}

func (r *osRoot) Map(name string, bytes int64) (*Mapping, error) {
	f, err := r.root.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && (info.Size() < bytes || bytes <= 0) {
		// Beyond the end of the file, looking would end the program.
		err = fmt.Errorf("%d bytes of a file of %d", bytes, info.Size())
	}
	var m *Mapping
	if err == nil {
		m, err = mapFile(f, bytes)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "map", Path: name, Err: err}
	}
	return m, nil
}

func (r *osRoot) Free() (int64, error) {
	n, err := freeBytes(r.self)
	if err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: r.name, Err: err}
	}
	return n, nil
}

func (r *osRoot) Rename(old, new string) error           { return r.root.Rename(old, new) }
func (r *osRoot) Remove(name string) error               { return r.root.Remove(name) }
func (r *osRoot) MkdirAll(dir string) error              { return r.root.MkdirAll(dir, 0o777) }
func (r *osRoot) Lstat(name string) (fs.FileInfo, error) { return r.root.Lstat(name) }

func (r *osRoot) ReadDir(name string) ([]fs.DirEntry, error) {
	d, err := r.root.Open(name)
	if err != nil {
		return nil, err
	}
	entries, err := d.ReadDir(-1)
	if err := errors.Join(err, d.Close()); err != nil {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

func (r *osRoot) SyncFS() error {
	if err := syncFS(r.self); err != nil {
		return &fs.PathError{Op: "syncfs", Path: r.name, Err: err}
	}
	return nil
}

// Close may be called more than once.
func (r *osRoot) Close() error {
	r.closeOnce.Do(func() { r.closeErr = errors.Join(r.self.Close(), r.root.Close()) })
	return r.closeErr
}

// IsFatal reports whether err makes the rest of a run pointless: the disk or
// the quota is full, the file system has become read-only, or the device fails.
// Anything else concerns one file.
func IsFatal(err error) bool {
	return IsFull(err) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EIO)
}

// IsFull reports whether err says that the disk or the quota is full.
func IsFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// NoRoomError says that a file does not fit on its disk.
type NoRoomError struct {
	Need int64 // bytes of the file
	Free int64 // bytes that the disk, or the quota, has left at most
	Err  error // of the system, such as ENOSPC
}

func (e *NoRoomError) Error() string {
	return fmt.Sprintf("%v: the file needs %d bytes and the disk has %d", e.Err, e.Need, e.Free)
}

func (e *NoRoomError) Unwrap() error { return e.Err }
