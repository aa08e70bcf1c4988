package fsys

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// renameNew renames unless the new name is taken; errors.ErrUnsupported says that
// the file system cannot do that.
func renameNew(src *os.File, old string, dst *os.File, new string) error {
	err := unix.Renameat2(int(src.Fd()), old, int(dst.Fd()), new, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return errors.ErrUnsupported
	}
	return err
}

func rename(src *os.File, old string, dst *os.File, new string) error {
	return unix.Renameat(int(src.Fd()), old, int(dst.Fd()), new)
}
