package dedup

// SetBlock changes how many items are prepared at a time, until the returned function
// is called.
func SetBlock(n int) (undo func()) {
	before := block
	block = n
	return func() { block = before }
}

// SetMostPairs changes how many pairs a network is asked about at most that has no bound, and
// how many are written, until the returned function is called.
func SetMostPairs(unbounded, written int64) (undo func()) {
	u, w := mostUnbounded, mostWritten
	mostUnbounded, mostWritten = unbounded, written
	return func() { mostUnbounded, mostWritten = u, w }
}

// SetLeastOnCard changes of how many vectors the search is worth a GPU, until the returned
// function is called.
func SetLeastOnCard(n int64) (undo func()) {
	before := leastOnCard
	leastOnCard = n
	return func() { leastOnCard = before }
}
