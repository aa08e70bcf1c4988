package memory_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/forgepipe/forgepipe/memory"
)

// What is expected of others a second after the last of many readings, on a card of
// 16 GiB with a headroom of half a GiB.
func TestNeighbours(t *testing.T) {
	const (
		gib      = 1 << 30
		total    = 16 * gib
		headroom = gib / 2
		poll     = 100 * time.Millisecond
		after    = time.Second
	)
	// noise is normal, and always the same at a time; in the end it is none.
	noise := func(s float64) float64 {
		if s > 19.85 {
			return 0
		}
		return rand.New(rand.NewPCG(uint64(s*10+0.5), 1)).NormFloat64()
	}
	steps := func(at ...float64) func(s float64) float64 { // each is up or down by 6 GiB
		return func(s float64) float64 {
			level := 1.0
			for i, a := range at {
				if s >= a {
					level = 1 + 6*float64((i+1)%2)
				}
			}
			return level
		}
	}
	for name, tt := range map[string]struct {
		lasts  float64                 // seconds of readings
		others func(s float64) float64 // GiB at a time
		least  float64                 // GiB that are expected
		most   float64
	}{
		"no reading":                     {0, nil, 0.5, 0.5},
		"nothing":                        {20, func(float64) float64 { return 0 }, 0.5, 0.5},
		"always the same":                {20, func(float64) float64 { return 3 }, 3.5, 3.5},
		"more than there is":             {20, func(float64) float64 { return 99 }, 16, 16.5},
		"less than nothing":              {20, func(float64) float64 { return -3 }, 0.5, 0.5},
		"a ramp of 3 GiB/s":              {3, func(s float64) float64 { return 3 * s }, 8.7 + 2.7, 8.7 + 3.1},
		"a ramp that ended":              {10, func(s float64) float64 { return min(3*s, 6) }, 6.5, 6.5},
		"a ramp down":                    {3, func(s float64) float64 { return 9 - 3*s }, 0.3, 0.81},
		"a slow ramp":                    {20, func(s float64) float64 { return s / 10 }, 1.99 + 0.5, 1.99 + 0.51},
		"one step":                       {20, steps(19.5), 7.5, 7.5},
		"a step long ago":                {20, steps(5), 7.5, 7.5},
		"a step in two":                  {20, func(s float64) float64 { return steps(19.3)(s)/2 + steps(19.8)(s)/2 }, 7.5, 7.5},
		"gone again":                     {20, steps(5, 10), 1.5, 1.5},
		"rose twice within a minute":     {50, steps(5, 10, 25, 30), 7.5, 7.5},
		"rose twice and is there":        {27, steps(5, 10, 25), 7.5, 7.5},
		"rose twice more than that ago":  {100, steps(5, 10, 25, 30), 1.5, 1.5},
		"rose once more than that ago":   {90, steps(5, 10, 75, 80), 1.5, 1.5},
		"rose to another level":          {50, func(s float64) float64 { return steps(5, 10)(s) + (steps(25, 30)(s)-1)/3 }, 1.5, 1.5},
		"noise of 50 MiB":                {20, func(s float64) float64 { return 3 + 0.05*noise(s) }, 3.5, 3.5},
		"noise of 400 MiB":               {20, func(s float64) float64 { return 3 + 0.4*noise(s) }, 3 + 1.2, 3 + 2.4},
		"noise of 400 MiB, after a step": {20, func(s float64) float64 { return steps(15)(s) + 0.4*noise(s) }, 7 + 1.2, 7 + 2.6},
	} {
		t.Run(name, func(t *testing.T) {
			var n memory.Neighbours
			had := int64(0)
			start := time.Unix(1000, 0)
			for at := time.Duration(0); at < time.Duration(tt.lasts*float64(time.Second)); at += poll {
				had = int64(tt.others(at.Seconds()) * gib)
				n.Observe(start.Add(at), had, total)
			}
			got := n.Expect(after, headroom)
			if e := float64(got) / gib; e < tt.least-0.001 || e > tt.most+0.001 {
				t.Errorf("%.2f GiB are expected, want %.2f to %.2f", e, tt.least, tt.most)
			}
			if soon := n.Soon(after, headroom); soon > got || name == "rose twice within a minute" && soon != 3*gib/2 {
				t.Errorf("%d are expected soon, and %d in all", soon, got)
			}
			if again := n.Expect(after, headroom); again != got {
				t.Errorf("asked again it expects %d", again)
			}
		})
	}
}

// It never expects less than what others have, whatever the readings and the clock do.
func TestNeighboursExpectNoLess(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.SampledFrom([]int64{0, 1 << 30, 24 << 30, math.MaxInt64}).Draw(t, "total")
		var n memory.Neighbours
		now := time.Unix(1000, 0)
		for range rapid.IntRange(1, 400).Draw(t, "readings") {
			now = now.Add(time.Duration(rapid.Int64Range(1, int64(time.Second)).Draw(t, "later")))
			had := rapid.Int64Range(-1<<30, 1<<35).Draw(t, "had")
			n.Observe(now, had, total)
			had = min(max(had, 0), total)
			after := time.Duration(rapid.Int64Range(-1, int64(5*time.Second)).Draw(t, "after"))
			headroom := rapid.Int64Range(-1, 1<<30).Draw(t, "headroom")
			if got := n.Expect(after, headroom); got < had+max(headroom, 0) {
				t.Fatalf("others have %d, and %d are expected", had, got)
			}
		}
	})
}

func TestNeighboursWhenTheClockIsSetBack(t *testing.T) {
	var n memory.Neighbours
	now := time.Unix(1e6, 0)
	n.Observe(now, 5<<30, 16<<30)
	n.Observe(now, 9<<30, 16<<30)
	n.Observe(now.Add(-time.Second), 9<<30, 16<<30) // it comes too late
	if got := n.Expect(0, 0); got != 5<<30 {
		t.Errorf("%d", got)
	}
	n.Observe(now.Add(-time.Hour), 1<<30, 16<<30)
	if got := n.Expect(0, 0); got != 1<<30 {
		t.Errorf("after the clock was set back an hour: %d", got)
	}
}

// Runs may take as long as what is known of others: a step in the middle of that is no
// noise either.
func TestNeighboursOfLongRuns(t *testing.T) {
	var n memory.Neighbours
	start := time.Unix(1000, 0)
	for at := time.Duration(0); at < 6*time.Second; at += 100 * time.Millisecond {
		had := int64(0)
		if at >= 3*time.Second {
			had = 6 << 30
		}
		n.Observe(start.Add(at), had, 16<<30)
	}
	for after := time.Duration(0); after < 10*time.Second; after += 200 * time.Millisecond {
		if got := n.Expect(after, 1<<29); got != 6<<30+1<<29 {
			t.Errorf("in %s %d are expected, want half a GiB more than now", after, got)
		}
	}
}
