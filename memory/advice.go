package memory

import (
	"fmt"
	"slices"
	"strings"
)

// Where figures become worth a word.
const (
	stalledMuch  = 0.01 // PSI: share of time; a machine with room shows 0.00
	swappedMuch  = 64 << 20
	unusedMuch   = 1 << 30
	unusedShare  = 0.25 // of Total
	highestShare = 0.9  // of Total: what can be given to one program, as others need some
	noSwapShare  = 0.8  // of Total: above it, without swap, little can go wrong until the kernel kills
	roundTo      = 1 << 20
)

// Outlook is what Advise judges by: the host as it was read, and what is to be
// done on it. The zero value of a part says that it is not known, and then
// nothing is said about it.
type Outlook struct {
	Host HostMemory // as it was read
	Swap *Swap      // nil: not known
	// Limit is what the work may use of the host, in bytes, and Overhead what of it
	// the program itself takes. What is left is leased.
	Limit, Overhead int64
	// GoLimit is a Go memory limit that was set from outside (GOMEMLIMIT).
	GoLimit int64
	// Tasks are done one after the other on the same data. Those of one Phase have
	// their Resident bytes at the same time.
	Tasks []Task
	// Devices are those beside the host that tasks compute on.
	Devices []PlannedDevice
}

// Task is one part of the work, such as a stage.
type Task struct {
	Name     string // for the advice
	Phase    int    // its number
	Resident int64  // bytes that it has as long as its phase lasts
	Work     int64  // bytes of one call
	Workers  int    // calls that may run at once
	Batch    int    // of one call
}

// Means is what an Advice is to be followed by.
type Means string

// The means that there are.
const (
	SetLimit     Means = "limit"   // give the work Bytes of the host
	SetWorkers   Means = "workers" // give the task Name only Count workers
	SetBatch     Means = "batch"   // give the task Name only Count items a call
	RaiseCgroup  Means = "cgroup"  // raise the limit of the control group in Name to Bytes
	RaiseGoLimit Means = "gomemlimit"
	FindPressure Means = "pressure" // find who takes the memory, with the system's own tools
	FindSwap     Means = "swap"
	AddMemory    Means = "machine" // a machine, or a container, with Bytes
	LargerDevice Means = "card"    // a device with Bytes; 0: there is none. The task Name, if any, may compute on the host too
)

// Advice is one thing that would help, and the figures that say so.
type Advice struct {
	What  string // the matter, half a sentence
	Why   string // the figures that say so
	Means Means  // what to do; it says which of the following there are
	Bytes int64  // of memory that there should be
	Count int    // workers, or items a call
	Name  string // of the task, or of the control group
}

// Advise says what would help, the most urgent first. Every advice follows from
// figures of the outlook, which it quotes; where no figure says that something
// would help, it is silent.
func Advise(o Outlook) []Advice {
	a := advisor{Outlook: o}
	a.devices()
	a.tasks()
	a.limit()
	a.machine()
	return a.all
}

type advisor struct {
	Outlook
	all     []Advice
	raised  bool  // it was advised to raise the limit
	blocked int64 // limit that the work would have needed, and cannot get
}

func (a *advisor) add(x Advice) { a.all = append(a.all, x) }

// budget is what is leased.
func (a *advisor) budget() int64 { return max(a.Limit-a.Overhead, 0) }

// highest is the largest limit that can be advised on this machine.
func (a *advisor) highest() int64 {
	return int64(float64(a.Host.Total) * highestShare)
}

// unused is a sentence's end on what the limit leaves.
func (a *advisor) unused() string {
	if left := a.Host.Total - a.Limit; left > 0 {
		return fmt.Sprintf("; the limit leaves %s of %s unused", FormatBytes(left), FormatBytes(a.Host.Total))
	}
	return ""
}

// roundUp makes figures of advice that people can write.
func roundUp(n int64) int64 { return (n + roundTo - 1) / roundTo * roundTo }

func (a *advisor) tasks() {
	if a.Limit <= 0 || len(a.Tasks) == 0 {
		return
	}
	if a.oversize() {
		return // nothing else can be said before that is mended
	}
	a.phases()
	a.workers()
}

// oversize looks for a task of which not even one call fits.
func (a *advisor) oversize() bool {
	found := false
	for _, t := range a.Tasks {
		need := t.Resident + t.Work
		if need <= a.budget() {
			continue
		}
		found = true
		why := fmt.Sprintf("it needs %s (%s for as long as it is there and %s a call), and of the limit of %s there are %s for it",
			FormatBytes(need), FormatBytes(t.Resident), FormatBytes(t.Work), FormatBytes(a.Limit), FormatBytes(a.budget()))
		what := fmt.Sprintf("a single call of %s does not fit", t.Name)
		limit := roundUp(need + a.Overhead)
		switch {
		case limit <= a.highest():
			a.raise(limit, what, why+a.unused())
		case t.Batch > 1:
			a.add(Advice{What: what, Why: why + fmt.Sprintf("; the machine has %s", FormatBytes(a.Host.Total)), Means: SetBatch, Name: t.Name, Count: 1})
		default:
			a.lack(limit, what, why)
		}
	}
	return found
}

// raise advises a higher limit, once: the highest one that was asked for.
func (a *advisor) raise(limit int64, what, why string) {
	for i := range a.all {
		if a.all[i].Means == SetLimit && limit <= a.all[i].Bytes {
			return
		}
	}
	a.raised = true
	a.add(Advice{What: what, Why: why, Means: SetLimit, Bytes: limit})
}

// lack advises a larger machine.
func (a *advisor) lack(limit int64, what, why string) {
	total := roundUp(int64(float64(limit) / highestShare))
	a.blocked = max(a.blocked, total)
	a.add(Advice{
		What: what, Why: why + fmt.Sprintf("; that needs a limit of %s, and the host has %s in all", FormatBytes(limit), FormatBytes(a.Host.Total)),
		Means: AddMemory, Bytes: total,
	})
}

// phases looks at whether all tasks could be there at once.
func (a *advisor) phases() {
	first, last := a.Tasks[0].Phase, a.Tasks[len(a.Tasks)-1].Phase
	if first == last {
		return
	}
	resident, work := a.together()
	breaks := []string{}
	for i, t := range a.Tasks {
		if i > 0 && t.Phase != a.Tasks[i-1].Phase {
			breaks = append(breaks, t.Name)
		}
	}
	limit := roundUp(resident + work + a.Overhead)
	if limit <= a.Limit || slices.ContainsFunc(a.Devices, PlannedDevice.crowded) {
		return // it is not for the host's memory alone that there are phases
	}
	what := fmt.Sprintf("%d phases, with all items waiting on disk between them, could be one", last-first+1)
	why := fmt.Sprintf("%s begins another phase: together the stages need %s for as long as they are there and %s for a call, and there are %s; %s more would do",
		strings.Join(breaks, ", "), FormatBytes(resident), FormatBytes(work), FormatBytes(a.budget()), FormatBytes(limit-a.Limit))
	if limit <= a.highest() {
		a.raise(limit, what, why+a.unused())
		return
	}
	a.lack(limit, what, why)
}

// together is what all tasks need of the host when they are there at once.
func (a *advisor) together() (resident, work int64) {
	for _, t := range a.Tasks {
		resident += t.Resident
		work = max(work, t.Work)
	}
	return resident, work
}

// workers looks for the task whose calls the memory limits most.
func (a *advisor) workers() {
	resident := map[int]int64{}
	for _, t := range a.Tasks {
		resident[t.Phase] += t.Resident
	}
	for _, t := range a.Tasks {
		if t.Work <= 0 || t.Workers <= 1 {
			continue
		}
		fit := int((a.budget() - resident[t.Phase]) / t.Work)
		if fit >= t.Workers {
			continue
		}
		fit = max(fit, 1)
		what := fmt.Sprintf("of the %d workers of %s only %d can work at once", t.Workers, t.Name, fit)
		why := fmt.Sprintf("a call needs %s, and there are %s for calls", FormatBytes(t.Work), FormatBytes(max(a.budget()-resident[t.Phase], 0)))
		limit := roundUp(resident[t.Phase] + int64(t.Workers)*t.Work + a.Overhead)
		if limit <= a.highest() {
			a.raise(limit, what, why+a.unused())
			continue
		}
		a.add(Advice{
			What: what, Why: why + fmt.Sprintf("; for all of them the limit would have to be %s, and the host has %s in all", FormatBytes(limit), FormatBytes(a.Host.Total)),
			Means: SetWorkers, Name: t.Name, Count: fit,
		})
	}
}

// limit looks at what the work may use against what there is.
func (a *advisor) limit() {
	if a.Limit <= 0 || a.Host.Total <= 0 {
		return
	}
	can := a.Host.Available + max(a.Host.RSS, 0)
	switch {
	case a.Limit > a.Host.Total:
		a.add(Advice{
			What:  "the limit is more than there is, so the kernel ends the process before the limit does anything",
			Why:   fmt.Sprintf("the limit is %s, and the host has %s in all (%s)", FormatBytes(a.Limit), FormatBytes(a.Host.Total), a.Host.Source),
			Means: SetLimit, Bytes: a.highest() / roundTo * roundTo,
		})
	case a.Limit > can && !a.raised:
		a.add(Advice{
			What: "others have so much that the limit cannot be had now",
			Why: fmt.Sprintf("the limit is %s, but only %s of %s are free: others have %s", FormatBytes(a.Limit),
				FormatBytes(can), FormatBytes(a.Host.Total), FormatBytes(a.Host.Total-can)),
			Means: SetLimit, Bytes: can / roundTo * roundTo,
		})
	case len(a.Tasks) == 0 && len(a.Devices) == 0:
		left := min(can, a.highest()) - a.Limit
		if left >= unusedMuch && float64(left) >= unusedShare*float64(a.Host.Total) {
			a.add(Advice{
				What: "the limit leaves memory unused that is free now",
				Why: fmt.Sprintf("the limit is %s of %s, and %s are free; on a machine that does nothing else %s more could be used",
					FormatBytes(a.Limit), FormatBytes(a.Host.Total), FormatBytes(can), FormatBytes(left)),
				Means: SetLimit, Bytes: (a.Limit + left) / roundTo * roundTo,
			})
		}
	}
	if s := a.Swap; s != nil && s.Total == 0 && float64(a.Limit) > noSwapShare*float64(a.Host.Total) && a.Limit <= a.Host.Total {
		a.add(Advice{
			What: "nothing catches what the limit does not foresee",
			Why: fmt.Sprintf("the limit is %s, %.0f%% of %s, and the machine has no swap: what is missed ends the process",
				FormatBytes(a.Limit), 100*float64(a.Limit)/float64(a.Host.Total), FormatBytes(a.Host.Total)),
			Means: SetLimit, Bytes: int64(float64(a.Host.Total)*noSwapShare) / roundTo * roundTo,
		})
	}
	if go1 := a.GoLimit; go1 > 0 && go1 < a.Limit-a.Overhead {
		a.add(Advice{
			What: "the garbage collector works harder than the limit asks for",
			Why: fmt.Sprintf("GOMEMLIMIT keeps Go within %s, and the limit of %s would give it %s", FormatBytes(go1),
				FormatBytes(a.Limit), FormatBytes(a.Limit-a.Overhead)),
			Means: RaiseGoLimit, Bytes: a.Limit - a.Overhead,
		})
	}
}

// machine looks at the host, whatever is to be done on it.
func (a *advisor) machine() {
	h := a.Host
	if h.Stalled >= stalledMuch {
		a.add(Advice{
			What:  "processes wait for memory",
			Why:   fmt.Sprintf("in %.1f%% of the last ten seconds some process stood still for want of it, with %s of %s free", h.Stalled*100, FormatBytes(h.Available), FormatBytes(h.Total)),
			Means: FindPressure,
		})
	}
	if s := a.Swap; s != nil && s.Used >= swappedMuch {
		a.add(Advice{
			What:  "some of the memory in use lies on disk",
			Why:   fmt.Sprintf("%s of %s of swap are in use; what is needed again from there is read at the speed of the disk", FormatBytes(s.Used), FormatBytes(s.Total)),
			Means: FindSwap,
		})
	}
	if h.Total > 0 && h.Total < h.Physical {
		// Without a need it is a fact and no advice.
		wanted := a.blocked
		if wanted == 0 && h.Stalled >= stalledMuch {
			wanted = h.Physical
		}
		if wanted == 0 && a.Limit > 0 && a.Limit > h.Available+max(h.RSS, 0) {
			wanted = min(roundUp(h.Total+a.Limit-h.Available-max(h.RSS, 0)), h.Physical)
		}
		if wanted > h.Total {
			a.add(Advice{
				What:  "the control group is the bound, not the machine",
				Why:   fmt.Sprintf("%s allows %s, and the machine has %s", h.Source, FormatBytes(h.Total), FormatBytes(h.Physical)),
				Means: RaiseCgroup, Bytes: min(wanted, h.Physical), Name: h.Source,
			})
		}
	}
}
