package memory

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Strategy decides how many items each run of a network takes: one session on one
// device, with items of one shape. It is called by one goroutine at a time.
type Strategy interface {
	// Next says what comes next. A batch of more than Situation.Most items is cut down.
	Next(s Situation) Choice
	// Ran tells how a run ended. The models of the Situation know of it already.
	Ran(s Situation, r Ran)
}

// Situation is what a Strategy knows.
type Situation struct {
	Room // what the session may have, and the items for its next run
	// Shared says that Budget is a part of what there is: the rest is for other
	// networks or sessions on the device.
	Shared bool
	// Most is how many items a run may take, 1 or more.
	Most  int
	Cost  *CostModel  // to be read only
	Speed *SpeedModel // to be read only
	// Covered is how many items the regions of the arena have room for, as far as runs
	// tell since they were given back last; more items would add regions to them.
	Covered int
	// Surplus says that none of the session's last eight runs took nearly what the
	// arena has regions for.
	Surplus bool
}

// Room is what a session may have of its device, in bytes, beside its weights, and
// what it has to do.
type Room struct {
	Budget    int64 // that the session's arena may have now
	Allocated int64 // that it has
	// Items are those that there are for the next run; 0: as many as it wants.
	Items int
	// Least is how many items a run is worth beginning with: items that are much smaller
	// than others which there is room for, also where WorkloadOptions.Most is less. 0 is 1.
	// Where there turns out to be no room for so many, runs take fewer.
	Least int
	// Scarce says that others have taken all that was free. What more they want
	// cannot be seen before there is something.
	Scarce bool
}

// Choice is what a Strategy wants.
type Choice struct {
	// Batch is how many items the next run takes; 0: there is no room for one.
	Batch int
	// Shrink has the arena's free regions given back before.
	Shrink bool
	// Look has them given back now, and Next asked again after the next reading.
	Look bool
	Rule Rule // why; for people and accounts
}

// Ran is how a run ended.
type Ran struct {
	Batch   int     // items
	Seconds float64 // that it took; of one that ran out of memory it means nothing
	// OutOfMemory says that it had no room. Need is how many bytes the arena would have
	// had to have at least, as far as the runtime said so; 0: not known.
	OutOfMemory bool
	Need        int64
	// Refused says, beside OutOfMemory, that it was not begun: the device's ledger had
	// no room for it.
	Refused bool
	// Bytes is what the arena had at most, if the run began with an empty one;
	// 0: that is not known.
	Bytes int64
}

// Rule is why a batch is as large as it is.
type Rule string

// The rules.
const (
	RulePinned   Rule = "pinned"        // the pipeline says so, or the network takes no other
	RuleMost     Rule = "most"          // as many as a run may take
	RuleProbe    Rule = "probe"         // to learn what a run takes
	RuleMemory   Rule = "memory"        // as many as there is room for
	RuleSpeed    Rule = "speed"         // more would hardly be faster
	RulePressure Rule = "pressure"      // others have taken memory
	RuleShared   Rule = "shared"        // other networks or sessions of the process have their part
	RuleFailed   Rule = "out of memory" // a larger one had no room
	RuleNoRoom   Rule = "no room"       // not even for one
)

// The strategies that forgepipe brings, by their names in a pipeline.
const (
	Adaptive = "adaptive"
	Fixed    = "fixed"
	Halving  = "halving"
)

// Strategies are the strategies that there are, by name. Each makes one for batches
// that shall have the given size: 0, if nobody has said one.
type Strategies map[string]func(batch int) Strategy

// StandardStrategies are those that forgepipe brings. The map is the caller's.
func StandardStrategies() Strategies {
	return Strategies{
		Adaptive: func(batch int) Strategy {
			if batch > 0 {
				return &fixed{batch: batch}
			}
			return &adaptive{}
		},
		Fixed:   func(batch int) Strategy { return &fixed{batch: batch} },
		Halving: func(batch int) Strategy { return &halving{batch: batch} },
	}
}

// Check says which strategies there are, if there is none of that name.
func (s Strategies) Check(name string) error {
	if s[name] == nil {
		return fmt.Errorf("there is no strategy %q: use one of %s", name, strings.Join(slices.Sorted(maps.Keys(s)), ", "))
	}
	return nil
}

const (
	// fixedBatch is the batch of the fixed strategy where nobody has said one, and
	// halvingBatch what the halving one begins with.
	fixedBatch   = 8
	halvingBatch = 512
)

// fixed always wants the same. After a run for which there was no room it takes half
// for a while.
type fixed struct {
	batch int
	now   int // less than batch after it ran out of memory
	well  int // runs since then
}

func (f *fixed) Next(s Situation) Choice {
	if f.batch == 0 {
		f.batch = fixedBatch
	}
	if f.now == 0 || f.well >= failedFor {
		f.now = f.batch
	}
	if f.now < f.batch {
		return Choice{Batch: f.now, Rule: RuleFailed}
	}
	return Choice{Batch: f.batch, Rule: RulePinned}
}

func (f *fixed) Ran(_ Situation, r Ran) {
	f.well++
	if r.OutOfMemory && r.Batch <= f.now {
		f.now, f.well = max(r.Batch/2, 1), 0
	}
}

// halving begins large and halves when there is no room, as "find executable batch
// size" does. It never grows again.
type halving struct{ batch int }

func (h *halving) Next(s Situation) Choice {
	if h.batch == 0 {
		h.batch = min(halvingBatch, s.Most)
	}
	return Choice{Batch: h.batch, Rule: RuleMost}
}

func (h *halving) Ran(_ Situation, r Ran) {
	if r.OutOfMemory && r.Batch <= h.batch {
		h.batch = max(r.Batch/2, 1)
	}
}

// whole is for a network that takes so many items, no fewer and no more.
type whole struct{ batch int }

func (w whole) Next(s Situation) Choice {
	if s.Budget <= 0 || s.Cost.Bytes(w.batch) > s.Budget {
		return Choice{Rule: RuleNoRoom}
	}
	return Choice{Batch: w.batch, Shrink: s.Allocated > s.Budget, Rule: RulePinned}
}

func (whole) Ran(Situation, Ran) {}
