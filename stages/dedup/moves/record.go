package moves

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/pipeline"
)

// The events of a record's lines. Those of a run are in this order: all that is
// intended, begin, and then what becomes of it. Without begin, nothing was done.
const (
	intended = "intend"
	begun    = "begin"
	doing    = "doing" // the next is the first file of a picture that is to be deleted
	done     = "done"
	left     = "left"
	ended    = "end"
	restored = "restored"
)

// The kinds of files.
const (
	kindImage   = "image"
	kindLQ      = "lq"
	kindSidecar = "sidecar"
)

// line is one of a record. Paths are raw here, and percent-encoded in the file.
type line struct {
	Event string `json:"event"`
	Run   string `json:"run"`           // the time of the run
	N     int64  `json:"n,omitempty"`   // number of the file in the run, from 1
	Job   int64  `json:"job,omitempty"` // number of its picture in the run, from 1

	// Of what is intended.
	Action     Action          `json:"action,omitempty"`
	Kind       string          `json:"kind,omitempty"`
	Pair       string          `json:"pair,omitempty"` // hq or lq
	ID         string          `json:"id,omitempty"`
	Keeper     string          `json:"keeper,omitempty"`
	Root       string          `json:"root,omitempty"`   // of the source, absolute
	Source     string          `json:"source,omitempty"` // relative to it
	Target     string          `json:"target,omitempty"` // relative to the folder that files go to
	Size       int64           `json:"size,omitempty"`
	SHA256     sum             `json:"sha256,omitzero"`
	Time       int64           `json:"time,omitempty"` // of the last change, ns
	KeeperPath string          `json:"keeper_path,omitempty"`
	KeeperSize int64           `json:"keeper_size,omitempty"`
	KeeperSum  sum             `json:"keeper_sha256,omitzero"`
	KeeperOf   string          `json:"keeper_index,omitempty"` // the folder of the index that the keeper is from
	Explained  json.RawMessage `json:"explained,omitempty"`    // Job.Explained

	// Of begin.
	Folder    string `json:"folder,omitempty"` // that files go to
	Files     int64  `json:"files,omitempty"`
	Images    int64  `json:"images,omitempty"`
	Confirmed *int64 `json:"delete_count,omitempty"`

	Why string `json:"why,omitempty"` // of left
	To  string `json:"to,omitempty"`  // of restored, absolute; empty: a copy was removed
}

// sum is a SHA-256, which is hexadecimal in JSON.
type sum [sha256.Size]byte

func (s sum) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, s[:]), nil }

func (s *sum) UnmarshalText(text []byte) error {
	if len(text) != 2*len(s) {
		return errors.New("it is no SHA-256")
	}
	_, err := hex.Decode(s[:], text)
	return err
}

// paths are the fields that are percent-encoded in the file.
func (l *line) paths() []*string {
	return []*string{&l.Root, &l.Source, &l.Target, &l.KeeperPath, &l.KeeperOf, &l.Folder, &l.To}
}

// place is where the file was.
func (l *line) place() string { return filepath.Join(l.Root, filepath.FromSlash(l.Source)) }

func encode(l line) ([]byte, error) {
	for _, p := range l.paths() {
		*p = pipeline.EscapeID(*p)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(l)
	return b.Bytes(), err
}

// decode reads a line, and reports false for one that no run has written: half a line
// of a process that was killed, or somebody else's.
func decode(text []byte) (l line, ok bool) {
	if json.Unmarshal(text, &l) != nil || l.Run == "" {
		return l, false
	}
	for _, p := range l.paths() {
		raw, err := pipeline.UnescapeID(*p)
		if err != nil || strings.ContainsRune(raw, 0) {
			return l, false
		}
		*p = raw
	}
	switch l.Event {
	case intended:
		return l, l.sound()
	case begun, doing, done, left, ended, restored:
		return l, true
	}
	return l, false
}

// sound tells whether an intended operation is one that a run can have written.
func (l *line) sound() bool {
	switch l.Action {
	case Move, Copy, Hardlink:
		if !isName(l.Target) || path.Ext(l.Target) != path.Ext(l.Source) {
			return false
		}
	case Delete:
	default:
		return false
	}
	known := l.Kind == kindImage || l.Kind == kindLQ || l.Kind == kindSidecar
	return known && l.Size >= 0 && l.SHA256 != sum{} && filepath.IsAbs(l.Root) && isName(l.Source)
}

// isName tells whether a name is a plain one that stays in its folder.
func isName(name string) bool {
	return name != "." && path.Clean(name) == name && filepath.IsLocal(filepath.FromSlash(name))
}

// record is the file that everything is written to.
type record struct {
	root fsys.Root
	name string
	file fsys.File     // nil: it is only read
	w    *bufio.Writer // to it
	lock io.Closer
	at   int64 // bytes of the file, with those that are not flushed
}

// openRecord opens the record file for adding lines, or to read it alone.
func openRecord(files fsys.FS, file string, add bool) (*record, error) {
	root, err := files.OpenRoot(filepath.Dir(file))
	if err != nil {
		return nil, fmt.Errorf("opening the folder of the record: %w", err)
	}
	r := &record{root: root, name: filepath.Base(file)}
	if err := r.open(file, add); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *record) open(file string, add bool) error {
	info, err := r.root.Lstat(r.name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && add:
	case err != nil:
		return fmt.Errorf("opening the record: %w", err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("the record %s is not a regular file", file)
	}
	if !add {
		return nil
	}
	if r.file, err = r.root.Append(r.name); err != nil {
		return fmt.Errorf("opening the record: %w", err)
	}
	if r.lock, err = lockFile(file); err != nil {
		return err
	}
	r.w = bufio.NewWriter(r.file)
	return r.mend()
}

// mend ends a last line that was torn, so that the next one begins a line.
func (r *record) mend() error {
	info, err := r.root.Lstat(r.name) // whoever had the lock before may have added to it
	if err != nil {
		return fmt.Errorf("reading the record: %w", err)
	}
	if r.at = info.Size(); r.at == 0 {
		return nil
	}
	f, err := r.root.Open(r.name)
	if err != nil {
		return fmt.Errorf("reading the record: %w", err)
	}
	defer f.Close()
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, r.at-1); err != nil {
		return fmt.Errorf("reading the record: %w", err)
	}
	if last[0] == '\n' {
		return nil
	}
	r.at++
	return r.fault(r.w.WriteByte('\n'))
}

func (r *record) fault(err error) error {
	if err != nil {
		return fmt.Errorf("writing the record %s: %w", filepath.Join(r.root.Name(), r.name), err)
	}
	return nil
}

// add writes a line, which is in the file after flush.
func (r *record) add(l line) error {
	b, err := encode(l)
	if err == nil {
		r.at += int64(len(b))
		_, err = r.w.Write(b)
	}
	return r.fault(err)
}

// flush hands what was added to the system: it survives this process.
func (r *record) flush() error { return r.fault(r.w.Flush()) }

// sync makes what was added durable.
func (r *record) sync() error {
	err := r.flush()
	if err == nil {
		err = r.fault(r.file.Sync())
	}
	return err
}

func (r *record) close() error {
	var err error
	if r.file != nil {
		if r.w != nil {
			err = r.w.Flush()
		}
		err = errors.Join(err, r.file.Close())
	}
	if r.lock != nil {
		r.lock.Close()
	}
	return errors.Join(err, r.root.Close())
}

// spool is what is going to happen, which is no part of the record before all of it is known.
type spool struct {
	rec  *record
	name string
	file fsys.File     // nil: there is nothing in it yet
	w    *bufio.Writer // to it
}

// spool removes what a process that was killed has left of one.
func (r *record) spool() (*spool, error) {
	s := &spool{rec: r, name: ".forgepipe-intended-" + r.name + ".tmp"}
	if err := r.root.Remove(s.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("removing what an earlier run left beside the record: %w", err)
	}
	return s, nil
}

func (s *spool) add(l line) (err error) {
	if s.file == nil {
		if s.file, err = s.rec.root.Create(s.name); err != nil {
			return fmt.Errorf("making a file beside the record: %w", err)
		}
		s.w = bufio.NewWriter(s.file)
	}
	b, err := encode(l)
	if err == nil {
		_, err = s.w.Write(b)
	}
	return s.rec.fault(err)
}

// take adds what a spool has to the record, and returns where that begins.
func (r *record) take(s *spool) (from int64, err error) {
	from = r.at
	if s.file == nil {
		return from, nil
	}
	if err := s.w.Flush(); err != nil {
		return from, r.fault(err)
	}
	f, err := r.root.Open(s.name)
	if err != nil {
		return from, fmt.Errorf("reading what is going to happen: %w", err)
	}
	defer f.Close()
	n, err := io.Copy(r.w, f)
	r.at += n
	if err != nil {
		return from, r.fault(err)
	}
	return from, s.drop()
}

// drop removes the file.
func (s *spool) drop() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return errors.Join(err, s.rec.root.Remove(s.name))
}

// mostLine bounds a line: a path has at most some thousand bytes.
const mostLine = 1 << 20

// errEnough ends reading.
var errEnough = errors.New("enough")

// lines yields the lines from an offset on that can be read, with where they begin.
// errEnough of yield ends it without an error.
func (r *record) lines(from int64, yield func(at int64, l *line) error) error {
	f, err := r.root.Open(r.name)
	if err != nil {
		return fmt.Errorf("reading the record: %w", err)
	}
	defer f.Close()
	in := bufio.NewReaderSize(io.NewSectionReader(f, from, math.MaxInt64-from), 1<<16)
	var text []byte
	for at := from; ; {
		part, err := in.ReadSlice('\n')
		at += int64(len(part))
		if len(text) <= mostLine { // more of it is not wanted
			text = append(text, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("reading the record: %w", err)
		}
		if l, ok := decode(text); ok {
			if yerr := yield(at-int64(len(text)), &l); yerr != nil {
				if errors.Is(yerr, errEnough) {
					return nil
				}
				return yerr
			}
		}
		if err != nil { // the end; a line without one is torn, or whole and only not ended
			return nil
		}
		text = text[:0]
	}
}

// group is what is intended with a picture, from the offset of its first line on.
func (r *record) group(at int64) (all []line, err error) {
	err = r.lines(at, func(_ int64, l *line) error {
		if l.Event != intended || len(all) > 0 && (l.Run != all[0].Run || l.Job != all[0].Job) {
			return errEnough
		}
		all = append(all, *l)
		return nil
	})
	return all, err
}

// key stands for a path.
type key [16]byte

func keyOf(file string) key {
	h := sha256.Sum256([]byte(file))
	return key(h[:])
}

// lockFile keeps other processes from working with the record. The system gives the
// lock back when the process ends, however it does.
func lockFile(file string) (io.Closer, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("locking the record: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		err = ErrLocked
	default:
		err = fmt.Errorf("locking the record %s (keep it on a local disk): %w", file, err)
	}
	f.Close()
	return nil, err
}
