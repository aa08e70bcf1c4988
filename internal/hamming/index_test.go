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
	h := make([]byte, size)
	for i := range h {
		h[i] = byte(r.Uint32())
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

// words are a hash for comparing with many.
type words [4]uint64

func split(h []byte) (w words) {
	for i := 0; i < len(h); i += 8 {
		w[i/8] = binary.NativeEndian.Uint64(h[i:])
	}
	return w
}

// answer is what Nearest returns.
type answer struct {
	i, distance int
	ok          bool
}

// brute is the answer by comparing with all.
func brute(hashes []words, hash []byte, within int) (a answer) {
	h := split(hash)
	for i, o := range hashes {
		d := bits.OnesCount64(h[0]^o[0]) + bits.OnesCount64(h[1]^o[1]) + bits.OnesCount64(h[2]^o[2]) + bits.OnesCount64(h[3]^o[3])
		if d <= within && (!a.ok || d < a.distance) {
			a = answer{i, d, true}
		}
	}
	return a
}

func nearest(ix *hamming.Index, h []byte) (a answer) {
	a.i, a.distance, a.ok = ix.Nearest(h)
	return a
}

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
				for _, bit := range r.Perm(16)[:n] {
					h[2*c+bit/8] ^= 1 << (bit % 8)
				}
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

func TestNearestIsThatOfComparingAll(t *testing.T) {
	distances := map[int][]int{8: {0, 3, 6, 10, 11, 12, 64}, 16: {12}, 32: {0, 10, 15, 16, 31, 47, 48, 256}}
	for size, ds := range distances {
		for _, d := range ds {
			for name, set := range sets {
				t.Run(fmt.Sprintf("%d bytes within %d %s", size, d, name), func(t *testing.T) {
					r := rand.New(rand.NewPCG(uint64(size), uint64(d)))
					next := set(r, size, d)
					ix := hamming.New(size, d)
					hashes, all := make([][]byte, many), make([]words, many)
					for i := range hashes {
						hashes[i] = next()
						all[i] = split(hashes[i])
						ix.Add(hashes[i])
					}
					for range 50 {
						for _, h := range [][]byte{next(), near(r, hashes[r.IntN(many)], r.IntN(d+3))} {
							if got, want := nearest(ix, h), brute(all, h, d); got != want {
								t.Fatalf("%x: %+v, want %+v", h, got, want)
							}
						}
					}
				})
			}
		}
	}
}

// Among so many, it pays to look where two bits of a chunk differ.
func TestNearestOfTwentyThousand(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	next := sets["near in one chunk only"](r, 8, 11)
	ix := hamming.New(8, 11)
	var all []words
	for range 20000 {
		h := next()
		all = append(all, split(h))
		ix.Add(h)
	}
	found := 0
	for range 200 {
		h := next()
		got, want := nearest(ix, h), brute(all, h, 11)
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
			var kept []words
			for n := range 20000 {
				h := next()
				got, want := nearest(ix, h), brute(kept, h, d)
				if got != want {
					t.Fatalf("hash %d, %x, among %d: %+v, want %+v", n, h, len(kept), got, want)
				}
				if !got.ok {
					kept = append(kept, split(h))
					ix.Add(h)
				}
			}
			if ix.Len() != len(kept) || len(kept) < many {
				t.Errorf("%d hashes in the index and %d keepers", ix.Len(), len(kept))
			}
		})
	}
}

// match is one of those that Within yields.
type match struct{ i, distance int }

func within(ix *hamming.Index, h []byte) (all []match) {
	ix.Within(h, func(i, distance int) { all = append(all, match{i, distance}) })
	return all
}

// bruteWithin is what Within yields by comparing with all.
func bruteWithin(hashes []words, hash []byte, limit int) (all []match) {
	h := split(hash)
	for i, o := range hashes {
		d := bits.OnesCount64(h[0]^o[0]) + bits.OnesCount64(h[1]^o[1]) + bits.OnesCount64(h[2]^o[2]) + bits.OnesCount64(h[3]^o[3])
		if d <= limit {
			all = append(all, match{i, d})
		}
	}
	slices.SortStableFunc(all, func(a, b match) int { return a.distance - b.distance })
	return all
}

func TestWithinIsThatOfComparingAll(t *testing.T) {
	for _, size := range []int{8, 32} {
		for name, set := range sets {
			t.Run(fmt.Sprintf("%d bytes %s", size, name), func(t *testing.T) {
				t.Parallel()
				step := 8
				if name == "planted" || name == "near in one chunk only" {
					step = 1
				}
				for d := 0; d <= 64; d += step {
					r := rand.New(rand.NewPCG(uint64(size), uint64(d)))
					next := set(r, size, d)
					ix := hamming.New(size, d)
					var hashes [][]byte
					var all []words
					n := many
					if d%3 == 0 {
						n = 100 // without tables
					}
					for range n {
						h := next()
						hashes, all = append(hashes, h), append(all, split(h))
						ix.Add(h)
					}
					for range 3 {
						for _, h := range [][]byte{next(), near(r, hashes[r.IntN(len(hashes))], r.IntN(d+3))} {
							got, want := within(ix, h), bruteWithin(all, h, d)
							if !slices.Equal(got, want) {
								t.Fatalf("%x within %d of %d: %d matches, want %d: %v, want %v", h, d, len(all), len(got), len(want), got[:min(8, len(got))], want[:min(8, len(want))])
							}
							// One search leaves nothing to the next.
							if got, want := nearest(ix, h), brute(all, h, d); got != want {
								t.Fatalf("%x within %d: nearest %+v, want %+v", h, d, got, want)
							}
						}
					}
				}
			})
		}
	}
}

func TestPairsOfTwentyThousand(t *testing.T) {
	for size, d := range map[int]int{8: 6, 32: 31} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			next := sets["planted"](rand.New(rand.NewPCG(4, uint64(size))), size, d)
			ix := hamming.New(size, d)
			var all []words
			pairs := 0
			for n := range 20000 {
				h := next()
				got, want := within(ix, h), bruteWithin(all, h, d)
				if !slices.Equal(got, want) {
					t.Fatalf("hash %d, %x: %v, want %v", n, h, got, want)
				}
				pairs += len(got)
				all = append(all, split(h))
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
		hashes := make([]words, n)
		for i := range hashes {
			h := next()
			hashes[i] = split(h)
			ix.Add(h)
		}
		for range 20 {
			h := next()
			if got, want := nearest(ix, h), brute(hashes, h, d); got != want {
				t.Fatalf("%x: %+v, want %+v", h, got, want)
			}
			if got, want := within(ix, h), bruteWithin(hashes, h, d); !slices.Equal(got, want) {
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
