//go:build unix && !linux

package fsys

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func renameNew(*os.File, string, *os.File, string) error { return errors.ErrUnsupported }

func rename(src *os.File, old string, dst *os.File, new string) error {
	return unix.Renameat(int(src.Fd()), old, int(dst.Fd()), new)
}
