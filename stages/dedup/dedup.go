// Package dedup is the stage "dedup": of pictures that are the same, or nearly,
// it keeps one and rejects the others.
//
// Process makes sure that the items have the attributes that they are compared
// by, and holds them. Flush goes through them, in the order of their IDs, once to
// count, once to take what decides about them into a table, and, when all is
// decided, once more to say it and let them go.
package dedup

import (
	"context"
	"fmt"
	"image"
	"strings"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/phash"
)

// Info declares the stage.
func Info() pipeline.Info {
	var choices []pipeline.Choice
	long := `Finds pictures that are the same, or nearly, keeps the preferred one of each group and rejects the others as "duplicate". It waits for all items, so that the result depends neither on their order nor on the number of workers. Nothing happens to the source files.

The methods of by say what is the same:

`
	for _, m := range methods {
		choices = append(choices, m.choice())
		long += "- " + m.name + ": " + m.doc + "\n"
	}
	long += `
With several methods, items are duplicates when one of them says so; the first in the list that does is recorded.

prefer decides which item stays. Items are looked at from the most preferred to the least: one that matches an item that is kept already is rejected, any other is kept. So every rejected item matches the kept item that it is recorded with, and no kept item matches another one; two rejected items of one group need not match each other. Of several kept items that an item matches, the nearest is recorded, and of equally near ones the most preferred.

A rule of prefer is the name of an attribute that is a number or true or false, set by a stage before this one or one that every item has (pixels, width, height, source.bytes). The item with the higher value is preferred, with a minus before the name the one with the lower value; true is higher than false. Where a rule does not decide, the next one does, and in the end the ID that comes first in byte order. An item without the attribute, or with one that is not a number, comes after all others, with or without minus.

When a later stage fails on the item that is kept, as write does with format: jpeg and a transparent image, its duplicates are gone as well: put what can fail before dedup.

A rejection records keeper (the ID of the item that is kept), by (the method), distance (in bits, 0 for sha256 and pixels), and rule (the rule of prefer that decided between the two, or id) with value and keeper_value, what the two have for it.

Hashes that an item has from a stage before (pdq with pdq_quality, phash, dhash) are used, and the item is not decoded for them; others are computed and set as attributes, and pixels sets pixels_sha256. Of a pair, the high-quality image is compared. Tiles of one image are compared with each other, too.`
	return pipeline.Info{
		Name:  "dedup",
		Short: "Keeps one of each group of duplicates and rejects the others.",
		Long:  long,
		Examples: []pipeline.Example{
			{Doc: "Of pictures that look the same, keep the one with the most detail.", YAML: "dedup: {by: pdq, max_distance: 31, prefer: [laplacian, pixels]}"},
			{Doc: "Look for the same file, the same pixels and the same look, in this order, and give the kept image the captions of its duplicates.", YAML: "dedup:\n  by: [sha256, pixels, {pdq: {max_distance: 20}}]\n  prefer: [pixels, source.bytes]\n  sidecars: merge"},
		},
		Fields: []pipeline.Field{
			{
				Name: "by", Type: pipeline.FieldChoices, Required: true, Choices: choices,
				Doc:      "What makes two items duplicates: a method or a list of methods.",
				Examples: []string{"pdq", "[sha256, pixels]", "[sha256, {pdq: {max_distance: 20}}]"},
			},
			{
				Name: "max_distance", Type: pipeline.FieldInt, Flush: true, Unit: "bits", Max: 256,
				Doc: "The same as the option max_distance of the method, where by names one method that has it.",
			},
			{
				Name: "prefer", Type: pipeline.FieldStrings, Flush: true, Default: "[pixels, source.bytes]",
				Doc:      "Which item of a group stays: attributes, of which the higher value is preferred, or with a minus the lower one. The last rule is always the ID.",
				Examples: []string{"[laplacian, pixels]", "[pixels, -source.bytes]"},
			},
			{
				Name: "sidecars", Type: pipeline.FieldEnum, Flush: true, Enum: []string{sidecarsKeep, sidecarsMerge}, Default: sidecarsKeep,
				Doc: "keep: every item's sidecars stay with it. merge: an item that is kept takes over the sidecars of its duplicates, the most preferred duplicate's first, if it has none with that extension. Those it does have are left alone, and counted.",
			},
		},
		Makes: makes,
		Uses: func(c pipeline.Config) []string {
			var names []string
			for _, m := range makes(c) {
				names = append(names, m.Name)
			}
			return names
		},
		Pure:    true,
		Version: 10*phash.Version + 1, // that of the hashes, and our own
		New: func(_ context.Context, c pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
			return newStage(c, e)
		},
	}
}

const (
	sidecarsKeep  = "keep"
	sidecarsMerge = "merge"
)

// Stage rejects duplicates.
type Stage struct {
	env   pipeline.Env
	by    []comparison
	rules []rule
	merge bool   // sidecars
	said  string // what there is to say of the last run
}

var (
	_ pipeline.Barrier = (*Stage)(nil)
	_ pipeline.Opener  = (*Stage)(nil)
	_ pipeline.Coster  = (*Stage)(nil)
	_ pipeline.Noter   = (*Stage)(nil)
)

func newStage(c pipeline.Config, e pipeline.Env) (*Stage, error) {
	by, err := comparisons(c)
	if err != nil {
		return nil, err
	}
	rules, err := rulesOf(c, e)
	if err != nil {
		return nil, err
	}
	return &Stage{env: e, by: by, rules: rules, merge: c.String("sidecars") == sidecarsMerge}, nil
}

// Cost is that of the hash that needs most: they are computed one by one. What
// Flush needs depends on how many items there are, and is leased then.
func (s *Stage) Cost(_ pipeline.Device, batch []*pipeline.Item) pipeline.Cost {
	var c pipeline.Cost
	for _, m := range s.by {
		if m.work == nil {
			continue
		}
		if len(batch) == 0 {
			c.Work = max(c.Work, m.work(image.Pt(4000, 3000), 4, false))
		}
		for _, it := range batch {
			c.Work = max(c.Work, m.work(it.Size(), it.PixelBytes(), it.Source().Format != "jpeg"))
		}
	}
	return c
}

// Open forgets what an earlier run found.
func (s *Stage) Open(context.Context, pipeline.Device) error {
	s.said = ""
	return nil
}

// Process sets the attributes that items are compared by, where they lack, and
// holds the items. One that cannot be decoded for that fails.
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
	for _, m := range s.by {
		if m.prepare == nil {
			continue
		}
		if err := m.prepare(ctx, it); err != nil {
			return fmt.Errorf("comparing by %s: %w", m.name, err)
		}
	}
	return nil
}

// Flush decides about all items and lets them go.
func (s *Stage) Flush(ctx context.Context, held pipeline.HeldItems, emit func(*pipeline.Item) error) error {
	all, err := s.count(held)
	if err != nil {
		return err
	}
	deciding, after := s.room(all)
	lease, err := s.env.Lease(ctx, deciding)
	if err != nil {
		return fmt.Errorf("comparing %d items (raise memory.host.limit, or split the set): %w", all.items, err)
	}
	defer lease.Release()
	t, err := s.table(held, all)
	if err != nil {
		return err
	}
	v, err := t.decide(ctx)
	if err != nil {
		return err
	}
	s.said = summary(t, v)
	t.columns = nil
	lease.Resize(after)

	i := 0
	for it, err := range held {
		if err != nil {
			return err
		}
		s.tell(it, i, t, v)
		if err := emit(it); err != nil {
			return err
		}
		i++
	}
	return nil
}

// tell says on an item what was decided about it.
func (s *Stage) tell(it *pipeline.Item, i int, t *table, v *verdicts) {
	k := int(v.keeper[i])
	if k == i {
		for _, f := range v.takenOver[uint32(i)] {
			it.AddSidecar(f)
		}
		return
	}
	values := []pipeline.Attribute{
		{Name: "keeper", Value: pipeline.String(t.id(k))},
		{Name: "by", Value: pipeline.String(s.by[v.by[i]].name)},
		{Name: "distance", Value: pipeline.Int(int64(v.distance[i]))},
	}
	it.Reject("duplicate", append(values, s.decided(t.itemKeys(i), t.itemKeys(k))...)...)
}

// Note says how many duplicates there were.
func (s *Stage) Note() string { return s.said }

// summary is what there is to say about all items in a sentence.
func summary(t *table, v *verdicts) string {
	duplicates, groups, by := 0, 0, make([]int, len(t.columns))
	grouped := make([]bool, t.len())
	for i, k := range v.keeper {
		if int(k) != i {
			duplicates++
			by[v.by[i]]++
			if !grouped[k] {
				grouped[k] = true
				groups++
			}
		}
	}
	text := fmt.Sprintf("%d of %d are duplicates", duplicates, t.len())
	if duplicates == 1 {
		text = fmt.Sprintf("1 of %d is a duplicate", t.len())
	}
	if duplicates > 0 {
		var parts []string
		for m, n := range by {
			if n > 0 {
				parts = append(parts, fmt.Sprintf("by %s %d", t.columns[m].name, n))
			}
		}
		in := fmt.Sprintf("%d groups", groups)
		if groups == 1 {
			in = "1 group"
		}
		text += fmt.Sprintf(" in %s (%s)", in, strings.Join(parts, ", "))
	}
	for _, c := range t.columns {
		none := 0
		for _, has := range c.has {
			if !has {
				none++
			}
		}
		if none > 0 {
			text += fmt.Sprintf("; %d had no verdict from %s (%s)", none, c.name, c.mute)
		}
	}
	if v.clashes > 0 {
		text += fmt.Sprintf("; %d of their sidecars were left, as the kept image has one with that extension", v.clashes)
	}
	return text
}
