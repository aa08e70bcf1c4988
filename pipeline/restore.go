package pipeline

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/internal/wild"
)

// RestoreOptions say which files come back from the trash, and where to.
type RestoreOptions struct {
	// Files are where files were (absolute, or relative to the working directory or
	// to their output folder, then of a pair both), or where they lie in the trash. A
	// folder stands for what was below it, and * and ? for what is not a slash. Of a
	// file that is there from several runs, the newest comes back; with a picture its
	// sidecars.
	Files []string
	All   bool   // everything
	From  string // only what the run of this time moved: Trashed.From
	// To is a folder for the files; empty: their own places. With several output
	// folders that have a trash, the files of each go to a folder in it that has the
	// output folder's name.
	To      string
	DryRun  bool // say what would be done, and do nothing
	NoStore bool // move files also where there is no run store: see ErrNoStore
	FS      FS   // of the output folders; nil: that of this machine
	// OnFile is told of each file.
	OnFile func(Restored)
}

// Restored is what became of a file that was to be restored.
type Restored struct {
	Trashed        // the file as it lay in the trash
	To      string `json:"to"` // where it is now, or would be, absolute
	// Fault is why it stays in the trash: something else is there already, or what
	// the system said; empty when it came back.
	Fault string `json:"fault,omitempty"`
	// Same says that it stays since the very same bytes are there already.
	Same bool `json:"same,omitempty"`
	// Wanted says that the run store records another file in its place: the next run
	// takes the restored one for a change of that, and moves it to the trash again.
	// Without a run store that is not known.
	Wanted bool `json:"wanted,omitempty"`
	// Recorded says that the run store records this very file, as when a run was
	// killed while it took files back: the next run keeps it or moves it to the trash
	// again, as the pipeline says.
	Recorded bool `json:"recorded,omitempty"`

	at string // the same as To, relative to the folder that is restored to
}

// OptionError says that options are wrong, so that nothing was done.
type OptionError struct {
	Option  string // the field
	Message string // what is wrong
}

func (e *OptionError) Error() string { return e.Message }

// ErrNoStore says that files of a trash were not moved because there is no run store
// beside it, as in the second output folder of a pipeline: the lock then says nothing
// of a run that keeps its store elsewhere. Give the state directory of the pipeline's
// runs; or, where that is lost, see to it that no run is writing to the folder, and set
// NoStore.
var ErrNoStore = errors.New("no run store")

// RestoreReport is what Restore did.
type RestoreReport struct {
	Restored int64 `json:"count"`    // files that are back, or would be
	Bytes    int64 `json:"bytes"`    // of these
	Same     int64 `json:"same"`     // whose bytes are there already
	Older    int64 `json:"older"`    // of which another version came back
	Taken    int64 `json:"taken"`    // in whose place something else is
	Failed   int64 `json:"failed"`   // that could not be moved
	Wanted   int64 `json:"wanted"`   // of those restored: see Restored.Wanted
	Recorded int64 `json:"recorded"` // of those restored: see Restored.Recorded
	// Unknown are the files asked for that are not in the trash.
	Unknown []string `json:"unknown"`
	Faults  []string `json:"faults"` // the first 100 of taken and failed ones
}

// restoring is a Restore under way.
type restoring struct {
	*trashes
	o      RestoreOptions
	to     fsys.Root         // nil: the files' own output folders
	below  map[string]string // where in to the files of an output folder go
	report RestoreReport
	back   map[[16]byte]bool // places of files that came back, by hash of their path
}

// Restore moves files from the trash back to where they were, or into a folder
// with their tree. Nothing is ever written over: a file whose place is taken stays
// in the trash. Each file moves in one step, so that a process that is killed has
// moved it or has not; across file systems it is copied, made durable and compared
// before it goes from the trash.
//
// The error is ErrLocked when a run is using the state directory, and ErrNoStore when
// that has no run store and the options do not allow it. It is an OptionError when the
// options are wrong; what concerns a single file is in the report.
func Restore(ctx context.Context, stateDir string, o RestoreOptions) (*RestoreReport, error) {
	if err := o.check(stateDir); err != nil {
		return nil, err
	}
	t, err := openTrashes(ctx, stateDir, o.FS)
	if err != nil {
		return nil, err
	}
	defer t.close()
	if !o.DryRun {
		lock, err := t.lock(o.NoStore)
		if err != nil {
			return nil, err
		}
		defer lock.Close()
	}
	r := &restoring{trashes: t, o: o, below: t.foldersBelow(), back: map[[16]byte]bool{}}
	r.report.Unknown, r.report.Faults = []string{}, []string{}
	if _, err := os.Stat(o.To); o.To != "" && (err == nil || !o.DryRun) { // opening makes it
		if r.to, err = t.files.OpenRoot(absolute(o.To)); err != nil {
			return nil, fmt.Errorf("opening the folder to restore to: %w", err)
		}
		defer func() { _ = r.to.Close() }()
	}
	err = r.all(ctx)
	if r.report.Restored > 0 && !o.DryRun {
		err = errors.Join(err, r.sync())
	}
	if err != nil {
		return &r.report, fmt.Errorf("restoring from the trash: %w", err)
	}
	return &r.report, nil
}

// check finds what is wrong with options whatever is in the trash.
func (o *RestoreOptions) check(stateDir string) error {
	if slices.Contains(o.Files, "") {
		return &OptionError{"Files", "a file to restore has an empty name: is a variable not set?"}
	}
	if o.To == "" {
		return nil
	}
	to := realPath(absolute(o.To))
	_, inside := inFolder(realPath(stateDir), to)
	if inside || slices.Contains(strings.Split(filepath.ToSlash(to), "/"), stateDirName) {
		return &OptionError{"To", fmt.Sprintf("%s is in a state directory, where runs remove files: give another folder to restore to", o.To)}
	}
	return nil
}

// foldersBelow are the folders that take the files of each output folder when all
// go to one; empty for a single output folder.
func (t *trashes) foldersBelow() map[string]string {
	below := map[string]string{}
	if len(t.roots) < 2 {
		return below
	}
	for i, root := range t.roots {
		name := filepath.Base(root.Name())
		if slices.ContainsFunc(t.roots, func(o fsys.Root) bool { return o.Name() != root.Name() && filepath.Base(o.Name()) == name }) {
			name = fmt.Sprintf("%s-%d", name, i+1)
		}
		below[root.Name()] = name
	}
	return below
}

func (r *restoring) sync() error {
	roots := r.roots
	if r.to != nil {
		roots = append(slices.Clone(roots), r.to)
	}
	for _, root := range roots {
		if err := root.SyncFS(); err != nil {
			return fmt.Errorf("making it durable: %w", err)
		}
	}
	return nil
}

func (r *restoring) all(ctx context.Context) error {
	if r.o.All {
		_, err := r.matching(ctx, func(fsys.Root, string) bool { return true })
		return err
	}
	for _, file := range r.o.Files {
		found, err := r.one(ctx, file)
		if err != nil {
			return err
		}
		if !found {
			r.report.Unknown = append(r.report.Unknown, file)
		}
	}
	return nil
}

// one restores what one of the files asked for stands for, in every output folder
// that had it.
func (r *restoring) one(ctx context.Context, file string) (found bool, err error) {
	for _, root := range r.roots {
		for _, name := range namesOf(root, file) {
			from := r.o.From
			if rest, ok := strings.CutPrefix(name, trashName+"/"); ok {
				from, name, _ = strings.Cut(rest, "/")
				name = path.Clean(name)
			}
			ok, err := r.named(ctx, root, from, name)
			if err != nil {
				return found, err
			}
			if ok {
				found = true
				break
			}
		}
	}
	if found {
		return true, nil
	}
	if !wild.Has(file) {
		return false, nil
	}
	return r.matching(ctx, func(root fsys.Root, name string) bool {
		return slices.ContainsFunc(namesOf(root, file), func(pattern string) bool {
			return wild.Match(pattern, name)
		})
	})
}

// namesOf are what a file that somebody named may be called in an output folder.
func namesOf(root fsys.Root, file string) (names []string) {
	if rel, ok := inFolder(root.Name(), absolute(file)); ok {
		names = append(names, rel)
	}
	if !filepath.IsLocal(file) {
		return names
	}
	names = append(names, path.Clean(filepath.ToSlash(file)))
	// As hq/a.png, of the folder in which those of a pair lie.
	if rel, ok := inFolder(root.Name(), filepath.Join(filepath.Dir(root.Name()), file)); ok {
		names = append(names, rel)
	}
	return names
}

// named restores a file with its sidecars, of the newest run that moved it, or
// what was below a folder.
func (r *restoring) named(ctx context.Context, root fsys.Root, from, name string) (found bool, err error) {
	all, err := times(root)
	if err != nil {
		return false, err
	}
	for _, at := range all {
		if from != "" && at != from {
			continue
		}
		info, err := root.Lstat(path.Join(trashName, at, name))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			continue
		}
		if err != nil {
			return found, err
		}
		if err := r.walk(ctx, root, at, name, r.restoreIn(ctx, root)); err != nil {
			return true, err
		}
		found = true
		if !info.IsDir() {
			return true, r.sidecars(ctx, root, at, name)
		}
	}
	return found, nil
}

// sidecars restores the files beside a picture that have its name and are none.
func (r *restoring) sidecars(ctx context.Context, root fsys.Root, from, name string) error {
	if !imageio.KnownExtension(original(name)) {
		return nil
	}
	dir := path.Dir(name)
	entries, err := root.ReadDir(path.Join(trashName, from, dir))
	if errors.Is(err, fs.ErrNotExist) { // the picture was the last in it
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing the trash: %w", err)
	}
	stem, _ := stemExt(path.Base(original(name)))
	for _, e := range entries {
		other, _ := stemExt(e.Name())
		if e.IsDir() || other != stem || imageio.KnownExtension(e.Name()) {
			continue
		}
		if err := r.walk(ctx, root, from, path.Join(dir, e.Name()), r.restoreIn(ctx, root)); err != nil {
			return err
		}
	}
	return nil
}

// matching restores the files with wanted names, the newest first.
func (r *restoring) matching(ctx context.Context, want func(root fsys.Root, name string) bool) (found bool, err error) {
	for _, root := range r.roots {
		all, err := times(root)
		if err != nil {
			return found, err
		}
		for _, at := range all {
			if r.o.From != "" && at != r.o.From {
				continue
			}
			err := r.walk(ctx, root, at, ".", func(f Trashed) error {
				if !want(root, f.Name) {
					return nil
				}
				found = true
				return r.restoreIn(ctx, root)(f)
			})
			if err != nil {
				return found, err
			}
		}
	}
	return found, nil
}

// restoreIn restores the files of one output folder.
func (r *restoring) restoreIn(ctx context.Context, root fsys.Root) func(Trashed) error {
	return func(f Trashed) error {
		done := Restored{Trashed: f, To: f.Place(), at: f.Name}
		to := root
		if r.o.To != "" {
			to = r.to
			done.at = path.Join(r.below[root.Name()], f.Name)
			done.To = filepath.Join(absolute(r.o.To), filepath.FromSlash(done.at))
		}
		place := sha256.Sum256([]byte(done.To))
		key := [16]byte(place[:])
		if r.back[key] {
			r.report.Older++
			return nil
		}
		err := r.place(ctx, root, to, &done)
		switch {
		case err == nil && !done.Same:
			r.back[key] = true
			r.report.Restored++
			r.report.Bytes += f.Size
			if done.Wanted {
				r.report.Wanted++
			}
			if done.Recorded {
				r.report.Recorded++
			}
		case err == nil:
			r.report.Same++
		case ctx.Err() != nil || fsys.IsFatal(err):
			return err
		default:
			done.Fault = err.Error()
			if errors.Is(err, errTaken) {
				r.report.Taken++
			} else {
				r.report.Failed++
			}
			if len(r.report.Faults) < shownFaults {
				r.report.Faults = append(r.report.Faults, fmt.Sprintf("%s: %s", done.To, done.Fault))
			}
		}
		if r.o.OnFile != nil {
			r.o.OnFile(done)
		}
		return nil
	}
}
