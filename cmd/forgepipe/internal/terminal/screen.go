package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// Screen is where people read. On a terminal it keeps a block of lines below
// everything else, which Draw replaces in place; elsewhere it is a plain
// writer. It may be used from several goroutines.
//
// Messages do not go through mpb, which lays out the block: it would show them only
// with its next frame, so that those before a crash were lost.
type Screen struct {
	mu    sync.Mutex
	w     io.Writer
	live  bool
	color bool
	size  func() (width, height int)
	block []string // what lies below the messages
}

// NewScreen makes the screen that writes to w. getenv tells NO_COLOR
// (https://no-color.org) and TERM.
func NewScreen(w io.Writer, getenv func(string) string) *Screen {
	s := &Screen{w: w}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || getenv("TERM") == "dumb" {
		return s
	}
	s.live = true
	s.color = getenv("NO_COLOR") == ""
	s.size = func() (int, int) {
		width, height, err := term.GetSize(int(f.Fd()))
		if err != nil || width <= 0 || height <= 0 {
			return 80, 24
		}
		return width, height
	}
	return s
}

// Live reports whether lines can be redrawn in place.
func (s *Screen) Live() bool { return s.live }

// Text writes text that ends in a newline, above the block.
func (s *Screen) Text(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	block := s.block
	_, _ = io.WriteString(s.w, s.erase()+Printable(text)+s.paint(block))
}

// Printf writes one line, above the block.
func (s *Screen) Printf(format string, args ...any) {
	s.Text(oneLine(fmt.Sprintf(format, args...)) + "\n")
}

// Draw replaces the block; with no lines it removes it.
func (s *Screen) Draw(lines []string) {
	if !s.live {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = io.WriteString(s.w, s.erase()+s.paint(lines))
}

// erase takes the block away. In a window that has become narrower since, terminals
// have wrapped what was too long, so that it takes more rows than it has lines.
func (s *Screen) erase() string {
	if len(s.block) == 0 {
		return ""
	}
	width, _ := s.size()
	rows := 0
	for _, l := range s.block {
		rows += max((columns(l)+width-1)/width, 1)
	}
	s.block = nil
	return fmt.Sprintf("\x1b[%dA\r\x1b[J", rows)
}

// paint puts the block there, cut to the terminal: a line that wraps would make
// the count of rows wrong. The last column stays free, as terminals do not agree on
// what follows a letter there.
func (s *Screen) paint(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	width, height := s.size()
	lines = lines[:min(len(lines), max(height-1, 1))]
	var b strings.Builder
	for i, l := range lines {
		l = clip(l, width-1)
		if s.color && i == 0 {
			l = emphasis(l)
		}
		s.block = append(s.block, l)
		b.WriteString(l + "\n")
	}
	return b.String()
}
