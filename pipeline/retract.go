package pipeline

import (
	"context"
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
