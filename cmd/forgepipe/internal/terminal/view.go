package terminal

import (
	"fmt"
	"strings"

	"github.com/mattn/go-runewidth"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
)

// row is one line of the progress: cells in columns that all rows share, a bar, and what
// is said behind it.
type row struct {
	cells    []string // the first is the row's name; none in a line that is only text
	fill, of int64    // of the bar; of 0: there is none
	instead  string   // of the bar
	note     string
	marked   bool // the note is worth a look
}

// full is that of a bar for a share.
const full = 1000

// The columns of the table that are shown in a terminal of so many columns; in a
// narrower one only the name and what came out.
const (
	wideTable = 72 // all
	someTable = 44 // what comes in, and the rate
)

const mark = "<- bottleneck"

// rowsOf are the lines that show a run, for a terminal of so many columns.
func rowsOf(sum *pipeline.Summary, r *rates, plan *pipeline.Plan, width int) []row {
	show := func(name, in, out, rejected, failed, rate string) []string {
		cells := []string{runewidth.Truncate(oneLine(name), max(width/4, 8), "…"), in, out, rejected, failed, rate}
		for i := range cells[1:] {
			switch k := i + 1; {
			case k == 2, k == 1 && width >= someTable, k == 5 && width >= someTable, width >= wideTable:
				cells[k] = "  " + cells[k]
			default:
				cells[k] = ""
			}
		}
		return cells
	}
	queue := ""
	if width >= someTable {
		queue = "queue"
	}
	rows := []row{
		{cells: show("", "in", "out", "rejected", "failed", "rate"), instead: queue},
		{cells: show("source", "", count(sum.In), "", "", perSecond(r.perSecond(0)))},
	}
	slow := bottleneck(sum.Stages)
	for i, st := range sum.Stages {
		stage := row{
			cells: show(st.ID, count(st.In), count(st.Out), count(st.Rejected), count(st.Failed), perSecond(r.perSecond(i+1))),
			fill:  int64(st.Fill * full), of: full,
		}
		if i == slow {
			stage.note, stage.marked = mark, true
			if width < someTable {
				stage.note = mark[:2]
			}
		}
		rows = append(rows, stage)
	}
	for _, d := range sum.Devices {
		rows = append(rows, deviceRow(sum, d, plan))
	}
	return append(rows, goalRow(sum, r), row{note: footOf(sum, plan)})
}

// deviceRow tells what is leased of a device.
func deviceRow(sum *pipeline.Summary, d pipeline.DeviceUsage, plan *pipeline.Plan) row {
	note := fmt.Sprintf("%s of %s", memory.FormatBytes(d.Leased), memory.FormatBytes(d.Now))
	if why := limitedBy(sum, d, plan); why != "" {
		note += ", " + why
	}
	return row{cells: []string{d.Device + " "}, fill: min(d.Leased, d.Now), of: d.Now, note: note}
}

// limitedBy says what keeps a run from more on a device; empty: nothing does.
func limitedBy(sum *pipeline.Summary, d pipeline.DeviceUsage, plan *pipeline.Plan) string {
	begun := d.Limit
	if d.Device == string(pipeline.Host) && plan != nil {
		begun = plan.HostBudget
	}
	switch {
	case d.Waiting > 0:
		return "limited by its memory: " + verb(d.Waiting, "waits", "wait")
	case d.Now < begun-begun/16:
		return fmt.Sprintf("limited by what others take: before it was %s", memory.FormatBytes(begun))
	}
	for _, a := range sum.Governed {
		if a.Device == d.Device && a.Items > 0 {
			why, _, _ := strings.Cut(a.Limit(), " (")
			why, _, _ = strings.Cut(why, ":")
			if strings.HasPrefix(why, "limited by ") { // otherwise that is for the end to say
				return why
			}
		}
	}
	return ""
}

// goalRow tells how much of what the phase gets it has begun with.
func goalRow(sum *pipeline.Summary, r *rates) row {
	g := goalOf(sum)
	return row{cells: []string{g.what + " "}, fill: min(g.done, g.of), of: g.of, note: g.note(sum, r)}
}

// goal is what the phase that runs works through: the inputs, or what the phase before
// has left.
type goal struct {
	what     string
	done, of int64 // of 0: not known yet
	at       int   // in rates
}

func goalOf(sum *pipeline.Summary) goal {
	for i, st := range sum.Stages {
		if i > 0 && sum.Phase > 1 && st.Phase == sum.Phase {
			return goal{"items", st.In, sum.Stages[i-1].Out, i + 1}
		}
	}
	return goal{"inputs", sum.In, sum.Inputs, 0}
}

// note is how far it is, how fast, and when all of it will have been begun with.
func (g goal) note(sum *pipeline.Summary, r *rates) string {
	note := count(g.done)
	if g.of > 0 {
		note += " of " + count(g.of)
	}
	note += ", " + perSecond(r.perSecond(g.at))
	if left, ok := g.left(sum, r); ok {
		note += ", about " + roughly(left) + " left"
	}
	return note
}

// left is in how many seconds all of it will have been begun with, at the rate of the
// last half minute.
func (g goal) left(sum *pipeline.Summary, r *rates) (seconds float64, ok bool) {
	rate := r.over(g.at, rateHistory)
	if g.of <= g.done || rate <= 0 || sum.State != "running" || r.since() < etaAfter {
		return 0, false
	}
	return float64(g.of-g.done) / rate, true
}

// footOf is the last line.
func footOf(sum *pipeline.Summary, plan *pipeline.Plan) string {
	foot := duration(sum.Seconds)
	if sum.State == "paused" {
		foot += ", paused"
	}
	if p := phaseOf(sum, plan); p != "" {
		foot += ", " + p
	}
	foot += fmt.Sprintf(", %s written", Counted(sum.Written, "file"))
	if sum.Reused > 0 {
		foot += ", " + count(sum.Reused) + " right already"
	}
	return foot
}

// phaseOf says which phase it is; nothing where there is only one.
func phaseOf(sum *pipeline.Summary, plan *pipeline.Plan) string {
	if plan == nil || len(plan.Phases) < 2 || sum.Phase == 0 {
		return ""
	}
	return fmt.Sprintf("phase %d of %d", sum.Phase, len(plan.Phases))
}

// bottleneck is the stage whose queue is fullest; of those that are about as full the one
// furthest downstream, which holds up the others. -1 when nothing waits anywhere.
func bottleneck(stages []pipeline.StageSummary) int {
	at, most := -1, 0.0
	for i, st := range stages {
		waits := st.Queued > 1 || st.Fill >= 0.25 // one picture may be large
		if waits && st.Fill > 0 && st.Fill >= 0.9*most {
			at, most = i, max(most, st.Fill)
		}
	}
	return at
}
