// Package dedup is the stage "dedup": of pictures that are the same, or nearly,
// it keeps one and rejects the others.
//
// Process makes sure that the items have the attributes that they are compared
// by, and holds them. Flush goes through them, in the order of their IDs, once to
// count, once to take what decides about them into a table, and, when all is
// decided, once more to say it and let them go. Where pictures are measured, or
// something is told in files, there are passes between.
package dedup

import (
	"context"
	"fmt"
	"image"
	"slices"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/phash"
)

// Info declares the stage.
func Info() pipeline.Info {
	return pipeline.Info{
		Name:     "dedup",
		Short:    "Keeps one of each group of duplicates and rejects the others.",
		Long:     long(),
		Examples: examples,
		Fields:   fields(),
		Makes:    makes,
		Needs:    needs,
		Uses: func(c pipeline.Config) []string {
			var names []string
			for _, m := range makes(c) {
				names = append(names, m.Name)
			}
			return names
		},
		Pure:    true,
		Version: 10*phash.Version + 1, // that of the hashes, and our own
		Expand:  expand,
		New: func(_ context.Context, c pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
			s, err := newStage(c, e)
			if err != nil {
				return nil, err
			}
			return s.forEngine(), nil
		},
	}
}

// fields are those of the stage. All that matter to Flush alone say so: what was
// computed of the items stays valid.
func fields() []pipeline.Field {
	var choices []pipeline.Choice
	for _, m := range allMethods() {
		choices = append(choices, m.choice())
	}
	return slices.Concat([]pipeline.Field{
		{
			Name: "by", Type: pipeline.FieldChoices, Required: true, Choices: choices,
			Doc:      "What makes two items duplicates: a method or a list of methods.",
			Examples: []string{"pdq", "[sha256, pixels]", "[sha256, {pdq: {max_distance: 20}}]", "[{clip: {min_similarity: 0.9}}, {lpips: {max_distance: 0.2, confirm: true}}]"},
		},
		{
			Name: "max_distance", Type: pipeline.FieldInt, Flush: true, Unit: "bits", Max: 256,
			Doc: "The same as the option max_distance of the method, where by names one method of hashes that has it.",
		},
		{
			Name: "prefer", Type: pipeline.FieldStrings, Flush: true, Default: "[pixels, source.bytes]",
			Doc:      "Which item of a group stays: attributes, of which the higher value is preferred, or with a minus the lower one. The last rule is always the ID.",
			Examples: []string{"[laplacian, pixels]", "[pixels, -source.bytes]"},
		},
		{
			Name: "reference", Type: pipeline.FieldStrings, Flush: true,
			Doc:      "Items that always stay, and are preferred to all others: patterns of their source files, relative to the input folder, as in images; a name without wildcards is that of a file or a folder. One that names no item ends a run with an action before anything happens, and otherwise the summary says so.",
			Examples: []string{"master/**", "[master/**, \"*-final.png\"]"},
		},
		orientationField(),
		{
			Name: "sidecars", Type: pipeline.FieldEnum, Flush: true, Enum: []string{sidecarsKeep, sidecarsMerge}, Default: sidecarsKeep,
			Doc: "keep: every item's sidecars stay with it. merge: an item that is kept takes over the sidecars of its duplicates, the most preferred duplicate's first, if it has none with that extension. Those it does have are left alone, and counted. merge is not for action: move or delete.",
		},
		{
			Name: "library", Type: pipeline.FieldPath, Cosmetic: true,
			Doc: "Another ONNX Runtime than the one that forgepipe brings, as in embed: the path of libonnxruntime.so. A run has one, so that all stages of networks must name the same.",
		},
	}, tellFields(), indexFields(), actionFields())
}

const (
	sidecarsKeep  = "keep"
	sidecarsMerge = "merge"
)

// Stage rejects duplicates.
type Stage struct {
	env          pipeline.Env
	by           []step
	clauses      []clause
	orientations orientations
	rules        []rule
	references   []naming
	merge        bool // sidecars
	tells        tells
	indexes      indexes
	act          action
	library      string // of the ONNX Runtime
	runsOn       runsOn // the device for vectors and pictures
	open         bool   // false in a dry run
	said         string // what there is to say of the last run
	undone       error  // nothing of the action could be done
}

// writer is a Stage that writes files.
type writer struct{ *Stage }

var (
	_ pipeline.Barrier    = (*Stage)(nil)
	_ pipeline.HeldCoster = (*Stage)(nil)
	_ pipeline.Opener     = (*Stage)(nil)
	_ pipeline.Closer     = (*Stage)(nil)
	_ pipeline.Coster     = (*Stage)(nil)
	_ pipeline.Noter      = (*Stage)(nil)
	_ pipeline.Identifier = (*Stage)(nil)
	_ pipeline.Writer     = writer{}
)

func newStage(c pipeline.Config, e pipeline.Env) (*Stage, error) {
	s := &Stage{
		env: e, orientations: orientations(c.String("orientations")), merge: c.String("sidecars") == sidecarsMerge,
		library: c.String("library"),
	}
	var err error
	if s.by, err = steps(c); err != nil {
		return nil, err
	}
	s.clauses = clauses(s.by)
	for _, clause := range s.clauses {
		if text := s.by[clause[0]].tooWide(); text != "" && len(clause) == 1 {
			e.Log.Warn(text + "; forgepipe sweep shows what other thresholds find")
		}
	}
	if err := checkVectors(c, e, s.by); err != nil {
		return nil, err
	}
	if s.isLong() {
		if _, err := model.OpenRuntime(s.library); err != nil {
			return nil, c.Errorf("library", 0, "%w: %w", pipeline.ErrLacking, err)
		}
	}
	if s.rules, err = rulesOf(c, e); err != nil {
		return nil, err
	}
	if s.references, err = references(c); err != nil {
		return nil, err
	}
	if s.tells, err = newTells(c, e.FS); err != nil {
		return nil, err
	}
	if s.indexes, err = newIndexes(c, e, s.by); err != nil {
		return nil, err
	}
	if s.act, err = newAction(c, e); err != nil {
		return nil, err
	}
	return s, nil
}

// Identity is what cached results depend on beside the fields that say so. Without
// turned pictures they are those of earlier versions.
func (s *Stage) Identity() string {
	if s.orientations == upright {
		return ""
	}
	return string(s.orientations)
}

func (s *Stage) writes() []pipeline.OutputTree {
	return slices.Concat(s.tells.writes(), s.indexes.writes(), s.act.writes())
}

// Writes are the files that say what was found, and the folders of an index and of
// what is done with duplicates.
func (w writer) Writes() []pipeline.OutputTree { return w.writes() }

// Cost is that of the hash that needs most: they are computed one by one. What
// Flush needs depends on how many items there are, and is leased then; of a GPU that is
// known.
func (s *Stage) Cost(d pipeline.Device, batch []*pipeline.Item) pipeline.Cost {
	if d != pipeline.Host {
		return s.onCard(d)
	}
	var c pipeline.Cost
	work := func(m method, size image.Point, pixel int64, alpha bool) int64 {
		n := m.work(size, pixel, alpha)
		if m.turnedWork != nil && s.orientations != upright {
			n += m.turnedWork(size, s.orientations == allOrientations)
		}
		return n
	}
	for _, st := range s.by {
		if st.work == nil {
			continue
		}
		if len(batch) == 0 {
			c.Work = max(c.Work, work(st.method, image.Pt(4000, 3000), 4, false))
		}
		for _, it := range batch {
			c.Work = max(c.Work, work(st.method, it.Size(), it.PixelBytes(), it.Source().Format != "jpeg"))
		}
	}
	return c
}

// Open forgets what an earlier run found.
func (s *Stage) Open(context.Context, pipeline.Device) error {
	s.said, s.undone, s.open = "", nil, true
	return nil
}

// Close ends the run, with an error if nothing of what was to be done with source files
// could be.
func (s *Stage) Close() error {
	s.open = false
	return s.undone
}

// Process sets the attributes that items are compared by, where they lack, and
// holds the items. One that cannot be decoded for that fails, as does one without a
// vector that can be compared.
func (s *Stage) Process(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	for _, it := range batch {
		if err := s.prepare(ctx, it); err != nil {
			it.Fail(err)
			continue
		}
		it.Hold()
	}
	return nil, nil
}

func (s *Stage) prepare(ctx context.Context, it *pipeline.Item) error {
	for i := range s.by {
		st := &s.by[i]
		var err error
		if st.prepare != nil {
			err = st.prepare(ctx, it, s.orientations)
		} else if st.vector != "" {
			err = st.checkVector(it)
		}
		if err != nil {
			return fmt.Errorf("comparing by %s: %w", st.name, err)
		}
	}
	return nil
}

// Note says how many duplicates there were.
func (s *Stage) Note() string { return s.said }
