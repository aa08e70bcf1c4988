package memory

import (
	"math"
	"slices"
	"time"
)

// demand is what one of several networks wants of a device.
type demand struct {
	least  int64   // bytes of one item: it has them in any case
	probe  int64   // bytes that it takes to learn how long runs take; 0: that is known
	most   int64   // bytes beyond which more would hardly be faster
	weight float64 // how it shares in what is left
}

const (
	// idleAfter is how long a workload may not run until its part is for others.
	idleAfter = 10 * time.Second
	// samePart is by how much a part may move before it is set anew, if it is not at
	// the others' cost: models that learn would move it a little all the time.
	samePart = 0.06
)

// division is what it takes to divide a device: it is used again and again.
type division struct {
	courses []*course
	demands []demand
	parts   []int64
	open    []int
	fits    []int
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
	d, total, now, own, others := &g.division, budget, g.o.Clock(), 0, int64(0)
	d.courses = d.courses[:0]
	for _, o := range g.workloads {
		switch {
		case o == w:
			own = len(d.courses)
			d.courses = append(d.courses, c)
		case o.o.Device == w.o.Device && o.recent != nil && now.Sub(o.lastUsed) <= idleAfter:
			total += o.held
			others += o.part
			d.courses = append(d.courses, o.recent)
		}
	}
	if len(d.courses) <= 1 {
		w.part = 0
		return budget
	}
	total = max(total, 0)
	d.demand(total)
	d.divide(total)
	d.round(total)
	part, least := d.parts[own], d.demands[own].least
	moved := math.Abs(float64(part-w.part)) > samePart*float64(w.part)
	if moved || w.part < least || w.part > total-others {
		w.part = part
	}
	return w.within(budget)
}

// within is what is left of a budget beside the parts of others, as they were when the
// workload was last asked. It needs the lock.
func (w *Workload) within(budget int64) int64 {
	if w.part == 0 || budget > anyMemory {
		return budget
	}
	return min(w.part, budget)
}

// demand finds what each course wants of so many bytes.
func (d *division) demand(total int64) {
	d.demands = d.demands[:0]
	var sum float64
	known := 0
	for _, c := range d.courses {
		m := c.models
		want := demand{least: m.cost.Bytes(1), most: total}
		if m.cost.Known() && m.speed.Sizes() > 1 {
			enough := m.speed.Enough(nearly, max(m.cost.Fits(total, mostItems), 1))
			want.most = max(m.cost.Bytes(enough), want.least)
			want.weight = math.Sqrt(max(m.speed.t0, m.speed.t1/100) * max(m.cost.line.s, 1))
			sum += want.weight
			known++
		} else {
			want.probe = m.cost.Bytes(2 * max(m.speed.Largest(), 1))
		}
		d.demands = append(d.demands, want)
	}
	for i := range d.demands { // who is not known yet is like the others
		if d.demands[i].weight == 0 {
			d.demands[i].weight = max(sum/float64(max(known, 1)), 1)
		}
	}
}

// divide gives everybody the least, in turn while there is some, then what it takes to
// learn more, and what is left by weight, up to the most. What is left then is for
// everybody alike.
func (d *division) divide(total int64) {
	d.parts, d.open = d.parts[:0], d.open[:0]
	left := total
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
			sum += d.demands[i].weight
		}
		share := float64(left) / sum
		before := len(d.open)
		d.open = slices.DeleteFunc(d.open, func(i int) bool {
			more := d.demands[i].most - d.parts[i]
			if share*d.demands[i].weight < float64(more) {
				return false
			}
			more = min(max(more, 0), left)
			d.parts[i] += more
			left -= more
			return true
		})
		if len(d.open) == before { // nobody's share is more than it wants
			for _, i := range d.open {
				d.parts[i] += int64(share * d.demands[i].weight)
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
func (d *division) round(total int64) {
	d.fits = d.fits[:0]
	left := total
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
			if d.fits[i] == 0 || more <= d.parts[i] {
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
