package sim

import (
	"fmt"
	"time"
)

// Load is for how much of the time neighbours compute on a device. The zero value
// is never.
type Load struct {
	Points []LoadPoint   // in order of time
	Every  time.Duration // after which the load begins again; zero: it stays at its last point
}

// LoadPoint is the load from a moment on.
type LoadPoint struct {
	At    time.Duration // since the device was made, or since the load began again
	Share float64       // of the time, 0 to 1
}

// SteadyLoad is a neighbour that always computes for a share of the time.
func SteadyLoad(share float64) Load {
	return Load{Points: []LoadPoint{{Share: share}}}
}

// At is the share of the time in which neighbours compute after so long.
func (l Load) At(after time.Duration) float64 {
	if l.Every > 0 {
		after %= l.Every
	}
	share := 0.0
	for _, p := range l.Points {
		if p.At > after {
			break
		}
		share = p.Share
	}
	return share
}

func (l Load) validate() error {
	if l.Every < 0 {
		return fmt.Errorf("a load begins again after %s: that must be more than nothing", l.Every)
	}
	for i, p := range l.Points {
		switch {
		case !(p.Share >= 0 && p.Share <= 1):
			return fmt.Errorf("point %d of a load is %v: it is a share of the time, from 0 to 1", i, p.Share)
		case p.At < 0, i > 0 && p.At < l.Points[i-1].At:
			return fmt.Errorf("point %d of a load is at %s: points begin at 0 or later and are in order of time", i, p.At)
		case l.Every > 0 && p.At >= l.Every:
			return fmt.Errorf("point %d of a load is at %s, but the load begins again after %s", i, p.At, l.Every)
		}
	}
	return nil
}
