package terminal

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// Screen is where people read. On a terminal it keeps a block of lines below
// everything else, which Draw replaces in place; elsewhere it is a plain
// writer. It may be used from several goroutines.
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

// erase takes the block away.
func (s *Screen) erase() string {
	n := len(s.block)
	s.block = nil
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA\r\x1b[J", n)
}

// paint puts the block there, cut to the terminal: a line that wraps would make
// the count of lines wrong.
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
			l = "\x1b[1m" + l + "\x1b[0m"
		}
		b.WriteString(l + "\n")
	}
	s.block = lines
	return b.String()
}

func clip(line string, width int) string {
	if width < 1 || utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width])
}

// Printable makes control characters visible, except newlines and tabs: a
// file's name must not be able to steer the terminal.
func Printable(text string) string {
	return escape(text, func(r rune) bool { return r == '\n' || r == '\t' })
}

// oneLine makes all control characters visible.
func oneLine(text string) string { return escape(text, func(rune) bool { return false }) }

func escape(text string, keep func(rune) bool) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && !keep(r) }) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if unicode.IsControl(r) && !keep(r) {
			fmt.Fprintf(&b, "\\x%02x", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Logger logs to the screen, a line per record: "warning: text key=value".
func (s *Screen) Logger(level slog.Level) *slog.Logger {
	return slog.New(&handler{screen: s, level: level})
}

type handler struct {
	screen *Screen
	level  slog.Level
	prefix string // of attributes' names
	attrs  string
}

func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	word := "note"
	switch {
	case r.Level >= slog.LevelError:
		word = "error"
	case r.Level >= slog.LevelWarn:
		word = "warning"
	}
	attrs := h.attrs
	r.Attrs(func(a slog.Attr) bool {
		attrs += h.attr(a)
		return true
	})
	h.screen.Printf("%s: %s%s", word, r.Message, attrs)
	return nil
}

func (h *handler) attr(a slog.Attr) string {
	if a.Equal(slog.Attr{}) {
		return ""
	}
	return fmt.Sprintf(" %s%s=%v", h.prefix, a.Key, a.Value.Resolve())
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	for _, a := range attrs {
		c.attrs += h.attr(a)
	}
	return &c
}

func (h *handler) WithGroup(name string) slog.Handler {
	c := *h
	c.prefix += name + "."
	return &c
}
