package score

var brightness = metric{
	name:  "brightness",
	doc:   "mean of the gray image's pixels. 0 for black, 255 for white.",
	begin: func(p picture) (gauge, error) { return &brightnessGauge{p: p}, nil },
}

type brightnessGauge struct {
	p   picture
	sum int64
}

func (g *brightnessGauge) row(r *rows) {
	for _, v := range r.here {
		g.sum += int64(v)
	}
}

func (g *brightnessGauge) value() float64 { return float64(g.sum) / (g.p.level() * g.p.area()) }
