package terminal

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// count writes a number with separators: 1,234,567.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Counted writes a number of things: "1 file", "3 files".
func Counted(n int64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return count(n) + " " + thing
}

// duration writes seconds for people: "0.4 s", "3 min 20 s", "2 h 5 min".
func duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < 99950*time.Millisecond:
		return strconv.FormatFloat(seconds, 'f', 1, 64) + " s"
	case d < 100*time.Minute:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}

// roughly writes seconds with no more digits than an estimate is worth.
func roughly(seconds float64) string {
	if seconds >= 10 {
		seconds = 10 * math.Ceil(seconds/10)
	}
	if seconds < 100 {
		return fmt.Sprintf("%.0f s", math.Ceil(seconds))
	}
	return duration(seconds)
}

// perSecond writes a rate with two or three digits.
func perSecond(rate float64) string {
	digits := 0
	if rate < 10 && rate > 0 {
		digits = 1
	}
	return strconv.FormatFloat(rate, 'f', digits, 64) + "/s"
}

// table lays out rows of cells: each column as wide as its widest cell, numbers
// to the right.
func table(rows [][]string, right ...bool) []string {
	var widths []int
	for _, r := range rows {
		for i, cell := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], columns(cell))
		}
	}
	lines := make([]string, len(rows))
	for k, r := range rows {
		var b strings.Builder
		for i, cell := range r {
			pad := strings.Repeat(" ", widths[i]-columns(cell))
			if i > 0 {
				b.WriteString("  ")
			}
			if i < len(right) && right[i] {
				b.WriteString(pad + cell)
			} else {
				b.WriteString(cell + pad)
			}
		}
		lines[k] = strings.TrimRight(b.String(), " ")
	}
	return lines
}
