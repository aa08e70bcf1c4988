package main

import (
	"fmt"
	"image"
	"slices"
)

// tiling is how forgepipe cuts pictures; package upscale says why.
type tiling struct {
	tile, overlap int
	batch         int // small pictures in a run, at most
}

// sides are the lengths of the tiles along a side of n pixels: as few as there can be, and
// as short as they can be then.
func (t tiling) sides(n int) []int {
	if n <= t.tile {
		return []int{n}
	}
	count := up(n-2*t.overlap, t.tile-2*t.overlap)
	shortest := up(n+2*t.overlap*(count-1), count)
	return slices.Repeat([]int{min(step*up(shortest, step), t.tile)}, count)
}

// step is what shorter tiles are multiples of.
const step = 8

// up is a quotient, rounded up.
func up(n, by int) int { return (n + by - 1) / by }

// tiles are those of one picture.
func (t *task) tiles() (all []image.Point) {
	for _, y := range t.tiling.sides(t.size.Y) {
		for _, x := range t.tiling.sides(t.size.X) {
			all = append(all, image.Pt(x, y))
		}
	}
	return all
}

// share is how much of a picture's work is done more than once.
func (t *task) share() float64 {
	work := 0
	for _, p := range t.tiles() {
		work += p.X * p.Y
	}
	return 1 - float64(t.size.X*t.size.Y)/float64(work)
}

// runs are those of the network for all pictures, for the bare runtime: "NxHxW" each,
// and how often that is to be run. Small pictures come in batches as forgepipe's.
func (t *task) runs() []string {
	tiles := t.tiles()
	if len(tiles) > 1 || t.tiling.batch == 1 {
		count := map[image.Point]int{}
		for _, p := range tiles {
			count[p] += t.n
		}
		var all []string
		for p, n := range count {
			all = append(all, fmt.Sprintf("%dx1x%dx%d", n, p.Y, p.X))
		}
		return all
	}
	batch, p := t.tiling.batch, tiles[0]
	all := []string{fmt.Sprintf("%dx%dx%dx%d", t.n/batch, batch, p.Y, p.X)}
	if rest := t.n % batch; rest > 0 {
		all = append(all, fmt.Sprintf("1x%dx%dx%d", rest, p.Y, p.X))
	}
	return all
}
