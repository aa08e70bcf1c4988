package memory_test

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/forgepipe/forgepipe/memory"
)

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func TestSpeedModelIsExactOnALine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		t0 := rapid.Float64Range(0.0001, 1).Draw(t, "t0")
		t1 := rapid.Float64Range(0.0001, 1).Draw(t, "t1")
		took := func(b int) float64 { return t0 + t1*float64(b) }
		var m memory.SpeedModel
		for _, b := range rapid.SliceOfNDistinct(rapid.IntRange(1, 600), 2, 30, rapid.ID[int]).Draw(t, "seen") {
			for range 2 {
				m.Seen(b, seconds(took(b)))
			}
		}
		b := rapid.IntRange(1, 1000).Draw(t, "b")
		if got := m.Took(b).Seconds(); math.Abs(got-took(b)) > 0.001*took(b) {
			t.Fatalf("%d items take %g, said are %g", b, took(b), got)
		}
		most := rapid.IntRange(1, 1000).Draw(t, "most")
		enough := m.Enough(0.98, most)
		rate := func(b int) float64 { return float64(b) / took(b) }
		if enough < 1 || enough > most || rate(enough) < 0.979*rate(most) {
			t.Fatalf("%d of %d are said to be enough: %.1f %% of the rate", enough, most, 100*rate(enough)/rate(most))
		}
		// Smaller batches than that are slower by more.
		if enough > 2 && rate(enough-2) > 0.981*rate(most) {
			t.Fatalf("%d of %d are said to be enough, but two less are", enough, most)
		}
	})
}

func TestSpeedModelKnowsNothingYet(t *testing.T) {
	var m memory.SpeedModel
	m.Seen(0, time.Second)
	m.Seen(-1, time.Second)
	m.Seen(math.MaxInt, time.Second)
	m.Seen(3, 0)
	m.Seen(3, -time.Second)
	m.Seen(4, time.Second) // the first of its size
	if m.Took(4) != 0 || m.Rate(4) != 0 || m.Sizes() != 0 || m.Timed(4) != 0 || m.Largest() != 0 || m.Enough(0.9, 50) != 50 {
		t.Errorf("%s, %g, %d, %d, %d, %d", m.Took(4), m.Rate(4), m.Sizes(), m.Timed(4), m.Largest(), m.Enough(0.9, 50))
	}
	m.Seen(4, time.Second)
	if m.Took(4) != time.Second || m.Rate(4) != 4 || m.Sizes() != 1 || m.Timed(4) != 1 || m.Largest() != 4 || m.Took(0) != 0 {
		t.Errorf("%s, %g, %d, %d, %d", m.Took(4), m.Rate(4), m.Sizes(), m.Timed(4), m.Largest())
	}
	if got := m.Took(math.MaxInt); got != math.MaxInt64 {
		t.Errorf("%d", got)
	}
	m.Cold()
	m.Seen(4, time.Hour) // another session's first
	if m.Took(4) != time.Second {
		t.Errorf("%s", m.Took(4))
	}
}

// Runs of 20 ms and 1 ms for each item, of which some are slow for reasons of their own.
func TestSpeedModelRecovers(t *testing.T) {
	took := func(b int) float64 { return 0.020 + 0.001*float64(b) }
	for name, slow := range map[string]func(run, batch int) float64{
		"never":                      func(_, _ int) float64 { return 1 },
		"the first of each size":     func(run, _ int) float64 { return map[bool]float64{true: 10, false: 1}[run == 0] },
		"the first three":            func(run, batch int) float64 { return map[bool]float64{true: 10, false: 1}[batch == 1 && run < 3] },
		"one in the middle":          func(run, batch int) float64 { return map[bool]float64{true: 10, false: 1}[batch == 32 && run == 4] },
		"one of each size":           func(run, _ int) float64 { return map[bool]float64{true: 10, false: 1}[run == 5] },
		"while pages are had":        func(run, _ int) float64 { return 1 + 9*math.Exp(-float64(run)) },
		"every fourth by a half":     func(run, _ int) float64 { return map[bool]float64{true: 1.5, false: 1}[run%4 == 3] },
		"every second by a twelfth ": func(run, _ int) float64 { return 1 + float64(run%2)/12 },
	} {
		t.Run(name, func(t *testing.T) {
			var m memory.SpeedModel
			for _, b := range []int{1, 2, 8, 32, 128} {
				for run := range 12 {
					m.Seen(b, seconds(took(b)*slow(run, b)))
				}
			}
			for _, b := range []int{1, 16, 64, 128, 256} {
				if got := m.Took(b).Seconds(); math.Abs(got-took(b)) > 0.05*took(b) {
					t.Errorf("%d items take %g, said are %g", b, took(b), got)
				}
			}
		})
	}
}

// A size that has been seen slow long ago is seen anew, not averaged with what it was.
func TestSpeedModelForgets(t *testing.T) {
	var m memory.SpeedModel
	for range 10 {
		m.Seen(64, 10*time.Second)
	}
	for range 100 {
		m.Seen(32, time.Second)
	}
	for range 3 {
		m.Seen(64, 2*time.Second)
	}
	if got := m.Rate(64); got < 31 || got > 33 {
		t.Errorf("%g items/s, want 32", got)
	}
}

// The rate need not follow a line: where larger batches were seen to be slower, they
// are not wanted.
func TestSpeedModelBelievesWhatItSaw(t *testing.T) {
	var m memory.SpeedModel
	for b, s := range map[int]float64{1: 0.03, 8: 0.05, 32: 0.1, 64: 0.8, 128: 2} {
		for range 5 {
			m.Seen(b, seconds(s))
		}
	}
	if got := m.Enough(0.985, 128); got != 32 {
		t.Errorf("%d are enough, want 32", got)
	}
	if got := m.Enough(0.985, 20); got < 8 {
		t.Errorf("%d are enough of 20", got)
	}
}
