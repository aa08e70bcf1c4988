// Package suggest says what somebody has most likely meant who has mistyped a name.
package suggest

import (
	"fmt"
	"strings"
)

// longest is how many bytes names have that are compared.
const longest = 64

// DidYouMean is the end of an error message about a name that there is not:
// `; did you mean "tile"?`, with the candidate most like it. It is empty when none is
// close: of a name of up to three letters one may be wrong, of others two or a third.
func DidYouMean(name string, candidates []string) string {
	most := max(2, len(name)/3)
	switch {
	case len(name) <= 3:
		most = 1
	case len(name) > longest:
		return ""
	}
	best, least := "", most+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(name), strings.ToLower(c)); d < least {
			best, least = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance counts insertions, deletions, replacements and swaps of
// neighbours (optimal string alignment) between a and b.
func distance(a, b string) int {
	if len(a) > longest || len(b) > longest { // lower case may be longer
		return longest
	}
	var d [longest + 1][longest + 1]int
	for i := range len(a) + 1 {
		d[i][0] = i
	}
	for j := range len(b) + 1 {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			c := 1
			if a[i-1] == b[j-1] {
				c = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+c)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
