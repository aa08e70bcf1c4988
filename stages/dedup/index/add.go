package index

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/pipeline"
)

// Add adds entries to the index in the folder dir, which is made where it is missing, and
// tells how many were added: one whose ID and SHA256 are both in the index already is passed
// over, wherever it lies, so that a set that was moved to another folder is not there twice. A
// picture that has changed keeps its ID and gets a second entry, as pictures of several sets
// may have the same ID.
//
// The entries come in ascending order of their IDs' bytes, those with one ID in that of their
// SHA256, as a barrier's Flush gets its items. Their Prints are in the order of columns, which
// must be those of the index, see [Index.Takes]; a vector must have finite numbers. Those
// of entries that are passed over are not looked at. An error of the sequence ends the adding and is returned.
//
// After an error the index is as it was, unless the error says that this is not certain, which
// is for a disk that fails in the last step. Then adding the entries again makes sure. While
// another process adds, the error is a [*LockedError]; where the folder holds other files than
// those of an index, nothing is put there. Without fs, files are the operating system's.
func Add(ctx context.Context, fs pipeline.FS, dir string, columns []Column, entries iter.Seq2[Entry, error]) (added int64, err error) {
	added, err = add(ctx, fs, dir, columns, entries)
	if err != nil {
		return 0, fmt.Errorf("adding to the index %s: %w", dir, err)
	}
	return added, nil
}

func add(ctx context.Context, fsx pipeline.FS, dir string, columns []Column, entries iter.Seq2[Entry, error]) (int64, error) {
	if err := checkColumns(columns); err != nil {
		return 0, err
	}
	root, err := orOS(fsx).OpenRoot(dir)
	if err != nil {
		return 0, err
	}
	defer func() { _ = root.Close() }() // what was written is on disk by then
	if _, _, err := survey(root, dir); err != nil {
		return 0, err
	}
	l, err := lock(dir)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	a := &adder{root: root, dir: dir, columns: columns, now: time.Now().UTC().Truncate(time.Second)}
	defer a.close()
	if err := a.prepare(); err != nil {
		return 0, err
	}
	err = a.take(ctx, entries)
	if err == nil {
		err = a.commit(ctx)
	}
	if err != nil {
		a.undo()
		return 0, err
	}
	return a.added, nil
}

// survey looks at the files in the folder: those that are an index's, and whether one of them
// names the others. Where anything else lies in a folder without an index, it is somebody
// else's.
func survey(root fsys.Root, dir string) (ours []string, exists bool, err error) {
	files, err := root.ReadDir(".")
	if err != nil {
		return nil, false, err
	}
	other := ""
	for _, f := range files {
		switch name := f.Name(); {
		case f.Type().IsRegular() && (fileForm.MatchString(name) || name == manifestTemp):
			ours = append(ours, name)
		case name != lockName && name != manifestName:
			other = name
		}
	}
	_, err = root.Lstat(manifestName)
	switch {
	case err == nil:
		return ours, true, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, false, err
	case slices.ContainsFunc(ours, fileForm.MatchString):
		return nil, false, inFile(dir, manifestName, badf("it is missing"))
	case other != "":
		return nil, false, fmt.Errorf("the folder is not that of an index, and there is %q in it: name another folder, that is empty or missing", other)
	}
	return ours, false, nil
}

// An adder has the lock of the index.
type adder struct {
	root    fsys.Root
	dir     string
	columns []Column // as the caller has them
	now     time.Time

	old   *Index
	order []int // of each column of the index, its place in columns
	next  *manifest

	roots map[string]uint32 // their numbers, from 1 on
	room  int               // bytes for further ones

	out   *writer // nil before there is something to add
	last  Entry
	any   bool // whether there was an entry
	added int64

	made     []string // files of segments
	replaced bool     // index.json
}

// prepare clears up and opens the index, which it makes where there is none.
func (a *adder) prepare() error {
	ours, exists, err := survey(a.root, a.dir)
	if err != nil {
		return err
	}
	if !exists {
		// First of all, so that segments without it are known for damage.
		for _, name := range ours {
			_ = a.root.Remove(name)
		}
		empty := &manifest{Format: manifestFormat, Version: plainVersion, Created: a.now, Next: 1, Columns: []Column{}, Roots: []string{}, Segments: []segmentInfo{}}
		if _, err := empty.write(a.root); err != nil {
			return fmt.Errorf("making it: %w", err)
		}
	}
	if a.old, err = openIn(a.root, a.dir); err != nil {
		return err
	}
	m := *a.old.manifest
	var named []string
	for _, s := range m.Segments {
		named = append(named, fileNames(s.Name, m.Columns)...)
	}
	for _, name := range ours {
		// What an add left that was killed. Where that fails, making the file will, too.
		if !slices.Contains(named, name) {
			_ = a.root.Remove(name)
		}
	}
	if err := m.takes(a.dir, a.columns); err != nil {
		return err
	}
	if m.Entries == 0 {
		m.Columns = append([]Column{}, a.columns...)
		m.Version = versionOf(m.Columns)
	}
	for _, c := range m.Columns {
		a.order = append(a.order, slices.IndexFunc(a.columns, func(o Column) bool { return o.Name == c.Name }))
	}
	m.Segments = slices.Clone(m.Segments)
	m.Roots, m.roots = slices.Clone(m.Roots), slices.Clone(m.roots)
	a.roots, a.room = map[string]uint32{}, maxRoots
	for i, root := range m.roots {
		a.roots[root] = uint32(i + 1)
		a.room -= rootBytes(m.Roots[i])
	}
	a.next = &m
	return nil
}

func (a *adder) close() {
	if a.old != nil {
		a.old.closeSegments() // the root is the caller's
	}
}

// take writes the entries that are not there yet to a segment.
func (a *adder) take(ctx context.Context, entries iter.Seq2[Entry, error]) error {
	old := newMerger(a.dir, a.old.segments, nil)
	have, more, err := old.next(ctx)
	if err != nil {
		return err
	}
	for e, err := range entries {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := a.checkKey(e); err != nil {
			return err
		}
		for more && compare(&have, &e) < 0 {
			if have, more, err = old.next(ctx); err != nil {
				return err
			}
		}
		if more && compare(&have, &e) == 0 {
			continue
		}
		if e.Later != nil {
			if e.Prints, err = e.Later(); err != nil {
				return err
			}
		}
		if err := a.checkPrints(e); err != nil {
			return err
		}
		if err := a.put(e); err != nil {
			return fmt.Errorf("writing a segment: %w", err)
		}
	}
	return nil
}

// checkKey checks what says which picture an entry is, and where it belongs.
func (a *adder) checkKey(e Entry) error {
	switch {
	case e.ID == "" || len(e.ID) > maxID || !isPlain(e.ID):
		return fmt.Errorf("the ID %.80q is empty, has more than %d bytes or is not plain text", e.ID, maxID)
	case a.any && compare(&a.last, &e) >= 0:
		return fmt.Errorf("the entry %q comes after %q: give them in ascending order of their IDs, each once", e.ID, a.last.ID)
	case e.Root != "" && !isRoot(e.Root):
		return fmt.Errorf("the entry %q is from the folder %.80q, which is not an absolute path in its shortest form, of at most %d bytes", e.ID, e.Root, maxRoot)
	case e.Width < 0 || e.Height < 0 || e.Width > math.MaxInt32 || e.Height > math.MaxInt32:
		return fmt.Errorf("the entry %q has %d x %d pixels", e.ID, e.Width, e.Height)
	}
	a.last, a.any = Entry{ID: e.ID, SHA256: e.SHA256}, true
	return nil
}

func (a *adder) checkPrints(e Entry) error {
	if len(e.Prints) != len(a.columns) {
		return fmt.Errorf("the entry %q has %d fingerprints for %d columns", e.ID, len(e.Prints), len(a.columns))
	}
	for i, p := range e.Prints {
		c := a.columns[i]
		if p != nil && len(p) != c.Size {
			return fmt.Errorf("the entry %q has %d bytes in column %s, which has %d", e.ID, len(p), c.Name, c.Size)
		}
		if !c.Vector {
			continue
		}
		for j := 0; j < len(p); j += 4 {
			if exponent := le.Uint32(p[j:]) >> 23 & 0xff; exponent == 0xff {
				return fmt.Errorf("number %d of the vector %s of the entry %q is %v, which is not finite",
					j/4, c.Name, e.ID, math.Float32frombits(le.Uint32(p[j:])))
			}
		}
	}
	return nil
}

func (a *adder) put(e Entry) (err error) {
	if a.out == nil {
		if a.out, err = a.segment(); err != nil {
			return err
		}
	}
	prints := make([][]byte, len(a.order))
	for i, from := range a.order {
		prints[i] = e.Prints[from]
	}
	e.Prints = prints
	a.added++
	return a.out.add(e, a.number(e.Root))
}

// number is that of a root, which is added where it is new. Where there is no room for it, it
// is 0, as if it was not known.
func (a *adder) number(root string) uint32 {
	if n, ok := a.roots[root]; ok || root == "" {
		return n
	}
	escaped := pipeline.EscapeID(root)
	size := rootBytes(escaped)
	if size > a.room {
		return 0
	}
	a.room -= size
	a.next.Roots, a.next.roots = append(a.next.Roots, escaped), append(a.next.roots, root)
	a.roots[root] = uint32(len(a.next.roots))
	return a.roots[root]
}

// segment begins a new segment.
func (a *adder) segment() (*writer, error) {
	name := segmentName(a.next.Next)
	a.next.Next++
	a.made = append(a.made, fileNames(name, a.next.Columns)...)
	return newWriter(a.root, name, a.next.Columns)
}

// commit makes the new state the one that counts.
func (a *adder) commit(ctx context.Context) error {
	if a.out != nil {
		info, err := a.out.finish(a.now)
		if err != nil {
			return fmt.Errorf("writing a segment: %w", err)
		}
		a.next.Segments = append(a.next.Segments, info)
		a.next.Entries += info.Entries
	} else if slices.Equal(a.next.Columns, a.old.manifest.Columns) {
		return nil
	}
	var merged []segmentInfo
	if len(a.next.Segments) > mergeAbove {
		var err error
		if merged, err = a.merge(ctx); err != nil {
			return fmt.Errorf("merging segments: %w", err)
		}
	}
	var err error
	if a.replaced, err = a.next.write(a.root); err != nil {
		err = fmt.Errorf("replacing %s: %w", manifestName, err)
		if a.replaced {
			err = fmt.Errorf("whether the entries are in it is not certain, add them again: %w", err)
		}
		return err
	}
	for _, s := range merged {
		for _, name := range fileNames(s.Name, a.next.Columns) {
			_ = a.root.Remove(name) // or the next add does
		}
	}
	return nil
}

// merge puts the smaller half of the segments into one, and returns them.
func (a *adder) merge(ctx context.Context) ([]segmentInfo, error) {
	all := a.next.Segments
	slices.SortFunc(all, func(x, y segmentInfo) int {
		return cmp.Or(cmp.Compare(x.size(), y.size()), strings.Compare(x.Name, y.Name))
	})
	half := len(all)/2 + 1
	small := slices.Clone(all[:half])
	var sources []*segment
	defer func() {
		for _, s := range sources {
			s.close()
		}
	}()
	added := time.Time{}
	for _, info := range small {
		s, err := openSegment(a.root, info, a.next)
		if err != nil {
			return nil, inFile(a.dir, info.Name, err)
		}
		sources = append(sources, s)
		if info.Added.After(added) {
			added = info.Added
		}
	}
	wanted := make([]int, len(a.next.Columns))
	for i := range wanted {
		wanted[i] = i
	}
	out, err := a.segment()
	if err != nil {
		return nil, err
	}
	a.out = out
	for m := newMerger(a.dir, sources, wanted); ; {
		e, ok, err := m.whole(ctx)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		if err := out.add(e, a.number(e.Root)); err != nil {
			return nil, err
		}
	}
	info, err := out.finish(added)
	if err != nil {
		return nil, err
	}
	a.next.Segments = append(slices.Clone(all[half:]), info)
	slices.SortFunc(a.next.Segments, func(x, y segmentInfo) int { return strings.Compare(x.Name, y.Name) })
	return small, nil
}

// undo removes what was made. It leaves everything once index.json may be another one.
func (a *adder) undo() {
	if a.out != nil {
		_ = a.out.close() // it is removed
	}
	if a.replaced {
		return
	}
	for _, name := range append(a.made, manifestTemp) {
		_ = a.root.Remove(name) // what cannot be removed, the next add removes
	}
}
