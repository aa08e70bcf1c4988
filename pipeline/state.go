package pipeline

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/runstore"
)

// openState opens what the run remembers by: the run store and the cached
// results.
func (r *run) openState() (err error) {
	r.whole = &family{run: r, buf: &buffer{}, looked: true}
	id := make([]byte, 4)
	if _, err := rand.Read(id); err != nil {
		return fmt.Errorf("making a random name: %w", err)
	}
	r.tempID = hex.EncodeToString(id)
	if r.stateDir == "" {
		return nil
	}
	ctx := r.ctx
	if r.dry != nil {
		r.store, err = runstore.OpenStill(ctx, r.stateDir)
		if errors.Is(err, fs.ErrNotExist) {
			r.store = nil
			return nil
		}
		if err != nil {
			return damaged(err, r.stateDir)
		}
		if err := r.sameOwner(ctx); err != nil {
			return err
		}
		r.whole.looked = false
		r.whole.lookup()
		// A dry run must not write, so it reads the results of the state
		// directory only when there are some already.
		if _, err := os.Stat(filepath.Join(r.stateDir, "attributes")); err == nil {
			r.openOutcomes()
		}
		return nil
	}
	if r.opts.Fresh {
		if err := r.forget(ctx); err != nil {
			return err
		}
	}
	r.store, err = runstore.Open(ctx, r.stateDir, runstore.Options{Before: r.opts.beforeSQL, BootID: r.opts.bootID, Logger: r.pipe.log})
	if err != nil {
		return damaged(err, r.stateDir)
	}
	if err := r.sameOwner(ctx); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(r.stateDir, quarantineName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clearing the quarantine list of the last run: %w", err)
	}
	if err := r.clearScratch(); err != nil {
		return err
	}
	r.rebooted = r.store.Recovery().Rebooted
	r.openOutcomes()
	if err := r.identifyStore(id); err != nil {
		return err
	}
	if r.store.Recovery().Crashed {
		if err := r.removeTemps(ctx); err != nil {
			return err
		}
	}
	r.store.SeeSource(r.whole.row)
	return r.store.Begin(ctx, runstore.Run{
		Fingerprint: r.pipe.Fingerprint(), Version: r.opts.Version, Spec: r.pipe.owner(), Started: r.began,
	})
}

// hasInput makes sure that the source offers at least one candidate.
func (r *run) hasInput(ctx context.Context) error {
	err := emitAll(ctx, r.source(), func(in Input) error {
		if in.Ignored == "" && in.Err == nil {
			return errEnough
		}
		return nil
	})
	switch {
	case errors.Is(err, errEnough):
		return nil
	case err == nil:
		err = ErrNoImages
	}
	return &StageError{Stage: "source", Err: err}
}

// damaged adds to the error of opening a store what can be done about it.
func damaged(err error, dir string) error {
	if m := err.Error(); strings.Contains(m, "malformed") || strings.Contains(m, "not a database") {
		return fmt.Errorf("%w: the run store is damaged; move %s away and run again: outputs that are right are left as they are", err, dir)
	}
	return err
}

// checkStateDir refuses a folder that holds something else than a state
// directory: what lies there would be in the way, or taken for ours.
func (r *run) checkStateDir() error {
	if _, err := os.Stat(filepath.Join(r.stateDir, "run.db")); err == nil {
		return nil
	}
	entries, err := os.ReadDir(r.stateDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at the state directory: %w", err)
	}
	has := func(name ...string) bool {
		_, err := os.Stat(filepath.Join(append([]string{r.stateDir}, name...)...))
		return err == nil
	}
	for _, e := range entries {
		ours := false
		switch e.Name() {
		case "lock", "trash":
			ours = true
		case "scratch": // of a run that was killed while it began
			ours = has("lock")
		case "sample":
			ours = has("sample", stateDirName)
		}
		if !ours {
			return &SpecError{[]Problem{{File: r.pipe.file(), Line: 1, Col: 1, Message: fmt.Sprintf(
				"the state directory %s holds %q and no run store: give an empty or new folder", r.stateDir, e.Name())}}}
		}
	}
	return nil
}

// sameOwner refuses a store of another pipeline: a run takes back what it does
// not want itself, and what another pipeline made is not its to take back.
func (r *run) sameOwner(ctx context.Context) error {
	last, _, _, ok, err := r.store.LastRun(ctx)
	if err != nil || !ok || last.Spec == r.pipe.owner() {
		return err
	}
	return &SpecError{[]Problem{{File: r.pipe.file(), Line: 1, Col: 1, Message: fmt.Sprintf(
		"%s holds what the pipeline %q made, and this one is called %q: choose another output folder, or call it that", filepath.Dir(r.stateDir), last.Spec, r.pipe.owner())}}}
}

// identifyStore gives the store a number of its own, by which its temporary
// files are known also after the tree was moved, and the row that files of the
// whole run belong to.
func (r *run) identifyStore(id []byte) error {
	r.whole.looked = false
	src, ok := r.whole.lookup()
	if ok && len(src.Header) == len(id) {
		r.tempID = hex.EncodeToString(src.Header)
		return nil
	}
	src = runstore.Source{Path: r.whole.key(), Header: id}
	if err := r.store.PutSource(&src); err != nil {
		return err
	}
	r.whole.row = src.ID
	return nil
}

// openOutcomes opens the cached results. Without them a run is slower and as
// right, so a fault is a warning.
func (r *run) openOutcomes() {
	limit := r.opts.CacheLimit
	if limit <= 0 {
		limit = defaultCacheLimit
	}
	o, err := runstore.OpenAttributes(r.stateDir, runstore.AttributesOptions{CacheDir: r.opts.CacheDir, CacheLimit: limit, ReadOnly: r.dry != nil, FS: r.opts.segments, Logger: r.pipe.log})
	if err != nil {
		r.warnOnce("attributes", "results are not cached: %v", err)
		return
	}
	r.outcomes = o
}

// finishState records the run's end.
func (r *run) finishState(state string, sum *Summary) error {
	if r.store == nil || r.dry != nil {
		return nil
	}
	// The run may be ending because its context did.
	ctx := context.WithoutCancel(r.ctx)
	if err := r.checkpoint(ctx); err != nil {
		return fmt.Errorf("making the outputs durable: %w", err)
	}
	return r.store.Finish(ctx, state, marshalSummary(sum))
}

func (r *run) closeState() error {
	errs := []error{r.quarantine.close()}
	if r.sampleLock != nil {
		errs = append(errs, r.sampleLock.Close())
	}
	r.canvases.close()
	if r.scratchDir != nil {
		errs = append(errs, r.scratchDir.Close())
		_ = os.RemoveAll(r.scratchPath)
	}
	if r.outcomes != nil {
		if err := r.outcomes.Close(); err != nil {
			r.warnOnce("attributes", "results are not cached: %v", err)
		}
	}
	if r.store != nil {
		errs = append(errs, r.store.Close())
	}
	for _, root := range r.roots {
		errs = append(errs, root.Close())
	}
	return errors.Join(errs...)
}

// writtenRoots are the output folders of this pipeline and of the rows in the
// store.
func (r *run) writtenRoots(ctx context.Context) (map[string]bool, error) {
	roots := map[string]bool{}
	for _, s := range r.pipe.steps {
		if w, ok := s.Stage.(Writer); ok {
			for _, t := range w.Writes() {
				roots[absolute(t.Root)] = true
			}
		}
	}
	stages := map[string]bool{}
	err := r.store.Decisions(ctx, func(src runstore.Source, d runstore.Decision) error {
		if d.Kind != runstore.Written || stages[d.Stage] {
			return nil
		}
		stages[d.Stage] = true
		root, _, err := r.pathOf(src, d)
		if err == nil {
			roots[root] = true
		}
		return err
	})
	return roots, err
}

// removeTemps removes the temporary files of a run that was killed.
func (r *run) removeTemps(ctx context.Context) error {
	roots, err := r.writtenRoots(ctx)
	if err != nil {
		return err
	}
	for dir := range roots {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		root, err := r.openRoot(dir)
		if err != nil {
			return err
		}
		if err := r.removeTempsIn(ctx, root, "."); err != nil {
			return fmt.Errorf("removing what an interrupted run left: %w", err)
		}
	}
	return nil
}

func (r *run) removeTempsIn(ctx context.Context, root fsys.Root, dir string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := root.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch {
		case e.IsDir() && e.Name() != stateDirName:
			if err := r.removeTempsIn(ctx, root, name); err != nil {
				return err
			}
		case e.Type().IsRegular() && r.isTemp(name):
			if err := root.Remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// trash moves a file of an output folder into the folder's trash, under the
// time of the run.
func (r *run) trash(root fsys.Root, name string) error {
	base := path.Join(stateDirName, "trash", r.began.UTC().Format("20060102-150405.000"))
	to := path.Join(base, name)
	if err := r.mkdir(root, path.Dir(to)); err != nil {
		return fmt.Errorf("making room in the trash: %w", err)
	}
	for i := 1; ; i++ { // never over something that lies there
		if _, err := root.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			break
		}
		to = fmt.Sprintf("%s.%d", path.Join(base, name), i)
	}
	if err := root.Rename(name, to); err != nil {
		return fmt.Errorf("moving %s to the trash: %w", name, err)
	}
	return nil
}

// retractChunk bounds the unwanted files that are compared with the wanted ones
// at a time.
const retractChunk = 500_000

// retract takes back what earlier runs made and this one does not want, so that
// the tree is what a fresh run would have left. It is called when a run is
// complete.
func (r *run) retract(ctx context.Context) error {
	if r.store == nil {
		return nil
	}
	for {
		more, err := r.retractSome(ctx)
		if err != nil {
			return fmt.Errorf("retracting what is no longer wanted: %w", err)
		}
		if !more || r.dry != nil {
			break
		}
	}
	if r.dry != nil {
		return nil
	}
	var gone []int64
	if err := r.store.UnseenSources(ctx, func(src runstore.Source) error {
		if !r.unlisted(src.Path) {
			gone = append(gone, src.ID)
		}
		return nil
	}); err != nil {
		return err
	}
	return r.store.DeleteSources(ctx, gone)
}

type unwanted struct {
	root, name string
	row        runstore.Decision
}

var errEnough = errors.New("enough")

func (r *run) retractSome(ctx context.Context) (more bool, err error) {
	var rows []runstore.Decision
	files := map[string]unwanted{}
	err = r.store.Unseen(ctx, func(src runstore.Source, d runstore.Decision) error {
		if r.dry != nil && src.ID == r.whole.row {
			return nil
		}
		if r.unlisted(src.Path) {
			return nil
		}
		if len(rows) >= retractChunk {
			return errEnough
		}
		rows = append(rows, d)
		if d.Kind != runstore.Written || r.old.superseded(d.Seq) {
			return nil
		}
		root, name, err := r.pathOf(src, d)
		if err != nil {
			return err
		}
		key := root + "\x00" + name
		if other, ok := files[key]; !ok || other.row.Seq < d.Seq {
			files[key] = unwanted{root, name, d}
		}
		return nil
	})
	more = errors.Is(err, errEnough)
	if err != nil && !more {
		return false, err
	}
	if len(files) > 0 {
		if err := r.keepWanted(ctx, files); err != nil {
			return false, err
		}
	}
	if r.dry != nil {
		r.dry.retract.Add(int64(len(files)))
		return false, nil
	}
	for _, f := range files {
		if err := r.retractFile(f); err != nil {
			return false, err
		}
	}
	// The rows must not be gone for good before the moves are.
	if err := r.syncRoots(); err != nil {
		return false, err
	}
	return more, r.store.Delete(ctx, rows)
}

// cannotRead notes a file or folder of the source that could not be read: a disk
// that was pulled, a permission. What it holds is then not known, and what
// earlier runs made of it is left alone.
func (r *run) cannotRead(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if strings.HasSuffix(name, "/") {
		r.hidden = append(r.hidden, name)
		return
	}
	r.unread[name] = true
}

func (r *run) unlisted(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	name = strings.TrimPrefix(name, lqPrefix)
	return r.unread[name] || slices.ContainsFunc(r.hidden, func(folder string) bool {
		return strings.HasPrefix(name, folder)
	})
}

// keepWanted takes out of the unwanted files those whose path a wanted row has
// too: the file there is that row's.
func (r *run) keepWanted(ctx context.Context, files map[string]unwanted) error {
	return r.store.Decisions(ctx, func(src runstore.Source, d runstore.Decision) error {
		if d.Kind != runstore.Written || !r.store.Seen(d) {
			return nil
		}
		root, name, err := r.pathOf(src, d)
		if err != nil {
			return err
		}
		delete(files, root+"\x00"+name)
		return nil
	})
}

func (r *run) retractFile(f unwanted) error {
	if _, err := os.Stat(f.root); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	root, err := r.openRoot(f.root)
	if err != nil {
		return err
	}
	switch r.inspect(root, f.name, f.row) {
	case fileMissing:
		return nil
	case fileChanged:
		r.event(EventReplaced, "", "", filepath.Join(f.root, f.name)+" is no longer wanted, but was changed since it was written: it stays where it is")
		return nil
	}
	if err := r.trash(root, f.name); err != nil {
		return err
	}
	r.retracted.Add(1)
	r.event(EventRetracted, "", "", filepath.Join(f.root, f.name))
	r.prune(root, path.Dir(f.name))
	return nil
}

// prune removes folders that retracting left empty, upwards.
func (r *run) prune(root fsys.Root, dir string) {
	for ; dir != "."; dir = path.Dir(dir) {
		entries, err := root.ReadDir(dir)
		if err != nil || len(entries) > 0 || root.Remove(dir) != nil {
			return
		}
		r.dirs.Delete(root.Name() + "\x00" + dir)
	}
}

// forget starts over: it moves the files of earlier runs that are still as they
// were written to the trash, and removes what the state directory knows. Before
// that it makes sure that there is something to make them from again.
func (r *run) forget(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(r.stateDir, "run.db")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := r.hasInput(ctx); err != nil {
		return err
	}
	s, err := runstore.Open(ctx, r.stateDir, runstore.Options{Logger: r.pipe.log})
	if err != nil {
		return damaged(err, r.stateDir)
	}
	r.store = s
	defer func() { r.store = nil }()
	r.whole.looked = false
	if src, ok := r.whole.lookup(); ok {
		r.tempID = hex.EncodeToString(src.Header)
	}
	r.whole.row = 0
	err = r.sameOwner(ctx)
	if err == nil {
		err = r.removeTemps(ctx)
	}
	if err == nil {
		err = s.Decisions(ctx, func(src runstore.Source, d runstore.Decision) error {
			if d.Kind != runstore.Written {
				return nil
			}
			rootDir, name, err := r.pathOf(src, d)
			if err != nil {
				return err
			}
			if _, err := os.Stat(rootDir); err != nil {
				return nil
			}
			root, err := r.openRoot(rootDir)
			if err != nil {
				return err
			}
			if h, err := hashFile(root, name); err != nil || h != d.Hash {
				return nil // missing, or somebody changed it: theirs
			}
			if err := r.trash(root, name); err != nil {
				return err
			}
			r.retracted.Add(1)
			r.prune(root, path.Dir(name))
			return nil
		})
	}
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = runstore.Remove(r.stateDir)
	}
	if err != nil {
		return fmt.Errorf("starting over: %w", err)
	}
	return nil
}
