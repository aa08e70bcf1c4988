package score

import "math"

var entropy = metric{
	name: "entropy",
	doc: "Shannon entropy (Shannon 1948) in bits of the histogram of the gray image, rounded to whole levels: 256 bins. " +
		"0 for a flat image, at most 8 when all levels are equally frequent; photographs lie about 6 to 7.8. It sees which levels there are and not where.",
	begin: func(p picture) (gauge, error) { return &entropyGauge{p: p}, nil },
}

type entropyGauge struct {
	p         picture
	histogram [256]int64
}

func (g *entropyGauge) row(r *rows) {
	level := g.p.level()
	for _, v := range r.here {
		g.histogram[rounded(v, level)]++
	}
}

func (g *entropyGauge) value() float64 {
	var bits float64
	for _, n := range g.histogram {
		if n > 0 {
			share := float64(n) / g.p.area()
			bits -= float64(share * math.Log2(share))
		}
	}
	return max(bits, 0) // and not -0
}

// rounded is a luma in whole levels, 0 to 255; halves go up.
func rounded(luma int32, level float64) uint8 { return uint8(float64(luma)/level + 0.5) }
