package terminal

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
)

const (
	mostHints = 3

	// From so many items on, that they failed of one cause is no accident.
	alike = 5
	// From so many pictures, and this share of those decoded, on, parking costs time.
	parkedOften = 20
	parkedShare = 0.1
	// From so many JPEG files on, another decoder is worth installing.
	slowJPEG = 50
	// A stage is what a run waits for when it is busy for this share of at least so
	// many seconds.
	busyShare   = 0.6
	busySeconds = 10
	// More workers help only where the stages together take no more than this share of
	// the cores' time.
	idleShare = 0.75
)

// Machine is what hints have to know of where a run ran.
type Machine struct {
	Cores  int
	NoJPEG error // why libturbojpeg is not used; nil: it is
}

// Hints say what is likely not as it was meant in a run that is done, and what to do
// next: at most three, the most important first.
func Hints(s *pipeline.Summary, m Machine) (hints []string) {
	if s.State != "done" {
		return nil
	}
	say := func(format string, args ...any) { hints = append(hints, oneLine(fmt.Sprintf(format, args...))) }
	cause := sameCause(s)
	switch st, reason := rejectsAll(s); {
	case st != nil:
		say("%s rejected all that reached it, %s (%s): %s prints each with its values; then change the stage, and run again", st.ID, Counted(st.In, "item"), reason, printsRejected(s, st.ID))
	case cause != "":
	case s.In > 0 && s.Out == 0:
		say("nothing reached the end of the chain: %s rejected, %s quarantined; the lines above say by which stage, and %s prints each", count(s.RejectedTotal()), count(s.Quarantined), printsRejected(s, ""))
	}
	if cause != "" {
		say("%s", cause)
	}
	if s.Out > 0 && len(s.OutputDirs) == 0 {
		say("nothing was written, as no stage writes: add one, for example - write: {path: out, format: png}")
	}
	if n := s.Parked.Pictures; n >= parkedOften && float64(n) >= parkedShare*float64(s.Decoded) {
		say("%s: raise memory.host.limit in the pipeline (pictures and calls had %s), or give the stages fewer workers", parked(s), hostLimit(s))
	}
	if m.NoJPEG != nil && s.DecodedJPEG >= slowJPEG {
		say("%s were decoded without libturbojpeg, which is about five times faster: apt-get install libturbojpeg0; forgepipe doctor says why it is not used", Counted(s.DecodedJPEG, "JPEG file"))
	}
	if st := oneWorker(s, m.Cores); st != nil {
		say("%s was busy for %.0f %% of the time with the one worker that it may have, on %d cores: leave workers: 1 out of the stage, or raise it", st.ID, 100*st.Seconds/s.Seconds, m.Cores)
	}
	return hints[:min(len(hints), mostHints)]
}

// printsRejected is the command that prints what was rejected, by one stage or by all.
func printsRejected(s *pipeline.Summary, stage string) string {
	command := reportCommand(s)
	if command == "" { // nothing was recorded, so a run has to tell it
		return "--verbose"
	}
	command += " --kind rejected"
	if id, ok := ShellWord(stage); ok && stage != "" {
		command += " --stage " + id
	}
	return command + " --list"
}

// rejectsAll is the stage that nothing passed, and why.
func rejectsAll(s *pipeline.Summary) (st *pipeline.StageSummary, reason string) {
	for i := range s.Stages {
		st := &s.Stages[i]
		if st.In == 0 || st.Rejected != st.In {
			continue
		}
		reasons := slices.Collect(maps.Keys(s.Rejected[st.ID]))
		if len(reasons) == 1 {
			return st, reasons[0]
		}
		return st, Counted(int64(len(reasons)), "reason")
	}
	return nil, ""
}

// sameCause says that most of what is quarantined failed of one cause; empty: it did not.
// Of very many only the first are known.
func sameCause(s *pipeline.Summary) string {
	var most pipeline.FailedItem
	n := map[pipeline.FailedItem]int{}
	first := map[pipeline.FailedItem]pipeline.FailedItem{}
	for _, f := range s.Failed {
		key := pipeline.FailedItem{Stage: f.Stage, Cause: shape(f)}
		if n[key]++; n[key] == 1 {
			first[key] = f
		}
		if n[key] > n[most] {
			most = key
		}
	}
	if n[most] < alike || 2*n[most] <= len(s.Failed) {
		return ""
	}
	of := count(s.Quarantined)
	if known := int64(len(s.Failed)); s.Quarantined > known {
		of = "the first " + count(known)
	}
	f := first[most]
	return fmt.Sprintf("%d of %s quarantined items failed alike, as %s in %s: %s; mend that, and run again: only they are computed", n[most], of, f.ID, f.Stage, firstLine(f.Cause))
}

// shape is a cause without what differs from file to file: its name, and figures.
func shape(f pipeline.FailedItem) string {
	cause := strings.ReplaceAll(firstLine(f.Cause), path.Base(f.ID), "")
	return strings.Map(func(r rune) rune {
		if unicode.IsDigit(r) {
			return -1
		}
		return r
	}, cause)
}

// parked says how often pictures had to leave memory.
func parked(s *pipeline.Summary) string {
	var how []string
	if n := s.Parked.Dropped; n > 0 {
		how = append(how, memory.FormatBytes(n)+" to be decoded or made again")
	}
	if n := s.Parked.Spilled; n > 0 {
		how = append(how, memory.FormatBytes(n)+" written to disk")
	}
	return fmt.Sprintf("for want of memory, waiting pictures were taken out of it %s (%s)", times(s.Parked.Pictures), strings.Join(how, ", "))
}

func times(n int64) string {
	if n == 1 {
		return "once"
	}
	return count(n) + " times"
}

func hostLimit(s *pipeline.Summary) string {
	for _, d := range s.Devices {
		if d.Device == string(pipeline.Host) {
			return memory.FormatBytes(d.Limit)
		}
	}
	return "little"
}

// oneWorker is the stage that a run waited for although there were cores left, and that
// the pipeline gives one worker.
func oneWorker(s *pipeline.Summary, cores int) *pipeline.StageSummary {
	if cores < 2 || s.Seconds < busySeconds {
		return nil
	}
	var worst *pipeline.StageSummary
	var most, all float64
	for i := range s.Stages {
		st := &s.Stages[i]
		all += st.Seconds
		if busy := st.Seconds / float64(max(st.Workers, 1)); busy > most {
			worst, most = st, busy
		}
	}
	if worst == nil || worst.Most != 1 || worst.Serial || most < busyShare*s.Seconds || all > idleShare*float64(cores)*s.Seconds {
		return nil
	}
	return worst
}
