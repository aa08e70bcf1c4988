package moves

import (
	"os"
	"path/filepath"

	"github.com/forgepipe/forgepipe/pipeline"
)

// JobOf describes the files of an item, without its keeper. It reports false for an item
// that has none of its own: one that is not from a file, or a part of it, as a tile is.
// The companion's sidecars are those that have an extension of the picture's.
func JobOf(it *pipeline.Item) (Job, bool) {
	src := it.Source()
	if src.Path == "" || it.Lineage() != "" {
		return Job{}, false
	}
	j := Job{ID: it.ID(), Source: src.Name, Path: src.Path, Size: src.Size, SHA256: src.SHA256, Sidecars: src.Sidecars}
	if lq, _ := it.PairSource(); lq.Path != "" {
		c := &Companion{Source: lq.Name, Path: lq.Path, Size: lq.Size, SHA256: lq.SHA256}
		dir, base := filepath.Split(lq.Path)
		stem, _ := stemExt(base)
		for _, s := range src.Sidecars {
			info, err := os.Lstat(dir + stem + s.Ext)
			if err == nil && info.Mode().IsRegular() {
				c.Sidecars = append(c.Sidecars, pipeline.Sidecar{Ext: s.Ext, Path: dir + stem + s.Ext, Size: info.Size(), Time: info.ModTime().UnixNano()})
			}
		}
		j.LQ = c
	}
	return j, true
}
