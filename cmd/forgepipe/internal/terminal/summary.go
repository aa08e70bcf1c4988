package terminal

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
)

const (
	shownReasons     = 5 // of rejections
	shownQuarantined = 5
)

// SampleInfo says what a sample run chose from and where its files are.
type SampleInfo struct {
	Inputs  int64   `json:"inputs"`  // that the source has
	Seconds float64 `json:"seconds"` // estimate for all of them
	Bytes   int64   `json:"bytes"`   // written, estimate for all of them
	Dir     string  `json:"dir"`
}

// Summary writes what a run did. sample is nil unless it was a sample run.
func Summary(s *pipeline.Summary, ignored []Ignored, sample *SampleInfo, hints []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n\n", headline(s, sample))
	for _, l := range table(facts(s, ignored), false, true) {
		b.WriteString("  " + l + "\n")
	}
	fmt.Fprintf(&b, "\n%s\n", proof(s))
	for _, st := range s.Stages {
		if st.Note != "" {
			fmt.Fprintf(&b, "%s: %s\n", st.ID, st.Note)
		}
	}
	for _, a := range s.Governed {
		fmt.Fprintf(&b, "%s\n  %s\n", a.Did(), a.Limit())
	}
	if len(s.Failed) > 0 {
		b.WriteString("\n" + quarantined(s))
	}
	if sample != nil {
		b.WriteString("\n" + extrapolated(s, sample))
	} else {
		b.WriteString("\n" + places(s))
		if next := whatNext(s); next != "" {
			b.WriteString(next + "\n")
		}
	}
	if len(hints) > 0 {
		b.WriteString("\n")
	}
	for _, h := range hints {
		b.WriteString("hint: " + h + "\n")
	}
	return b.String()
}

// headline is the summary in one line.
func headline(s *pipeline.Summary, sample *SampleInfo) string {
	took := duration(s.Seconds)
	wrote := "nothing was written"
	if s.Written > 0 {
		wrote = fmt.Sprintf("%s written (%s)", Counted(s.Written, "file"), memory.FormatBytes(s.Bytes))
	}
	switch {
	case s.State == "interrupted":
		return fmt.Sprintf("interrupted after %s: %s", took, wrote)
	case s.State == "failed":
		return fmt.Sprintf("failed after %s: %s", took, wrote)
	case sample != nil:
		return fmt.Sprintf("sample of %s out of %s in %s: %s", count(s.In), Counted(sample.Inputs, "input"), took, wrote)
	case s.Written == 0 && s.Retracted == 0 && s.Reused > 0:
		are := "files are as they should be"
		if s.Reused == 1 {
			are = "file is as it should be"
		}
		line := fmt.Sprintf("all done: nothing to do, %s %s", count(s.Reused), are)
		if s.Quarantined > 0 {
			line += fmt.Sprintf("; %s quarantined still", Counted(s.Quarantined, "item"))
		}
		return line
	}
	return fmt.Sprintf("done in %s: %s", took, wrote)
}

// facts are the summary's rows: name, number, note.
func facts(s *pipeline.Summary, ignored []Ignored) [][]string {
	rate := ""
	if s.Seconds > 0 && s.In > 0 {
		rate = perSecond(float64(s.In) / s.Seconds)
	}
	rows := [][]string{
		{"in", count(s.In), rate},
		{"derived", count(s.Derived)},
		{"consumed", count(s.Consumed), unless(s.Consumed == 0, "only what was derived from them goes on")},
		{"out", count(s.Out)},
	}
	rows = append(rows, rejections(s)...)
	rows = append(rows, []string{"quarantined", count(s.Quarantined)})
	if s.Unfinished > 0 {
		rows = append(rows, []string{"unfinished", count(s.Unfinished), "the next run does them"})
	}
	rows = append(rows, ignoredRows(s, ignored)...)
	written := ""
	if s.Written > 0 {
		written = memory.FormatBytes(s.Bytes)
	}
	rows = append(rows, []string{"files written", count(s.Written), written}, []string{"right already", count(s.Reused)})
	if s.Retracted > 0 {
		rows = append(rows, []string{"retracted", count(s.Retracted), "no longer wanted: in the trash (.forgepipe/trash)"})
	}
	if s.Replaced > 0 {
		rows = append(rows, []string{"replaced", count(s.Replaced), "changed by somebody since: their version is in the trash (.forgepipe/trash)"})
	}
	if s.Renamed > 0 {
		rows = append(rows, []string{"renamed", count(s.Renamed), "kept the source's extension in the name, as another source has their stem"})
	}
	for _, d := range s.Devices {
		rows = append(rows, []string{"memory", memory.FormatBytes(d.Peak), fmt.Sprintf("leased at most, of %s on %s", memory.FormatBytes(d.Limit), d.Device)})
	}
	return rows
}

func unless(not bool, text string) string {
	if not {
		return ""
	}
	return text
}

type rejection struct {
	stage, reason string
	n             int64
}

// rejections are the most frequent reasons over all stages, the rest added up.
func rejections(s *pipeline.Summary) [][]string {
	var all []rejection
	for stage, reasons := range s.Rejected {
		for reason, n := range reasons {
			all = append(all, rejection{stage, reason, n})
		}
	}
	slices.SortFunc(all, func(a, b rejection) int {
		return cmp.Or(cmp.Compare(b.n, a.n), strings.Compare(a.stage, b.stage), strings.Compare(a.reason, b.reason))
	})
	rows := [][]string{{"rejected", count(s.RejectedTotal())}}
	if len(all) == 1 {
		rows[0] = append(rows[0], all[0].stage+": "+all[0].reason)
		return rows
	}
	var rest int64
	for i, r := range all {
		if i < shownReasons {
			rows = append(rows, []string{"", count(r.n), r.stage + ": " + r.reason})
		} else {
			rest += r.n
		}
	}
	if n := int64(len(all) - shownReasons); n > 0 {
		rows = append(rows, []string{"", count(rest), "for " + Counted(n, "other reason")})
	}
	return rows
}

// ignoredRows say what the source passed over. Ordinary files that are no
// images are named shortly, everything else is worth its name.
func ignoredRows(s *pipeline.Summary, ignored []Ignored) [][]string {
	if s.Ignored == 0 {
		return nil
	}
	rows := [][]string{{"ignored", count(s.Ignored)}}
	for i, g := range ignored {
		names := strings.Join(g.Names, ", ")
		if more := g.Count - int64(len(g.Names)); more > 0 {
			names += fmt.Sprintf(" and %s more", count(more))
		}
		note := g.Reason + ": " + names
		if i == 0 && len(ignored) == 1 {
			rows[0] = append(rows[0], note)
			break
		}
		rows = append(rows, []string{"", count(g.Count), note})
	}
	return rows
}

// proof is the sum that shows that nothing was lost.
func proof(s *pipeline.Summary) string {
	line := fmt.Sprintf("%d in + %d derived = %d out + %d consumed + %d rejected + %d quarantined",
		s.In, s.Derived, s.Out, s.Consumed, s.RejectedTotal(), s.Quarantined)
	if s.Unfinished != 0 {
		line += fmt.Sprintf(" + %d unfinished", s.Unfinished)
	}
	return line
}

func quarantined(s *pipeline.Summary) string {
	var b strings.Builder
	b.WriteString("quarantined:\n")
	shown := s.Failed[:min(len(s.Failed), shownQuarantined)]
	for _, f := range shown {
		b.WriteString("  " + oneLine(fmt.Sprintf("%s in %s: %s", f.ID, f.Stage, firstLine(f.Cause))) + "\n")
	}
	if more := s.Quarantined - int64(len(shown)); more > 0 {
		fmt.Fprintf(&b, "  and %s more", count(more))
		if s.QuarantineFile != "" {
			fmt.Fprintf(&b, "; all of them: %s", s.QuarantineFile)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// places tell where everything is.
func places(s *pipeline.Summary) string {
	var rows [][]string
	seen := map[string]bool{}
	for _, o := range s.OutputDirs {
		if !seen[o] {
			seen[o] = true
			rows = append(rows, []string{"outputs", o})
		}
	}
	if s.StateDir != "" {
		rows = append(rows, []string{"run store", filepath.Join(s.StateDir, "run.db")})
	}
	if command := reportCommand(s); command != "" && s.RejectedTotal()+s.Quarantined > 0 {
		rows = append(rows, []string{"reasons", command})
	}
	var b strings.Builder
	for _, l := range table(rows) {
		b.WriteString(l + "\n")
	}
	return b.String()
}

// reportCommand asks what became of the images of a run; empty: it has no run store.
func reportCommand(s *pipeline.Summary) string {
	if s.StateDir == "" {
		return ""
	}
	place := s.StateDir
	if filepath.Base(place) == ".forgepipe" {
		place = filepath.Dir(place)
	}
	for _, o := range s.OutputDirs { // as the pipeline writes it is shorter
		if full, err := filepath.Abs(o); err == nil && full == place {
			place = o
			break
		}
	}
	word, ok := ShellWord(place)
	if !ok {
		word = "OUT" // cannot be typed as it is
	}
	return "forgepipe report " + word
}

func whatNext(s *pipeline.Summary) string {
	if s.State != "done" || s.Quarantined == 0 {
		return ""
	}
	return "\nnext: mend or remove what is quarantined and run again: only what is missing is computed. Everything else is done."
}

// extrapolated says what a sample tells about a whole run.
func extrapolated(s *pipeline.Summary, sample *SampleInfo) string {
	rows := [][]string{
		{"all " + Counted(sample.Inputs, "input"), "about " + duration(sample.Seconds) + ", " + memory.FormatBytes(sample.Bytes) + " on disk"},
		{"the sample's files", sample.Dir},
	}
	if s.In == 0 {
		rows[0][1] = "nothing can be said: no input was run"
	}
	return strings.Join(table(rows), "\n") + "\n"
}
