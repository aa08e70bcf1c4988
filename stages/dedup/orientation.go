package dedup

import (
	"slices"

	"github.com/forgepipe/forgepipe/pipeline"
)

// orientations say how a picture may be turned and still be the same.
type orientations string

const (
	upright         orientations = "upright"
	mirrored        orientations = "mirrored"
	allOrientations orientations = "all"
)

func orientationField() pipeline.Field {
	return pipeline.Field{
		Name: "orientations", Type: pipeline.FieldEnum, Flush: true, Default: string(upright),
		Enum: []string{string(upright), string(mirrored), string(allOrientations)},
		Doc:  "How one picture may be turned to be the other, to pixels, pdq, phash and dhash, one of which must be in by: upright, as they are; mirrored, also from left to right; all, also turned by 90, 180 and 270 degrees, mirrored or not. The hashes of the turned pictures are attributes, such as pdq_mirrored or pdq_orientations. Vectors and LPIPS are of pictures as they are, so that such a step cannot confirm what one of these proposes.",
	}
}

// turns is how many orientations there are beside the upright one.
func (o orientations) turns() int {
	switch o {
	case mirrored:
		return 1
	case allOrientations:
		return 7
	}
	return 0
}

// attribute is the one with the hashes of the picture turned, one after another, as
// package phash calls them.
func (o orientations) attribute(name string) string {
	if o == mirrored {
		return name + "_mirrored"
	}
	return name + "_orientations"
}

// checkOrientations refuses orientations that no step looks at, and steps that are asked
// about pictures that another one has turned, and do not turn them.
func checkOrientations(c pipeline.Config, all []step) error {
	o := c.String("orientations")
	if o == string(upright) {
		return nil
	}
	turns := func(s step) bool { return s.turned != nil }
	if !slices.ContainsFunc(all, turns) {
		return c.Errorf("orientations", 0, "no method in by compares pictures that are turned: leave it out, or add pixels, pdq, phash or dhash")
	}
	for _, clause := range clauses(all) {
		first := all[clause[0]]
		if !turns(first) {
			continue
		}
		for _, n := range clause[1:] {
			if s := all[n]; s.measure == cosine || s.measure == perceived {
				return c.ElementErrorf("by", s.at, "%s sees pictures upright and so cannot confirm what %s proposes with orientations: %s: leave orientations out, or confirm that with another hash", s.name, first.name, o)
			}
		}
	}
	return nil
}
