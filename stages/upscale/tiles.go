package upscale

// tiling is how pictures are cut into tiles: all of one size, in source pixels.
type tiling struct {
	tile int // the length of a tile's sides
	// fixed says that the network takes no other size: smaller pictures get a border.
	fixed bool
	// multiple is what the sides that the network gets are multiples of, and the places of
	// tiles: a network that works on blocks of pixels sees the same blocks in each tile.
	multiple int
	// overlap is what a tile has beyond its own part on each side that has a neighbour.
	overlap int
	// ramp is over how many pixels neighbours pass into each other; 0: what they make of
	// the pixels where they meet is the same.
	ramp int
}

// piece is a tile along one side of a picture, in source pixels.
type piece struct {
	at, size int // what the network gets: it may reach beyond the picture
	from, to int // what is shown of it
	in, out  int // of these, the pixels at both ends that a neighbour shows too
}

// newTiling decides how neighbours meet. A network that looks as far as reach pixels sees
// in an overlap that is no smaller all that it sees in the whole picture, and they meet
// in its middle. Where it looks farther, what it lacks falls off quickly with the distance
// to the border of a tile, so that a short ramp around the middle gives the least steps;
// where it looks at all (reach is negative) it lacks the same everywhere, and a long ramp
// does.
func newTiling(tile, overlap, multiple, reach int, fixed bool) tiling {
	t := tiling{tile: tile, fixed: fixed, multiple: multiple, overlap: overlap}
	// The last tile is shifted, and the two places where it and the one before meet their
	// neighbours are as close to each other as half a stride.
	switch {
	case reach < 0:
		t.ramp = min(overlap, t.stride()/2)
	case overlap < reach:
		t.ramp = min((overlap+1)/2, t.stride()/2)
	}
	return t
}

// stride is the distance of tiles.
func (t tiling) stride() int {
	return max((t.tile-2*t.overlap)/t.multiple*t.multiple, t.multiple)
}

// up is the least multiple of m that is no less than n.
func up(n, m int) int { return (n + m - 1) / m * m }

// side is how long the side of a picture is for the network.
func (t tiling) side(n int) int {
	n = up(n, t.multiple)
	if t.fixed {
		n = max(n, t.tile)
	}
	return n
}

// pieces cuts a side of n pixels. The last tile ends where the side does, as the network's
// own border is to be where it is for the whole picture.
func (t tiling) pieces(n int) []piece {
	whole := t.side(n)
	if whole <= t.tile {
		return []piece{{size: whole, to: n}}
	}
	var all []piece
	for at := 0; ; at += t.stride() {
		at = min(at, whole-t.tile)
		all = append(all, piece{at: at, size: t.tile, from: at, to: min(at+t.tile, n)})
		if at == whole-t.tile {
			break
		}
	}
	for i := range all[1:] {
		a, b := &all[i], &all[i+1]
		middle := (b.at + a.at + t.tile) / 2
		b.from = middle - t.ramp/2
		a.to = b.from + t.ramp
		a.out, b.in = t.ramp, t.ramp
	}
	return all
}

// share is how much of the work on a picture of that size is done more than once, from 0
// to 1.
func (t tiling) share(width, height int) float64 {
	work := func(n int) (sum float64) {
		for _, p := range t.pieces(n) {
			sum += float64(p.size)
		}
		return sum
	}
	return 1 - float64(width)*float64(height)/(work(width)*work(height))
}
