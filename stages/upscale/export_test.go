package upscale

// Cut is how a side of n pixels is cut into tiles of that length, or of those that are best
// in so much room where it is 0, with that overlap, or one of the stage's own choice where it
// is -1: for each where it begins in what the network gets and how long it is there, what is
// shown of it, and how much of that at both ends its neighbours show too.
func Cut(n, tile, overlap, multiple, reach, step int, room int64) (pieces [][6]int, length, overlaps int) {
	t, _ := plan{tile: tile, overlap: overlap, multiple: multiple, reach: reach, bytes: 1, step: step}.tilings(room)
	for _, p := range t.of(n).pieces(n) {
		pieces = append(pieces, [6]int{p.at, p.size, p.from, p.to, p.in, p.out})
	}
	return pieces, t.tile, t.overlap
}
