package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/runstore"
)

const (
	trashName   = stateDirName + "/trash" // in an output folder
	trashLayout = "20060102-150405.000"   // of the folders in it: when the run began, UTC
)

// Trashed is a file that a run moved to the trash of an output folder.
type Trashed struct {
	Folder string    `json:"folder"` // the output folder, absolute
	Name   string    `json:"name"`   // where the file was, relative to it, slash-separated
	From   string    `json:"from"`   // the folder of the trash, named after the time
	Time   time.Time `json:"time"`   // when the run began that moved it
	Size   int64     `json:"bytes"`  // bytes
	// Why is retracted (the run no longer wanted it), replaced (somebody had changed
	// it, and it was made again) or fresh (the run started over), as far as the run
	// store tells; otherwise empty.
	Why   string `json:"why,omitempty"`
	Taken bool   `json:"taken"` // something else is in its place now
	// Path is where it lies, absolute.
	Path string `json:"path"`

	moved   string // its path relative to Folder
	regular bool
}

// Place is where the file was, absolute.
func (t Trashed) Place() string { return filepath.Join(t.Folder, filepath.FromSlash(t.Name)) }

// trashes are the trash folders of all output folders of a state directory.
type trashes struct {
	stateDir string
	history  *History // nil: there is no store
	files    fsys.FS
	roots    []fsys.Root
	why      map[string]func(taken bool) string // by folder of the trash
}

// openTrashes opens what the state directory's runs have written to. Without a
// run store that is the folder that holds the directory.
func openTrashes(ctx context.Context, stateDir string, files fsys.FS) (t *trashes, err error) {
	if files == nil {
		files = fsys.OS
	}
	t = &trashes{stateDir: absolute(stateDir), files: files, why: map[string]func(bool) string{}}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	folders := []string{filepath.Dir(t.stateDir)}
	t.history, err = OpenHistory(ctx, t.stateDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return t, fmt.Errorf("%w; to get files back from the trash before that, move run.db alone away and restore again", err)
	default:
		targets, err := t.history.targets(ctx)
		if err != nil {
			return t, err
		}
		for _, target := range targets {
			folders = append(folders, target.Root)
		}
	}
	slices.Sort(folders)
	for _, folder := range slices.Compact(folders) {
		// OpenRoot would make a folder that is missing.
		info, err := os.Stat(filepath.Join(folder, filepath.FromSlash(trashName)))
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
			continue
		}
		if err != nil {
			return t, fmt.Errorf("looking for the trash: %w", err)
		}
		root, err := files.OpenRoot(folder)
		if err != nil {
			return t, fmt.Errorf("opening the output folder: %w", err)
		}
		t.roots = append(t.roots, root)
	}
	if t.history == nil && len(t.roots) == 0 {
		return t, fmt.Errorf("there is neither a run store nor a trash in %s: %w", t.stateDir, fs.ErrNotExist)
	}
	return t, nil
}

func (t *trashes) close() {
	for _, r := range t.roots {
		_ = r.Close()
	}
	if t.history != nil {
		_ = t.history.Close()
	}
}

// lock keeps runs out while files are moved. Where there is no store, it does not
// keep out one that has its store elsewhere.
func (t *trashes) lock(noStore bool) (io.Closer, error) {
	if t.history == nil && !noStore {
		return nil, fmt.Errorf("%s has %w, so a run that is writing there is not noticed", t.stateDir, ErrNoStore)
	}
	return runstore.Lock(t.stateDir)
}

// times are the folders of a trash, the newest first.
func times(root fsys.Root) (all []string, err error) {
	entries, err := root.ReadDir(trashName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the trash: %w", err)
	}
	for _, e := range slices.Backward(entries) {
		if _, err := time.Parse(trashLayout, e.Name()); e.IsDir() && err == nil {
			all = append(all, e.Name())
		}
	}
	return all, nil
}

// walk yields the files at or below name in one folder of the trash, by name. A
// folder that a link leads to is not entered.
func (t *trashes) walk(ctx context.Context, root fsys.Root, from, name string, yield func(Trashed) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	at := path.Join(trashName, from, name)
	info, err := root.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) { // it went meanwhile
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at the trash: %w", err)
	}
	if !info.IsDir() {
		return yield(t.file(ctx, root, from, name, info))
	}
	entries, err := root.ReadDir(at)
	if err != nil {
		return fmt.Errorf("listing the trash: %w", err)
	}
	for _, e := range entries {
		if err := t.walk(ctx, root, from, path.Join(name, e.Name()), yield); err != nil {
			return err
		}
	}
	return nil
}

func (t *trashes) file(ctx context.Context, root fsys.Root, from, name string, info fs.FileInfo) Trashed {
	f := Trashed{Folder: root.Name(), Name: original(name), From: from, Size: info.Size(), moved: path.Join(trashName, from, name), regular: info.Mode().IsRegular()}
	f.Time, _ = time.Parse(trashLayout, from)
	f.Path = filepath.Join(f.Folder, filepath.FromSlash(f.moved))
	_, err := root.Lstat(f.Name)
	f.Taken = err == nil
	f.Why = t.reason(ctx, from)(f.Taken)
	return f
}

// original is the name that a file had before it was moved to the trash, where
// the second of a name has ".1" behind it: see run.trash. No output's extension is
// a number.
func original(name string) string {
	before, n, ok := cutLast(name, ".")
	if !ok || n == "" || n[0] == '0' || strings.Trim(n, "0123456789") != "" || path.Ext(before) == "" {
		return name
	}
	return before
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// reason tells why the run of that time moved files, once it is known whether
// something is in their place.
func (t *trashes) reason(ctx context.Context, from string) func(taken bool) string {
	if why := t.why[from]; why != nil {
		return why
	}
	why := func(bool) string { return "" }
	defer func() { t.why[from] = why }()
	began, err := time.Parse(trashLayout, from)
	if t.history == nil || err != nil {
		return why
	}
	id, summary, ok, err := t.history.store.RunBegun(ctx, began, began.Add(time.Millisecond))
	var s Summary
	if err != nil || !ok || len(summary) == 0 || json.Unmarshal(summary, &s) != nil {
		return why
	}
	// The first run of a store has nothing to take back: it was one that started over.
	retracted := "retracted"
	if id == 1 {
		retracted = "fresh"
	}
	why = func(taken bool) string {
		switch {
		case s.Replaced > 0 && (s.Retracted == 0 || taken && id != 1):
			return "replaced" // and made again, in its place
		case s.Retracted > 0 && (s.Replaced == 0 || !taken):
			return retracted
		}
		return ""
	}
	return why
}

// Trash yields the files in the trash of all output folders that the runs of a
// state directory have written to: folder by folder, the newest first. It changes
// nothing, and may be used beside a run. Without a run store, the folder that
// holds the state directory is looked at. The error matches fs.ErrNotExist when
// that has no trash either; an error of yield ends it and is returned.
func Trash(ctx context.Context, stateDir string, yield func(Trashed) error) error {
	t, err := openTrashes(ctx, stateDir, nil)
	if err != nil {
		return err
	}
	defer t.close()
	for _, root := range t.roots {
		all, err := times(root)
		if err != nil {
			return err
		}
		for _, from := range all {
			if err := t.walk(ctx, root, from, ".", yield); err != nil {
				return err
			}
		}
	}
	return nil
}

// PruneOptions say what goes from the trash.
type PruneOptions struct {
	Age     time.Duration // what has been there for longer, counted from when the run began that moved it
	DryRun  bool          // count, and remove nothing
	NoStore bool          // remove files also where there is no run store: see ErrNoStore
	FS      FS            // of the output folders; nil: that of this machine
}

// Prune removes old files from the trash for good. It returns how many files and
// bytes that were. The error is ErrLocked when a run is using the state directory, and
// ErrNoStore when that has no run store and the options do not allow it.
func Prune(ctx context.Context, stateDir string, o PruneOptions) (n, bytes int64, err error) {
	t, err := openTrashes(ctx, stateDir, o.FS)
	if err != nil {
		return 0, 0, err
	}
	defer t.close()
	if !o.DryRun {
		lock, err := t.lock(o.NoStore)
		if err != nil {
			return 0, 0, err
		}
		defer lock.Close()
	}
	before := time.Now().Add(-o.Age)
	for _, root := range t.roots {
		all, err := times(root)
		if err != nil {
			return n, bytes, err
		}
		for _, from := range all {
			if at, _ := time.Parse(trashLayout, from); !at.Before(before) {
				continue
			}
			err := t.walk(ctx, root, from, ".", func(f Trashed) error {
				if !o.DryRun {
					if err := root.Remove(f.moved); err != nil {
						return fmt.Errorf("emptying the trash: %w", err)
					}
				}
				n++
				bytes += f.Size
				return nil
			})
			if err == nil && !o.DryRun {
				err = removeEmpty(root, path.Join(trashName, from))
			}
			if err != nil {
				return n, bytes, err
			}
		}
	}
	return n, bytes, nil
}

// removeEmpty removes a folder and those in it, as far as they hold no file.
func removeEmpty(root fsys.Root, dir string) error {
	entries, err := root.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing the trash: %w", err)
	}
	left := 0
	for _, e := range entries {
		if !e.IsDir() {
			left++
			continue
		}
		if err := removeEmpty(root, path.Join(dir, e.Name())); err != nil {
			return err
		}
		if _, err := root.Lstat(path.Join(dir, e.Name())); err == nil {
			left++
		}
	}
	if left > 0 {
		return nil
	}
	if err := root.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing an empty folder of the trash: %w", err)
	}
	return nil
}
