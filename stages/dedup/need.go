package dedup

import (
	"github.com/forgepipe/forgepipe/model/lpips"
	"github.com/forgepipe/forgepipe/model/nearest"
	"github.com/forgepipe/forgepipe/pipeline"
)

// What items are taken to have that are not there yet, in bytes.
const (
	usualID      = 64
	usualSidecar = sidecarBytes + 64
)

// HeldCost is what comparing that many items takes, with the entries of indexes. Of vectors
// it tells as far as their lengths are known, and of pictures where a step measures those of
// all items: of how many others propose to it only the run finds out.
func (s *Stage) HeldCost(items int64) pipeline.HeldCost {
	all := totals{items: items, entries: s.indexes.entries, ids: usualID * (items + s.indexes.entries)}
	if s.merge {
		all.sidecars = usualSidecar * items
	}
	all.vectors = make([]vectorKind, len(s.by))
	for i, st := range s.by {
		all.vectors[i].dim = s.env.Vectors[st.vector]
	}
	during, _ := s.room(all)
	return pipeline.HeldCost{Memory: during, Disk: s.vectorDisk(all) + s.pictureDisk(items + s.indexes.entries)}
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

// pictureDisk is what the pictures of that many items take in the scratch folder.
func (s *Stage) pictureDisk(items int64) (need int64) {
	for _, st := range s.by {
		if st.measure != perceived || st.confirms {
			continue
		}
		files, err := lpipsFiles(st.model)
		if err != nil { // the constructor has found it
			continue
		}
		if each, err := lpips.SetBytes(st.side, files...); err == nil { // opening it says what is wrong
			need += each * items
		}
	}
	return need
}
