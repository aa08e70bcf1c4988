package sim_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/memory/sim"
)

const gb = int64(1e9)

// kinds are networks of three kinds: how much of its time a run takes beside its
// items, and how many of them fit a card, is what makes one hard to govern.
var kinds = []sim.Network{
	network("many small items", 30*mib, 20*time.Millisecond, time.Millisecond),
	network("items in the middle", 200*mib, 20*time.Millisecond, 5*time.Millisecond),
	network("a few large items", 900*mib, 30*time.Millisecond, 60*time.Millisecond),
}

func network(name string, perItem int64, start, each time.Duration) sim.Network {
	return sim.Network{
		Name: name, SessionConfig: sim.SessionConfig{Fixed: gib, PerItem: perItem}, Start: start, Each: each,
		First: 1, Noise: 0.03, Growth: 20 * time.Millisecond,
	}
}

// load is what neighbours do in a test of two minutes, and what is asked of the
// Governor beside it.
type load struct {
	name   string
	others sim.Trace
	rate   float64       // share of the best static batch's
	ooms   int           // runs that may find no room
	left   time.Duration // when a tenant leaves; 0: none does
}

var loads = []load{
	{name: "alone", rate: 0.97},
	{name: "ramp", others: sim.Ramp(30*time.Second, 0, 9*gb, 3*gb), rate: 0.95},
	{name: "step", others: sim.Trace{Points: []sim.Point{{At: 40 * time.Second, Bytes: 9 * gb}, {At: 80 * time.Second}}}, rate: 0.95, ooms: 1, left: 80 * time.Second},
	{name: "flapping", others: sim.Flapping(0, 6*gb, 10*time.Second), rate: 0.94},
	{name: "fragmenting", others: fragmenting(), rate: 0.95},
}

// fragmenting is a neighbour that takes and gives back a little all the time.
func fragmenting() (t sim.Trace) {
	random := rand.New(rand.NewPCG(7, 7))
	for at := time.Duration(0); at < 2*time.Minute; at += time.Duration(100+random.IntN(900)) * time.Millisecond {
		t.Points = append(t.Points, sim.Point{At: at, Bytes: 2*gb + random.Int64N(400*mib)})
	}
	return t
}

// most is the most that neighbours ever want.
func (l load) most() (most int64) {
	for _, p := range l.others.Points {
		most = max(most, p.Bytes)
	}
	return most
}

const (
	card   = 16 * gib
	lasts  = 2 * time.Minute
	warmUp = 10 * time.Second // what comes after it is steady
)

// drive puts a chain to work on one card of 16 GiB, with readings that are 100 ms
// late, and checks that no item is lost or counted twice.
func drive(t *testing.T, o sim.DriveOptions) (sim.Driven, []sim.Turn) {
	t.Helper()
	var turns []sim.Turn
	o.Watch = func(s sim.Turn) { turns = append(turns, s) }
	d, err := sim.Drive(o)
	if err != nil {
		t.Fatal(err)
	}
	done := make([]int64, len(o.Chain))
	for _, s := range turns {
		ends, lost := s.At+s.Took, o.Lasts
		if at, doomed := o.Lose[s.Device]; doomed {
			lost = min(at, lost)
		}
		if !s.OutOfMemory && ends < lost {
			done[s.Network] += int64(s.Batch)
		}
	}
	if last := done[len(done)-1]; d.Done != last {
		t.Errorf("%d items are done, but %d were seen to be", d.Done, last)
	}
	if d.Begun != d.Done+d.OnTheWay {
		t.Errorf("%d items were begun, %d are done and %d on their way", d.Begun, d.Done, d.OnTheWay)
	}
	for n, items := range done[1:] {
		if items > done[n] {
			t.Errorf("network %d did %d items, and got %d", n+1, items, done[n])
		}
	}
	return d, turns
}

func alone(n sim.Network, l load, seed int) sim.DriveOptions {
	return sim.DriveOptions{
		Devices: []sim.Config{{Total: card, Others: l.others, Lag: 100 * time.Millisecond}},
		Chain:   []sim.Network{n}, Lasts: lasts, Seed: uint64(seed),
	}
}

// steadily is how many items a second came of the turns after the warm-up.
func steadily(turns []sim.Turn) float64 {
	items := 0
	for _, s := range turns {
		if s.At >= warmUp && !s.OutOfMemory {
			items += s.Batch
		}
	}
	return float64(items) / (lasts - warmUp).Seconds()
}

// runsUntil is how many runs there are before the first, from a time on, of a batch
// that gives so many items a second.
func runsUntil(turns []sim.Turn, n sim.Network, from time.Duration, rate float64) (runs int) {
	for _, s := range turns {
		if s.At < from || s.Batch == 0 {
			continue
		}
		if float64(s.Batch)/n.Seconds(s.Batch) >= rate {
			return runs
		}
		runs++
	}
	return runs
}

// What is asked of the adaptive strategy, whatever others do on the card, against the
// largest batch that always fits: the best that a person could set who knew all of it.
func TestAdaptiveAgainstTheBestBatch(t *testing.T) {
	seeds := 5
	if testing.Short() {
		seeds = 2
	}
	for _, n := range kinds {
		for _, l := range loads {
			t.Run(n.Name+" "+l.name, func(t *testing.T) {
				t.Parallel()
				best := int((card - l.most() - n.Fixed) / n.PerItem)
				var oracle, rate float64
				var cold, warm, back, ooms int
				for seed := range seeds {
					pinned := alone(n, l, seed)
					pinned.Batch = []int{best}
					_, turns := drive(t, pinned)
					oracle += steadily(turns)

					d, turns := drive(t, alone(n, l, seed))
					own := steadily(turns)
					rate += own
					ooms = max(ooms, d.OutOfMemory)
					cold = max(cold, runsUntil(turns, n, 0, 0.95*own))
					if l.left > 0 {
						was := 0
						for _, s := range turns {
							if s.At < l.left/2 {
								was = s.Batch
							}
						}
						back = max(back, runsUntil(turns, n, l.left, 0.99*float64(was)/n.Seconds(was)))
					}
					again := alone(n, l, seed+100)
					again.Governor.Learned = d.Learned
					_, turns = drive(t, again)
					warm = max(warm, runsUntil(turns, n, 0, 0.95*own))
				}
				if rate < l.rate*oracle {
					t.Errorf("%.1f %% of the best static batch's rate, want %.0f %%", 100*rate/oracle, 100*l.rate)
				}
				if cold > 20 || warm > 4 {
					t.Errorf("nearly at its steady rate after %d runs, and after %d with what was learned before", cold, warm)
				}
				if back > 10 {
					t.Errorf("back where it was %d runs after the tenant had left", back)
				}
				if ooms > l.ooms {
					t.Errorf("%d runs found no room, want %d at most", ooms, l.ooms)
				}
			})
		}
	}
}

// closed is how many items a second come of a chain whose networks take turns on a card
// of speed 1.
func closed(chain []sim.Network, batches ...int) float64 {
	each := 0.0
	for i, n := range chain {
		each += n.Seconds(batches[i]) / float64(batches[i])
	}
	return 1 / each
}

// bestSplit is the most that any two batch sizes give that fit the card beside each
// other.
func bestSplit(chain []sim.Network) (rate float64, batches [2]int) {
	room := card - chain[0].Fixed - chain[1].Fixed
	for b := 1; b <= 1024 && int64(b)*chain[0].PerItem < room; b++ {
		other := min(int((room-int64(b)*chain[0].PerItem)/chain[1].PerItem), 1024)
		if other < 1 {
			break
		}
		if r := closed(chain, b, other); r > rate {
			rate, batches = r, [2]int{b, other}
		}
	}
	return rate, batches
}

// Two networks on one card: each has room for an item at least, and the division
// between them is nearly as good as any.
func TestTwoNetworksShareACard(t *testing.T) {
	small := network("small", 5*mib, 5*time.Millisecond, 200*time.Microsecond)
	middle := network("middle", 200*mib, 20*time.Millisecond, 5*time.Millisecond)
	huge := network("huge", 2*gib, 100*time.Millisecond, 200*time.Millisecond)
	slow := network("slow to start", 100*mib, 200*time.Millisecond, 2*time.Millisecond)
	full := network("fills the card", 4*gib, 100*time.Millisecond, 300*time.Millisecond)
	full.Fixed = 2 * gib
	for name, chain := range map[string][]sim.Network{
		"small and huge":         {small, huge},
		"huge and small":         {huge, small},
		"equal":                  {middle, middle},
		"a slow start":           {middle, slow},
		"a slow start first":     {slow, middle},
		"one nearly fills it":    {full, middle},
		"the last nearly fills":  {small, full},
		"both have little":       {huge, full},
		"both have a slow start": {slow, slow},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chain := slices.Clone(chain)
			chain[1].Name += " too"
			best, split := bestSplit(chain)
			d, turns := drive(t, sim.DriveOptions{Devices: []sim.Config{{Total: card, Lag: 100 * time.Millisecond}}, Chain: chain, Lasts: lasts})
			// A batch that one has done and the other has not is no loss: what counts is how
			// long each takes for an item, and that the card is not idle.
			var items [2]int
			var took [2]time.Duration
			for _, s := range turns {
				if s.At >= warmUp && s.Batch > 0 {
					items[s.Network] += s.Batch
					took[s.Network] += s.Took
				}
			}
			busy := min((took[0]+took[1]).Seconds()/(lasts-warmUp).Seconds(), 1)
			rate := busy / (took[0].Seconds()/float64(items[0]) + took[1].Seconds()/float64(items[1]))
			if rate < 0.95*best {
				t.Errorf("%.4g items/s, %.1f %% of those with %v at once", rate, 100*rate/best, split)
			}
			if d.OutOfMemory > 0 {
				t.Errorf("%d runs found no room", d.OutOfMemory)
			}
		})
	}
}

// Four cards of several sizes and speeds do what each of them could do alone, and what
// one of them has not done when it is lost is done by the others.
func TestFourCards(t *testing.T) {
	cards := []sim.Config{{Total: 4 * gib, Speed: 0.4}, {Total: 8 * gib}, {Total: 16 * gib}, {Total: 24 * gib, Speed: 2}}
	for i := range cards {
		cards[i].Lag = 100 * time.Millisecond
	}
	for _, n := range kinds {
		t.Run(n.Name, func(t *testing.T) {
			t.Parallel()
			best := make([]float64, len(cards))
			for i, c := range cards {
				b := min(int((c.Total-n.Fixed)/n.PerItem), 1024)
				best[i] = c.Speed * float64(b) / n.Seconds(b)
				if c.Speed == 0 {
					best[i] = float64(b) / n.Seconds(b)
				}
			}
			count := func(turns []sim.Turn, from, until time.Duration) (items [4]float64) {
				for _, s := range turns {
					if s.At >= from && s.At < until && !s.OutOfMemory {
						items[s.Device] += float64(s.Batch) / (until - from).Seconds()
					}
				}
				return items
			}
			sum := best[0] + best[1] + best[2] + best[3]
			d, turns := drive(t, sim.DriveOptions{Devices: cards, Chain: []sim.Network{n}, Lasts: lasts})
			rates := count(turns, warmUp, lasts)
			if all := rates[0] + rates[1] + rates[2] + rates[3]; all < 0.95*sum {
				t.Errorf("%.1f %% of what they could do: %.4g of %.4g", 100*all/sum, rates, best)
			}
			if d.OutOfMemory > 0 {
				t.Errorf("%d runs found no room", d.OutOfMemory)
			}

			const at = 50 * time.Second
			_, turns = drive(t, sim.DriveOptions{Devices: cards, Chain: []sim.Network{n}, Lasts: lasts, Lose: map[int]time.Duration{2: at}})
			rates = count(turns, at, lasts)
			if rates[2] != 0 {
				t.Errorf("the lost card does %g items/s", rates[2])
			}
			if all := rates[0] + rates[1] + rates[3]; all < 0.95*(sum-best[2]) {
				t.Errorf("without one of them %.1f %%: %.4g of %.4g", 100*all/(sum-best[2]), rates, best)
			}
		})
	}
	t.Run("in a chain", func(t *testing.T) {
		chain := []sim.Network{kinds[1], kinds[2], kinds[0]}
		o := sim.DriveOptions{Devices: slices.Clone(cards[1:]), Chain: chain, Lasts: lasts, Lose: map[int]time.Duration{1: 50 * time.Second}}
		_, turns := drive(t, o)
		var before, after [3]int
		for _, s := range turns {
			if s.At < 50*time.Second {
				before[s.Network] += s.Batch
			} else {
				after[s.Network] += s.Batch
			}
		}
		for i := range chain {
			if before[i] == 0 || after[i] == 0 {
				t.Errorf("network %d did %d items before a card was lost, and %d after", i, before[i], after[i])
			}
		}
	})
}

// A drive that begins with wrong figures of an earlier one is soon as good as without.
func TestDriveWithWrongFigures(t *testing.T) {
	for _, n := range kinds {
		for name, share := range map[string]float64{"bytes ten times too low": 0.1, "bytes ten times too high": 10} {
			t.Run(n.Name+" "+name, func(t *testing.T) {
				t.Parallel()
				first, turns := drive(t, alone(n, loads[0], 1))
				want := steadily(turns)
				o := alone(n, loads[0], 2)
				for _, l := range first.Learned {
					l.Sizes = slices.Clone(l.Sizes)
					for i := range l.Sizes {
						l.Sizes[i].Bytes = int64(float64(l.Sizes[i].Bytes) * share)
					}
					o.Governor.Learned = append(o.Governor.Learned, l)
				}
				d, turns := drive(t, o)
				if got := runsUntil(turns, n, 0, 0.95*want); got > 30 {
					t.Errorf("it takes %d runs until it is near its target", got)
				}
				if got := steadily(turns); got < 0.97*want {
					t.Errorf("%.1f items/s, and %.1f with the right ones", got, want)
				}
				if d.OutOfMemory > 3 {
					t.Errorf("%d runs found no room", d.OutOfMemory)
				}
			})
		}
	}
}

// The second network waits for a full batch and holds what the first one needs for an
// item, when a neighbour takes the rest: it gives back what is more than its part.
func TestNoneStarvesTheOther(t *testing.T) {
	chain := []sim.Network{
		network("huge", 6*gib, 100*time.Millisecond, 200*time.Millisecond),
		network("slow to start", 100*mib, 500*time.Millisecond, 2*time.Millisecond),
	}
	const at = time.Minute
	_, turns := drive(t, sim.DriveOptions{
		Devices: []sim.Config{{Total: card, Lag: 100 * time.Millisecond, Others: sim.Step(at, 0, 5*gib)}}, Chain: chain, Lasts: 3 * time.Minute,
	})
	var items [2]int
	for _, s := range turns {
		if s.At > at+10*time.Second && !s.OutOfMemory {
			items[s.Network] += s.Batch
		}
	}
	// Alone the first one would do 110/0.3 items in that time.
	if items[0] < 200 || items[1] < 150 {
		t.Errorf("beside the neighbour they do %v items", items)
	}
}
