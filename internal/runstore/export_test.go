package runstore

import "testing"

const QueueRows = queueRows

// SetFilesystemType makes every folder seem to be on a file system of this type.
func SetFilesystemType(t *testing.T, kind int64) {
	before := filesystemType
	filesystemType = func(string) (int64, error) { return kind, nil }
	t.Cleanup(func() { filesystemType = before })
}

// Queued returns how many rows and sources wait for the committer.
func (s *Store) Queued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queue.size
}

// SetSegmentKeys makes logs be sealed at n keys.
func SetSegmentKeys(t *testing.T, n int) {
	before := segmentKeys
	segmentKeys = n
	t.Cleanup(func() { segmentKeys = before })
}

// Missing returns how many rows and sources the store believes are unseen.
func (s *Store) Missing() (rows, sources int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seenRows.missing, s.seenFiles.missing
}
