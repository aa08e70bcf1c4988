package terminal

import (
	"fmt"
	"strings"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
)

const (
	shownCounts = 20 // reasons for which items ended
	shownCauses = 10 // for which items failed
)

// Past is what a report without an image tells of a run store.
type Past struct {
	Run      *pipeline.RunRecord
	Counts   []pipeline.EndCount
	Causes   []pipeline.CauseCount
	Governed []pipeline.Governed
}

// History writes what a run store tells.
func History(p *Past) string {
	var b strings.Builder
	if p.Run == nil {
		return "no run has begun here yet\n"
	}
	b.WriteString(lastRun(p.Run) + "\n")
	for _, part := range []struct {
		title string
		lines []string
	}{
		{"what became of the images", counts(p.Counts)},
		{"why items failed", causes(p.Causes)},
		{"what the governor decided, of items that a network takes at once and of workers", governed(p.Governed)},
		{"what networks did, and what limited them", accounts(p.Run.Summary)},
	} {
		if len(part.lines) == 0 {
			continue
		}
		b.WriteString("\n" + part.title + ":\n")
		for _, l := range part.lines {
			b.WriteString("  " + oneLine(l) + "\n")
		}
	}
	return b.String()
}

func lastRun(r *pipeline.RunRecord) string {
	text := fmt.Sprintf("%s, last run at %s", oneLine(r.Pipeline), r.Started.Local().Format("2006-01-02 15:04:05"))
	if r.Version != "" {
		text += " (forgepipe " + oneLine(r.Version) + ")"
	}
	switch {
	case r.Summary != nil:
		return text + ": " + headline(r.Summary, nil) + "\n" + proof(r.Summary)
	case r.State == "running":
		return text + ": it is running; what it has not looked at yet is as the run before left it"
	}
	return text + ": killed; forgepipe run goes on where it stopped, and what it had not looked at is as the run before left it"
}

func counts(all []pipeline.EndCount) []string {
	var rows [][]string
	var rest int64
	for i, c := range all {
		if i >= shownCounts {
			rest += c.N
			continue
		}
		what := c.Stage
		switch {
		case c.Reason != "":
			what += ": " + c.Reason
		case c.Kind == pipeline.EndWritten:
			what += ": files"
		case c.Kind == pipeline.EndPassed && c.Stage != "":
			what += ": the file was there already, with the same bytes"
		case c.Kind == pipeline.EndPassed:
			what = "without a file of its own"
		case c.Kind == pipeline.EndUnfinished:
			what = "no end is recorded yet"
		}
		rows = append(rows, []string{count(c.N), string(c.Kind), what})
	}
	if rest > 0 {
		rows = append(rows, []string{count(rest), "", "for " + Counted(int64(len(all)-shownCounts), "other reason")})
	}
	return table(rows, true)
}

func causes(all []pipeline.CauseCount) []string {
	var lines []string
	for i, c := range all {
		if i == shownCauses {
			return append(lines, "and for "+Counted(int64(len(all)-i), "other cause")+"; --kind failed --list has all")
		}
		text := c.Stage + ": " + c.Cause
		if c.Cause == "" {
			text = "other causes"
		}
		lines = append(lines, fmt.Sprintf("%s  %s", count(c.N), text))
		more := ""
		if int64(len(c.Examples)) < c.N {
			more = ", ..."
		}
		lines = append(lines, "   "+strings.Join(c.Examples, ", ")+more)
	}
	return lines
}

func governed(all []pipeline.Governed) []string {
	if len(all) == 0 {
		return nil
	}
	rows := [][]string{{"", "on", "shape", "began with", "now", "least", "most", "decisions", "why"}}
	for _, g := range all {
		who := g.Network
		if g.Stage != "" {
			who = g.Stage + " (workers)"
		}
		rows = append(rows, []string{
			who, g.Device, g.Shape, count(int64(g.First)), count(int64(g.Last)), count(int64(g.Least)), count(int64(g.Most)), count(int64(g.Changes)), why(g),
		})
	}
	return table(rows, false, false, false, true, true, true, true, true)
}

// why is the reason in the text of a decision.
func why(g pipeline.Governed) string {
	if _, why, ok := strings.Cut(g.Text, ": "); ok {
		return why
	}
	return g.Rule
}

func accounts(s *pipeline.Summary) (lines []string) {
	if s == nil {
		return nil
	}
	for _, a := range s.Governed {
		lines = append(lines, a.Did(), "  "+a.Limit())
	}
	return lines
}

// Trash writes the files in a trash: a headline for each folder and time, then
// their names. It is called for one after another; before is the last one.
func Trash(f, before *pipeline.Trashed) string {
	text := ""
	if before == nil || before.Folder != f.Folder || before.From != f.From {
		if before != nil {
			text = "\n"
		}
		text += fmt.Sprintf("%s of %s, moved by the run of %s:\n", oneLine(f.From), oneLine(f.Folder), f.Time.Local().Format("2006-01-02 15:04:05"))
	}
	notes := []string{memory.FormatBytes(f.Size)}
	if f.Why != "" {
		notes = append(notes, f.Why)
	}
	if f.Taken {
		notes = append(notes, "its place is taken")
	}
	return text + fmt.Sprintf("  %s (%s)\n", oneLine(f.Name), strings.Join(notes, ", "))
}
