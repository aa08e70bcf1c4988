package pipeline

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

const (
	// ownWindow is the time before a reading in which our own share is counted. The
	// driver's is between a sixth of a second and one.
	ownWindow = 500 * time.Millisecond
	// manyReadings is how many are kept while a run computes: those of a minute.
	manyReadings = 600
	// oldReading is the age from which on a reading tells nothing about now.
	oldReading = 3 * time.Second
	// unendedRun is how long a run is taken to last at least of which no end was told
	// yet. There is an end to it, as nobody tells that of a session's last run.
	unendedRun = time.Second
)

// Courtesy holds back who computes on a device for others who do, as the pipeline's
// WhenBusy says. It is got from Env.Courtesy. A nil one never waits. It is for runs
// that come one after the other.
type Courtesy struct {
	run    *run
	device Device
	stage  string
	others *neighbours
}

// Wait is called before each run, with how long the one before computed (0 for the
// first), and waits until the next may begin. It never waits where it is not known
// how busy the device is, nor once the run is drained. The error is that of ctx.
func (c *Courtesy) Wait(ctx context.Context, ran time.Duration) error {
	if c == nil {
		return nil
	}
	ended := c.others.ended(c, ran)
	for !c.run.draining() {
		s, _ := c.run.memory.Monitor().Sample(string(c.device))
		now := time.Now()
		wait, paused, news := c.others.ask(s, now, ran, now.Sub(ended))
		c.tell(news)
		if wait == 0 {
			break
		}
		if err := c.rest(ctx, wait, paused); err != nil {
			c.tell(c.others.givenUp())
			return err
		}
	}
	if c.run.draining() {
		c.tell(c.others.givenUp())
	}
	c.others.begins(c, ran)
	return ctx.Err()
}

// rest waits, unless the run ends. A call that waits until others are through does
// not look like one that takes long.
func (c *Courtesy) rest(ctx context.Context, wait time.Duration, paused bool) error {
	if paused {
		c.run.yielding.Add(1)
		defer c.run.yielding.Add(-1)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.run.drain:
	case <-ctx.Done():
	}
	return ctx.Err()
}

func (c *Courtesy) tell(news string) {
	if news != "" {
		c.run.event(EventYielded, c.stage, "", string(c.device)+": "+news)
	}
}

// neighbours are the others who compute on a device of the run, as far as they are
// seen.
type neighbours struct {
	mu       sync.Mutex
	policy   memory.Courtesy
	readings []memory.Sample    // that the policy has not seen, oldest first
	last     time.Time          // of the newest reading that was noted
	spans    []span             // in which the run computed there, oldest first
	runs     map[*Courtesy]span // under way; to is when they are taken to end

	yielded bool      // was told
	since   time.Time // when the run began to wait until they are through; zero: it does not
}

// span is a time in which the run computed on a device.
type span struct{ from, to time.Time }

func newNeighbours(w memory.WhenBusy) *neighbours {
	return &neighbours{policy: memory.Courtesy{When: w}, runs: map[*Courtesy]span{}}
}

// note keeps a reading until it is known which part of its time was the run's own.
func (n *neighbours) note(s memory.Sample) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.noteLocked(s)
}

func (n *neighbours) noteLocked(s memory.Sample) {
	if !s.Known() || !s.At.After(n.last) {
		return
	}
	n.last = s.At
	n.readings = append(n.readings, s)
	if len(n.readings) > manyReadings {
		n.readings = n.readings[1:]
	}
}

// ended takes the end of c's last run, and returns it.
func (n *neighbours) ended(c *Courtesy, ran time.Duration) time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	s, ok := n.runs[c]
	if !ok {
		return now
	}
	delete(n.runs, c)
	if s.to = s.from.Add(ran); s.to.After(now) {
		s.to = now
	}
	n.spans = append(n.spans, s)
	return s.to
}

// begins lets c's next run begin.
func (n *neighbours) begins(c *Courtesy, ran time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	n.runs[c] = span{now, now.Add(max(2*ran, unendedRun))}
}

// ask asks the policy how long to wait, and tells what is new about it.
func (n *neighbours) ask(s memory.Sample, now time.Time, ran, idle time.Duration) (wait time.Duration, paused bool, news string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.noteLocked(s)
	n.observe(now)
	if now.Sub(n.last) > oldReading {
		n.policy.Observe(now, memory.Unknown, 0)
	}
	wait, paused = n.policy.Wait(ran, idle), n.policy.Paused()
	use := "how busy it is, is not known"
	if others := n.policy.Others(); others != memory.Unknown {
		use = fmt.Sprintf("others use %.0f%% of it", 100*others)
	}
	switch {
	case paused && n.since.IsZero():
		n.since = now
		news = use + ": the run waits until they are through"
	case !paused && !n.since.IsZero():
		news = fmt.Sprintf("%s: the run goes on, after %s", use, now.Sub(n.since).Round(time.Second))
		n.since = time.Time{}
	case n.policy.When == memory.YieldWhenBusy && !n.yielded && n.policy.Others() >= seenOthers:
		n.yielded = true
		news = use + ": the run leaves it to them for so long"
	}
	return wait, paused, news
}

// seenOthers is the share of a device from which on others who use it are worth a
// word.
const seenOthers = 0.1

// givenUp tells of a wait that has ended because the run does.
func (n *neighbours) givenUp() (news string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.since.IsZero() {
		return ""
	}
	n.since = time.Time{}
	return "the run ends, and no longer waits for others"
}

// observe shows the policy the readings, each with our own share of its time.
func (n *neighbours) observe(now time.Time) {
	for _, s := range n.readings {
		n.policy.Observe(s.At, s.Busy, n.own(s.At))
	}
	n.readings = n.readings[:0]
	n.spans = slices.DeleteFunc(n.spans, func(s span) bool { return now.Sub(s.to) > oldReading+ownWindow })
}

// own is our share of the window that ends at a moment. Runs at once count once
// each, and no more than all of it.
func (n *neighbours) own(at time.Time) float64 {
	var sum time.Duration
	for _, s := range n.spans {
		sum += s.within(at)
	}
	for _, s := range n.runs {
		sum += s.within(at)
	}
	return min(sum.Seconds()/ownWindow.Seconds(), 1)
}

// within is how much of the span lies in the window that ends at a moment.
func (s span) within(at time.Time) time.Duration {
	begin, end := at.Sub(s.from), at.Sub(s.to) // ago
	return max(min(begin, ownWindow)-max(end, 0), 0)
}
