package images

import (
	"errors"
	"path"
	"strings"
)

// checkPattern refuses a component that path.Match cannot read.
func checkPattern(component string) error {
	if component == "**" {
		return nil
	}
	if strings.Contains(component, "**") {
		return errors.New("** stands for whole folders and must be alone between two slashes")
	}
	_, err := path.Match(component, "")
	return err
}

// A pattern is matched while walking down: the states of a folder are the
// positions in the pattern that its entries may stand at.

// matches tells whether a file with this name, in a folder with these states,
// is one that the pattern asks for.
func matches(pattern []string, states []int, name string) bool {
	for _, s := range states {
		last := len(pattern) - 1
		if s == last && component(pattern[s], name) {
			return true
		}
		// "**" may stand for no folder at all.
		for s < last && pattern[s] == "**" {
			s++
			if s == last && component(pattern[s], name) {
				return true
			}
		}
	}
	return false
}

// below gives the states of the folder name; none means that nothing in it can
// match.
func below(pattern []string, states []int, name string) []int {
	in := make([]bool, len(pattern))
	for _, s := range states {
		for ; s < len(pattern) && pattern[s] == "**"; s++ {
			in[s] = true
		}
		if s < len(pattern)-1 && component(pattern[s], name) {
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

func component(pattern, name string) bool {
	if pattern == "**" {
		return true
	}
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}
