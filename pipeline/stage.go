package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/memory"
)

// A Stage turns a batch of items into zero or more items.
//
// Each item of the batch must end in exactly one way: returned, derived from
// (at least one item made by its Derive is returned or rejected), rejected,
// failed, or, in a barrier, held. Anything else is a bug in the stage and ends
// the run. An error is for what makes the rest of the run pointless (disk full,
// model cannot load); one bad item is that item's Fail. (Func, a stage of one function
// for one item, has the rule that fits it: an error of the function fails the item.)
//
// Process is called by several goroutines at once unless the stage is Serial.
// A call may be repeated with the same items, also in smaller batches, after it
// returned an error that is memory.ErrOutOfMemory or after it panicked; barriers
// and stages that are Stateful are never called twice with an item.
type Stage interface {
	Process(ctx context.Context, batch []*Item) ([]*Item, error)
}

// Func makes a Stage of a function that looks at or changes one item: an error that it
// returns fails this item, and it alone. An item that it does not Reject or Fail either is
// passed on. One whose error is memory.ErrOutOfMemory is tried again, alone, before it
// fails. A stage that must end the run implements Process.
type Func func(ctx context.Context, it *Item) error

// Process calls f for each item of the batch, in their order. When ctx ends, its error is
// returned.
func (f Func) Process(ctx context.Context, batch []*Item) ([]*Item, error) {
	out := batch[:0:len(batch)]
	for _, it := range batch {
		if err := f(ctx, it); err != nil {
			switch {
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case errors.Is(err, memory.ErrOutOfMemory):
				return nil, err // to be called again, and fail alone in the end
			}
			it.Fail(err)
		}
		if !it.next.terminal() {
			out = append(out, it)
		}
	}
	return out, nil
}

// Device names a pool of memory that work runs on: "host", "gpu:0", "sim:0".
type Device string

// Host is the device of stages that work in main memory.
const Host Device = "host"

// Auto and GPU are wishes: see Placer.
const (
	Auto Device = "auto" // a GPU where there is one that the stage can use, otherwise the host
	GPU  Device = "gpu"  // any GPU
)

// Placer is a stage that can compute elsewhere than on the host.
type Placer interface {
	// Place decides where. It is called after the constructor and before anything else,
	// and once more, with fewer devices, where some of its answer have no room for it. want is what the step says: nothing, Host, Auto, GPU or a
	// certain device. have is what there is beside the host, such as "gpu:0". The
	// answer is Host, or one or several of have; an error says what is missing and
	// how it can be had, and wraps ErrLacking where the machine and not the pipeline
	// is at fault.
	Place(want Device, have []Device) ([]Device, error)
}

// Opener is a stage that allocates before its first batch: a model, a buffer.
// Open is called once per phase, with the first of its devices. Close always follows,
// also after an Open that failed.
type Opener interface {
	Open(ctx context.Context, d Device) error
}

// Closer is a stage that has something to give back at the end of its phase.
type Closer interface {
	// Close is called once, when nothing of the stage runs any more. Its error ends the
	// run.
	Close() error
}

// Barrier is a stage that must see all items before it decides about any of
// them. Process holds items (Item.Hold) or answers for them at once. When the
// last batch is through, Flush gets the held items in ID order and hands each to
// emit, after having set attributes on it, rejected or failed it, or not. It may
// go through them several times before, to look; what is not emitted in the end
// is a bug in the stage. A barrier keeps at most 64 bytes per held item in
// memory without asking (see Env.Lease). When a run is interrupted, Flush is not
// called, or its items end with an error that it returns.
type Barrier interface {
	Stage // its Process holds items, or answers for them
	// Flush answers for the held items, once, at the end. In a dry run it may leave that
	// to the run, see ErrUndecided: Opener's Open is not called then.
	Flush(ctx context.Context, held HeldItems, emit func(*Item) error) error
}

// HeldCoster is a barrier that can tell before the run what deciding will take.
type HeldCoster interface {
	// HeldCost is what Flush needs at its peak for that many held items, as far as it
	// depends on nothing that only the run finds out.
	HeldCost(items int64) HeldCost
}

// HeldCost is what a barrier needs while it decides, beside what Cost says.
type HeldCost struct {
	Memory  int64            // bytes that Flush leases
	Scratch int64            // bytes of the scratch folder, beside those that the held items take
	Folders map[string]int64 // bytes that it writes into folders of its own, by these
	AtLeast bool             // some of it is not known, such as the length of a vector
}

// VectorSizer is a stage that knows before the run how many numbers its vectors have.
type VectorSizer interface {
	// VectorSizes are those numbers, by the vectors' names. What is not there, or 0, is
	// not known.
	VectorSizes() map[string]int
}

// HeldItems yields the items that a barrier held, in ID order. An error ends
// the sequence and must be returned.
type HeldItems = func(yield func(*Item, error) bool)

// Serial is a stage whose Process must not run on two goroutines at once.
type Serial interface{ Serial() }

// Stateful is a stage whose answers depend on earlier batches. The engine never
// repeats a batch of it: a panic in it ends the run.
type Stateful interface{ Stateful() }

// Batcher is a stage that says how many items a call should get. It is asked before
// each call, by several goroutines. YAML's batch overrides Size and Together.
type Batcher interface {
	// Batch is what a call should get from now on.
	Batch() BatchSpec
}

// BatchSpec bounds a transport batch. It closes at Size items, before Bytes
// would be passed, or when its first item has waited Linger.
type BatchSpec struct {
	Size int // items; 0 is the engine's default, 16
	// Together is how many items all calls that run at once should have between them,
	// each at most Size: more would only wait. 0: each gets Size.
	Together int
	Bytes    int64         // bytes of pixels; 0 is no bound
	Linger   time.Duration // 0 takes what is there
}

// Cost is what a call needs of a device beside the items' own pixels. Of the host
// the engine leases it; of others the stage does, from Env.Ledger.
type Cost struct {
	Resident int64 // bytes that Open allocates and Close frees
	Work     int64 // bytes that a call with this batch allocates at its peak and frees
	Output   int64 // bytes of memory of the new pixels that the call returns (SetImage, FromImage): see Env.ImageBytes
}

// Coster is a stage that knows what it needs. With an empty batch it tells
// Resident, and Work and Output for one item of ordinary size (12 megapixels),
// for planning before the first reading.
type Coster interface {
	// Cost is what the stage needs of d, one of its devices or the host, and a call with
	// this batch. It is called often, by several goroutines, and decodes nothing.
	Cost(d Device, batch []*Item) Cost
}

// Identifier is a stage that depends on the content of files beside its
// configuration, such as a model. What is cached of it is only used again while
// Identity, their hash, is the same. The constructor has found it out.
type Identifier interface {
	Identity() string
}

// OutputTree is a set of files that a stage is going to write. Lint compares
// those of all stages.
type OutputTree struct {
	Root     string // folder
	Template string // naming within the folder; a plain file name for a single file
	File     bool   // Template is one file
	// Apart says that the folder is for others than those who look at the run, such as
	// what images are moved to: the run store is not put there.
	Apart bool
}

// Writer is a stage that writes files.
type Writer interface {
	// Writes are the files, as far as the configuration tells.
	Writes() []OutputTree
}

// Noter is a stage that has something to say about the run as a whole, in one
// sentence for the summary. Note is called after the last batch.
type Noter interface {
	Note() string
}

// A Source offers the inputs of a run, in a stable order.
type Source interface {
	// Emit calls emit for every candidate and for everything it passes over.
	// An error of emit must be returned at once; an error of its own ends the
	// run. Emit runs on one goroutine.
	Emit(ctx context.Context, emit func(Input) error) error
}

// Counter is a source that can tell how many inputs it will offer, those that it passes
// over not counted, without opening them. Count may run beside Emit.
type Counter interface {
	Count(ctx context.Context) (int64, error)
}

// Rooted is a source that reads below folders: lint refuses outputs there.
type Rooted interface {
	// Roots are the folders.
	Roots() []string
}

// Limits bound what an input image may be: MaxPixels is its width times its height, and
// MaxFileBytes the bytes of its file. 0 is the default: 250 megapixels, 4 GiB.
type Limits = imageio.Limits

// FS is a file system: its OpenRoot opens a Folder, which is made where it is missing.
// Tests give one in which files fail.
type FS = fsys.FS

// Folder is an open directory, in which files are made, read, renamed and removed by
// names relative to it; none can lead out of it. Its errors are those of package os.
type Folder = fsys.Root

// Env is what the engine gives to a stage's constructor. Beside what it holds,
// it is the stage's door to the run that it works in: Publish, Share, Scratch,
// Lease and Draining.
type Env struct {
	StageID    string          // the stage's id in the pipeline
	Log        *slog.Logger    // never nil
	FS         FS              // every file is written through it
	Limits     Limits          // of input images
	Attributes map[string]Type // known to exist on arriving items
	Vectors    map[string]int  // likewise, with how many numbers each has; 0: that is not known before the run
	Undeclared bool            // there may be others: a stage before declares nothing
	Derived    bool            // arriving items may be derived ones

	door *door
}
