//go:build unix

package fsys

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// linkNew gives a file its new name beside the old one, and takes the old one
// away: a link never replaces anything. errors.ErrUnsupported says that the file
// system has none, or that it is a folder.
func linkNew(src *os.File, old string, dst *os.File, new string) error {
	err := unix.Linkat(int(src.Fd()), old, int(dst.Fd()), new, 0)
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EMLINK) {
		return errors.ErrUnsupported
	}
	if err != nil {
		return err
	}
	return unix.Unlinkat(int(src.Fd()), old, 0)
}
