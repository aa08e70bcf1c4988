package hamming

// maxRadius is how many bits of a chunk are changed at most to look for hashes.
// With three, a search looks at 697 values of each chunk, which random hashes of
// 256 bits have 11 times in 64: scanning them all in order is faster.
const maxRadius = 2

func maxCovered(chunks int) int { return chunks*(maxRadius+1) - 1 }

// What the steps of a search cost, in the time of comparing with one hash in a
// scan; measured on random hashes.
const (
	costBucket    = 16
	costEntry     = 4 // a hash in a bucket
	costCandidate = 8 // one that is then compared
)

// flips are the changes of r bits of a chunk.
var flips = func() (masks [maxRadius + 1][]uint16) {
	masks[0] = []uint16{0}
	for i := range chunkBits {
		masks[1] = append(masks[1], 1<<i)
		for j := range i {
			masks[2] = append(masks[2], 1<<i|1<<j)
		}
	}
	return masks
}()

// A planner decides how many bits of each chunk may differ from the query's.
//
// By the pigeonhole principle nothing within a distance of d is missed when
// these radii, each plus 1, add up to at least d+1: else every chunk would differ
// in radius+1 bits or more, which together is more than d. A radius of -1 leaves
// a chunk out. So a chunk in which many hashes agree can be left out when others
// look further (Qin et al., "GPH: Similarity Search in Hamming Space", 2018).
type planner struct {
	radius []int // for each chunk

	// cost[c][r+1] is that of looking around chunk c within radius r.
	cost [][maxRadius + 2]int
	// least[c][need] is the least cost at which the chunks from c on make up need
	// of the sum, and choice[c][need] the radius of c in it.
	least  [][]int
	choice [][]int8
}

// run searches through the tables.
func (s *search) run(tables []table) {
	p := &s.plan
	p.reset(len(tables), s.limit)
	// Most copies agree with their original in some chunk, and then nothing nearer
	// can be elsewhere: that is worth one look at each chunk, if they are short and
	// only the nearest is asked for. It looks as far as one does that looks further
	// around each chunk, which need not look there again.
	looked := -1 // radius
	s.price(tables, 0)
	exact := 0
	for _, c := range p.cost {
		exact += c[1]
	}
	if !s.all && exact < s.len()/8 {
		for c := range p.radius {
			p.radius[c] = 1
		}
		if s.look(tables, 0) {
			looked = 0
		}
		if looked == 0 && s.limit <= p.covers(0) {
			return
		}
	}
	s.price(tables, 1)
	cost := p.cheapest(1, s.limit)
	if cost > costBucket*len(flips[2])*len(tables) {
		p.guess()
		cost = p.cheapest(2, s.limit)
		looked = -1 // not as far as this
	}
	if cost >= s.len() {
		s.scan()
		return
	}
	for r := looked + 1; r <= maxRadius; r++ {
		if !s.look(tables, r) {
			s.scan()
			return
		}
		if s.limit <= p.covers(r) {
			return
		}
	}
}

func (s *search) len() int { return len(s.words) / len(s.query) }

// price counts the costs of radius r, 0 or 1, when those of r-1 are known.
func (s *search) price(tables []table, r int) {
	for c := range tables {
		key, buckets := chunk(s.query, c), tables[c].buckets
		n := 0
		for _, m := range flips[r] {
			n += int(buckets[key^m].count)
		}
		s.plan.cost[c][r+1] = s.plan.cost[c][r] + costBucket*len(flips[r]) + costEntry*n
	}
}

// guess estimates the costs of radius 2 from those of radius 1. To count what is
// there would take longer than many searches, and a wrong guess costs time only,
// which look bounds.
func (p *planner) guess() {
	for c := range p.cost {
		cost := &p.cost[c]
		cost[3] = cost[2] + (cost[2]-cost[1])*len(flips[2])/len(flips[1])
	}
}

// look compares with the hashes that differ from the query in exactly r bits of
// a chunk for which the plan wants that. It gives up, and returns false, when
// comparing with all would have been faster.
func (s *search) look(tables []table, r int) bool {
	left := s.len()
	s.compared = 0
	for c, radius := range s.plan.radius {
		if r > radius {
			continue
		}
		after := (c + 1) % len(tables)
		key, next, most := chunk(s.query, c), chunk(s.query, after), s.plan.nearby(c, after)-r
		for _, m := range flips[r] {
			left -= costBucket + costEntry*tables[c].collect(key^m, next, most, s)
			if left < costCandidate*s.compared {
				return false
			}
		}
	}
	s.compare()
	return true
}

// nearby is in how many bits a hash may differ from the query in chunk c and the
// one after it together to be looked at in c.
//
// Let a chunk's excess be the bits in which it differs, minus its radius plus 1.
// Of a hash that is within the distance, the excesses of all chunks add up to less
// than 0. Then there is a chunk from which on, around the circle of chunks, every
// sum of excesses is less than 0: the one after that up to which the sum from the
// first chunk on is greatest. So it is enough to find the hash there, where that
// chunk's excess is less than 0 and that of it and the next one, too (Qin, Xiao:
// "Pigeonring: A Principle for Faster Thresholded Similarity Search", 2018). Of
// unrelated hashes that agree in one chunk, few are near in the next.
func (p *planner) nearby(c, next int) int { return p.radius[c] + p.radius[next] + 1 }

// covers is the largest distance within which nothing is missed when the plan
// is carried out with radii of at most r.
func (p *planner) covers(r int) int {
	sum := 0
	for _, radius := range p.radius {
		sum += min(radius, r) + 1
	}
	return sum - 1
}

func (p *planner) reset(chunks, distance int) {
	if p.radius != nil {
		return
	}
	p.radius = make([]int, chunks)
	p.cost = make([][maxRadius + 2]int, chunks)
	p.least = make([][]int, chunks+1)
	p.choice = make([][]int8, chunks)
	for c := range p.least {
		p.least[c] = make([]int, distance+2)
	}
	for c := range p.choice {
		p.choice[c] = make([]int8, distance+2)
	}
}

// cheapest chooses the radii, of at most r, that cover a distance at the least
// cost, and returns that; it is more than any number of hashes when there are
// none.
func (p *planner) cheapest(r, distance int) (cost int) {
	const never = 1 << 60
	chunks := len(p.radius)
	last := p.least[chunks][:distance+2]
	for need := range last {
		last[need] = never
	}
	last[0] = 0
	for c := chunks - 1; c >= 0; c-- {
		here, rest := p.least[c], p.least[c+1]
		// The chunks before c and those from c on can each make up r+1 at most.
		for need := max(0, distance+1-c*(r+1)); need <= distance+1; need++ {
			if need > (chunks-c)*(r+1) {
				here[need] = never
				continue
			}
			best, choice := rest[need], int8(-1)
			for i := 1; i <= r+1; i++ {
				if sum := p.cost[c][i] + rest[max(0, need-i)]; sum < best {
					best, choice = sum, int8(i-1)
				}
			}
			here[need], p.choice[c][need] = best, choice
		}
	}
	need := distance + 1
	cost = p.least[0][need]
	for c := range p.radius {
		p.radius[c] = int(p.choice[c][need])
		need = max(0, need-p.radius[c]-1)
	}
	return cost
}
