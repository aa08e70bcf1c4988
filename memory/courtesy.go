package memory

import (
	"context"
	"fmt"
	"math"
	"time"
)

// WhenBusy is what a run does about others who compute on the same device. Memory
// is another matter: what others take of it they always get.
type WhenBusy string

// What a run does when others compute on its device: it computes as if it were
// alone, and the driver shares the time out; it leaves them the time that they
// use; or it waits until they are through. The empty value is ShareWhenBusy.
const (
	ShareWhenBusy WhenBusy = "share"
	YieldWhenBusy WhenBusy = "yield"
	PauseWhenBusy WhenBusy = "pause"
)

// ParseWhenBusy reads one of the three words. The error names them.
func ParseWhenBusy(text string) (WhenBusy, error) {
	switch w := WhenBusy(text); w {
	case ShareWhenBusy, YieldWhenBusy, PauseWhenBusy:
		return w, nil
	}
	return "", fmt.Errorf("%q is none of %s, %s and %s", text, ShareWhenBusy, YieldWhenBusy, PauseWhenBusy)
}

const (
	// leastDuty is the share of the time that a run gets on any device.
	leastDuty = 0.1
	// spareDuty is the share that a run leaves free where nobody seems to want it:
	// on a device that is always busy with us nobody else can be seen.
	spareDuty = 0.05
	// courtesySmooth is the time over which readings are smoothed, and smoothRuns that
	// in runs, which counts on top: the driver counts how busy the device is in a
	// window of its own, so that only over several runs it fits our own share.
	courtesySmooth = time.Second
	smoothRuns     = 3
	// leastSeen is the share of free time from which on something can be seen in it.
	leastSeen = 0.01

	// A paused run begins to wait when others have had more than pauseAbove for
	// pauseAfter, and goes on when they have had less than resumeBelow for
	// resumeAfter: two thresholds, so that a neighbour between them changes nothing.
	pauseAbove  = 0.2
	pauseAfter  = 2 * time.Second
	resumeBelow = 0.1
	resumeAfter = 5 * time.Second

	// courtesyLook is the longest wait before others are looked at again.
	courtesyLook = 500 * time.Millisecond
)

// Courtesy holds back runs that come one after the other on a device, for others who
// compute there. Who computes on its own, such as a session, has one of its own and
// calls Wait and Begin before each run.
type Courtesy interface {
	// Wait waits until the next run may begin. Before it stands still, for as long as
	// others are there, it calls pause, once at most. The error is that of ctx.
	Wait(ctx context.Context, pause func()) error
	// Begin is called when the run begins, and end when it has ended.
	Begin() (end func())
}

// BusyPolicy decides how long a run on a device is held back for others who compute
// there. It knows no clock and starts nothing: Observe tells it what was read, and
// Wait gets its answer. The zero value never waits.
//
// What others use shows only in the time that the run leaves: while it computes,
// the device is busy anyway. So others' share is how much of that time the device
// is busy. It is smoothed over a second and three runs, and who yields or pauses
// leaves 5 % of the time to look at, however little others use.
//
//   - To yield, the run computes for the share of the time that others leave, and
//     at least 10 % of it, so that it always gets on.
//   - To pause, it stands still once others have had more than 20 % for 2 s, until
//     they have had less than 10 % for 5 s. Before it is sure, it yields, and holds
//     back as soon as they pass the 20 %, so as to see them clearly.
//
// How busy the device is may be unknown. Then nothing is waited for: also a pause
// ends.
type BusyPolicy struct {
	When WhenBusy // what is done about others

	last   time.Time     // of the last observation; zero: nothing is known
	beyond float64       // share of the time in which the device was busy and we were not, smoothed
	free   float64       // share of the time in which we were not, smoothed likewise
	others float64       // share of the free time in which the device was busy
	ran    time.Duration // how long the last run computed

	paused  bool
	crossed time.Time // since when others are beyond the threshold that changes paused; zero: they are not
}

// Observe takes what the device said at an instant: the share of the time in which
// it was busy, which may be Unknown, and the share of the same time in which we
// computed on it. Observations come in order of time, best every 100 ms or so and
// also while a run is under way.
func (c *BusyPolicy) Observe(at time.Time, busy, own float64) {
	if busy == Unknown {
		*c = BusyPolicy{When: c.When}
		return
	}
	own = min(max(own, 0), 1)
	weight := 1.0
	if !c.last.IsZero() {
		weight = 1 - math.Exp(-max(at.Sub(c.last), 0).Seconds()/(courtesySmooth+smoothRuns*c.ran).Seconds())
	}
	c.last = at
	// The difference is smoothed with its sign: of two windows that only overlap, it
	// is too much now and too little then.
	c.beyond += weight * (busy - own - c.beyond)
	c.free += weight * (1 - own - c.free)
	if c.free < leastSeen { // nothing can be seen, and what was seen still counts
		return
	}
	c.others = min(max(c.beyond, 0)/c.free, 1)
	c.judge(at)
}

// judge begins or ends a pause.
func (c *BusyPolicy) judge(at time.Time) {
	beyond, after := c.others > pauseAbove, pauseAfter
	if c.paused {
		beyond, after = c.others < resumeBelow, resumeAfter
	}
	switch {
	case c.When != PauseWhenBusy || !beyond:
		c.crossed = time.Time{}
	case c.crossed.IsZero():
		c.crossed = at
	case at.Sub(c.crossed) >= after:
		c.paused, c.crossed = !c.paused, time.Time{}
	}
}

// Others is the share of the time, from 0 to 1, that others use of what we leave;
// Unknown where that is not known.
func (c *BusyPolicy) Others() float64 {
	if c.last.IsZero() {
		return Unknown
	}
	return c.others
}

// Paused tells whether the run stands still until others are through.
func (c *BusyPolicy) Paused() bool { return c.paused }

// Wait is how long to wait before the next run, 500 ms at most: then ask again,
// with what was observed meanwhile. Zero: begin now. ran is how long the last run
// computed, and idle how long ago it ended.
func (c *BusyPolicy) Wait(ran, idle time.Duration) time.Duration {
	switch {
	case c.When != YieldWhenBusy && c.When != PauseWhenBusy || c.last.IsZero():
		return 0
	case c.When == PauseWhenBusy && (c.paused || c.others > pauseAbove):
		c.ran = 0 // nothing runs that would have to be smoothed away
		return courtesyLook
	}
	c.ran = ran
	duty := max(1-max(c.others, spareDuty), leastDuty)
	gap := time.Duration(float64(ran) * (1 - duty) / duty)
	return min(max(gap-idle, 0), courtesyLook)
}
