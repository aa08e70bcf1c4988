package memory

import (
	"math"
	"slices"
)

// suspect looks for growth, and tells the noise that it stands out of, and whether
// it is so even and so much that it is hardly anything else than a leak.
func suspect(seen []observation, noise float64) (s Suspicion, sigma float64, strong bool) {
	n := float64(len(seen))
	// Most sound chains end here, at little cost.
	if rises(seen) < leastTrend*math.Sqrt(n*(n-1)*(2*n+5)/18) {
		return Suspicion{}, 0, false
	}
	rate := slope(seen)
	residuals, floors := make([]float64, len(seen)), make([]float64, len(seen))
	for i, o := range seen {
		residuals[i], floors[i] = o.floor-rate*o.batches, o.floor
	}
	middle := median(residuals)
	for i := range residuals {
		residuals[i] = math.Abs(residuals[i] - middle)
	}
	// The deviation of uniform noise is 0.58 of its bound. 1.48 makes the median
	// deviation that of a normal distribution; two degrees of freedom are spent. Of
	// a few residuals it scatters itself, so that it weighs what they weigh.
	expected, found := 0.6*noise, 1.4826*median(residuals)*math.Sqrt(n/(n-2))
	sigma = max(expected, math.Sqrt((priorWeight*expected*expected+n*found*found)/(priorWeight+n)))

	span := seen[len(seen)-1].batches - seen[0].batches
	growth := rate * span
	least := max(leastGrowth, 0.01*median(floors), trendSigmas*sigma*span/spread(seen))
	if growth < least {
		return Suspicion{}, 0, false
	}
	line, step, level := fits(seen)
	if 2*step < line || flattens(seen, noise) {
		return Suspicion{}, 0, false
	}
	strong = growth >= max(strongGrowth*least, strongSigmas*sigma*span/spread(seen)) && line <= (1-strongFit)*level
	if strong {
		// Most of what is left is that the stages did not all get on alike, and no
		// noise when one runs alone.
		sigma = min(sigma, strongNoise*expected)
	}
	return Suspicion{BytesPerBatch: max(int64(rate), 1), Growth: int64(growth), Cleanups: len(seen)}, sigma, strong
}

// rises is Mann and Kendall's S, the rising pairs less the falling.
func rises(seen []observation) (s float64) {
	for i, a := range seen {
		for _, b := range seen[i+1:] {
			switch {
			case b.floor > a.floor:
				s++
			case b.floor < a.floor:
				s--
			}
		}
	}
	return s
}

// slope is Theil and Sen's, the median over all pairs: a quarter of the points
// may lie anywhere.
func slope(seen []observation) float64 {
	var all []float64
	for i, a := range seen {
		for _, b := range seen[i+1:] {
			all = append(all, (b.floor-a.floor)/(b.batches-a.batches))
		}
	}
	return median(all)
}

// spread is the root of the summed squares of the distances of the batches from
// their mean: noise over it is the error of a slope.
func spread(seen []observation) float64 {
	var mean, sum float64
	for _, o := range seen {
		mean += o.batches / float64(len(seen))
	}
	for _, o := range seen {
		sum += (o.batches - mean) * (o.batches - mean)
	}
	return math.Sqrt(sum)
}

// fits tells what the best line, the best two levels, and one level leave of the
// floors: the summed squares of the distances.
func fits(seen []observation) (line, step, level float64) {
	floors := make([]float64, len(seen))
	for i, o := range seen {
		floors[i] = o.floor
	}
	step, level = math.Inf(1), squares(floors)
	for i := 1; i < len(seen); i++ {
		step = min(step, squares(floors[:i])+squares(floors[i:]))
	}
	mean := 0.0
	for _, f := range floors {
		mean += f / float64(len(floors))
	}
	var xy float64
	for _, o := range seen {
		xy += o.batches * (o.floor - mean)
	}
	explained := xy / spread(seen)
	return level - explained*explained, step, level
}

// squares sums the squared distances from the mean.
func squares(v []float64) float64 {
	var mean, sum float64
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		sum += (x - mean) * (x - mean)
	}
	return sum
}

// flattens tells whether growth is clearly slower at the end than on the whole:
// it is where caches warm up. It fits a parabola, of which p is the part that is
// no line.
func flattens(seen []observation, noise float64) bool {
	n := float64(len(seen))
	var x, y float64
	for _, o := range seen {
		x += o.batches / n
		y += o.floor / n
	}
	var u2, u3, uy float64
	for _, o := range seen {
		u := o.batches - x
		u2 += u * u
		u3 += u * u * u
		uy += u * o.floor
	}
	var pp, py float64
	for _, o := range seen {
		u := o.batches - x
		p := u*u - u*u3/u2 - u2/n
		pp += p * p
		py += p * o.floor
	}
	rate, bend := uy/u2, py/pp
	var left float64
	for _, o := range seen {
		u := o.batches - x
		d := o.floor - y - rate*u - bend*(u*u-u*u3/u2-u2/n)
		left += d * d
	}
	sigma := max(0.6*noise, math.Sqrt(left/(n-3)))
	end := seen[len(seen)-1].batches - x
	return bend+2*sigma/math.Sqrt(pp) < 0 && rate+bend*(2*end-u3/u2) < flattened*rate
}

func median(v []float64) float64 {
	sorted := slices.Clone(v)
	slices.Sort(sorted)
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
