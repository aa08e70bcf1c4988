package pipeline

import (
	"context"
	"errors"
	"io"
)

// PairSource describes the file that the item's low-quality companion comes
// from, and reports whether the companion still is that file's picture, whole
// and with the samples it was decoded with, so that copying the file keeps it.
func (it *Item) PairSource() (src SourceInfo, unchanged bool) {
	f := it.fam.pair
	if it.pair == nil || f == nil || f.path == "" {
		return SourceInfo{}, false
	}
	src = SourceInfo{
		Name: f.name, Path: f.path, Size: f.size, Format: string(f.header.Format),
		Width: f.header.Width, Height: f.header.Height, Turned: f.header.Orientation > 1, SHA256: f.hash,
	}
	return src, it.next.lq == nil && it.pair.pic.buf == f.buf && it.Lineage() == ""
}

// CopyPairSource writes the bytes of the companion's source file to w, and fails
// when the file is not the one that was read.
func (it *Item) CopyPairSource(_ context.Context, w io.Writer) error {
	if it.fam.pair == nil {
		return errors.New("the low-quality companion is not from a file")
	}
	return it.fam.pair.copy(w)
}
