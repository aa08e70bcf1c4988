package upscale

import "image"

const (
	// leastTile is the smallest tile, and defaultTile what a tile has at least where
	// memory allows it. Larger ones, up to mostTile, are for networks that look far.
	leastTile   = 32
	defaultTile = 256
	mostTile    = 1024
	// tileStep is what tiles of the stage's own choice are multiples of.
	tileStep = 64
	// mostOverlap is the overlap for networks that look farther. What they see beyond it
	// hardly counts, as a pixel's influence falls off much faster than the reach of a
	// network of many layers grows (Luo et al. 2016).
	mostOverlap = 32
	// overlapsInTile is how many times the overlap a tile is wide, where memory allows it:
	// 15 % of the work on a large picture are done twice then.
	overlapsInTile = 25
	// pictureStep is what the tiles of one picture are multiples of where they need not be
	// like those of others: that takes no longer per pixel.
	pictureStep = 8
	// leastShare is the part of a tile, as its inverse, that an overlap of the stage's own
	// choice has at most.
	leastShare = 4
)

// plan is what decides about tiles.
type plan struct {
	tile, overlap int         // that were asked for; 0 and -1: none
	fixed         image.Point // the size that the network takes; zero: any
	multiple      int         // of its sides
	reach         int         // in pixels; -1: it cannot be told
	bytes         int64       // that a run takes for each pixel of a tile
	step          int         // of the tiles of one picture, see tiling
}

// overlapOf is the overlap of tiles of that length.
func (p plan) overlapOf(tile int) int {
	switch {
	case p.overlap >= 0:
		return p.overlap
	case p.reach >= 0:
		return min(p.reach, mostOverlap, tile/leastShare)
	}
	return min(mostOverlap, tile/leastShare)
}

// length is that of the tiles that are best where a run may take so many bytes.
func (p plan) length(room int64) int {
	if p.tile > 0 {
		return up(p.tile, p.multiple)
	}
	best := up(min(max(overlapsInTile*p.overlapOf(mostTile), defaultTile), mostTile), tileStep)
	for best > tileStep && int64(best)*int64(best)*p.bytes > room {
		best -= tileStep
	}
	// With an overlap that was asked for, a tile needs a part of its own, which is a
	// multiple: neighbours overlap by less otherwise.
	best = up(max(best, 4*p.overlapOf(best)), p.multiple)
	return max(best, up(2*p.overlapOf(best), p.multiple)+p.multiple)
}

// tilings cuts both sides.
func (p plan) tilings(room int64) (across, down tiling) {
	one := func(fixed int) tiling {
		tile := fixed
		if fixed == 0 {
			tile = p.length(room)
		}
		t := newTiling(tile, p.overlapOf(tile), p.multiple, p.reach, fixed > 0)
		t.step = p.step
		return t
	}
	return one(p.fixed.X), one(p.fixed.Y)
}
