package terminal

import (
	"fmt"
	"strings"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
)

// Plan writes how a pipeline would run.
func Plan(p *pipeline.Plan) string {
	var b strings.Builder
	b.WriteString("memory: " + p.Memory() + "\n")
	if p.StateDir != "" {
		fmt.Fprintf(&b, "run store: %s\n", p.StateDir)
	} else {
		b.WriteString("run store: none, so nothing can be resumed\n")
	}
	b.WriteString("\n")
	rows := [][]string{{"phase", "stage", "", "device", "workers", "batch", "resident", "per call"}}
	for i, phase := range p.Phases {
		for k, st := range phase {
			number, kind := "", ""
			if k == 0 {
				number = fmt.Sprint(i + 1)
			}
			if st.Stage != st.ID {
				kind = st.Stage
			}
			resident, work := st.Memory()
			rows = append(rows, []string{
				number, st.ID, kind, devices(st.Devices), fmt.Sprint(st.Workers), fmt.Sprint(st.Batch), resident, work,
			})
		}
	}
	for _, l := range table(rows, true, false, false, false, true, true, true, true) {
		b.WriteString("  " + l + "\n")
	}
	return b.String()
}

// muchHeld is what a barrier may take, in bytes, without a word about it.
const muchHeld = 256 << 20

// held says what a barrier would take, where that is much or too much.
func held(n pipeline.HeldNeed) string {
	if short := n.Short(); len(short) > 0 {
		return strings.Join(short, "\n") + "\n"
	}
	most, about := n.Memory, "about"
	for _, d := range n.Disks {
		most = max(most, d.Bytes)
	}
	if most < muchHeld {
		return ""
	}
	if n.AtLeast {
		about = "at least"
	}
	text := fmt.Sprintf("%s takes %s %s of memory to decide about %s", n.Stage, about, memory.FormatBytes(n.Memory), Counted(n.Items, "item"))
	for _, d := range n.Disks {
		text += fmt.Sprintf(", and %s on the disk of %s", memory.FormatBytes(d.Bytes), d.Folder)
		if d.Free != nil {
			text += fmt.Sprintf(", which has %s", memory.FormatBytes(*d.Free))
		}
	}
	return text + "\n"
}

func devices(all []pipeline.Device) string {
	names := make([]string, len(all))
	for i, d := range all {
		names[i] = string(d)
	}
	return strings.Join(names, ", ")
}

// Estimate is what a run would take, as far as an earlier run of the same store
// tells.
type Estimate struct {
	Bytes   *int64   `json:"bytes"`   // on disk; nil: not known
	Seconds *float64 `json:"seconds"` // nil: not known
}

// Forecast writes what a run would do.
func Forecast(f *pipeline.Forecast, sum *pipeline.Summary, e Estimate) string {
	var b strings.Builder
	write := "write " + count(f.Write)
	if f.Maybe > 0 {
		write += fmt.Sprintf(" and what becomes of %s", Counted(f.Maybe, "item"))
	}
	fmt.Fprintf(&b, "\n%s in: compute %s, reuse %s, %s, retract %s\n", count(sum.In), count(f.Compute), count(f.Reuse), write, count(f.Retract))
	if f.Maybe > 0 {
		b.WriteString("what becomes of an item that is not computed yet, and how many files, is only known when it is\n")
	}
	for _, n := range f.Held {
		b.WriteString(held(n))
	}
	if sum.Quarantined > 0 {
		fmt.Fprintf(&b, "%s would be quarantined\n", Counted(sum.Quarantined, "item"))
	}
	for _, st := range sum.Stages {
		if st.Note != "" {
			fmt.Fprintf(&b, "%s: %s\n", st.ID, st.Note)
		}
	}
	switch {
	case f.Write+f.Maybe == 0:
		b.WriteString("disk: nothing to write\n")
	case e.Bytes == nil:
		b.WriteString("disk: not known, as no earlier run tells the size of a file: --sample 200 measures it\n")
	default:
		fmt.Fprintf(&b, "disk: about %s, at the mean size of the files of earlier runs\n", memory.FormatBytes(*e.Bytes))
	}
	switch {
	case f.Write+f.Maybe+f.Compute == 0:
	case e.Seconds == nil:
		b.WriteString("time: not known: --sample 200 measures it\n")
	default:
		fmt.Fprintf(&b, "time: about %s, at the last run's rate\n", duration(*e.Seconds))
	}
	return b.String()
}
