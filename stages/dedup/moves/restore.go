package moves

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/pipeline"
)

// RestoreOptions say which files come back, and where to.
type RestoreOptions struct {
	// Files are where files were (absolute, or relative to the working directory or to
	// the source's root), or where they lie now. A folder stands for what was below it,
	// and * and ? for what is not a slash. With a picture come the files that belong to
	// it.
	Files []string
	All   bool   // everything
	Run   string // only what the run of this time did: Entry.Run
	// Folder is where the files lie; empty: the folder that the record lies in. Nothing
	// that lies elsewhere is touched, whatever the record says.
	Folder string
	// To is a folder for the files, with the tree below the source's root; empty: their
	// own places.
	To     string
	Copies bool        // remove copies and hard links, whose files are still there
	DryRun bool        // say what would be done, and do nothing
	FS     pipeline.FS // of the folders; nil: that of this machine
	// OnFile is told of each file.
	OnFile func(Restored)
}

// Entry is a file that a record tells of.
type Entry struct {
	Run    string `json:"run"`    // the time of the run that did it
	Action Action `json:"action"` // what was done with it
	Kind   string `json:"kind"`   // image, sidecar or lq
	ID     string `json:"id"`     // of the item
	Keeper string `json:"keeper"` // the ID of the item that was kept
	Place  string `json:"place"`  // where it was, absolute
	Path   string `json:"path"`   // where it went, absolute; empty: it was deleted
	Size   int64  `json:"bytes"`  // bytes
}

// Restored is what became of a file that was to be restored.
type Restored struct {
	Entry        // the file as the record tells of it
	To    string `json:"to"` // where it is now, or would be, absolute
	// Fault is why it stays where it is; empty when it came back.
	Fault string `json:"fault,omitempty"`
	// Same says that nothing is done since the very same bytes are there already.
	Same bool `json:"same,omitempty"`
	// Removed says that it was a copy or a hard link, and is gone.
	Removed bool `json:"removed,omitempty"`
	// Copy says that it is a copy or a hard link, and stays: see RestoreOptions.Copies.
	Copy bool `json:"copy,omitempty"`
	// Deleted says that it cannot come back.
	Deleted bool `json:"deleted,omitempty"`
}

// RestoreReport is what Restore did.
type RestoreReport struct {
	Restored int64    `json:"count"`   // files that are back, or would be
	Bytes    int64    `json:"bytes"`   // of these
	Same     int64    `json:"same"`    // whose bytes are there already
	Older    int64    `json:"older"`   // of which another version came back
	Taken    int64    `json:"taken"`   // in whose place something else is
	Failed   int64    `json:"failed"`  // that could not be moved
	Removed  int64    `json:"removed"` // copies and hard links that are gone
	Copies   int64    `json:"copies"`  // copies and hard links that stay
	Deleted  int64    `json:"deleted"` // that cannot come back
	Unknown  []string `json:"unknown"` // files asked for that the record does not tell of
	Faults   []string `json:"faults"`  // the first 100 of taken and failed ones
}

// Restore brings back what was moved, the newest first, and writes that to the record.
// Nothing is ever written over: a file whose place is taken stays where it is. A file
// moves in one step; across file systems it is copied, made durable and compared before
// it goes from the folder.
//
// Of a record it believes little, as it may be somebody else's: only files that lie in
// the folder are touched, and only when they have the bytes that the record tells; they
// go below a source's root that is there, to a name like the one that they have, and
// never through a link that leads out of it. A hidden file or folder is a place for
// pictures and usual sidecars alone.
//
// record is the file, or the folder with a RecordName. The error is ErrLocked when
// another process is at work with it, a [pipeline.OptionError] when the options are
// wrong, and matches fs.ErrNotExist when there is no record; what concerns a single file
// is in the report.
func Restore(ctx context.Context, record string, o RestoreOptions) (*RestoreReport, error) {
	r, err := openRestoring(record, o, !o.DryRun)
	if err != nil {
		return nil, err
	}
	err = r.all(ctx)
	if !o.DryRun && r.moved > 0 {
		err = errors.Join(err, r.settle())
	}
	if err = errors.Join(err, r.close()); err != nil {
		return &r.report, fmt.Errorf("restoring duplicates: %w", err)
	}
	return &r.report, nil
}

// List yields the files that lie where a record says, the newest first, a picture before
// what belongs to it; and those that were deleted, which do not. It changes nothing. Of
// the options, Run, Folder and FS count. An error of yield ends it and is returned.
func List(ctx context.Context, record string, o RestoreOptions, yield func(Entry) error) error {
	o.To, o.Files = "", nil
	r, err := openRestoring(record, o, false)
	if err != nil {
		return err
	}
	defer func() { _ = r.close() }()
	return r.groups(ctx, func(ops []line) error {
		for i := range ops {
			op := &ops[i]
			if !r.first(op) {
				continue
			}
			if op.Action != Delete {
				if _, err := r.from.Lstat(op.Target); err != nil {
					continue
				}
			} else if _, err := os.Lstat(op.place()); err == nil {
				continue
			}
			if err := yield(r.entry(op)); err != nil {
				return err
			}
		}
		return nil
	})
}

// HasRecord tells whether a place is a record, or a folder with one: a file with a line of
// a record at its beginning.
func HasRecord(place string) bool {
	file := RecordFile(place)
	if !hasFile(file) {
		return false
	}
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	begin, err := io.ReadAll(io.LimitReader(f, mostLine))
	for text := range bytes.Lines(begin) {
		if _, ok := decode(text); ok {
			return err == nil
		}
	}
	return false
}

func hasFile(file string) bool {
	info, err := os.Lstat(file)
	return err == nil && info.Mode().IsRegular()
}

// RecordFile is the file of the record in a place that is a folder, otherwise the place.
func RecordFile(place string) string {
	if info, err := os.Stat(place); err == nil && info.IsDir() {
		return filepath.Join(place, RecordName)
	}
	return place
}

// restoring is a Restore under way.
type restoring struct {
	o       RestoreOptions
	folders folders
	rec     *record
	from    fsys.Root // the folder that files went to
	to      fsys.Root // nil: files go to their own places, or in a dry run to a folder that is not there
	report  RestoreReport

	pictures []int64      // where what was intended with each is in the record
	over     map[key]bool // files that came back before
	left     map[key]bool // pictures that were left alone
	seen     map[key]bool // files of lines that were looked at
	back     map[key]bool // places to which files came back
	stays    map[key]bool // places of pictures that could not come back
	asked    []bool       // of the files asked for: something was found
	moved    int64        // files that were moved or removed now
}

func openRestoring(place string, o RestoreOptions, add bool) (r *restoring, err error) {
	if slices.Contains(o.Files, "") {
		return nil, &pipeline.OptionError{Option: "Files", Message: "a file to restore has an empty name: is a variable not set?"}
	}
	if o.FS == nil {
		o.FS = fsys.OS
	}
	file := absolute(RecordFile(place))
	if _, err := os.Lstat(file); err != nil { // opening would make it
		return nil, fmt.Errorf("looking for the record: %w", err)
	}
	r = &restoring{
		o: o, folders: folders{o.FS, map[string]fsys.Root{}}, asked: make([]bool, len(o.Files)),
		over: map[key]bool{}, left: map[key]bool{}, seen: map[key]bool{}, back: map[key]bool{}, stays: map[key]bool{},
	}
	r.report.Unknown, r.report.Faults = []string{}, []string{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if r.rec, err = openRecord(o.FS, file, add); err != nil {
		return r, err
	}
	last, err := r.read()
	if err != nil {
		return r, err
	}
	folder := filepath.Dir(file)
	switch {
	case o.Folder != "":
		folder = absolute(o.Folder)
	case last != "" && real(last) != real(folder) && isDir(last):
		return r, &pipeline.OptionError{Option: "Folder", Message: fmt.Sprintf("%s lies in another folder than the files that it tells of, which went to %s: say where they are", file, last)}
	}
	if r.from, err = r.folders.existing(folder); err != nil {
		return r, err
	}
	if o.To != "" && (!o.DryRun || isDir(o.To)) {
		if slices.Contains(strings.Split(filepath.ToSlash(absolute(o.To)), "/"), stateDir) {
			return r, &pipeline.OptionError{Option: "To", Message: fmt.Sprintf("%s is in a state directory, where runs remove files: give another folder to restore to", o.To)}
		}
		if r.to, err = r.folders.make(absolute(o.To)); err != nil {
			return r, err
		}
	}
	return r, nil
}

// stateDir is the name of the folders in which runs keep what they know.
const stateDir = ".forgepipe"

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

func (r *restoring) close() error {
	r.folders.close()
	if r.rec == nil {
		return nil
	}
	return r.rec.close()
}

// read goes through the record once, and returns the folder of the last run.
func (r *restoring) read() (last string, err error) {
	run, job := "", int64(0)
	var pending []int64
	err = r.rec.lines(0, func(at int64, l *line) error {
		switch l.Event {
		case intended:
			if l.Run != run {
				run, job, pending = l.Run, 0, pending[:0]
			}
			if l.Job != job {
				job = l.Job
				pending = append(pending, at)
			}
		case begun:
			if l.Run == run {
				r.pictures = append(r.pictures, pending...)
				pending = pending[:0]
				if l.Folder != "" {
					last = l.Folder
				}
			}
		case left:
			r.left[keyOfNumber(l.Run, l.Job)] = true
		case restored:
			r.over[keyOfNumber(l.Run, l.N)] = true
		}
		return nil
	})
	return last, err
}

func keyOfNumber(run string, n int64) key { return keyOf(fmt.Sprintf("%s\n%d", run, n)) }

// groups yields what was intended with each picture, the newest first.
func (r *restoring) groups(ctx context.Context, yield func(ops []line) error) error {
	for _, at := range slices.Backward(r.pictures) {
		if err := ctx.Err(); err != nil {
			return err
		}
		ops, err := r.rec.group(at)
		if err != nil {
			return err
		}
		if len(ops) == 0 || r.o.Run != "" && ops[0].Run != r.o.Run {
			continue
		}
		if err := yield(ops); err != nil {
			return err
		}
	}
	return nil
}

// first is false for a file that came back already, and for one that a newer line tells
// the same of.
func (r *restoring) first(op *line) bool {
	k := keyOf(string(op.Action) + "\n" + op.place() + "\n" + op.Target)
	if r.over[keyOfNumber(op.Run, op.N)] || r.seen[k] {
		return false
	}
	r.seen[k] = true
	return true
}

func (r *restoring) entry(op *line) Entry {
	e := Entry{Run: op.Run, Action: op.Action, Kind: op.Kind, ID: op.ID, Keeper: op.Keeper, Place: op.place(), Size: op.Size}
	if op.Action != Delete {
		e.Path = r.path(op)
	}
	return e
}

// path is where a file lies, absolute.
func (r *restoring) path(op *line) string {
	return filepath.Join(r.from.Name(), filepath.FromSlash(op.Target))
}
