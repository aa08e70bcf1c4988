package dedup

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/patterns"
)

// A naming is an entry of reference: which items stay.
type naming struct {
	text string // as configured
	of   []patterns.Pattern
}

// references reads the field reference: patterns of sources' names, as in images.
func references(c pipeline.Config) (all []naming, err error) {
	for i, text := range c.Strings("reference") {
		of, err := namesOf(text)
		if err != nil {
			return nil, c.ElementErrorf("reference", i, "%q: %w", text, err)
		}
		all = append(all, naming{text, of})
	}
	return all, nil
}

// namesOf are the patterns of what a text names. Sources' names are clean, and one that
// is written otherwise would never be found.
func namesOf(text string) ([]patterns.Pattern, error) {
	clean := path.Clean(text)
	components := strings.Split(clean, "/")
	switch {
	case path.IsAbs(text):
		return nil, errors.New("a pattern is relative to the input folder: leave out the slash at its beginning and the path of that folder")
	case slices.Contains(strings.Split(text, "/"), ".."):
		return nil, errors.New("a pattern is relative to the input folder, and .. leads out of it or is not needed: leave it out")
	case clean == ".":
		return nil, errors.New("the pattern names no file: write ** for all of them")
	}
	file, err := patterns.New(components...)
	if err != nil {
		return nil, err
	}
	folder := append(slices.Clone(file), "**")
	switch {
	case strings.HasSuffix(text, "/"):
		return []patterns.Pattern{folder}, nil
	case !strings.ContainsAny(text, patterns.Wildcards):
		return []patterns.Pattern{file, folder}, nil
	}
	return []patterns.Pattern{file}, nil
}

func (n naming) names(components []string) bool {
	return slices.ContainsFunc(n.of, func(p patterns.Pattern) bool { return p.MatchesPath(components) })
}

// isReference tells whether a source's name is one that reference asks for.
func (s *Stage) isReference(name string) bool {
	if len(s.references) == 0 {
		return false
	}
	components := strings.Split(name, "/")
	return slices.ContainsFunc(s.references, func(n naming) bool { return n.names(components) })
}

// referred is how many items reference names.
type referred struct {
	each    []int64 // entry of it
	any     int64
	example string // of a source's name
}

// refer counts a source.
func (s *Stage) refer(r *referred, name string) {
	if len(s.references) == 0 {
		return
	}
	if r.each == nil {
		r.each, r.example = make([]int64, len(s.references)), name
	}
	components, found := strings.Split(name, "/"), false
	for i, n := range s.references {
		if n.names(components) {
			r.each[i]++
			found = true
		}
	}
	if found {
		r.any++
	}
}

// idle are the entries of reference that name nothing, as where a folder is misspelt.
func (s *Stage) idle(r referred) (texts []string) {
	for i, n := range s.references {
		if r.each == nil || r.each[i] == 0 {
			texts = append(texts, fmt.Sprintf("%q", n.text))
		}
	}
	return texts
}

// checkReferences ends a run that does something with files where what should stay is not
// found: it could be among them.
func (s *Stage) checkReferences(all totals) error {
	idle := s.idle(all.referred)
	if len(idle) == 0 || !s.acts() {
		return nil
	}
	example := ""
	if r := all.referred; r.example != "" {
		example = fmt.Sprintf(", as the name %q is", r.example)
	}
	return fmt.Errorf("no item is named by %s of reference, and action is %s: correct the pattern or leave it out (patterns are relative to the input folder%s)", strings.Join(idle, ", nor any by "), s.act.Action, example)
}

// referredRemarks are what there is to say of reference.
func (s *Stage) referredRemarks(r referred) (text string) {
	switch r.any {
	case 0:
	case 1:
		text = "; 1 is named by reference"
	default:
		text = fmt.Sprintf("; %d are named by reference", r.any)
	}
	if idle := s.idle(r); len(idle) > 0 {
		text += fmt.Sprintf("; no item is named by %s of reference", strings.Join(idle, ", nor any by "))
	}
	return text
}
