package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/runstore"
)

// mkdir makes a folder of the output tree, once.
func (r *run) mkdir(root fsys.Root, dir string) error {
	if dir == "." {
		return nil
	}
	key := root.Name() + "\x00" + dir
	if _, ok := r.dirs.Load(key); ok {
		return nil
	}
	if err := root.MkdirAll(dir); err != nil {
		return err
	}
	r.dirs.Store(key, true)
	return nil
}

const tempPrefix = ".forgepipe-"

// tempName is a new temporary name, recognisable as this store's.
func (r *run) tempName() string {
	return fmt.Sprintf("%s%s-%d.tmp", tempPrefix, r.tempID, r.temps.Add(1))
}

// openRoot opens an output folder, once per run.
func (r *run) openRoot(dir string) (fsys.Root, error) {
	dir = absolute(dir)
	r.rootsMu.Lock()
	defer r.rootsMu.Unlock()
	if root := r.roots[dir]; root != nil {
		return root, nil
	}
	root, err := r.pipe.fs.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	r.roots[dir] = root
	return root, nil
}

// storedRoot is how the store names an output folder: relative to the folder
// that holds the state directory, also where it lies beside that one, so that
// trees moved together still know their files and never touch those that they
// were copied from.
func (r *run) storedRoot(root string) string {
	root = absolute(root)
	if base := filepath.Dir(r.stateDir); r.stateDir != "" {
		if rel, err := filepath.Rel(base, root); err == nil {
			return filepath.ToSlash(rel)
		}
	}
	return root
}

// pathOf tells where a written row's file is.
func (r *run) pathOf(src runstore.Source, d runstore.Decision) (root, name string, err error) {
	return rowPath(filepath.Dir(r.stateDir), src, d)
}

func rowPath(base string, src runstore.Source, d runstore.Decision) (root, name string, err error) {
	var t target
	if err := json.Unmarshal([]byte(d.Stage), &t); err != nil {
		return "", "", fmt.Errorf("the run store has a row of a stage that cannot be read: %w", err)
	}
	root = t.Root
	if !filepath.IsAbs(root) {
		root = filepath.Join(base, filepath.FromSlash(root))
	}
	if t.File != "" {
		return root, t.File, nil
	}
	tpl, err := ParseTemplate(t.Template, false)
	if err != nil {
		return "", "", fmt.Errorf("the run store has a row with a wrong name template: %w", err)
	}
	lineage := d.Lineage
	if i := strings.LastIndex(lineage, partMark); i >= 0 {
		lineage = lineage[:i]
	}
	return root, tpl.Name(NameOf{Source: src.Path, Lineage: lineage, KeepExtension: t.Keep, Ext: t.Ext}), nil
}

// oldFiles finds rows of earlier runs by path. That is needed only when a new
// item wants a path that another had, so the index is built when first asked
// for.
type oldFiles struct {
	run    *run
	once   sync.Once
	err    error
	byPath map[string]runstore.Decision

	mu   sync.Mutex
	gone map[int64]bool // rows whose path now belongs to another item
}

func (o *oldFiles) at(root, name string) (d runstore.Decision, ok bool, err error) {
	if o.run.store == nil {
		return d, false, nil
	}
	o.once.Do(func() {
		o.byPath = map[string]runstore.Decision{}
		o.err = o.run.store.Decisions(context.Background(), func(src runstore.Source, d runstore.Decision) error {
			if d.Kind != runstore.Written || !o.run.store.Earlier(d) {
				return nil
			}
			root, name, err := o.run.pathOf(src, d)
			if err != nil {
				return err
			}
			o.byPath[root+"\x00"+name] = d
			return nil
		})
	})
	if o.err != nil {
		return d, false, o.err
	}
	d, ok = o.byPath[root+"\x00"+name]
	if ok && o.superseded(d.Seq) {
		return d, false, nil
	}
	return d, ok, nil
}

func (o *oldFiles) supersede(seq int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gone[seq] = true
}

func (o *oldFiles) superseded(seq int64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.gone[seq]
}
