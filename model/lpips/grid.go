package lpips

import "math"

// gridSide is how many cells a grid has in each direction. Of 1,770 pairs of photographs,
// versions and parts of them, seen by VGG-16 at 224 pixels, 3.7% were within 0.2; grids
// with 4, 6 and 8 cells left 4.29%, 4.12% and 4.07% to be measured, the last of these all
// of one photograph. A run of the network costs more than the 0.7 MB that 8 cells take.
const gridSide = 8

// A layer is a part of a vector: numbers of side x side places for each of its channels.
type layer struct{ channels, side int }

// layersOf are those of a network's vector for pictures of size x size pixels; nil for a
// network that is not known. details are what package arch says of it.
func layersOf(details string, size int) []layer {
	switch details {
	case "VGG-16":
		return []layer{{64, size}, {128, size / 2}, {256, size / 4}, {512, size / 8}, {512, size / 16}}
	case "AlexNet":
		first := (size+2*2-11)/4 + 1 // a stride of 4, a border of 2
		second := (first-3)/2 + 1
		third := (second-3)/2 + 1
		return []layer{{64, first}, {192, second}, {384, third}, {256, third}, {256, third}}
	}
	return nil
}

// numbersOf is how long a vector of these layers is.
func numbersOf(layers []layer) (n int) {
	for _, l := range layers {
		n += l.channels * l.side * l.side
	}
	return n
}

// gridNumbers is how long the grid of such a vector is.
func gridNumbers(layers []layer) (n int) {
	for _, l := range layers {
		side := min(l.side, gridSide)
		n += 2 * l.channels * side * side
	}
	return n
}

// grid fills dst, of gridNumbers, with what bounds a distance from below, as PooledOutput
// does and more tightly: each channel of each layer is divided into cells, of which two
// numbers are taken: the sum, over the root of the number of places, and the length of
// what is left without the mean. See arch for why it is a bound.
func grid(dst, vector []float32, layers []layer) {
	at := 0
	for _, l := range layers {
		side := min(l.side, gridSide)
		for range l.channels {
			channel := vector[:l.side*l.side]
			vector = vector[len(channel):]
			for y := range side {
				y0, y1 := y*l.side/side, (y+1)*l.side/side
				for x := range side {
					x0, x1 := x*l.side/side, (x+1)*l.side/side
					dst[at], dst[at+1] = cell(channel, l.side, x0, y0, x1, y1)
					at += 2
				}
			}
		}
	}
}

// cell takes the two numbers of a part of a channel that has rows of so many places.
func cell(channel []float32, row, x0, y0, x1, y1 int) (sum, rest float32) {
	var s, r float64
	for y := y0; y < y1; y++ {
		for _, v := range channel[y*row+x0 : y*row+x1] {
			s += float64(v)
		}
	}
	places := float64((x1 - x0) * (y1 - y0))
	mean := s / places
	for y := y0; y < y1; y++ {
		for _, v := range channel[y*row+x0 : y*row+x1] {
			d := float64(v) - mean
			r += float64(d * d)
		}
	}
	return float32(s / math.Sqrt(places)), float32(math.Sqrt(r))
}
