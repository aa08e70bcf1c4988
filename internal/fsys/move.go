package fsys

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// folder is a Root that can hand out its folders to the operating system.
type folder interface {
	openDir(name string) (*os.File, error)
}

func (r *osRoot) openDir(name string) (*os.File, error) { return r.root.Open(name) }

func (r *faultyRoot) openDir(name string) (*os.File, error) {
	if _, err := r.f.step("rename", name); err != nil {
		return nil, err
	}
	return openDir(r.Root, name)
}

// openDir is errors.ErrUnsupported for a Root of another package.
func openDir(r Root, name string) (*os.File, error) {
	f, ok := r.(folder)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return f.openDir(name)
}

// MoveNew moves a file from one directory to another, or within one, and never
// over something: a name that is taken is an error that matches [fs.ErrExist]. On
// Linux that is one step; where the file system cannot do it, the file has both
// names for a moment. The folder of the new name must exist. Across file systems,
// and between Roots of another package, the error is syscall.EXDEV. A symbolic
// link is moved, and not followed.
//
// Within a Root of another package, and on file systems without hard links as
// well, the name is looked at before the file is renamed.
func MoveNew(from Root, old string, to Root, new string) error {
	src, err := openDir(from, path.Dir(old))
	if errors.Is(err, errors.ErrUnsupported) {
		return renameIfFree(from, old, to, new)
	}
	if err != nil {
		return err
	}
	defer src.Close()
	dst := src
	if from != to || path.Dir(old) != path.Dir(new) {
		if dst, err = openDir(to, path.Dir(new)); err != nil {
			if errors.Is(err, errors.ErrUnsupported) {
				err = syscall.EXDEV
			}
			return wrapMove(err, old, new)
		}
		defer dst.Close()
	}
	err = renameNew(src, path.Base(old), dst, path.Base(new))
	if errors.Is(err, errors.ErrUnsupported) {
		err = linkNew(src, path.Base(old), dst, path.Base(new))
	}
	if err == nil || !errors.Is(err, errors.ErrUnsupported) {
		return wrapMove(err, old, new)
	}
	// Nobody but a stranger to this program can make the name between the two.
	if err := free(to, new); err != nil {
		return wrapMove(err, old, new)
	}
	return wrapMove(rename(src, path.Base(old), dst, path.Base(new)), old, new)
}

// renameIfFree is MoveNew by what every Root can do.
func renameIfFree(from Root, old string, to Root, new string) error {
	if from.Name() != to.Name() { // a Root need not be comparable
		return wrapMove(syscall.EXDEV, old, new)
	}
	if err := free(to, new); err != nil {
		return wrapMove(err, old, new)
	}
	return from.Rename(old, new)
}

// free is nil when nothing has that name.
func free(r Root, name string) error {
	_, err := r.Lstat(name)
	switch {
	case err == nil:
		return fs.ErrExist
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return err
}

func wrapMove(err error, old, new string) error {
	if err == nil {
		return nil
	}
	return &os.LinkError{Op: "rename", Old: old, New: new, Err: err}
}
