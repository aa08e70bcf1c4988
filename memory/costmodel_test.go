package memory_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/forgepipe/forgepipe/memory"
)

// within tells whether got is want, or more by share of it at most.
func within(got, want int64, share float64) bool {
	return got >= want && float64(got) <= float64(want)*(1+share)+1
}

// On a line, what was seen is known to the byte, and what lies between or beyond it up
// to the 3 % that are added.
func TestCostModelIsExactOnALine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.Int64Range(0, 4<<30).Draw(t, "a")
		s := rapid.Int64Range(1<<10, 1<<30).Draw(t, "s")
		seen := rapid.SliceOfNDistinct(rapid.IntRange(1, 600), 2, 40, rapid.ID[int]).Draw(t, "seen")
		var m memory.CostModel
		for _, b := range seen {
			m.Ran()
			m.Seen(b, a+s*int64(b))
		}
		for _, b := range seen[max(len(seen)-12, 0):] { // so many sizes are remembered
			if got, want := m.Bytes(b), a+s*int64(b); got != want {
				t.Fatalf("%d items take %d, said are %d", b, want, got)
			}
		}
		b := rapid.IntRange(1, 2000).Draw(t, "b")
		if got, want := m.Bytes(b), a+s*int64(b); !within(got, want, 0.03) {
			t.Fatalf("%d items take %d, said are %d", b, want, got)
		}
	})
}

// One observation cannot tell the items from the rest: all of it counts for them.
func TestCostModelAfterOneRun(t *testing.T) {
	var m memory.CostModel
	if m.Known() || m.Bytes(1) != 0 || m.Fits(1<<20, 100) != 1 || m.Fits(0, 100) != 0 || m.Fits(-1, 100) != 0 {
		t.Errorf("nothing is known, but %d, %d", m.Bytes(1), m.Fits(1<<20, 100))
	}
	m.Seen(2, 100)
	if !m.Known() || m.Bytes(1) != 52 || m.Bytes(2) != 100 || m.Bytes(4) != 203 {
		t.Errorf("%d, %d, %d", m.Bytes(1), m.Bytes(2), m.Bytes(4))
	}
	if got := m.Fits(math.MaxInt64, 1024); got != 8 {
		t.Errorf("%d is more than four times what was seen", got)
	}
}

func TestCostModelTakesNoNonsense(t *testing.T) {
	var m memory.CostModel
	for _, batch := range []int{0, -1, math.MinInt, math.MaxInt} {
		m.Seen(batch, 1<<20)
	}
	m.Seen(1, 0)
	m.Seen(1, -5)
	m.Failed(0, 1, 1)
	m.Failed(-3, 1, 1)
	if m.Known() || m.Largest() != 0 {
		t.Errorf("it knows something: up to %d items", m.Largest())
	}
	m.Seen(1, math.MaxInt64)
	m.Seen(2, math.MaxInt64)
	m.Seen(3, math.MaxInt64)
	if m.Bytes(1000) != math.MaxInt64 || m.Bytes(math.MaxInt) != math.MaxInt64 || m.Fits(math.MaxInt64-1, 10) != 0 {
		t.Errorf("%d, %d, %d", m.Bytes(1000), m.Bytes(math.MaxInt), m.Fits(math.MaxInt64-1, 10))
	}
}

// Whatever it has seen, more items take no less, and what fits is the most that does.
func TestCostModelProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m memory.CostModel
		batches, sizes := rapid.IntRange(1, 200), rapid.Int64Range(1, 1<<40)
		t.Repeat(map[string]func(*rapid.T){
			"seen": func(t *rapid.T) { m.Seen(batches.Draw(t, "batch"), sizes.Draw(t, "bytes")) },
			"ran": func(t *rapid.T) {
				for range rapid.IntRange(1, 300).Draw(t, "runs") {
					m.Ran()
				}
			},
			"failed": func(t *rapid.T) {
				m.Failed(batches.Draw(t, "batch"), sizes.Draw(t, "budget"), sizes.Draw(t, "need")/2)
			},
			"": func(t *rapid.T) {
				before := int64(0)
				for b := 1; b < 300; b++ {
					now := m.Bytes(b)
					if now < before {
						t.Fatalf("%d items take %d, and one less %d", b, now, before)
					}
					before = now
				}
				budget, most := sizes.Draw(t, "budget"), batches.Draw(t, "most")
				fits := m.Fits(budget, most)
				if fits < 0 || fits > most || m.Known() && m.Bytes(fits) > budget {
					t.Fatalf("%d of %d fit %d and take %d", fits, most, budget, m.Bytes(fits))
				}
			},
		})
	})
}

// Where nothing has failed, one item more than what fits does not fit, unless it is too
// far beyond what was seen.
func TestCostModelFitsTheMost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m memory.CostModel
		for b, bytes := range rapid.MapOfN(rapid.IntRange(1, 200), rapid.Int64Range(1, 1<<40), 1, 20).Draw(t, "seen") {
			m.Seen(b, bytes)
		}
		budget, most := rapid.Int64Range(1, 1<<42).Draw(t, "budget"), rapid.IntRange(1, 1024).Draw(t, "most")
		fits := m.Fits(budget, most)
		if fits < min(most, 4*m.Largest()) && m.Bytes(fits+1) <= budget {
			t.Fatalf("%d fit %d, but %d take %d", fits, budget, fits+1, m.Bytes(fits+1))
		}
	})
}

// What has gone wrong once does not count for ever. The network takes 100 MiB and 40
// for each item, and is run as the model says on a card of 8 GiB.
func TestCostModelRecovers(t *testing.T) {
	took := func(b int) int64 { return 100<<20 + int64(b)*40<<20 }
	const card = 8 << 30
	fits := int((card - 100<<20) / (40 << 20))
	for name, tt := range map[string]struct {
		batch int
		share float64
	}{
		"one item five times too high":        {1, 5},
		"two items five times too high":       {2, 5},
		"32 items five times too high":        {32, 5},
		"the largest five times too high":     {128, 5},
		"one item far too low":                {1, 0.01},
		"32 items far too low":                {32, 0.01},
		"the largest far too low":             {128, 0.01},
		"more than there is room for, as low": {1000, 0.01},
	} {
		t.Run(name, func(t *testing.T) {
			var m memory.CostModel
			for _, b := range []int{1, 2, 8, 32, 128} {
				bytes := took(b)
				if b == tt.batch {
					bytes = int64(float64(bytes) * tt.share)
				}
				m.Seen(b, bytes)
			}
			if tt.batch == 1000 {
				m.Seen(1000, int64(float64(took(1000))*tt.share))
			}
			failed := 0
			for range 600 {
				b := m.Fits(card, 1024)
				if b == 0 {
					t.Fatal("nothing fits")
				}
				m.Ran()
				if took(b) > card {
					failed++
					m.Failed(b, card, 0)
					continue
				}
				m.Seen(b, took(b))
			}
			if failed > 3 {
				t.Errorf("%d runs had no room", failed)
			}
			if got := m.Fits(card, 1024); got > fits || float64(got) < 0.95*float64(fits) {
				t.Errorf("%d fit in the end, want %d", got, fits)
			}
			for _, b := range []int{1, 16, 64, 100} {
				if got := m.Bytes(b); !within(got, took(b), 0.06) {
					t.Errorf("%d items take %d, said are %d", b, took(b), got)
				}
			}
		})
	}
}

// A run that had no room raises the model by what it needed, and so large a batch is
// not tried for 200 runs, unless there is a tenth more memory.
func TestCostModelAfterAFailure(t *testing.T) {
	learn := func() *memory.CostModel {
		m := &memory.CostModel{}
		for _, b := range []int{1, 2, 4, 8} {
			m.Seen(b, int64(b)<<20)
		}
		return m
	}
	const budget = 20 << 20
	m := learn()
	if got := m.Fits(budget, 100); got != 19 {
		t.Fatalf("%d fit", got)
	}
	m.Failed(12, budget, 0)
	for run := range 200 {
		if got := m.Fits(budget, 100); got != 11 {
			t.Fatalf("after %d runs %d fit", run, got)
		}
		if got := m.Fits(budget/10*11+2, 100); got != 21 {
			t.Fatalf("with a tenth more %d fit", got)
		}
		m.Ran()
	}
	if got := m.Fits(budget, 100); got != 19 {
		t.Errorf("after 200 runs %d fit", got)
	}

	m = learn()
	m.Failed(12, budget, 40<<20)
	if got := m.Bytes(12); got != 40<<20 {
		t.Errorf("it needed 40 MiB, said are %d", got)
	}
	for range 199 {
		m.Ran()
	}
	if got := m.Fits(budget, 100); got >= 12 {
		t.Errorf("it needs more than there is, but %d fit", got)
	}

	for _, need := range []int64{0, budget / 2} {
		m = learn()
		m.Failed(1, budget, need)
		if got := m.Fits(budget, 100); got != 1 {
			t.Errorf("%d fit: one item must be tried again, nothing smaller is left", got)
		}
	}
}
