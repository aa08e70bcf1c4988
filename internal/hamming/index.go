package hamming

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

const (
	chunkBits = 16
	keys      = 1 << chunkBits
)

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
	n        int

	words []uint64 // of all hashes, stride for each
	table []bucket // keys for each chunk; nil when distance is too large for tables
	next  []uint32 // per hash and chunk: the next hash in its bucket, plus 1
}

// A bucket is the hashes that share a chunk's value, the newest first.
type bucket struct {
	head  uint32 // its newest hash, plus 1
	count uint32
}

// New makes an index of hashes of size bytes, a multiple of 8, that searches
// within the given distance in bits.
func New(size, distance int) *Index {
	if size < 8 || size%8 != 0 || distance < 0 {
		panic(fmt.Sprintf("BUG: no index of hashes of %d bytes within %d bits", size, distance))
	}
	ix := &Index{size: size, stride: size / 8, distance: distance}
	if distance < ix.chunks()*(maxRadius+1) {
		ix.table = make([]bucket, ix.chunks()*keys)
	}
	return ix
}

// Bytes is the memory that an index of n hashes of size bytes takes at its
// peak, when it has just grown.
func Bytes(size, n int) int64 {
	chunks := int64(size) * 8 / chunkBits
	perHash := int64(size) + 4*chunks
	const growth = 2.25 // append grows large slices by a quarter, and both are there while it copies
	return 8*chunks*keys + int64(growth*float64(perHash*int64(n)))
}

func (ix *Index) chunks() int { return 4 * ix.stride }

// Len is the number of hashes in the index.
func (ix *Index) Len() int { return ix.n }

// Add adds a hash, whose number is that of the hashes added before.
func (ix *Index) Add(hash []byte) {
	ix.words = append(ix.words, ix.split(hash)...)
	if ix.table != nil {
		w := ix.words[ix.n*ix.stride:]
		for c := range ix.chunks() {
			b := ix.bucket(c, chunk(w, c))
			ix.next = append(ix.next, b.head)
			b.head = uint32(ix.n + 1)
			b.count++
		}
	}
	ix.n++
}

// Nearest returns the number and the distance of the nearest hash within the
// index's distance; of several, the one added first. ok is false when there is
// none.
func (ix *Index) Nearest(hash []byte) (i, distance int, ok bool) {
	s := search{ix: ix, query: ix.split(hash), limit: ix.distance, best: -1}
	if ix.table == nil || ix.n < scanBelow {
		s.scan()
	} else {
		s.run()
	}
	if s.best < 0 {
		return 0, 0, false
	}
	return s.best, s.limit, true
}

func (ix *Index) split(hash []byte) []uint64 {
	if len(hash) != ix.size {
		panic(fmt.Sprintf("BUG: a hash of %d bytes in an index of hashes of %d", len(hash), ix.size))
	}
	w := make([]uint64, ix.stride)
	for i := range w {
		w[i] = binary.BigEndian.Uint64(hash[8*i:])
	}
	return w
}

func chunk(words []uint64, c int) uint16 {
	return uint16(words[c/4] >> (chunkBits * (c % 4)))
}

func (ix *Index) bucket(c int, key uint16) *bucket { return &ix.table[c*keys+int(key)] }

// A search keeps the nearest hash found so far.
type search struct {
	ix    *Index
	query []uint64
	limit int // the distance of best, or the largest allowed
	best  int // -1: none
}

// found takes a hash that is not farther than the limit.
func (s *search) found(i, distance int) {
	if distance < s.limit || s.best < 0 || i < s.best {
		s.limit, s.best = distance, i
	}
}

// scan compares with all hashes.
func (s *search) scan() {
	if s.ix.stride == 4 {
		s.scan4()
		return
	}
	for i := range s.ix.n {
		if d := s.distance(i); d <= s.limit {
			s.found(i, d)
		}
	}
}

// scan4 is scan for 256 bits, where the first half nearly always tells that
// unrelated hashes are too far apart.
func (s *search) scan4() {
	q := [4]uint64(s.query)
	words := s.ix.words
	for i := range s.ix.n {
		w := (*[4]uint64)(words[4*i:])
		d := bits.OnesCount64(w[0]^q[0]) + bits.OnesCount64(w[1]^q[1])
		if d > s.limit {
			continue
		}
		d += bits.OnesCount64(w[2]^q[2]) + bits.OnesCount64(w[3]^q[3])
		if d <= s.limit {
			s.found(i, d)
		}
	}
}

// scanBucket compares with the hashes in a bucket.
func (s *search) scanBucket(c int, key uint16) {
	chunks := s.ix.chunks()
	for i := int(s.ix.bucket(c, key).head) - 1; i >= 0; i = int(s.ix.next[i*chunks+c]) - 1 {
		if d := s.distance(i); d <= s.limit {
			s.found(i, d)
		}
	}
}

// distance is that of hash i from the query.
func (s *search) distance(i int) int {
	w := s.ix.words[i*s.ix.stride:][:len(s.query)]
	d := 0
	for k, q := range s.query {
		d += bits.OnesCount64(w[k] ^ q)
	}
	return d
}
