// Package screentest has what tests need to see a program as a person does: a terminal
// that programs can be run on, and one that tells what it shows.
package screentest

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
)

// Emulator is what a terminal shows that wraps long lines, also those that are there
// when its window is made narrower. Its window is high enough for everything.
type Emulator struct {
	t     testing.TB
	width int
	rows  []row
	at    int    // the cursor's row; the cursor is behind what that has
	cut   string // the beginning of a sequence or a letter, whose end is still to come
}

type row struct {
	text      string
	continues bool // it is the rest of the row before
}

// New is an empty terminal of so many columns.
func New(t testing.TB, width int) *Emulator { return &Emulator{t: t, width: width, rows: []row{{}}} }

// The sequences that are known: for how letters look, to delete all that follows, and to
// go up.
var (
	looks   = regexp.MustCompile(`^\x1b\[[0-9;]*m`)
	deleted = regexp.MustCompile(`^\x1b\[J`)
	begun   = regexp.MustCompile(`^\x1b(\[[0-9;]*A?)?$`)
	up      = regexp.MustCompile(`^\x1b\[([0-9]+)A\r`)
)

// Write shows what a program writes. A sequence that is not known fails the test.
func (e *Emulator) Write(out string) {
	e.t.Helper()
	out, e.cut = e.cut+out, ""
	for out != "" {
		if begun.MatchString(out) || !utf8.FullRuneInString(out) {
			e.cut = out
			return
		}
		if m := looks.FindString(out); m != "" {
			out = out[len(m):]
			continue
		}
		if m := deleted.FindString(out); m != "" {
			e.rows = append(e.rows[:e.at:e.at], row{})
			out = out[len(m):]
			continue
		}
		if m := up.FindStringSubmatch(out); m != nil {
			n, _ := strconv.Atoi(m[1])
			if n > e.at {
				e.t.Fatalf("%d rows up, of %d", n, e.at)
			}
			e.at -= n
			out = out[len(m[0]):]
			continue
		}
		r := []rune(out)[0]
		out = out[len(string(r)):]
		switch r {
		case '\r':
		case '\n':
			if e.at++; e.at == len(e.rows) {
				e.rows = append(e.rows, row{})
			}
		case '\x1b':
			e.t.Fatalf("an unknown sequence: %q", out[:min(len(out), 20)])
		default:
			e.letter(r)
		}
	}
}

func (e *Emulator) letter(r rune) {
	if runewidth.StringWidth(e.rows[e.at].text)+runewidth.RuneWidth(r) > e.width {
		e.at++
		e.rows = append(e.rows[:e.at:e.at], row{continues: true})
	}
	e.rows[e.at].text += string(r)
}

// Resize wraps anew what there is, as most terminals do.
func (e *Emulator) Resize(width int) {
	old := e.rows
	e.width, e.rows, e.at = width, []row{{}}, 0
	for i, r := range old {
		if i > 0 && !r.continues {
			e.Write("\n")
		}
		e.Write(r.text)
	}
}

// Lines are what is there, and which of them are wrapped.
func (e *Emulator) Lines() (lines []string, wrapped map[int]bool) {
	wrapped = map[int]bool{}
	for _, r := range e.rows {
		if r.continues {
			lines[len(lines)-1] += r.text
			wrapped[len(lines)-1] = true
			continue
		}
		lines = append(lines, r.text)
	}
	return lines, wrapped
}

// Shows wants the terminal to show so much, with nothing wrapped and the cursor at the
// end.
func (e *Emulator) Shows(want string) {
	e.t.Helper()
	lines, wrapped := e.Lines()
	if got := strings.Join(lines, "\n"); got != want || len(wrapped) > 0 || !e.AtEnd() {
		e.t.Errorf("the terminal shows (lines that are wrapped: %v, cursor at the end: %v)\n%s\nnot\n%s", wrapped, e.AtEnd(), got, want)
	}
}

// AtEnd tells whether the cursor is in the last row, below all others.
func (e *Emulator) AtEnd() bool { return e.at == len(e.rows)-1 && e.rows[e.at].text == "" }
