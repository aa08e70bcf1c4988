package store

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forgepipe/forgepipe/internal/fsys"
)

// DefaultMaxBytes is how large a file may be whose size no registry states.
const DefaultMaxBytes = 8 << 30

// FetchOptions say how a model is fetched. The zero value is ready.
type FetchOptions struct {
	// MaxBytes is how large a file may be whose size the registry does not state;
	// 0 is DefaultMaxBytes.
	MaxBytes int64
	// Progress is called often, by the goroutine that fetches, and must not block.
	Progress func(Progress)
	// RootCAs are the certificates that servers and proxies are checked by; nil: the
	// system's.
	RootCAs *x509.CertPool
	// Allow tells of an address that is not public whether it may be connected to all
	// the same: a mirror in one's own network. Nil: none may.
	Allow func(netip.AddrPort) bool

	// For tests.
	proxy func(*http.Request) (*url.URL, error)
	pause func(context.Context, time.Duration) error
	idle  time.Duration
	boot  string // "": the one of this machine
}

// Progress is how far the fetching of a model is.
type Progress struct {
	Name    string // of the model
	Done    int64  // bytes, those of earlier runs too
	Total   int64  // bytes; 0: not known
	Waiting bool   // for another process that fetches it
}

// Fetch brings a model into the store, or sees that it is there: the file of a model that
// is there is compared with its hash, and fetched again when it is not right. The hash is
// the registry's, else the one that models.lock has from the first time. fetched tells
// whether anything had to be done.
//
// What has been fetched of a file that does not come to its end is kept, and the next
// Fetch goes on there; of one whose hash is not known only until the system is started
// anew, since nothing tells then whether the disk has it all. Of two processes one fetches, and the other one waits for it.
func (s *Store) Fetch(ctx context.Context, name string, o FetchOptions) (rec Record, fetched bool, err error) {
	e, known := s.registry.Find(name)
	before, err := s.readRecords()
	if err != nil {
		return Record{}, false, err
	}
	if !known {
		if _, ok := before.Models[name]; ok {
			return Record{}, false, s.missing(name, "no registry says where it can be fetched")
		}
		return Record{}, false, s.unknown(name, before)
	}
	root, err := s.fs.OpenRoot(s.dir)
	if err != nil {
		return Record{}, false, fmt.Errorf("opening the store of models: %w", err)
	}
	defer func() { _ = root.Close() }() // nothing was written through it that has not been closed
	waiting := func() {
		if o.Progress != nil {
			o.Progress(Progress{Name: name, Total: e.Size, Waiting: true})
		}
	}
	unlock, err := s.lock(ctx, root, name, waiting)
	if err != nil {
		return Record{}, false, err
	}
	defer unlock()
	now, err := s.readRecords()
	if err != nil {
		return Record{}, false, err
	}
	old, recorded := now.Models[name]
	if recorded && (e.SHA256 == "" || old.Files[0].SHA256 == e.SHA256) {
		if s.right(ctx, name, old) {
			return old, false, drop(root, partialDir+"/"+name, partialDir+"/"+name+".json")
		}
		if ctx.Err() != nil {
			return Record{}, false, context.Cause(ctx)
		}
	}
	if len(e.URLs) == 0 {
		return Record{}, false, &BringError{e}
	}
	d := &download{store: s, root: root, entry: e, o: o, size: e.Size, hash: e.SHA256, hashFrom: "the registry"}
	if d.hash == "" && recorded {
		d.size, d.hash, d.hashFrom = old.Files[0].Size, old.Files[0].SHA256, "the first time ("+recordsName+")"
	}
	rec, err = d.run(ctx)
	if err != nil {
		return Record{}, false, s.explain(err)
	}
	return rec, true, nil
}

// right tells whether all files of a model are as recorded, by their hashes.
func (s *Store) right(ctx context.Context, name string, r Record) bool {
	for _, f := range r.Files {
		if s.check(ctx, name, f, true) != nil {
			return false
		}
	}
	return true
}

// explain says of a full disk what to do.
func (s *Store) explain(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w (%w)", &SpaceError{Dir: s.dir, Free: -1}, err)
	}
	return err
}

// room refuses what the disk has no room for.
func (s *Store) room(need int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return nil // then writing tells
	}
	if free := int64(st.Bavail) * st.Bsize; need > free {
		return &SpaceError{Dir: s.dir, Free: free, Need: need}
	}
	return nil
}

// settle puts a verified partial file in its place, and records it. It is recorded first:
// should this be the last thing that the machine does, the next time finds the hash, and
// beside it a partial file that is whole.
func (s *Store) settle(ctx context.Context, root fsys.Root, name string, rec Record, parts []string) error {
	for i := range rec.Files {
		info, err := root.Lstat(parts[i])
		if err != nil {
			return err
		}
		rec.Files[i].Modified = info.ModTime()
	}
	r, err := s.readRecords()
	if err != nil {
		return err
	}
	if err := s.strangers(ctx, name, rec, r.Models[name]); err != nil {
		return err
	}
	var old Record
	err = s.updateRecords(ctx, root, func(m map[string]Record) { old, m[name] = m[name], rec })
	if err != nil {
		return err
	}
	if err := root.MkdirAll(name); err != nil {
		return err
	}
	for i, f := range rec.Files {
		if err := root.Rename(parts[i], name+"/"+f.Name); err != nil {
			return fmt.Errorf("putting the model %s in place: %w", name, err)
		}
	}
	for _, f := range old.Files {
		if !slices.ContainsFunc(rec.Files, func(g File) bool { return g.Name == f.Name }) {
			if err := drop(root, name+"/"+f.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// strangers refuses to replace files that are in no record, and of other bytes: somebody
// has put them there.
func (s *Store) strangers(ctx context.Context, name string, rec, old Record) error {
	for _, f := range rec.Files {
		path := s.path(name, f.Name)
		if !exists(path) || slices.ContainsFunc(old.Files, func(g File) bool { return g.Name == f.Name }) {
			continue
		}
		if s.check(ctx, name, File{Name: f.Name, Size: f.Size, SHA256: f.SHA256}, true) == nil {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("putting the model %s in place: another file is there already, and %s has no record of it: move %s elsewhere, and run again", name, recordsName, path)
	}
	return nil
}

// drop removes a file of the store that may be missing.
func drop(root fsys.Root, names ...string) error {
	for _, n := range names {
		if err := root.Remove(n); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
