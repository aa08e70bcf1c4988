package dedup

import (
	"github.com/forgepipe/forgepipe/model/lpips"
	"github.com/forgepipe/forgepipe/model/nearest"
	"github.com/forgepipe/forgepipe/pipeline"
)

// What items are taken to have that are not there yet, and what an index takes for one
// beside what it is compared by, in bytes.
const (
	usualID      = 64
	usualSidecar = sidecarBytes + 64
	indexedItem  = usualID + 64
)

// HeldCost is what comparing that many items takes, with the entries of indexes. Of vectors
// it tells as far as their lengths are known. Pictures that a step measures on its own are
// those of all items; of how many others propose to it only the run finds out.
func (s *Stage) HeldCost(items int64) (c pipeline.HeldCost) {
	n := items + s.indexes.entries
	all := totals{items: items, entries: s.indexes.entries, ids: usualID * n, vectors: make([]vectorKind, len(s.by))}
	if s.merge {
		all.sidecars = usualSidecar * items
	}
	for i, st := range s.by {
		all.vectors[i].dim = s.env.Vectors[st.vector]
		c.AtLeast = c.AtLeast || st.vector != "" && all.vectors[i].dim == 0
	}
	c.Memory, _ = s.room(all)
	c.Scratch = s.vectorDisk(all)
	if m := s.measuring(); m >= 0 {
		memory, disk, err := s.pictureNeed(s.by[m], items, n)
		if err != nil {
			s.env.Log.Debug("foreseeing what measuring pictures takes", "cause", err) // opening the network says what is wrong
		}
		c.Memory, c.Scratch, c.AtLeast = c.Memory+memory, c.Scratch+disk, c.AtLeast || s.by[m].confirms || err != nil
	}
	if s.indexes.add != "" && !s.aside(s.indexes.add) {
		columns, _ := s.columns(all.vectors)
		each := int64(indexedItem)
		for _, column := range columns {
			each += int64(column.Size)
		}
		c.Folders = map[string]int64{s.indexes.add: items * each}
	}
	return c
}

// pictureNeed is what the pictures of a step take: those of all, or of two where other steps
// propose to it, and where an index keeps them those of all items, squashed.
func (s *Stage) pictureNeed(st step, items, n int64) (memory, disk int64, err error) {
	files, err := lpipsFiles(st.model)
	if err != nil {
		return 0, 0, err
	}
	if st.confirms {
		n = 2
	}
	each, err := lpips.SetBytes(st.side, files...)
	if err != nil {
		return 0, 0, err
	}
	disk = n * each
	if s.indexes.add != "" {
		disk = max(disk, items*3*int64(st.side)*int64(st.side))
	}
	return s.pictureRoom(st, files, n, n*n), disk, nil
}

// vectorDisk is what vectors of known lengths take in the scratch folder.
func (s *Stage) vectorDisk(all totals) (need int64) {
	for i, st := range s.by {
		if st.vector != "" && all.vectors[i].dim > 0 {
			need += nearest.Spill(all.vectors[i].dim, all.items+all.entries)
		}
	}
	return need
}
