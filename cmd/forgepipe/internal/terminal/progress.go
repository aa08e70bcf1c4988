package terminal

import (
	"fmt"
	"strings"
	"time"

	"github.com/forgepipe/forgepipe/pipeline"
)

const (
	redraw    = 200 * time.Millisecond
	report    = 10 * time.Second // where nothing can be redrawn
	rateAfter = 5 * time.Second  // rates are those of about the last 5 s
)

// Follow shows a run's progress until stop is called: on a terminal a line per
// stage, redrawn five times a second, otherwise a line every ten seconds.
func (s *Screen) Follow(progress func() *pipeline.Summary) (stop func()) {
	every := report
	if s.live {
		every = redraw
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		var r rates
		for {
			select {
			case <-quit:
				s.Draw(nil)
				return
			case now := <-tick.C:
				sum := progress()
				r.add(now, sum)
				if s.live {
					s.Draw(stageLines(sum, r.perSecond))
				} else {
					s.Printf("%s", progressLine(sum))
				}
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// rates are items per second of the source and of each stage.
type rates struct {
	at   []time.Time
	seen [][]int64
}

func (r *rates) add(now time.Time, sum *pipeline.Summary) {
	n := []int64{sum.In}
	for _, st := range sum.Stages {
		n = append(n, st.In)
	}
	r.at, r.seen = append(r.at, now), append(r.seen, n)
	for len(r.at) > 2 && now.Sub(r.at[0]) > rateAfter {
		r.at, r.seen = r.at[1:], r.seen[1:]
	}
}

// perSecond is the rate of the source (0) or of a stage (from 1).
func (r *rates) perSecond(i int) float64 {
	last := len(r.at) - 1
	if last < 1 {
		return 0
	}
	return float64(r.seen[last][i]-r.seen[0][i]) / r.at[last].Sub(r.at[0]).Seconds()
}

// bottleneck is the stage with the longest queue before it; -1 when nothing
// waits anywhere.
func bottleneck(stages []pipeline.StageSummary) int {
	at, most := -1, 1
	for i, st := range stages {
		if st.Queued > most {
			at, most = i, st.Queued
		}
	}
	return at
}

// stageLines is the progress as a table, with a line over it.
func stageLines(sum *pipeline.Summary, rate func(int) float64) []string {
	rows := [][]string{
		{"", "in", "out", "rejected", "failed", "queued", "rate", ""},
		{"source", "", count(sum.In), "", "", "", perSecond(rate(0)), ""},
	}
	slow := bottleneck(sum.Stages)
	for i, st := range sum.Stages {
		mark := ""
		if i == slow {
			mark = "<- bottleneck"
		}
		rows = append(rows, []string{
			st.ID, count(st.In), count(st.Out), count(st.Rejected), count(st.Failed), count(int64(st.Queued)), perSecond(rate(i + 1)), mark,
		})
	}
	head := duration(sum.Seconds)
	if sum.State == "paused" {
		head += ", paused"
	}
	head += fmt.Sprintf(", %s written", counted(sum.Written, "file"))
	if sum.Reused > 0 {
		head += ", " + count(sum.Reused) + " right already"
	}
	return append([]string{head}, table(rows, false, true, true, true, true, true, true)...)
}

// progressLine is the progress of all stages in one line, for logs.
func progressLine(sum *pipeline.Summary) string {
	var b strings.Builder
	b.WriteString(duration(sum.Seconds))
	if sum.State == "paused" {
		b.WriteString(", paused")
	}
	fmt.Fprintf(&b, ": source %s", count(sum.In))
	slow := bottleneck(sum.Stages)
	for i, st := range sum.Stages {
		fmt.Fprintf(&b, ", %s %s > %s", st.ID, count(st.In), count(st.Out))
		var notes []string
		if st.Rejected > 0 {
			notes = append(notes, count(st.Rejected)+" rejected")
		}
		if st.Failed > 0 {
			notes = append(notes, count(st.Failed)+" failed")
		}
		if i == slow {
			notes = append(notes, count(int64(st.Queued))+" waiting")
		}
		if len(notes) > 0 {
			b.WriteString(" (" + strings.Join(notes, ", ") + ")")
		}
	}
	return b.String()
}
