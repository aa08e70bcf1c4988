package pipeline

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/forgepipe/forgepipe/memory"
)

// HeldNeed is what a barrier will take while it decides about all inputs of the source,
// which are the most that it can hold. Rejecting stages before it may leave it fewer.
type HeldNeed struct {
	Stage  string `json:"stage"`  // its id in the pipeline
	Items  int64  `json:"items"`  // that it is foreseen for
	Memory int64  `json:"memory"` // bytes
	Limit  int64  `json:"limit"`  // bytes of memory that there are for it
	Disk   int64  `json:"disk"`   // bytes, those of the held items included
	Folder string `json:"folder"` // where that will lie, or what there is of its path by now
	Free   *int64 `json:"free"`   // bytes that the disk of Folder has; nil: not known
}

// Short says what there is too little of, and what helps; empty: there is enough.
func (n HeldNeed) Short() string {
	what := fmt.Sprintf("%s will take about", n.Stage)
	switch {
	case n.Memory > n.Limit:
		return fmt.Sprintf("%s %s of memory to decide about %d items, and the run has %s for that: raise memory.host.limit, or split the set", what, memory.FormatBytes(n.Memory), n.Items, memory.FormatBytes(n.Limit))
	case n.Free != nil && n.Disk > *n.Free:
		return fmt.Sprintf("%s %s on the disk of %s to decide about %d items, and that has %s: make room before the run comes to it, or put the state directory on another disk (--state)", what, memory.FormatBytes(n.Disk), n.Folder, n.Items, memory.FormatBytes(*n.Free))
	}
	return ""
}

// parkedItem is about what an item takes on disk while it is held, beside its vectors.
const parkedItem = 600

// heldNeeds are what the barriers will take for that many inputs. It leaves out those behind
// stages that make several items of one: nobody knows how many.
func (r *run) heldNeeds(inputs int64) []HeldNeed {
	needs := []HeldNeed{}
	sizes := map[string]int{}
	for _, n := range r.nodes {
		if c, ok := n.Stage.(HeldCoster); ok {
			cost := c.HeldCost(inputs)
			each := int64(parkedItem)
			for _, size := range sizes {
				each += 4 * int64(size)
			}
			need := HeldNeed{Stage: n.ID, Items: inputs, Memory: cost.Memory, Limit: r.plan.HostBudget, Disk: cost.Disk + each*inputs}
			need.Folder, need.Free = r.scratchDisk()
			needs = append(needs, need)
		}
		if n.Info.Derives || n.Info.Name == "" {
			break
		}
		if v, ok := n.Stage.(VectorSizer); ok {
			for name, size := range v.VectorSizes() {
				sizes[name] = size
			}
		}
	}
	return needs
}

// scratchDisk is where the scratch folder of a run will lie, as far as that is there, and
// how much room its disk has; nil: that cannot be told.
func (r *run) scratchDisk() (folder string, free *int64) {
	folder = r.stateDir
	if folder == "" {
		folder = os.TempDir()
	}
	for {
		if _, err := os.Stat(folder); err == nil || folder == filepath.Dir(folder) {
			break
		}
		folder = filepath.Dir(folder)
	}
	root, err := r.pipe.fs.OpenRoot(folder)
	if err != nil { // who wants to write there says what is wrong
		return folder, nil
	}
	defer func() { _ = root.Close() }() // it was only looked at
	n, err := root.Free()
	if err != nil {
		return folder, nil
	}
	return folder, &n
}

// warnOfNeed says early what the run will have too little of when it comes to its barriers.
func (r *run) warnOfNeed(inputs int64) {
	for _, n := range r.heldNeeds(inputs) {
		if text := n.Short(); text != "" {
			r.pipe.log.Warn(text)
		}
	}
}
