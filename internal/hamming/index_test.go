package hamming_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/forgepipe/forgepipe/internal/hamming"
)

func random(r *rand.Rand, size int) []byte {
	h := make([]byte, 0, size)
	for len(h) < size {
		h = binary.NativeEndian.AppendUint64(h, r.Uint64())
	}
	return h
}

// near is h with n bits changed, some of them perhaps back again.
func near(r *rand.Rand, h []byte, n int) []byte {
	out := bytes.Clone(h)
	for range n {
		i := r.IntN(8 * len(h))
		out[i/8] ^= 1 << (i % 8)
	}
	return out
}

// A crowd holds hashes to compare with all of them. That is most of what these
// tests do, and in loops without a word from the race detector, which they do
// not need.
type crowd struct {
	stride int // words of a hash
	words  []uint64
}

func (c *crowd) add(hash []byte) {
	c.words, c.stride = append(c.words, split(hash)...), len(hash)/8
}

func (c *crowd) len() int { return len(c.words) / max(1, c.stride) }

func split(hash []byte) (words []uint64) {
	for i := 0; i < len(hash); i += 8 {
		words = append(words, binary.NativeEndian.Uint64(hash[i:]))
	}
	return words
}

// answer is what Nearest returns.
type answer struct {
	i, distance int
	ok          bool
}

// nearest is the answer by comparing with all.
//
//go:norace
func (c *crowd) nearest(hash []byte, limit int) (a answer) {
	h := split(hash)
	for i := 0; i < len(c.words); i += c.stride {
		d := 0
		for k, w := range h {
			d += bits.OnesCount64(w ^ c.words[i+k])
		}
		if d <= limit && (!a.ok || d < a.distance) {
			a = answer{i / c.stride, d, true}
		}
	}
	return a
}

// match is one of those that Within yields.
type match struct{ i, distance int }

// within is what Within yields by comparing with all.
func (c *crowd) within(hash []byte, limit int) []match {
	all := c.unsorted(hash, limit)
	slices.SortStableFunc(all, func(a, b match) int { return a.distance - b.distance })
	return all
}

//go:norace
func (c *crowd) unsorted(hash []byte, limit int) (all []match) {
	h := split(hash)
	for i := 0; i < len(c.words); i += c.stride {
		d := 0
		for k, w := range h {
			d += bits.OnesCount64(w ^ c.words[i+k])
		}
		if d <= limit {
			all = append(all, match{i / c.stride, d})
		}
	}
	return all
}

func nearest(ix *hamming.Index, h []byte) (a answer) {
	a.i, a.distance, a.ok = ix.Nearest(h)
	return a
}

// masks are the chunks of which n bits are set.
var masks = func() (m [17][]uint16) {
	for v := range 1 << 16 {
		n := bits.OnesCount16(uint16(v))
		m[n] = append(m[n], uint16(v))
	}
	return m
}()

// sets are ways to make hashes: the r-th of a set in which distances of about d
// matter.
var sets = map[string]func(r *rand.Rand, size, d int) func() []byte{
	"random": func(r *rand.Rand, size, _ int) func() []byte {
		return func() []byte { return random(r, size) }
	},
	"planted": func(r *rand.Rand, size, d int) func() []byte {
		var before [][]byte
		return func() []byte {
			h := random(r, size)
			if len(before) > 0 && r.IntN(2) == 0 {
				h = near(r, before[r.IntN(len(before))], r.IntN(d+d/2+2))
			}
			before = append(before, h)
			return h
		}
	},
	"all equal": func(r *rand.Rand, size, _ int) func() []byte {
		h := random(r, size)
		return func() []byte { return h }
	},
	"clusters": func(r *rand.Rand, size, d int) func() []byte {
		centres := [16][]byte{}
		for i := range centres {
			centres[i] = random(r, size)
		}
		return func() []byte { return near(r, centres[r.IntN(16)], d+1) }
	},
	"three chunks shared": func(r *rand.Rand, size, _ int) func() []byte {
		return func() []byte {
			h := random(r, size)
			clear(h[2:8])
			return h
		}
	},
	"two bits of each chunk": func(r *rand.Rand, size, _ int) func() []byte {
		centre := random(r, size)
		return func() []byte { // far from each other, and all at the radius whose cost is guessed
			h := bytes.Clone(centre)
			if r.IntN(100) == 0 {
				return h
			}
			for i := 0; i < size; i += 2 {
				h[i] ^= 1 << r.IntN(8)
				h[i+1] ^= 1 << r.IntN(8)
			}
			return h
		}
	},
	"near in one chunk only": func(r *rand.Rand, size, d int) func() []byte {
		before := [][]byte{random(r, size)}
		chunks := size / 2
		share := max(1, (d+1)/chunks)
		return func() []byte { // another one with its share of d changed in each chunk, but nothing in one and more in the next
			h := bytes.Clone(before[r.IntN(len(before))])
			at := r.IntN(chunks)
			for c := range chunks {
				n := share
				switch c {
				case at:
					n = 0
				case (at + 1) % chunks:
					n = min(16, 2*share-1)
				}
				mask := masks[n][r.IntN(len(masks[n]))]
				h[2*c] ^= byte(mask)
				h[2*c+1] ^= byte(mask >> 8)
			}
			before = append(before, h)
			return h
		}
	},
	"half of each chunk shared": func(r *rand.Rand, size, _ int) func() []byte {
		return func() []byte {
			h := random(r, size)
			for i := 0; i < size; i += 2 {
				h[i] = 0
			}
			return h
		}
	},
}

// many is a number of hashes for which an index has tables.
const many = 5000

// Of each set, an index answers as comparing with all does: at the distances where
// something begins or ends with many questions, and at those between with a few.
// The tables of an index are 64 MiB for hashes of 32 bytes, which is most of what
// this costs, so that not every set has them at every distance.
func TestAnswersAreThoseOfComparingAll(t *testing.T) {
	for size, often := range map[int][]int{8: {0, 3, 6, 10, 11, 12, 64}, 16: {12}, 32: {0, 10, 15, 16, 31, 47, 48, 256}} {
		for name, set := range sets {
			t.Run(fmt.Sprintf("%d bytes %s", size, name), func(t *testing.T) {
				t.Parallel()
				hashes := map[int]int{} // how many, by distance
				if size != 16 && (name == "planted" || name == "near in one chunk only") {
					for d := range 65 {
						if hashes[d] = many; d%3 == 0 || d%3 == 2 && size == 32 && name == "planted" {
							hashes[d] = 100 // without tables
						}
					}
				}
				for _, d := range often {
					hashes[d] = many
				}
				for _, d := range slices.Sorted(maps.Keys(hashes)) {
					questions := 3
					if slices.Contains(often, d) {
						questions = 50
					}
					answersAreThoseOfComparingAll(t, size, d, set, hashes[d], questions)
				}
			})
		}
	}
}

func answersAreThoseOfComparingAll(t *testing.T, size, d int, set func(r *rand.Rand, size, d int) func() []byte, n, questions int) {
	r := rand.New(rand.NewPCG(uint64(size), uint64(d)))
	next := set(r, size, d)
	ix := hamming.New(size, d)
	var all crowd
	hashes := make([][]byte, n)
	for i := range hashes {
		hashes[i] = next()
		all.add(hashes[i])
		ix.Add(hashes[i])
	}
	for q := range questions {
		for _, h := range [][]byte{next(), near(r, hashes[r.IntN(n)], r.IntN(d+3))} {
			if q < 3 {
				got, want := within(ix, h), all.within(h, d)
				if !slices.Equal(got, want) {
					t.Fatalf("%x within %d of %d: %d matches, want %d: %v, want %v", h, d, n, len(got), len(want), got[:min(8, len(got))], want[:min(8, len(want))])
				}
			}
			// One search leaves nothing to the next.
			if got, want := nearest(ix, h), all.nearest(h, d); got != want {
				t.Fatalf("%x within %d of %d: nearest %+v, want %+v", h, d, n, got, want)
			}
		}
	}
}

// Among so many, it pays to look where two bits of a chunk differ.
func TestNearestOfTwentyThousand(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	next := sets["near in one chunk only"](r, 8, 11)
	ix := hamming.New(8, 11)
	var all crowd
	for range 20000 {
		h := next()
		all.add(h)
		ix.Add(h)
	}
	found := 0
	for range 200 {
		h := next()
		got, want := nearest(ix, h), all.nearest(h, 11)
		if got != want {
			t.Fatalf("%x: %+v, want %+v", h, got, want)
		}
		if got.ok {
			found++
		}
	}
	if found < 100 {
		t.Errorf("only %d have a neighbour", found)
	}
}

// Each hash gets its nearest keeper, or becomes one: what dedup does.
func TestKeepersOfTwentyThousand(t *testing.T) {
	for size, d := range map[int]int{8: 6, 32: 31} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			next := sets["planted"](rand.New(rand.NewPCG(3, uint64(size))), size, d)
			ix := hamming.New(size, d)
			var kept crowd
			for n := range 20000 {
				h := next()
				got, want := nearest(ix, h), kept.nearest(h, d)
				if got != want {
					t.Fatalf("hash %d, %x, among %d: %+v, want %+v", n, h, kept.len(), got, want)
				}
				if !got.ok {
					kept.add(h)
					ix.Add(h)
				}
			}
			if ix.Len() != kept.len() || kept.len() < many {
				t.Errorf("%d hashes in the index and %d keepers", ix.Len(), kept.len())
			}
		})
	}
}

func within(ix *hamming.Index, h []byte) (all []match) {
	ix.Within(h, func(i, distance int) { all = append(all, match{i, distance}) })
	return all
}

func TestPairsOfTwentyThousand(t *testing.T) {
	for size, d := range map[int]int{8: 6, 32: 31} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			next := sets["planted"](rand.New(rand.NewPCG(4, uint64(size))), size, d)
			ix := hamming.New(size, d)
			var all crowd
			pairs := 0
			for n := range 20000 {
				h := next()
				got, want := within(ix, h), all.within(h, d)
				if !slices.Equal(got, want) {
					t.Fatalf("hash %d, %x: %v, want %v", n, h, got, want)
				}
				pairs += len(got)
				all.add(h)
				ix.Add(h)
			}
			if pairs < 5000 {
				t.Errorf("only %d pairs", pairs)
			}
		})
	}
}

// Hashes of which few bits vary have many neighbours at equal distances, and
// buckets that are long.
func TestNearestOfHashesWithFewBits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{8, 32}).Draw(t, "size")
		d := rapid.IntRange(0, 3*size/2).Draw(t, "distance")
		n := rapid.SampledFrom([]int{1, 100, many}).Draw(t, "hashes")
		mask := rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "mask")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		next := func() []byte {
			h := random(r, size)
			for i := range h {
				h[i] &= mask[i]
			}
			return h
		}
		ix := hamming.New(size, d)
		var all crowd
		for range n {
			h := next()
			all.add(h)
			ix.Add(h)
		}
		for range 20 {
			h := next()
			if got, want := nearest(ix, h), all.nearest(h, d); got != want {
				t.Fatalf("%x: %+v, want %+v", h, got, want)
			}
			if got, want := within(ix, h), all.within(h, d); !slices.Equal(got, want) {
				t.Fatalf("%x: %d matches, want %d", h, len(got), len(want))
			}
		}
	})
}

func TestMemoryIsWhatBytesSays(t *testing.T) {
	for _, tt := range []struct {
		size, n int
		d       int
	}{{32, 200000, 31}, {8, 200000, 6}, {32, 4000, 31}} {
		r := rand.New(rand.NewPCG(1, 1))
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		ix := hamming.New(tt.size, tt.d)
		h := make([]byte, tt.size)
		for range tt.n {
			for i := range h {
				h[i] = byte(r.Uint32())
			}
			ix.Add(h)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		used, most := int64(after.HeapAlloc-before.HeapAlloc), hamming.Bytes(tt.size, tt.n)
		if used > most || most > 4*used+1<<20 {
			t.Errorf("%d hashes of %d bytes take %d bytes, and Bytes says %d", tt.n, tt.size, used, most)
		}
		runtime.KeepAlive(ix)
	}
}

func TestWrongUse(t *testing.T) {
	for name, f := range map[string]func(){
		"size":     func() { hamming.New(12, 3) },
		"distance": func() { hamming.New(8, -1) },
		"add":      func() { hamming.New(8, 3).Add(make([]byte, 32)) },
		"nearest":  func() { hamming.New(32, 3).Nearest(make([]byte, 8)) },
		"within":   func() { hamming.New(32, 3).Within(make([]byte, 8), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if p := fmt.Sprint(recover()); !strings.HasPrefix(p, "BUG: ") {
					t.Errorf("panic %q", p)
				}
			}()
			f()
		})
	}
}

func BenchmarkKeepers(b *testing.B) {
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		for _, tt := range []struct{ size, d int }{{8, 6}, {32, 31}} {
			b.Run(fmt.Sprintf("%s/%d bits", name, 8*tt.size), func(b *testing.B) {
				next := sets[name](rand.New(rand.NewPCG(1, 1)), tt.size, tt.d)
				hashes := make([][]byte, 200000)
				for i := range hashes {
					hashes[i] = next()
				}
				for b.Loop() {
					ix := hamming.New(tt.size, tt.d)
					for _, h := range hashes {
						if _, _, ok := ix.Nearest(h); !ok {
							ix.Add(h)
						}
					}
					b.ReportMetric(float64(ix.Len()), "keepers")
				}
			})
		}
	}
}
