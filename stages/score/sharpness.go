package score

var sharpness = metric{
	name: "sharpness",
	doc: "variance of the 4-neighbour Laplacian, 4c-l-r-t-b, over all pixels of the gray image, whose border is replicated (Pech-Pacheco et al. 2000; what fastdup calls blur and OpenCV users write as cv2.Laplacian(gray, cv2.CV_64F).var(), there of rounded gray and with a mirrored border). " +
		"0 for a flat image; below about 100 a photograph is taken to be blurred. Squares weigh strong edges higher than laplacian does, and noise counts as sharpness.",
	begin: func(p picture) (gauge, error) { return &sharpnessGauge{p: p}, nil },
}

type sharpnessGauge struct {
	p picture
	m moments
}

func (g *sharpnessGauge) row(r *rows) { g.m.add(r.laplacian()) }

func (g *sharpnessGauge) value() float64 {
	return g.m.variance() / (g.p.level() * g.p.level())
}
