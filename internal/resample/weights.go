package resample

import (
	"math"

	"github.com/disintegration/imaging"
)

// A tap says what a new sample is made of: old samples from first on, each with
// its weight. The weights are fixed-point numbers that add up to about one.
type tap struct {
	first   int
	weights []int64
}

// tapBytes is the size of a tap without its weights.
const tapBytes = 32

// taps returns those of all new samples along a side that goes from src to dst
// samples, with weights of that many bits after the point. Where the side keeps
// its length, each new sample is the old one.
func taps(src, dst int, f imaging.ResampleFilter, bits int) []tap {
	out := make([]tap, dst)
	one := float64(int64(1) << bits)
	if src == dst {
		same := []int64{int64(one)}
		for i := range out {
			out[i] = tap{i, same}
		}
		return out
	}
	scale := float64(src) / float64(dst)
	stretch := max(1, scale)
	reach := f.Support * stretch
	n := span(src, dst, f)
	all := make([]int64, 0, n*dst)
	w := make([]float64, n)
	for i := range out {
		centre := (float64(i) + 0.5) * scale
		first := max(0, int(centre-reach+0.5))
		end := min(src, int(centre+reach+0.5))
		w = w[:end-first]
		var sum float64
		for j := range w {
			w[j] = f.Kernel((float64(first+j) - centre + 0.5) / stretch)
			sum += w[j]
		}
		at := len(all)
		all = appendRounded(all, w, one/sum)
		out[i] = tap{first, all[at:len(all):len(all)]}
	}
	return out
}

// appendRounded appends the weights w, times scale, rounded. Each is rounded by
// itself, as Pillow does, unless there are so many that the errors could add up
// to half a level of 8 bits: then they are carried on, and white stays white.
func appendRounded(all []int64, w []float64, scale float64) []int64 {
	const many = 1 << 13
	if len(w) <= many {
		for _, v := range w {
			all = append(all, int64(math.Round(v*scale)))
		}
		return all
	}
	var sum float64
	var done int64
	for _, v := range w {
		sum += v * scale
		r := int64(math.Round(sum)) - done
		all = append(all, r)
		done += r
	}
	return all
}

// span is how many old samples a new one is made of at most.
func span(src, dst int, f imaging.ResampleFilter) int {
	if src == dst {
		return 1
	}
	return min(src, 2*int(math.Ceil(f.Support*max(1, float64(src)/float64(dst))))+1)
}
