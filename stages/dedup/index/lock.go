package index

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const lockName = "index.lock"

// ErrLocked is what errors.Is finds in a LockedError.
var ErrLocked = errors.New("the index is being added to")

// A LockedError says that another process is adding to the index.
type LockedError struct {
	Dir string // of the index
	PID int    // 0 when the other process has not written it yet
}

func (e *LockedError) Error() string {
	who := "another process"
	if e.PID != 0 {
		who = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("%s is adding to the index %s: try again when it is done", who, e.Dir)
}

// Is makes the error ErrLocked.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// lock takes the lock of an index. Closing the file gives it back, and so does the end of the
// process, however it ends. The file stays: to remove it would let two processes lock two
// files of one name.
func lock(dir string) (*os.File, error) {
	// Not through a link: the number of the process is written to it.
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o666)
	if err != nil {
		return nil, fmt.Errorf("opening the lock file: %w", err)
	}
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		text, _ := io.ReadAll(io.LimitReader(f, 32))
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		err = &LockedError{Dir: dir, PID: pid}
	case err != nil:
		err = fmt.Errorf("locking %s (keep the index on a local disk): %w", f.Name(), err)
	default:
		if err = f.Truncate(0); err == nil {
			_, err = f.WriteString(strconv.Itoa(os.Getpid()) + "\n")
		}
		if err != nil {
			err = fmt.Errorf("writing the lock file: %w", err)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
