package pipeline

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

// Summary is what a run did. In + Derived = Out + Consumed + Rejected (all
// stages) + Quarantined + Unfinished; Unfinished is 0 unless the run was
// interrupted or failed.
type Summary struct {
	State       string                      `json:"state"`       // done, interrupted, failed; of a run under way running, paused
	Inputs      int64                       `json:"inputs"`      // that the source has in all; 0: not known yet
	Phase       int                         `json:"phase"`       // that the run is in, or was in last, from 1 on; 0: none has begun
	In          int64                       `json:"in"`          // items that the source gave
	Derived     int64                       `json:"derived"`     // items that stages made of others
	Consumed    int64                       `json:"consumed"`    // items that only live on in what was derived from them
	Out         int64                       `json:"out"`         // items that came to the end of the chain
	Quarantined int64                       `json:"quarantined"` // items that failed
	Unfinished  int64                       `json:"unfinished"`  // items that had no end yet when the run ended
	Ignored     int64                       `json:"ignored"`     // what the source passed over
	Rejected    map[string]map[string]int64 `json:"rejected"`    // by stage and reason

	Written   int64 `json:"written"`   // files that this run wrote
	Reused    int64 `json:"reused"`    // files of an earlier run that were right already
	Replaced  int64 `json:"replaced"`  // of Written: the earlier file had been changed by somebody and is in the trash
	Retracted int64 `json:"retracted"` // files moved to the trash because this run no longer wants them
	Renamed   int64 `json:"renamed"`   // sources that kept their extension in output names, as another has their stem
	Bytes     int64 `json:"bytes"`     // written
	Decoded   int64 `json:"decoded"`   // pictures decoded
	Cached    int64 `json:"cached"`    // items whose stage result came from the cache

	DecodedJPEG int64            `json:"decoded_jpeg"`       // of Decoded: from JPEG files
	Parked      Parked           `json:"parked"`             // pictures that had to leave memory while they waited
	Seconds     float64          `json:"seconds"`            // from start to end
	Stages      []StageSummary   `json:"stages"`             // in the order of the chain
	Devices     []DeviceUsage    `json:"devices"`            // the host first
	Governed    []memory.Account `json:"governed,omitempty"` // what networks did on devices, and what limited it
	Phases      []PhaseMemory    `json:"phases"`             // those that have ended
	Leaks       []string         `json:"leaks,omitempty"`    // memory that a stage takes and never gives back, a sentence each
	Failed      []FailedItem     `json:"failed"`             // the first 20
	// QuarantineFile lists all of them, one JSON object per line with id, stage
	// and cause. It is empty when nothing failed or there is no state directory.
	QuarantineFile string `json:"quarantine_file,omitempty"`

	OutputDirs []string `json:"outputs"`   // folders that stages write to
	StateDir   string   `json:"state_dir"` // where the run store is; empty: none
}

// StageSummary counts one stage.
type StageSummary struct {
	ID       string  `json:"id"`               // the stage's id in the pipeline
	Stage    string  `json:"stage"`            // its name in the registry
	In       int64   `json:"in"`               // items that came
	Derived  int64   `json:"derived"`          // items that it made of others
	Consumed int64   `json:"consumed"`         // items that only live on in those
	Out      int64   `json:"out"`              // items that it passed on
	Rejected int64   `json:"rejected"`         // items, for all reasons
	Failed   int64   `json:"failed"`           // items
	Cached   int64   `json:"cached"`           // items for which it was not called, as their result was known
	Calls    int64   `json:"calls"`            // of Process
	Seconds  float64 `json:"seconds"`          // spent in Process, all workers together
	Phase    int     `json:"phase"`            // that it is in, from 1 on
	Queued   int     `json:"queued"`           // items waiting before it, now
	Fill     float64 `json:"fill"`             // share of the queue before it that is full now, 0 to 1, of its items or its bytes
	Active   int     `json:"active"`           // batches that are inside it, now
	Workers  int     `json:"workers"`          // calls that may run at once, now
	Most     int     `json:"most_workers"`     // calls that may ever run at once
	Serial   bool    `json:"serial,omitempty"` // it takes one call at a time, so that workers cannot be raised
	Note     string  `json:"note,omitempty"`   // what the stage has to say about the run
}

// DeviceUsage is the memory that a run leased on a device.
type DeviceUsage struct {
	Device  string `json:"device"`    // its name
	Limit   int64  `json:"limit"`     // bytes that could be leased
	Peak    int64  `json:"peak"`      // most bytes leased at once
	Leased  int64  `json:"leased"`    // bytes leased now
	Now     int64  `json:"limit_now"` // bytes that may be leased now: less than Limit when others have taken memory
	Waiting int    `json:"waiting"`   // calls and pictures that wait for room now
}

// Parked counts decoded pictures that were taken out of memory while they waited, for
// want of room. Those that had not been decoded yet cost nothing, and are not counted.
type Parked struct {
	Pictures int64 `json:"pictures"` // taken out
	Dropped  int64 `json:"dropped"`  // bytes that had to be decoded, or made, again
	Spilled  int64 `json:"spilled"`  // bytes that were written to disk
}

// PhaseMemory is what the process had of the host, in bytes, around one phase.
type PhaseMemory struct {
	Stages []string `json:"stages"` // the IDs of those that were resident
	Began  int64    `json:"began"`  // when it began
	Ended  int64    `json:"ended"`  // before the clean-up
	Left   int64    `json:"left"`   // after it
	Freed  int64    `json:"freed"`  // by it
	// Held says what holds memory, where Left is over 5 % more than the process
	// had when the first phase began.
	Held string `json:"held,omitempty"`
}

// FailedItem is a quarantined item.
type FailedItem struct {
	ID    string `json:"id"`    // the item's
	Stage string `json:"stage"` // the ID of the stage it failed in, or "source"
	Cause string `json:"cause"` // the error's text
}

// RejectedTotal is the number of rejected items over all stages.
func (s *Summary) RejectedTotal() int64 {
	var n int64
	for _, reasons := range s.Rejected {
		for _, c := range reasons {
			n += c
		}
	}
	return n
}

// Check proves the sum: everything that came in or was derived has one end.
func (s *Summary) Check() error {
	in, out := s.In+s.Derived, s.Out+s.Consumed+s.RejectedTotal()+s.Quarantined+s.Unfinished
	if in != out {
		return fmt.Errorf("BUG: the sum does not hold: %d in + %d derived = %d, but %d out + %d consumed + %d rejected + %d quarantined + %d unfinished = %d",
			s.In, s.Derived, in, s.Out, s.Consumed, s.RejectedTotal(), s.Quarantined, s.Unfinished, out)
	}
	return nil
}

// counters are a stage's, or the source's, while it runs.
type counters struct {
	in, out, derived, consumed, rejected, failed, cached, calls atomic.Int64
	busy                                                        atomic.Int64 // ns
}

func (c *counters) summary() StageSummary {
	return StageSummary{
		In: c.in.Load(), Out: c.out.Load(), Derived: c.derived.Load(), Consumed: c.consumed.Load(),
		Rejected: c.rejected.Load(), Failed: c.failed.Load(), Cached: c.cached.Load(),
		Calls: c.calls.Load(), Seconds: time.Duration(c.busy.Load()).Seconds(),
	}
}
