package dedup

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/model/lpips"
	"github.com/forgepipe/forgepipe/model/store"
	"github.com/forgepipe/forgepipe/pipeline"
)

// How a step measures two items.
type measure int

const (
	equality  measure = iota // of fingerprints: 0
	differing                // bits that differ
	cosine                   // of vectors: a similarity
	perceived                // LPIPS of pictures
)

// A step is an entry of by: a way to measure two items, and what is near enough.
type step struct {
	method
	name     string // as it is told: that of the method, or of the vector
	at       int    // in by
	confirms bool
	distance int     // of bits, at most
	within   float64 // cosine: at least; perceived: at most
	vector   string  // that it reads; empty: none
	model    string  // perceived: the network, and the side of the pictures that it sees
	side     int
}

// A clause is a way in which two items are duplicates: what its first step proposes
// and all others confirm. It holds the numbers of steps.
type clause []int

// fromVectors are the steps that compare by what networks make, beside the methods.
var fromVectors = []method{
	{
		name: "clip", measure: cosine, model: "clip-vit-b32", near: "0.98", unrelated: 0.6,
		doc: "the vectors of a CLIP network have a cosine similarity of at least min_similarity: the pictures show the same. 0.98 is the threshold for duplicates that is usual; lower ones find the same scene, and then the same subject: where, forgepipe sweep shows for your set. clip alone makes the vectors: the entry stands for embed, which is called NAME.clip, and dedup.",
	},
	{
		name: "sscd", measure: cosine, model: "sscd-disc-mixup", near: "0.75", unrelated: 0.3,
		doc: "the same with SSCD (Pizzi et al. 2022), a network for copies: cropped, changed in colour, with text on them. At 0.75, 90% of what it found in its authors' test were copies.",
	},
	{
		name: "vector", measure: cosine, unrelated: 0.1,
		doc: "vectors that a stage before made, as embed and infer do, have a cosine similarity of at least min_similarity. What is right depends on the network.",
	},
	{
		name: "lpips", measure: perceived, model: "lpips-vgg", near: "0.2", unrelated: 0.7,
		doc: "the pictures, squashed to size x size, have an LPIPS of at most max_distance: they look the same to a viewer. As a step that proposes, it makes a vector of which the distance is never more than LPIPS, with infer, which is called NAME.lpips, and measures what that leaves; where the network has no such output it measures all pairs. With confirm: true it only measures the pairs that it is asked about, and makes no vector. The pictures are decoded once more for it.",
	},
}

// confirmField is that of all steps.
var confirmField = pipeline.Field{
	Name: "confirm", Type: pipeline.FieldBool, Flush: true, Default: "false",
	Doc: "The step does not decide by itself: it is asked about the pairs that the step before it proposes, and both must say yes.",
}

// choice declares the method as a value of the field by.
func (m method) choice() pipeline.Choice {
	c := pipeline.Choice{Name: m.name, Doc: m.doc}
	if m.measure == differing {
		c.Fields = []pipeline.Field{{
			Name: "max_distance", Type: pipeline.FieldInt, Unit: "bits", Max: float64(m.most), Flush: true, Default: m.near,
			Doc: fmt.Sprintf("In how many of the %d bits two hashes may differ.", 8*m.size),
		}}
	}
	if m.model != "" {
		vector := "The vector of that name, which a stage before made, in the place of one that is made for this step."
		if m.measure == perceived {
			vector = "The vector of that name, which infer before made of the output pooled of the same network at the same size, in the place of one that is made for this step."
		}
		c.Fields = append(c.Fields,
			pipeline.Field{Name: "model", Type: pipeline.FieldPath, Default: m.model, Flush: true, Doc: "The network: a file, or a name in the store."},
			pipeline.Field{Name: "vector", Type: pipeline.FieldString, Doc: vector},
		)
	}
	switch m.measure {
	case cosine:
		if m.model == "" {
			c.Fields = append(c.Fields, pipeline.Field{Name: "name", Type: pipeline.FieldString, Required: true, Doc: "What the vector is called."})
		}
		c.Fields = append(c.Fields, pipeline.Field{
			Name: "min_similarity", Type: pipeline.FieldFloat, Max: 1, Flush: true, Default: m.near, Required: m.near == "",
			Doc: "The least cosine similarity, 1 for vectors of one direction.",
		})
	case perceived:
		c.Fields = append(c.Fields,
			pipeline.Field{Name: "size", Type: pipeline.FieldInt, Unit: "px", Min: 32, Max: 1024, Flush: true, Default: "224", Doc: "The side of the squares that pictures are squashed to. LPIPS is another number at another size."},
			pipeline.Field{Name: "max_distance", Type: pipeline.FieldFloat, Max: 10, Flush: true, Default: m.near, Doc: "The greatest LPIPS."},
		)
	}
	c.Fields = append(c.Fields, confirmField)
	return c
}

// mostSteps bounds by: the number of a clause is kept in 8 bits.
const mostSteps = 64

// steps reads the fields by, max_distance and orientations.
func steps(c pipeline.Config) ([]step, error) {
	var all []step
	measuring, given := -1, false // the last method with bits, and whether it has its own number
	for i, chosen := range c.Choices("by") {
		s := stepOf(chosen)
		s.at = i
		switch {
		case i == mostSteps:
			return nil, c.ElementErrorf("by", i, "there are more than %d entries: leave some out, or give them to a second dedup", mostSteps)
		case slices.ContainsFunc(all, func(o step) bool { return o.name == s.name }):
			return nil, c.ElementErrorf("by", i, "%s is named twice", s.name)
		case s.measure == cosine && chosen.Name != "vector" && s.vector != "" && chosen.Options.IsSet("model"):
			return nil, c.ElementErrorf("by", i, "%s has a vector and a model, of which one is needed: leave out model to compare the vector %s", s.name, s.vector)
		case s.confirms && i == 0:
			return nil, c.ElementErrorf("by", i, "the first step has none before it whose pairs it could confirm: leave confirm out, or put the step that proposes before it")
		}
		if s.measure == differing {
			if measuring >= 0 && c.IsSet("max_distance") {
				return nil, c.Errorf("max_distance", 0, "by names several methods that have a distance: give each its own, as in {%s: {max_distance: %s}}", s.name, s.near)
			}
			measuring, given = i, chosen.Options.IsSet("max_distance")
		}
		all = append(all, s)
	}
	if len(all) == 0 {
		return nil, c.Errorf("by", 0, "name at least one method")
	}
	if err := checkOrientations(c, all); err != nil {
		return nil, err
	}
	if !c.IsSet("max_distance") {
		return all, nil
	}
	d := c.Int("max_distance")
	switch {
	case measuring < 0:
		return nil, c.Errorf("max_distance", 0, "no method in by has a distance: leave it out")
	case given:
		return nil, c.Errorf("max_distance", 0, "%s has a max_distance of its own in by: leave one of them out", all[measuring].name)
	case d < 0 || d > int64(all[measuring].most):
		return nil, c.Errorf("max_distance", 0, "%d is not from 0 to %d bits, the range of %s", d, all[measuring].most, all[measuring].name)
	}
	all[measuring].distance = int(d)
	return all, nil
}

// stepOf reads an entry of by.
func stepOf(chosen pipeline.Chosen) step {
	m, o := named(chosen.Name), chosen.Options
	s := step{method: m, name: m.name, confirms: o.Bool("confirm")}
	switch m.measure {
	case differing:
		s.distance = int(o.Int("max_distance"))
	case cosine:
		s.within = o.Float("min_similarity")
	case perceived:
		s.within, s.side = o.Float("max_distance"), int(o.Int("size"))
	}
	switch {
	case m.model != "":
		s.model, s.vector = o.String("model"), o.String("vector")
	case m.measure == cosine:
		s.name = o.String("name")
		s.vector = s.name
	}
	return s
}

// clauses groups steps: each that does not confirm begins one. What measures pictures is
// asked last, as all must say yes.
func clauses(all []step) []clause {
	var out []clause
	for i, s := range all {
		if !s.confirms {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], i)
	}
	late := func(n int) int {
		if all[n].measure == perceived {
			return 1
		}
		return 0
	}
	for _, c := range out {
		slices.SortStableFunc(c[1:], func(a, b int) int { return late(a) - late(b) })
	}
	return out
}

// option is what the step measures, as a value is called: distance or similarity.
func (m measure) option() string {
	if m == cosine {
		return "similarity"
	}
	return "distance"
}

// near reports whether a value of the step's measure is near enough.
func (s *step) accepts(value float64) bool {
	switch s.measure {
	case equality:
		return value == 0
	case differing:
		return value <= float64(s.distance)
	case cosine:
		return value >= s.within
	}
	return value <= s.within
}

// unrelatedShare is in which share of their bits two hashes may differ before unrelated
// pictures are duplicates: those differ in about half, and of 64 independent bits once in
// 25,000 pairs in a quarter or fewer.
const unrelatedShare = 0.25

// tooWide says of a step that it calls unrelated pictures duplicates; empty: it does not.
func (s *step) tooWide() string {
	const tell = ": pictures that have nothing to do with each other may be so near, and those that are duplicates by it are rejected"
	switch bits := 8 * s.size; {
	case s.measure == differing && float64(s.distance) > unrelatedShare*float64(bits):
		return fmt.Sprintf("%s has max_distance: %d of %d bits%s (the default is %s)", s.name, s.distance, bits, tell, s.near)
	case s.measure == cosine && s.within < s.unrelated:
		return fmt.Sprintf("%s has min_similarity: %g%s", s.name, s.within, tell)
	case s.measure == perceived && s.within > s.unrelated:
		return fmt.Sprintf("%s has max_distance: %g%s (the default is %s)", s.name, s.within, tell, s.near)
	}
	return ""
}

// needs are the vectors that the steps read.
func needs(c pipeline.Config) []string {
	var names []string
	for _, chosen := range c.Choices("by") {
		if s := stepOf(chosen); s.vector != "" {
			names = append(names, s.vector)
		}
	}
	return names
}

// checkVectors refuses a vector that no stage before makes, and a network that is not
// there.
func checkVectors(c pipeline.Config, e pipeline.Env, all []step) error {
	for _, s := range all {
		if _, made := e.Vectors[s.vector]; s.vector != "" && !e.Undeclared && !made {
			there := "there are none"
			if len(e.Vectors) > 0 {
				there = "there are " + strings.Join(slices.Sorted(maps.Keys(e.Vectors)), ", ")
			}
			return c.ElementErrorf("by", s.at, "no stage before this one makes the vector %q (%s): put embed before it", s.vector, there)
		}
		if s.measure != perceived {
			continue
		}
		if _, err := lpipsFiles(s.model); err != nil {
			return c.ElementErrorf("by", s.at, "%w", err)
		}
	}
	return nil
}

// expand makes of steps that need vectors of their own the stages that make these, and a
// dedup that reads them.
func expand(c pipeline.Config) ([]pipeline.Entry, error) {
	all, err := steps(c)
	if err != nil {
		return nil, err
	}
	var out []pipeline.Entry
	given := c.Given()
	by := given["by"].([]any)
	for i, s := range all {
		e, ok := s.maker()
		if !ok {
			continue
		}
		if c.IsSet("library") {
			e.Values["library"] = c.String("library")
		}
		out = append(out, e)
		options := by[i].(map[string]any)[s.method.name].(map[string]any)
		options["vector"] = s.name
		if s.measure == cosine {
			delete(options, "model") // the vector has one
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	return append(out, pipeline.Entry{Stage: "dedup", Values: given}), nil
}

// maker is the stage that makes the step's vector; false where it needs none.
func (s *step) maker() (pipeline.Entry, bool) {
	switch {
	case s.model == "" || s.vector != "":
		return pipeline.Entry{}, false
	case s.measure == perceived:
		if s.confirms || !hasPooled(s.model) {
			return pipeline.Entry{}, false
		}
		return pipeline.Entry{ID: s.name, Stage: "infer", Values: map[string]any{
			"model": s.model, "vectors": []string{s.name + " = " + lpips.PooledOutput},
			"preset": "lpips", "resize": "squash", "width": s.side, "height": s.side,
		}}, true
	}
	values := map[string]any{"model": s.model, "name": s.name}
	// An ONNX file does not tell how pictures are prepared; the store and checkpoints do.
	if store.IsPath(s.model) && strings.EqualFold(filepath.Ext(s.model), ".onnx") {
		values["preset"] = s.name
	}
	return pipeline.Entry{ID: s.name, Stage: "embed", Values: values}, true
}

// checkVector refuses what no vector can be compared by.
func (s *step) checkVector(it *pipeline.Item) error {
	v, ok := it.Vector(s.vector)
	switch {
	case !ok:
		return fmt.Errorf("the item has no vector %s: put the stage that makes it before this one", s.vector)
	case len(v.Data) < 2:
		return fmt.Errorf("the vector %s has %d numbers, and two or more are compared", s.vector, len(v.Data))
	}
	zero := true
	for i, x := range v.Data {
		if x-x != 0 {
			return fmt.Errorf("the vector %s is not finite: number %d of %d is %v", s.vector, i+1, len(v.Data), x)
		}
		zero = zero && x == 0
	}
	if zero && s.measure == cosine {
		return fmt.Errorf("the vector %s is nothing but zeros, which have no direction", s.vector)
	}
	return nil
}

// lacking marks the error of a network that is known and not there.
func lacking(err error) error {
	if errors.Is(err, store.ErrMissing) {
		return fmt.Errorf("%w: %w", pipeline.ErrLacking, err)
	}
	return err
}
