package fsys

import (
	"io/fs"
	"sync"
)

var (
	_ FS   = (*Faulty)(nil)
	_ Root = (*faultyRoot)(nil)
	_ File = (*faultyFile)(nil)
)

// Faulty is a file system for tests in which one operation fails. It counts
// everything that changes a disk: opening a root (which may make it), create,
// append, allocate, write, sync, syncfs, rename, remove, mkdir.
type Faulty struct {
	// Sticky makes every counted operation after the failed one fail too, as
	// after a crash. Set it before use.
	Sticky bool

	under FS
	at    int64
	err   error

	mu     sync.Mutex
	count  int64
	failed string
}

// FailAt wraps fs so that its nth counted operation, from 1, fails with err. A
// write that fails has written half of its bytes; anything else that fails has
// done nothing. With n = 0 nothing fails, and Count tells how far a loop over n
// has to go.
func FailAt(fs FS, n int64, err error) *Faulty { return &Faulty{under: fs, at: n, err: err} }

// Count tells how many counted operations there were.
func (f *Faulty) Count() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// Failed describes the operation that failed ("rename a.png"), or is empty.
func (f *Faulty) Failed() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// step counts one operation. first is true for the nth one itself, err is not
// nil for those that have to fail.
func (f *Faulty) step(op, name string) (first bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count++
	first = f.count == f.at
	if first {
		f.failed = op + " " + name
	}
	if first || f.Sticky && f.at > 0 && f.count > f.at {
		return first, &fs.PathError{Op: op, Path: name, Err: f.err}
	}
	return false, nil
}

// OpenRoot is part of [FS].
func (f *Faulty) OpenRoot(dir string) (Root, error) {
	if _, err := f.step("mkdir", dir); err != nil {
		return nil, err
	}
	r, err := f.under.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &faultyRoot{Root: r, f: f}, nil
}

// faultyRoot inherits what only reads.
type faultyRoot struct {
	Root
	f *Faulty
}

func (r *faultyRoot) Create(name string) (File, error) {
	if _, err := r.f.step("create", name); err != nil {
		return nil, err
	}
	return r.wrap(name)(r.Root.Create(name))
}

func (r *faultyRoot) Append(name string) (File, error) {
	if _, err := r.f.step("append", name); err != nil {
		return nil, err
	}
	return r.wrap(name)(r.Root.Append(name))
}

func (r *faultyRoot) Allocate(name string, bytes int64) error {
	if _, err := r.f.step("allocate", name); err != nil {
		return err
	}
	return r.Root.Allocate(name, bytes)
}

func (r *faultyRoot) Open(name string) (File, error) { return r.wrap(name)(r.Root.Open(name)) }

func (r *faultyRoot) wrap(name string) func(File, error) (File, error) {
	return func(file File, err error) (File, error) {
		if err != nil {
			return nil, err
		}
		return &faultyFile{File: file, f: r.f, name: name}, nil
	}
}

func (r *faultyRoot) Rename(old, new string) error {
	if _, err := r.f.step("rename", old); err != nil {
		return err
	}
	return r.Root.Rename(old, new)
}

func (r *faultyRoot) Remove(name string) error {
	if _, err := r.f.step("remove", name); err != nil {
		return err
	}
	return r.Root.Remove(name)
}

func (r *faultyRoot) MkdirAll(dir string) error {
	if _, err := r.f.step("mkdir", dir); err != nil {
		return err
	}
	return r.Root.MkdirAll(dir)
}

func (r *faultyRoot) SyncFS() error {
	if _, err := r.f.step("syncfs", r.Name()); err != nil {
		return err
	}
	return r.Root.SyncFS()
}

type faultyFile struct {
	File
	f    *Faulty
	name string
}

func (x *faultyFile) Write(p []byte) (int, error) {
	first, err := x.f.step("write", x.name)
	if err == nil {
		return x.File.Write(p)
	}
	if !first {
		return 0, err // after the crash nothing reaches the disk any more
	}
	n, werr := x.File.Write(p[:len(p)/2])
	if werr != nil {
		return n, werr
	}
	return n, err
}

func (x *faultyFile) Sync() error {
	if _, err := x.f.step("sync", x.name); err != nil {
		return err
	}
	return x.File.Sync()
}
