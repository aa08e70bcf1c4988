package pipeline

import (
	"testing"
	"time"
)

// A look stops all stages for an instant. When it showed nothing, or could not be
// taken, the same sudden growth (pictures in the midst of calls) must not stop
// them again and again.
func TestLooksForLeaksStaySeldom(t *testing.T) {
	const hour = 3600
	for name, tt := range map[string]struct {
		sudden, ok, grew bool
		cost             time.Duration
		least, most      int // looks in an hour
	}{
		"a quiet run": {ok: true, cost: 100 * time.Millisecond, least: 55, most: 65},
		"growth that is gone, once for each look":  {sudden: true, ok: true, cost: 100 * time.Millisecond, least: 110, most: 130},
		"growth that stays":                        {sudden: true, ok: true, grew: true, cost: 50 * time.Millisecond, least: 1000, most: 4000},
		"growth that stays, and looks that cost":   {sudden: true, ok: true, grew: true, cost: 2 * time.Second, least: 60, most: 720},
		"calls too long to look between":           {ok: false, cost: standstill, least: 3, most: 8},
		"calls too long, and growth between looks": {sudden: true, ok: false, cost: standstill, least: 3, most: 8},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			begun := now
			l := lookTimes{every: firstLook, last: now}
			looks := 0
			for now.Sub(begun) < hour*time.Second {
				now = now.Add(governTick)
				if l.due(now, tt.sudden) {
					looks++
					now = now.Add(tt.cost)
					l.looked(now, tt.cost, tt.ok, tt.grew)
				}
			}
			if looks < tt.least || looks > tt.most {
				t.Errorf("%d looks in an hour, want %d to %d", looks, tt.least, tt.most)
			}
		})
	}
}
