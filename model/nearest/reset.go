package nearest

import "fmt"

// Reset takes out all vectors that were added, so that the appended ones can be searched
// anew.
func (x *Index) Reset() error {
	if x.err != nil {
		return x.err
	}
	if err := x.added.close(); err != nil {
		return x.fail(fmt.Errorf("beginning the search anew: %w", err))
	}
	x.added, x.block = newAdded(x.o, x.added.width), block{}
	return nil
}
