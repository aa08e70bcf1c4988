package moves

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/forgepipe/forgepipe/pipeline"
)

// Action is what is done with the files of duplicates.
type Action string

const (
	// Move moves files into a folder.
	Move Action = "move"
	// Copy copies files into a folder, and leaves them where they are.
	Copy Action = "copy"
	// Hardlink gives files a second name in a folder, which takes no room.
	Hardlink Action = "hardlink"
	// Delete removes files for good.
	Delete Action = "delete"
)

// RecordName is the name of a record in the folder that files go to.
const RecordName = "moves.jsonl"

// A Job is a duplicate: a picture with what belongs to it.
type Job struct {
	ID     string   // of the item
	Source string   // of the picture, relative to the source's root, slash-separated, raw bytes
	Path   string   // of the picture, absolute; where it ends with Source, what is before that is the source's root
	Size   int64    // bytes that the run saw
	SHA256 [32]byte // of the bytes that the run saw; zero: not known
	// Sidecars are files beside the picture that go with it. Those of another place or
	// stem, as an image has that took over a duplicate's caption, are passed over.
	Sidecars []pipeline.Sidecar
	LQ       *Companion // of a pair

	Keeper       string   // the ID of the item that is kept in its stead; empty: there is none, and then nothing is deleted
	KeeperPath   string   // its file, absolute; empty: it is not in a file here, and then nothing is deleted
	KeeperSize   int64    // bytes of that which the run saw; below 0: not known, and KeeperSHA256 is always compared
	KeeperSHA256 [32]byte // likewise; zero: not known. It is compared before a file is deleted, which is not if neither is known
	KeeperIndex  string   // the folder of the index that the keeper is from, to be named; empty: it is an item of the run

	// Explained is what the caller has to say of why it is a duplicate, which the record
	// keeps for EachAway; nil: nothing.
	Explained json.RawMessage
}

// Root is the folder of the source, absolute.
func (j *Job) Root() string {
	root, _ := rootOf(j.Path, j.Source)
	return root
}

// A Companion is the low-quality picture of a pair.
type Companion struct {
	Source   string             // as that of a Job, relative to its own root
	Path     string             // absolute
	Size     int64              // bytes that the run saw
	SHA256   [32]byte           // of these; zero: not known
	Sidecars []pipeline.Sidecar // files beside it that go with it
}

// Options say what Apply does.
type Options struct {
	Action Action // what is done
	// To is the folder that files go to, which must not lie in that of the sources; none
	// with Delete. The tree below the source's root is kept, for pairs in the folders hq
	// and lq. Where a name is taken, the picture gets a number, as do the files that
	// belong to it: a-2.jpg, a-2.txt.
	To string
	// Record is the file that everything is written to, which is added to; empty:
	// RecordName in To. Delete must have one.
	Record string
	FS     pipeline.FS // of the folders; nil: that of this machine
	// DeleteCount is how many pictures Delete removes, not counting sidecars and the
	// low-quality ones of pairs: with another number nothing is deleted, and nothing of it
	// written to the record, see CountError.
	// It goes on holding while a run that was killed is made up for. Below 0: any.
	DeleteCount int64
	// Stop is asked before each picture whether to end with ErrStopped; nil: never.
	Stop func() bool
	Time time.Time // of the run; zero: now
}

// Report is what Apply did.
type Report struct {
	Images   int64 `json:"images"`   // pictures that were moved, copied, linked or deleted now
	Files    int64 `json:"files"`    // the same with sidecars and low-quality pictures
	Bytes    int64 `json:"bytes"`    // of these files
	Already  int64 `json:"already"`  // pictures with which an earlier Apply had done it
	Numbered int64 `json:"numbered"` // pictures that got a number, as their name was taken
	Left     int64 `json:"left"`     // pictures that were left alone, or not done with everything that belongs to them
	// Why are the reasons, each with how many there are and some pictures.
	Why    []Reason `json:"why,omitempty"`
	Undone int64    `json:"undone"` // pictures that were not come to, when an error ended it
	Record string   `json:"record"` // the file, absolute; empty: there was nothing to do
}

// Reason is why pictures were left alone.
type Reason struct {
	Text  string   `json:"text"`  // what did not hold
	Count int64    `json:"count"` // of how many pictures
	First []string `json:"first"` // paths of the first of them, and with what is particular of each
	// Refused says that the system did not do what it was asked, which First has the cause of.
	Refused bool `json:"refused,omitempty"`
}

// A CountError says that another number of pictures would be deleted than was said.
type CountError struct {
	Would int64 // pictures that would be deleted
	Said  int64 // DeleteCount
}

func (e *CountError) Error() string {
	what := fmt.Sprintf("%d pictures would be deleted", e.Would)
	if e.Would == 1 {
		what = "1 picture would be deleted"
	}
	return fmt.Sprintf("%s (not counting what belongs to them), and delete_count is %d: nothing is deleted; look at what they are (action: report), and if that is right write delete_count: %d", what, e.Said, e.Would)
}

// ErrStopped says that Options.Stop ended it: what was done is durable, and the same jobs
// go on with the rest.
var ErrStopped = errors.New("stopped")

// ErrLocked says that another process is at work with a record.
var ErrLocked = errors.New("another process is at work with this record of duplicates")

// Apply does the action with the files of all jobs, in their order. What does not hold
// of one leaves that one alone with all that belongs to it, and is in the report; an
// error ends it: a full disk, a folder that is gone, a context that ended, a
// [CountError], [ErrStopped], [ErrLocked], jobs that end with one. The report is of what
// was done until then. Applied again with the same jobs, or with those of files that are
// still there, it ends in the same state as one that nothing ended.
func Apply(ctx context.Context, o Options, jobs iter.Seq2[Job, error]) (Report, error) {
	a := newApplying(o)
	err := a.all(ctx, jobs)
	switch n := a.report.Undone; {
	case err == nil:
	case n > 0:
		err = fmt.Errorf("%s duplicates: %w (%d of the pictures were not come to: run again to go on)", going[o.Action], err, n)
	default:
		err = fmt.Errorf("%s duplicates: %w", going[o.Action], err)
	}
	return a.report, err
}
