package sheet

// For tests of what cannot be seen in pictures alone.
var (
	Shown   = shown
	LevelOf = levelOf
)

// Shortened is a name as it is written above a picture, in letters of the usual size.
func Shortened(text string, width int) (string, error) {
	p, err := newPen(0)
	if err != nil {
		return "", err
	}
	return p.shortened(p.regular, text, width), nil
}

// Scale is where the scale of a map ends that has so many pixels of each difference.
func Scale(counts map[uint16]uint64) (end float64, over bool) {
	var all [1 << 16]uint64
	for d, n := range counts {
		all[d] = n
	}
	h := &heat{}
	h.fit(&all)
	return float64(h.scale) / level, h.over
}
