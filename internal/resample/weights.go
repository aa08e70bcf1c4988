package resample

import (
	"math"
	"reflect"
	"sync"

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

// An axis is one side of a picture of src samples, of which the part from from
// on, length long, becomes dst samples.
type axis struct {
	src, dst     int
	from, length float64
}

// kept reports whether each new sample is an old one, and which is the first.
func (a axis) kept() (first int, ok bool) {
	first = int(a.from)
	return first, a.length == float64(a.dst) && a.from == float64(first)
}

// middle is the old sample at the centre of the new sample i.
func (a axis) middle(i int) int {
	return min(int(a.from+float64(2*i+1)*a.length/float64(2*a.dst)), a.src-1)
}

// taps returns those of all new samples, with weights of that many bits after
// the point. Where the side keeps its length, each new sample is the old one. They are
// not to be written to.
func (a axis) taps(f imaging.ResampleFilter, bits int) []tap {
	if a.dst*(a.span(f)*8+tapBytes) > keptTapBytes {
		return a.tapsOf(f, bits, 0, a.dst)
	}
	kernel := reflect.ValueOf(f.Kernel).Pointer()
	if !kernels[kernel] {
		return a.tapsOf(f, bits, 0, a.dst)
	}
	key := tapKey{a, kernel, f.Support, bits}
	recent.Lock()
	t, ok := recent.taps[key]
	recent.Unlock()
	if ok {
		return t
	}
	t = a.tapsOf(f, bits, 0, a.dst)
	recent.Lock()
	defer recent.Unlock()
	if len(recent.taps) >= mostKeptTaps {
		clear(recent.taps)
	}
	recent.taps[key] = t
	return t
}

// Taps are kept for the next pictures, which often have the same size: for small results
// they take as long as a tenth of the rest.
const (
	keptTapBytes = 64 << 10 // of one
	mostKeptTaps = 64
)

type tapKey struct {
	axis
	kernel  uintptr
	support float64
	bits    int
}

var recent = struct {
	sync.Mutex
	taps map[tapKey][]tap
}{taps: map[tapKey][]tap{}}

// kernels are the functions of the named filters. They have no variables of their own, so
// that their code tells them apart, which of other functions cannot be said.
var kernels = func() map[uintptr]bool {
	all := map[uintptr]bool{}
	for _, f := range filters {
		if f.filter.Kernel != nil {
			all[reflect.ValueOf(f.filter.Kernel).Pointer()] = true
		}
	}
	return all
}()

// tapsOf returns those of the new samples from begin up to end.
func (a axis) tapsOf(f imaging.ResampleFilter, bits, begin, end int) []tap {
	out := make([]tap, end-begin)
	one := float64(int64(1) << bits)
	if first, ok := a.kept(); ok {
		same := []int64{int64(one)}
		for i := range out {
			out[i] = tap{first + begin + i, same}
		}
		return out
	}
	scale := a.length / float64(a.dst)
	stretch := max(1, scale)
	reach := f.Support * stretch
	n := a.span(f)
	all := make([]int64, 0, n*len(out))
	w := make([]float64, n)
	for i := range out {
		centre := a.from + (float64(begin+i)+0.5)*scale
		first := max(0, int(centre-reach+0.5))
		end := min(a.src, int(centre+reach+0.5))
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
func (a axis) span(f imaging.ResampleFilter) int {
	if _, ok := a.kept(); ok {
		return 1
	}
	return min(a.src, 2*int(math.Ceil(f.Support*max(1, a.length/float64(a.dst))))+1)
}
