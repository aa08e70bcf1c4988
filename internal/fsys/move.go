package fsys

import (
	"errors"
	"io/fs"
	"os"
	"path"
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
	return r.Root.(folder).openDir(name)
}

// MoveNew moves a file from one directory to another, or within one, in one step
// and never over something: a name that is taken is an error that matches
// [fs.ErrExist]. The folder of the new name must exist. Across file systems the
// error is syscall.EXDEV. A symbolic link is moved, and not followed.
func MoveNew(from Root, old string, to Root, new string) error {
	src, err := from.(folder).openDir(path.Dir(old))
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := to.(folder).openDir(path.Dir(new))
	if err != nil {
		return err
	}
	defer dst.Close()
	err = renameNew(src, path.Base(old), dst, path.Base(new))
	if err == nil || !errors.Is(err, errors.ErrUnsupported) {
		return wrapMove(err, old, new)
	}
	// The file system cannot do it in one step. Nobody but a stranger to this
	// program can make the name between the two.
	if _, err := to.Lstat(new); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fs.ErrExist
		}
		return wrapMove(err, old, new)
	}
	return wrapMove(rename(src, path.Base(old), dst, path.Base(new)), old, new)
}

func wrapMove(err error, old, new string) error {
	if err == nil {
		return nil
	}
	return &os.LinkError{Op: "rename", Old: old, New: new, Err: err}
}
