package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/sim"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
)

func TestOracle(t *testing.T) {
	for _, tt := range []struct {
		workload string
		chain    int
		want     string // rate and batches
	}{
		{"alone", 1, "190.0/s (76)"},          // 15 GiB / 200 MiB; 76 / (20 ms + 76 * 5 ms)
		{"step", 1, "176.5/s (30)"},           // 6 GiB
		{"chain", 1, "14.6/s (22 + 11)"},      // 4400 MiB + 9900 MiB of 14 GiB
		{"cards", 2, "70.2/s (3; 7; 17; 26)"}, // 0.4 * 14.3 + 15.6 + 16.2 + 2 * 16.4
		{"card lost", 2, "37.5/s (3; 7; 17; 26)"},
	} {
		for _, w := range simulated() {
			if w.name == tt.workload {
				if got := w.oracle(w.chains[tt.chain], 0).String(); got != tt.want {
					t.Errorf("%s: %s, want %s", w.name, got, tt.want)
				}
			}
		}
	}
	if _, ok := bestSplit([]sim.Network{large, large}, 1700*mib); ok {
		t.Error("there is a split without room for an item of each")
	}
	if s, ok := bestSplit([]sim.Network{large, large}, 1800*mib); !ok || s.batches[0] != 1 || s.batches[1] != 1 {
		t.Errorf("just one item of each: %v", s)
	}
}

func TestFigures(t *testing.T) {
	turns := []sim.Turn{
		{At: 0, Took: time.Second, Batch: 2, Own: 4},
		{At: 1 * time.Second, Took: time.Second, Own: 0}, // a wait
		{At: 2 * time.Second, Took: time.Second, Batch: 8, OutOfMemory: true, Own: 6},
		{At: 3 * time.Second, Took: 2 * time.Second, Batch: 8, Own: 6},
	}
	if got := rate(turns, 0, 500*time.Millisecond, 4*time.Second); math.Abs(got-(1+4)/3.5) > 1e-9 {
		t.Errorf("rate: %g", got)
	}
	for from, want := range map[time.Duration]int{0: 3, 3 * time.Second: 1, 4 * time.Second: 0} {
		if got := first(turns, 0, from, func(b int) bool { return b >= 8 }); got != want {
			t.Errorf("first from %s: %d, want %d", from, got, want)
		}
	}
	if got := batchAt(turns, 3*time.Second); got != 2 {
		t.Errorf("batch at 3 s: %d", got)
	}
	// Of 10 bytes a neighbour wants 5 all the time: it has 5, 5, 4 and 4.
	if got := had(turns, 10, sim.Constant(5), 4*time.Second); math.Abs(got-18.0/20) > 1e-9 {
		t.Errorf("had: %g", got)
	}
	if got := had(turns, 10, sim.Trace{}, 4*time.Second); !math.IsNaN(got) {
		t.Errorf("had of nothing: %g", got)
	}
}

// A neighbour has what is free, never what an arena has; and the arena what is left.
func TestLeaves(t *testing.T) {
	for _, tt := range []struct{ wants, has, want int64 }{{0, 3, 10}, {6, 3, 4}, {8, 3, 3}, {8, 0, 2}} {
		if got := leaves(10, tt.wants, tt.has); got != tt.want {
			t.Errorf("wanting %d beside %d: %d, want %d", tt.wants, tt.has, got, tt.want)
		}
	}
}

// An arena keeps what it has when a neighbour comes, may grow no more, and is the
// neighbour's once it has given all back.
func TestArenaFollowsItsNeighbour(t *testing.T) {
	library, err := ort.Load("")
	if err != nil {
		t.Skip(err) // built without the runtime
	}
	b := bed{library: library}
	if b.network, err = testnet.Hog(mib).Bytes(); err != nil {
		t.Fatal(err)
	}
	const total = 64 * mib
	d := &runtimeDrive{bed: &b, total: total, wants: tenant(time.Second, 2*time.Second, 60*mib)}
	if err := d.open(total); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.session.Close() })
	run := func(batch int, shrink bool) error {
		t.Helper()
		if err := d.follow(shrink); err != nil {
			t.Fatal(err)
		}
		_, err := d.compute(batch, shrink)
		return err
	}
	if err := run(16, false); err != nil {
		t.Fatal(err)
	}
	d.grew = []int{16}
	before, err := d.allocated()
	if err != nil || before < 16*mib {
		t.Fatalf("16 items take %d bytes: %v", before, err)
	}
	d.now = time.Second // it comes
	if err := run(16, false); err != nil {
		t.Errorf("what the arena had is gone: %v", err)
	}
	if now, _ := d.allocated(); now != before || d.limit != d.fixed+before {
		t.Errorf("the arena has %d bytes of %d, and %d before", now, d.limit, before)
	}
	var none *ort.OutOfMemoryError
	if err := run(32, false); !errors.As(err, &none) {
		t.Errorf("it grows beside the neighbour: %v", err)
	}
	if err := run(16, true); !errors.As(err, &none) {
		t.Errorf("what was given back is not the neighbour's: %v", err)
	}
	d.now = 2 * time.Second // it leaves
	if err := run(32, true); err != nil || d.limit != total {
		t.Errorf("with %d bytes again: %v", d.limit, err)
	}
}

func TestPeers(t *testing.T) {
	s := memory.Situation{Room: memory.Room{Budget: 1 << 30, Allocated: 1}, Most: 4, Cost: &memory.CostModel{}, Speed: &memory.SpeedModel{}}
	a := strategies()[aimd](0)
	var batches []int
	for _, failed := range []bool{false, false, false, false, true, false} {
		c := a.Next(s)
		batches = append(batches, c.Batch)
		a.Ran(s, memory.Ran{Batch: c.Batch, OutOfMemory: failed})
	}
	if got := a.Next(s).Batch; got != 3 || batches[3] != 4 || batches[4] != 4 || batches[5] != 2 {
		t.Errorf("AIMD: %v, %d", batches, got)
	}
	for name, shrinks := range map[string]bool{memory.Adaptive: true, unshrinking: false} {
		if c := strategies()[name](0).Next(s); c.Shrink != shrinks || c.Batch != 1 {
			t.Errorf("%s begins with %+v", name, c)
		}
	}
}

// Tables have as many cells in each line, and pictures are XML, with a neighbour and
// without, with several networks and several cards.
func TestTablesAndPictures(t *testing.T) {
	for _, w := range simulated() {
		tb := table{w: w}
		for _, c := range w.chains {
			tb.oracles = append(tb.oracles, w.oracle(c, 0))
		}
		f, turns, err := w.drive(adaptivePolicy, w.chains[w.shown()], 0)
		if err != nil {
			t.Fatal(err)
		}
		r := row{policy: adaptivePolicy, shown: turns}
		for range w.chains {
			r.cells = append(r.cells, []figures{f})
		}
		tb.rows = []row{r}
		var s strings.Builder
		tb.write(&s)
		cells := 0
		for line := range strings.Lines(s.String()) {
			n := strings.Count(line, "|")
			if n > 0 && cells > 0 && n != cells {
				t.Errorf("%s: %d cells, not %d: %s", w.name, n, cells, line)
			}
			cells = max(cells, n)
		}
		d := xml.NewDecoder(strings.NewReader(picture("5 > 3", tb.shows(), tb.panels(), w.lasts)))
		for {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", w.name, err)
			}
		}
	}
}

func TestStepsKeepTheExtremesOfAPixel(t *testing.T) {
	var l steps
	for _, p := range [][2]float64{{0, 10}, {1, 10}, {2.1, 4}, {2.5, 20}, {2.9, 8}, {5, 8}, {6, 9}} {
		l.to(p[0], p[1])
	}
	if got, want := l.area(30), "M0 10H2V4V20V8H6V9H400V30H0z"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
