package pipeline

import (
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/forgepipe/forgepipe/memory"
)

// Plan is how a pipeline will run on this machine: its memory budget, and its
// stages in phases.
type Plan struct {
	HostTotal  int64            // bytes that this process may use at most: of the machine or the cgroup
	HostSource string           // where that was read
	HostLimit  int64            // bytes that the run may use
	HostBudget int64            // of it, what is leased to pictures and calls; the rest is the program's own
	Phases     [][]PlannedStage // in their order, each with its stages in theirs
	StateDir   string           // where the run store is; empty: none

	reserve int64
}

// PlannedStage is one stage of a plan.
type PlannedStage struct {
	ID       string   // the stage's id in the pipeline
	Stage    string   // its name in the registry; empty for one that declares nothing
	Devices  []Device // where it computes
	Workers  int      // calls of Process that may run at once, to begin with
	Batch    int      // items of a call, at most
	Resident int64    // bytes of the host from Open to Close
	Work     int64    // bytes of one call
	Output   int64    // bytes of new pixels that one call returns
}

const (
	defaultHostShare = 0.6
	// programBytes is what the program itself takes: code, runtime, store, the
	// garbage that is not collected yet.
	programBytes = 64 << 20
	// leastBudget is what one call on one small picture needs.
	leastBudget = 16 << 20
)

// Plan works out how the pipeline would run. It refuses what can never fit.
func (p *Pipeline) Plan(o RunOptions) (*Plan, error) {
	if p.nowhere {
		return nil, errors.New("BUG: a pipeline that was loaded to be looked at is planned")
	}
	mem, err := o.Host.Memory()
	if err != nil {
		return nil, fmt.Errorf("reading how much memory there is: %w", err)
	}
	plan := &Plan{HostTotal: mem.Total, HostSource: mem.Source, StateDir: p.stateDir(o)}
	plan.HostLimit = p.hostLimit().Of(mem.Total)
	plan.HostBudget = plan.HostLimit - programBytes
	if plan.HostBudget < leastBudget {
		return nil, &SpecError{[]Problem{{File: p.file(), Line: 1, Col: 1, Message: fmt.Sprintf(
			"memory.host.limit is %s of %s; at least %s are needed", memory.FormatBytes(plan.HostLimit), memory.FormatBytes(mem.Total), memory.FormatBytes(programBytes+leastBudget))}}}
	}
	p.door.hostLimit.Store(plan.HostLimit) // stages' costs go by it
	var phase []PlannedStage
	var resident int64
	var cards cardPlan
	for _, s := range p.steps {
		n := newNode(&run{pipe: p}, s, 0)
		c := n.cost(nil)
		e := PlannedStage{ID: s.ID, Stage: s.Info.Name, Devices: s.Devices, Workers: n.workers, Batch: n.batch.Size, Resident: c.Resident, Work: c.Work, Output: c.Output}
		if c.Resident+c.Work > plan.HostBudget {
			return nil, &memory.OversizeError{Device: string(Host), Need: c.Resident + c.Work, Have: plan.HostBudget, Holder: "stage " + s.ID}
		}
		plan.reserve = max(plan.reserve, c.Work)
		another, err := p.onCards(&cards, s)
		if err != nil {
			return nil, err
		}
		if len(phase) > 0 && (another || resident+c.Resident+plan.reserve > plan.HostBudget) {
			plan.Phases = append(plan.Phases, phase)
			phase, resident = nil, 0
			if !another { // it is the first on its device
				cards = nil
				if _, err := p.onCards(&cards, s); err != nil {
					return nil, err
				}
			}
		}
		phase = append(phase, e)
		resident += c.Resident
	}
	if len(phase) > 0 {
		plan.Phases = append(plan.Phases, phase)
	}
	// The source reads whole files, one per reader.
	plan.reserve = min(max(plan.reserve, int64(runtime.GOMAXPROCS(0))*smallFile), plan.HostBudget/4)
	return plan, nil
}

// phaseOf is the phase that a stage is in, from 0 on.
func (p *Plan) phaseOf(id string) int {
	if p == nil {
		return 0
	}
	return slices.IndexFunc(p.Phases, func(phase []PlannedStage) bool {
		return slices.ContainsFunc(phase, func(s PlannedStage) bool { return s.ID == id })
	})
}

// hostLimit is what the run may use of the host. A size is taken as it is, also
// where it is more than there is: who writes it may know better.
func (p *Pipeline) hostLimit() Amount {
	if p.HostLimit == (Amount{}) {
		return Amount{Share: defaultHostShare}
	}
	return p.HostLimit
}

func (p *Pipeline) stateDir(o RunOptions) string {
	switch {
	case o.NoStore:
		return ""
	case o.StateDir != "":
		return absolute(o.StateDir)
	}
	if d := p.StateDir(); d != "" {
		return absolute(d)
	}
	return ""
}
