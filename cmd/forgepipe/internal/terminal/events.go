package terminal

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/forgepipe/forgepipe/pipeline"
)

// How many messages of a kind are shown as they come.
const (
	shownFailures = 20
	shownOthers   = 10
	namedIgnored  = 10 // per reason
	maxReasons    = 50
)

// Detail is which events are printed.
type Detail int

// The details.
const (
	Usual      Detail = iota // what is worth knowing while a run runs, each kind up to a number
	Problems                 // of that, only what went wrong
	Everything               // every event
)

// problems are the kinds of events that tell what went wrong.
var problems = []pipeline.EventKind{pipeline.EventFailed, pipeline.EventReplaced, pipeline.EventRepeated}

// Events prints what happens in a run as it comes, counts what the source passed over,
// and remembers what was decided last.
type Events struct {
	screen *Screen
	detail Detail
	lines  chan string
	done   chan struct{}

	mu      sync.Mutex
	shown   map[pipeline.EventKind]int
	ignored map[string]*Ignored
	last    Last
	closed  bool
}

// Last is what happened last, the oldest first.
type Last struct {
	Governed []pipeline.Event // what the governor decided
	Memory   []pipeline.Event // what became of memory: limits, what was parked, cleaned, refused
}

const rememberedLast = 8 // of each

func (l *Last) take(ev pipeline.Event) {
	switch ev.Kind {
	case pipeline.EventGoverned, pipeline.EventYielded:
		l.Governed = remember(l.Governed, ev)
	case pipeline.EventLimit, pipeline.EventParked, pipeline.EventCleaned, pipeline.EventPreempted, pipeline.EventRefused,
		pipeline.EventRepeated, pipeline.EventPostponed, pipeline.EventLeak:
		l.Memory = remember(l.Memory, ev)
	}
}

func remember(events []pipeline.Event, ev pipeline.Event) []pipeline.Event {
	if len(events) == rememberedLast {
		events = events[1:]
	}
	return append(events, ev)
}

// Ignored is what the source passed over for one reason.
type Ignored struct {
	Reason string
	Count  int64
	Names  []string // the first ones
}

// Events starts printing.
func (s *Screen) Events(detail Detail) *Events {
	e := &Events{
		screen: s, detail: detail,
		lines: make(chan string, 1024), done: make(chan struct{}),
		shown: map[pipeline.EventKind]int{}, ignored: map[string]*Ignored{},
	}
	go func() {
		defer close(e.done)
		for l := range e.lines {
			s.Printf("%s", l)
		}
	}()
	return e
}

// On takes an event in; it never blocks.
func (e *Events) On(ev pipeline.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	if ev.Kind == pipeline.EventIgnored {
		e.ignore(ev)
	}
	e.last.take(ev)
	e.shown[ev.Kind]++
	line, limit := describe(ev)
	switch n := e.shown[ev.Kind]; {
	case e.detail == Problems && !slices.Contains(problems, ev.Kind):
		return
	case e.detail == Everything || n <= limit:
	case n == limit+1 && limit > 0:
		line = "more of these are counted, and no longer shown (--verbose shows all)"
	default:
		return
	}
	select {
	case e.lines <- line:
	default: // the terminal does not keep up: the summary has the counts
	}
}

// describe writes an event as a line, and says how many of its kind are shown
// without --verbose.
func describe(ev pipeline.Event) (line string, limit int) {
	switch ev.Kind {
	case pipeline.EventFailed:
		return "failed: " + ev.Item + " in " + ev.Stage + ": " + firstLine(ev.Message), shownFailures
	case pipeline.EventReplaced:
		return "replaced: " + ev.Message, shownOthers
	case pipeline.EventPostponed:
		return "later: " + ev.Item + " in " + ev.Stage + ": " + firstLine(ev.Message), shownOthers
	case pipeline.EventRepeated:
		return ev.Stage + ": " + ev.Message, shownOthers
	case pipeline.EventGoverned:
		return "governor: " + ev.Message, 0
	case pipeline.EventYielded:
		return ev.Stage + ": " + ev.Message, shownOthers
	case pipeline.EventPaused, pipeline.EventResumed:
		return string(ev.Kind) + ": " + ev.Message, 1000
	case pipeline.EventPhase:
		return ev.Message + ": from " + ev.Stage, 1000
	case pipeline.EventRejected:
		return "rejected: " + ev.Item + " in " + ev.Stage + ": " + ev.Message, 0
	case pipeline.EventIgnored:
		return "ignored: " + ev.Item + ": " + ev.Message, 0
	}
	return string(ev.Kind) + ": " + strings.TrimSpace(ev.Stage+" "+ev.Message), 0
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

func (e *Events) ignore(ev pipeline.Event) {
	reason := ev.Message
	if e.ignored[reason] == nil && len(e.ignored) >= maxReasons {
		reason = "other reasons"
	}
	g := e.ignored[reason]
	if g == nil {
		g = &Ignored{Reason: reason}
		e.ignored[reason] = g
	}
	g.Count++
	if len(g.Names) < namedIgnored {
		g.Names = append(g.Names, ev.Item)
	}
}

// Close prints what is still to be printed. Events that come later are dropped.
func (e *Events) Close() {
	e.mu.Lock()
	if !e.closed {
		e.closed = true
		close(e.lines)
	}
	e.mu.Unlock()
	<-e.done
}

// Last is what happened last.
func (e *Events) Last() Last {
	e.mu.Lock()
	defer e.mu.Unlock()
	return Last{slices.Clone(e.last.Governed), slices.Clone(e.last.Memory)}
}

// Ignored is what was passed over, the most frequent reason first.
func (e *Events) Ignored() []Ignored {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []Ignored
	for _, g := range e.ignored {
		all = append(all, *g)
	}
	slices.SortFunc(all, func(a, b Ignored) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Reason, b.Reason))
	})
	return all
}
