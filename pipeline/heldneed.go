package pipeline

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/forgepipe/forgepipe/memory"
)

// HeldNeed is what a barrier will take while it decides about all inputs of the source,
// which are the most that it can hold. Rejecting stages before it may leave it fewer.
type HeldNeed struct {
	Stage   string     `json:"stage"`    // its id in the pipeline
	Items   int64      `json:"items"`    // that it is foreseen for
	Memory  int64      `json:"memory"`   // bytes
	Limit   int64      `json:"limit"`    // bytes of memory that there are for it
	Disks   []DiskNeed `json:"disks"`    // the scratch folder, in which the held items are, first
	AtLeast bool       `json:"at_least"` // there is more that is not known before the run
}

// DiskNeed is what is going to lie in a folder.
type DiskNeed struct {
	Folder string `json:"folder"` // or what there is of its path by now
	Bytes  int64  `json:"bytes"`  // that it will take
	Free   *int64 `json:"free"`   // bytes that its disk has; nil: not known
}

// Short says what there is too little of, and what helps: nothing, or a sentence for each.
func (n HeldNeed) Short() (short []string) {
	about := "about"
	if n.AtLeast {
		about = "at least"
	}
	if n.Memory > n.Limit {
		short = append(short, fmt.Sprintf("%s will take %s %s of memory to decide about %d items, and the run has %s for that: raise memory.host.limit, or split the set",
			n.Stage, about, memory.FormatBytes(n.Memory), n.Items, memory.FormatBytes(n.Limit)))
	}
	for i, d := range n.Disks {
		if d.Free == nil || d.Bytes <= *d.Free {
			continue
		}
		help := ""
		if i == 0 {
			help = ", or put the state directory on another disk (--state)"
		}
		short = append(short, fmt.Sprintf("%s will take %s %s on the disk of %s to decide about %d items, and that has %s: make room before the run comes to it%s",
			n.Stage, about, memory.FormatBytes(d.Bytes), d.Folder, n.Items, memory.FormatBytes(*d.Free), help))
	}
	return short
}

// parkedItem is about what an item takes on disk while it is held, beside its vectors.
const parkedItem = 600

// heldNeeds are what the barriers will take for that many inputs. It leaves out those behind
// stages that make several items of one: nobody knows how many.
func (r *run) heldNeeds(inputs int64) []HeldNeed {
	needs := []HeldNeed{}
	vectors := map[string]int{}
	for _, n := range r.nodes {
		if c, ok := n.Stage.(HeldCoster); ok {
			needs = append(needs, r.heldNeed(n, c.HeldCost(inputs), inputs, vectors))
		}
		if n.Info.Derives || n.Info.Name == "" {
			break
		}
		if v, ok := n.Stage.(VectorSizer); ok {
			maps.Copy(vectors, v.VectorSizes())
		}
	}
	return needs
}

func (r *run) heldNeed(n *node, c HeldCost, items int64, vectors map[string]int) HeldNeed {
	// What stays in memory with it, and the room that one call must always find.
	taken := r.plan.reserve
	for _, phase := range r.plan.Phases {
		if slices.ContainsFunc(phase, func(s PlannedStage) bool { return s.ID == n.ID }) {
			for _, s := range phase {
				taken += s.Resident
			}
		}
	}
	each := int64(parkedItem)
	for _, numbers := range vectors {
		each += 4 * int64(numbers)
	}
	scratch := r.stateDir
	if scratch == "" {
		scratch = os.TempDir()
	}
	need := HeldNeed{Stage: n.ID, Items: items, Memory: c.Memory, Limit: r.plan.HostBudget - taken, AtLeast: c.AtLeast}
	need.Disks = append(need.Disks, r.diskNeed(scratch, c.Scratch+each*items))
	for _, folder := range slices.Sorted(maps.Keys(c.Folders)) {
		need.Disks = append(need.Disks, r.diskNeed(folder, c.Folders[folder]))
	}
	return need
}

// diskNeed finds how much room there is for what is going to lie in a folder.
func (r *run) diskNeed(folder string, bytes int64) DiskNeed {
	// Opening it would make it.
	for {
		if _, err := os.Stat(folder); err == nil || folder == filepath.Dir(folder) {
			break
		}
		folder = filepath.Dir(folder)
	}
	need := DiskNeed{Folder: folder, Bytes: bytes}
	root, err := r.pipe.fs.OpenRoot(folder)
	if err != nil { // who wants to write there says what is wrong
		return need
	}
	defer func() { _ = root.Close() }() // it was only looked at
	if n, err := root.Free(); err == nil {
		need.Free = &n
	}
	return need
}

// warnOfNeed says early what the run will have too little of when it comes to its barriers.
func (r *run) warnOfNeed(inputs int64) {
	for _, n := range r.heldNeeds(inputs) {
		for _, text := range n.Short() {
			r.pipe.log.Warn(text)
		}
	}
}
