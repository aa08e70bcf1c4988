package pipeline

import "time"

// EventKind tells what an event reports.
type EventKind string

// The kinds of events.
const (
	EventIgnored   EventKind = "ignored"   // the source passed something over
	EventRejected  EventKind = "rejected"  // a stage rejected an item
	EventFailed    EventKind = "failed"    // an item was quarantined
	EventReplaced  EventKind = "replaced"  // an output had been changed since it was written: moved to the trash and made again
	EventRetracted EventKind = "retracted" // an output that is no longer wanted was moved to the trash
	EventPhase     EventKind = "phase"     // a phase begins
	EventPaused    EventKind = "paused"    // the run was paused: nothing new begins
	EventResumed   EventKind = "resumed"   // a paused run goes on
	EventParked    EventKind = "parked"    // a waiting picture was taken out of memory, to be decoded or read again
	EventCleaned   EventKind = "cleaned"   // memory was cleaned up
	EventLeak      EventKind = "leak"      // a stage takes memory and never gives it back
	EventMemory    EventKind = "memory"    // a phase has ended: what its memory has come to
	EventLimit     EventKind = "limit"     // what the run may use of the host changed
	EventPreempted EventKind = "preempted" // a call's memory was taken back, and the call will be repeated
	EventRefused   EventKind = "refused"   // somebody waited for memory that nobody could give back
	EventPostponed EventKind = "postponed" // an item that has no room now is tried again when all others are through
	EventGoverned  EventKind = "governed"  // the governor changed how many items a network takes at once
	EventYielded   EventKind = "yielded"   // the run begins to hold back for others on a device, or no longer does
	EventRepeated  EventKind = "repeated"  // a batch was split and repeated after running out of memory or a panic
)

// Event is something that happened in a run. Events come from several
// goroutines at once; the function that gets them must not block.
type Event struct {
	Time    time.Time // when it happened
	Kind    EventKind // what it is
	Stage   string    // the stage's ID, or "source"
	Item    string    // the item's ID, when it is about one
	Message string    // for people: the reason, the cause or the figures
}
