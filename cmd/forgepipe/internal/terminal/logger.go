package terminal

import (
	"context"
	"fmt"
	"log/slog"
)

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
