package terminal

import (
	"fmt"
	"strings"
	"time"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/control"
	"github.com/forgepipe/forgepipe/pipeline"
)

// Snapshot writes a run at one instant: what each stage has done, has before it and is
// at, who holds memory, and what was decided last. The plan tells of its phases.
func Snapshot(now time.Time, sum *pipeline.Summary, plan *pipeline.Plan, r *control.Report, last Last) string {
	state := sum.State + " for " + duration(sum.Seconds)
	if p := phaseOf(sum, plan); p != "" {
		state += ", " + p
	}
	var b strings.Builder
	g := goalOf(sum)
	of := ""
	if g.of > 0 {
		of = " of " + count(g.of)
	}
	fmt.Fprintf(&b, "\nsnapshot at %s: %s, %s%s %s, %s written\n\n", now.Format(time.TimeOnly), state,
		count(g.done), of, g.what, Counted(sum.Written, "file"))
	for _, l := range table(stageTable(sum), false, false, true, true, true, true, true, true, true, true, true) {
		b.WriteString("  " + oneLine(l) + "\n")
	}
	if n := sum.Parked.Pictures; n > 0 {
		fmt.Fprintf(&b, "\n%s\n", parked(sum))
	}
	b.WriteString("\n")
	for _, l := range MemoryLines(r, now) {
		b.WriteString(l + "\n")
	}
	for _, group := range []struct {
		name   string
		events []pipeline.Event
	}{{"the governor's last decisions", last.Governed}, {"what happened to memory last", last.Memory}} {
		if len(group.events) == 0 {
			fmt.Fprintf(&b, "\n%s: none\n", group.name)
			continue
		}
		fmt.Fprintf(&b, "\n%s:\n", group.name)
		for _, ev := range group.events {
			line, _ := describe(ev)
			fmt.Fprintf(&b, "  %s  %s\n", ev.Time.Format(time.TimeOnly), oneLine(line))
		}
	}
	return b.String() + "\n"
}

// stageTable has all that a stage is at.
func stageTable(sum *pipeline.Summary) [][]string {
	rows := [][]string{
		{"phase", "stage", "in", "derived", "out", "rejected", "failed", "queued", "full", "inside", "workers", ""},
		{"", "source", "", "", count(sum.In)},
	}
	slow := bottleneck(sum.Stages)
	for i, st := range sum.Stages {
		note := ""
		if i == slow {
			note = mark
		}
		rows = append(rows, []string{
			fmt.Sprint(st.Phase), st.ID, count(st.In), count(st.Derived), count(st.Out), count(st.Rejected), count(st.Failed),
			count(int64(st.Queued)), fmt.Sprintf("%.0f%%", 100*st.Fill), count(int64(st.Active)), count(int64(st.Workers)), note,
		})
	}
	return rows
}
