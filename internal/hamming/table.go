package hamming

// A table is, for one chunk, the hashes by the chunk's value. What a search
// costs is waiting for memory, so that the first hashes of a value lie in its
// bucket, and further ones in blocks.
type table struct {
	buckets []bucket // by value
	blocks  []block
}

const idsAtOnce = 6

// bucket and block take half a cache line each.
type bucket struct {
	count uint32
	more  uint32 // its newest block, plus 1
	first [idsAtOnce]uint32
}

type block struct {
	ids   [idsAtOnce]uint32
	older uint32 // plus 1
	_     uint32
}

func (t *table) add(key uint16, id uint32) {
	b := &t.buckets[key]
	if n := int(b.count); n < idsAtOnce {
		b.first[n] = id
	} else {
		k := (n - idsAtOnce) % idsAtOnce
		if k == 0 {
			t.blocks = append(t.blocks, block{older: b.more})
			b.more = uint32(len(t.blocks))
		}
		t.blocks[b.more-1].ids[k] = id
	}
	b.count++
}

// collect has the search compare with the hashes of a value, and returns how
// many they are.
func (t *table) collect(key uint16, s *search) int {
	b := &t.buckets[key]
	n := int(b.count)
	s.some(&b.first, min(n, idsAtOnce))
	if b.more != 0 {
		k := &t.blocks[b.more-1]
		s.some(&k.ids, (n-idsAtOnce-1)%idsAtOnce+1)
		for k.older != 0 {
			k = &t.blocks[k.older-1]
			s.some(&k.ids, idsAtOnce)
		}
	}
	return n
}
