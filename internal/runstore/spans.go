package runstore

import (
	"encoding/binary"
	"errors"
	"slices"
)

// spans is a set of sequence numbers as sorted, disjoint, closed ranges. Rows
// are intended in groups, so that thousands of numbers are a few ranges.
type spans []span

type span struct{ from, to int64 }

// find returns the first range that ends at n or later.
func (s spans) find(n int64) int {
	i, _ := slices.BinarySearchFunc(s, n, func(r span, n int64) int {
		switch {
		case r.to < n:
			return -1
		case r.to > n:
			return 1
		}
		return 0
	})
	return i
}

func (s spans) has(n int64) bool {
	i := s.find(n)
	return i < len(s) && s[i].from <= n
}

func (s *spans) add(from, to int64) {
	if from > to {
		return
	}
	last := len(*s) - 1
	switch {
	case last < 0 || (*s)[last].to < from-1:
		*s = append(*s, span{from, to})
		return
	case (*s)[last].from <= from:
		(*s)[last].to = max((*s)[last].to, to)
		return
	}
	// Out of order, which happens only when two sets are joined at Open.
	all := append(*s, span{from, to})
	slices.SortFunc(all, func(a, b span) int { return int(min(1, max(-1, a.from-b.from))) })
	joined := all[:1]
	for _, r := range all[1:] {
		if top := &joined[len(joined)-1]; r.from <= top.to+1 {
			top.to = max(top.to, r.to)
		} else {
			joined = append(joined, r)
		}
	}
	*s = joined
}

func (s *spans) remove(n int64) {
	i := s.find(n)
	if i == len(*s) || (*s)[i].from > n {
		return
	}
	switch r := (*s)[i]; {
	case r.from == r.to:
		*s = slices.Delete(*s, i, i+1)
	case r.from == n:
		(*s)[i].from++
	case r.to == n:
		(*s)[i].to--
	default:
		(*s)[i].from = n + 1
		*s = slices.Insert(*s, i, span{r.from, n - 1})
	}
}

// upTo returns a copy of the part that is not above limit.
func (s spans) upTo(limit int64) spans {
	var out spans
	for _, r := range s {
		if r.from <= limit {
			out = append(out, span{r.from, min(r.to, limit)})
		}
	}
	return out
}

// encode writes each range as its distance from the one before and its length.
func (s spans) encode() []byte {
	var b []byte
	at := int64(0)
	for _, r := range s {
		b = binary.AppendUvarint(b, uint64(r.from-at))
		b = binary.AppendUvarint(b, uint64(r.to-r.from))
		at = r.to
	}
	return b
}

func decodeSpans(b []byte) (spans, error) {
	var s spans
	at := int64(0)
	for len(b) > 0 {
		gap, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errors.New("a set of rows is cut short")
		}
		length, m := binary.Uvarint(b[n:])
		if m <= 0 {
			return nil, errors.New("a set of rows is cut short")
		}
		from := at + int64(gap)
		to := from + int64(length)
		if from < at || to < from {
			return nil, errors.New("a set of rows is out of order")
		}
		s = append(s, span{from, to})
		at, b = to, b[n+m:]
	}
	return s, nil
}
