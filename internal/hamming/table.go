package hamming

import "math/bits"

// A table is, for one chunk, the hashes by the chunk's value. What a search
// costs is waiting for memory, so that the first hashes of a value lie in its
// bucket, and further ones in blocks, and with each hash is its next chunk: that
// alone shows of nearly all hashes that they are too far away (see
// planner.nearby).
type table struct {
	buckets []bucket // by value
	blocks  []block
}

const (
	inBucket = 9
	inBlock  = 10
)

// bucket and block take a cache line each.
type bucket struct {
	count uint32
	more  uint32 // its newest block, plus 1
	ids   [inBucket]uint32
	next  [inBucket]uint16
	_     uint16
}

type block struct {
	older uint32 // plus 1
	ids   [inBlock]uint32
	next  [inBlock]uint16
}

func (t *table) add(key, next uint16, id uint32) {
	b := &t.buckets[key]
	if n := int(b.count); n < inBucket {
		b.ids[n], b.next[n] = id, next
	} else {
		k := (n - inBucket) % inBlock
		if k == 0 {
			t.blocks = append(t.blocks, block{older: b.more})
			b.more = uint32(len(t.blocks))
		}
		m := &t.blocks[b.more-1]
		m.ids[k], m.next[k] = id, next
	}
	b.count++
}

// collect has the search compare with the hashes of a value whose next chunk
// differs in at most so many bits, and returns how many have the value.
func (t *table) collect(key, next uint16, most int, s *search) int {
	b := &t.buckets[key]
	n := int(b.count)
	s.some(b.ids[:min(n, inBucket)], b.next[:], next, most)
	if b.more != 0 {
		k := &t.blocks[b.more-1]
		s.some(k.ids[:(n-inBucket-1)%inBlock+1], k.next[:], next, most)
		for k.older != 0 {
			k = &t.blocks[k.older-1]
			s.some(k.ids[:], k.next[:], next, most)
		}
	}
	return n
}

// some adds those of ids to the ones that are to be compared whose next chunk is
// near that of the query.
func (s *search) some(ids []uint32, next []uint16, query uint16, most int) {
	n := s.n
	for i, v := range next[:len(ids)] {
		if bits.OnesCount16(v^query) <= most {
			s.pending[n] = ids[i]
			n++
		}
	}
	s.n = n
	if n > len(s.pending)-inBlock {
		s.compare()
	}
}
