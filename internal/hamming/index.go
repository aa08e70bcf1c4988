package hamming

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
)

const (
	chunkBits = 16
	keys      = 1 << chunkBits
	lineBytes = 64 // of a bucket or a block
)

// scanBelow is the number of hashes below which an index has no tables and
// compares with all of them.
const scanBelow = 4096

// An Index holds hashes of one size and finds the nearest within a distance.
// It is not safe for concurrent use.
//
// It is a multi-index (Norouzi, Punjani, Fleet: "Fast Exact Search in Hamming
// Space with Multi-Index Hashing", 2014): each hash is cut into chunks of 16
// bits, and each chunk has a table from its value to the hashes that have it.
// Two hashes that differ in few bits differ in very few bits of some chunk, so
// only those that do are compared. How far is looked around each chunk is
// decided for each search by what the tables hold (see plan.go); where that
// would cost more than comparing with all hashes, all are compared.
type Index struct {
	size     int // bytes of a hash
	stride   int // words of a hash
	distance int
	words    []uint64 // of all hashes, stride for each
	tables   []table  // one for each chunk; nil while there are few hashes
	search   search   // the one in progress, kept for its memory
}

// New makes an index of hashes of size bytes, a multiple of 8, that searches
// within the given distance in bits.
func New(size, distance int) *Index {
	if size < 8 || size%8 != 0 || distance < 0 {
		panic(fmt.Sprintf("BUG: no index of hashes of %d bytes within %d bits", size, distance))
	}
	return &Index{size: size, stride: size / 8, distance: distance}
}

// Bytes is the memory that an index of n hashes of size bytes takes at most.
func Bytes(size, n int) int64 {
	// append makes large slices longer by a quarter, and while it copies the old
	// one is there too.
	const growth = 2.25
	total := growth * float64(size) * float64(n)
	if n >= scanBelow {
		chunks := float64(8 * size / chunkBits)
		total += chunks * (lineBytes*keys + growth*lineBytes/inBlock*float64(n))
	}
	return int64(total)
}

func (ix *Index) chunks() int { return 8 * ix.size / chunkBits }

// Len is the number of hashes in the index.
func (ix *Index) Len() int { return len(ix.words) / ix.stride }

// Add adds a hash, whose number is that of the hashes added before.
func (ix *Index) Add(hash []byte) {
	n := ix.Len()
	ix.words = ix.split(ix.words, hash)
	switch {
	case ix.tables != nil:
		ix.enter(n)
	case n+1 >= scanBelow && ix.distance <= maxCovered(ix.chunks()):
		ix.tables = make([]table, ix.chunks())
		for c := range ix.tables {
			ix.tables[c].buckets = make([]bucket, keys)
		}
		for i := range n + 1 {
			ix.enter(i)
		}
	}
}

// enter puts hash i into the tables.
func (ix *Index) enter(i int) {
	w := ix.words[i*ix.stride:]
	for c := range ix.tables {
		ix.tables[c].add(chunk(w, c), chunk(w, (c+1)%len(ix.tables)), uint32(i))
	}
}

// Nearest returns the number and the distance of the nearest hash within the
// index's distance; of several, the one added first. ok is false when there is
// none.
func (ix *Index) Nearest(hash []byte) (i, distance int, ok bool) {
	s := ix.find(hash, false)
	if s.best < 0 {
		return 0, 0, false
	}
	return s.best, s.limit, true
}

// Within calls yield with the number and the distance of each hash within the
// index's distance, the nearest first and of equally near ones the one added
// first. yield may call methods of the index other than Within.
func (ix *Index) Within(hash []byte, yield func(i, distance int)) {
	s := ix.find(hash, true)
	slices.Sort(s.matches)
	// One that is near in several chunks was found in each.
	matches := slices.Compact(s.matches)
	for _, m := range matches {
		yield(int(uint32(m)), int(m>>32))
	}
}

// find searches for the nearest hash or for all within the distance.
func (ix *Index) find(hash []byte, all bool) *search {
	s := &ix.search
	s.words, s.query = ix.words, ix.split(s.query[:0], hash)
	s.limit, s.best, s.n = ix.distance, -1, 0
	s.all, s.matches = all, s.matches[:0]
	if ix.tables == nil {
		s.scan()
	} else {
		s.run(ix.tables)
	}
	return s
}

// split appends the words of a hash.
func (ix *Index) split(words []uint64, hash []byte) []uint64 {
	if len(hash) != ix.size {
		panic(fmt.Sprintf("BUG: a hash of %d bytes in an index of hashes of %d", len(hash), ix.size))
	}
	for i := 0; i < len(hash); i += 8 {
		words = append(words, binary.BigEndian.Uint64(hash[i:]))
	}
	return words
}

func chunk(words []uint64, c int) uint16 {
	return uint16(words[c/4] >> (chunkBits * (c % 4)))
}

// A search keeps the nearest hash found so far, or all of them.
type search struct {
	words []uint64 // of all hashes
	query []uint64
	limit int // the distance of best, or the largest allowed
	best  int // -1: none
	plan  planner

	// all says that every hash within the limit is wanted. They are in matches,
	// each as its distance and, in the lower half, its number; some several times.
	all     bool
	matches []uint64

	pending  [1024]uint32 // numbers of hashes that are to be compared
	n        int          // of them
	compared int          // hashes, of those that were pending
}

// found takes a hash that is not farther than the limit.
func (s *search) found(i, distance int) {
	if s.all {
		s.matches = append(s.matches, uint64(distance)<<32|uint64(i))
		return
	}
	if distance < s.limit || s.best < 0 || i < s.best {
		s.limit, s.best = distance, i
	}
}

// scan compares with all hashes. Of 256 bits, the first half nearly always
// tells that two hashes are too far apart.
func (s *search) scan() {
	if len(s.query) != 4 {
		for i := range len(s.words) / len(s.query) {
			if d := s.distance(i); d <= s.limit {
				s.found(i, d)
			}
		}
		return
	}
	q0, q1, q2, q3 := s.query[0], s.query[1], s.query[2], s.query[3]
	i := 0
	for w := s.words; len(w) >= 4; w = w[4:] {
		d := bits.OnesCount64(w[0]^q0) + bits.OnesCount64(w[1]^q1)
		if d <= s.limit {
			d += bits.OnesCount64(w[2]^q2) + bits.OnesCount64(w[3]^q3)
			if d <= s.limit {
				s.found(i, d)
			}
		}
		i++
	}
}

// compare compares with the pending hashes. It is done for many of them at a
// time, so that the processor can fetch the next ones while it waits for one.
func (s *search) compare() {
	ids := s.pending[:s.n]
	s.compared += s.n
	s.n = 0
	if len(s.query) != 4 {
		for _, id := range ids {
			if d := s.distance(int(id)); d <= s.limit {
				s.found(int(id), d)
			}
		}
		return
	}
	q := [4]uint64(s.query)
	for _, id := range ids {
		w := (*[4]uint64)(s.words[4*int(id):])
		d := bits.OnesCount64(w[0]^q[0]) + bits.OnesCount64(w[1]^q[1]) + bits.OnesCount64(w[2]^q[2]) + bits.OnesCount64(w[3]^q[3])
		if d <= s.limit {
			s.found(int(id), d)
		}
	}
}

// distance is that of hash i from the query.
func (s *search) distance(i int) int {
	w := s.words[i*len(s.query):][:len(s.query)]
	d := 0
	for k, q := range s.query {
		d += bits.OnesCount64(w[k] ^ q)
	}
	return d
}
