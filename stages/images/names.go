package images

import (
	"errors"
	"io/fs"
	"path"
	"strings"
)

// stemExt splits a file's name into stem and extension, as the names of outputs
// do: a leading dot belongs to the stem.
func stemExt(name string) (stem, ext string) {
	ext = path.Ext(name)
	if ext == name {
		return name, ""
	}
	return name[:len(name)-len(ext)], ext
}

// keepExtensions tells which images of one folder must keep their extension in
// the names of what is made of them, because two would otherwise get the same
// name: those that share a stem, and then those whose stem is the full name of
// one that keeps it (a.jpg and a.png become a.jpg.png and a.png.png, and so
// would a.jpg.gif, which has to become a.jpg.gif.png).
func keepExtensions(names []string) []bool {
	keep := make([]bool, len(names))
	next := make([]int32, len(names)) // the other images with this one's stem
	first := make(map[string]int32, len(names))
	var todo []int32
	mark := func(i int32) {
		if !keep[i] {
			keep[i] = true
			todo = append(todo, i)
		}
	}
	for i, name := range names {
		stem, _ := stemExt(name)
		j, shared := first[stem]
		if !shared {
			j = -1
		}
		next[i] = j
		first[stem] = int32(i)
		if shared {
			mark(int32(i))
			mark(j)
		}
	}
	for len(todo) > 0 {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		j, ok := first[names[i]]
		for ; ok && j >= 0; j = next[j] {
			mark(j)
		}
	}
	return keep
}

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

// plain takes the path out of a file error: reports name the item already.
func plain(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
