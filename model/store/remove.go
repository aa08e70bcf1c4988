package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
)

// RemoveOptions say what Remove removes beside a model's files.
type RemoveOptions struct {
	Forget bool // also its record, so that the next fetch may get other bytes
}

// Remove removes the files of a model, and what there is of one that was not fetched to
// its end. The record of one that can be fetched stays, unless it is to be forgotten: the
// next fetch gets the same bytes. freed is what the files took. Files in its folder that
// the store does not know stay.
func (s *Store) Remove(ctx context.Context, name string, o RemoveOptions) (freed int64, err error) {
	r, err := s.readRecords()
	if err != nil {
		return 0, err
	}
	rec, recorded := r.Models[name]
	e, known := s.registry.Find(name)
	if !known && !recorded {
		return 0, s.unknown(name, r)
	}
	root, err := s.fs.OpenRoot(s.dir)
	if err != nil {
		return 0, fmt.Errorf("opening the store of models: %w", err)
	}
	defer func() { _ = root.Close() }() // nothing was written through it that has not been closed
	unlock, err := s.tryLock(root, name)
	if err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return 0, &BusyError{name}
		}
		return 0, err
	}
	defer unlock()
	var names []string
	for _, f := range rec.Files {
		names = append(names, name+"/"+f.Name)
	}
	parts, err := root.ReadDir(partialDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("removing the model %s: %w", name, err)
	}
	for _, p := range parts {
		if of, _, _ := strings.Cut(p.Name(), "."); of == name {
			names = append(names, partialDir+"/"+p.Name())
		}
	}
	for _, n := range names {
		if info, err := root.Lstat(n); err == nil {
			freed += info.Size()
		}
		if err := drop(root, n); err != nil {
			return 0, fmt.Errorf("removing the model %s: %w", name, err)
		}
	}
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return 0, fmt.Errorf("removing the model %s: %w", name, err)
	}
	if recorded && (o.Forget || !known || len(e.URLs) == 0) {
		err = s.updateRecords(ctx, root, func(m map[string]Record) { delete(m, name) })
	}
	return freed, err
}
