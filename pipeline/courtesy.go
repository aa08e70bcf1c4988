package pipeline

import (
	"context"
	"fmt"
	"math"
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
	// untilThrough is the longest wait for another of our runs before others are looked
	// at again.
	untilThrough = 500 * time.Millisecond
)

// courtesy holds back who computes on a device for others who do, as the pipeline's
// WhenBusy says. A nil one never waits. What is left to others is left by all courtesies
// of a device together.
type courtesy struct {
	run    *run
	device Device
	stage  string
	others *busyDevice

	// Of its last run, guarded by others.mu.
	turn  int // in which it was
	began time.Time
	took  time.Duration
}

// Wait waits until the next run may begin. Before it stands still until others are
// through, for as long as that takes, it calls pause, once at most and if it is not
// nil: what the caller has of the device is for them then. It never waits where it is
// not known how busy the device is, nor once the run is drained. The error is that of
// ctx.
func (c *courtesy) Wait(ctx context.Context, pause func()) error {
	if c == nil {
		return nil
	}
	told := pause == nil
	for !c.run.draining() {
		s, _ := c.run.memory.Monitor().Sample(string(c.device))
		a := c.others.ask(c, s, time.Now())
		c.tell(a.news)
		if a.wait == 0 {
			break
		}
		if a.paused && !told {
			told = true
			pause()
		}
		if err := c.rest(ctx, a); err != nil {
			c.tell(c.others.givenUp())
			return err
		}
	}
	if c.run.draining() {
		c.tell(c.others.givenUp())
	}
	return ctx.Err()
}

// Begin is called when a run begins that Wait has let, and end when it has ended,
// whatever came of it: others on the device may wait for that.
func (c *courtesy) Begin() (end func()) {
	if c == nil {
		return func() {}
	}
	c.others.begins(c, time.Now())
	return sync.OnceFunc(func() { c.others.ends(c, time.Now()) })
}

// rest waits, unless the run ends. A call that waits until others are through does
// not look like one that takes long.
func (c *courtesy) rest(ctx context.Context, a answer) error {
	if a.paused {
		c.run.yielding.Add(1)
		defer c.run.yielding.Add(-1)
	}
	timer := time.NewTimer(a.wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-a.through:
	case <-c.run.drain:
	case <-ctx.Done():
	}
	return ctx.Err()
}

func (c *courtesy) tell(news string) {
	if news != "" {
		c.run.event(EventYielded, c.stage, "", string(c.device)+": "+news)
	}
}

// busyDevice is a device of the run with the others who compute on it, as far as they
// are seen.
type busyDevice struct {
	mu       sync.Mutex
	policy   memory.BusyPolicy
	readings []memory.Sample // that the policy has not seen, oldest first
	last     time.Time       // of the newest reading that was noted

	// Runs that go on at once are one turn, which lasts until nothing computes. Then the
	// device is left to others for a while.
	turn    int                    // the number of the last
	began   time.Time              // of the turn that is under way, if one is
	ended   time.Time              // of the one before
	took    time.Duration          // of that one
	turns   []span                 // that have ended, oldest first
	runs    map[*courtesy]struct{} // that are under way
	through chan struct{}          // closed when none is any more

	yielded bool      // was told
	since   time.Time // when the run began to wait until they are through; zero: it does not
}

// span is a time in which the run computed on a device, in one session or more.
type span struct{ from, to time.Time }

func newBusyDevice(w memory.WhenBusy) *busyDevice {
	return &busyDevice{policy: memory.BusyPolicy{When: w}, runs: map[*courtesy]struct{}{}, through: make(chan struct{})}
}

// note keeps a reading until it is known which part of its time was the run's own.
func (n *busyDevice) note(s memory.Sample) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.noteLocked(s)
}

func (n *busyDevice) noteLocked(s memory.Sample) {
	if !s.Known() || !s.At.After(n.last) {
		return
	}
	n.last = s.At
	n.readings = append(n.readings, s)
	if len(n.readings) > manyReadings {
		n.readings = n.readings[1:]
	}
}

// begins lets c's next run begin.
func (n *busyDevice) begins(c *courtesy, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.runs) == 0 {
		n.turn++
		n.began = now
	}
	n.runs[c] = struct{}{}
	c.turn, c.began = n.turn, now
}

// ends takes the end of c's run, and with the last one that of the turn.
func (n *busyDevice) ends(c *courtesy, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c.took = now.Sub(c.began)
	delete(n.runs, c)
	if len(n.runs) > 0 {
		return
	}
	n.turns = append(n.turns, span{n.began, now})
	n.ended, n.took = now, now.Sub(n.began)
	close(n.through)
	n.through = make(chan struct{})
}

// fits tells whether a run of c may join those under way. Each courtesy has one in a
// turn, or turns would never end; and more while those that are under way take longer.
func (n *busyDevice) fits(c *courtesy, now time.Time) bool {
	if c.turn != n.turn {
		return true
	}
	for o := range n.runs {
		if now.Add(c.took).Before(o.began.Add(o.took)) {
			return true
		}
	}
	return false
}

// answer is what becomes of who asks whether to begin.
type answer struct {
	wait    time.Duration   // until asking again; 0: begin
	through <-chan struct{} // is worth asking again earlier
	paused  bool            // until others are through
	news    string
}

// ask asks the policy how long c has to wait, and tells what is new about it.
func (n *busyDevice) ask(c *courtesy, s memory.Sample, now time.Time) answer {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.noteLocked(s)
	n.observe(now)
	if now.Sub(n.last) > oldReading {
		n.policy.Observe(now, memory.Unknown, 0)
	}
	idle := now.Sub(n.ended)
	if len(n.runs) > 0 { // the gap before this turn has been left
		idle = math.MaxInt64
	}
	a := answer{wait: n.policy.Wait(n.took, idle), through: n.through, paused: n.policy.Paused()}
	if a.wait == 0 && len(n.runs) > 0 && n.policy.Others() != memory.Unknown && !n.fits(c, now) {
		a.wait = untilThrough
	}
	a.news = n.newsLocked(a.paused, now)
	return a
}

// newsLocked is what there is to tell of a wait, or of its end.
func (n *busyDevice) newsLocked(paused bool, now time.Time) (news string) {
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
	return news
}

// seenOthers is the share of a device from which on others who use it are worth a
// word.
const seenOthers = 0.1

// givenUp tells of a wait that has ended because the run does.
func (n *busyDevice) givenUp() (news string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.since.IsZero() {
		return ""
	}
	n.since = time.Time{}
	return "the run ends, and no longer waits for others"
}

// observe shows the policy the readings, each with our own share of its time.
func (n *busyDevice) observe(now time.Time) {
	for _, s := range n.readings {
		n.policy.Observe(s.At, s.Busy, n.own(s.At))
	}
	n.readings = n.readings[:0]
	n.turns = slices.DeleteFunc(n.turns, func(s span) bool { return now.Sub(s.to) > oldReading+ownWindow })
}

// own is our share of the window that ends at a moment: the part of it in which
// anything of ours computed, be it one run or several at once.
func (n *busyDevice) own(at time.Time) float64 {
	var sum time.Duration
	for _, s := range n.turns {
		sum += s.within(at)
	}
	if len(n.runs) > 0 {
		sum += span{n.began, at}.within(at)
	}
	return sum.Seconds() / ownWindow.Seconds()
}

// within is how much of the span lies in the window that ends at a moment.
func (s span) within(at time.Time) time.Duration {
	begin, end := at.Sub(s.from), at.Sub(s.to) // ago
	return max(min(begin, ownWindow)-max(end, 0), 0)
}
