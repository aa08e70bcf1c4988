//go:build unix

package checkpoint

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mapFile maps a file that is read only.
func mapFile(f *os.File, size int) (mapping, error) {
	data, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return mapping{}, fmt.Errorf("mapping it: %w", err)
	}
	letGo := func() { _ = unix.Madvise(data, unix.MADV_DONTNEED) } // without it, the system does so when it has to
	return mapping{data, letGo, func() error { return unix.Munmap(data) }}, nil
}
