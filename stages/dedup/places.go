package dedup

import (
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup/index"
)

// places say of the items of a run where their files are, to find out what has become of
// those of entries.
type places struct {
	*table
	real  map[string]bool   // roots of items without symbolic links
	links map[string]string // of roots, also of entries: what they lead to
	of    []place           // of items
}

type place struct {
	sum  [32]byte
	size int64
	root string // as rootOf has it; empty: path says where it is
	path string
}

// placeBytes is what a place takes, beside a path.
const placeBytes = 80

// placesOf reads where the items are.
func placesOf(held pipeline.HeldItems, t *table) (*places, error) {
	p := &places{table: t, real: map[string]bool{}, links: map[string]string{}, of: make([]place, 0, t.items)}
	seen := map[string]string{}
	for it, err := range held {
		if err != nil {
			return nil, err
		}
		src := it.Source()
		at := place{sum: src.SHA256, size: src.Size}
		if root := rootOf(src); root == "" {
			at.path = src.Path
		} else if at.root = seen[root]; at.root == "" {
			at.root, seen[root] = root, root // one text for all
			p.real[p.resolved(root)] = true
		}
		p.of = append(p.of, at)
	}
	return p, nil
}

// rootOf is the folder that the name of a source is relative to; empty where that cannot be
// told.
func rootOf(src pipeline.SourceInfo) string {
	root, ok := strings.CutSuffix(src.Path, "/"+src.Name)
	switch {
	case ok && root == "":
		return "/"
	case !ok || !filepath.IsAbs(root) || filepath.Clean(root) != root:
		return ""
	}
	return root
}

// resolved is a root without symbolic links, as far as it is there.
func (p *places) resolved(root string) string {
	real, ok := p.links[root]
	if !ok {
		var err error
		if real, err = filepath.EvalSymlinks(root); err != nil {
			real = root
		}
		p.links[root] = real
	}
	return real
}

// standing judges an entry. It is indexed where its picture may lie in a file that is none of
// an item's: then items may be duplicates of it. It is replaced where an item has its file,
// or the name of its file, which is gone: nothing must be rejected for a picture that is only
// in an index. An item with its ID is the entry's picture itself, if the bytes are the same.
func (p *places) standing(e index.Entry) (c class, item int, itself bool) {
	base, _, _ := strings.Cut(e.ID, "@")
	name, err := pipeline.UnescapeID(base)
	located := err == nil && e.Root != ""
	lineage := e.ID[len(base):]
	i := -1
	if located {
		i = p.inFile(filepath.Join(p.resolved(e.Root), name), lineage)
	}
	if i < 0 {
		if i = p.ofSource(base, lineage); i < 0 || located && p.liesElsewhere(filepath.Join(e.Root, name), name, i, e.SHA256) {
			return indexed, -1, false
		}
	}
	_, made, _ := strings.Cut(p.id(i), "@")
	return replaced, i, p.of[i].sum == e.SHA256 && made == strings.TrimPrefix(lineage, "@")
}

// liesElsewhere tells whether the picture of an entry lies in that file, and that is another
// one than that of item i, whose source has this name.
func (p *places) liesElsewhere(path, name string, i int, sum [32]byte) bool {
	// Through a link, too: what it leads to must be there, and may be the item's file.
	info, err := os.Stat(path)
	at := p.of[i]
	switch {
	case err != nil || !info.Mode().IsRegular():
		return false
	case sum == at.sum && info.Size() != at.size:
		return false // by now, something else has that name
	}
	if at.root != "" {
		at.path = filepath.Join(at.root, name)
	}
	own, err := os.Stat(at.path)
	return err != nil || !os.SameFile(info, own)
}

// inFile is an item that was made of the file, -1 where there is none; as for ofSource.
func (p *places) inFile(file, lineage string) int {
	for dir := filepath.Dir(file); ; dir = filepath.Dir(dir) {
		if p.real[dir] {
			name := strings.TrimPrefix(file[len(dir):], "/")
			if i := p.ofSource(pipeline.EscapeID(name), lineage); i >= 0 && p.of[i].root != "" && p.resolved(p.of[i].root) == dir {
				return i
			}
		}
		if dir == filepath.Dir(dir) {
			return -1
		}
	}
}

// ofSource is the item that was made of that source in that way, or where there is none,
// another one of that source; otherwise -1.
func (p *places) ofSource(base, lineage string) int {
	for _, id := range []string{base + lineage, base} {
		if i := p.from(id); i < p.items && p.id(i) == id {
			return i
		}
	}
	if i := p.from(base + "@"); i < p.items && strings.HasPrefix(p.id(i), base+"@") {
		return i
	}
	return -1
}

// from is the number of the first item whose ID is that or comes behind it.
func (p *places) from(id string) int {
	return sort.Search(p.items, func(i int) bool { return p.id(i) >= id })
}
