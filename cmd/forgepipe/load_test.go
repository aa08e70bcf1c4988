package main

import (
	"testing"

	"github.com/forgepipe/forgepipe/memory/sim"
)

// Each --simulate is a card of its own, with its speed.
func TestSimulatedCards(t *testing.T) {
	cards, err := simulated([]string{"gpu:8GiB", "gpu:512MiB,speed=0.25", "gpu:1GiB,speed=1"})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		name  string
		total int64
		speed float64
	}{{"sim:0", 8 << 30, 1}, {"sim:1", 512 << 20, 0.25}, {"sim:2", 1 << 30, 1}} {
		d := cards[i].(*sim.Device)
		r, err := d.Read(t.Context())
		if d.Name() != want.name || r.Total != want.total || d.Speed() != want.speed || err != nil {
			t.Errorf("%s of %d at %v, %v; want %+v", d.Name(), r.Total, d.Speed(), err, want)
		}
	}
}
