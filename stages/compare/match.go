package compare

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/files"
)

// A match is what of two folders belongs together: a file of each, or one that has no
// counterpart, or something that cannot be compared.
type match struct {
	name          string // relative to the folders, without an extension that nobody needs to tell it from others
	before, after string // names below the folders; empty: there is none
	fault         error
}

// walk finds what belongs together, folder by folder, in an order that depends on
// names alone.
type walk struct {
	before, after *files.Tree
	suffix        string
	visit         func(match) error
	ignored       int64
}

// folder looks at a folder that one or both trees have. Its name is empty for the root
// and has a slash at its end otherwise.
func (w *walk) folder(ctx context.Context, rel string, inBefore, inAfter bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var a, b files.Folder
	if inBefore {
		a = w.before.Read(rel, nil)
	}
	if inAfter {
		b = w.after.Read(rel, nil)
	}
	for _, f := range []struct {
		of   *files.Folder
		tree *files.Tree
	}{{&a, w.before}, {&b, w.after}} {
		if f.of.Err != nil {
			if err := w.visit(match{name: rel, fault: fmt.Errorf("reading the folder %s: %w", f.tree.Path(rel), files.Plain(f.of.Err))}); err != nil {
				return err
			}
		}
	}
	for _, m := range w.matches(rel, &a, &b) {
		if err := w.visit(m); err != nil {
			return err
		}
	}
	below := map[string][2]bool{}
	for i, f := range []*files.Folder{&a, &b} {
		for _, e := range f.Entries {
			if e.Verdict == files.Descend {
				in := below[e.Name]
				in[i] = true
				below[e.Name] = in
			}
		}
	}
	names := make([]string, 0, len(below))
	for n := range below {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		if err := w.folder(ctx, rel+n+"/", below[n][0], below[n][1]); err != nil {
			return err
		}
	}
	return nil
}

// named is a file by its stem, without the suffix that files of one folder may have.
type named struct{ stem, name string }

// images are those of a folder that can be compared, and what only claims to be one.
func (w *walk) images(f *files.Folder, rel string) (all []named, wrong []match) {
	for i := range f.Entries {
		e := &f.Entries[i]
		switch e.Verdict {
		case files.Image:
			stem, _ := files.StemExt(e.Name)
			if short := strings.TrimSuffix(stem, w.suffix); short != "" { // x4.png is no image without a name
				stem = short
			}
			all = append(all, named{stem, e.Name})
		case files.Impossible:
			wrong = append(wrong, match{name: rel + e.Name, fault: f.Input(e).Err})
		case files.Ignored:
			w.ignored++
		}
	}
	slices.SortStableFunc(all, func(x, y named) int { return strings.Compare(x.stem, y.stem) })
	return all, wrong
}

// matches brings files together: of a stem, those of the same name belong together;
// what is then left of it must be one file and one.
func (w *walk) matches(rel string, a, b *files.Folder) (out []match) {
	before, wrong := w.images(a, rel)
	after, more := w.images(b, rel)
	out = slices.Concat(wrong, more)
	for len(before) > 0 || len(after) > 0 {
		stem := first(before, after)
		var l, r []named
		l, before = cut(before, stem)
		r, after = cut(after, stem)
		out = append(out, w.stem(rel, stem, l, r)...)
	}
	apart(out)
	slices.SortStableFunc(out, func(x, y match) int { return strings.Compare(x.name, y.name) })
	return out
}

// apart gives those their extension of whose names there are several: that of a.png.jpg
// would be a.png, and so is that of a.png beside a.jpg. They would be drawn into one file.
// A name with its extension is only there once.
func apart(all []match) {
	for again := true; again; {
		again = false
		count := map[string]int{}
		for _, m := range all {
			count[m.name]++
		}
		for i := range all {
			m := &all[i]
			if full := cmp.Or(m.before, m.after, m.name); count[m.name] > 1 && m.name != full {
				m.name, again = full, true // which may be what another one is called
			}
		}
	}
}

// first is the stem that comes first.
func first(lists ...[]named) string {
	stem, some := "", false
	for _, l := range lists {
		if len(l) > 0 && (!some || l[0].stem < stem) {
			stem, some = l[0].stem, true
		}
	}
	return stem
}

// cut takes the files of one stem off the beginning of a list.
func cut(list []named, stem string) (of, rest []named) {
	n := 0
	for n < len(list) && list[n].stem == stem {
		n++
	}
	return list[:n:n], list[n:]
}

// stem brings files of one stem together.
func (w *walk) stem(rel, stem string, l, r []named) (out []match) {
	name := rel + stem
	several := len(l) > 1 || len(r) > 1
	add := func(before, after string, fault error) {
		m := match{name: name, fault: fault}
		if before != "" {
			m.before = rel + before
		}
		if after != "" {
			m.after = rel + after
		}
		if several && before != "" {
			m.name = m.before
		} else if several {
			m.name = m.after
		}
		out = append(out, m)
	}
	l = slices.DeleteFunc(l, func(f named) bool {
		i := slices.IndexFunc(r, func(g named) bool { return g.name == f.name })
		if i >= 0 {
			r = slices.Delete(r, i, i+1)
			add(f.name, f.name, nil)
		}
		return i >= 0
	})
	if len(l) == 1 && len(r) == 1 {
		add(l[0].name, r[0].name, nil)
		return out
	}
	var fault error
	if len(l) > 0 && len(r) > 0 {
		fault = errors.New("it cannot be told which files belong together, as several are called " + pipeline.EscapeID(stem) + ".*: give those that do the same extension, or take away what is too many")
	}
	for _, f := range l {
		add(f.name, "", fault)
	}
	for _, g := range r {
		add("", g.name, fault)
	}
	return out
}
