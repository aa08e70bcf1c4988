package nearest

// SetTogether changes how many chunks go into a run on a device at most, until the returned
// function is called.
func SetTogether(n int) (undo func()) {
	before := mostTogether
	mostTogether = n
	return func() { mostTogether = before }
}
