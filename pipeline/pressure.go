package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

// While a phase runs, the run follows what the host allows: the limit of a
// control group may change, other programs come and go, and what the ledger does
// not see (garbage, libraries, fragments) takes room too.

const (
	governTick = 100 * time.Millisecond
	// stalledShare is the share of time in which some process waited for memory
	// from which on the host counts as under pressure.
	stalledShare = 0.1
	// cleanEvery is how often pressure may start a clean-up: one takes tens of
	// milliseconds, and what it frees has to be faulted in again.
	cleanEvery = time.Second
)

// hostLimit is what the run may use of the host now: what the pipeline says, and
// not more than is there beside others; but a size beyond all that the host has
// is taken as it is.
func (r *run) hostLimit(s memory.Reading) int64 {
	limit := r.pipe.hostLimit()
	if limit.Bytes > r.plan.HostTotal {
		return limit.Bytes
	}
	n := limit.of(s.Total)
	if s.Own != memory.Unknown && s.Free != memory.Unknown {
		n = min(n, max(s.Own+s.Free-headroom(s.Total), 0))
	}
	return n
}

// headroom is what is left to everybody else's next step.
func headroom(total int64) int64 { return max(total/32, 32<<20) }

// govern runs until stop is closed.
func (r *run) govern(ctx context.Context, nodes []*node, stop <-chan struct{}) {
	tick := time.NewTicker(governTick)
	defer tick.Stop()
	g := newHostGovernor(r, nodes)
	for {
		select {
		case <-stop:
			return
		case now := <-tick.C:
			g.tick(ctx, now)
		}
	}
}

// hostGovernor is what is remembered between two ticks.
type hostGovernor struct {
	run     *run
	nodes   []*node
	workers *memory.Workers
	loads   []memory.StageLoad

	limit   int64 // that the run may use, now
	told    int64 // the limit that was last told
	squeeze int64 // bytes of the budget that something else than leases takes
	cleaned time.Time
	follows bool // the limit is one that the host has

	ticked time.Time     // when it last looked
	stood  time.Duration // for which the run stood still so far
}

func newHostGovernor(r *run, nodes []*node) *hostGovernor {
	stages := make([]memory.StageWorkers, len(nodes))
	for i, n := range nodes {
		stages[i] = memory.StageWorkers{Least: n.workers, Start: n.workers, Most: n.most}
		if n.most > n.workers { // nobody gave a count
			stages[i].Least = 1
		}
	}
	limit := r.pipe.hostLimit()
	return &hostGovernor{
		follows: limit.Bytes <= r.plan.HostTotal, ticked: time.Now(),
		run: r, nodes: nodes, limit: r.plan.HostLimit, told: r.plan.HostLimit,
		workers: memory.NewWorkers(stages), loads: make([]memory.StageLoad, len(nodes)),
	}
}

func (g *hostGovernor) tick(ctx context.Context, now time.Time) {
	r := g.run
	// That nothing gets done while the run stands still says nothing about workers.
	still := r.paused.Load() > 0 || r.standsStill() || r.yielding.Load() > 0
	if still {
		g.stood += now.Sub(g.ticked)
	}
	g.ticked = now
	r.followDevices(now)
	s, ok := r.reading()
	if !ok {
		return // what is not known changes nothing
	}
	g.limit = r.hostLimit(s)
	if d := g.limit - g.told; max(d, -d) > g.told/16 {
		r.event(EventLimit, "", "", fmt.Sprintf("the host's memory limit is now %s, and was %s", memory.FormatBytes(g.limit), memory.FormatBytes(g.told)))
		g.told = g.limit
	}
	r.memory.SetHostLimit(g.limit)
	pressed := s.Stalled >= stalledShare || s.Own > g.limit
	r.host.SetLimit(g.grantable())
	if g.rescue(s) {
		pressed = true
		g.cleaned = time.Time{}
	}
	u := r.host.Usage()
	if over := u.Residency + u.Work - u.Limit; over > 0 && u.Limit < u.Ceiling {
		r.park(g.nodes, over)
		pressed = true
	}
	if r.paused.Load() > 0 {
		return // somebody looks at memory: it is cleaned up, and nobody is busy
	}
	if pressed && now.Sub(g.cleaned) >= cleanEvery {
		g.cleaned = now
		r.clean(ctx, "pressure on the host")
		if fresh, err := r.memory.Monitor().Refresh(ctx, string(Host)); err == nil {
			s = fresh.Reading
		}
	}
	g.adapt(s.Own)
	if !still {
		g.setWorkers(now.Add(-g.stood), pressed)
	}
}

// grantable is the budget less what something else than leases takes. That slows
// the run down and never stops it: where nobody is at work and somebody waits, it
// gets what it lacks, as far as the budget goes. The memory may be that of the
// program that the run is a part of, which no waiting gives back.
func (g *hostGovernor) grantable() int64 {
	whole := max(g.limit-programBytes, leastBudget)
	n := max(whole-g.squeeze, leastBudget)
	if g.run.working.Load() == 0 {
		if _, lacks, ok := g.run.host.First(); ok {
			n = max(n, min(g.run.host.Usage().Limit+lacks, whole))
		}
	}
	return n
}

// adapt narrows the budget by what the process has beyond the limit, at once, and
// widens it again bit by bit.
func (g *hostGovernor) adapt(own int64) {
	switch {
	case own == memory.Unknown:
	case own > g.limit:
		g.squeeze = min(g.squeeze+(own-g.limit)/2, g.limit/2)
	case own < g.limit-g.limit/16:
		g.squeeze -= g.squeeze/16 + 1
		g.squeeze = max(g.squeeze, 0)
	}
}

// setWorkers follows the loads of the stages; now is the time less that in which the
// run stood still.
func (g *hostGovernor) setWorkers(now time.Time, pressed bool) {
	for i, n := range g.nodes {
		queued, _ := n.in.len()
		g.loads[i] = memory.StageLoad{Done: n.counters.in.Load(), Busy: time.Duration(n.busy.Load()), Queued: queued}
	}
	if !g.workers.Tick(now, pressed, g.loads) {
		return
	}
	for i, to := range g.workers.Counts() {
		n := g.nodes[i]
		from := n.gate.count()
		if to == from {
			continue
		}
		n.gate.set(to)
		why := "it has more to do than it gets done"
		switch {
		case to < from && pressed:
			why = "the host's memory is short"
		case to < from:
			why = "one more has not made it faster"
		}
		g.run.workersDecided(n.ID, now, from, to, why)
	}
}

// reading is the host's last, with what can be counted on of it.
func (r *run) reading() (memory.Reading, bool) {
	s, ok := r.memory.Monitor().Sample(string(Host))
	if !ok || !s.Known() {
		return memory.Reading{}, false
	}
	s.Free = s.Available(time.Now())
	return s.Reading, true
}

// clean frees what can be freed.
func (r *run) clean(ctx context.Context, why string) memory.Cleaned {
	c := r.memory.Clean(ctx, why)
	for _, d := range c.Devices {
		if d.Device == string(Host) && d.Freed > 0 {
			r.event(EventCleaned, "", "", memory.FormatBytes(d.Freed)+" freed: "+why)
		}
	}
	return c
}

// ownBytes is what the process has in memory, 0 where that is not known.
func (r *run) ownBytes(ctx context.Context) int64 {
	s, err := r.memory.Monitor().Refresh(ctx, string(Host))
	if err != nil || s.Own == memory.Unknown {
		return 0
	}
	return s.Own
}

// phaseEnded cleans up after a phase, and says what is left of it.
func (r *run) phaseEnded(ctx context.Context, i int, nodes []*node, began int64) {
	m := PhaseMemory{Began: began}
	for _, n := range nodes {
		m.Stages = append(m.Stages, n.ID)
	}
	for _, d := range r.clean(ctx, fmt.Sprintf("phase %d of %d has ended", i+1, len(r.plan.Phases))).Devices {
		if d.Device == string(Host) {
			m.Ended, m.Left, m.Freed = d.Before, d.After, d.Freed
		}
	}
	if r.floor == 0 {
		r.floor = began
	}
	if m.Left-r.floor > r.floor/20 {
		m.Held = r.heldBy()
		r.event(EventMemory, "", "", fmt.Sprintf("after phase %d of %d the process has %s, %s more than when it began: %s", i+1, len(r.plan.Phases),
			memory.FormatBytes(m.Left), memory.FormatBytes(m.Left-r.floor), m.Held))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phaseMemory = append(r.phaseMemory, m)
}
