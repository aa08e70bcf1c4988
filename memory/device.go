package memory

import "context"

// A Device is a pool of memory that can be read: the host, a GPU, a simulation.
type Device interface {
	// Name is how pipelines and ledgers call it: "host", "gpu:0", "sim:0".
	Name() string
	// Read takes one reading. It may fail and it may take long, but it must not
	// answer with figures that it does not have.
	Read(ctx context.Context) (Reading, error)
}

// Unknown is a figure that a device cannot tell. It is never zero, so that what
// is not known is not taken for nothing.
const Unknown = -1

// A Reading is a device at one instant: its memory in bytes, and how busy it is.
// Any figure but Total can be Unknown.
type Reading struct {
	Physical int64 // what the hardware has
	Total    int64 // what can be used at most: Physical, or the least limit below it
	Used     int64 // by everybody, Reserved not included
	Free     int64 // what can still be had without swapping, being killed or an error
	Reserved int64 // by driver and firmware, for nobody
	Own      int64 // of Used, what this process has
	// Stalled is the share of time, from 0 to 1, in which some process waited
	// for memory, over the last ten seconds (PSI "some avg10").
	Stalled float64
	// Busy is the share of time, from 0 to 1, in which the device computed for
	// anybody, this process included, over the last second or less.
	Busy float64
}

// Described is a Device that has more to say about itself than its name.
type Described interface {
	Description() string // "NVIDIA H100 80GB HBM3"
}
