//go:build !unix

package checkpoint

import (
	"io"
	"os"
)

// mapFile reads the file, where there is no mapping.
func mapFile(f *os.File, size int) (mapping, error) {
	data := make([]byte, size)
	_, err := io.ReadFull(f, data)
	return inMemory(data), err
}
