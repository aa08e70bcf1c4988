package compare

import (
	"errors"
	"os"
	"regexp"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forgepipe/forgepipe/internal/fsys"
)

// What files are called until they are complete.
const (
	tempPrefix = ".forgepipe-compare-"
	tempEnd    = ".tmp"
)

var tempForm = regexp.MustCompile(`^\.forgepipe-compare-[A-Z2-7]{26}\.tmp$`)

// openOut opens the folder that is written to, until done is called, and removes what
// comparisons have left in it that were killed. All that write to it share a lock of the
// folder, so that who has it alone knows that nobody is at work on what there is.
func (c *comparer) openOut(dir string) (done func(), err error) {
	if c.root, err = fsys.OS.OpenRoot(dir); err != nil {
		return nil, wrong("%w", err)
	}
	closed := func() { _ = c.root.Close() } // nothing is written to it any more
	f, err := os.Open(dir)
	if err != nil { // one that can be written and not be read
		return closed, nil
	}
	if flock(f, unix.LOCK_EX|unix.LOCK_NB) == nil {
		c.sweep()
	}
	// Another one that sweeps takes moments. File systems without locks give none, and
	// there nobody sweeps.
	for range 100 {
		if err := flock(f, unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return func() { closed(); f.Close() }, nil
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// sweep removes what killed comparisons have left. What cannot be removed is in nobody's
// way.
func (c *comparer) sweep() {
	entries, err := c.root.ReadDir(".")
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.Type().IsRegular() && tempForm.MatchString(e.Name()) {
			_ = c.root.Remove(e.Name())
		}
	}
}
