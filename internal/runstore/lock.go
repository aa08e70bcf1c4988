package runstore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrLocked is what errors.Is finds in a LockedError.
var ErrLocked = errors.New("the run store is in use")

// A LockedError says that another process has the store open.
type LockedError struct {
	Dir string
	PID int // 0 when the other process has not written it yet
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("the state directory %s is in use by another process", e.Dir)
	}
	return fmt.Sprintf("the state directory %s is in use by process %d", e.Dir, e.PID)
}

// Is makes the error ErrLocked.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// lock takes the lock file of a state directory. Closing the file gives it back;
// the file itself stays, because removing it would let two processes lock two
// files of the same name.
func lock(dir, name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the lock file: %w", err)
	}
	err = tryLock(f)
	if errors.Is(err, unix.EWOULDBLOCK) {
		text, _ := io.ReadAll(io.LimitReader(f, 32))
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		f.Close()
		return nil, &LockedError{Dir: dir, PID: pid}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s (keep the state directory on a local disk): %w", name, err)
	}
	if err = f.Truncate(0); err == nil {
		_, err = f.WriteString(strconv.Itoa(os.Getpid()) + "\n")
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("writing the lock file: %w", err)
	}
	return f, nil
}

// Lock takes a state directory's lock without opening its store; closing the
// result gives it back. The error is a *LockedError when another process has it.
func Lock(dir string) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("creating the state directory: %w", err)
	}
	_, lockPath := files(dir)
	return lock(dir, lockPath)
}
