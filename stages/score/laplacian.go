package score

var laplacian = metric{
	name: "laplacian",
	doc: "mean absolute response of the 4-neighbour Laplacian, |4c-l-r-t-b| over all pixels of the gray image, whose border is replicated. " +
		"0 for a flat image, at most 1020 for a checkerboard; tiles of photographs lie between about 1 (sky, out of focus) and 40 (water, foliage). Noise counts as detail.",
	begin: func(p picture) (gauge, error) { return &laplacianGauge{p: p}, nil },
}

type laplacianGauge struct {
	p   picture
	sum int64
}

func (g *laplacianGauge) row(r *rows) {
	for _, d := range r.laplacian() {
		g.sum += int64(max(d, -d))
	}
}

func (g *laplacianGauge) value() float64 { return float64(g.sum) / (g.p.level() * g.p.area()) }
