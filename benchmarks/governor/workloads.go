package main

import (
	"cmp"
	"math"
	"math/rand/v2"
	"time"

	"github.com/forgepipe/forgepipe/memory/sim"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// workload is what happens on some cards while networks work there.
type workload struct {
	name   string
	says   string // what happens, for the reader
	cards  []card
	others func(seed uint64) sim.Trace // what the neighbour wants of each card; nil: there is none
	chains []chain
	lasts  time.Duration
	steady time.Duration // from when on the rate is measured
	// comes and leaves are when the neighbour does so once; 0: it does not.
	comes, leaves time.Duration
	lost          map[int]time.Duration
}

// card is a simulated GPU.
type card struct {
	total int64
	speed float64
}

// chain is what each item passes.
type chain struct {
	name     string
	networks []sim.Network
}

// network makes one whose runs are a little uneven, and take twice as long the first
// time that they have a size.
func network(name string, perItem int64, start, each time.Duration) sim.Network {
	return sim.Network{
		Name: name, SessionConfig: sim.SessionConfig{Fixed: 1 * gib, PerItem: perItem}, Start: start, Each: each,
		First: 1, Noise: 0.03, Growth: 20 * time.Millisecond,
	}
}

var (
	small  = network("small", 30*mib, 20*time.Millisecond, time.Millisecond)
	middle = network("middle", 200*mib, 20*time.Millisecond, 5*time.Millisecond)
	large  = network("large", 900*mib, 30*time.Millisecond, 60*time.Millisecond)

	alone  = []chain{{"small", []sim.Network{small}}, {"middle", []sim.Network{middle}}, {"large", []sim.Network{large}}}
	chains = []chain{
		{"small, middle", []sim.Network{small, middle}},
		{"middle, large", []sim.Network{middle, large}},
		{"large, small", []sim.Network{large, small}},
	}

	oneCard   = []card{{16 * gib, 1}}
	fourCards = []card{{4 * gib, 0.4}, {8 * gib, 1}, {16 * gib, 1}, {24 * gib, 2}}
)

const describedNetworks = "The network small takes 30 MiB and 1 ms an item beside 20 ms a run, middle 200 MiB and 5 ms beside 20 ms, large 900 MiB and 60 ms beside 30 ms, each with 1 GiB of weights"

const (
	// simulatedTime is how long a simulated drive lasts, and warmUp after when it is
	// taken to be steady.
	simulatedTime = 120 * time.Second
	warmUp        = 10 * time.Second
)

// simulated are the workloads of the first part.
func simulated() []workload {
	always := func(t sim.Trace) func(uint64) sim.Trace { return func(uint64) sim.Trace { return t } }
	all := []workload{
		{name: "alone", says: "Nobody else is on the card."},
		{name: "ramp", says: "After 30 s a neighbour takes 3 GiB a second until it has 9 GiB.", others: always(sim.Ramp(30*time.Second, 0, 9*gib, 3*gib))},
		{name: "step", says: "A neighbour takes 9 GiB at once after 40 s and leaves after 80 s.", others: always(tenant(40*time.Second, 80*time.Second, 9*gib)), comes: 40 * time.Second, leaves: 80 * time.Second},
		{name: "flapping", says: "A neighbour has nothing for 5 s and 6 GiB for 5 s, in turn.", others: always(sim.Flapping(0, 6*gib, 10*time.Second))},
		{name: "fragmenting", says: "A neighbour changes what it has by up to 256 MiB every 20 to 200 ms, between nothing and 6 GiB.", others: fragments},
		{name: "chain", says: "Two networks on the card: each item passes both, and the oracle knows the best split of the memory. Nobody else is there. These drives last ten times as long, so that what waits between the two when they end hardly counts.", chains: chains, lasts: 10 * simulatedTime},
		{name: "cards", says: "Four cards of 4, 8, 16 and 24 GiB with speeds of 0.4, 1, 1 and 2, each with a session; the oracle has the largest batch on each. Nobody else is there.", cards: fourCards},
		{name: "card lost", says: "The same, and the fourth card is lost after 60 s. The oracle has the other three.", cards: fourCards,
			lost: map[int]time.Duration{3: 60 * time.Second}, steady: 60*time.Second + warmUp},
	}
	for i := range all {
		w := &all[i]
		w.lasts = cmp.Or(w.lasts, simulatedTime)
		if w.cards == nil {
			w.cards = oneCard
		}
		if w.chains == nil {
			w.chains = alone
		}
		if w.steady == 0 {
			w.steady = warmUp
		}
	}
	return all
}

// tenant is a neighbour that comes and goes.
func tenant(comes, goes time.Duration, bytes int64) sim.Trace {
	return sim.Trace{Points: []sim.Point{{At: comes, Bytes: bytes}, {At: goes}}}
}

// fragments is a neighbour with many small changes.
func fragments(seed uint64) sim.Trace {
	random := rand.New(rand.NewPCG(seed, 2))
	bytes, at := int64(3*gib), time.Duration(0)
	var t sim.Trace
	for at < simulatedTime {
		bytes = min(max(bytes+random.Int64N(512*mib)-256*mib, 0), 6*gib)
		t.Points = append(t.Points, sim.Point{At: at, Bytes: bytes})
		at += time.Duration(20+random.IntN(180)) * time.Millisecond
	}
	return t
}

// trace is what the neighbour wants in the drive with that seed.
func (w *workload) trace(seed uint64) sim.Trace {
	if w.others == nil {
		return sim.Trace{}
	}
	return w.others(seed)
}

// mostWanted is what a neighbour wants at most. Between two points it is not more.
func mostWanted(t sim.Trace) (bytes int64) {
	for _, p := range t.Points {
		bytes = max(bytes, p.Bytes)
	}
	return bytes
}

// split is how a card's memory is best divided among the networks of a chain.
type split struct {
	batches []int
	seconds float64 // that an item takes, on a card of speed 1
}

// bestSplit tries all: the networks run one after the other, and each keeps what its
// runs take. There is none where not even one item of each has room.
func bestSplit(networks []sim.Network, bytes int64) (split, bool) {
	n := networks[0]
	fits := int(max(bytes, 0) / n.PerItem)
	if len(networks) == 1 {
		fits = min(fits, mostItems)
		return split{[]int{fits}, n.Seconds(fits) / float64(fits)}, fits > 0
	}
	best := split{seconds: math.Inf(1)}
	for b := 1; b <= min(fits, mostItems); b++ {
		rest, ok := bestSplit(networks[1:], bytes-int64(b)*n.PerItem)
		if s := n.Seconds(b)/float64(b) + rest.seconds; ok && s < best.seconds {
			best = split{append([]int{b}, rest.batches...), s}
		}
	}
	return best, best.batches != nil
}

// mostItems is how many items a run may take.
const mostItems = 1024

// oracle is the best that batches can do that never change: those of each card, and
// the items a second of all cards together.
type oracle struct {
	splits []split // of each card
	rate   float64
}

func (w *workload) oracle(c chain, seed uint64) oracle {
	var o oracle
	for i, card := range w.cards {
		free := card.total - mostWanted(w.trace(seed))
		for _, n := range c.networks {
			free -= n.Fixed
		}
		s, ok := bestSplit(c.networks, free)
		o.splits = append(o.splits, s)
		if _, lost := w.lost[i]; ok && !lost {
			o.rate += card.speed / s.seconds
		}
	}
	return o
}
