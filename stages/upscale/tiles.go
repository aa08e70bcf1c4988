package upscale

// tiling is how a side of pictures is cut into tiles, in source pixels.
type tiling struct {
	tile int // how long the tiles are
	// step is what tiles may be multiples of that are shorter, where that is less work on a
	// picture; 0: all are as long, so that those of all pictures share batches.
	step int
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
	t := tiling{tile: tile, fixed: fixed, multiple: multiple, overlap: overlap, ramp: overlap}
	switch {
	case reach < 0:
	case overlap < reach:
		t.ramp = (overlap + 1) / 2
	default:
		t.ramp = 0
	}
	t.ramp = min(t.ramp, t.mostRamp())
	return t
}

// mostRamp is how wide ramps can be.
func (t tiling) mostRamp() int {
	// The last tile is shifted, and the two places where it and the one before meet their
	// neighbours are as close to each other as half a stride.
	return t.stride() / 2
}

// of is how a side of n pixels is cut: into as few tiles, which are as short as they can
// be then.
func (t tiling) of(n int) tiling {
	whole := t.side(n)
	if t.step == 0 || t.fixed || whole <= t.tile {
		return t
	}
	count := (whole - 2*t.overlap + t.stride() - 1) / t.stride()
	long := (whole + 2*t.overlap*(count-1) + count - 1) / count
	t.tile = min(up(long, lcm(t.step, t.multiple)), t.tile)
	t.ramp = min(t.ramp, t.mostRamp())
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

// pieces cuts a side of n pixels, which t is of. The last tile ends where the side does, as the network's
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
