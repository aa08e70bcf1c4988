package runstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Earlier reports whether a row was there when the store was opened.
func (s *Store) Earlier(d Decision) bool { return d.Seq <= s.opened.seq }

// Remove deletes the store and the attributes in a state directory. It takes the
// lock while it does: the error is a *LockedError when another process has it.
// The lock file stays.
func Remove(dir string) error {
	path, lockPath := files(dir)
	held, err := lock(dir, lockPath)
	if err != nil {
		return err
	}
	defer held.Close()
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing the run store: %w", err)
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, "attributes")); err != nil {
		return fmt.Errorf("removing the attributes: %w", err)
	}
	return nil
}
