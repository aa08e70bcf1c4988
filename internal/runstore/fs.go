package runstore

import (
	"io"
	"io/fs"
	"os"
)

// FS is how attribute segments are written, so that tests can make the Nth
// operation fail. Errors are those of package os.
type FS interface {
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Rename(old, new string) error
	Remove(name string) error
	MkdirAll(name string, perm fs.FileMode) error
	Link(old, new string) error
}

// File is what FS opens; *os.File is one.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.Closer
	Sync() error
	Truncate(size int64) error
	Stat() (fs.FileInfo, error)
	Fd() uintptr // to map it into memory
}

// OS is the file system of the operating system.
type OS struct{}

var _ FS = OS{}

// OpenFile is os.OpenFile.
func (OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err // not f: a nil *os.File is not a nil File
	}
	return f, nil
}

// Rename is os.Rename.
func (OS) Rename(old, new string) error { return os.Rename(old, new) }

// Remove is os.Remove.
func (OS) Remove(name string) error { return os.Remove(name) }

// MkdirAll is os.MkdirAll.
func (OS) MkdirAll(name string, perm fs.FileMode) error { return os.MkdirAll(name, perm) }

// Link is os.Link.
func (OS) Link(old, new string) error { return os.Link(old, new) }
