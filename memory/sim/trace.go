package sim

import (
	"fmt"
	"time"
)

// Trace is what neighbours want of a device over time. The zero value is
// nothing.
type Trace struct {
	Points []Point       // in order of time
	Every  time.Duration // after which the trace begins again; zero: it ends with its last point
}

// Point is what neighbours want from a moment on.
type Point struct {
	At    time.Duration // since the device was made, or since the trace began again
	Bytes int64         // that they have from then on
	// Ramp means that it was reached in a straight line from the point before (from
	// nothing at 0, for the first), not in a step.
	Ramp bool
}

// Constant is a neighbour that always has the same.
func Constant(bytes int64) Trace {
	return Trace{Points: []Point{{Bytes: bytes}}}
}

// Step is a neighbour that has so much before and so much after a moment.
func Step(at time.Duration, before, after int64) Trace {
	return Trace{Points: []Point{{Bytes: before}, {At: at, Bytes: after}}}
}

// Ramp is a neighbour that goes from one size to another at so many bytes a
// second, beginning at a moment; at no speed it stays as it is.
func Ramp(at time.Duration, before, after, bytesPerSecond int64) Trace {
	if bytesPerSecond <= 0 {
		return Constant(before)
	}
	span := float64(max(after-before, before-after)) / float64(bytesPerSecond)
	return Trace{Points: []Point{
		{Bytes: before},
		{At: at, Bytes: before},
		{At: at + time.Duration(span*float64(time.Second)), Bytes: after, Ramp: true},
	}}
}

// Flapping is a neighbour that has low for half of each period and then high.
func Flapping(low, high int64, period time.Duration) Trace {
	return Trace{Points: []Point{{Bytes: low}, {At: period / 2, Bytes: high}}, Every: period}
}

// At is what the neighbours want after so long.
func (t Trace) At(after time.Duration) int64 {
	if t.Every > 0 {
		after %= t.Every
	}
	last := Point{}
	for _, p := range t.Points {
		if p.At <= after {
			last = p
			continue
		}
		if p.Ramp {
			return last.Bytes + int64(float64(p.Bytes-last.Bytes)*float64(after-last.At)/float64(p.At-last.At))
		}
		break
	}
	return last.Bytes
}

func (t Trace) validate() error {
	if t.Every < 0 {
		return fmt.Errorf("a trace begins again after %s: that must be more than nothing", t.Every)
	}
	for i, p := range t.Points {
		switch {
		case p.Bytes < 0:
			return fmt.Errorf("point %d of a trace has %d bytes: neighbours cannot have less than nothing", i, p.Bytes)
		case p.At < 0, i > 0 && p.At < t.Points[i-1].At:
			return fmt.Errorf("point %d of a trace is at %s: points begin at 0 or later and are in order of time", i, p.At)
		case t.Every > 0 && p.At >= t.Every:
			return fmt.Errorf("point %d of a trace is at %s, but the trace begins again after %s", i, p.At, t.Every)
		}
	}
	return nil
}
