package score

import (
	"fmt"
	"math"
)

var noise = metric{
	name: "noise",
	doc: "standard deviation of the noise in levels of gray, estimated as in Immerkaer, Fast Noise Variance Estimation, 1996: sqrt(pi/2) / (6 (w-2) (h-2)) times the sum of |response| to the mask 1 -2 1, -2 4 -2, 1 -2 1 over all pixels with 8 neighbours. " +
		"0 for a flat image or an even gradient; Gaussian noise of standard deviation s gives about s. Thin lines and fine texture count as noise: clean photographs read about 1 to 4. An image with a side below 3 px fails.",
	begin: func(p picture) (gauge, error) {
		if p.width < 3 || p.height < 3 {
			return nil, fmt.Errorf("noise needs at least 3 x 3 pixels and the picture has %d x %d: reject small pictures before score", p.width, p.height)
		}
		return &noiseGauge{p: p}, nil
	},
}

type noiseGauge struct {
	p   picture
	sum int64
}

func (g *noiseGauge) row(r *rows) {
	if r.y == 0 || r.y == g.p.height-1 {
		return
	}
	n := len(r.here)
	above, here, below := r.above[:n], r.here[:n], r.below[:n]
	// The mask is the second difference of the columns' second differences.
	a := above[0] - 2*here[0] + below[0]
	b := above[1] - 2*here[1] + below[1]
	for x := 2; x < n; x++ {
		c := above[x] - 2*here[x] + below[x]
		d := a - 2*b + c
		g.sum += int64(max(d, -d))
		a, b = b, c
	}
}

func (g *noiseGauge) value() float64 {
	inner := float64(g.p.width-2) * float64(g.p.height-2)
	return math.Sqrt(math.Pi/2) * float64(g.sum) / (6 * inner * g.p.level())
}
