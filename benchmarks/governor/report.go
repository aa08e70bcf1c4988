package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// What the adaptive strategy must do.
const (
	coldRuns       = 20 // to come near the oracle
	calibratedRuns = 4
	backRuns       = 10 // to be back after a neighbour has left
	ofSplit        = 0.95
	ofCards        = 0.95
	ofRuntime      = 0.93
)

// bars are of workloads that have a neighbour or none on one card: the least share of
// the oracle's rate, and the most runs in a drive that run out of memory.
var bars = []struct {
	workload    string
	share       float64
	outOfMemory float64
}{
	{"alone", 0.97, 0},
	{"ramp", 0.95, 0},
	{"step", 0.95, 1},
	{"flapping", 0.94, 0},
}

func reportSimulated(tables []table, seeds int, images string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "First part: networks on simulated cards in simulated time, %d drives (seeds) of %.0f s of each kind. A session's memory is that of ONNX Runtime's arena, a run's time is uneven by 3 %% and twice as long for the first of a size, and a reading of the card comes every 100 ms and is 100 ms late. %s. The card has 16 GiB where nothing else is said.\n\n", seeds, simulatedTime.Seconds(), describedNetworks)
	s.WriteString("The oracle knows beforehand the largest batch that fits at all times (in brackets), and never changes it; rates are shares of its rate, after the first 10 s: the mean of the drives, and the least in brackets. A rate above 100 % is of a policy that had more memory while there was more, or that kept it when the neighbour wanted it. A run reaches 95 % when its batch is as fast as that; the number is the worst of all drives. Runs that are out of memory are counted for a drive, in the mean and at most. What the neighbour had is the share of the bytes that it wanted, over the time. Calibrated is with what an earlier drive of 30 s has learned; without shrinking, the arena does not give its free regions back before it grows; AIMD adds one item after each run and halves after one that is out of memory.\n\n")
	for _, t := range tables {
		t.write(&s)
		link(&s, images, t.picture("simulated"))
	}
	return s.String() + verdictsSimulated(tables)
}

func reportRuntime(tables []table, rounds int, version, load, images string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "Second part: the same strategies with sessions of ONNX Runtime %s on the CPU, in %d interleaved rounds of drives of %.0f s. The card is an arena of 1 GiB at most, a sixteenth of the simulated one, and so are the network's 12.5 MiB an item (it makes one tensor of that size and takes its mean) and what neighbours want. As on a card, the neighbour gets what the arena does not have, and what it gives back. An arena's limit cannot change: where what the neighbour leaves has changed before a run, a new session takes the place of the one there is, in which the runs that had grown that one's arena are repeated. A policy that gives nothing back can so have a higher rate, at the cost of what the neighbour had. What fits is for the runtime to say, and bytes are those of its arena.\n\n", version, rounds, runtimeTime.Seconds())
	fmt.Fprintf(&s, "A run takes its CPU time, on one thread, and %s more, since a CPU is hardly faster with larger batches. The drive's clock is the sum of that and of the waits for readings, without the opening of sessions and what is repeated in them. The memory that an arena gives back stays with the process (%s): here new pages take up to 3 s a GiB. The oracle's batch was found from the arena's bytes of two sizes, and its rate is measured in each round. Each item's output was compared with what it must be. The load average was %s when it began.\n\n", perRun, tunables, load)
	for _, t := range tables {
		t.write(&s)
		link(&s, images, t.picture("runtime"))
	}
	return s.String()
}

// picture is the name of the workload's picture.
func (t *table) picture(part string) string {
	return "governor-" + part + "-" + strings.ReplaceAll(t.w.name, " ", "-") + ".svg"
}

func link(s *strings.Builder, images, name string) {
	if images != "" {
		fmt.Fprintf(s, "![Memory and batches over time](%s/%s)\n\n", images, name)
	}
}

// verdicts is a list of what holds.
type verdicts struct{ strings.Builder }

func (v *verdicts) say(met bool, format string, args ...any) {
	word := "MET"
	if !met {
		word = "MISSED"
	}
	fmt.Fprintf(v, "- %s: %s\n", fmt.Sprintf(format, args...), word)
}

// find is what a policy did under a workload.
func find(tables []table, workload string, p policy) row {
	for _, t := range tables {
		for _, r := range t.rows {
			if t.w.name == workload && r.policy.name == p.name {
				return r
			}
		}
	}
	panic("BUG: nothing was measured of " + p.name + " under " + workload)
}

// leastShare is the mean share of the oracle's rate of the chain where it is least.
func (r *row) leastShare() float64 {
	least := math.Inf(1)
	for _, cell := range r.cells {
		least = min(least, spreadOf(cell, func(f figures) float64 { return f.share }).mean)
	}
	return least
}

func (r *row) all() []figures { return slices.Concat(r.cells...) }

func (r *row) mostOutOfMemory() float64 {
	return spreadOf(r.all(), func(f figures) float64 { return float64(f.outOfMemory) }).most
}

func verdictsSimulated(tables []table) string {
	var v verdicts
	var cold, calibrated []figures
	for _, b := range bars {
		r := find(tables, b.workload, adaptivePolicy)
		v.say(r.leastShare() >= b.share, "%s: adaptive has at least %.0f %% of the oracle's rate, in the mean of the seeds and with each network: %.1f %%", b.workload, 100*b.share, 100*r.leastShare())
		v.say(r.mostOutOfMemory() <= b.outOfMemory, "%s: runs of a drive that are out of memory, %.0f at most: %.0f", b.workload, b.outOfMemory, r.mostOutOfMemory())
		c := find(tables, b.workload, calibratedPolicy)
		cold, calibrated = append(cold, r.all()...), append(calibrated, c.all()...)
	}
	within := func(all []figures, f func(figures) int, runs int, what string) {
		n, ever := worst(all, f)
		if !ever {
			v.say(false, "%s within %d runs: not always", what, runs)
			return
		}
		v.say(n <= runs, "%s within %d runs: %d", what, runs, n)
	}
	within(cold, func(f figures) int { return f.reached }, coldRuns, "it reaches 95 % in these")
	within(calibrated, func(f figures) int { return f.reached }, calibratedRuns, "calibrated it reaches them")
	step := find(tables, "step", adaptivePolicy)
	within(step.all(), func(f figures) int { return f.back }, backRuns, "step: after the neighbour has left, the batch is as fast as before (98 %)")
	two := find(tables, "chain", adaptivePolicy)
	v.say(two.leastShare() >= ofSplit, "chain: at least %.0f %% of the best split: %.1f %%", 100*ofSplit, 100*two.leastShare())
	waited := spreadOf(two.all(), func(f figures) float64 { return float64(f.waited) }).most
	v.say(waited == 0, "chain: each network always has room for an item: without it %.0f times at most", waited)
	four := find(tables, "cards", adaptivePolicy)
	v.say(four.leastShare() >= ofCards, "cards: at least %.0f %% of the sum of their best: %.1f %%", 100*ofCards, 100*four.leastShare())
	gone := find(tables, "card lost", adaptivePolicy)
	v.say(lost(gone.all()) == "0", "card lost: no item is lost or doubled: %s", lost(gone.all()))
	var everything []figures
	for _, t := range tables {
		for _, r := range t.rows {
			everything = append(everything, r.all()...)
		}
	}
	v.say(lost(everything) == "0", "in all %d drives, with any policy, no item is lost or doubled: %s", len(everything), lost(everything))
	return v.String() + "\n"
}

// verdictsRuntime also compares with the network middle of the first part, if that is
// there.
func verdictsRuntime(simulated, runtime []table) string {
	var v verdicts
	for _, t := range runtime {
		r := find(runtime, t.w.name, adaptivePolicy)
		v.say(r.leastShare() >= ofRuntime, "%s with the runtime: adaptive has at least %.0f %% of the rate of the best batch: %.1f %%", t.w.name, 100*ofRuntime, 100*r.leastShare())
	}
	if len(simulated) == 0 {
		return v.String()
	}
	for _, o := range []struct {
		what string
		of   func(figures) float64
		same float64 // differences up to it are none
	}{
		{"fewest runs out of memory", func(f figures) float64 { return float64(f.outOfMemory) }, 0.5},
		{"highest rate", func(f figures) float64 { return f.share }, 0.03},
	} {
		turned := turned(simulated, runtime, o.of, o.same)
		text := "none"
		if len(turned) > 0 {
			text = strings.Join(turned, "; ")
		}
		v.say(len(turned) == 0, "policies by %s, in the mean of these workloads, are in the order of the first part with the network middle; pairs that are not: %s", o.what, text)
	}
	return v.String()
}

// turned are the pairs of policies whose order is another with the runtime.
func turned(simulated, runtime []table, of func(figures) float64, same float64) []string {
	mean := func(tables []table, p policy) (sum float64) {
		for _, t := range runtime {
			r := find(tables, t.w.name, p)
			sum += spreadOf(r.cells[len(r.cells)/2], of).mean / float64(len(runtime))
		}
		return sum
	}
	var pairs []string
	for i, a := range runtime[0].rows {
		for _, b := range runtime[0].rows[:i] {
			before := mean(simulated, b.policy) - mean(simulated, a.policy)
			now := mean(runtime, b.policy) - mean(runtime, a.policy)
			if math.Abs(before) > same && math.Abs(now) > same && before*now < 0 {
				pairs = append(pairs, fmt.Sprintf("%s and %s", b.policy.name, a.policy.name))
			}
		}
	}
	return pairs
}

// write writes a workload's table.
func (t *table) write(s *strings.Builder) {
	fmt.Fprintf(s, "**%s.** %s\n\n| policy |", t.w.title(), t.w.says)
	for _, c := range t.w.chains {
		fmt.Fprintf(s, " %s |", c.name)
	}
	s.WriteString(" run that reaches 95 % | out of memory | neighbour had | lost, doubled |\n|---|" + strings.Repeat("---|", len(t.w.chains)+4) + "\n| oracle |")
	for i := range t.w.chains {
		fmt.Fprintf(s, " %s |", t.oracles[i])
	}
	s.WriteString(" | | | |\n")
	for _, r := range t.rows {
		fmt.Fprintf(s, "| %s |", r.policy.name)
		for _, cell := range r.cells {
			x := spreadOf(cell, func(f figures) float64 { return f.share })
			fmt.Fprintf(s, " %.1f %% (%.1f) |", 100*x.mean, 100*x.least)
		}
		all := r.all()
		fmt.Fprintf(s, " %s | %s | %s | %s |\n", t.reached(all), outOfMemory(all), neighbourHad(all), lost(all))
	}
	s.WriteString("\n")
}

// String says it in a cell.
func (o oracle) String() string {
	var batches []string
	for _, s := range o.splits {
		var parts []string
		for _, b := range s.batches {
			parts = append(parts, fmt.Sprint(b))
		}
		batches = append(batches, strings.Join(parts, " + "))
	}
	return fmt.Sprintf("%.1f/s (%s)", o.rate, strings.Join(batches, "; "))
}

// reached is not said of several networks or cards: the oracle's rate is of all.
func (t *table) reached(all []figures) string {
	if len(t.w.chains[0].networks) > 1 || len(t.w.cards) > 1 {
		return ""
	}
	if n, ever := worst(all, func(f figures) int { return f.reached }); ever {
		return fmt.Sprint(n)
	}
	return "not always"
}

func outOfMemory(all []figures) string {
	x := spreadOf(all, func(f figures) float64 { return float64(f.outOfMemory) })
	if x.most == 0 {
		return "0"
	}
	return fmt.Sprintf("%.1f (%.0f)", x.mean, x.most)
}

func neighbourHad(all []figures) string {
	x := spreadOf(all, func(f figures) float64 { return f.had })
	if math.IsNaN(x.mean) {
		return ""
	}
	return fmt.Sprintf("%.1f %% (%.1f)", 100*x.mean, 100*x.least)
}

func lost(all []figures) string {
	var lost, doubled int64
	for _, f := range all {
		lost, doubled = lost+max(f.lost, 0), doubled+max(-f.lost, 0)
	}
	if lost == 0 && doubled == 0 {
		return "0"
	}
	return fmt.Sprintf("%d, %d", lost, doubled)
}

func (w *workload) title() string { return strings.ToUpper(w.name[:1]) + w.name[1:] }

// shows says what a picture shows.
func (t *table) shows() string {
	if c := t.w.chains[t.w.shown()]; len(t.w.chains) > 1 {
		return fmt.Sprintf("%s Here: %s.", t.w.says, c.name)
	}
	return t.w.says
}

// panels are those of a workload's picture: what each policy did or, where there are
// several cards, what the first one did on each.
func (t *table) panels() []panel {
	c := t.w.chains[t.w.shown()]
	p := panel{wants: t.w.trace(0), networks: len(c.networks)}
	for _, n := range c.networks {
		p.fixed += n.Fixed
	}
	var panels []panel
	if len(t.w.cards) == 1 {
		for _, r := range t.rows {
			p.title, p.note, p.total, p.turns = r.policy.name, r.note(r.cells[t.w.shown()][0]), t.w.cards[0].total, r.shown
			panels = append(panels, p)
		}
		return panels
	}
	for i, card := range t.w.cards {
		p.title, p.note, p.total, p.turns = fmt.Sprintf("%s on %d GiB, speed %g", t.rows[0].policy.name, card.total/gib, card.speed), "", card.total, nil
		for _, turn := range t.rows[0].shown {
			if turn.Device == i {
				p.turns = append(p.turns, turn)
			}
		}
		panels = append(panels, p)
	}
	return panels
}

// note says how a drive went.
func (r *row) note(f figures) string {
	text := fmt.Sprintf("rate %.1f %%", 100*f.share)
	if !math.IsNaN(f.had) {
		text += fmt.Sprintf(", neighbour had %.0f %%", 100*f.had)
	}
	return text
}
