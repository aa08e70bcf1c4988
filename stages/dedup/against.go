package dedup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/model/lpips"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup/index"
)

// indexes are the finished sets that items are compared with, and the one that they are
// added to.
type indexes struct {
	against []string // folders
	add     string   // folder; empty: none
	entries int64    // that items are compared with, when the stage was made
}

// entries are those of indexes in a table, behind the items of the run.
type entries struct {
	folders []string    // of the indexes
	first   []uint32    // entry of each
	sizes   [][2]uint32 // of the entries: width and height
}

// opened is an index that items are compared with.
type opened struct {
	*index.Index
	folder string
}

func indexFields() []pipeline.Field {
	return []pipeline.Field{
		{
			Name: "against", Type: pipeline.FieldStrings, Flush: true,
			Doc:      "Folders of indexes of finished sets: items are compared with their entries, too, which always win, and are not passed on. Their pictures are not read.",
			Examples: []string{"./master.index"},
		},
		{
			Name: "index", Type: pipeline.FieldPath, Flush: true,
			Doc:      "A folder with an index, to which what the kept items are compared by is added when all is decided. It is made if it is missing. Give it as against, too, to compare new images with those of earlier runs.",
			Examples: []string{"./master.index"},
		},
	}
}

func newIndexes(c pipeline.Config, e pipeline.Env, by []step) (x indexes, err error) {
	x.against = c.Strings("against")
	if c.IsSet("index") {
		x.add = filepath.Clean(c.String("index"))
	}
	if len(x.against) == 0 && x.add == "" {
		return x, nil
	}
	for i, folder := range x.against {
		n, err := tryIndex(e.FS, folder, by, false)
		x.entries += n
		// The run makes the one that it adds to.
		if errors.Is(err, fs.ErrNotExist) && filepath.Clean(folder) == x.add {
			err = nil
		}
		if err != nil {
			return x, c.ElementErrorf("against", i, "%w", err)
		}
	}
	if x.add == "" {
		return x, nil
	}
	if _, err := tryIndex(e.FS, x.add, by, true); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return x, c.Errorf("index", 0, "%w", err)
	}
	return x, nil
}

// tryIndex looks whether an index can be read and has what the steps compare by, as far as
// that can be told before there are vectors, and how many entries it has. all says that it
// must have nothing else.
func tryIndex(fs pipeline.FS, folder string, by []step, all bool) (entries int64, err error) {
	x, err := index.Open(fs, folder)
	if err != nil {
		return 0, err
	}
	defer func() { _ = x.Close() }() // it was only read
	if x.Len() == 0 {
		return 0, nil
	}
	have := map[string]index.Column{}
	for _, c := range x.Columns() {
		have[c.Name] = c
	}
	columns, parts := columnsOf(by, make([]vectorKind, len(by)))
	for i, c := range columns {
		st := by[parts[i].step]
		o, ok := have[c.Name]
		delete(have, c.Name)
		_, pictures := have[st.squashed()]
		switch {
		case !ok && st.measure == perceived && !parts[i].picture && pictures:
			return 0, fmt.Errorf("the index %s has pictures for %s and no vectors of them: it was made where %[2]s confirms; say confirm: true, or make it again without", folder, st.name)
		case !ok:
			return 0, fmt.Errorf("the index %s has nothing of %s: it was made with other steps; make it again with these, or compare by those that it has", folder, st.name)
		case parts[i].picture && o.Size != c.Size:
			side := int(math.Sqrt(float64(o.Size / 3)))
			return 0, fmt.Errorf("the index %s has pictures of %d x %d for %s, and here they would have %d x %d: give %[4]s the size of the index, or make it again", folder, side, side, st.name, st.side, st.side)
		}
	}
	for _, c := range x.Columns() {
		if _, more := have[c.Name]; more && all {
			name := strings.TrimSuffix(c.Name, picturesSuffix)
			if slices.ContainsFunc(by, func(st step) bool { return st.name == name }) { // its vectors
				return 0, fmt.Errorf("the index %s has vectors for %s, which are not made where that confirms: leave confirm: true out, or name another folder, for a new index", folder, name)
			}
			return 0, fmt.Errorf("the index %s has %s, which is missing here: compare by %[2]s, too, or name another folder, for a new index", folder, name)
		}
	}
	return x.Len(), nil
}

func (x indexes) writes() []pipeline.OutputTree {
	if x.add == "" {
		return nil
	}
	return []pipeline.OutputTree{{Root: x.add, Template: "index.json", File: true, Apart: true}}
}

// A part is what an index has of a step: its hash or vector, or the pictures that it
// measures, squashed.
type part struct {
	step    int
	picture bool
}

// columns are what an index has of the steps, and what of each.
func (s *Stage) columns(kinds []vectorKind) ([]index.Column, []part) { return columnsOf(s.by, kinds) }

func columnsOf(by []step, kinds []vectorKind) (all []index.Column, parts []part) {
	add := func(c index.Column, p part) { all, parts = append(all, c), append(parts, p) }
	for i, st := range by {
		switch {
		case st.vector != "":
			add(index.Column{Name: st.name, Size: 4 * kinds[i].dim, Vector: true, Model: kinds[i].model}, part{step: i})
		case st.take != nil:
			add(index.Column{Name: st.name, Size: st.size, Version: st.version}, part{step: i})
		}
		if st.measure == perceived {
			add(index.Column{Name: st.squashed(), Size: 3 * st.side * st.side, Version: lpips.PreparedVersion}, part{step: i, picture: true})
		}
	}
	return all, parts
}

// squashed is what the pictures are called in an index that the step measures.
func (s *step) squashed() string { return s.name + picturesSuffix }

const picturesSuffix = ".pictures"

// openIndexes opens what items are compared with, and counts it.
func (s *Stage) openIndexes(ctx context.Context, d *deciding, all *totals) error {
	if len(s.indexes.against) == 0 && s.indexes.add == "" || all.items == 0 {
		return nil
	}
	columns, _ := s.columns(all.vectors)
	for _, folder := range s.indexes.against {
		x, err := index.Open(s.env.FS, folder)
		if errors.Is(err, fs.ErrNotExist) && filepath.Clean(folder) == s.indexes.add {
			continue
		}
		if err != nil {
			return err
		}
		d.indexes = append(d.indexes, &opened{x, folder})
		if err := x.Has(columns); err != nil {
			return err
		}
	}
	for _, x := range d.indexes {
		all.entries += x.Len()
	}
	if all.entries > math.MaxUint32 {
		return nil // refused in a moment
	}
	// IDs are of all lengths: they are counted as they are read.
	for _, x := range d.indexes {
		for e, err := range x.All(ctx, nil) {
			if err != nil {
				return err
			}
			all.ids += int64(len(e.ID))
		}
	}
	if s.indexes.add == "" {
		return nil
	}
	x, err := index.Open(s.env.FS, s.indexes.add)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = x.Close() }() // it was only read
	return x.Takes(columns)
}

// enterIndexes adds the entries of the indexes to the table.
func (s *Stage) enterIndexes(ctx context.Context, held pipeline.HeldItems, t *table, open []*opened) error {
	if len(open) == 0 {
		return nil
	}
	p, err := placesOf(held, t)
	if err != nil {
		return err
	}
	var names []string
	var of []int // the columns of the table
	for i, st := range s.by {
		// Pictures are taken when it is known which of them are asked about.
		if st.take != nil || st.vector != "" {
			names, of = append(names, st.name), append(of, i)
		}
	}
	for _, x := range open {
		t.folders = append(t.folders, x.folder)
		t.first = append(t.first, uint32(t.len()))
		for e, err := range x.All(ctx, names) {
			if err != nil {
				return err
			}
			c, i, itself := p.standing(e)
			if itself && t.classes[i] != gone {
				t.classes[i] = known
			}
			if err := t.enterEntry(x.folder, e, c, of); err != nil {
				return err
			}
		}
	}
	return nil
}

// enterEntry adds an entry to the table, whose prints are for those columns.
func (t *table) enterEntry(folder string, e index.Entry, class class, of []int) error {
	at := t.len()
	for i, p := range e.Prints {
		c := &t.columns[of[i]]
		switch {
		case c.vectors != nil && p == nil:
			return fmt.Errorf("comparing with the index %s: %s has no vector for %s", folder, e.ID, c.name)
		case c.vectors != nil:
			v := make([]float32, len(p)/4)
			for j := range v {
				v[j] = math.Float32frombits(binary.LittleEndian.Uint32(p[4*j:]))
			}
			if err := c.vectors.Append(v); err != nil {
				return fmt.Errorf("comparing with the index %s, %s by %s: %w", folder, e.ID, c.name, err)
			}
		case p != nil:
			c.has[at] = true
			copy(c.at(at), p)
		}
	}
	t.addID(e.ID)
	t.classes = append(t.classes, class)
	t.sizes = append(t.sizes, [2]uint32{uint32(e.Width), uint32(e.Height)})
	return nil
}

// takeIndexed takes of the indexes the wanted pictures of their entries.
func (s *Stage) takeIndexed(ctx context.Context, t *table, open []*opened, p *pictures, wanted []bool) error {
	for n, x := range open {
		var at uint32 // the entry
		pick := func(place int64) bool {
			at = t.first[n] + uint32(place)
			return wanted[at]
		}
		for e, err := range x.Picked(ctx, []string{p.squashed()}, pick) {
			if err != nil {
				return err
			}
			if e.Prints[0] == nil { // it could not be decoded
				continue
			}
			if p.numbers[at], err = p.set.Append(e.Prints[0]); err != nil {
				return fmt.Errorf("comparing with the index %s by %s: %w", x.folder, p.name, err)
			}
		}
	}
	return nil
}

// folder is that of the index that an entry is from.
func (t *table) folder(entry uint32) string {
	at := 0
	for at+1 < len(t.first) && t.first[at+1] <= entry {
		at++
	}
	return t.folders[at]
}

// aside tells whether what is written to a folder goes elsewhere, as in the run of a
// sample: then nothing is changed that stays.
func (s *Stage) aside(folder string) bool {
	abs, err := filepath.Abs(folder)
	return err != nil || s.env.OutputDir(folder) != abs
}
