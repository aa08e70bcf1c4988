package terminal

import (
	"fmt"
	"strings"
	"time"

	"github.com/forgepipe/forgepipe/pipeline"
)

const (
	redraw      = 200 * time.Millisecond
	report      = 10 * time.Second // where nothing can be redrawn
	rateAfter   = 5 * time.Second  // rates are those of about the last 5 s
	rateHistory = 30 * time.Second // from which the time that is left is told
	etaAfter    = 3 * time.Second  // before, a rate tells little
)

// Follow shows a run's progress until stop is called: on a terminal a block of bars,
// redrawn five times a second, otherwise a line every ten seconds. The plan tells of
// its phases; it may be nil.
func (s *Screen) Follow(progress func() *pipeline.Summary, plan *pipeline.Plan) (stop func()) {
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
		r.add(time.Now(), progress())
		b := newBars(s)
		defer b.close()
		for {
			select {
			case <-quit:
				return
			case now := <-tick.C:
				sum := progress()
				r.add(now, sum)
				if s.live {
					width, _ := s.size()
					b.draw(rowsOf(sum, &r, plan, width))
				} else {
					s.Printf("%s", progressLine(sum, &r, plan))
				}
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// rates are items per second of the source (0) and of each stage (from 1).
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
	for len(r.at) > 2 && now.Sub(r.at[1]) >= rateHistory {
		r.at, r.seen = r.at[1:], r.seen[1:]
	}
}

func (r *rates) perSecond(i int) float64 { return r.over(i, rateAfter) }

// over is the rate of about so much time, and at least of that between the last two
// looks.
func (r *rates) over(i int, window time.Duration) float64 {
	last := len(r.at) - 1
	if last < 1 {
		return 0
	}
	first := last - 1
	for first > 0 && r.at[last].Sub(r.at[first]) < window {
		first--
	}
	return float64(r.seen[last][i]-r.seen[first][i]) / r.at[last].Sub(r.at[first]).Seconds()
}

// since is how much time the rates are known of.
func (r *rates) since() time.Duration {
	if len(r.at) == 0 {
		return 0
	}
	return r.at[len(r.at)-1].Sub(r.at[0])
}

// progressLine is the progress of all stages in one line, for logs.
func progressLine(sum *pipeline.Summary, r *rates, plan *pipeline.Plan) string {
	var b strings.Builder
	b.WriteString(duration(sum.Seconds))
	if sum.State == "paused" {
		b.WriteString(", paused")
	}
	if p := phaseOf(sum, plan); p != "" {
		b.WriteString(", " + p)
	}
	g := goalOf(sum)
	fmt.Fprintf(&b, ": %s %s; source %s", g.what, g.note(sum, r), count(sum.In))
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
			notes = append(notes, count(int64(st.Queued))+" waiting: bottleneck")
		}
		if len(notes) > 0 {
			b.WriteString(" (" + strings.Join(notes, ", ") + ")")
		}
	}
	fmt.Fprintf(&b, "; %s written", Counted(sum.Written, "file"))
	return b.String()
}
