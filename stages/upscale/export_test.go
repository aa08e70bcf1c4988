package upscale

// Cut is how a side of n pixels is cut into tiles: for each where it begins in what the
// network gets and how long it is there, what is shown of it, and how much of that at both
// ends its neighbours show too.
func Cut(n, tile, overlap, multiple, reach, step int) (pieces [][6]int) {
	t := newTiling(tile, overlap, multiple, reach, false)
	t.step = step
	for _, p := range t.of(n).pieces(n) {
		pieces = append(pieces, [6]int{p.at, p.size, p.from, p.to, p.in, p.out})
	}
	return pieces
}
