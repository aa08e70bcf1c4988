package screentest

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// PTY is a pseudo-terminal: what a program writes to Program can be read from Person.
type PTY struct {
	Person, Program *os.File
}

// OpenPTY opens one of so many columns and rows, that is closed at the end of the test.
func OpenPTY(t testing.TB, width, height int) *PTY {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatalf("opening a pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { _ = person.Close() })
	p := &PTY{Person: person}
	var n int
	p.control(t, func(fd int) (err error) {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return err
	})
	if p.Program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatalf("opening a pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { _ = p.Program.Close() })
	p.Resize(t, width, height)
	return p
}

// Resize makes the window larger or smaller.
func (p *PTY) Resize(t testing.TB, width, height int) {
	t.Helper()
	p.control(t, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(height), Col: uint16(width)})
	})
}

// control works on the descriptor; Fd would make reading block for good.
func (p *PTY) control(t testing.TB, f func(fd int) error) {
	t.Helper()
	raw, err := p.Person.SyscallConn()
	if err == nil {
		if cerr := raw.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
			err = cerr
		}
	}
	if err != nil {
		t.Fatalf("setting up a pseudo-terminal: %v", err)
	}
}
