package resample

import (
	"math/bits"
	"sync"
)

// A pool keeps slices for the next call, by size class, so that a small picture
// does not hold on to a large one's. None of them leaves the package for longer
// than a callback runs.
type pool[T any] struct {
	classes [bits.UintSize + 1]sync.Pool
}

var (
	bytePool pool[uint8]
	pairPool pool[pair]
)

// get returns a slice of n elements, which may be of any value.
func (p *pool[T]) get(n int) *[]T {
	class := bits.Len(uint(n))
	s, ok := p.classes[class].Get().(*[]T)
	if !ok {
		s = new([]T)
		*s = make([]T, 1<<class)
	}
	*s = (*s)[:n]
	return s
}

func (p *pool[T]) put(s *[]T) { p.classes[bits.Len(uint(len(*s)))].Put(s) }

// classBytes is what get allocates at most for so many bytes.
func classBytes(n int64) int64 { return 2 * n }
