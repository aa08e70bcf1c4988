package terminal

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/forgepipe/forgepipe/stages/dedup/groups"
)

// sweepBar is how many signs the bar of the most duplicates has.
const sweepBar = 30

// Sweep writes what thresholds of a step would reject, a line each, with a bar for the
// duplicates.
func Sweep(h groups.Header, s groups.Step, points []groups.Point) string {
	number := func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
	most := int64(1)
	for _, p := range points {
		most = max(most, p.Duplicates)
	}
	rows := [][]string{{s.Field(), "duplicates", "of all", "groups", "largest"}}
	for _, p := range points {
		share := 100 * float64(p.Duplicates) / float64(max(h.Items, 1))
		bar := strings.Repeat("#", int((sweepBar*p.Duplicates+most-1)/most))
		rows = append(rows, []string{number(p.Threshold), count(p.Duplicates), fmt.Sprintf("%.1f%%", share), count(p.Groups), count(p.Largest), bar})
	}
	of := Counted(h.Items, "item")
	if h.Entries > 0 {
		of += fmt.Sprintf(" and %s of indexes", count(h.Entries))
	}
	title := fmt.Sprintf("%s of %s; the run had %s %s", s.Step, of, s.Field(), number(s.Threshold))
	return oneLine(title) + "\n  " + strings.Join(table(rows, true, true, true, true, true), "\n  ") + "\n"
}
