//go:build !linux

package fsys

import "os"

// syncFS has nothing better elsewhere than the directory's own entries.
func syncFS(dir *os.File) error { return dir.Sync() }
