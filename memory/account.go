package memory

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Account is what a network did on a device: what a run tells at its end.
type Account struct {
	Name   string `json:"name"`   // of the network
	Device string `json:"device"` // on which it ran
	Runs   int64  `json:"runs"`   // that went well
	Items  int64  `json:"items"`  // in these
	// Seconds are those of its runs.
	Seconds float64 `json:"seconds"`
	// Typical is the batch that most items were in, Largest the largest one.
	Typical int `json:"typical_batch"`
	Largest int `json:"largest_batch"`
	// OutOfMemory is how many runs had no room, SteppedBack how often others took
	// memory and it went back for them, and GaveBack how often it gave all back first.
	OutOfMemory int `json:"out_of_memory"`
	SteppedBack int `json:"stepped_back"`
	GaveBack    int `json:"gave_back"`
	// Limited is how many items were in runs that were as large as they were for that
	// reason; "input": there were no more items yet.
	Limited map[Rule]int64 `json:"limited"`

	sizes map[int]int64 // items by batch
}

// RuleInput is why a run had fewer items than it might: there were no more.
const RuleInput Rule = "input"

func (a *Account) ran(r Ran, c Choice) {
	if r.OutOfMemory {
		if !r.Refused {
			a.OutOfMemory++
		}
		return
	}
	a.Runs++
	a.Items += int64(r.Batch)
	a.Seconds += r.Seconds
	a.Largest = max(a.Largest, r.Batch)
	if a.sizes == nil {
		a.sizes, a.Limited = map[int]int64{}, map[Rule]int64{}
	}
	a.sizes[r.Batch] += int64(r.Batch)
	rule := c.Rule
	if r.Batch < c.Batch {
		rule = RuleInput
	}
	a.Limited[rule] += int64(r.Batch)
	if a.sizes[r.Batch] > a.sizes[a.Typical] {
		a.Typical = r.Batch
	}
}

func (a *Account) decided(d Decision) {
	switch {
	case d.Look:
		a.GaveBack++
	case d.Rule == RulePressure:
		a.SteppedBack++
	}
}

// add puts another session's account of the same network and device to it.
func (a *Account) add(b Account) {
	a.Runs += b.Runs
	a.Items += b.Items
	a.Seconds += b.Seconds
	a.Largest = max(a.Largest, b.Largest)
	a.OutOfMemory += b.OutOfMemory
	a.SteppedBack += b.SteppedBack
	a.GaveBack += b.GaveBack
	a.sizes, a.Limited = sum(a.sizes, b.sizes), sum(a.Limited, b.Limited)
	for size, n := range a.sizes {
		if n > a.sizes[a.Typical] || n == a.sizes[a.Typical] && size > a.Typical {
			a.Typical = size
		}
	}
}

func sum[K comparable](a, b map[K]int64) map[K]int64 {
	c := maps.Clone(a)
	if c == nil {
		c = map[K]int64{}
	}
	for k, n := range b {
		c[k] += n
	}
	return c
}

// keep remembers the account of a workload that has ended. It needs the lock.
func (g *Governor) keep(a Account) {
	for i := range g.ended {
		if o := &g.ended[i]; o.Name == a.Name && o.Device == a.Device {
			o.add(a)
			return
		}
	}
	var sum Account
	sum.Name, sum.Device = a.Name, a.Device
	sum.add(a)
	g.ended = append(g.ended, sum)
}

// Accounts are what the networks have done so far, in the order in which they came.
func (g *Governor) Accounts() []Account {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := Governor{}
	for _, a := range g.ended {
		all.keep(a)
	}
	for _, w := range g.workloads {
		all.keep(w.account)
	}
	return slices.DeleteFunc(all.ended, func(a Account) bool { return a.Runs == 0 && a.OutOfMemory == 0 })
}

// Did says in a line what was decided.
func (a Account) Did() string {
	text := fmt.Sprintf("%s on %s: no part done", a.Name, a.Device)
	if a.Runs > 0 {
		text = fmt.Sprintf("%s on %s: %s in %s", a.Name, a.Device, count(a.Items, "part"), count(a.Runs, "run"))
	}
	if a.Runs > 1 {
		text += fmt.Sprintf(", most of them %d at once", a.Typical)
	}
	if a.Largest > a.Typical {
		text += fmt.Sprintf(" (at most %d)", a.Largest)
	}
	var events []string
	if n := max(a.SteppedBack, a.GaveBack); n > 0 { // who gives all back steps back too, as a rule
		events = append(events, fmt.Sprintf("stepped back %s for others", times(n)))
	}
	if a.OutOfMemory > 0 {
		events = append(events, fmt.Sprintf("ran out of memory %s, and repeated that in smaller batches", times(a.OutOfMemory)))
	}
	if len(events) > 0 {
		text += "; " + strings.Join(events, "; ")
	}
	return text
}

func count(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// Limit says in a line what kept it from more, and what would help.
func (a Account) Limit() string {
	if a.Items == 0 {
		return "nothing was done, so that nothing limited it"
	}
	rules := slices.Concat(limits, slices.Sorted(maps.Keys(a.Limited))) // of equal ones the first counts
	worst := slices.MaxFunc(rules, func(x, y Rule) int { return cmp.Compare(a.Limited[x], a.Limited[y]) })
	share := fmt.Sprintf("(%d %% of the parts)", (100*a.Limited[worst]+a.Items/2)/a.Items)
	switch {
	case worst == RuleProbe:
		return "it was over before the best batch had been found out " + share
	case worst == "" || a.Limited[worst] == 0:
		return "nobody said what limited it"
	}
	return fmt.Sprintf("limited by %s %s", cmp.Or(limitTexts[worst], string(worst)), share)
}

// limits are the rules that may have kept a network from more, what tells most first.
var limits = []Rule{RuleSpeed, RuleMemory, RulePressure, RuleShared, RuleFailed, RuleMost, RulePinned, RuleInput, RuleProbe}

// limitTexts are what they say at the end; another strategy's have their own words.
var limitTexts = map[Rule]string{
	RuleSpeed:    "the device's speed: larger batches would hardly be faster",
	RuleMemory:   "the device's memory: with more of it, larger batches would be faster",
	RulePressure: "what others took of the device's memory",
	RuleShared:   "what other networks or sessions of this run have of the device's memory",
	RuleFailed:   "runs that had no room: something else takes memory, or the device's is in pieces",
	RuleMost:     "the most parts that a run may take",
	RulePinned:   "the batch, which is pinned by the pipeline, or by the network",
	RuleInput:    "what comes before: it did not get more parts at once",
	RuleNoRoom:   "the device's memory: there was hardly room for a part",
}
