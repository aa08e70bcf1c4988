package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Verdict is what Verify says of a file.
type Verdict struct {
	Name  string // of the model
	Path  string // of its file
	Fault error  // nil: it is as recorded; else what is wrong with it
	Mend  string // what to do about the fault
}

// Verify compares the files of models with their hashes in models.lock: of those that are
// named, else of all that are in the store. A model that was removed, or is not there, is
// a fault only where it is named. Where only a time of modification differs, as after a
// copy, models.lock gets the new one, if it can be written.
func (s *Store) Verify(ctx context.Context, names ...string) ([]Verdict, error) {
	r, err := s.readRecords()
	if err != nil {
		return nil, err
	}
	asked := len(names) > 0
	if !asked {
		names = s.names(records{Models: r.Models})
	}
	var all []Verdict
	stale := map[string]Record{}
	for _, name := range names {
		rec, ok := r.Models[name]
		if !ok {
			if _, known := s.registry.Find(name); !known {
				return nil, s.unknown(name, r)
			}
			if asked {
				all = append(all, s.verdict(name, "", errors.New("it has not been fetched")))
			}
			continue
		}
		if !asked && !exists(filepath.Join(s.dir, name)) {
			continue
		}
		for i, f := range rec.Files {
			err := s.check(ctx, name, f, true)
			if ctx.Err() != nil {
				return all, context.Cause(ctx)
			}
			all = append(all, s.verdict(name, s.path(name, f.Name), err))
			if info, statErr := os.Lstat(s.path(name, f.Name)); err == nil && statErr == nil && !info.ModTime().Equal(f.Modified) {
				rec.Files[i].Modified = info.ModTime()
				stale[name] = rec
			}
		}
	}
	if len(stale) > 0 {
		s.restamp(ctx, stale)
	}
	return all, nil
}

func (s *Store) verdict(name, path string, fault error) Verdict {
	if errors.Is(fault, fs.ErrNotExist) {
		fault = fmt.Errorf("%s is not there", path)
	}
	v := Verdict{Name: name, Path: path, Fault: fault}
	if fault != nil {
		var m *MissingError
		if errors.As(s.missing(name, ""), &m) {
			v.Mend = m.Mend
		}
	}
	return v
}

// restamp is of use and not needed: a store may be one that cannot be written.
func (s *Store) restamp(ctx context.Context, stale map[string]Record) {
	root, err := s.fs.OpenRoot(s.dir)
	if err != nil {
		return
	}
	defer func() { _ = root.Close() }() // nothing was written through it that has not been closed
	_ = s.updateRecords(ctx, root, func(m map[string]Record) {
		for name, rec := range stale {
			if same(m[name], rec) {
				m[name] = rec
			}
		}
	})
}

// same tells whether two records are of the same bytes.
func same(a, b Record) bool {
	if len(a.Files) != len(b.Files) {
		return false
	}
	for i := range a.Files {
		if a.Files[i].Name != b.Files[i].Name || a.Files[i].SHA256 != b.Files[i].SHA256 {
			return false
		}
	}
	return true
}
