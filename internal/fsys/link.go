package fsys

import (
	"errors"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"
)

// LinkNew gives a file a second name, in another directory or in its own, and never
// over something: a name that is taken is an error that matches [fs.ErrExist]. The
// folder of the new name must exist. Across file systems, where there are no hard
// links, and between Roots of another package, the error is syscall.EXDEV. A symbolic
// link gets another name, and is not followed.
func LinkNew(from Root, old string, to Root, new string) error {
	err := linkBetween(from, old, to, new)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errors.ErrUnsupported) || errors.Is(err, unix.EPERM):
		err = syscall.EXDEV
	}
	return &os.LinkError{Op: "link", Old: old, New: new, Err: err}
}

func linkBetween(from Root, old string, to Root, new string) error {
	src, err := openDir(from, path.Dir(old))
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := openDir(to, path.Dir(new))
	if err != nil {
		return err
	}
	defer dst.Close()
	return unix.Linkat(int(src.Fd()), path.Base(old), int(dst.Fd()), path.Base(new), 0)
}
