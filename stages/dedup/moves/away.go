package moves

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/forgepipe/forgepipe/internal/fsys"
)

// Away is a picture that was moved or deleted.
type Away struct {
	ID           string          // of the item that it was
	Root         string          // the folder of its source, absolute
	Keeper       string          // the ID of the item that was kept in its stead; empty: there was none
	KeeperSHA256 [32]byte        // of its file; zero: it was not known, or in no file here
	Explained    json.RawMessage // as its Job had it
}

// EachAway yields the pictures that earlier runs with the record moved or deleted, with
// what was said of why, in the order of the record: those that were not restored, and in
// whose place there is nothing. Of the options, To, Record and FS count. Without a record
// there are none. An error of yield ends it and is returned.
func EachAway(ctx context.Context, o Options, yield func(Away) error) error {
	file := o.recordFile()
	if !hasFile(file) {
		return nil
	}
	if o.FS == nil {
		o.FS = fsys.OS
	}
	rec, err := openRecord(o.FS, file, false)
	if err != nil {
		return err
	}
	defer func() { _ = rec.close() }() // it was only read
	h, err := rec.history()
	if err != nil {
		return err
	}
	return rec.lines(0, func(at int64, l *line) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case l.Event != intended || l.Kind != kindImage || l.Explained == nil || l.Action != Move && l.Action != Delete:
			return nil
		}
		newest, ok := h.find(l.place())
		if !ok || newest.at() != at {
			return nil
		}
		if _, err := os.Lstat(l.place()); !absent(err) {
			return nil
		}
		if !newest.went() {
			// Of a run that was killed, the last lines may be missing.
			info, err := os.Lstat(filepath.Join(absolute(o.To), filepath.FromSlash(l.Target)))
			if l.Action == Delete || err != nil || info.Size() != l.Size {
				return nil // somebody else took it away
			}
		}
		return yield(Away{ID: l.ID, Root: l.Root, Keeper: l.Keeper, KeeperSHA256: l.KeeperSum, Explained: l.Explained})
	})
}

// Room is what Apply and EachAway take in memory for what the record tells of earlier
// runs, in bytes.
func Room(o Options) int64 {
	info, err := os.Lstat(o.recordFile())
	if err != nil {
		return 0
	}
	// The lines of a picture have 330 bytes and more, of which at most 90 are kept while they are
	// read, and 24 then; with one that it was restored they have 440, and 144 are kept.
	return info.Size() / 3
}
