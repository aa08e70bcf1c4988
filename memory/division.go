package memory

import (
	"math"
	"slices"
	"time"
)

// demand is what one of several networks wants of a device.
type demand struct {
	least  int64   // bytes of one item: it has them in any case
	most   int64   // bytes beyond which more would hardly be faster
	weight float64 // how it shares in what is left
}

const (
	// idleAfter is how long a workload may not run until its part is for others.
	idleAfter = 10 * time.Second
	// samePart is by how much a part may move before it is set anew: models that
	// learn would move it a little all the time.
	samePart = 0.06
)

// partOf is what a workload may have of a budget that it could have beside what the
// others on its device hold now. It needs the lock.
//
// The runs of networks on one device come one after the other, each with its own
// start-up time t0. The sum of t0/b over all of them is least, for a sum of s·b, where
// b grows with the root of t0/s, and thus the bytes with the root of t0·s.
func (g *Governor) partOf(w *Workload, c *course, budget int64) int64 {
	if budget > math.MaxInt64/4 {
		return budget
	}
	total, now := budget, g.o.Clock()
	demands := []demand{{}}
	courses := []*course{c}
	for _, o := range g.workloads {
		if o == w || o.o.Device != w.o.Device || o.recent == nil || now.Sub(o.lastRun) > idleAfter {
			continue
		}
		total += o.held
		courses = append(courses, o.recent)
		demands = append(demands, demand{})
	}
	if len(courses) == 1 {
		w.part = 0
		return budget
	}
	var sum float64
	known := 0
	for i, c := range courses {
		m := c.models
		demands[i] = demand{least: m.cost.Bytes(1), most: total}
		if m.cost.Known() && m.speed.Sizes() > 1 {
			demands[i].most = max(m.cost.Bytes(m.speed.Enough(nearly, max(m.cost.Fits(total, mostItems), 1))), demands[i].least)
			demands[i].weight = math.Sqrt(max(m.speed.t0, m.speed.t1/100) * max(m.cost.line.s, 1))
			sum += demands[i].weight
			known++
		}
	}
	for i := range demands { // who is not known yet is like the others
		if demands[i].weight == 0 {
			demands[i].weight = max(sum/float64(max(known, 1)), 1)
		}
	}
	part := divide(max(total, 0), demands)[0]
	if d := part - w.part; w.part == 0 || math.Abs(float64(d)) > samePart*float64(w.part) {
		w.part = part
	}
	return min(w.part, budget)
}

// divide gives everybody the least, and what is left by weight, up to the most. What
// is left then is for everybody.
func divide(total int64, demands []demand) []int64 {
	parts := make([]int64, len(demands))
	left := total
	for i, d := range demands {
		parts[i] = min(d.least, left)
		left -= parts[i]
	}
	open := make([]int, len(demands))
	for i := range open {
		open[i] = i
	}
	for left > 0 && len(open) > 0 {
		var sum float64
		for _, i := range open {
			sum += demands[i].weight
		}
		given := left
		full := slices.DeleteFunc(slices.Clone(open), func(i int) bool {
			return float64(parts[i])+float64(given)*demands[i].weight/sum < float64(demands[i].most)
		})
		if len(full) == 0 {
			for _, i := range open {
				parts[i] += int64(float64(given) * demands[i].weight / sum)
			}
			return parts
		}
		for _, i := range full {
			more := max(min(demands[i].most-parts[i], left), 0)
			parts[i] += more
			left -= more
		}
		open = slices.DeleteFunc(open, func(i int) bool { return slices.Contains(full, i) })
	}
	// Nobody wants more: then nobody need be kept from it.
	for i := range parts {
		parts[i] += left
	}
	return parts
}
