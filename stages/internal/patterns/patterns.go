// Package patterns matches the names of files, relative to a folder, with patterns of which
// each component is one of [path.Match], or ** for any number of folders.
package patterns

import (
	"errors"
	"path"
	"strings"
)

// Wildcards are the characters of which a pattern has one where it is more than a name.
const Wildcards = "*?["

// A Pattern has the components of one.
type Pattern []string

// New takes a pattern apart. A component that path.Match cannot read is refused.
func New(components ...string) (Pattern, error) {
	for _, c := range components {
		if c == "**" {
			continue
		}
		if strings.Contains(c, "**") {
			return nil, errors.New("** stands for whole folders and must be alone between two slashes")
		}
		if _, err := path.Match(c, ""); err != nil {
			return nil, err
		}
	}
	return components, nil
}

// A pattern is matched while walking down: the states of a folder are the
// positions in the pattern that its entries may stand at.

// Start gives the states of the folder that names are relative to.
func (p Pattern) Start() []int { return []int{0} }

// Matches tells whether a file with this name, in a folder with these states,
// is one that the pattern asks for.
func (p Pattern) Matches(states []int, name string) bool {
	for _, s := range states {
		last := len(p) - 1
		if s == last && component(p[s], name) {
			return true
		}
		// "**" may stand for no folder at all.
		for s < last && p[s] == "**" {
			s++
			if s == last && component(p[s], name) {
				return true
			}
		}
	}
	return false
}

// Below gives the states of the folder name; none means that nothing in it can
// match.
func (p Pattern) Below(states []int, name string) []int {
	in := make([]bool, len(p))
	for _, s := range states {
		for ; s < len(p) && p[s] == "**"; s++ {
			in[s] = true
		}
		if s < len(p)-1 && component(p[s], name) {
			in[s+1] = true
		}
	}
	var out []int
	for s, ok := range in {
		if ok {
			out = append(out, s)
		}
	}
	return out
}

// MatchesPath tells whether the pattern asks for a file whose name, relative to the
// folder, has these components.
func (p Pattern) MatchesPath(components []string) bool {
	last := len(components) - 1
	states := p.Start()
	for _, folder := range components[:last] {
		if states = p.Below(states, folder); len(states) == 0 {
			return false
		}
	}
	return p.Matches(states, components[last])
}

func component(pattern, name string) bool {
	if pattern == "**" {
		return true
	}
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}
