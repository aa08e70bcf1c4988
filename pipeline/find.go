package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/forgepipe/forgepipe/internal/runstore"
	"github.com/forgepipe/forgepipe/internal/wild"
)

// endsOf finds what an image's name means, and has its story told.
func (h *History) endsOf(ctx context.Context, name string, story func(lineage string) func(runstore.Source, []runstore.Decision) error) error {
	for _, find := range []func(context.Context, string) (runstore.Source, []runstore.Decision, string, bool, error){
		h.bySource, h.byID, h.byFile,
	} {
		src, rows, lineage, ok, err := find(ctx, name)
		if err != nil {
			return h.found(err)
		}
		if ok {
			return story(lineage)(src, rows)
		}
	}
	if wild.Has(name) {
		return h.byGlob(ctx, name, story(""))
	}
	known := false
	folder := strings.TrimSuffix(path.Clean(name), "/") + "/"
	err := h.store.Find(ctx, runstore.Query{Prefix: folder}, func(src runstore.Source, rows []runstore.Decision) error {
		known = true
		return story("")(src, rows)
	})
	if err != nil || known {
		return h.found(err)
	}
	src, row, ok, err := h.byOutput(ctx, absolute(name), true)
	if err != nil {
		return h.found(err)
	}
	if !ok {
		if src, row, ok, err = h.byLostOutput(ctx, absolute(name)); err != nil {
			return h.found(err)
		}
	}
	if !ok {
		return h.byInput(ctx, absolute(name), story(""))
	}
	_, rows, _, err := h.store.Source(ctx, src.Path)
	if err != nil {
		return h.found(err)
	}
	lineage, _, _ := strings.Cut(row.Lineage, partMark)
	return story(lineage)(src, rows)
}

// byInput finds the sources that lie, or lay, at a path of this machine or below it:
// the folder there is known again, or one above it.
func (h *History) byInput(ctx context.Context, at string, yield func(runstore.Source, []runstore.Decision) error) error {
	for dir, below := at, ""; ; below, dir = path.Join(filepath.Base(dir), below), filepath.Dir(dir) {
		prefix, ok, err := h.inputPrefix(ctx, dir)
		switch {
		case err != nil:
			return h.found(err)
		case !ok && dir == filepath.Dir(dir):
			return ErrUnknownImage
		case !ok:
			continue
		}
		known := false
		err = h.store.Find(ctx, runstore.Query{Prefix: prefix + below}, func(src runstore.Source, rows []runstore.Decision) error {
			rest := strings.TrimPrefix(src.Path, prefix+below)
			if src.Path == "" || below != "" && rest != "" && rest[0] != '/' { // of the whole run, or another name that begins so
				return ctx.Err()
			}
			known = true
			return yield(src, rows)
		})
		if err == nil && !known {
			return ErrUnknownImage
		}
		return h.found(err)
	}
}

// mostCompared bounds how many files are looked at to know a folder again.
const mostCompared = 1000

// inputPrefix is what the paths of the sources in a folder of the machine begin
// with, of which the store does not know where the source's root is: any end of the
// folder's path may be it, and that it is, one file there tells that is as the run
// has seen it.
func (h *History) inputPrefix(ctx context.Context, dir string) (prefix string, ok bool, err error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return "", false, nil
	}
	rest := strings.TrimPrefix(filepath.ToSlash(dir), "/")
	for more := true; more; {
		if prefix = ""; rest != "" {
			prefix = rest + "/"
		}
		_, rest, more = strings.Cut(prefix, "/")
		rest = strings.TrimSuffix(rest, "/")
		n := 0
		err := h.store.Find(ctx, runstore.Query{Prefix: prefix}, func(src runstore.Source, _ []runstore.Decision) error {
			if src.Path == "" || strings.HasPrefix(src.Path, lqPrefix) {
				return ctx.Err()
			}
			if n++; n > mostCompared {
				return errEnough
			}
			info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(strings.TrimPrefix(src.Path, prefix))))
			if ok = err == nil && sameStat(src, info); ok {
				return errEnough
			}
			return ctx.Err()
		})
		if err != nil && !errors.Is(err, errEnough) {
			return "", false, err
		}
		if ok {
			return prefix, true, nil
		}
	}
	return "", false, nil
}

// sameStat tells whether a file is as a run has seen it.
func sameStat(src runstore.Source, info os.FileInfo) bool {
	return info.Mode().IsRegular() && src.Size == info.Size() && src.MTime == info.ModTime().UnixNano()
}

// byLostOutput finds what an output's file was made of that no row is of any more,
// as when a filter was edited: the item that would be called so, or else the
// source alone, with a row of no lineage.
func (h *History) byLostOutput(ctx context.Context, file string) (src runstore.Source, row runstore.Decision, ok bool, err error) {
	targets, err := h.targets(ctx)
	if err != nil {
		return src, row, false, err
	}
	for _, t := range targets {
		name, inside := inFolder(t.Root, file)
		if !inside || t.File != "" {
			continue
		}
		stage, err := json.Marshal(t)
		if err != nil {
			return src, row, false, err
		}
		for _, prefix := range t.sources(name) {
			exact := false
			err := h.store.Find(ctx, runstore.Query{Prefix: prefix}, bounded(func(s runstore.Source, rows []runstore.Decision) error {
				if stem, _ := stemExt(s.Path); stem+"." != prefix && s.Path != prefix { // the name begins so, and is another
					return ctx.Err()
				}
				// A name that goes on in letters is of another source.
				_, rest, _ := strings.Cut(name, strings.TrimSuffix(prefix, "."))
				if !ok && (rest == "" || strings.ContainsRune("_.@", rune(rest[0]))) {
					src, ok = s, true
				}
				for _, d := range rows {
					d.Stage = string(stage)
					_, would, err := rowPath(h.base(), s, d)
					if err != nil {
						return err
					}
					if would == name {
						src, row, exact = s, d, true
						return errEnough
					}
				}
				return ctx.Err()
			}))
			if err != nil && !errors.Is(err, errEnough) {
				return src, row, false, err
			}
			if exact {
				return src, row, true, nil
			}
		}
	}
	return src, row, ok, nil
}

// bySource finds a source by its path.
func (h *History) bySource(ctx context.Context, name string) (src runstore.Source, rows []runstore.Decision, lineage string, ok bool, err error) {
	if name == "" || strings.HasPrefix(name, lqPrefix) {
		return src, nil, "", false, nil
	}
	src, rows, ok, err = h.store.Source(ctx, name)
	return src, rows, "", ok, err
}

// byID finds an item's source.
func (h *History) byID(ctx context.Context, id string) (src runstore.Source, rows []runstore.Decision, lineage string, ok bool, err error) {
	source, lineage := splitID(id)
	if source, err = UnescapeID(source); err != nil { // then it is no ID
		return src, nil, "", false, nil
	}
	src, rows, _, ok, err = h.bySource(ctx, source)
	if !ok || err != nil || lineage == "" {
		return src, rows, lineage, ok, err
	}
	for _, d := range rows {
		if d.Lineage == lineage || strings.HasPrefix(d.Lineage, lineage+"@") {
			return src, rows, lineage, true, nil
		}
	}
	return src, nil, "", false, nil
}

// byFile finds the source that a file is. The store does not know where the
// source's root is, so any end of the file's path may be the source's; that it is
// this file is told by size and time.
func (h *History) byFile(ctx context.Context, name string) (src runstore.Source, rows []runstore.Decision, lineage string, ok bool, err error) {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return src, nil, "", false, nil
	}
	rest := strings.TrimPrefix(filepath.ToSlash(absolute(name)), "/")
	for more := true; more; _, rest, more = strings.Cut(rest, "/") {
		src, rows, _, ok, err = h.bySource(ctx, rest)
		if err != nil {
			return src, nil, "", false, err
		}
		if ok && sameStat(src, info) {
			return src, rows, "", true, nil
		}
	}
	return src, nil, "", false, nil
}

func (h *History) byGlob(ctx context.Context, pattern string, yield func(runstore.Source, []runstore.Decision) error) error {
	known := false
	literal := pattern[:strings.IndexAny(pattern, wild.Chars)]
	err := h.store.Find(ctx, runstore.Query{Prefix: literal}, func(src runstore.Source, rows []runstore.Decision) error {
		if !wild.Match(pattern, src.Path) {
			return ctx.Err()
		}
		known = true
		return yield(src, rows)
	})
	if err == nil && !known {
		return ErrUnknownImage
	}
	return h.found(err)
}

// targets are how outputs were named, also those of rows that are gone.
func (h *History) targets(ctx context.Context) (all []target, err error) {
	names, err := h.store.Names(ctx)
	if err != nil {
		return nil, h.found(err)
	}
	for _, name := range names {
		var t target
		name = strings.TrimPrefix(name, theirs)
		if !strings.HasPrefix(name, "{") || json.Unmarshal([]byte(name), &t) != nil || t.Root == "" {
			continue
		}
		if !filepath.IsAbs(t.Root) {
			t.Root = filepath.Join(h.base(), filepath.FromSlash(t.Root))
		}
		all = append(all, t)
	}
	return all, nil
}

// byOutput finds the row of an output's file. A name that a template like the
// default one made begins with the source's; with scan, all rows are looked at
// when that does not find it.
func (h *History) byOutput(ctx context.Context, file string, scan bool) (src runstore.Source, row runstore.Decision, ok bool, err error) {
	targets, err := h.targets(ctx)
	if err != nil {
		return src, row, false, err
	}
	look := func(s runstore.Source, rows []runstore.Decision) error {
		for _, d := range rows {
			f, err := h.fileOf(s, d)
			if err != nil {
				return err
			}
			if f != "" && sameFile(f, file) {
				src, row, ok = s, d, true
				return errEnough
			}
		}
		return ctx.Err()
	}
	ours := false
	for _, t := range targets {
		name, inside := inFolder(t.Root, file)
		if !inside {
			continue
		}
		ours = true
		for _, prefix := range t.sources(name) {
			err := h.store.Find(ctx, runstore.Query{Prefix: prefix}, bounded(look))
			if err != nil && !errors.Is(err, errEnough) {
				return src, row, false, err
			}
			if ok {
				return src, row, true, nil
			}
		}
	}
	if !ours || !scan {
		return src, row, false, nil
	}
	for _, kind := range []runstore.Kind{runstore.Written, runstore.Passed} {
		err = h.store.Find(ctx, runstore.Query{Kind: kind}, look)
		if err != nil || ok {
			break
		}
	}
	if errors.Is(err, errEnough) {
		err = nil
	}
	return src, row, ok, err
}

// bounded ends a walk over sources after some: a folder may begin as a file does.
func bounded(look func(runstore.Source, []runstore.Decision) error) func(runstore.Source, []runstore.Decision) error {
	n := 0
	return func(s runstore.Source, rows []runstore.Decision) error {
		if n++; n > 100 {
			return errEnough
		}
		return look(s, rows)
	}
}

// sources are what the paths of the sources begin with of which the template may
// have made the name, the longest first.
func (t *target) sources(name string) (all []string) {
	if t.File != "" {
		if name == t.File {
			return []string{""}
		}
		return nil
	}
	name, ok := strings.CutSuffix(name, t.Ext)
	if !ok {
		return nil
	}
	literal, _, _ := strings.Cut(t.Template, "{")
	if name, ok = strings.CutPrefix(name, literal); !ok {
		return nil
	}
	dot := "."
	if t.Keep { // the extension is part of the name
		dot = ""
	}
	dir := len(name) - len(path.Base(name))
	for end := len(name); end > dir; end-- {
		all = append(all, name[:end]+dot)
	}
	return all
}

// inFolder is a file's path relative to a folder, if it lies there.
func inFolder(folder, file string) (name string, ok bool) {
	rel, err := filepath.Rel(folder, file)
	if err == nil && filepath.IsLocal(rel) {
		return filepath.ToSlash(rel), true
	}
	// The links that lead there may be others.
	rel, err = filepath.Rel(realPath(folder), filepath.Join(realPath(filepath.Dir(file)), filepath.Base(file)))
	return filepath.ToSlash(rel), err == nil && filepath.IsLocal(rel)
}

// sameFile tells whether two paths are of one place.
func sameFile(a, b string) bool {
	if a == b {
		return true
	}
	return filepath.Base(a) == filepath.Base(b) && realPath(filepath.Dir(a)) == realPath(filepath.Dir(b))
}
