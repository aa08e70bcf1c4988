package terminal

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/mattn/go-runewidth"
)

// The only sequences that lines have: for bold, and for plain again.
const (
	boldOn  = "\x1b[1m"
	boldOff = "\x1b[0m"
)

var plainly = strings.NewReplacer(boldOn, "", boldOff, "")

func emphasis(text string) string { return boldOn + plainly.Replace(text) + boldOff }

// columns is how many columns of a terminal a line takes: two for a wide letter, none
// for what makes it bold.
func columns(line string) int { return runewidth.StringWidth(plainly.Replace(line)) }

// clip cuts a line to so many columns.
func clip(line string, width int) string {
	if width < 1 || columns(line) <= width {
		return line
	}
	return runewidth.Truncate(plainly.Replace(line), width, "")
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

// ShellWord is a file name as it is typed behind a command in a shell, where it is no
// flag; one that is not printable cannot be.
func ShellWord(word string) (typed string, ok bool) {
	if strings.ContainsFunc(word, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		return "", false
	}
	if strings.HasPrefix(word, "-") {
		word = "./" + word
	}
	plain := func(r rune) bool {
		return r == '/' || r == '.' || r == '_' || r == '-' || r == ':' || r == ',' || r == '+' || unicode.IsLetter(r) || unicode.IsDigit(r)
	}
	if strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 && word != "" {
		return word, true
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'", true
}
