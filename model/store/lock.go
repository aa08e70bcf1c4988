package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forgepipe/forgepipe/internal/fsys"
)

// The names in a store that are no models: those of models have no dot.
const (
	recordsName = "models.lock"
	partialDir  = ".partial"
	locksDir    = ".locks"
)

// File is one file of a model, as models.lock records it.
type File struct {
	Name     string    `json:"name"`     // in the model's folder
	Size     int64     `json:"size"`     // in bytes
	SHA256   string    `json:"sha256"`   // in hexadecimal
	Modified time.Time `json:"modified"` // its time of modification: one that has neither changed is taken to be the same
}

// Record is what models.lock says of a model. It stays when the files are removed, so
// that the next fetch gets the same bytes.
type Record struct {
	// Files are its own one, and behind it those that hold weights beside an ONNX file.
	Files  []File    `json:"files"`
	Source string    `json:"source"` // the address that it was fetched from, or the path of a file that was added
	Time   time.Time `json:"time"`   // when
}

// Bytes is what all files take.
func (r Record) Bytes() (n int64) {
	for _, f := range r.Files {
		n += f.Size
	}
	return n
}

// records are the content of models.lock.
type records struct {
	Version int               `json:"version"`
	Models  map[string]Record `json:"models"`
}

const recordsVersion = 1

// maxRecords is what models.lock may take, in bytes: enough for some ten thousand models.
const maxRecords = 16 << 20

// readRecords reads models.lock; none is as good as an empty one. It may come from
// another machine, so that names in it are checked.
func (s *Store) readRecords() (records, error) {
	file := filepath.Join(s.dir, recordsName)
	data, err := readSmall(file, maxRecords)
	r := records{Version: recordsVersion, Models: map[string]Record{}}
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("reading what models the store has: %s: %w", file, err)
	}
	bad := func(err error) error {
		return fmt.Errorf("reading what models the store has: %s: %w: get it back from a copy, or remove it and fetch the models again", file, err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, bad(err)
	}
	if r.Version != recordsVersion {
		return r, bad(fmt.Errorf("it is of version %d, and this forgepipe knows %d", r.Version, recordsVersion))
	}
	if err := r.check(); err != nil {
		return r, bad(err)
	}
	return r, nil
}

// check refuses names that lead elsewhere, and what is no record.
func (r records) check() error {
	for name, m := range r.Models {
		if !nameForm.MatchString(name) || len(m.Files) == 0 {
			return fmt.Errorf("%q is no model", name)
		}
		for _, f := range m.Files {
			if !isFileName(f.Name) || !hashForm.MatchString(f.SHA256) || f.Size < 0 {
				return fmt.Errorf("model %q: %q is no file of it", name, f.Name)
			}
		}
	}
	return nil
}

// updateRecords changes models.lock as a whole, whoever else does the same.
func (s *Store) updateRecords(ctx context.Context, root fsys.Root, change func(map[string]Record)) error {
	unlock, err := s.lock(ctx, root, recordsName, nil)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := s.readRecords()
	if err != nil {
		return err
	}
	change(r.Models)
	if err := r.check(); err != nil { // it would be refused for every model from now on
		return fmt.Errorf("recording models in %s: %w", filepath.Join(s.dir, recordsName), err)
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return replace(root, recordsName, append(data, '\n'))
}

// replace writes a file as a whole: a crash leaves the old one or the new one.
func replace(root fsys.Root, name string, data []byte) error {
	temporary := name + ".tmp"
	if err := root.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.Create(temporary)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = root.Rename(temporary, name)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Join(root.Name(), name), err)
	}
	return nil
}

// lockPause is how often a lock is tried again that another process has.
const lockPause = 50 * time.Millisecond

// lock takes the lock of a name, and waits for it; waiting, if not nil, is called once
// when there is something to wait for. The system gives a lock back when its process
// ends, however it ends. The file stays: to remove it would let two processes lock two
// files of one name.
func (s *Store) lock(ctx context.Context, root fsys.Root, name string, waiting func()) (unlock func(), err error) {
	for {
		unlock, err := s.tryLock(root, name)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return unlock, err
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		if err := sleep(ctx, lockPause); err != nil {
			return nil, err
		}
	}
}

func (s *Store) tryLock(root fsys.Root, name string) (unlock func(), err error) {
	if err := root.MkdirAll(locksDir); err != nil {
		return nil, fmt.Errorf("making the folder of locks in %s: %w", s.dir, err)
	}
	f, err := os.OpenFile(filepath.Join(s.dir, locksDir, name), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, fmt.Errorf("opening a lock: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// copyContext copies until the context ends.
func copyContext(ctx context.Context, w io.Writer, r io.Reader) (int64, error) {
	return io.Copy(w, readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return r.Read(p)
	}))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
