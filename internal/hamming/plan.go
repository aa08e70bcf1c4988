package hamming

// maxRadius is how many bits of a chunk are changed at most to look for hashes.
// With three, a search looks into 697 buckets per chunk, in which random hashes
// of 256 bits lie 11 times in 64: scanning them all in order is faster.
const maxRadius = 2

// What the steps of a search cost, in the time of comparing with one hash in a
// scan; measured.
const (
	costBucket    = 4
	costCandidate = 8
	scanBelow     = 1000 // hashes: below this, all are compared at once
)

// A plan is, for each chunk, how many of its bits may differ: -1 leaves the
// chunk out. By the pigeonhole principle nothing within a distance of d is
// missed when the radii, each plus 1, add up to at least d+1: else every chunk
// would differ in radius+1 bits or more, which adds up to more than d. So a
// chunk in which many hashes agree can be left out when others look further
// (Qin et al., "GPH: Similarity Search in Hamming Space", 2018).
type plan []int

// covers is the largest distance within which nothing is missed when the plan
// is carried out with radii of at most r.
func (p plan) covers(r int) int {
	sum := 0
	for _, radius := range p {
		sum += min(radius, r) + 1
	}
	return sum - 1
}

// run searches through the tables.
func (s *search) run() {
	// Most copies agree with their original in some chunk, and then nothing nearer
	// can be elsewhere: that is worth 16 looks, if they are short.
	chunks := s.ix.chunks()
	exact := 0
	for c := range chunks {
		exact += int(s.ix.bucket(c, chunk(s.query, c)).count)
	}
	done := -1 // radius
	if costCandidate*exact < s.ix.n/4 {
		s.look(make(plan, chunks), 0)
		if done = 0; s.limit < chunks {
			return
		}
	}
	p, ok := s.plan()
	if !ok {
		s.scan()
		return
	}
	for r := done + 1; r <= maxRadius; r++ {
		s.look(p, r)
		if p.covers(r) >= s.limit {
			return
		}
	}
}

// look scans the buckets whose key differs from the query's in exactly r bits,
// for the chunks that the plan wants it for.
func (s *search) look(p plan, r int) {
	for c, radius := range p {
		if r > radius {
			continue
		}
		for key := range around(chunk(s.query, c), r) {
			s.scanBucket(c, key)
		}
	}
}

// around yields the keys that differ from key in exactly r bits.
func around(key uint16, r int) func(yield func(uint16) bool) {
	return func(yield func(uint16) bool) {
		switch r {
		case 0:
			yield(key)
		case 1:
			for i := range chunkBits {
				if !yield(key ^ 1<<i) {
					return
				}
			}
		case 2:
			for i := range chunkBits {
				for j := range i {
					if !yield(key ^ 1<<i ^ 1<<j) {
						return
					}
				}
			}
		}
	}
}

// plan makes the cheapest plan for the search's limit; ok is false when
// scanning is cheaper than any.
func (s *search) plan() (p plan, ok bool) {
	costs := make([]radiusCosts, s.ix.chunks())
	for c := range costs {
		costs[c] = s.costs(c)
	}
	p, cost := cheapest(costs, s.limit)
	return p, p != nil && cost < s.ix.n
}

// radiusCosts are the costs of looking around a chunk within the radii -1, 0,
// 1, 2.
type radiusCosts [maxRadius + 2]int

func (s *search) costs(c int) (cost radiusCosts) {
	key := chunk(s.query, c)
	for r := range maxRadius + 1 {
		cost[r+1] = cost[r]
		for k := range around(key, r) {
			cost[r+1] += costBucket + costCandidate*int(s.ix.bucket(c, k).count)
		}
	}
	return cost
}

// cheapest finds the plan of least cost that covers a distance; nil when none
// does.
func cheapest(costs []radiusCosts, distance int) (p plan, cost int) {
	const never = 1 << 60
	// least[c][need] is the least cost at which the chunks from c on give need to
	// the sum of radii plus 1; choice is the radius of chunk c in it.
	least := make([][]int, len(costs)+1)
	choice := make([][]int, len(costs))
	for c := len(costs); c >= 0; c-- {
		least[c] = make([]int, distance+2)
		if c == len(costs) {
			for need := 1; need < len(least[c]); need++ {
				least[c][need] = never
			}
			continue
		}
		choice[c] = make([]int, distance+2)
		for need := range least[c] {
			least[c][need] = never
			for i, own := range costs[c] {
				if sum := own + least[c+1][max(0, need-i)]; sum < least[c][need] {
					least[c][need], choice[c][need] = sum, i-1
				}
			}
		}
	}
	need := distance + 1
	if least[0][need] >= never {
		return nil, never
	}
	p = make(plan, len(costs))
	for c := range p {
		p[c] = choice[c][need]
		need = max(0, need-p[c]-1)
	}
	return p, least[0][distance+1]
}
