// Package wild matches names with wildcards.
//
// What may stand for several names, in cases as in the images of a query and the files
// to restore, has one dialect: * stands for any characters of a name and ? for one,
// never for a slash; every other character is itself.
package wild

import (
	"strings"
	"unicode/utf8"
)

// Chars are the characters that stand for others.
const Chars = "*?"

// Has tells whether a name may stand for several.
func Has(name string) bool { return strings.ContainsAny(name, Chars) }

// Match tells whether the pattern stands for the whole of the path.
func Match(pattern, name string) bool {
	for {
		p, restP, moreP := strings.Cut(pattern, "/")
		n, restN, moreN := strings.Cut(name, "/")
		if moreP != moreN || !matchesPart(p, n) {
			return false
		}
		if !moreP {
			return true
		}
		pattern, name = restP, restN
	}
}

// matchesPart matches what lies between two slashes. It goes back to the last *
// where the rest does not match: it takes at most len(pattern) * len(text) steps.
// Bytes are compared, as names need not be UTF-8; a ? takes a whole character.
func matchesPart(pattern, text string) bool {
	p, star, again := 0, -1, 0
	for i := 0; i < len(text); {
		_, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, again = p, i
			p++
		case p < len(pattern) && pattern[p] == '?':
			p++
			i += n
		case p < len(pattern) && pattern[p] == text[i]:
			p++
			i++
		case star >= 0:
			_, n := utf8.DecodeRuneInString(text[again:])
			again += n
			p, i = star+1, again
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
