package score

import "math"

var contrast = metric{
	name: "contrast",
	doc: "RMS contrast (Peli 1990, not divided by the range): the standard deviation of the gray image's pixels, the sum of squares divided by their number. " +
		"0 for a flat image, at most 127.5 for half black and half white; photographs lie about 30 to 80.",
	begin: func(p picture) (gauge, error) { return &contrastGauge{p: p}, nil },
}

type contrastGauge struct {
	p picture
	m moments
}

func (g *contrastGauge) row(r *rows) { g.m.add(r.here) }

func (g *contrastGauge) value() float64 { return math.Sqrt(g.m.variance()) / g.p.level() }
