package terminal

import (
	"fmt"
	"strings"
	"time"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/control"
	"github.com/forgepipe/forgepipe/memory"
)

const shownHolders = 10 // of each device

// Memory writes whose the memory of devices and of a process is. now is when it
// is shown.
func Memory(r *control.Report, now time.Time) string {
	var b strings.Builder
	for _, l := range MemoryLines(r, now) {
		b.WriteString(l + "\n")
	}
	return b.String()
}

// MemoryLines is Memory as lines, for a block that is drawn again and again.
func MemoryLines(r *control.Report, now time.Time) []string {
	rows := [][]string{{"device", "total", "used", "free", "reserved", "own", "stalled", "busy", "leased", "of", ""}}
	var notes []string
	for _, d := range r.Devices {
		rows = append(rows, []string{
			d.Device, known(d.Total), known(d.Used), known(d.Free), known(d.Reserved), known(d.Own), share(d.Stalled),
			share(d.Busy), known(d.Leased), known(d.Limit), d.Description,
		})
		notes = append(notes, deviceNotes(d)...)
	}
	lines := table(rows, false, true, true, true, true, true, true, true, true, true)
	lines = append(lines, notes...)
	if held := holders(r.Devices, now); len(held) > 1 {
		lines = append(lines, "")
		lines = append(lines, table(held, false, false, true, true, true)...)
	}
	lines = append(lines, "", processLine(r.Process), nvidiaLine(r.NVIDIA))
	for i := range lines {
		lines[i] = oneLine(lines[i]) // names come from another process
	}
	return lines
}

// deviceNotes say what does not fit into a table.
func deviceNotes(d control.Device) (notes []string) {
	if d.Source != "" && d.Total != nil {
		note := fmt.Sprintf("%s: total is from %s", d.Device, d.Source)
		if d.Physical != nil && *d.Physical > *d.Total {
			note += ", the machine has " + known(d.Physical)
		}
		notes = append(notes, note)
	}
	if d.Waiting > 0 {
		notes = append(notes, fmt.Sprintf("%s: %s for room", d.Device, verb(d.Waiting, "call waits", "calls wait")))
	}
	switch {
	case d.Error == "":
	case d.AgeSeconds != nil:
		notes = append(notes, fmt.Sprintf("%s: these figures are %s old: %s", d.Device, duration(*d.AgeSeconds), d.Error))
	default:
		notes = append(notes, fmt.Sprintf("%s: no figures: %s", d.Device, d.Error))
	}
	return notes
}

func verb(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(int64(n)) + " " + many
}

// holders lists who has leases of which device, under a head.
func holders(devices []control.Device, now time.Time) [][]string {
	rows := [][]string{{"held by", "", "bytes", "leases", "since"}}
	for _, d := range devices {
		for i, h := range d.Holders {
			if i == shownHolders {
				rows = append(rows, []string{"and " + count(int64(len(d.Holders)-shownHolders)) + " more", d.Device + " (--json lists all)"})
				break
			}
			since := duration(max(now.Sub(h.Since).Seconds(), 0)) + " ago"
			rows = append(rows, []string{h.Holder, d.Device + " " + h.Kind, memory.FormatBytes(h.Bytes), count(int64(h.Leases)), since})
		}
	}
	return rows
}

func processLine(p control.Process) string {
	line := fmt.Sprintf("process %d: ", p.PID)
	if p.RSS != nil {
		line += fmt.Sprintf("%s in memory: ", known(p.RSS))
	}
	line += fmt.Sprintf("Go %s (heap %s)", known(p.Go), known(p.GoHeap))
	if p.Other != nil {
		line += ", other " + known(p.Other)
	}
	return line
}

func nvidiaLine(n control.NVIDIA) string {
	switch {
	case n.Problem != "":
		return n.Problem
	case n.Driver != "":
		return "NVIDIA driver " + n.Driver
	}
	return "NVIDIA driver, of an unknown version"
}

// MemoryLine is the memory of all devices in one line, for logs.
func MemoryLine(r *control.Report, now time.Time) string {
	parts := []string{}
	for _, d := range r.Devices {
		part := fmt.Sprintf("%s used %s, free %s, own %s", d.Device, known(d.Used), known(d.Free), known(d.Own))
		if d.Stalled != nil && *d.Stalled > 0 {
			part += ", stalled " + share(d.Stalled)
		}
		if d.Busy != nil {
			part += ", busy " + share(d.Busy)
		}
		if d.Leased != nil {
			part += fmt.Sprintf(", leased %s of %s", known(d.Leased), known(d.Limit))
		}
		if d.Waiting > 0 {
			part += fmt.Sprintf(", %d waiting", d.Waiting)
		}
		if d.Error != "" {
			part += ", " + d.Error
		}
		parts = append(parts, part)
	}
	return oneLine(now.Format(time.TimeOnly) + "  " + strings.Join(parts, "; "))
}

// State writes whether a run stands still.
func State(s control.State) string {
	if s.State != "paused" {
		return "the run goes on\n"
	}
	if s.Active == 0 {
		return "paused: nothing is at work\n"
	}
	return fmt.Sprintf("paused: %s still inside a stage\n", verb(s.Active, "batch is", "batches are"))
}

// Cleaned writes what a clean-up freed.
func Cleaned(c *control.Cleaned) string {
	rows := [][]string{{"device", "before", "after", "freed"}}
	for _, d := range c.Devices {
		rows = append(rows, []string{d.Device, known(d.Before), known(d.After), known(d.Freed)})
	}
	lines := table(rows, false, true, true, true)
	if len(c.Steps) > 0 {
		lines = append(lines, "")
		steps := [][]string{{"step", "", "freed", ""}}
		for _, s := range c.Steps {
			steps = append(steps, []string{s.Name, s.Device, known(s.Freed), s.Error})
		}
		lines = append(lines, table(steps, false, false, true)...)
	}
	lines = append(lines, "", "took "+duration(c.Seconds))
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(oneLine(l) + "\n")
	}
	return b.String()
}

// Tip is one piece of advice.
type Tip struct {
	What string `json:"what"`
	Why  string `json:"why"` // with the figures
	Do   string `json:"do"`  // the line of YAML, or the command
}

// Advice writes advice.
func Advice(tips []Tip) string {
	if len(tips) == 0 {
		return "nothing to advise: no figure here says that anything would help\n"
	}
	var b strings.Builder
	for i, t := range tips {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%d. %s\n   %s\n", i+1, oneLine(t.What), oneLine(t.Why))
		for line := range strings.SplitSeq(t.Do, "\n") {
			b.WriteString("     " + oneLine(line) + "\n")
		}
	}
	return b.String()
}

// Cards writes what stages are expected to take of the devices beside the host, and in
// which phases they are where there is a plan.
func Cards(cards []memory.PlannedDevice, planned bool) string {
	var b strings.Builder
	for _, c := range cards {
		fmt.Fprintf(&b, "%s has %s, of which networks may have %s\n", c.Name, memory.FormatBytes(c.Total), memory.FormatBytes(c.Room()))
		rows := [][]string{{"phase", "", "weights", "runs"}}
		for _, t := range c.Tasks {
			phase := "-"
			if planned {
				phase = fmt.Sprint(t.Phase + 1)
			}
			rows = append(rows, []string{phase, t.Name, memory.FormatBytes(t.Resident), "about " + memory.FormatBytes(t.Work)})
		}
		for _, l := range table(rows, true, false, true, true) {
			b.WriteString("  " + l + "\n")
		}
		together := "no card is large enough for all of it at once"
		if size, ok := c.Size(c.Together()); ok {
			together = fmt.Sprintf("a card with %s has room for all of it at once", memory.FormatBytes(size))
		}
		fmt.Fprintf(&b, "  about %s together: %s\n\n", memory.FormatBytes(c.Together()), together)
	}
	return b.String()
}

// known is a size, or a dash where it is not known: never a zero.
func known(n *int64) string {
	if n == nil {
		return "-"
	}
	return memory.FormatBytes(*n)
}

func share(f *float64) string {
	if f == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", *f*100)
}
