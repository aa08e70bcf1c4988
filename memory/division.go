package memory

import (
	"math"
	"slices"
	"time"
)

// demand is what one of several networks wants of a device.
type demand struct {
	least  int64   // bytes of one item, or of all that a run takes: it has them in any case
	probe  int64   // bytes that it takes to learn how long runs take; 0: that is known
	most   int64   // bytes beyond which more would hardly be faster
	weight float64 // how it shares in what is left; 0: as the others do
}

const (
	// idleAfter is how long a workload may not run until its part is for others.
	idleAfter = 10 * time.Second
	// samePart is by how much a part may move before it is set anew, if it is not at
	// the others' cost: models that learn would move it a little all the time.
	samePart = 0.06
	// sameDemand is by how much what is wanted of a device, and what there is of it, may
	// move until it counts.
	sameDemand = 0.03
)

// division is how a device was divided last. It is kept until somebody comes or goes,
// or what one wants or what there is has moved.
type division struct {
	total   int64 // bytes that there were
	asked   int64 // bytes of which the demands are
	courses []*course
	demands []demand
	parts   []int64

	now     []*course // those that there are now
	weights []float64 // of the demands, none of which is 0
	open    []int     // whose part may still grow
	fits    []int     // items that the parts have room for
}

// partOf is what a workload may have of a budget that it could have beside what the
// others on its device hold now. It needs the lock.
//
// The runs of networks on one device come one after the other, each with its own
// start-up time t0. The sum of t0/b over all of them is least, for a sum of s·b, where
// b grows with the root of t0/s, and thus the bytes with the root of t0·s.
func (g *Governor) partOf(w *Workload, c *course, budget int64) int64 {
	if budget > anyMemory {
		return budget // there is nothing to divide
	}
	d, total, now, own, others := w.division, budget, g.o.Clock(), 0, int64(0)
	d.now = d.now[:0]
	for _, o := range g.workloads {
		switch {
		case o == w:
			own = len(d.now)
			d.now = append(d.now, c)
		case o.division == d && o.recent != nil && now.Sub(o.lastUsed) <= idleAfter:
			total += o.held
			others += o.part
			d.now = append(d.now, o.recent)
		}
	}
	if len(d.now) <= 1 {
		w.part, w.shares = 0, false
		return budget
	}
	w.shares = true
	total = max(total, 0)
	want := c.demand(total)
	d.update(total, own, want)
	part := d.parts[own]
	moved := math.Abs(float64(part-w.part)) > samePart*float64(w.part)
	if moved || w.part < want.least || w.part > total-others {
		w.part = part
	}
	return w.within(budget)
}

// within is what is left of a budget beside the parts of others, as they were when the
// workload was last asked. It needs the lock.
func (w *Workload) within(budget int64) int64 {
	if !w.shares || budget > anyMemory {
		return budget
	}
	return min(w.part, budget)
}

// update divides the device anew, if it has to be for those that there are now and one
// of them, who wants that of so many bytes. Where there is a little more than before, it
// stays, unless that may be what lacked for an item; more than there is is never given
// away.
func (d *division) update(total int64, own int, want demand) {
	switch {
	case !slices.Equal(d.now, d.courses), !same(float64(d.asked), float64(total)):
		d.courses, d.now = d.now, d.courses
		d.asked, d.demands = total, d.demands[:0]
		for _, c := range d.courses {
			d.demands = append(d.demands, c.demand(total))
		}
	case total < d.total, total > d.total && d.parts[own] < want.least, !d.demands[own].like(want):
		d.demands[own] = want
	default:
		return
	}
	d.total = total
	d.weigh()
	d.divide()
	d.round()
}

// demand is what the course wants of so many bytes.
func (c *course) demand(total int64) demand {
	m := c.models
	want := demand{least: m.cost.Bytes(c.items(1)), most: total}
	switch {
	case c.whole > 0 && m.cost.Known():
		want.most = want.least
	case m.cost.Known() && m.speed.Sizes() > 1:
		enough := m.speed.Enough(nearly, max(m.cost.Fits(total, mostItems), 1))
		want.most = max(m.cost.Bytes(enough), want.least)
		want.weight = math.Sqrt(max(m.speed.t0, m.speed.t1/100) * max(m.cost.line.s, 1))
	default:
		want.probe = m.cost.Bytes(2 * max(m.speed.Largest(), 1))
	}
	return want
}

// like tells whether the part of a demand is good enough for another one.
func (d demand) like(o demand) bool {
	return d.least >= o.least && same(float64(d.least), float64(o.least)) && same(float64(d.probe), float64(o.probe)) &&
		same(float64(d.most), float64(o.most)) && same(d.weight, o.weight)
}

func same(a, b float64) bool { return math.Abs(a-b) <= sameDemand*a }

// weigh has who is not known yet be like the others.
func (d *division) weigh() {
	var sum float64
	known := 0
	for _, want := range d.demands {
		if want.weight > 0 {
			sum += want.weight
			known++
		}
	}
	d.weights = d.weights[:0]
	for _, want := range d.demands {
		if want.weight == 0 {
			want.weight = max(sum/float64(max(known, 1)), 1)
		}
		d.weights = append(d.weights, want.weight)
	}
}

// divide gives everybody the least, in turn while there is some, then what it takes to
// learn more, and what is left by weight, up to the most. What is left then is for
// everybody alike.
func (d *division) divide() {
	d.parts, d.open = d.parts[:0], d.open[:0]
	left := d.total
	for i, want := range d.demands {
		least := min(want.least, left)
		d.parts = append(d.parts, least)
		d.open = append(d.open, i)
		left -= least
	}
	for i, want := range d.demands {
		more := min(max(want.probe-d.parts[i], 0), left)
		d.parts[i] += more
		left -= more
	}
	for left > 0 && len(d.open) > 0 {
		var sum float64
		for _, i := range d.open {
			sum += d.weights[i]
		}
		share := float64(left) / sum
		before := len(d.open)
		d.open = slices.DeleteFunc(d.open, func(i int) bool {
			more := d.demands[i].most - d.parts[i]
			if share*d.weights[i] < float64(more) {
				return false
			}
			more = min(max(more, 0), left)
			d.parts[i] += more
			left -= more
			return true
		})
		if len(d.open) == before { // nobody's share is more than it wants
			for _, i := range d.open {
				d.parts[i] += int64(share * d.weights[i])
			}
			return
		}
	}
	for i := range d.parts {
		d.parts[i] += left / int64(len(d.parts))
	}
}

// round cuts the parts down to whole items, and gives what that leaves to the course
// whose items it makes fastest; and so on, until it is of no use to anybody.
func (d *division) round() {
	d.fits = d.fits[:0]
	left := d.total
	for i, c := range d.courses {
		fits := 0 // not known, or none
		if c.models.speed.Sizes() > 1 {
			fits = c.models.cost.Fits(d.parts[i], mostItems)
		}
		if fits > 0 {
			d.parts[i] = c.models.cost.Bytes(fits)
		}
		d.fits = append(d.fits, fits)
		left -= d.parts[i]
	}
	for range d.courses {
		best, fits, gain := -1, 0, 0.0
		for i, c := range d.courses {
			more := min(d.parts[i]+left, d.demands[i].most)
			if d.fits[i] == 0 || more < c.models.cost.Bytes(d.fits[i]+1) {
				continue
			}
			after := c.models.cost.Fits(more, mostItems)
			if after <= d.fits[i] {
				continue
			}
			if faster := 1/c.models.speed.Rate(d.fits[i]) - 1/c.models.speed.Rate(after); faster > gain {
				best, fits, gain = i, after, faster
			}
		}
		if best < 0 {
			break
		}
		bytes := d.courses[best].models.cost.Bytes(fits)
		left -= bytes - d.parts[best]
		d.parts[best], d.fits[best] = bytes, fits
	}
	for i := range d.parts {
		d.parts[i] += left / int64(len(d.parts))
	}
}
